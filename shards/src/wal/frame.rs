//! One frame of the ring: a header, the payload, zeros up to the next block.
//!
//! Each block of a frame begins with a tag, and payload bytes never lie where a tag could be. So a block that
//! is found anywhere in the ring says by itself whether a frame begins there, and a sender cannot plant a frame
//! inside a label value.

use crate::rt::BLOCK_BYTES;

/// The version of the frame's layout.
const VERSION: u16 = 1;

/// Bytes before the payload in a frame's first block.
const HEADER_BYTES: usize = 48;

/// How the first block of a frame begins. No change of a single byte turns it into the other tag or into zeros.
const FIRST_TAG: [u8; 4] = *b"AnWF";

/// How each further block of a frame begins.
const NEXT_TAG: [u8; 4] = *b"cont";

const FIRST_PAYLOAD_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;
const NEXT_PAYLOAD_BYTES: usize = BLOCK_BYTES - NEXT_TAG.len();

/// A number that no ring reaches. Larger ones never come from a writer, and calculations with them could overflow.
pub(super) const SEQ_MAX: u64 = 1 << 62;

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of this frame; it only rises.
    pub seq: u64,
    /// Number of the frame before it: one less, except where damage was left behind.
    pub prev_seq: u64,
    /// Which opening of the ring wrote it.
    pub epoch: u64,
    /// Whose ring it belongs to.
    pub shard: u32,
    /// Length of the payload.
    pub payload_len: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

/// What is wrong with a frame on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The block is neither empty nor the beginning of a frame nor the inside of one.
    #[error("the block is not one that a log writes")]
    Unknown,
    /// The header's checksum does not match, or its numbers are impossible.
    #[error("the frame's header is damaged")]
    Header,
    /// The length leads past the end of the ring.
    #[error("the frame's length leads past the end of the ring")]
    Length,
    /// A block inside the frame belongs to something else.
    #[error("a block inside the frame belongs to something else")]
    Block,
    /// The payload's checksum does not match.
    #[error("the checksum of the frame's payload does not match")]
    Payload,
    /// The place holds nothing of the frame that must have been there.
    #[error("nothing is left of the frame")]
    Gone,
}

/// What a block looks like from its first bytes.
pub(super) enum BlockKind {
    /// Never written.
    Blank,
    /// A frame begins here.
    First(Header),
    /// The inside of a frame.
    Next,
    /// A frame of a newer version begins here.
    Newer(u16),
    /// Nothing that was written in one piece.
    Bad(BadFrame),
}

/// What a payload takes in the ring.
pub fn frame_bytes(payload_len: usize) -> u64 {
    frame_blocks(payload_len) * BLOCK_BYTES as u64
}

/// The same in blocks.
pub(super) fn frame_blocks(payload_len: usize) -> u64 {
    1 + payload_len.saturating_sub(FIRST_PAYLOAD_BYTES).div_ceil(NEXT_PAYLOAD_BYTES) as u64
}

impl Header {
    /// Describes a payload that is about to be written.
    pub fn new(seq: u64, prev_seq: u64, epoch: u64, shard: u32, payload: &[u8]) -> Header {
        let payload_len =
            u32::try_from(payload.len()).expect("a payload that fits the ring has a 32-bit length");
        Header { seq, prev_seq, epoch, shard, payload_len, payload_crc: crc32c::crc32c(payload) }
    }

    /// How many blocks the frame has.
    pub fn blocks(&self) -> u64 {
        frame_blocks(self.payload_len as usize)
    }

    /// Writes the frame into a buffer of exactly its size, padding included.
    pub fn write_frame(&self, payload: &[u8], buffer: &mut [u8]) {
        assert_eq!(
            buffer.len() as u64,
            self.blocks() * BLOCK_BYTES as u64,
            "the buffer has the frame's size"
        );
        let (first, rest) = buffer.split_at_mut(BLOCK_BYTES);
        first[..HEADER_BYTES].copy_from_slice(&self.bytes());
        let mut left = copy_and_pad(payload, &mut first[HEADER_BYTES..]);
        for block in rest.chunks_exact_mut(BLOCK_BYTES) {
            block[..NEXT_TAG.len()].copy_from_slice(&NEXT_TAG);
            left = copy_and_pad(left, &mut block[NEXT_TAG.len()..]);
        }
        assert!(left.is_empty(), "the whole payload is in the frame");
    }

    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&FIRST_TAG);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.prev_seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.shard.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

fn copy_and_pad<'a>(payload: &'a [u8], space: &mut [u8]) -> &'a [u8] {
    let (part, left) = payload.split_at(payload.len().min(space.len()));
    space[..part.len()].copy_from_slice(part);
    space[part.len()..].fill(0);
    left
}

