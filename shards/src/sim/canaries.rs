//! Disks with planted bugs: a simulation that does not find them finds nothing.

use std::cell::Cell;
use std::io;

use super::SimDisk;
use crate::rt::{BLOCK_BYTES, DirectFile};

/// A write is acknowledged before it is done.
pub(super) struct EarlyAcknowledgement {
    disk: SimDisk,
    late: Cell<Option<u64>>,
}

/// Superblocks are not written after the first.
pub(super) struct LostSuperblocks {
    disk: SimDisk,
    written: Cell<u64>,
}

/// A superblock that only raises the limit is acknowledged and not written.
pub(super) struct LostLimits {
    disk: SimDisk,
}

impl EarlyAcknowledgement {
    pub fn new(disk: SimDisk) -> EarlyAcknowledgement {
        EarlyAcknowledgement { disk, late: Cell::new(None) }
    }

    async fn write(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        match self.late.replace(Some(self.disk.start_write(offset, buffer))) {
            Some(late) => self.disk.complete(late),
            None => Ok(()),
        }
    }
}

impl LostSuperblocks {
    pub fn new(disk: SimDisk) -> LostSuperblocks {
        LostSuperblocks { disk, written: Cell::new(0) }
    }

    async fn write(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        if offset < 2 * BLOCK_BYTES as u64 && self.written.replace(self.written.get() + 1) >= 2 {
            return Ok(());
        }
        self.disk.write_at(buffer, offset).await
    }
}

impl LostLimits {
    pub fn new(disk: SimDisk) -> LostLimits {
        LostLimits { disk }
    }

    async fn write(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        // Tail, epoch and fence are as in the newer copy, and this is not that one's second write.
        let number = |copy: &[u8], at| u64::from_le_bytes(copy[at..at + 8].try_into().expect("eight"));
        let only_limit = self.disk.with_bytes_at(0, 2 * BLOCK_BYTES, |copies| {
            let newer = copies.chunks(BLOCK_BYTES).max_by_key(|copy| number(copy, 16)).expect("two copies");
            newer[36..52] == buffer[36..52]
                && newer[64..88] == buffer[64..88]
                && newer[16..24] != buffer[16..24]
        });
        if offset < 2 * BLOCK_BYTES as u64 && only_limit {
            return Ok(());
        }
        self.disk.write_at(buffer, offset).await
    }
}

macro_rules! a_disk_but_for_its_writes {
    ($name:ty) => {
        impl DirectFile for $name {
            type Buffer = Vec<u8>;
            type Read = Vec<u8>;

            fn size_bytes(&self) -> u64 {
                self.disk.size_bytes()
            }

            fn allocate(&self, len: usize) -> Vec<u8> {
                self.disk.allocate(len)
            }

            async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
                self.disk.read_at(offset, len).await
            }

            async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
                self.write(buffer, offset).await
            }

            async fn yield_now(&self) {
                self.disk.yield_now().await;
            }

            async fn close(self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

a_disk_but_for_its_writes!(EarlyAcknowledgement);
a_disk_but_for_its_writes!(LostSuperblocks);
a_disk_but_for_its_writes!(LostLimits);
