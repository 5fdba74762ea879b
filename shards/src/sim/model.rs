//! What must be true of a log, kept outside of it: which frames were acknowledged, where each one was written, and what
//! an opening may say.
//!
//! There are two measures. As long as the disk keeps its promises, but for single places that rot, a recovery has
//! exactly the acknowledged frames, but for those that it reports. A disk that lies or writes to wrong places can lose
//! frames without a trace. From there on it must still hold that no frame comes back that was never committed, and
//! that whatever can be known to be missing is reported: a frame is, if one after it is whole in its place.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::SimDisk;
use crate::rt::{BLOCK_BYTES, DirectFile};
use crate::wal::{PageVisitor, Recovery};

/// Series of the small head; frame `seq` belongs to slice `seq % SLICES`, and a checkpoint has a page for each.
pub(super) const SLICES: u64 = 4;

const SUPERBLOCK_BYTES: u64 = 2 * BLOCK_BYTES as u64;

/// What many histories have met, so that a test can tell that it tests something.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Met(pub BTreeMap<&'static str, u64>);

impl Met {
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }
}

/// The state of the checks of one history.
#[derive(Default)]
pub(super) struct Model {
    /// Frames that were acknowledged, or shown by a recovery: number to checksum of the payload.
    pub promised: RefCell<BTreeMap<u64, u32>>,
    /// The frame under way.
    pub pending: Cell<Option<(u64, u32)>>,
    /// Every frame that was ever tried.
    tried: RefCell<BTreeSet<(u64, u32)>>,
    /// Where the newest frame of each number was written, and its bytes.
    places: RefCell<BTreeMap<u64, (usize, Vec<u8>)>>,
    /// What has become of the ring since the last opening.
    pub rot: Cell<Rot>,
    /// Frames that a recovery left behind because of damage; a checkpoint may still have what they say.
    pub abandoned: RefCell<Vec<Range<u64>>>,
    /// The checkpoint that rotted.
    pub rotten_checkpoint: RefCell<Option<String>>,
    /// Whether a superblock is not on the disk although its write was reported as durable.
    superblock_lost: Cell<bool>,
    /// The newest acknowledged frame that was whole in its place before the opening.
    evidence_seq: Cell<u64>,
    pub violation: RefCell<Option<String>>,
    pub met: RefCell<Met>,
}

/// How the ring was changed behind the log's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rot {
    #[default]
    None,
    /// A bit.
    Bit,
    /// A run of bytes, perhaps all that told a frame from an empty place.
    Burst,
}

impl Model {
    pub fn met(&self, what: &'static str, count: u64) {
        self.met.borrow_mut().add(what, count);
    }

    pub fn is_abandoned(&self, seq: u64) -> bool {
        self.abandoned.borrow().iter().any(|range| range.contains(&seq))
    }

    pub fn violate(&self, what: String) {
        self.violation.borrow_mut().get_or_insert(what);
    }

    /// How often something was met in this history.
    pub fn count(&self, what: &'static str) -> u64 {
        self.met.borrow().0.get(what).copied().unwrap_or(0)
    }

    /// Both superblocks were overwritten: the start says so, and the history ends.
    pub fn lose(&self) {
        self.met("rings without a superblock", 1);
    }

    pub fn is_lost(&self) -> bool {
        self.count("rings without a superblock") > 0
    }

    /// A frame is about to be committed.
    pub fn begin(&self, seq: u64, crc: u32) {
        self.pending.set(Some((seq, crc)));
        self.tried.borrow_mut().insert((seq, crc));
    }

    /// A place that belongs to one of the newest frames.
    pub fn recent_place(&self, back: u64) -> Option<Range<usize>> {
        let promised = self.promised.borrow();
        let seq = promised.keys().rev().nth(back as usize)?;
        self.places.borrow().get(seq).map(|(offset, bytes)| *offset..offset + bytes.len())
    }

    /// Looks for acknowledged frames that are whole, just before an opening.
    pub fn gather_evidence(&self, disk: &SimDisk) {
        let places = self.places.borrow();
        let whole = |seq: &&u64| {
            places.get(seq).is_some_and(|(offset, bytes)| disk.readable(*offset, bytes.len()) == *bytes)
        };
        self.evidence_seq.set(self.promised.borrow().keys().rev().find(whole).copied().unwrap_or(0));
    }

