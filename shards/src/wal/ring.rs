//! The ring: where the next frame goes, what is durable, what may be overwritten.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use super::checkpoint::Covered;
use super::damage;
use super::error::{CommitError, RING_BYTES_MIN, ReleaseError, WalError};
use super::frame::{Header, frame_blocks, frame_bytes};
use super::recovery::{self, Recovery};
use super::superblock::{self, COPIES, Copy, Fence, Superblock, VERSION};
use super::window::{PIECE_BYTES, file_offset};
use crate::rt::{BLOCK_BYTES, DirectFile, Directory};

/// The log of one shard, open for writing.
///
/// Shared by the tasks of one executor: one of them commits, one releases, all may ask. Its state is in cells
/// that are never borrowed while a write is awaited.
pub struct Wal<D: DirectFile> {
    disk: D,
    /// Blocks of the region after the superblocks.
    blocks: u32,
    /// The frames that a recovery would need, oldest first; the one being written is the last.
    live: RefCell<VecDeque<Live>>,
    /// Number of the last frame before the next one.
    prev_seq: Cell<u64>,
    next_seq: Cell<u64>,
    /// Where the next frame is tried first; always inside the region.
    next_block: Cell<u32>,
    durable_seq: Cell<u64>,
    superblock: Cell<Superblock>,
    poisoned: Cell<bool>,
    committing: Cell<bool>,
    releasing: Cell<bool>,
}

/// Where a frame begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub seq: u64,
    pub block: u32,
}

impl<D: DirectFile> Wal<D> {
    /// Opens a ring, hands every frame that `covered` does not cover to `visit`, and makes it ready for writing.
    /// A file of zeros is a new ring.
    ///
    /// Frames that cannot be read any more are copied into a file of `directory` before anything is written.
    ///
    /// # Errors
    /// When the file is not this shard's ring, when the disk fails, or when `visit` does. Damage to frames is not
    /// an error: the shard starts with what is left, and [`Recovery`] says what is missing.
    pub async fn open<F, E>(
        disk: D,
        directory: &impl Directory,
        shard: u32,
        covered: Option<Covered>,
        visit: F,
    ) -> Result<(Wal<D>, Recovery), WalError>
    where
        F: FnMut(u64, &[u8]) -> Result<(), E>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let io = |what| move |source| WalError::Io { what, source };
        let (old, newest) = read_superblock(&disk, shard).await?;
        let mut recovered = recovery::recover(&disk, &old, covered, visit).await?;
        let epoch = old.fence.epoch + 1;
        recovered.recovery.epoch = epoch;
        for found in recovered.recovery.damage.iter_mut().filter(|found| found.lost.is_some()) {
            let copied = damage::set_aside(&disk, directory, epoch, shard, found).await;
            found.set_aside = Some(copied.map_err(io("copying the damaged part of the WAL"))?);
        }
        recovered.recovery.set_aside =
            damage::list(directory).await.map_err(io("listing what was set aside of the WAL"))?;
        if let Some(last) = recovered.live.last() {
            rewrite(&disk, last.block, recovered.next_block)
                .await
                .map_err(io("writing the last frame again"))?;
        }
        let superblock = Superblock {
            generation: old.generation + 1,
            clean: false,
            tail_seq: recovered.live.first().map_or(recovered.next_seq, |live| live.seq),
            tail_block: recovered.live.first().map_or(recovered.next_block, |live| live.block),
            durable_seq: recovered.last_seq,
            fence: Fence { epoch, prev_seq: recovered.last_seq, seq: recovered.next_seq },
            ..old
        };
        superblock.write(&disk, newest).await.map_err(io("writing the superblock of the WAL"))?;

