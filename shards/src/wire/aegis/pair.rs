//! Two messages at once, under one key. A round of AEGIS-128L takes no more work than the processor does while it waits for
//! the round before: a second message in the upper halves of the registers is free.
//!
//! Owns:     nothing.
//! Promises: the tags are those of the two messages alone.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi128_si64, _mm_unpackhi_epi64, _mm256_aesenc_epi128,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_mask_mov_epi64,
    _mm256_maskz_loadu_epi8, _mm256_permute2x128_si256, _mm256_set_epi64x, _mm256_ternarylogic_epi64,
    _mm256_xor_si256,
};

use super::instructions::vector;
use super::{RATE_BYTES, ROUNDS_LAST, TAG_BITS};

/// Words of 64 bits that the first message has in a register, as a mask; the second has the others.
const FIRST: u8 = 0b0011;

/// The table of a function of three bits.
const XOR_OF_THREE: i32 = 0b1001_0110;

/// Whether the processor has what this takes.
pub fn is_there() -> bool {
    std::is_x86_feature_detected!("aes")
        && std::is_x86_feature_detected!("vaes")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx512bw")
}

/// The states of both messages. It is passed by value and spelled out word by word, so that it stays in registers.
type State = [__m256i; 8];

#[inline]
#[target_feature(enable = "vaes,avx512vl,avx512bw")]
fn round(state: State, first: __m256i, second: __m256i) -> State {
    let [a, b, c, d, e, f, g, h] = state;
    // The message goes with the key of a step: nothing then waits for its addition.
    [
        _mm256_aesenc_epi128(h, _mm256_xor_si256(a, first)),
        _mm256_aesenc_epi128(a, b),
        _mm256_aesenc_epi128(b, c),
        _mm256_aesenc_epi128(c, d),
        _mm256_aesenc_epi128(d, _mm256_xor_si256(e, second)),
        _mm256_aesenc_epi128(e, f),
        _mm256_aesenc_epi128(f, g),
        _mm256_aesenc_epi128(g, h),
    ]
}

/// The words of one state where the mask has a bit, those of another elsewhere.
#[inline]
#[target_feature(enable = "vaes,avx512vl,avx512bw")]
fn select(mask: u8, there: State, elsewhere: State) -> State {
    let [a, b, c, d, e, f, g, h] = elsewhere;
    [
        _mm256_mask_mov_epi64(a, mask, there[0]),
        _mm256_mask_mov_epi64(b, mask, there[1]),
        _mm256_mask_mov_epi64(c, mask, there[2]),
        _mm256_mask_mov_epi64(d, mask, there[3]),
        _mm256_mask_mov_epi64(e, mask, there[4]),
        _mm256_mask_mov_epi64(f, mask, there[5]),
        _mm256_mask_mov_epi64(g, mask, there[6]),
        _mm256_mask_mov_epi64(h, mask, there[7]),
    ]
}

/// The bytes of a block that has as many as there are in `rest`, and zeros behind them.
#[inline]
#[target_feature(enable = "vaes,avx512vl,avx512bw")]
fn load(rest: &[u8]) -> __m256i {
    let mask = if rest.len() >= RATE_BYTES { u32::MAX } else { (1 << rest.len()) - 1 };
    // SAFETY: only bytes whose bit of the mask is set are read, and so many are there.
    unsafe { _mm256_maskz_loadu_epi8(mask, rest.as_ptr().cast()) }
}

/// One round with a block of each message.
#[inline]
#[target_feature(enable = "vaes,avx512vl,avx512bw")]
fn absorb(state: State, of_first: __m256i, of_second: __m256i) -> State {
    let first = _mm256_permute2x128_si256::<0x20>(of_first, of_second);
    let second = _mm256_permute2x128_si256::<0x31>(of_first, of_second);
    round(state, first, second)
}

#[inline]
#[target_feature(enable = "aes,vaes,avx512vl,avx512bw")]
fn both(word: u128) -> __m256i {
    _mm256_broadcastsi128_si256(vector(word))
}

/// The tags of two messages, from the state after key and nonce.
#[target_feature(enable = "aes,vaes,avx512vl,avx512bw")]
pub fn hash(from: &[u128; 8], [mut first, mut second]: [&[u8]; 2]) -> [u128; 2] {
    let [a, b, c, d, e, f, g, h] = *from;
    let mut state = [both(a), both(b), both(c), both(d), both(e), both(f), both(g), both(h)];
    let tag_bits = TAG_BITS as i64;
    let lengths =
        _mm256_set_epi64x(tag_bits, (second.len() as i64) << 3, tag_bits, (first.len() as i64) << 3);
    while let (Some((of_first, first_rest)), Some((of_second, second_rest))) =
        (first.split_first_chunk::<RATE_BYTES>(), second.split_first_chunk::<RATE_BYTES>())
    {
        state = absorb(state, load(of_first), load(of_second));
        (first, second) = (first_rest, second_rest);
    }
    while first.len() + second.len() > 0 {
        let goes_on = if first.is_empty() { 0 } else { FIRST } | if second.is_empty() { 0 } else { !FIRST };
        state = select(goes_on, absorb(state, load(first), load(second)), state);
        first = first.get(RATE_BYTES..).unwrap_or_default();
        second = second.get(RATE_BYTES..).unwrap_or_default();
    }
    let lengths = _mm256_xor_si256(state[2], lengths);
    for _ in 0..ROUNDS_LAST {
        state = round(state, lengths, lengths);
    }
    let [a, b, c, d, e, f, g, _] = state;
    let tags = _mm256_ternarylogic_epi64::<XOR_OF_THREE>(a, b, c);
    let tags = _mm256_ternarylogic_epi64::<XOR_OF_THREE>(tags, d, e);
    let tags = _mm256_ternarylogic_epi64::<XOR_OF_THREE>(tags, f, g);
    [word(_mm256_castsi256_si128(tags)), word(_mm256_extracti128_si256::<1>(tags))]
}

#[inline]
#[target_feature(enable = "aes")]
pub fn word(vector: __m128i) -> u128 {
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(vector, vector)) as u64;
    u128::from(high) << 64 | u128::from(_mm_cvtsi128_si64(vector) as u64)
}
