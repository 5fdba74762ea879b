//! Bits in the order of Prometheus' bit streams: most significant first.

/// Takes bits.
pub trait PutBits {
    /// Appends the low `count` bits of `value` (at most 64).
    fn put(&mut self, value: u64, count: u32);
}

/// The bits after the last whole word of a stream: at the top of a word, which is written when it is full.
///
/// A stream that rests between two samples so is not looked at when the next one comes: its memory is only written to,
/// once in a word.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tail {
    word: u64,
    /// How many bits there are, below 64; the others are 0.
    count: u8,
}

impl Tail {
    /// The bytes of a stream after its first whole words, with `free` unused bits in the last one.
    pub fn of(bytes: &[u8], free: u8) -> Tail {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let count = (8 * bytes.len()) as u8 - free;
        let used = !u64::MAX.checked_shr(count.into()).unwrap_or(0);
        Tail { word: u64::from_be_bytes(word) & used, count }
    }

    /// The bytes that hold the bits.
    pub fn byte_count(self) -> usize {
        usize::from(self.count.div_ceil(8))
    }

    /// Writes them.
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.word.to_be_bytes()[..self.byte_count()]);
    }
}

/// Appends bits to whole words and the tail behind them.
#[derive(Debug)]
pub struct WordWriter<'a> {
    words: &'a mut Vec<u8>,
    tail: Tail,
    grown: usize,
}

impl<'a> WordWriter<'a> {
    /// Continues a stream.
    #[inline]
    pub fn new(words: &'a mut Vec<u8>, tail: Tail) -> WordWriter<'a> {
        WordWriter { words, tail, grown: 0 }
    }

    /// What is behind the words now, and by how many bytes they grew.
    #[inline]
    pub fn finish(self) -> (Tail, usize) {
        (self.tail, self.grown)
    }
}

impl PutBits for WordWriter<'_> {
    #[inline]
    fn put(&mut self, value: u64, count: u32) {
        let value = if count < 64 { value & ((1 << count) - 1) } else { value };
        let free = 64 - u32::from(self.tail.count);
        if count < free {
            self.tail.word |= value << (free - count);
            self.tail.count += count as u8;
            return;
        }
        let rest = count - free;
        self.words.extend_from_slice(&(self.tail.word | value >> rest).to_be_bytes());
        self.grown += 8;
        let word = if rest == 0 { 0 } else { value << (64 - rest) };
        self.tail = Tail { word, count: rest as u8 };
    }
}

/// Appends bits to bytes: they gather in a register, and reach the bytes in one piece at the end.
#[derive(Debug)]
pub struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// Bits that are not in `bytes` yet, at the low end.
    pending: u128,
    /// How many of them.
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// Continues a stream whose last byte has `free` unused bits (0 to 7).
    #[inline]
    pub fn new(bytes: &'a mut Vec<u8>, free: u8) -> BitWriter<'a> {
        let mut writer = BitWriter { bytes, pending: 0, count: 0 };
        if free > 0 {
            let last = writer.bytes.pop().expect("unused bits belong to a last byte");
            writer.pending = u128::from(last >> free);
            writer.count = 8 - u32::from(free);
        }
        writer
    }

    /// Writes what is pending, and returns how many bits of the last byte are unused, to continue later.
    #[inline]
    pub fn finish(self) -> u8 {
        if self.count == 0 {
            return 0;
        }
        let aligned = (self.pending << (128 - self.count)).to_be_bytes();
        self.bytes.extend_from_slice(&aligned[..self.count.div_ceil(8) as usize]);
        (self.count.wrapping_neg() % 8) as u8
    }

    #[cold]
    fn flush_whole_bytes(&mut self) {
        let rest = self.count % 8;
        let whole = self.count - rest;
        if whole > 0 {
            let aligned = (self.pending >> rest << (128 - whole)).to_be_bytes();
            self.bytes.extend_from_slice(&aligned[..whole as usize / 8]);
        }
        self.pending &= (1 << rest) - 1;
        self.count = rest;
    }
}

impl PutBits for BitWriter<'_> {
    #[inline]
    fn put(&mut self, value: u64, count: u32) {
        if self.count + count > 128 {
            self.flush_whole_bytes();
        }
        let value = if count < 64 { value & ((1 << count) - 1) } else { value };
        self.pending = self.pending << count | u128::from(value);
        self.count += count;
    }
}

