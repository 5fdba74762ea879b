//! The XOR encoding of float samples (Prometheus `tsdb/chunkenc/xor.go`, after Facebook's Gorilla paper).
//!
//! Two bytes: number of samples, big endian. Then bits, most significant first:
//! - first sample: time as zigzag varint, value as 64 bits;
//! - second: time delta as uvarint, value as below;
//! - later: delta of deltas: `0` for 0, `10` + 14 bits, `110` + 17 bits, `1110` + 20 bits, `1111` + 64 bits, each in
//!   two's complement with the range shifted by one (-2^(n-1) is not used, +2^(n-1) is);
//! - value: `0` when equal to the last; `10` + the significant bits inside the last window; `11` + 5 bits of leading
//!   zeros + 6 bits of window length (0 is 64) + the bits.

use super::ChunkError;
use super::bits::{BitReader, PutBits, Tail, WordWriter};
use super::fault::Fault;
use super::varbit::{put_uvarint, put_varint, take_uvarint, take_varint};
use super::window::Window;

/// Bytes of the sample count at the start.
const HEADER_BYTES: usize = 2;

/// The end of a chunk that grows by one sample at a time: all that is looked at for the next one.
///
/// The chunk's whole words are elsewhere, with the caller, and only written to: see [`Tail`].
#[derive(Debug, Clone, Copy, Default)]
pub struct XorState {
    last_ms: i64,
    last_delta_ms: u64,
    last_bits: u64,
    tail: Tail,
    count: u16,
    window: Window,
}

impl XorState {
    /// Continues a chunk that was written before, by decoding it. Leaves its whole words in `bytes`.
    pub fn resume(bytes: &mut Vec<u8>) -> Result<XorState, ChunkError> {
        let mut state = Decoder::new(bytes)?;
        while state.index < state.count {
            state.next()?;
        }
        let free_bits = state.reader.bits_left();
        let (count, window) = (state.count, state.window);
        let malformed = ChunkError::Malformed { sample: count, count };
        let free = u8::try_from(free_bits).ok().filter(|free| *free < 8).ok_or(malformed)?;
        let (last_ms, last_delta_ms, last_bits) = (state.time_ms, state.delta_ms, state.bits);
        let bits = 8 * (bytes.len() - HEADER_BYTES) - usize::from(free);
        let words_end = HEADER_BYTES + bits / 64 * 8;
        let tail = Tail::of(&bytes[words_end..], free);
        bytes.truncate(words_end);
        bytes[..HEADER_BYTES].fill(0);
        Ok(XorState { last_ms, last_delta_ms, last_bits, tail, count, window })
    }

    /// Appends a sample, and returns by how many bytes the words grew. Times must not fall; the caller has checked that.
    #[inline]
    pub fn append(&mut self, words: &mut Vec<u8>, timestamp_ms: i64, value: f64) -> usize {
        let bits = value.to_bits();
        if self.count == 0 {
            words.clear();
            words.extend_from_slice(&[0; HEADER_BYTES]);
        }
        let mut writer = WordWriter::new(words, self.tail);
        if self.count == 0 {
            put_varint(&mut writer, timestamp_ms);
            writer.put(bits, 64);
        } else {
            let delta = timestamp_ms.wrapping_sub(self.last_ms) as u64;
            if self.count == 1 {
                put_uvarint(&mut writer, delta);
            } else {
                put_delta_of_delta(&mut writer, delta.wrapping_sub(self.last_delta_ms) as i64);
            }
            self.last_delta_ms = delta;
            self.window.put(&mut writer, bits ^ self.last_bits);
        }
        let grown;
        (self.tail, grown) = writer.finish();
        self.last_ms = timestamp_ms;
        self.last_bits = bits;
        self.count += 1;
        grown
    }

    /// Samples so far.
    #[inline]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Time and value bits of the newest sample; meaningless while empty.
    #[inline]
    pub fn last(&self) -> (i64, u64) {
        (self.last_ms, self.last_bits)
    }

    /// Bytes of the chunk.
    pub fn chunk_len(&self, words: &[u8]) -> usize {
        words.len() + self.tail.byte_count()
    }

    /// Copies the chunk so far to the end of `out`: nothing before the first sample.
    pub fn write_to(&self, words: &[u8], out: &mut Vec<u8>) {
        if let Some(words) = words.get(HEADER_BYTES..) {
            out.extend_from_slice(&self.count.to_be_bytes());
            out.extend_from_slice(words);
            self.tail.write_to(out);
        }
    }

