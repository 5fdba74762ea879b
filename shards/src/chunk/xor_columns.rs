//! Whole XOR chunks into columns of times and values: what queries spend most of their time on.
//!
//! The decoder of [`super::xor`] takes one sample after the other from a reader that checks each of its steps. Here a
//! sample is a few loads at its place in the bits, and one check that there are enough of them. Everything else is left
//! to that decoder: the first two samples, deltas of 64 bits, and whatever is cut off or malformed, so that both find
//! the same samples and the same errors.

use super::ChunkError;
use super::bits::BitReader;
use super::xor::{Decoder, split_header};

/// What a sample may reach into, from the byte where it begins: 7 bits of the byte before, a delta of 24 bits, a window
/// of 13, and a value of 64 bits that is loaded in two halves.
const REACH_BYTES: usize = 24;

/// The smallest samples have one bit of time and one of value.
const SAMPLES_PER_BYTE_MAX: usize = 4;

/// Appends the samples of a chunk to columns, up to the first one that is not before `until_ms`.
///
/// # Errors
/// When the bytes up to there are not those of a chunk; the samples before the damage were then appended.
pub fn decode_xor_columns(
    bytes: &[u8],
    until_ms: i64,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let (count, bits) = split_header(bytes)?;
    let (first_time, first_value) = (times.len(), values.len());
    // The header may promise more than there are bits for.
    let room = usize::from(count).min(2 + SAMPLES_PER_BYTE_MAX * bits.len());
    times.resize(first_time + room, 0);
    values.resize(first_value + room, 0.0);
    let mut columns = Columns { times: &mut times[first_time..], values: &mut values[first_value..], len: 0 };
    let decoded = decode(bits, count, until_ms, &mut columns);
    let len = columns.len;
    times.truncate(first_time + len);
    values.truncate(first_value + len);
    decoded
}

fn decode(bits: &[u8], count: u16, until_ms: i64, columns: &mut Columns<'_>) -> Result<(), ChunkError> {
    let mut cursor = Cursor::default();
    while columns.len < usize::from(count) {
        if columns.len >= 2 {
            cursor.run(bits, until_ms, columns);
            let left = bits.get(cursor.bit / 8..).unwrap_or_default();
            if left.len() < REACH_BYTES && columns.is_before(until_ms) {
                // The last samples, with room behind them for loads that reach too far.
                let mut padded = [0; 2 * REACH_BYTES];
                padded[..left.len()].copy_from_slice(left);
                let end = 8 * left.len();
                let before = cursor.bit / 8 * 8;
                cursor.bit -= before;
                cursor.run_until(&padded, end, until_ms, columns);
                cursor.bit += before;
            }
        }
        if columns.len == usize::from(count) || !columns.is_before(until_ms) {
            return Ok(());
        }
        cursor.step(bits, count, columns)?;
    }
    Ok(())
}

/// The columns of one chunk.
struct Columns<'a> {
    times: &'a mut [i64],
    values: &'a mut [f64],
    /// How many samples there are.
    len: usize,
}

impl Columns<'_> {
    /// Whether more samples are wanted.
    fn is_before(&self, until_ms: i64) -> bool {
        self.len == 0 || self.times[self.len - 1] < until_ms
    }
}

/// Where the next sample begins, and what it builds on.
#[derive(Default)]
struct Cursor {
    bit: usize,
    time_ms: i64,
    delta_ms: u64,
    value_bits: u64,
    /// Of the last window: zeros before and after it.
    leading: u32,
    trailing: u32,
}

impl Cursor {
    /// Decodes samples for as long as they are of the usual kind.
    fn run(&mut self, bytes: &[u8], until_ms: i64, columns: &mut Columns<'_>) {
        self.run_until(bytes, 8 * bytes.len(), until_ms, columns);
    }