    /// Compares what an opening has restored and said with what it had to.
    pub fn check_opening(&self, head: &Head, recovery: &Recovery, next_seq: u64, deceived: bool) {
        self.met("openings", 1);
        self.met("replayed frames", recovery.frames);
        self.met("torn frames", u64::from(recovery.torn.is_some()));
        self.met("searched blocks", recovery.searched_bytes / BLOCK_BYTES as u64);
        if let Some((seq, crc)) = self.pending.take()
            && head.frames.get(&seq) == Some(&crc)
        {
            self.promised.borrow_mut().insert(seq, crc);
            self.met("unacknowledged frames kept", 1);
        }
        if deceived {
            self.check_deceived(head, recovery);
        } else {
            self.check_honest(head, recovery);
        }
        let newest = self.promised.borrow().last_key_value().map(|(seq, _)| *seq);
        if newest.is_some_and(|seq| seq >= next_seq) {
            self.violate(format!("frame {next_seq} would be written twice"));
        }
    }

    fn check_honest(&self, head: &Head, recovery: &Recovery) {
        let mut promised = self.promised.borrow_mut();
        // Rot of the ring and later of a checkpoint can cost together what each alone does not; but never silently.
        for seq in recovery.missing.iter().flat_map(|range| range.clone()) {
            if !self.is_abandoned(seq) {
                self.violate(format!("frame {seq} is missing: {recovery:?}"));
            } else if !head.frames.contains_key(&seq) {
                promised.remove(&seq);
            }
        }
        let known = recovery.damage.iter().all(|damage| self.is_abandoned(damage.seq));
        let rot = self.rot.take();
        if rot == Rot::None && !known {
            self.violate(format!("an undamaged ring is reported as damaged: {recovery:?}"));
        }
        // The last frame, if nothing tells that it was durable, looks like a torn one, or like none.
        let newest = promised.last_key_value().map(|(seq, _)| *seq);
        let torn = match rot {
            Rot::None => None,
            Rot::Bit => recovery.torn.map(|torn| torn.seq).filter(|seq| Some(*seq) == newest),
            Rot::Burst => newest,
        };
        let lost = |seq| torn == Some(seq) || is_reported_damaged(recovery, seq);
        let before = promised.len();
        promised.retain(|seq, _| head.frames.contains_key(seq) || !lost(*seq));
        self.met("losses", u64::from(promised.len() < before));
        self.met("damages", u64::from(!recovery.damage.is_empty()));
        if *promised != head.frames {
            let lost: Vec<_> = promised.keys().filter(|seq| !head.frames.contains_key(seq)).collect();
            let added: Vec<_> = head.frames.keys().filter(|seq| !promised.contains_key(seq)).collect();
            self.violate(format!("lost {lost:?}, added {added:?}, or with other bytes; {recovery:?}"));
        }
    }

    fn check_deceived(&self, head: &Head, recovery: &Recovery) {
        let mut promised = self.promised.borrow_mut();
        self.rot.take();
        for (seq, crc) in &head.frames {
            if !self.tried.borrow().contains(&(*seq, *crc)) {
                self.violate(format!("frame {seq} was never committed with these bytes; {recovery:?}"));
            }
        }
        let evidence_seq = if self.superblock_lost.get() { 0 } else { self.evidence_seq.get() };
        let (mut told, mut silent) = (0, 0);
        for seq in promised.keys().filter(|seq| !head.frames.contains_key(seq)) {
            if is_reported_damaged(recovery, *seq) || recovery.missing.iter().any(|range| range.contains(seq))
            {
                told += 1;
            } else if *seq < evidence_seq {
                self.violate(format!(
                    "frame {seq} is lost, and frame {evidence_seq} proves it; {recovery:?}"
                ));
            } else {
                silent += 1;
            }
        }
        self.met("losses to a lying disk that are told", told);
        self.met("losses to a lying disk without a trace", silent);
        promised.clone_from(&head.frames);
    }
}

fn is_reported_damaged(recovery: &Recovery, seq: u64) -> bool {
    recovery.damage.iter().filter_map(|damage| damage.lost.as_ref()).any(|lost| lost.contains(&seq))
}

/// The small head: which frames its state includes.
#[derive(Default, Clone)]
pub(super) struct Head {
    pub frames: BTreeMap<u64, u32>,
    /// Up to which frame the page of each slice goes.
    page_seqs: [u64; SLICES as usize],
    replayed_seq: u64,
}

