//! One series: its open chunk, its closed chunks, its late samples, and the decision on each sample.

use super::error::AppendError;
use super::key::SeriesKey;
use super::late::Late;
use super::rules::{Rules, window_of};
use crate::chunk::{Encoding, XorAppender, decode};
use crate::chunklog::{ChunkLog, ChunkPlace};

/// Samples after which a chunk is closed (Prometheus: 120).
pub const CHUNK_SAMPLES_MAX: u16 = 120;

/// Chunks of late samples that are read to tell a late sample from a repeated one. A sender may make thousands that all
/// overlap; what repeats in older ones is stored once more, and readers take one of the two.
const LATE_CHUNKS_READ_MAX: usize = 32;

/// What became of a sample that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new, and the newest of its series.
    Stored,
    /// It is new, and older than the newest of its series.
    Late,
    /// It was stored before, bit for bit: a sender's retry.
    Repeat,
    /// Nothing yet: whether it was stored before is in a closed chunk, which has to be read first.
    Unread(ChunkPlace),
}

/// A chunk that takes no more samples; its bytes are in the chunk log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedChunk {
    /// Time of the first sample.
    pub min_ms: i64,
    /// From there to the last sample; a chunk lies in one window.
    pub span_ms: u32,
    /// Where it is.
    pub place: ChunkPlace,
}

impl ClosedChunk {
    /// Time of the last sample.
    pub fn max_ms(&self) -> i64 {
        self.min_ms.saturating_add(i64::from(self.span_ms))
    }

    /// Whether it may have a sample of the range (both ends inclusive).
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        self.min_ms <= max_ms && self.max_ms() >= min_ms
    }
}

/// Closed chunks that were read to decide on old samples.
pub trait ReadChunks {
    /// The content of a chunk, if it was read.
    fn get(&self, place: ChunkPlace) -> Option<&[u8]>;
}

/// Nothing was read.
impl ReadChunks for () {
    fn get(&self, _place: ChunkPlace) -> Option<&[u8]> {
        None
    }
}

/// A series of the head, or a vacant place for one.
#[derive(Debug)]
pub struct Series {
    /// Its key, to tell it from others with the same table hash.
    pub key: SeriesKey,
    /// First of its label pairs in the index's list.
    pub pairs_start: u32,
    /// How many label pairs it has; 0 is a vacant place.
    pub pairs_count: u16,
    open: XorAppender,
    open_min_ms: i64,
    /// End of the open chunk's window: no sample from there on joins it.
    open_end_ms: i64,
    /// In order of time. Most series of a young head have none: one pointer instead of a vector's three words.
    #[expect(
        clippy::box_collection,
        reason = "a vector inside the series would cost 16 bytes more per series"
    )]
    closed: Option<Box<Vec<ClosedChunk>>>,
    /// Samples that came later than newer ones.
    late: Option<Box<Late>>,
}

impl Series {
    /// A series without samples.
    pub fn new(key: SeriesKey, pairs_start: u32, pairs_count: u16) -> Series {
        Series {
            key,
            pairs_start,
            pairs_count,
            open: XorAppender::default(),
            open_min_ms: 0,
            open_end_ms: 0,
            closed: None,
            late: None,
        }
    }

    /// A place without a series.
    pub fn vacant() -> Series {
        Series::new(SeriesKey(0), 0, 0)
    }

    /// Whether this is a place without a series.
    pub fn is_vacant(&self) -> bool {
        self.pairs_count == 0
    }

    /// Whether no sample is left.
    pub fn is_empty(&self) -> bool {
        self.open.count() == 0 && self.closed.is_none() && self.late.is_none()
    }

    /// Sets the open chunk that a checkpoint holds.
    pub fn restore_open(&mut self, open: XorAppender, open_min_ms: i64, open_end_ms: i64) {
        self.open = open;
        self.open_min_ms = open_min_ms;
        self.open_end_ms = open_end_ms;
    }

    /// Adds a closed chunk that a checkpoint holds; they come in order of time.
    pub fn restore_closed(&mut self, chunk: ClosedChunk) {
        self.closed.get_or_insert_default().push(chunk);
    }

    /// The late samples, to be filled by a checkpoint.
    pub fn late_mut(&mut self) -> &mut Late {
        self.late.get_or_insert_default()
    }