        let wal = Wal {
            blocks: (superblock.file_bytes / BLOCK_BYTES as u64 - COPIES) as u32,
            disk,
            live: RefCell::new(recovered.live.into()),
            prev_seq: Cell::new(recovered.last_seq),
            next_seq: Cell::new(recovered.next_seq),
            next_block: Cell::new(recovered.next_block),
            durable_seq: Cell::new(recovered.next_seq - 1),
            superblock: Cell::new(superblock),
            poisoned: Cell::new(false),
            committing: Cell::new(false),
            releasing: Cell::new(false),
        };
        Ok((wal, recovered.recovery))
    }

    /// Writes one frame and returns its sequence number once it is durable.
    ///
    /// # Errors
    /// A full ring leaves everything as it was. A failed write, like a dropped future of this function, poisons the
    /// log for good: what is on the disk is unknown until the next recovery.
    ///
    /// # Panics
    /// When two commits run at once.
    pub async fn commit(&self, payload: &[u8]) -> Result<u64, CommitError> {
        if self.poisoned.get() {
            return Err(CommitError::Poisoned);
        }
        let block = self.place(payload.len())?;
        let attempt = Attempt::start(&self.committing, &self.poisoned);
        let seq = self.next_seq.get();
        let epoch = self.superblock.get().fence.epoch;
        let header = Header::new(seq, self.prev_seq.get(), epoch, self.superblock.get().shard, payload);
        let mut buffer = self.disk.allocate(frame_bytes(payload.len()) as usize);
        header.write_frame(payload, buffer.as_mut());

        self.live.borrow_mut().push_back(Live { seq, block });
        self.prev_seq.set(seq);
        self.next_seq.set(seq + 1);
        self.next_block.set((block + header.blocks() as u32) % self.blocks);
        self.disk.write_at(buffer, file_offset(block)).await.map_err(CommitError::Io)?;
        attempt.succeed();
        self.durable_seq.set(seq);
        Ok(seq)
    }

    /// Says that frames below `below_seq` are not needed any more; their space is free when this returns.
    ///
    /// # Errors
    /// A failed write poisons the log, as in [`Wal::commit`].
    ///
    /// # Panics
    /// When two releases run at once, or when a frame that is not durable would be released.
    pub async fn release(&self, below_seq: u64) -> Result<(), ReleaseError> {
        if self.poisoned.get() {
            return Err(ReleaseError::Poisoned);
        }
        assert!(below_seq <= self.durable_seq.get() + 1, "only frames that are durable are released");
        let next = Live { seq: self.next_seq.get(), block: self.next_block.get() };
        let tail = {
            let live = self.live.borrow();
            live.get(live.partition_point(|live| live.seq < below_seq)).copied().unwrap_or(next)
        };
        let old = self.superblock.get();
        if tail.seq <= old.tail_seq {
            return Ok(());
        }
        let attempt = Attempt::start(&self.releasing, &self.poisoned);
        let superblock = Superblock {
            generation: old.generation + 1,
            tail_seq: tail.seq,
            tail_block: tail.block,
            durable_seq: self.durable_seq.get(),
            ..old
        };
        // Both copies were the same before, so either may be the one that is written first.
        superblock.write(&self.disk, 0).await.map_err(ReleaseError::Io)?;
        attempt.succeed();
        self.superblock.set(superblock);
        let mut live = self.live.borrow_mut();
        while live.front().is_some_and(|live| live.seq < tail.seq) {
            live.pop_front();
        }
        Ok(())
    }

    /// Ends in order, and closes the file.
    pub async fn close(self) -> io::Result<()> {
        let retired = self.retire().await;
        retired.and(self.disk.close().await)
    }

    /// Ends in order: the next opening need not search the ring for frames that it does not know of. Nothing can be
    /// written any more.
    pub async fn retire(&self) -> io::Result<()> {
        assert!(!self.committing.get() && !self.releasing.get(), "no write is under way when the log ends");
        if self.poisoned.replace(true) {
            return Ok(());
        }
        let old = self.superblock.get();
        let superblock = Superblock {
            generation: old.generation + 1,
            durable_seq: self.durable_seq.get(),
            clean: true,
            ..old
        };
        superblock.write(&self.disk, 0).await
    }

    /// The number that the next commit gets. It rises when a commit begins.
    pub fn next_seq(&self) -> u64 {
        self.next_seq.get()
    }

    /// Every frame up to this one is durable; 0 before the first.
    pub fn durable_seq(&self) -> u64 {
        self.durable_seq.get()
    }

    /// The number of the oldest frame that was not released, or of the next one.
    pub fn tail_seq(&self) -> u64 {
        self.superblock.get().tail_seq
    }

    /// Whether a commit of this many bytes would find room.
    pub fn fits(&self, payload_len: usize) -> bool {
        self.place(payload_len).is_ok()
    }

    /// Whether a write has failed, so that nothing is written any more.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.get()
    }

    /// Bytes that frames take, from the oldest one that is needed to where the next one goes.
    pub fn used_bytes(&self) -> u64 {
        let Some(tail) = self.live.borrow().front().map(|live| live.block) else { return 0 };
        let next = self.next_block.get();
        // Equal means full: with no frame at all there is no tail.
        let used = if next > tail { next - tail } else { self.blocks - tail + next };
        u64::from(used) * BLOCK_BYTES as u64
    }

    /// Bytes of the region that frames go to.
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES as u64
    }

    /// Where a frame goes: right after the last one, or at the region's begin if it would not fit before the end.
    fn place(&self, payload_len: usize) -> Result<u32, CommitError> {
        let needed = frame_blocks(payload_len);
        let blocks = self.blocks;
        let next = self.next_block.get();
        let (to_end, at_begin) = match self.live.borrow().front().map(|live| live.block) {
            None => (blocks - next, blocks),
            Some(tail) if next > tail => (blocks - next, tail),
            Some(tail) => (tail - next, 0),
        };
        if needed > u64::from(blocks) || u32::try_from(payload_len).is_err() {
            Err(CommitError::TooLarge {
                needed_bytes: frame_bytes(payload_len),
                size_bytes: self.size_bytes(),
            })
        } else if needed <= u64::from(to_end) {
            Ok(next)
        } else if needed <= u64::from(at_begin) {
            Ok(0)
        } else {
            Err(CommitError::Full {
                needed_bytes: frame_bytes(payload_len),
                used_bytes: self.used_bytes(),
                size_bytes: self.size_bytes(),
            })
        }
    }
}

