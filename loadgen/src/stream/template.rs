//! A message that is compressed once and sent many times.
//!
//! Compressing each body would cost the generator more CPU than a good receiver needs to store it, on the same
//! machine. So a message is compressed with its values and timestamps as blanks: a value is always a literal at a
//! known place; a timestamp is a literal once, and copies that read it elsewhere follow when it changes, since a
//! copy only ever joins equal bytes of equal meaning. The next round writes into the finished block.

use super::proto::TIMESTAMP_BYTES;

/// A byte of the message with its meaning: below `TIMESTAMP` the byte itself, then a byte of the timestamp, then a
/// byte of a value, which equals nothing.
type Symbol = u16;

const TIMESTAMP: Symbol = 0x100;
const VALUE: Symbol = 0x200;
const VALUE_REST: Symbol = 0x201;

/// Places remembered while compressing.
const TABLE_BITS: u32 = 14;

/// The furthest a copy reaches back, as other encoders keep it too.
const OFFSET_MAX: usize = 0xffff;

/// The shortest match that is worth a copy.
const MATCH_MIN: usize = 4;

/// A message with blanks.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    /// Where values begin, 8 bytes each.
    pub(super) values: Vec<usize>,
    /// Where timestamps begin.
    pub(super) timestamps: Vec<usize>,
}

/// The elements of a snappy block, without its length in front, and where to write.
#[derive(Debug)]
pub(super) struct Template {
    /// Length of the message.
    message_bytes: usize,
    elements: Box<[u8]>,
    values: Box<[u32]>,
    /// A place, and which byte of the timestamp belongs there.
    timestamps: Box<[(u32, u8)]>,
}

impl Template {
    /// Compresses a message that is shorter than 4 GiB.
    pub(super) fn new(message: &Message) -> Template {
        let mut symbols: Vec<Symbol> = message.bytes.iter().map(|&byte| byte.into()).collect();
        for &at in &message.timestamps {
            for index in 0..TIMESTAMP_BYTES {
                symbols[at + index] = TIMESTAMP + index as Symbol;
            }
        }
        for &at in &message.values {
            symbols[at..at + 8].fill(VALUE_REST);
            symbols[at] = VALUE;
        }
        let mut compressor = Compressor::default();
        compressor.compress(&symbols);
        assert_eq!(compressor.values.len(), message.values.len(), "a value became part of a copy");
        Template {
            message_bytes: symbols.len(),
            elements: compressor.elements.into(),
            values: compressor.values.into(),
            timestamps: compressor.timestamps.into(),
        }
    }

    pub(super) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    pub(super) fn elements_bytes(&self) -> usize {
        self.elements.len()
    }