/// Looks at a block of the ring.
pub(super) fn inspect(block: &[u8]) -> BlockKind {
    let tag = array::<4>(block, 0);
    if tag == [0; 4] {
        return BlockKind::Blank;
    }
    if tag == NEXT_TAG {
        return BlockKind::Next;
    }
    if tag != FIRST_TAG {
        return BlockKind::Bad(BadFrame::Unknown);
    }
    if u32::from_le_bytes(array(block, 44)) != crc32c::crc32c(&block[..44]) {
        return BlockKind::Bad(BadFrame::Header);
    }
    let version = u16::from_le_bytes(array(block, 4));
    if version != VERSION {
        return BlockKind::Newer(version);
    }
    let header = Header {
        seq: u64::from_le_bytes(array(block, 8)),
        prev_seq: u64::from_le_bytes(array(block, 16)),
        epoch: u64::from_le_bytes(array(block, 24)),
        shard: u32::from_le_bytes(array(block, 32)),
        payload_len: u32::from_le_bytes(array(block, 36)),
        payload_crc: u32::from_le_bytes(array(block, 40)),
    };
    if header.prev_seq >= header.seq || header.seq > SEQ_MAX {
        return BlockKind::Bad(BadFrame::Header);
    }
    BlockKind::First(header)
}

/// Puts a payload together from the blocks of its frame, in order.
pub(super) struct Assembly<'a> {
    header: Header,
    payload: &'a mut Vec<u8>,
}

impl<'a> Assembly<'a> {
    /// Starts with the frame's first block; `payload` is memory to use again.
    pub fn start(header: Header, first: &[u8], payload: &'a mut Vec<u8>) -> Assembly<'a> {
        payload.clear();
        let mut assembly = Assembly { header, payload };
        assembly.take(&first[HEADER_BYTES..]);
        assembly
    }

    /// Adds the next block.
    pub fn push(&mut self, block: &[u8]) -> Result<(), BadFrame> {
        if array::<4>(block, 0) != NEXT_TAG {
            return Err(BadFrame::Block);
        }
        self.take(&block[NEXT_TAG.len()..]);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        let wanted = self.header.payload_len as usize - self.payload.len();
        self.payload.extend_from_slice(&bytes[..wanted.min(bytes.len())]);
    }

    /// Checks the payload after the last block.
    pub fn finish(self) -> Result<(), BadFrame> {
        let whole = self.payload.len() == self.header.payload_len as usize;
        if whole && crc32c::crc32c(self.payload) == self.header.payload_crc {
            Ok(())
        } else {
            Err(BadFrame::Payload)
        }
    }
}

/// `N` bytes of a block, which is always long enough for the fixed places that are read.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("a block has room for every fixed field")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(buffer: &[u8]) -> Result<Vec<u8>, BadFrame> {
        let BlockKind::First(header) = inspect(buffer) else { return Err(BadFrame::Header) };
        let mut payload = Vec::new();
        let mut blocks = buffer.chunks(BLOCK_BYTES);
        let mut assembly = Assembly::start(header, blocks.next().unwrap(), &mut payload);
        for block in blocks {
            assembly.push(block)?;
        }
        assembly.finish()?;
        Ok(payload)
    }

    fn written(payload: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0xee; frame_bytes(payload.len()) as usize];
        Header::new(7, 6, 2, 1, payload).write_frame(payload, &mut buffer);
        buffer
    }

    #[test]
    fn sizes_change_where_a_block_is_full() {
        for (len, blocks) in [(0, 1), (4048, 1), (4049, 2), (4048 + 4092, 2), (4048 + 4092 + 1, 3)] {
            assert_eq!(frame_blocks(len), blocks, "{len}");
            let payload = vec![9; len];
            assert_eq!(read(&written(&payload)), Ok(payload));
        }
    }

    #[test]
    fn a_payload_cannot_look_like_a_frame() {
        let planted = written(b"planted");
        for shift in 0..BLOCK_BYTES {
            let mut payload = vec![1; shift];
            payload.extend_from_slice(&planted[..64]);
            payload.resize(3 * BLOCK_BYTES, 1);
            for block in written(&payload).chunks(BLOCK_BYTES).skip(1) {
                assert!(matches!(inspect(block), BlockKind::Next));
            }
        }
    }

    proptest! {
        #[test]
        fn any_change_outside_the_padding_is_found(
            payload in proptest::collection::vec(any::<u8>(), 0..10_000),
            at in any::<proptest::sample::Index>(),
            flip in 1u8..,
        ) {
            let mut buffer = written(&payload);
            let at = at.index(buffer.len());
            buffer[at] ^= flip;
            let blocks_before = (at / BLOCK_BYTES).saturating_sub(1) * NEXT_PAYLOAD_BYTES;
            let in_padding = match at / BLOCK_BYTES {
                0 => at >= HEADER_BYTES + payload.len(),
                _ => at % BLOCK_BYTES >= NEXT_TAG.len()
                    && FIRST_PAYLOAD_BYTES + blocks_before + at % BLOCK_BYTES - NEXT_TAG.len() >= payload.len(),
            };
            if in_padding {
                prop_assert_eq!(read(&buffer), Ok(payload));
            } else {
                prop_assert!(read(&buffer).is_err());
            }
        }
    }
}