/// One write that must not run twice at once. Unless it succeeds, also when its future is dropped, the log is
/// poisoned: the write may still reach the disk, or have reached it in part.
struct Attempt<'a> {
    running: &'a Cell<bool>,
    poisoned: &'a Cell<bool>,
    succeeded: bool,
}

impl<'a> Attempt<'a> {
    fn start(running: &'a Cell<bool>, poisoned: &'a Cell<bool>) -> Attempt<'a> {
        assert!(!running.replace(true), "one task commits and one releases, each one write at a time");
        Attempt { running, poisoned, succeeded: false }
    }

    fn succeed(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.running.set(false);
        if !self.succeeded {
            self.poisoned.set(true);
        }
    }
}

/// The superblock that counts, and which copy it is.
pub(super) async fn read_superblock(
    disk: &impl DirectFile,
    shard: u32,
) -> Result<(Superblock, u64), WalError> {
    let file_bytes = disk.size_bytes();
    let blocks = file_bytes / BLOCK_BYTES as u64;
    if file_bytes < RING_BYTES_MIN
        || !file_bytes.is_multiple_of(BLOCK_BYTES as u64)
        || u32::try_from(blocks).is_err()
    {
        return Err(WalError::UnusableSize { found: file_bytes });
    }
    let copies = superblock::read(disk).await;
    let copies =
        copies.map_err(|source| WalError::Io { what: "reading the superblocks of the WAL", source })?;
    let mut found: Option<(Superblock, u64)> = None;
    for (copy, index) in copies.into_iter().zip(0..) {
        match copy {
            Copy::Newer(version) => return Err(WalError::Newer { found: version, known: VERSION }),
            Copy::Valid(read) if found.is_none_or(|(other, _)| read.generation > other.generation) => {
                found = Some((read, index));
            }
            Copy::Valid(_) | Copy::Invalid => {}
        }
    }
    let Some((found, index)) = found else {
        return new_superblock(disk, shard).await.map(|superblock| (superblock, 1));
    };
    if found.shard != shard {
        return Err(WalError::WrongShard { found: found.shard, shard });
    }
    if found.file_bytes != file_bytes {
        return Err(WalError::WrongSize { expected: found.file_bytes, found: file_bytes });
    }
    Ok((found, index))
}

/// A ring that was never opened is all zeros after the superblocks; the first opening may have been cut short.
async fn new_superblock(disk: &impl DirectFile, shard: u32) -> Result<Superblock, WalError> {
    let mut offset = COPIES * BLOCK_BYTES as u64;
    while offset < disk.size_bytes() {
        let len = PIECE_BYTES.min(disk.size_bytes() - offset);
        disk.yield_now().await;
        let piece = disk.read_at(offset, len as usize).await;
        let piece = piece.map_err(|source| WalError::Io { what: "reading the new WAL", source })?;
        if piece.as_ref().iter().any(|byte| *byte != 0) {
            return Err(WalError::NoSuperblock);
        }
        offset += len;
    }
    Ok(Superblock {
        generation: 0,
        file_bytes: disk.size_bytes(),
        shard,
        clean: true,
        tail_seq: 1,
        tail_block: 0,
        durable_seq: 0,
        fence: Fence { epoch: 0, prev_seq: 0, seq: 1 },
    })
}

/// Writes the last frame once more, as it is. After a crash of the process alone its write may have reached the
/// device's cache and not yet the medium; what recovery has shown to anybody must not vanish in a later power cut.
async fn rewrite(disk: &impl DirectFile, block: u32, next_block: u32) -> io::Result<()> {
    let mut offset = file_offset(block);
    let end = if next_block > block { file_offset(next_block) } else { disk.size_bytes() };
    while offset < end {
        let len = PIECE_BYTES.min(end - offset);
        let read = disk.read_at(offset, len as usize).await?;
        disk.write_at(read, offset).await?;
        offset += len;
    }
    Ok(())
}