    /// Memory that it takes, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.elements.len() + size_of_val(&*self.values) + size_of_val(&*self.timestamps)
    }

    /// Appends the elements, the blanks filled.
    ///
    /// # Panics
    /// When there are fewer values than blanks.
    pub(super) fn put(
        &self,
        timestamp: [u8; TIMESTAMP_BYTES],
        mut values: impl Iterator<Item = f64>,
        out: &mut Vec<u8>,
    ) {
        let begin = out.len();
        out.extend_from_slice(&self.elements);
        let elements = &mut out[begin..];
        for &(at, index) in &self.timestamps {
            elements[at as usize] = timestamp[usize::from(index)];
        }
        for &at in &self.values {
            let value = values.next().expect("each blank has a value");
            elements[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
}

#[derive(Default)]
struct Compressor {
    elements: Vec<u8>,
    values: Vec<u32>,
    timestamps: Vec<(u32, u8)>,
}

impl Compressor {
    fn compress(&mut self, symbols: &[Symbol]) {
        let mut table = vec![0u32; 1 << TABLE_BITS];
        let (mut literal_start, mut at) = (0, 0);
        while at + MATCH_MIN <= symbols.len() {
            let found = remember(symbols, at, &mut table);
            let length = match found {
                Some(found) if at - found <= OFFSET_MAX => match_length(symbols, found, at),
                _ => 0,
            };
            let Some(found) = found.filter(|_| length >= MATCH_MIN) else {
                at += 1;
                continue;
            };
            self.put_literal(&symbols[literal_start..at]);
            self.put_copy(at - found, length);
            // A few places of a match are enough to find the next one, at a quarter of the work.
            for position in (at + 1..(at + length).min(symbols.len() - MATCH_MIN)).step_by(4) {
                remember(symbols, position, &mut table);
            }
            at += length;
            literal_start = at;
        }
        self.put_literal(&symbols[literal_start..]);
    }

    fn put_literal(&mut self, symbols: &[Symbol]) {
        // A value is never split: one literal takes up to 16 MiB, far more than lies between two series.
        let Some(last) = symbols.len().checked_sub(1) else { return };
        assert!(last < 1 << 24, "a literal of {} bytes", symbols.len());
        let length = (last as u32).to_le_bytes();
        match last {
            0..60 => self.elements.push((last as u8) << 2),
            60..0x100 => self.elements.extend([60 << 2, length[0]]),
            0x100..0x1_0000 => self.elements.extend([61 << 2, length[0], length[1]]),
            _ => self.elements.extend([62 << 2, length[0], length[1], length[2]]),
        }
        for &symbol in symbols {
            let place = self.elements.len() as u32;
            match symbol {
                0..TIMESTAMP => {}
                TIMESTAMP..VALUE => self.timestamps.push((place, (symbol - TIMESTAMP) as u8)),
                VALUE => self.values.push(place),
                _ => {}
            }
            self.elements.push(symbol as u8);
        }
    }

    fn put_copy(&mut self, offset: usize, mut length: usize) {
        while length > 0 {
            let piece = length.min(64);
            if (4..12).contains(&piece) && offset < 2048 {
                self.elements.push(1 | (piece as u8 - 4) << 2 | ((offset >> 8) as u8) << 5);
                self.elements.push(offset as u8);
            } else {
                self.elements.push(2 | (piece as u8 - 1) << 2);
                self.elements.extend((offset as u16).to_le_bytes());
            }
            length -= piece;
        }
    }
}

/// Puts a place into the table and returns the one that was there.
fn remember(symbols: &[Symbol], at: usize, table: &mut [u32]) -> Option<usize> {
    let slot = (word(symbols, at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_BITS)) as usize;
    // One more than the place, so that 0 means none.
    let before = std::mem::replace(&mut table[slot], at as u32 + 1);
    (before > 0).then(|| before as usize - 1)
}

/// Four symbols as one number.
fn word(symbols: &[Symbol], at: usize) -> u64 {
    let four: [Symbol; MATCH_MIN] = std::array::from_fn(|index| symbols[at..at + MATCH_MIN][index]);
    four.iter().rev().fold(0, |word, &symbol| word << 16 | u64::from(symbol))
}

/// How many symbols are the same at two places, bytes of values apart.
fn match_length(symbols: &[Symbol], found: usize, at: usize) -> usize {
    /// The bit that all four symbols of a value have set.
    const VALUES: u64 = 0x0200_0200_0200_0200;
    let mut length = 0;
    while at + length + MATCH_MIN <= symbols.len() {
        let here = word(symbols, at + length);
        let different = (word(symbols, found + length) ^ here) | here & VALUES;
        if different != 0 {
            return length + different.trailing_zeros() as usize / 16;
        }
        length += MATCH_MIN;
    }
    let rest = symbols[found + length..].iter().zip(&symbols[at + length..]);
    length + rest.take_while(|(before, here)| before == here && **here < VALUE).count()
}

#[cfg(test)]
mod tests {
    use super::super::proto;
    use super::*;
    use proptest::prelude::*;

    fn unpack(template: &Template, timestamp_ms: i64, values: &[f64]) -> Vec<u8> {
        let mut block = Vec::new();
        proto::put_varint(template.message_bytes() as u64, &mut block);
        template.put(proto::timestamp(timestamp_ms), values.iter().copied(), &mut block);
        snap::raw::Decoder::new().decompress_vec(&block).unwrap()
    }

    proptest! {
        #[test]
        fn a_filled_template_is_the_filled_message(
            parts in prop::collection::vec((prop::collection::vec(0u8..3, 0..90), any::<bool>(), any::<bool>()), 0..60),
            seed in any::<u64>(),
            timestamp_ms in proto::TIMESTAMPS_MS,
        ) {
            let mut message = Message::default();
            for (bytes, has_value, has_timestamp) in parts {
                message.bytes.extend(bytes);
                if has_value {
                    message.values.push(message.bytes.len());
                    message.bytes.extend([0; 8]);
                }
                if has_timestamp {
                    message.timestamps.push(message.bytes.len());
                    message.bytes.extend([0; TIMESTAMP_BYTES]);
                }
            }
            let values: Vec<f64> = (0..message.values.len()).map(|index| f64::from_bits(seed ^ index as u64)).collect();
            let template = Template::new(&message);
            let mut expected = message.bytes;
            for (&at, value) in message.values.iter().zip(&values) {
                expected[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            for at in message.timestamps {
                expected[at..at + TIMESTAMP_BYTES].copy_from_slice(&proto::timestamp(timestamp_ms));
            }
            prop_assert_eq!(unpack(&template, timestamp_ms, &values), expected);
        }
    }

    #[test]
    fn text_without_repeats_survives_as_one_long_literal() {
        for words in [10u32, 40, 1000, 30_000] {
            let bytes: Vec<u8> =
                (0..words).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
            let message = Message { bytes: bytes.clone(), ..Message::default() };
            assert_eq!(unpack(&Template::new(&message), 0, &[]), bytes);
        }
    }

    #[test]
    fn a_timestamp_that_repeats_is_written_once() {
        let mut message = Message::default();
        for _ in 0..100 {
            message.bytes.extend(b"some label");
            message.timestamps.push(message.bytes.len());
            message.bytes.extend([0; TIMESTAMP_BYTES]);
        }
        let template = Template::new(&message);
        assert_eq!(template.timestamps.len(), TIMESTAMP_BYTES);
        assert!(template.elements_bytes() < 120, "{}", template.elements_bytes());
    }
}
