//! The ring: where the next frame goes, what is durable, what may be overwritten.
//!
//! A position counts blocks of the region over all laps, so that of two positions in the history the higher one is the
//! later; what the superblock keeps is relative to the tail. No frame goes beyond the limit, a position somewhat ahead
//! that a superblock has made durable before: a recovery need not look further.
//!
//! Commits and releases run at once, and both write superblocks. Each takes its turn at the superblocks and reads what
//! they say only then, so that no change undoes another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use super::attempt::{Attempt, Gate};
use super::checkpoint::Covered;
use super::damage;
use super::error::{CommitError, RING_BYTES_MIN, ReleaseError, WalError};
use super::frame::{Header, frame_blocks, frame_bytes};
use super::read_ahead::{PIECE_BYTES, ReadAhead};
use super::recovery::{self, Recovery};
use super::superblock::{self, COPIES, Copy, Fence, Superblock, VERSION};
use super::window::file_offset;
use crate::rt::{BLOCK_BYTES, DirectFile, Directory};

/// How far ahead of the next frame the limit is put, unless a quarter of the ring is less. A recovery reads this much
/// for nothing, and a commit waits for one more write each time that this much was written.
const LIMIT_STEP_BYTES: u64 = 32 << 20;

const _: () =
    assert!(RING_BYTES_MIN / BLOCK_BYTES as u64 - COPIES >= 4, "a quarter of a region is a block or more");

/// The log of one shard, open for writing.
///
/// Shared by the tasks of one executor: one of them commits, one releases, all may ask. Its state is in cells
/// that are never borrowed while a write is awaited.
pub struct Wal<D: DirectFile> {
    disk: D,
    /// Blocks of the region after the superblocks.
    blocks: u64,
    /// The frames that a recovery would need, oldest first; the one being written is the last.
    live: RefCell<VecDeque<Live>>,
    /// Number of the last frame before the next one.
    prev_seq: Cell<u64>,
    next_seq: Cell<u64>,
    /// The position where the next frame is tried first.
    next: Cell<u64>,
    durable_seq: Cell<u64>,
    anchor: Cell<Anchor>,
    poisoned: Cell<bool>,
    commits: Gate,
    /// Held while superblocks are written.
    anchoring: Gate,
}

/// A frame and its positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub seq: u64,
    pub begin: u64,
    pub end: u64,
}

/// The oldest frame that is needed, or the next one if none is.
#[derive(Clone, Copy)]
struct Tail {
    seq: u64,
    position: u64,
}

/// What the disk says about the ring as a whole.
#[derive(Clone, Copy)]
struct Anchor {
    superblock: Superblock,
    /// Which copy has it; the other one may have the limit before.
    newest: u64,
    tail: Tail,
    /// The position that no frame goes beyond.
    limit: u64,
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
        let epoch = recovered.last_epoch + 1;
        recovered.recovery.epoch = epoch;
        for found in recovered.recovery.damage.iter_mut().filter(|found| found.lost.is_some()) {
            let copied = damage::set_aside(&disk, directory, epoch, shard, found).await;
            found.set_aside = Some(copied.map_err(io("copying the damaged part of the WAL"))?);
        }
        recovered.recovery.set_aside =
            damage::list(directory).await.map_err(io("listing what was set aside of the WAL"))?;
        let blocks = old.region_blocks();
        if let Some(last) = recovered.live.last() {
            rewrite(&disk, file_offset(last.begin, blocks), last.end - last.begin)
                .await
                .map_err(io("writing the last frame again"))?;
        }
        let fence = Fence { epoch, prev_seq: recovered.last_seq, seq: recovered.next_seq };
        let tail = match recovered.live.first() {
            Some(first) => Tail { seq: first.seq, position: first.begin },
            None => Tail { seq: recovered.next_seq, position: recovered.next },
        };
        let superblock = Superblock { clean: false, fence, ..old };
        let wal = Wal {
            disk,
            blocks,
            live: RefCell::new(recovered.live.into()),
            prev_seq: Cell::new(recovered.last_seq),
            next_seq: Cell::new(recovered.next_seq),
            next: Cell::new(recovered.next),
            durable_seq: Cell::new(recovered.next_seq - 1),
            anchor: Cell::new(Anchor { superblock, newest, tail, limit: 0 }),
            poisoned: Cell::new(false),
            commits: Gate::default(),
            anchoring: Gate::default(),
        };
        let anchor = wal.anchor_with(tail);
        let written = anchor.superblock.write(&wal.disk, newest).await;
        written.map_err(io("writing the superblock of the WAL"))?;
        wal.anchor.set(anchor);
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
        let begin = self.place(payload.len())?;
        let attempt = Attempt::start(&self.commits, &self.poisoned);
        let seq = self.next_seq.get();
        let Superblock { fence, shard, .. } = self.anchor.get().superblock;
        let header = Header::new(seq, self.prev_seq.get(), fence.epoch, shard, payload);
        let mut buffer = self.disk.allocate(frame_bytes(payload.len()) as usize);
        header.write_frame(payload, buffer.as_mut());

