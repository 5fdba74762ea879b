//! A snappy block made longer at both ends without a look at its elements.
//!
//! Copies reach back by a distance, not to a place, and what is put before the text moves all of it alike: the elements of a
//! block mean the same behind other text, and behind them more may follow. So the body that a sender compressed becomes the
//! message for a peer by two literals, where compressing it again would cost more than all else about that message.

use bytes::Bytes;

/// The encoding of gRPC messages that are one snappy block, which only nodes like this one know: they name it in
/// `grpc-accept-encoding` of their answers.
pub const BLOCK_ENCODING: &str = "annulus-snappy-block";

/// The longest literal whose length its tag has room for.
const TAG_LITERAL_BYTES_MAX: usize = 60;

/// Why a block cannot be made longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// Its head is not the length of the text that it is said to have.
    #[error("the snappy block does not begin with the length {text_bytes}")]
    Length {
        /// What it should begin with.
        text_bytes: usize,
    },
    /// The text would be longer than a block can say.
    #[error("a snappy block cannot have a text of {text_bytes} bytes")]
    TooLarge {
        /// With both ends.
        text_bytes: usize,
    },
}

/// A block in three parts, of which the middle one is that of another block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedBlock {
    /// The length and what was put before.
    pub head: Vec<u8>,
    /// All but the length of the block that was there, in its own memory.
    pub elements: Bytes,
    /// What was put behind.
    pub tail: Vec<u8>,
}

impl ExtendedBlock {
    /// Puts text before and behind that of a block, which has `text_bytes`.
    ///
    /// # Errors
    /// When the block says another length, or has no room for more. Its elements are not looked at.
    pub fn new(
        prefix: &[u8],
        block: &Bytes,
        text_bytes: usize,
        suffix: &[u8],
    ) -> Result<ExtendedBlock, ExtendError> {
        let mut own_length = Vec::with_capacity(5);
        put_varint(&mut own_length, text_bytes as u64);
        if !block.starts_with(&own_length) {
            return Err(ExtendError::Length { text_bytes });
        }
        let whole_bytes = text_bytes.saturating_add(prefix.len()).saturating_add(suffix.len());
        if u32::try_from(whole_bytes).is_err() {
            return Err(ExtendError::TooLarge { text_bytes: whole_bytes });
        }
        let mut head = Vec::with_capacity(10 + prefix.len());
        put_varint(&mut head, whole_bytes as u64);
        put_literal(&mut head, prefix);
        let mut tail = Vec::with_capacity(5 + suffix.len());
        put_literal(&mut tail, suffix);
        Ok(ExtendedBlock { head, elements: block.slice(own_length.len()..), tail })
    }

    /// The length of the block.
    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.elements.len() + self.tail.len()
    }
}

/// Appends a number as protobuf and snappy write it.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends bytes as one literal.
fn put_literal(out: &mut Vec<u8>, bytes: &[u8]) {
    let Some(last) = bytes.len().checked_sub(1) else { return };
    if last < TAG_LITERAL_BYTES_MAX {
        out.push((last as u8) << 2);
    } else {
        let length = (last as u32).to_le_bytes();
        let used = 4 - (last as u32).leading_zeros() as usize / 8;
        out.push(((TAG_LITERAL_BYTES_MAX - 1 + used) as u8) << 2);
        out.extend_from_slice(&length[..used]);
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extended(prefix: &[u8], text: &[u8], suffix: &[u8]) -> Vec<u8> {
        let block = Bytes::from(snap::raw::Encoder::new().compress_vec(text).unwrap());
        let block = ExtendedBlock::new(prefix, &block, text.len(), suffix).unwrap();
        assert_eq!(block.size_bytes(), block.head.len() + block.elements.len() + block.tail.len());
        [&block.head[..], &block.elements, &block.tail].concat()
    }

    #[test]
    fn literals_of_all_lengths_of_their_length_are_read() {
        for bytes in [0, 1, 59, 60, 61, 255, 256, 257, 65535, 65536, 65537, (1 << 24) + 1] {
            let end: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
            let block = extended(&end, b"abcabcabcabcabcabcabc", &end);
            let text = snap::raw::Decoder::new().decompress_vec(&block).unwrap();
            assert!(text == [&end[..], b"abcabcabcabcabcabcabc", &end[..]].concat(), "{bytes}");
        }
    }

    #[test]
    fn a_block_of_another_length_is_refused() {
        let block = Bytes::from(snap::raw::Encoder::new().compress_vec(&[7; 1000]).unwrap());
        for text_bytes in [0, 999, 1001, 104, usize::MAX] {
            assert_eq!(
                ExtendedBlock::new(b"", &block, text_bytes, b""),
                Err(ExtendError::Length { text_bytes })
            );
        }
        assert!(ExtendedBlock::new(b"", &Bytes::new(), 0, b"").is_err());
        let longest = Bytes::from_static(b"\xff\xff\xff\xff\x0f");
        let refused = ExtendedBlock::new(b"a", &longest, u32::MAX as usize, b"");
        assert!(matches!(refused, Err(ExtendError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn an_extended_block_is_read_by_other_implementations_and_ours(
            seed in proptest::collection::vec(any::<u8>(), 0..200), times in 0usize..600,
            prefix in proptest::collection::vec(any::<u8>(), 0..400),
            suffix in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let text = seed.repeat(times);
            let block = extended(&prefix, &text, &suffix);
            let whole = [&prefix[..], &text, &suffix].concat();
            prop_assert_eq!(&snap::raw::Decoder::new().decompress_vec(&block).unwrap(), &whole);
            let (mut step, mut ours) = (crate::wire::Unsnappy::new(&block, whole.len()).unwrap(), Vec::new());
            while !step.run(&block, &mut ours, 1000).unwrap() {}
            prop_assert_eq!(ours, whole);
        }

        #[test]
        fn random_blocks_end_in_a_result(
            block in proptest::collection::vec(any::<u8>(), 0..20), text_bytes in 0usize..300,
        ) {
            let block = Bytes::from(block);
            if let Ok(extended) = ExtendedBlock::new(b"p", &block, text_bytes, b"s") {
                prop_assert!(block.ends_with(&extended.elements));
            }
        }
    }
}