/// Reads bits through a 64-bit window.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    rest: &'a [u8],
    /// Bits not handed out yet, at the top.
    window: u64,
    /// How many of them.
    count: u32,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { rest: bytes, window: 0, count: 0 }
    }

    /// Tops the window up to at least 57 bits, or to all that is left.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.rest.first_chunk::<8>() {
            let taken = (64 - self.count) / 8;
            if taken == 0 {
                return;
            }
            self.window |= u64::from_be_bytes(*word) >> self.count;
            self.count += taken * 8;
            // Bits of the byte that was only partly taken must not stay below `count`.
            if self.count < 64 {
                self.window &= !(u64::MAX >> self.count);
            }
            self.rest = &self.rest[taken as usize..];
        } else {
            while self.count <= 56 {
                let Some((byte, rest)) = self.rest.split_first() else { return };
                self.window |= u64::from(*byte) << (56 - self.count);
                self.count += 8;
                self.rest = rest;
            }
        }
    }

    /// The next `count` bits (1 to 64), or `None` when fewer are left.
    #[inline]
    pub fn take(&mut self, count: u32) -> Option<u64> {
        if count > self.count {
            self.refill();
            if count > self.count {
                return self.take_long(count);
            }
        }
        let value = self.window >> (64 - count);
        self.consume(count);
        Some(value)
    }

    /// More bits than the window could be filled to: two halves.
    #[cold]
    fn take_long(&mut self, count: u32) -> Option<u64> {
        if count <= 32 || self.count < 32 {
            return None;
        }
        let high_count = count - 32;
        let before = self.clone();
        let high = self.take(high_count)?;
        match self.take(32) {
            Some(low) => Some(high << 32 | low),
            None => {
                *self = before;
                None
            }
        }
    }

    /// Bits that were not taken yet.
    pub fn bits_left(&self) -> usize {
        self.count as usize + 8 * self.rest.len()
    }

    #[inline]
    fn consume(&mut self, count: u32) {
        self.window = if count == 64 { 0 } else { self.window << count };
        self.count -= count;
    }

    /// Counts the one-bits before the next zero, at most `max`; the zero that ends them is consumed too.
    #[inline]
    pub fn take_ones(&mut self, max: u32) -> Option<u32> {
        if self.count < max {
            self.refill();
        }
        let ones = (!self.window).leading_zeros().min(max);
        let used = if ones == max { max } else { ones + 1 };
        if used > self.count {
            return None;
        }
        self.consume(used);
        Some(ones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back_in_order(parts in proptest::collection::vec((any::<u64>(), 1u32..=64), 0..60)) {
            let (mut bytes, mut free) = (Vec::new(), 0);
            for (value, count) in &parts {
                let mut writer = BitWriter::new(&mut bytes, free);
                writer.put(*value, *count);
                free = writer.finish();
            }
            let total: u32 = parts.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(bytes.len() as u32, total.div_ceil(8));
            let mut at_once = Vec::new();
            let mut writer = BitWriter::new(&mut at_once, 0);
            for (value, count) in &parts {
                writer.put(*value, *count);
            }
            prop_assert_eq!(writer.finish(), free);
            prop_assert_eq!(&at_once, &bytes);
            let (mut words, mut tail) = (Vec::new(), Tail::default());
            for (value, count) in &parts {
                let mut writer = WordWriter::new(&mut words, tail);
                writer.put(*value, *count);
                (tail, _) = writer.finish();
            }
            prop_assert_eq!(words.len(), total as usize / 64 * 8);
            let again = Tail::of(&bytes[words.len()..], free);
            prop_assert_eq!((tail.word, tail.count), (again.word, again.count));
            tail.write_to(&mut words);
            prop_assert_eq!(&words, &bytes);
            let mut reader = BitReader::new(&bytes);
            for (value, count) in &parts {
                let expected = value & (u64::MAX >> (64 - count));
                prop_assert_eq!(reader.take(*count), Some(expected));
            }
            prop_assert_eq!(reader.take(8), None);
        }

        #[test]
        fn ones_are_counted_up_to_the_maximum(ones in 0u32..10, max in 1u32..6, lead in 0u32..80) {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes, 0);
            for _ in 0..lead {
                writer.put(1, 1);
            }
            writer.put((1 << ones) - 1, ones);
            writer.put(0, 1);
            writer.finish();
            let mut reader = BitReader::new(&bytes);
            for _ in 0..lead {
                prop_assert_eq!(reader.take(1), Some(1));
            }
            prop_assert_eq!(reader.take_ones(max), Some(ones.min(max)));
        }
    }
}
