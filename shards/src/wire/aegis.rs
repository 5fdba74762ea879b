//! AEGIS-128L as a keyed hash (AEGISMAC-128L of draft-irtf-cfrg-aegis-aead): 32 bytes of message per round of eight
//! independent AES steps, which processors have instructions for.
//!
//! Owns:     the state after key and nonce, which each message starts from.
//! Promises: the same 128 bits on every processor.
#![expect(unsafe_code, reason = "the AES instructions may be used only where they were found to be there")]

use aes::hazmat::cipher_round;

#[cfg(target_arch = "x86_64")]
mod pair;

/// The Fibonacci sequence modulo 256, as the draft has it.
const CONSTANTS: [u128; 2] =
    [0x6279_e990_5937_2215_0d08_0503_0201_0100, 0xdd28_b573_4231_1120_f12f_c26d_5518_3ddb];

/// Rounds that mix key and nonce into the state.
const ROUNDS_FIRST: usize = 10;

/// Rounds that mix the length and the end of the message into the tag.
const ROUNDS_LAST: usize = 7;

/// Bytes of message that one round takes.
const RATE_BYTES: usize = 32;

/// Bits of the tag.
const TAG_BITS: u128 = 128;

/// A key, ready for any number of messages. All 16-byte words are little endian.
#[derive(Clone)]
pub struct Mac {
    state: [u128; 8],
    has_instructions: bool,
    has_pairs: bool,
}

impl Mac {
    /// Under a key, and a nonce that tells apart what the key is used for.
    pub fn new(key: u128, nonce: u128) -> Mac {
        let (key_nonce, [first, second]) = (key ^ nonce, CONSTANTS);
        let mut state = [key_nonce, second, first, second, key_nonce, key ^ first, key ^ second, key ^ first];
        for _ in 0..ROUNDS_FIRST {
            round(&mut state, nonce, key);
        }
        Mac { state, has_instructions: instructions::are_there(), has_pairs: pair::is_there() }
    }

    /// The tag of a message.
    #[inline]
    pub fn hash(&self, message: &[u8]) -> u128 {
        if self.has_instructions {
            // SAFETY: the processor was asked for them when this was made.
            return unsafe { instructions::hash(&self.state, message) };
        }
        self.hash_anywhere(message)
    }

    /// The tags of two messages: half the time of one after the other, where the processor can do it.
    #[inline]
    pub fn hash_two(&self, messages: [&[u8]; 2]) -> [u128; 2] {
        if self.has_pairs {
            // SAFETY: the processor was asked for what it takes when this was made.
            return unsafe { pair::hash(&self.state, messages) };
        }
        let [first, second] = messages;
        [self.hash(first), self.hash(second)]
    }

    fn hash_anywhere(&self, message: &[u8]) -> u128 {
        let mut state = self.state;
        let (blocks, rest) = message.as_chunks::<RATE_BYTES>();
        for block in blocks {
            let [first, second] = words(block);
            round(&mut state, first, second);
        }
        if !rest.is_empty() {
            let [first, second] = words(&padded(rest));
            round(&mut state, first, second);
        }
        let lengths = state[2] ^ length_word(message);
        for _ in 0..ROUNDS_LAST {
            round(&mut state, lengths, lengths);
        }
        state[..7].iter().fold(0, |tag, word| tag ^ word)
    }
}

/// One round: each word is an AES step of the one before it, and a word of message goes into the first and the fifth.
fn round(state: &mut [u128; 8], first: u128, second: u128) {
    let before = *state;
    let step = |of: u128, key: u128| {
        let mut block = of.to_le_bytes().into();
        cipher_round(&mut block, &key.to_le_bytes().into());
        u128::from_le_bytes(block.into())
    };
    for (index, word) in state.iter_mut().enumerate() {
        *word = step(before[(index + 7) % 8], before[index]);
    }
    // A step ends with the addition of its key, so the message may be added after it.
    state[0] ^= first;
    state[4] ^= second;
}

#[inline]
fn words(block: &[u8; RATE_BYTES]) -> [u128; 2] {
    let (words, _) = block.as_chunks::<16>();
    [u128::from_le_bytes(words[0]), u128::from_le_bytes(words[1])]
}

