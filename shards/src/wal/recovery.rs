//! Reading the ring after a start: which frames are its history, and what to say about the rest.
//!
//! The walk follows the frames from the tail. Where it ends, the ring is searched for later frames, as far as the
//! superblock says that there can be any. If there are some, the end is damage; if there are none, it is the end,
//! perhaps with a torn frame that nobody was promised.
//!
//! A successor is looked for in two places: right after its predecessor, and at the region's begin, where it went
//! if it did not fit. Both cannot hold a whole one. Within one epoch a number is written once, because a failed
//! write ends the epoch. So the two would be of different epochs; but the later epoch began with a recovery that
//! came to the same predecessor, found the other one whole, and went on after it with a higher number.

use std::ops::RangeInclusive;

use super::checkpoint::Covered;
use super::error::WalError;
use super::frame::{self, BadFrame, BlockKind, Header};
use super::ring::Live;
use super::superblock::{Superblock, VERSION};
use super::window::{Window, file_offset};
use crate::rt::{BLOCK_BYTES, DirectFile};

/// What an opening found, for the log and the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Number of this opening of the ring, from 1.
    pub epoch: u64,
    /// Frames that were handed to the visitor.
    pub frames: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// First and last of their sequence numbers.
    pub seqs: Option<(u64, u64)>,
    /// Frames that neither the checkpoint nor the ring has, other than by damage that this opening found. Either the
    /// checkpoint is older than the ring's tail, because newer ones are damaged or were removed; or an earlier opening
    /// left damage behind, which is told again at each start until a checkpoint was written since.
    pub missing: Vec<RangeInclusive<u64>>,
    /// The frame after the last one was begun and never finished. Nobody was told that it is durable.
    pub torn: Option<Torn>,
    /// Frames that were durable cannot be read any more. Told once if frames are lost, and by each opening until the
    /// tail has moved on if the checkpoint covers them.
    pub damage: Vec<Damage>,
    /// Bytes of the ring that were searched for frames behind the end of its history.
    pub searched_bytes: u64,
    /// Files with damaged parts that this opening or an earlier one put beside the ring. They are reported until
    /// somebody has seen and removed them.
    pub set_aside: Vec<String>,
}

/// A write that the crash interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// The number that the frame would have had.
    pub seq: u64,
    /// Where it is in the file.
    pub offset: u64,
    /// How it shows.
    pub reason: BadFrame,
}

/// A part of the ring's history that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where the first unreadable frame is, or must have been, in the file.
    pub offset: u64,
    /// The first number that cannot be read.
    pub seq: u64,
    /// What is wrong with that frame.
    pub reason: BadFrame,
    /// The numbers whose frames are lost to the shard; `None` if the checkpoint covers all that is damaged.
    pub lost: Option<RangeInclusive<u64>>,
    /// Frames after the damage that are whole. They are lost to the shard too, because replay must not have gaps.
    pub whole_frames: u64,
    /// Bytes of the ring from the damage to the end of the last frame after it.
    pub bytes: u64,
    /// The file beside the ring that has a copy of these bytes.
    pub set_aside: Option<String>,
}

/// Where the writing goes on.
pub(super) struct Recovered {
    pub recovery: Recovery,
    /// The newest opening that any frame or the superblock tells of.
    pub last_epoch: u64,
    /// Frames that stay needed, in order.
    pub live: Vec<Live>,
    /// The last frame of the history, accepted or released.
    pub last_seq: u64,
    /// The next number; larger than any that a frame or a checkpoint has used.
    pub next_seq: u64,
    /// The position where the next frame is tried first.
    pub next: u64,
}

/// Reads the ring, and calls `visit` for each frame that `covered` does not cover.
pub(super) async fn recover<D, F, E>(
    disk: &D,
    superblock: &Superblock,
    covered: Option<Covered>,
    visit: F,
) -> Result<Recovered, WalError>
where
    D: DirectFile,
    F: FnMut(u64, &[u8]) -> Result<(), E>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let covered = covered.unwrap_or(Covered { begin_seq: 1, end_seq: 0 });
    let blocks = superblock.region_blocks();
    let mut walk = Walk {
        window: Window::new(disk, blocks),
        blocks,
        superblock,
        covered,
        visit,
        first_seq: superblock.tail_seq,
        restarted: false,
        last: None,
        last_epoch: superblock.fence.epoch,
        live: Vec::new(),
        next: u64::from(superblock.tail_block),
        payload: Vec::new(),
        recovery: Recovery::default(),
    };
    walk.miss(1, superblock.tail_seq);
    walk.run().await?;
    let last_seq = walk.last_seq();
    let fence = superblock.fence;
    let lost_seq =
        walk.recovery.damage.iter().filter_map(|damage| damage.lost.as_ref()).map(|lost| *lost.end()).max();
    // What an earlier opening has lost, unless the history goes on behind it.
    let told_seq = last_seq.max(fence.prev_seq).max(lost_seq.unwrap_or(0));
    walk.miss(told_seq + 1, fence.seq);
    let used_seq =
        lost_seq.into_iter().chain([last_seq, superblock.durable_seq, fence.seq - 1, covered.end_seq]);
    Ok(Recovered {
        last_seq,
        next_seq: used_seq.max().unwrap_or(0) + 1,
        last_epoch: walk.last_epoch,
        live: walk.live,
        next: walk.next,
        recovery: walk.recovery,
    })
}