    /// Makes the words the whole chunk, and starts an empty one.
    pub fn seal(&mut self, words: &mut Vec<u8>) {
        if self.count > 0 {
            words[..HEADER_BYTES].copy_from_slice(&self.count.to_be_bytes());
            self.tail.write_to(words);
        }
        *self = XorState::default();
    }
}

/// A chunk that grows by one sample at a time, with its bytes.
#[derive(Debug, Clone, Default)]
pub struct XorAppender {
    state: XorState,
    words: Vec<u8>,
}

impl XorAppender {
    /// Continues a chunk that was written before, by decoding it.
    pub fn resume(mut bytes: Vec<u8>) -> Result<XorAppender, ChunkError> {
        Ok(XorAppender { state: XorState::resume(&mut bytes)?, words: bytes })
    }

    /// Appends a sample. Times must not fall; the caller has checked that.
    #[inline]
    pub fn append(&mut self, timestamp_ms: i64, value: f64) {
        self.state.append(&mut self.words, timestamp_ms, value);
    }

    /// Samples so far.
    pub fn count(&self) -> u16 {
        self.state.count
    }

    /// Time and value bits of the newest sample; meaningless while empty.
    pub fn last(&self) -> (i64, u64) {
        self.state.last()
    }

    /// A copy of the chunk so far; empty before the first sample.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.state.chunk_len(&self.words));
        self.state.write_to(&self.words, &mut bytes);
        bytes
    }

    /// Takes the finished chunk and starts an empty one.
    pub fn seal(&mut self) -> Box<[u8]> {
        self.state.seal(&mut self.words);
        std::mem::take(&mut self.words).into_boxed_slice()
    }
}

#[inline]
fn put_delta_of_delta(writer: &mut impl PutBits, dod: i64) {
    match dod {
        0 => writer.put(0, 1),
        -8191..=8192 => writer.put(0b10 << 14 | (dod as u64 & 0x3fff), 16),
        -65_535..=65_536 => writer.put(0b110 << 17 | (dod as u64 & 0x1_ffff), 20),
        -524_287..=524_288 => writer.put(0b1110 << 20 | (dod as u64 & 0xf_ffff), 24),
        _ => {
            writer.put(0b1111, 4);
            writer.put(dod as u64, 64);
        }
    }
}

/// Decodes a chunk; see [`super::decode`].
pub fn decode_xor(bytes: &[u8], mut each: impl FnMut(i64, f64)) -> Result<(), ChunkError> {
    let mut state = Decoder::new(bytes)?;
    while state.index < state.count {
        state.next()?;
        each(state.time_ms, f64::from_bits(state.bits));
    }
    Ok(())
}

/// The number of samples that a chunk announces, and the bits of the samples.
pub(super) fn split_header(bytes: &[u8]) -> Result<(u16, &[u8]), ChunkError> {
    let (header, bits) =
        bytes.split_first_chunk::<HEADER_BYTES>().ok_or(ChunkError::Truncated { sample: 0, count: 0 })?;
    Ok((u16::from_be_bytes(*header), bits))
}