#[inline]
fn padded(rest: &[u8]) -> [u8; RATE_BYTES] {
    let mut block = [0; RATE_BYTES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Bits of the message in the lower half, of the tag in the upper one.
#[inline]
fn length_word(message: &[u8]) -> u128 {
    (message.len() as u128 * 8) | TAG_BITS << 64
}

#[cfg(target_arch = "x86_64")]
mod instructions {
    use std::arch::x86_64::{__m128i, _mm_aesenc_si128, _mm_set_epi64x, _mm_setzero_si128, _mm_xor_si128};

    use super::pair::word;
    use super::{RATE_BYTES, ROUNDS_LAST, length_word, padded, words};

    pub fn are_there() -> bool {
        std::is_x86_feature_detected!("aes")
    }

    #[inline]
    #[target_feature(enable = "aes")]
    pub fn vector(word: u128) -> __m128i {
        _mm_set_epi64x((word >> 64) as i64, word as i64)
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn round(state: &mut [__m128i; 8], first: __m128i, second: __m128i) {
        let before = *state;
        for (index, word) in state.iter_mut().enumerate() {
            *word = _mm_aesenc_si128(before[(index + 7) % 8], before[index]);
        }
        state[0] = _mm_xor_si128(state[0], first);
        state[4] = _mm_xor_si128(state[4], second);
    }

    #[inline]
    #[target_feature(enable = "aes")]
    fn absorb(state: &mut [__m128i; 8], block: &[u8; RATE_BYTES]) {
        let [first, second] = words(block);
        round(state, vector(first), vector(second));
    }

    #[target_feature(enable = "aes")]
    pub fn hash(from: &[u128; 8], message: &[u8]) -> u128 {
        let mut state = [_mm_setzero_si128(); 8];
        for (vector_of, word) in state.iter_mut().zip(from) {
            *vector_of = vector(*word);
        }
        let (blocks, rest) = message.as_chunks::<RATE_BYTES>();
        for block in blocks {
            absorb(&mut state, block);
        }
        if !rest.is_empty() {
            absorb(&mut state, &padded(rest));
        }
        let lengths = _mm_xor_si128(state[2], vector(length_word(message)));
        for _ in 0..ROUNDS_LAST {
            round(&mut state, lengths, lengths);
        }
        let mut tag = state[0];
        for word in &state[1..7] {
            tag = _mm_xor_si128(tag, *word);
        }
        word(tag)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod instructions {
    pub fn are_there() -> bool {
        false
    }

    pub unsafe fn hash(_from: &[u128; 8], _message: &[u8]) -> u128 {
        unreachable!("there are none")
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod pair {
    pub fn is_there() -> bool {
        false
    }

    pub unsafe fn hash(_from: &[u128; 8], _messages: [&[u8]; 2]) -> [u128; 2] {
        unreachable!("there are none")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vector of the draft for AEGISMAC-128L.
    #[test]
    fn the_tag_is_that_of_the_draft() {
        let word = |first: [u8; 4]| u128::from(u32::from_le_bytes(first));
        let mac = Mac::new(word([0x10, 1, 0, 0]), word([0x10, 0, 2, 0]));
        let data: Vec<u8> = (0..35).collect();
        let tag = mac.hash(&data).to_le_bytes();
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "d3f09b2842ad301687d6902c921d7818");
    }

    proptest! {
        #[test]
        fn the_instructions_give_the_same_as_no_instructions(
            key: u128, nonce: u128, message in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let mac = Mac::new(key, nonce);
            prop_assert_eq!(mac.hash(&message), mac.hash_anywhere(&message));
        }

        #[test]
        fn two_messages_at_once_have_the_tags_of_each_alone(
            key: u128,
            first in prop::collection::vec(any::<u8>(), 0..300),
            second in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mac = Mac::new(key, 3);
            let alone = [mac.hash_anywhere(&first), mac.hash_anywhere(&second)];
            prop_assert_eq!(mac.hash_two([&first, &second]), alone);
        }

        #[test]
        fn length_and_key_and_nonce_matter(message in prop::collection::vec(any::<u8>(), 0..100)) {
            let longer = [&message[..], &[0]].concat();
            let tag = Mac::new(1, 2).hash(&message);
            prop_assert_ne!(tag, Mac::new(1, 2).hash(&longer));
            prop_assert_ne!(tag, Mac::new(2, 2).hash(&message));
            prop_assert_ne!(tag, Mac::new(1, 1).hash(&message));
        }
    }
}