    /// The same, of samples that end before bit `end`.
    #[inline]
    fn run_until(&mut self, bytes: &[u8], end: usize, until_ms: i64, columns: &mut Columns<'_>) {
        let Cursor { mut bit, mut time_ms, mut delta_ms, mut value_bits, mut leading, mut trailing } = *self;
        let mut significant = 64 - leading - trailing;
        let mut len = columns.len;
        if !columns.is_before(until_ms) {
            return;
        }
        for (time, value) in columns.times[len..].iter_mut().zip(&mut columns.values[len..]) {
            let Some(reach) = bytes.get(bit / 8..).and_then(|rest| rest.first_chunk::<REACH_BYTES>()) else {
                break;
            };
            let mut at = bit % 8;
            // The bits of the sample, and how many of them were surely loaded.
            let (mut word, mut loaded) = (load(reach, at), LOADED_BITS);
            let mut delta = delta_ms;
            let mut taken = 1;
            if word >> 63 != 0 {
                // One to three ones and a zero announce 14, 17 or 20 bits.
                let ones = (!word).leading_zeros();
                if ones > 3 {
                    break;
                }
                let (prefix, width) = (ones + 1, 11 + 3 * ones);
                let dod = (word << prefix >> (64 - width)) as i64;
                // The range is -(2^(n-1) - 1) ..= 2^(n-1): only values above the half are negative.
                let dod = if dod > 1 << (width - 1) { dod - (1 << width) } else { dod };
                delta = delta.wrapping_add(dod as u64);
                taken = prefix + width;
            }
            (word, loaded, at) = (word << taken, loaded - taken, at + taken as usize);
            let mut xor = 0;
            if word >> 63 == 0 {
                at += 1;
            } else {
                let mut prefix = 2;
                if word << 1 >> 63 != 0 {
                    prefix = 13;
                    let new_leading = (word << 2 >> 59) as u32;
                    let new_significant = match (word << 7 >> 58) as u32 {
                        0 => 64,
                        significant => significant,
                    };
                    let new_end = bit / 8 * 8 + at + (prefix + new_significant) as usize;
                    if new_leading + new_significant > 64 || new_end > end {
                        break;
                    }
                    (leading, significant) = (new_leading, new_significant);
                    trailing = 64 - leading - significant;
                }
                at += prefix as usize;
                xor = if prefix + significant <= loaded {
                    word << prefix >> (64 - significant)
                } else if significant <= LOADED_BITS {
                    load(reach, at) >> (64 - significant)
                } else {
                    let rest = significant - 32;
                    load(reach, at) >> 32 << rest | load(reach, at + 32) >> (64 - rest)
                };
                xor <<= trailing;
                at += significant as usize;
            }
            let next = bit / 8 * 8 + at;
            if next > end {
                break;
            }
            bit = next;
            delta_ms = delta;
            time_ms = time_ms.wrapping_add(delta_ms as i64);
            value_bits ^= xor;
            (*time, *value) = (time_ms, f64::from_bits(value_bits));
            len += 1;
            if time_ms >= until_ms {
                break;
            }
        }
        columns.len = len;
        *self = Cursor { bit, time_ms, delta_ms, value_bits, leading, trailing };
    }

    /// Decodes one sample of any kind.
    fn step(&mut self, bits: &[u8], count: u16, columns: &mut Columns<'_>) -> Result<(), ChunkError> {
        let mut reader = BitReader::new(bits.get(self.bit / 8..).unwrap_or_default());
        if !self.bit.is_multiple_of(8) {
            reader.take((self.bit % 8) as u32);
        }
        let mut decoder = Decoder {
            reader,
            count,
            index: columns.len as u16,
            time_ms: self.time_ms,
            delta_ms: self.delta_ms,
            bits: self.value_bits,
            window: super::window::Window::of(self.leading, self.trailing),
        };
        decoder.next()?;
        let (leading, trailing) = decoder.window.zeros();
        *self = Cursor {
            bit: 8 * bits.len() - decoder.reader.bits_left(),
            time_ms: decoder.time_ms,
            delta_ms: decoder.delta_ms,
            value_bits: decoder.bits,
            leading,
            trailing,
        };
        columns.times[columns.len] = self.time_ms;
        columns.values[columns.len] = f64::from_bits(self.value_bits);
        columns.len += 1;
        Ok(())
    }
}

/// How many bits of a load are there wherever it begins in its first byte.
const LOADED_BITS: u32 = 57;