        let end = begin + header.blocks();
        self.live.borrow_mut().push_back(Live { seq, begin, end });
        self.prev_seq.set(seq);
        self.next_seq.set(seq + 1);
        self.next.set(end);
        if end > self.anchor.get().limit {
            self.raise_limit(end).await?;
        }
        let offset = file_offset(begin, self.blocks);
        self.disk.write_at(buffer, offset).await.map_err(CommitError::Io)?;
        attempt.succeed();
        self.durable_seq.set(seq);
        Ok(seq)
    }

    /// Makes it durable that frames may lie before `end` and somewhat beyond, by writing one of the superblocks.
    async fn raise_limit(&self, end: u64) -> Result<(), CommitError> {
        let attempt = Attempt::in_turn(&self.anchoring, &self.poisoned).await;
        // A release that this has waited for has raised it as well, or has failed.
        if self.poisoned.get() {
            return Err(CommitError::Poisoned);
        }
        let old = self.anchor.get();
        if end > old.limit {
            let new = self.anchor_with(old.tail);
            let older = 1 - old.newest;
            new.superblock.write_copy(&self.disk, older).await.map_err(CommitError::Io)?;
            self.anchor.set(Anchor { newest: older, ..new });
        }
        attempt.succeed();
        Ok(())
    }

    /// Says that frames below `below_seq` are not needed any more; their space is free when this returns.
    ///
    /// # Errors
    /// A failed write poisons the log, as in [`Wal::commit`].
    ///
    /// # Panics
    /// When a frame that is not durable would be released.
    pub async fn release(&self, below_seq: u64) -> Result<(), ReleaseError> {
        if self.poisoned.get() {
            return Err(ReleaseError::Poisoned);
        }
        assert!(below_seq <= self.durable_seq.get() + 1, "only frames that are durable are released");
        let attempt = Attempt::in_turn(&self.anchoring, &self.poisoned).await;
        if self.poisoned.get() {
            return Err(ReleaseError::Poisoned);
        }
        let tail = {
            let live = self.live.borrow();
            match live.get(live.partition_point(|live| live.seq < below_seq)) {
                Some(first) => Tail { seq: first.seq, position: first.begin },
                None => Tail { seq: self.next_seq.get(), position: self.next.get() },
            }
        };
        let old = self.anchor.get();
        if tail.seq > old.tail.seq {
            let new = self.anchor_with(tail);
            // Commits go on meanwhile, up to the old limit, which either copy allows.
            new.superblock.write(&self.disk, old.newest).await.map_err(ReleaseError::Io)?;
            self.anchor.set(new);
            let mut live = self.live.borrow_mut();
            while live.front().is_some_and(|live| live.seq < tail.seq) {
                live.pop_front();
            }
        }
        attempt.succeed();
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
        let idle = !self.commits.is_busy() && !self.anchoring.is_busy();
        assert!(idle, "no write is under way when the log ends");
        if self.poisoned.replace(true) {
            return Ok(());
        }
        let old = self.anchor.get();
        Superblock { clean: true, ..self.anchor_with(old.tail).superblock }
            .write(&self.disk, old.newest)
            .await
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
        self.anchor.get().tail.seq
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
        let next = self.next.get();
        let tail = self.live.borrow().front().map_or(next, |live| live.begin);
        (next - tail) * BLOCK_BYTES as u64
    }

    /// Bytes of the region that frames go to.
    pub fn size_bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES as u64
    }

    /// What the superblock is to say next: this tail, and a limit ahead of the next frame.
    fn anchor_with(&self, tail: Tail) -> Anchor {
        let old = self.anchor.get();
        let step = (LIMIT_STEP_BYTES / BLOCK_BYTES as u64).min(self.blocks / 4);
        let limit = old.limit.max(self.next.get() + step);
        let superblock = Superblock {
            generation: old.superblock.generation + 1,
            tail_seq: tail.seq,
            tail_block: (tail.position % self.blocks) as u32,
            durable_seq: self.durable_seq.get(),
            reach_blocks: limit - tail.position,
            ..old.superblock
        };
        Anchor { superblock, tail, limit, ..old }
    }

    /// Where a frame goes: right after the last one, or at the region's begin if it would not fit before the end.
    fn place(&self, payload_len: usize) -> Result<u64, CommitError> {
        let needed = frame_blocks(payload_len);
        let next = self.next.get();
        let to_end = self.blocks - next % self.blocks;
        let begin = if needed <= to_end { next } else { next + to_end };
        let tail = self.live.borrow().front().map_or(begin, |live| live.begin);
        if needed > self.blocks || u32::try_from(payload_len).is_err() {
            Err(CommitError::TooLarge {
                needed_bytes: frame_bytes(payload_len),
                size_bytes: self.size_bytes(),
            })
        } else if begin + needed <= tail + self.blocks {
            Ok(begin)
        } else {
            Err(CommitError::Full {
                needed_bytes: frame_bytes(payload_len),
                used_bytes: self.used_bytes(),
                size_bytes: self.size_bytes(),
            })
        }
    }
}

