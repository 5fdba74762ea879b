//! The superblock: where the needed part of the ring begins, and which frames belong to the ring's history.
//!
//! It is kept twice, and the older copy is always written first, so that one is whole at any time. Space is used again
//! only after both say so, so that either copy alone is enough to recover. Only how far frames may reach is written to
//! one copy, because a commit waits for it: with a copy lost, nobody knows, and the whole ring is searched.

use std::io;

use super::frame::{Header, SEQ_MAX, array};
use crate::rt::{BLOCK_BYTES, DirectFile};

/// The version of the ring's layout.
pub(super) const VERSION: u32 = 1;

/// How many copies there are; frames begin after them.
pub(super) const COPIES: u64 = 2;

const MAGIC: [u8; 8] = *b"annulusW";

/// What both copies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Rises by one with each change; the copy with the higher one counts.
    pub generation: u64,
    /// Length of the ring file.
    pub file_bytes: u64,
    /// Whose ring this is.
    pub shard: u32,
    /// Whether the ring was closed in order: no frame follows `durable_seq`.
    pub clean: bool,
    /// Number of the oldest frame that is needed, or of the next one if none is.
    pub tail_seq: u64,
    /// Block, counted from the first one after the superblocks, where that frame is or will be tried first.
    pub tail_block: u32,
    /// The newest frame that was durable when this was written.
    pub durable_seq: u64,
    /// Where the present epoch begins.
    pub fence: Fence,
    /// No frame of the history lies further than this many blocks, gaps at the region's end included, from the tail;
    /// 0 if nothing is known. It is durable before a frame goes further.
    pub reach_blocks: u64,
}

/// The seam between what an opening found and what was written since.
///
/// It is durable before the first frame of its epoch. After damage, or after a frame that was never acknowledged,
/// frames of an abandoned history may still lie in the ring; the fence keeps them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    /// Number of this opening.
    pub epoch: u64,
    /// The last frame of the history that the opening accepted.
    pub prev_seq: u64,
    /// The number of the first frame that the opening writes. Numbers between the two are void.
    pub seq: u64,
}

impl Fence {
    /// Whether a frame belongs to the ring's history, as far as its numbers tell. A later epoch than this one proves that
    /// the disk has lost the superblocks of an opening whose frames it has.
    pub fn admits(&self, header: &Header) -> bool {
        if header.seq >= self.seq {
            header.epoch >= self.epoch
        } else {
            header.seq <= self.prev_seq && header.epoch < self.epoch
        }
    }

    /// A number, or the last real one before it if it is void.
    pub fn settle(&self, seq: u64) -> u64 {
        if seq > self.prev_seq && seq < self.seq { self.prev_seq } else { seq }
    }
}

/// What a copy on the disk is.
#[derive(Debug)]
pub(super) enum Copy {
    /// Whole.
    Valid(Superblock),
    /// Whole, but of a newer version.
    Newer(u32),
    /// Blank, torn or damaged.
    Invalid,
}

impl Superblock {
    fn bytes(&self, block: &mut [u8]) {
        block.fill(0);
        block[0..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.generation.to_le_bytes());
        block[24..32].copy_from_slice(&self.file_bytes.to_le_bytes());
        block[32..36].copy_from_slice(&self.shard.to_le_bytes());
        block[36..40].copy_from_slice(&u32::from(self.clean).to_le_bytes());
        block[40..48].copy_from_slice(&self.tail_seq.to_le_bytes());
        block[48..52].copy_from_slice(&self.tail_block.to_le_bytes());
        block[56..64].copy_from_slice(&self.durable_seq.to_le_bytes());
        block[64..72].copy_from_slice(&self.fence.epoch.to_le_bytes());
        block[72..80].copy_from_slice(&self.fence.prev_seq.to_le_bytes());
        block[80..88].copy_from_slice(&self.fence.seq.to_le_bytes());
        block[88..96].copy_from_slice(&self.reach_blocks.to_le_bytes());
        let crc = crc32c::crc32c(block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    fn parse(block: &[u8]) -> Copy {
        // The checksum is taken with its own field zero, over the whole block.
        let crc =
            crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &[0; 4]), &block[16..]);
        if array(block, 0) != MAGIC || u32::from_le_bytes(array(block, 12)) != crc {
            return Copy::Invalid;
        }
        let version = u32::from_le_bytes(array(block, 8));
        if version != VERSION {
            return Copy::Newer(version);
        }
        let number = |at: usize| u64::from_le_bytes(array(block, at));
        let superblock = Superblock {
            generation: number(16),
            file_bytes: number(24),
            shard: u32::from_le_bytes(array(block, 32)),
            clean: u32::from_le_bytes(array(block, 36)) != 0,
            tail_seq: number(40),
            tail_block: u32::from_le_bytes(array(block, 48)),
            durable_seq: number(56),
            fence: Fence { epoch: number(64), prev_seq: number(72), seq: number(80) },
            reach_blocks: number(88),
        };
        if superblock.is_possible() { Copy::Valid(superblock) } else { Copy::Invalid }
    }