/// At least [`LOADED_BITS`] bits from bit `at` on, at the top.
#[inline(always)]
fn load(reach: &[u8; REACH_BYTES], at: usize) -> u64 {
    let word = reach[at / 8..].first_chunk::<8>().expect("no sample reaches further");
    u64::from_be_bytes(*word) << (at % 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::xor::{XorAppender, decode_xor};
    use super::*;

    type Decoded = (Vec<(i64, u64)>, Result<(), ChunkError>);

    fn one_by_one(bytes: &[u8], until_ms: i64) -> Decoded {
        let mut samples: Vec<(i64, u64)> = Vec::new();
        let is_over =
            |samples: &[(i64, u64)]| samples.last().is_some_and(|(last_ms, _)| *last_ms >= until_ms);
        let result = decode_xor(bytes, |time_ms, value| {
            if !is_over(&samples) {
                samples.push((time_ms, value.to_bits()));
            }
        });
        let result = if is_over(&samples) { Ok(()) } else { result };
        (samples, result)
    }

    fn in_columns(bytes: &[u8], until_ms: i64) -> Decoded {
        let (mut times, mut values) = (vec![7], vec![0.7]);
        let result = decode_xor_columns(bytes, until_ms, &mut times, &mut values);
        assert_eq!((times[0], values[0], times.len()), (7, 0.7, values.len()));
        let values = values.into_iter().map(f64::to_bits);
        (times.into_iter().zip(values).skip(1).collect(), result)
    }

    /// Samples with deltas and values of every size, long runs of equal ones among them.
    fn any_chunk() -> impl Strategy<Value = Vec<u8>> {
        let delta = prop_oneof![
            6 => Just(15_000u64),
            2 => 14_990u64..15_010,
            1 => 0u64..100_000,
            1 => 0u64..2_000_000,
            1 => any::<u64>().prop_map(|delta| delta >> 8),
        ];
        let bits = prop_oneof![
            1 => any::<u64>(),
            4 => (0u32..1000).prop_map(|value| f64::from(value).to_bits()),
            2 => (any::<u64>(), 0u32..64).prop_map(|(bits, shift)| bits >> shift),
            1 => Just(crate::STALE_NAN_BITS),
        ];
        let step = (delta, bits, 1usize..20);
        (any::<i64>().prop_map(|start_ms| start_ms >> 3), proptest::collection::vec(step, 0..40)).prop_map(
            |(start_ms, steps)| {
                let (mut appender, mut time_ms) = (XorAppender::default(), start_ms);
                for (delta_ms, bits, repeats) in steps {
                    for _ in 0..repeats {
                        time_ms = time_ms.saturating_add(delta_ms as i64);
                        appender.append(time_ms, f64::from_bits(bits));
                    }
                }
                appender.to_bytes()
            },
        )
    }

    /// Times at which to stop: one of the chunk's own, or none.
    fn until_ms(bytes: &[u8], at: Option<prop::sample::Index>) -> i64 {
        let (samples, _) = one_by_one(bytes, i64::MAX);
        match at {
            Some(at) if !samples.is_empty() => samples[at.index(samples.len())].0,
            _ => i64::MAX,
        }
    }

    proptest! {
        #[test]
        fn columns_hold_what_the_decoder_gives_one_by_one(chunk in any_chunk(), at in any::<Option<prop::sample::Index>>()) {
            let until_ms = until_ms(&chunk, at);
            prop_assert_eq!(in_columns(&chunk, until_ms), one_by_one(&chunk, until_ms));
        }

        #[test]
        fn a_cut_or_damaged_chunk_has_the_same_samples_and_the_same_error(
            mut chunk in any_chunk(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
            at in any::<Option<prop::sample::Index>>(),
        ) {
            prop_assume!(!chunk.is_empty());
            for (place, byte) in flips {
                let place = place.index(chunk.len());
                chunk[place] = byte;
            }
            chunk.truncate(1 + cut.index(chunk.len()));
            let until_ms = until_ms(&chunk, at);
            prop_assert_eq!(in_columns(&chunk, until_ms), one_by_one(&chunk, until_ms));
        }

        #[test]
        fn random_bytes_have_the_same_samples_and_the_same_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(in_columns(&bytes, i64::MAX), one_by_one(&bytes, i64::MAX));
        }
    }

    #[test]
    fn a_header_that_promises_too_much_takes_no_memory_for_it() {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let result = decode_xor_columns(&[0xff, 0xff, 0, 0], i64::MAX, &mut times, &mut values);
        assert_eq!(result, Err(ChunkError::Truncated { sample: 0, count: 0xffff }));
        assert!(times.capacity() < 100 && values.capacity() < 100);
    }
}