impl Head {
    pub fn replay(&mut self, seq: u64, crc: u32) -> Result<(), String> {
        if seq <= self.replayed_seq {
            return Err(format!("frame {seq} was replayed after {}", self.replayed_seq));
        }
        self.replayed_seq = seq;
        if seq > self.page_seqs[(seq % SLICES) as usize] && self.frames.insert(seq, crc).is_some() {
            return Err(format!("frame {seq} was applied twice"));
        }
        Ok(())
    }

    pub fn page(&self, slice: u64) -> Vec<u8> {
        let mut bytes = slice.to_le_bytes().to_vec();
        for (seq, crc) in self.frames.iter().filter(|(seq, _)| *seq % SLICES == slice) {
            bytes.extend_from_slice(&seq.to_le_bytes());
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        bytes
    }
}

impl PageVisitor for Head {
    fn reset(&mut self) {
        *self = Head::default();
    }

    fn page(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (slice, entries) = bytes.split_first_chunk::<8>().ok_or("a page without a slice")?;
        self.page_seqs[u64::from_le_bytes(*slice) as usize] = seq;
        for entry in entries.chunks_exact(12) {
            let (seq, crc) = entry.split_at(8);
            self.frames.insert(u64::from_le_bytes(seq.try_into()?), u32::from_le_bytes(crc.try_into()?));
        }
        Ok(())
    }
}

/// Watches each write to the ring: for frames that it would destroy, and for where frames go.
pub(super) struct Watched<'a, D> {
    pub inner: D,
    pub disk: SimDisk,
    pub model: &'a Model,
}

impl<D> Watched<'_, D> {
    // The format by hand: a reader of the same code would share its mistakes.
    fn check_overwritten(&self, buffer: &[u8], offset: usize) {
        let number =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        // A misdirected frame may have taken the place of a copy; the other one is enough. Without any, the ring is lost.
        let tail_seq = self.disk.with_bytes_at(0, 2 * BLOCK_BYTES, |copies| {
            let copies = copies.chunks(BLOCK_BYTES).filter(|copy| copy.starts_with(b"annulusW"));
            copies.map(|copy| number(copy, 40)).min().unwrap_or(u64::MAX)
        });
        for (new, block) in buffer.chunks(BLOCK_BYTES).zip((offset..).step_by(BLOCK_BYTES)) {
            let old = self.disk.readable(block, BLOCK_BYTES);
            let seq = number(&old, 8);
            let crc = u32::from_le_bytes(old[40..44].try_into().expect("four"));
            let in_place = self.model.places.borrow().get(&seq).is_some_and(|place| place.0 == block);
            let promised = self.model.promised.borrow().get(&seq) == Some(&crc) && in_place;
            let promised = promised && !self.model.is_abandoned(seq);
            if old.starts_with(b"AnWF") && promised && seq >= tail_seq && old != new {
                self.model.violate(format!("frame {seq} is needed and was overwritten"));
            }
        }
    }
}

impl<D: DirectFile<Buffer = Vec<u8>, Read = Vec<u8>>> DirectFile for Watched<'_, D> {
    type Buffer = Vec<u8>;
    type Read = Vec<u8>;

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn allocate(&self, len: usize) -> Vec<u8> {
        self.inner.allocate(len)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.inner.read_at(offset, len).await
    }

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        let at = offset as usize;
        if offset < SUPERBLOCK_BYTES {
            self.inner.write_at(buffer.clone(), offset).await?;
            let written = self.disk.with_bytes_at(at, buffer.len(), |bytes| bytes == buffer);
            if self.disk.deceives() && !written {
                self.model.superblock_lost.set(true);
            }
            return Ok(());
        }
        if !self.model.superblock_lost.get() {
            self.check_overwritten(&buffer, at);
        }
        if buffer[..4] == *b"AnWF" {
            let seq = u64::from_le_bytes(buffer[8..16].try_into().expect("eight"));
            self.model.places.borrow_mut().insert(seq, (at, buffer.clone()));
        }
        self.inner.write_at(buffer, offset).await
    }

    async fn yield_now(&self) {
        self.inner.yield_now().await;
    }

    async fn close(self) -> io::Result<()> {
        self.inner.close().await
    }
}