/// Takes one sample after the other.
pub(super) struct Decoder<'a> {
    pub(super) reader: BitReader<'a>,
    pub(super) count: u16,
    /// Samples taken so far.
    pub(super) index: u16,
    /// The last one's time.
    pub(super) time_ms: i64,
    /// How much later it is than the one before.
    pub(super) delta_ms: u64,
    /// Its value.
    pub(super) bits: u64,
    pub(super) window: Window,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Result<Decoder<'a>, ChunkError> {
        let (count, bits) = split_header(bytes)?;
        Ok(Decoder {
            reader: BitReader::new(bits),
            count,
            index: 0,
            time_ms: 0,
            delta_ms: 0,
            bits: 0,
            window: Window::default(),
        })
    }

    /// Takes the next one.
    #[inline]
    pub(super) fn next(&mut self) -> Result<(), ChunkError> {
        self.step().map_err(|fault| fault.at(self.index, self.count))?;
        self.index += 1;
        Ok(())
    }

    #[inline]
    fn step(&mut self) -> Result<(), Fault> {
        match self.index {
            0 => {
                self.time_ms = take_varint(&mut self.reader)?;
                self.bits = self.reader.take(64).ok_or(Fault::Truncated)?;
                return Ok(());
            }
            1 => self.delta_ms = take_uvarint(&mut self.reader)?,
            _ => {
                let dod = self.take_delta_of_delta().ok_or(Fault::Truncated)?;
                self.delta_ms = self.delta_ms.wrapping_add(dod as u64);
            }
        }
        self.time_ms = self.time_ms.wrapping_add(self.delta_ms as i64);
        self.bits ^= self.window.take(&mut self.reader)?;
        Ok(())
    }

    #[inline]
    fn take_delta_of_delta(&mut self) -> Option<i64> {
        let width = match self.reader.take_ones(4)? {
            0 => return Some(0),
            1 => 14,
            2 => 17,
            3 => 20,
            _ => return self.reader.take(64).map(|bits| bits as i64),
        };
        let bits = self.reader.take(width)? as i64;
        // The range is -(2^(n-1) - 1) ..= 2^(n-1): only values above the half are negative.
        Some(if bits > 1 << (width - 1) { bits - (1 << width) } else { bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(samples: &[(i64, u64)]) -> XorAppender {
        let mut appender = XorAppender::default();
        for (timestamp_ms, bits) in samples {
            appender.append(*timestamp_ms, f64::from_bits(*bits));
        }
        appender
    }

    fn decoded(bytes: &[u8]) -> (Vec<(i64, u64)>, Result<(), ChunkError>) {
        let mut samples = Vec::new();
        let result = decode_xor(bytes, |timestamp_ms, value| samples.push((timestamp_ms, value.to_bits())));
        (samples, result)
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        // Written by hand from the format's description.
        let chunk = encode(&[(1, 1f64.to_bits()), (2, 1f64.to_bits()), (3, 2f64.to_bits())]);
        let xor = 1f64.to_bits() ^ 2f64.to_bits();
        assert_eq!((xor.leading_zeros(), xor.trailing_zeros()), (1, 52));
        let bits = format!(
            "{:016b}{:08b}{:064b}{:08b}0{}",
            3, // count
            2, // zigzag of 1
            1f64.to_bits(),
            1,                                                              // delta; then an equal value
            format_args!("0{}{:05b}{:06b}{:011b}", "11", 1, 11, xor >> 52), // no change of delta; new window
        );
        let mut expected: Vec<u8> = Vec::new();
        for byte in bits.as_bytes().chunks(8) {
            let text = std::str::from_utf8(byte).unwrap();
            expected.push(u8::from_str_radix(&format!("{text:0<8}"), 2).unwrap());
        }
        assert_eq!(chunk.to_bytes(), expected);
    }

    fn any_samples() -> impl Strategy<Value = Vec<(i64, u64)>> {
        let delta = prop_oneof![
            Just(15_000u64),
            14_990u64..15_010,
            0u64..100_000,
            0u64..2_000_000,
            any::<u64>().prop_map(|d| d >> 8)
        ];
        let bits = prop_oneof![
            any::<u64>(),
            (0u32..1000).prop_map(|v| f64::from(v).to_bits()),
            Just(crate::STALE_NAN_BITS),
            Just(f64::INFINITY.to_bits()),
            Just((-0.0f64).to_bits()),
        ];
        (any::<i64>().prop_map(|t| t >> 3), proptest::collection::vec((delta, bits), 0..130)).prop_map(
            |(start, steps)| {
                let mut time = start;
                steps
                    .into_iter()
                    .map(|(delta, bits)| {
                        time = time.saturating_add(delta as i64);
                        (time, bits)
                    })
                    .collect()
            },
        )
    }

    proptest! {
        #[test]
        fn decoding_returns_what_was_appended(samples in any_samples()) {
            let chunk = encode(&samples);
            if samples.is_empty() {
                prop_assert!(chunk.to_bytes().is_empty());
            } else {
                prop_assert_eq!(decoded(&chunk.to_bytes()), (samples, Ok(())));
            }
        }

        #[test]
        fn a_resumed_chunk_goes_on_with_the_same_bits(samples in any_samples(), at in any::<proptest::sample::Index>()) {
            prop_assume!(samples.len() >= 2);
            let at = 1 + at.index(samples.len() - 1);
            let mut resumed = XorAppender::resume(encode(&samples[..at]).to_bytes()).unwrap();
            for (timestamp_ms, bits) in &samples[at..] {
                resumed.append(*timestamp_ms, f64::from_bits(*bits));
            }
            let whole = encode(&samples);
            prop_assert_eq!(resumed.to_bytes(), whole.to_bytes());
            prop_assert_eq!(resumed.last(), whole.last());
        }

        #[test]
        fn a_cut_chunk_yields_the_samples_before_the_cut(samples in any_samples(), cut in any::<proptest::sample::Index>()) {
            prop_assume!(!samples.is_empty());
            let chunk = encode(&samples);
            let cut = cut.index(chunk.to_bytes().len());
            let (got, result) = decoded(&chunk.to_bytes()[..cut]);
            prop_assert!(result.is_err());
            prop_assert_eq!(&got[..], &samples[..got.len()]);
        }

        #[test]
        fn random_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decoded(&bytes);
            let _ = XorAppender::resume(bytes);
        }
    }
}
