//! One series: its open chunk, its closed chunks, its late samples, and the decision on each sample.

use super::error::AppendError;
use super::key::SeriesKey;
use super::late::Late;
use super::open::{Open, OpenHistograms};
use super::rules::{Rules, window_of};
use crate::chunk::{
    AnyHistogram, Appended as ChunkAppended, Encoding, FloatHistogram, Histogram, Value, XorState,
    decode_values_until,
};
use crate::chunklog::{ChunkLog, ChunkPlace};
use crate::is_stale;

/// Samples after which a chunk is closed (Prometheus: 120).
pub const CHUNK_SAMPLES_MAX: u16 = 120;

/// Memory of an open chunk when it begins.
const WORDS_BYTES_MIN: usize = 24;

/// Chunks of late samples that are read to tell a late sample from a repeated one. A sender may make thousands that all
/// overlap; what repeats in older ones is stored once more, and readers take one of the two.
const LATE_CHUNKS_READ_MAX: usize = 32;

/// Numbers of closed chunks after which no further one is read for a late sample: a few milliseconds of work. A chunk of
/// histograms may have 100,000.
const CLOSED_WORK_MAX: Work = 256 << 10;

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

/// How many numbers of chunks were decoded and encoded for samples, beside those of the samples themselves: some 5 ns
/// each.
pub type Work = usize;

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

/// The chunk of a series that takes samples.
#[derive(Debug, Clone, Copy)]
pub struct OpenChunk<'a> {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// How it is encoded.
    pub encoding: Encoding,
    bytes: OpenBytes<'a>,
}

/// Where the bytes of an open chunk are.
#[derive(Debug, Clone, Copy)]
enum OpenBytes<'a> {
    Whole(&'a [u8]),
    Floats(&'a XorState, &'a [u8]),
}

impl OpenChunk<'_> {
    /// How many bytes the chunk has so far.
    pub fn len(self) -> usize {
        match self.bytes {
            OpenBytes::Whole(bytes) => bytes.len(),
            OpenBytes::Floats(state, words) => state.chunk_len(words),
        }
    }

    /// Copies the chunk so far to the end of `out`.
    pub fn write_to(self, out: &mut Vec<u8>) {
        match self.bytes {
            OpenBytes::Whole(bytes) => out.extend_from_slice(bytes),
            OpenBytes::Floats(state, words) => state.write_to(words, out),
        }
    }

    /// A copy of the chunk so far.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.write_to(&mut bytes);
        bytes
    }

    /// Whether it may have a sample of the range (both ends inclusive).
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        self.min_ms <= max_ms && self.max_ms >= min_ms
    }
}

/// What comes to a series at one time.
#[derive(Clone, Copy)]
enum Sample<'a> {
    Float(f64),
    Histogram(&'a AnyHistogram),
}

impl<'a> Sample<'a> {
    fn value(self) -> Value<'a> {
        match self {
            Sample::Float(value) => Value::Float(value),
            Sample::Histogram(histogram) => histogram.value(),
        }
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

/// The closed chunks of a series. Most series of a young head have none: one pointer instead of a vector's three words.
type Closed = Option<Box<Vec<ClosedChunk>>>;

/// A series of the head, or a vacant place for one.
///
/// Two lines of memory that processors fetch as a pair. The first has all that is read for a sample; for two samples of
/// three nothing else is written to either.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Series {
    /// Its key, to tell it from others with the same table hash.
    pub key: SeriesKey,
    open: Open,
    /// End of the open chunk's window: no sample from there on joins it.
    open_end_ms: i64,
    /// Whole words of the open chunk of floats; empty while it is of histograms.
    words: Vec<u8>,
    open_min_ms: i64,
    /// In order of time.
    closed: Closed,
    /// Samples that came later than newer ones.
    late: Option<Box<Late>>,
    /// First of its label pairs in the index's list.
    pub pairs_start: u32,
    /// How many label pairs it has; 0 is a vacant place.
    pub pairs_count: u16,
}