/// The superblock that counts, and which copy it is.
async fn read_superblock(disk: &impl DirectFile, shard: u32) -> Result<(Superblock, u64), WalError> {
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
    let mut invalid = false;
    for (copy, index) in copies.into_iter().zip(0..) {
        match copy {
            Copy::Newer(version) => return Err(WalError::Newer { found: version, known: VERSION }),
            Copy::Valid(read) if found.is_none_or(|(other, _)| read.generation > other.generation) => {
                found = Some((read, index));
            }
            Copy::Valid(_) => {}
            Copy::Invalid => invalid = true,
        }
    }
    let Some((mut found, index)) = found else {
        return new_superblock(disk, shard).await.map(|superblock| (superblock, 1));
    };
    if found.shard != shard {
        return Err(WalError::WrongShard { found: found.shard, shard });
    }
    if found.file_bytes != file_bytes {
        return Err(WalError::WrongSize { expected: found.file_bytes, found: file_bytes });
    }
    // The limit is raised in one copy only, which may have been the one that is lost.
    if invalid {
        found.reach_blocks = 0;
    }
    Ok((found, index))
}

/// A ring that was never opened is all zeros after the superblocks; the first opening may have been cut short.
async fn new_superblock(disk: &impl DirectFile, shard: u32) -> Result<Superblock, WalError> {
    let io = |source| WalError::Io { what: "reading the new WAL", source };
    let mut pieces = ReadAhead::new(disk, COPIES * BLOCK_BYTES as u64, disk.size_bytes());
    while let Some(piece) = pieces.next().await.map_err(io)? {
        if piece.as_ref().iter().any(|byte| *byte != 0) {
            return Err(WalError::NoSuperblock);
        }
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
        reach_blocks: 0,
    })
}

/// Writes the last frame once more, as it is. After a crash of the process alone its write may have reached the
/// device's cache and not yet the medium; what recovery has shown to anybody must not vanish in a later power cut.
async fn rewrite(disk: &impl DirectFile, mut offset: u64, blocks: u64) -> io::Result<()> {
    let end = offset + blocks * BLOCK_BYTES as u64;
    while offset < end {
        let len = PIECE_BYTES.min(end - offset);
        let read = disk.read_at(offset, len as usize).await?;
        let mut buffer = disk.allocate(len as usize);
        buffer.as_mut().copy_from_slice(read.as_ref());
        disk.write_at(buffer, offset).await?;
        offset += len;
    }
    Ok(())
}
