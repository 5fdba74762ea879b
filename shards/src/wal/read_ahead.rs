//! Reading a part of a file front to back, with the next pieces on their way.

use std::io;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesOrdered;

use crate::rt::DirectFile;

/// Bytes of one read: long ones have locked up kernels, and other tasks are to run in between.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// Reads that are under way at once. One at a time leaves a fast disk idle for half of the time.
const IN_FLIGHT: usize = 4;

/// The pieces of a part of a file, in order.
pub(super) struct ReadAhead<'a, D: DirectFile> {
    disk: &'a D,
    /// Where the next read begins.
    offset: u64,
    end: u64,
    reads: FuturesOrdered<LocalBoxFuture<'a, io::Result<D::Read>>>,
}

impl<'a, D: DirectFile> ReadAhead<'a, D> {
    /// Nothing is read before the first piece is asked for.
    pub fn new(disk: &'a D, begin: u64, end: u64) -> ReadAhead<'a, D> {
        ReadAhead { disk, offset: begin, end, reads: FuturesOrdered::new() }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> io::Result<Option<D::Read>> {
        while self.reads.len() < IN_FLIGHT && self.offset < self.end {
            let len = PIECE_BYTES.min(self.end - self.offset);
            self.reads.push_back(Box::pin(self.disk.read_at(self.offset, len as usize)));
            self.offset += len;
        }
        self.disk.yield_now().await;
        self.reads.next().await.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Random, SimDisk, run_to_end};

    #[test]
    fn pieces_come_in_order_and_end_where_the_part_ends() {
        let piece = PIECE_BYTES as usize;
        let bytes: Vec<u8> = (0..7 * piece).map(|at| (at / 4096) as u8).collect();
        let disk = SimDisk::with_bytes(Random::new(4), bytes.clone());
        let mut ahead = ReadAhead::new(&disk, 4096, (6 * piece + 8192) as u64);
        let mut read = Vec::new();
        while let Some(piece) = run_to_end(ahead.next()).unwrap() {
            read.extend_from_slice(&piece);
        }
        assert!(read == bytes[4096..6 * piece + 8192]);
        assert!(run_to_end(ReadAhead::new(&disk, 4096, 4096).next()).unwrap().is_none());
    }
}