impl Series {
    /// A series without samples.
    pub fn new(key: SeriesKey, pairs_start: u32, pairs_count: u16) -> Series {
        Series {
            key,
            pairs_start,
            pairs_count,
            open: Open::default(),
            words: Vec::new(),
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

    /// Sets the open chunk of floats that a checkpoint holds, as [`XorState::resume`] gives it.
    pub fn restore_open(&mut self, open: XorState, words: Vec<u8>, open_min_ms: i64, open_end_ms: i64) {
        self.open = Open::Floats(open);
        self.words = words;
        self.open_min_ms = open_min_ms;
        self.open_end_ms = open_end_ms;
    }

    /// Sets the open chunk of histograms that a checkpoint holds; its times came with the series.
    pub fn restore_histograms(&mut self, open: OpenHistograms) {
        self.open = Open::Histograms(Box::new(open));
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
        work: &mut Work,
    ) -> Result<(Appended, i64), AppendError> {
        let Open::Floats(open) = &mut self.open else {
            return self.append_after_histograms(timestamp_ms, value, rules, log, read, work);
        };
        let count = open.count();
        if count > 0 && timestamp_ms <= open.last().0 {
            return self.append_old(timestamp_ms, Sample::Float(value), rules, log, read, work);
        }
        if timestamp_ms < rules.floor_ms || timestamp_ms > rules.ceiling_ms {
            return Err(rules.out_of_bounds(timestamp_ms));
        }
        if count == 0 || count == CHUNK_SAMPLES_MAX || timestamp_ms >= self.open_end_ms {
            return Ok((Appended::Stored, self.begin_chunk(timestamp_ms, value, rules, log)));
        }
        let grown = open.append(&mut self.words, timestamp_ms, value);
        Ok((Appended::Stored, grown as i64))
    }

    /// Appends the first sample of a chunk of floats, in the memory of the finished one if there is one.
    #[inline(never)]
    fn begin_chunk(
        &mut self,
        timestamp_ms: i64,
        value: f64,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
    ) -> i64 {
        let before = self.memory_bytes_of_open();
        self.close_open(rules, log);
        // The least that the allocator gives, at once: a first chunk would grow to it in two steps.
        self.words.reserve(WORDS_BYTES_MIN);
        let mut open = XorState::default();
        open.append(&mut self.words, timestamp_ms, value);
        self.open = Open::Floats(open);
        self.open_min_ms = timestamp_ms;
        self.open_end_ms = window_of(timestamp_ms, rules.window_ms).end;
        self.memory_bytes_of_open() - before
    }

    /// Gives the open chunk to the log, if it has a sample. What follows begins another one.
    fn close_open(&mut self, rules: &Rules, log: &std::cell::RefCell<ChunkLog>) {
        if self.open.count() == 0 {
            return;
        }
        let times_ms = (self.open_min_ms, self.open.last_ms());
        let (encoding, bytes) = match &mut self.open {
            Open::Floats(open) => {
                open.seal(&mut self.words);
                (Encoding::Xor, &self.words[..])
            }
            Open::Histograms(open) => (open.encoding(), open.bytes()),
        };
        close(&mut self.closed, &mut log.borrow_mut(), rules, times_ms, encoding, bytes);
        self.words.clear();
    }

    /// A float after histograms begins a chunk of floats. A stale marker stays with the histograms, as in Prometheus: it
    /// says that they ended, and scrapers send it as a float.
    #[cold]
    fn append_after_histograms(
        &mut self,
        timestamp_ms: i64,
        value: f64,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
        read: &impl ReadChunks,
        work: &mut Work,
    ) -> Result<(Appended, i64), AppendError> {
        if timestamp_ms <= self.open.last_ms() {
            return self.append_old(timestamp_ms, Sample::Float(value), rules, log, read, work);
        }
        if is_stale(value) {
            let stale = match self.open.encoding() {
                Encoding::FloatHistogram => AnyHistogram::Float(FloatHistogram::stale()),
                _ => AnyHistogram::Integer(Histogram::stale()),
            };
            return self.append_histogram(timestamp_ms, &stale, rules, log, read, work);
        }
        if timestamp_ms < rules.floor_ms || timestamp_ms > rules.ceiling_ms {
            return Err(rules.out_of_bounds(timestamp_ms));
        }
        Ok((Appended::Stored, self.begin_chunk(timestamp_ms, value, rules, log)))
    }

    /// Appends one native histogram, as [`Series::append`] does.
    pub fn append_histogram(
        &mut self,
        timestamp_ms: i64,
        histogram: &AnyHistogram,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
        read: &impl ReadChunks,
        work: &mut Work,
    ) -> Result<(Appended, i64), AppendError> {
        histogram.check_shape().map_err(|_| AppendError::Shape { timestamp_ms })?;
        if self.open.count() > 0 && timestamp_ms <= self.open.last_ms() {
            return self.append_old(timestamp_ms, Sample::Histogram(histogram), rules, log, read, work);
        }
        if timestamp_ms < rules.floor_ms || timestamp_ms > rules.ceiling_ms {
            return Err(rules.out_of_bounds(timestamp_ms));
        }
        let before = self.memory_bytes_of_open();
        let mut times_ms = (self.open_min_ms, self.open.last_ms());
        let takes = matches!(&self.open, Open::Histograms(open) if open.takes(histogram));
        if !takes {
            self.close_open(rules, log);
            self.words = Vec::new();
            self.open = Open::Histograms(Box::new(OpenHistograms::empty_for(histogram)));
        }
        let Open::Histograms(open) = &mut self.open else { unreachable!("it was set above") };
        let encoding = open.encoding();
        if open.count() > 0 && (timestamp_ms >= self.open_end_ms || open.is_full_for(histogram)) {
            close(&mut self.closed, &mut log.borrow_mut(), rules, times_ms, encoding, &open.seal());
        }
        if open.count() == 0 {
            times_ms.0 = timestamp_ms;
        }
        match open.append(timestamp_ms, histogram) {
            ChunkAppended::AsIs => *work += open.bucket_count(),
            // All samples are decoded, and encoded again.
            ChunkAppended::Recoded => *work += 2 * usize::from(open.count()) * open.bucket_count(),
            ChunkAppended::Cut(finished) => {
                close(&mut self.closed, &mut log.borrow_mut(), rules, times_ms, encoding, &finished);
                times_ms.0 = timestamp_ms;
            }
        }
        if times_ms.0 == timestamp_ms {
            self.open_min_ms = timestamp_ms;
            self.open_end_ms = window_of(timestamp_ms, rules.window_ms).end;
        }
        Ok((Appended::Stored, self.memory_bytes_of_open() - before))
    }

    /// A sample that is not newer than the newest. A sender that got no answer sends a whole request again, so
    /// what is stored already is not an error.
    #[cold]
    fn append_old(
        &mut self,
        timestamp_ms: i64,
        sample: Sample<'_>,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
        read: &impl ReadChunks,
        work: &mut Work,
    ) -> Result<(Appended, i64), AppendError> {
        let value = sample.value();
        let mut repeats = match &self.open {
            Open::Floats(open) if timestamp_ms == open.last().0 => {
                Some(Value::Float(f64::from_bits(open.last().1)).is_repeated_by(value))
            }
            _ => self
                .open()
                .filter(|open| timestamp_ms >= open.min_ms)
                .and_then(|open| repeats_in(open.encoding, &open.to_bytes(), timestamp_ms, value, work)),
        };
        repeats = repeats.or_else(|| self.late.as_ref()?.is_repeated_by(timestamp_ms, value, work));
        if repeats.is_none() && timestamp_ms < rules.floor_ms {
            return Err(rules.out_of_bounds(timestamp_ms));
        }
        if repeats.is_none() {
            let log = log.borrow();
            let work_before = *work;
            for place in self.closed_at(timestamp_ms) {
                if *work - work_before > CLOSED_WORK_MAX {
                    break;
                }
                let Some(bytes) = log.pending(place).or_else(|| read.get(place)) else {
                    return Ok((Appended::Unread(place), 0));
                };
                repeats = repeats_in(place.encoding(), bytes, timestamp_ms, value, work);
                if repeats.is_some() {
                    break;
                }
            }
        }
        match repeats {
            Some(true) => Ok((Appended::Repeat, 0)),
            Some(false) => Err(AppendError::Conflict { timestamp_ms }),
            None => self.append_late(timestamp_ms, sample, rules, log, work),
        }
    }

    fn append_late(
        &mut self,
        timestamp_ms: i64,
        sample: Sample<'_>,
        rules: &Rules,
        log: &std::cell::RefCell<ChunkLog>,
        work: &mut Work,
    ) -> Result<(Appended, i64), AppendError> {
        let Some(late_floor_ms) = rules.late_floor_ms else {
            return Err(AppendError::OutOfOrder { timestamp_ms, last_ms: self.open.last_ms() });
        };
        if timestamp_ms < late_floor_ms {
            return Err(AppendError::TooOld { timestamp_ms, oldest_ms: late_floor_ms });
        }
        // The box of the first late sample counts as well.
        let before = self.late.as_ref().map_or(0, |late| late.memory_bytes());
        let late = self.late.get_or_insert_default();
        match sample {
            Sample::Float(value) => {
                late.insert(timestamp_ms, value, &mut log.borrow_mut(), rules.window_ms);
            }
            Sample::Histogram(histogram) => {
                *work +=
                    late.insert_histogram(timestamp_ms, histogram, &mut log.borrow_mut(), rules.window_ms);
            }
        }
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
        match self.append(timestamp_ms, value, &rules, log, &(), &mut 0)? {
            (Appended::Unread(_), _) => {
                self.append_late(timestamp_ms, Sample::Float(value), &rules, log, &mut 0)
            }
            done => Ok(done),
        }
    }

    /// Appends a histogram from the WAL, as [`Series::replay`] does.
    pub fn replay_histogram(
        &mut self,
        timestamp_ms: i64,
        histogram: &AnyHistogram,
        window_ms: i64,
        log: &std::cell::RefCell<ChunkLog>,
    ) -> Result<(Appended, i64), AppendError> {
        let rules = Rules::replay(window_ms);
        match self.append_histogram(timestamp_ms, histogram, &rules, log, &(), &mut 0)? {
            (Appended::Unread(_), _) => {
                self.append_late(timestamp_ms, Sample::Histogram(histogram), &rules, log, &mut 0)
            }
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

    /// The open chunk. `None` before the first sample.
    pub fn open(&self) -> Option<OpenChunk<'_>> {
        (self.open.count() > 0).then(|| OpenChunk {
            min_ms: self.open_min_ms,
            max_ms: self.open.last_ms(),
            encoding: self.open.encoding(),
            bytes: match &self.open {
                Open::Floats(open) => OpenBytes::Floats(open, &self.words),
                Open::Histograms(open) => OpenBytes::Whole(open.bytes()),
            },
        })
    }

    /// End of the open chunk's window.
    pub fn open_end_ms(&self) -> i64 {
        self.open_end_ms
    }

    /// Time of the oldest and of the newest sample, if there is any.
    pub fn extent(&self) -> Option<(i64, i64)> {
        let open = self.open().map(|open| (open.min_ms, open.max_ms));
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
        let open = self.open().is_some_and(|open| open.overlaps(min_ms, max_ms));
        open || self.closed().iter().any(|chunk| chunk.overlaps(min_ms, max_ms))
            || self.late.as_ref().is_some_and(|late| late.overlaps(min_ms, max_ms))
    }

    /// Memory of samples: the open chunk and late samples.
    pub fn memory_bytes(&self) -> i64 {
        self.memory_bytes_of_open() + self.late.as_ref().map_or(0, |late| late.memory_bytes())
    }

    fn memory_bytes_of_open(&self) -> i64 {
        let bytes = match &self.open {
            Open::Floats(_) => self.words.len(),
            Open::Histograms(open) => open.bytes().len() + open.state_bytes(),
        };
        bytes as i64
    }

    /// Drops the chunks that end before `below_ms`, and late samples before it.
    pub fn truncate(&mut self, below_ms: i64, log: &mut ChunkLog) {
        if self.open.count() > 0 && self.open.last_ms() < below_ms {
            self.open = Open::default();
            self.words = Vec::new();
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

/// Gives a chunk that takes no more samples to the log.
fn close(
    closed: &mut Closed,
    log: &mut ChunkLog,
    rules: &Rules,
    (min_ms, max_ms): (i64, i64),
    encoding: Encoding,
    bytes: &[u8],
) {
    let window_ms = window_of(min_ms, rules.window_ms).start;
    let place = log.append(window_ms, encoding, bytes);
    // The window bounds the span, and a window is shorter than 2^32 milliseconds.
    let span_ms = max_ms.wrapping_sub(min_ms) as u32;
    closed.get_or_insert_default().push(ClosedChunk { min_ms, span_ms, place });
}

/// Whether a sample repeats the one that a chunk has for its time; `None` if it has none. A chunk that cannot be decoded
/// holds nothing that is known.
fn repeats_in(
    encoding: Encoding,
    chunk: &[u8],
    timestamp_ms: i64,
    value: Value<'_>,
    work: &mut Work,
) -> Option<bool> {
    let mut repeats = None;
    let decoded = decode_values_until(encoding, chunk, timestamp_ms, |at_ms, stored| {
        *work += stored.number_count();
        if at_ms == timestamp_ms {
            repeats = Some(stored.is_repeated_by(value));
        }
    });
    decoded.ok().and(repeats)
}

#[cfg(test)]
mod tests;