    /// Appends one sample, and returns by how many bytes the memory of its samples changed. An error leaves the series
    /// as it was.
    #[inline]
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        value: f64,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
        read: &impl ReadChunks,
    ) -> Result<(Appended, i64), AppendError> {
        let count = self.open.count();
        let last_ms = self.open.last().0;
        if count > 0 && timestamp_ms <= last_ms {
            return self.append_old(timestamp_ms, value, rules, log, read);
        }
        if timestamp_ms < rules.floor_ms || timestamp_ms > rules.ceiling_ms {
            return Err(rules.out_of_bounds(timestamp_ms));
        }
        let before = self.open.bytes().len() as i64;
        if count == 0 || count == CHUNK_SAMPLES_MAX || timestamp_ms >= self.open_end_ms {
            if count > 0 {
                self.close(&mut log.borrow_mut(), rules);
            }
            self.open_min_ms = timestamp_ms;
            self.open_end_ms = window_of(timestamp_ms, rules.window_ms).end;
        }
        self.open.append(timestamp_ms, value);
        Ok((Appended::Stored, self.open.bytes().len() as i64 - before))
    }

    fn close(&mut self, log: &mut ChunkLog, rules: &Rules) {
        let (min_ms, max_ms) = (self.open_min_ms, self.open.last().0);
        let window_ms = window_of(min_ms, rules.window_ms).start;
        let place = log.append(window_ms, Encoding::Xor, self.open.bytes());
        // The window bounds the span, and a window is shorter than 2^32 milliseconds.
        let span_ms = max_ms.wrapping_sub(min_ms) as u32;
        self.closed.get_or_insert_default().push(ClosedChunk { min_ms, span_ms, place });
        self.open.restart();
    }

    /// A sample that is not newer than the newest. A sender that got no answer sends a whole request again, so
    /// what is stored already is not an error.
    #[cold]
    fn append_old(
        &mut self,
        timestamp_ms: i64,
        value: f64,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
        read: &impl ReadChunks,
    ) -> Result<(Appended, i64), AppendError> {
        let (last_ms, last_bits) = self.open.last();
        let stored = if timestamp_ms == last_ms {
            Some(last_bits)
        } else if timestamp_ms >= self.open_min_ms {
            bits_at(self.open.bytes(), timestamp_ms)
        } else {
            None
        };
        let stored = stored.or_else(|| self.late.as_ref()?.bits_at(timestamp_ms));
        let stored = match stored {
            Some(bits) => Some(bits),
            None if timestamp_ms < rules.floor_ms => return Err(rules.out_of_bounds(timestamp_ms)),
            None => {
                let (log, mut stored) = (log.borrow(), None);
                for place in self.closed_at(timestamp_ms) {
                    let Some(bytes) = log.pending(place).or_else(|| read.get(place)) else {
                        return Ok((Appended::Unread(place), 0));
                    };
                    stored = bits_at(bytes, timestamp_ms);
                    if stored.is_some() {
                        break;
                    }
                }
                stored
            }
        };
        match stored {
            Some(bits) if bits == value.to_bits() => Ok((Appended::Repeat, 0)),
            Some(_) => Err(AppendError::Conflict { timestamp_ms }),
            None => self.append_late(timestamp_ms, value, rules, log),
        }
    }

    fn append_late(
        &mut self,
        timestamp_ms: i64,
        value: f64,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
    ) -> Result<(Appended, i64), AppendError> {
        let Some(late_floor_ms) = rules.late_floor_ms else {
            return Err(AppendError::OutOfOrder { timestamp_ms, last_ms: self.open.last().0 });
        };
        if timestamp_ms < late_floor_ms {
            return Err(AppendError::TooOld { timestamp_ms, oldest_ms: late_floor_ms });
        }
        // The box of the first late sample counts as well.
        let before = self.late.as_ref().map_or(0, |late| late.memory_bytes());
        let late = self.late.get_or_insert_default();
        late.insert(timestamp_ms, value, &mut log.borrow_mut(), rules.window_ms);
        Ok((Appended::Late, late.memory_bytes() - before))
    }

    /// Appends a sample that was accepted once, from the WAL: no rule applies, and what may be in a chunk that is not
    /// in memory is taken as late; readers give one of two equal samples.
    pub fn replay(
        &mut self,
        timestamp_ms: i64,
        value: f64,
        window_ms: i64,
        log: &std::cell::RefCell<ChunkLog>,
    ) -> Result<(Appended, i64), AppendError> {
        let rules = Rules::replay(window_ms);
        match self.append(timestamp_ms, value, &rules, log, &())? {
            (Appended::Unread(_), _) => self.append_late(timestamp_ms, value, &rules, log),
            done => Ok(done),
        }
    }

    /// The closed chunks in which a time may be: one of those in order, any of the last ones of late samples.
    fn closed_at(&self, timestamp_ms: i64) -> impl Iterator<Item = ChunkPlace> {
        let closed = self.closed();
        let index = closed.partition_point(|chunk| chunk.max_ms() < timestamp_ms);
        let late = self.late().map_or(&[][..], Late::closed);
        let late = &late[late.len().saturating_sub(LATE_CHUNKS_READ_MAX)..];
        let chunks = closed.get(index).into_iter().chain(late);
        chunks.filter(move |chunk| chunk.overlaps(timestamp_ms, timestamp_ms)).map(|chunk| chunk.place)
    }

    /// The chunks that take no more samples, in order of time.
    pub fn closed(&self) -> &[ClosedChunk] {
        self.closed.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The late samples.
    pub fn late(&self) -> Option<&Late> {
        self.late.as_deref()
    }

    /// The open chunk: time of its first and last sample, and its bytes so far. `None` before the first sample.
    pub fn open(&self) -> Option<(i64, i64, &[u8])> {
        (self.open.count() > 0).then(|| (self.open_min_ms, self.open.last().0, self.open.bytes()))
    }

    /// End of the open chunk's window.
    pub fn open_end_ms(&self) -> i64 {
        self.open_end_ms
    }

    /// Reads where the next sample is written: the count at the open chunk's beginning, and its end.
    #[inline]
    pub fn touch(&self) -> u64 {
        let bytes = self.open.bytes();
        u64::from(bytes.first().copied().unwrap_or(0) ^ bytes.last().copied().unwrap_or(0))
    }

    /// Time of the oldest and of the newest sample, if there is any.
    pub fn extent(&self) -> Option<(i64, i64)> {
        let open = self.open().map(|(min_ms, max_ms, _)| (min_ms, max_ms));
        let closed = self
            .closed()
            .first()
            .map(|chunk| chunk.min_ms)
            .zip(self.closed().last().map(ClosedChunk::max_ms));
        let late = self.late.as_ref().and_then(|late| late.extent());
        [open, closed, late].into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether any chunk may hold a sample of the range (both ends inclusive).
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        let open = self.open().is_some_and(|(first_ms, last_ms, _)| first_ms <= max_ms && last_ms >= min_ms);
        open || self.closed().iter().any(|chunk| chunk.overlaps(min_ms, max_ms))
            || self.late.as_ref().is_some_and(|late| late.overlaps(min_ms, max_ms))
    }

    /// Memory of samples: the open chunk and late samples.
    pub fn memory_bytes(&self) -> i64 {
        self.open.bytes().len() as i64 + self.late.as_ref().map_or(0, |late| late.memory_bytes())
    }

    /// Drops the chunks that end before `below_ms`, and late samples before it.
    pub fn truncate(&mut self, below_ms: i64, log: &mut ChunkLog) {
        if self.open.count() > 0 && self.open.last().0 < below_ms {
            self.open = XorAppender::default();
        }
        self.retain_closed(log, |chunk| chunk.max_ms() >= below_ms);
        if let Some(late) = &mut self.late
            && late.truncate(below_ms, log)
        {
            self.late = None;
        }
    }

    /// Keeps the chunks in the log that fulfil a condition, those of late samples too.
    pub fn retain_all_closed(&mut self, log: &mut ChunkLog, keep: impl Fn(&ClosedChunk) -> bool) {
        self.retain_closed(log, &keep);
        if let Some(late) = &mut self.late {
            late.retain_closed(log, keep);
        }
    }

    /// Keeps the closed chunks that fulfil a condition.
    fn retain_closed(&mut self, log: &mut ChunkLog, keep: impl Fn(&ClosedChunk) -> bool) {
        if let Some(closed) = &mut self.closed {
            closed.retain(|chunk| {
                let kept = keep(chunk);
                if !kept {
                    log.release(chunk.place);
                }
                kept
            });
            if closed.is_empty() {
                self.closed = None;
            }
        }
    }

    /// Drops everything, before the place becomes another's.
    pub fn release_all(&mut self, log: &mut ChunkLog) {
        for chunk in self.closed().iter().chain(self.late.iter().flat_map(|late| late.closed())) {
            log.release(chunk.place);
        }
        *self = Series::vacant();
    }
}

/// The value stored for one time in a chunk. A chunk that cannot be decoded holds nothing that is known.
fn bits_at(chunk: &[u8], timestamp_ms: i64) -> Option<u64> {
    let mut found = None;
    let decoded = decode(Encoding::Xor, chunk, |at_ms, value| {
        if at_ms == timestamp_ms {
            found = Some(value.to_bits());
        }
    });
    decoded.ok().and(found)
}

#[cfg(test)]
mod tests;
