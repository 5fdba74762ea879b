//! Reading the region of a ring in pieces.

use super::error::WalError;
use super::frame::{Assembly, BadFrame, Header};
use super::superblock::COPIES;
use crate::rt::{BLOCK_BYTES, DirectFile};

/// Bytes of one read: long ones have locked up kernels, and other tasks are to run in between.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

const PIECE_BLOCKS: u32 = PIECE_BYTES as u32 / BLOCK_BYTES as u32;

/// A piece of the region in memory, moved on as blocks are asked for.
pub(super) struct Window<'a, D: DirectFile> {
    disk: &'a D,
    /// How many blocks the region has.
    blocks: u32,
    first: u32,
    piece: Option<D::Buffer>,
}

impl<'a, D: DirectFile> Window<'a, D> {
    pub fn new(disk: &'a D, blocks: u32) -> Window<'a, D> {
        Window { disk, blocks, first: 0, piece: None }
    }

    /// The bytes of one block.
    pub async fn block(&mut self, block: u32) -> Result<&[u8], WalError> {
        assert!(block < self.blocks, "block {block} is inside the region");
        let held = self.piece.as_ref().map_or(0, |piece| (piece.as_ref().len() / BLOCK_BYTES) as u32);
        if block < self.first || block >= self.first + held {
            let count = PIECE_BLOCKS.min(self.blocks - block);
            self.disk.yield_now().await;
            let read = self.disk.read_at(file_offset(block), count as usize * BLOCK_BYTES).await;
            self.piece = Some(read.map_err(|source| WalError::Io { what: "reading the ring", source })?);
            self.first = block;
        }
        let piece = self.piece.as_ref().expect("a piece was just read, or held the block").as_ref();
        Ok(&piece[(block - self.first) as usize * BLOCK_BYTES..][..BLOCK_BYTES])
    }

    /// Reads the payload of the frame whose header is at `block`. The outer error is the disk's, the inner one the
    /// frame's.
    pub async fn read_frame(
        &mut self,
        block: u32,
        header: Header,
        payload: &mut Vec<u8>,
    ) -> Result<Result<(), BadFrame>, WalError> {
        if header.blocks() > u64::from(self.blocks - block) {
            return Ok(Err(BadFrame::Length));
        }
        let mut assembly = Assembly::start(header, self.block(block).await?, payload);
        for next in block + 1..block + header.blocks() as u32 {
            if let Err(reason) = assembly.push(self.block(next).await?) {
                return Ok(Err(reason));
            }
        }
        Ok(assembly.finish())
    }
}

/// Where a block of the region is in the file.
pub(super) fn file_offset(block: u32) -> u64 {
    (COPIES + u64::from(block)) * BLOCK_BYTES as u64
}