struct Walk<'a, D: DirectFile, F> {
    window: Window<'a, D>,
    /// How many blocks the region has.
    blocks: u64,
    superblock: &'a Superblock,
    covered: Covered,
    visit: F,
    /// The number that the walk's first frame must have.
    first_seq: u64,
    /// Whether it has gone on behind damage; it does so once.
    restarted: bool,
    /// The last accepted frame.
    last: Option<Header>,
    /// The newest opening that was heard of.
    last_epoch: u64,
    live: Vec<Live>,
    /// The position where the next frame is looked for first.
    next: u64,
    payload: Vec<u8>,
    recovery: Recovery,
}

/// What is where the next frame should be.
enum Step {
    Frame(u64, Header),
    End(Option<(u64, BadFrame)>),
}

impl<D, F, E> Walk<'_, D, F>
where
    D: DirectFile,
    F: FnMut(u64, &[u8]) -> Result<(), E>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn run(&mut self) -> Result<(), WalError> {
        loop {
            match self.step().await? {
                Step::Frame(position, header) => self.accept(position, header)?,
                Step::End(bad) => {
                    let Some((position, header)) = self.explain_end(bad).await? else { return Ok(()) };
                    self.restart(position, header.seq);
                }
            }
        }
    }

    fn last_seq(&self) -> u64 {
        // Before the first frame the history ends where the tail says, or before the void.
        self.last.map_or_else(|| self.superblock.fence.settle(self.first_seq - 1), |last| last.seq)
    }

    async fn step(&mut self) -> Result<Step, WalError> {
        let mut bad = None;
        for position in self.places() {
            match frame::inspect(self.window.block(position).await?) {
                BlockKind::First(header) if self.follows(&header) && self.belongs(position, &header) => {
                    match self.window.read_frame(position, header, &mut self.payload).await? {
                        Ok(()) => return Ok(Step::Frame(position, header)),
                        Err(reason) => bad = Some((position, reason)),
                    }
                }
                BlockKind::Newer(version) => {
                    return Err(WalError::Newer { found: u32::from(version), known: VERSION });
                }
                BlockKind::Bad(reason) => bad = bad.or(Some((position, reason))),
                // What an earlier lap of the ring left here.
                BlockKind::Blank | BlockKind::Next | BlockKind::First(_) => {}
            }
        }
        Ok(Step::End(bad))
    }

    /// Where the next frame can be: right here, or at the region's begin if it did not fit before the end.
    fn places(&self) -> impl Iterator<Item = u64> + use<D, F, E> {
        let begin = self.next.next_multiple_of(self.blocks);
        let end = self.end();
        [self.next, begin]
            .into_iter()
            .take(if begin == self.next { 1 } else { 2 })
            .filter(move |at| *at < end)
    }

    /// Whether a frame of this length, as the next one, is in its place. Another one is where a disk wrote it by mistake:
    /// with it the history would leave out what comes after the right place.
    fn belongs(&self, position: u64, header: &Header) -> bool {
        let begin = self.next.next_multiple_of(self.blocks);
        position == if header.blocks() <= begin - self.next { self.next } else { begin }
    }

    /// Where the first accepted frame would be met again, a lap later.
    fn end(&self) -> u64 {
        self.live.first().map_or(self.next, |live| live.begin) + self.blocks
    }

    fn follows(&self, header: &Header) -> bool {
        let linked = match self.last {
            None => header.seq == self.first_seq,
            Some(last) => header.prev_seq == last.seq && header.seq > last.seq && header.epoch >= last.epoch,
        };
        linked && header.shard == self.superblock.shard && self.superblock.fence.admits(header)
    }

    /// Notes that the history has no frames from one number up to, and without, another, if they are needed.
    fn miss(&mut self, from_seq: u64, to_seq: u64) {
        let told_seq = self.recovery.missing.last().map_or(0, |missing| *missing.end());
        let from_seq = from_seq.max(self.covered.begin_seq).max(told_seq + 1);
        if from_seq < to_seq {
            self.recovery.missing.push(from_seq..=to_seq - 1);
        }
    }

    fn accept(&mut self, position: u64, header: Header) -> Result<(), WalError> {
        let seq = header.seq;
        if let Some(last) = self.last {
            self.miss(last.seq + 1, seq);
        }
        if seq >= self.covered.begin_seq {
            (self.visit)(seq, &self.payload)
                .map_err(|error| WalError::Visit { seq, source: error.into() })?;
            self.recovery.frames += 1;
            self.recovery.payload_bytes += self.payload.len() as u64;
            let first = self.recovery.seqs.map_or(seq, |(first, _)| first);
            self.recovery.seqs = Some((first, seq));
        }
        self.next = position + header.blocks();
        self.live.push(Live { seq, begin: position, end: self.next });
        self.last = Some(header);
        self.last_epoch = self.last_epoch.max(header.epoch);
        Ok(())
    }

    /// Goes on at a frame behind damage that the checkpoint covers. The frames before it stay: together with an older
    /// checkpoint they are still worth having, should the newer one be lost.
    fn restart(&mut self, position: u64, seq: u64) {
        self.restarted = true;
        self.last = None;
        self.first_seq = seq;
        self.next = position;
    }

    /// Finds out whether the history ends here or is damaged; returns the frame to go on with, if there is one.
    async fn explain_end(&mut self, bad: Option<(u64, BadFrame)>) -> Result<Option<(u64, Header)>, WalError> {
        let last_seq = self.last_seq();
        let fence = self.superblock.fence;
        let durable_seq = fence
            .settle(self.superblock.durable_seq)
            .max(fence.settle(self.covered.end_seq))
            .max(fence.prev_seq);
        if self.superblock.clean && durable_seq <= last_seq && !self.is_superblock_stale() {
            return Ok(None);
        }
        let later = self.find_later_frames().await?;
        // A header behind the next frame proves that the one before it was durable; a whole one counts itself too.
        let mut end_seq = durable_seq;
        let mut whole_frames = 0;
        for (position, header) in &later {
            end_seq = end_seq.max(header.prev_seq);
            if self.window.read_frame(*position, *header, &mut self.payload).await?.is_ok() {
                end_seq = end_seq.max(header.seq);
                whole_frames += 1;
            }
        }
        let seq = last_seq + 1;
        let (position, reason) = bad.unwrap_or((self.next, BadFrame::Gone));
        let offset = file_offset(position, self.blocks);
        if end_seq <= last_seq {
            // The void before the fence has no frames.
            self.recovery.torn = bad.map(|_| Torn { seq: seq.max(fence.seq), offset, reason });
            return Ok(None);
        }

        let begin_seq = self.covered.begin_seq;
        // With a later frame before it, this one is in a wrong place, and going on there would leave that one out.
        let is_in_order = |(position, header): &&(u64, Header)| {
            !later.iter().any(|(other, after)| other < position && after.seq > header.seq)
        };
        let resume = later
            .iter()
            .filter(|(_, header)| header.seq >= begin_seq && header.prev_seq < begin_seq)
            .max_by_key(|(_, header)| header.epoch)
            .filter(is_in_order)
            .filter(|_| seq < begin_seq && !self.restarted)
            .copied();
        let lost_seq = seq.max(begin_seq);
        let lost = (resume.is_none() && lost_seq <= end_seq).then_some(lost_seq..=end_seq);
        let mut damage = Damage { offset, seq, reason, lost, whole_frames: 0, bytes: 0, set_aside: None };
        if damage.lost.is_some() {
            let blocks = self.blocks;
            let reach =
                later.iter().map(|(later, header)| (later + blocks - position) % blocks + header.blocks());
            damage.bytes = reach.max().unwrap_or(1).min(blocks) * BLOCK_BYTES as u64;
            damage.whole_frames = whole_frames;
        }
        self.recovery.damage.push(damage);
        Ok(resume)
    }

    /// Every header of the ring's history behind the accepted frames that is further on than the next frame's; or the
    /// next frame's, if it is where that one cannot be, because the disk wrote it to a wrong place.
    async fn find_later_frames(&mut self) -> Result<Vec<(u64, Header)>, WalError> {
        let last_seq = self.last_seq();
        let last_epoch = self.last.map_or(0, |last| last.epoch);
        let (begin, end) = (self.next, self.search_end());
        let mut later = Vec::new();
        for position in begin..end {
            if let BlockKind::First(header) = frame::inspect(self.window.block(position).await?)
                && header.prev_seq >= last_seq
                && header.epoch >= last_epoch
                && header.shard == self.superblock.shard
                && self.superblock.fence.admits(&header)
                && (header.prev_seq > last_seq || !self.belongs(position, &header))
            {
                self.last_epoch = self.last_epoch.max(header.epoch);
                later.push((position, header));
            }
        }
        self.recovery.searched_bytes += end.saturating_sub(begin) * BLOCK_BYTES as u64;
        Ok(later)
    }

    /// Where the search for later frames ends.
    fn search_end(&self) -> u64 {
        let limit = self.limit().filter(|_| !self.is_superblock_stale());
        limit.map_or(self.end(), |limit| limit.min(self.end()))
    }

    /// The position that no frame lies beyond, if the superblock knows.
    fn limit(&self) -> Option<u64> {
        let Superblock { tail_block, reach_blocks, .. } = *self.superblock;
        (reach_blocks != 0).then(|| u64::from(tail_block) + reach_blocks)
    }

    /// Whether accepted frames prove that the disk has lost a newer superblock: it would be durable before them.
    fn is_superblock_stale(&self) -> bool {
        self.last_epoch > self.superblock.fence.epoch || self.limit().is_some_and(|limit| self.next > limit)
    }
}