    /// Whether a writer can have written these numbers; a start must not panic over a file.
    fn is_possible(&self) -> bool {
        let Superblock { generation, tail_seq, durable_seq, fence, reach_blocks, .. } = *self;
        let numbers = [generation, tail_seq, durable_seq, fence.epoch, fence.seq, reach_blocks];
        numbers.into_iter().all(|number| number <= SEQ_MAX)
            && self.tail_seq > 0
            && self.fence.prev_seq < self.fence.seq
            && u64::from(self.tail_block) < self.region_blocks()
    }

    /// How many blocks the region has.
    pub fn region_blocks(&self) -> u64 {
        (self.file_bytes / BLOCK_BYTES as u64).saturating_sub(COPIES)
    }

    /// Writes both copies; `newest` says which one holds the present state and is therefore written last.
    pub async fn write(&self, disk: &impl DirectFile, newest: u64) -> io::Result<()> {
        self.write_copy(disk, 1 - newest).await?;
        self.write_copy(disk, newest).await
    }

    /// Writes one copy, which must be the older one.
    pub async fn write_copy(&self, disk: &impl DirectFile, copy: u64) -> io::Result<()> {
        let mut buffer = disk.allocate(BLOCK_BYTES);
        self.bytes(buffer.as_mut());
        disk.write_at(buffer, copy * BLOCK_BYTES as u64).await
    }
}

/// Reads both copies.
pub(super) async fn read(disk: &impl DirectFile) -> io::Result<[Copy; COPIES as usize]> {
    let buffer = disk.read_at(0, COPIES as usize * BLOCK_BYTES).await?;
    let (first, second) = buffer.as_ref().split_at(BLOCK_BYTES);
    Ok([Superblock::parse(first), Superblock::parse(second)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            generation: 3,
            file_bytes: 1 << 20,
            shard: 5,
            clean: true,
            tail_seq: 17,
            tail_block: 9,
            durable_seq: 20,
            fence: Fence { epoch: 4, prev_seq: 10, seq: 15 },
            reach_blocks: 77,
        }
    }

    #[test]
    fn a_copy_reads_back_and_any_changed_byte_makes_it_invalid() {
        let mut block = vec![0; BLOCK_BYTES];
        sample().bytes(&mut block);
        assert!(matches!(Superblock::parse(&block), Copy::Valid(read) if read == sample()));
        for at in 0..BLOCK_BYTES {
            block[at] ^= 0x10;
            assert!(matches!(Superblock::parse(&block), Copy::Invalid), "byte {at}");
            block[at] ^= 0x10;
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut block = vec![0; BLOCK_BYTES];
        sample().bytes(&mut block);
        block[8] = 2;
        block[12..16].fill(0);
        let crc = crc32c::crc32c(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Superblock::parse(&block), Copy::Newer(2)));
    }

    #[test]
    fn the_fence_keeps_abandoned_frames_out() {
        let fence = sample().fence;
        let header = |seq, epoch| Header { epoch, ..Header::new(seq, seq - 1, 0, 5, b"") };
        for (seq, epoch, admitted) in [
            (10, 3, true),
            (10, 4, false),
            (11, 3, false),
            (14, 4, false),
            (15, 4, true),
            (15, 3, false),
            (15, 5, true),
        ] {
            assert_eq!(fence.admits(&header(seq, epoch)), admitted, "{seq} of epoch {epoch}");
        }
        assert_eq!([9, 10, 11, 14, 15].map(|seq| fence.settle(seq)), [9, 10, 10, 10, 15]);
    }
}
