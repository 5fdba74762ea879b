//! Reading the region of a ring block by block, mostly onwards.

use super::error::WalError;
use super::frame::{Assembly, BadFrame, Header};
use super::read_ahead::{PIECE_BYTES, ReadAhead};
use super::superblock::COPIES;
use crate::rt::{BLOCK_BYTES, DirectFile};

const PIECE_BLOCKS: u64 = PIECE_BYTES / BLOCK_BYTES as u64;

/// A piece of the region in memory, moved on as blocks are asked for.
pub(super) struct Window<'a, D: DirectFile> {
    disk: &'a D,
    /// How many blocks the region has.
    blocks: u64,
    ahead: ReadAhead<'a, D>,
    /// The first block of the piece.
    first: u64,
    piece: Option<D::Read>,
}

impl<'a, D: DirectFile> Window<'a, D> {
    pub fn new(disk: &'a D, blocks: u64) -> Window<'a, D> {
        Window { disk, blocks, ahead: ReadAhead::new(disk, 0, 0), first: 0, piece: None }
    }

    /// The bytes of the block at a position; see [`file_offset`].
    pub async fn block(&mut self, position: u64) -> Result<&[u8], WalError> {
        let block = position % self.blocks;
        let held = self.piece.as_ref().map_or(0, |piece| piece.as_ref().len() / BLOCK_BYTES) as u64;
        if !(self.first..self.first + held).contains(&block) {
            let next = self.first + held;
            let onwards = held > 0 && (next..next + PIECE_BLOCKS).contains(&block);
            self.first = if onwards { next } else { block };
            if !onwards {
                let begin = file_offset(self.first, self.blocks);
                self.ahead = ReadAhead::new(self.disk, begin, self.disk.size_bytes());
            }
            let read = self.ahead.next().await;
            self.piece = read.map_err(|source| WalError::Io { what: "reading the ring", source })?;
        }
        let piece = self.piece.as_ref().expect("the region goes on at least to this block").as_ref();
        Ok(&piece[(block - self.first) as usize * BLOCK_BYTES..][..BLOCK_BYTES])
    }

    /// Reads the payload of the frame whose header is at `position`. The outer error is the disk's, the inner one the
    /// frame's.
    pub async fn read_frame(
        &mut self,
        position: u64,
        header: Header,
        payload: &mut Vec<u8>,
    ) -> Result<Result<(), BadFrame>, WalError> {
        if header.blocks() > self.blocks - position % self.blocks {
            return Ok(Err(BadFrame::Length));
        }
        let mut assembly = Assembly::start(header, self.block(position).await?, payload);
        for next in position + 1..position + header.blocks() {
            if let Err(reason) = assembly.push(self.block(next).await?) {
                return Ok(Err(reason));
            }
        }
        Ok(assembly.finish())
    }
}

/// Where the block at a position is in the file. Positions go on from lap to lap: a lap later is the same block, and of
/// two positions in the history the higher one is the later.
pub(super) fn file_offset(position: u64, blocks: u64) -> u64 {
    (COPIES + position % blocks) * BLOCK_BYTES as u64
}
