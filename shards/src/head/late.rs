//! Samples that came later than newer ones of their series: few in memory, in order of time, the others in chunks of
//! their own, which may overlap each other and those of the series.

use super::late_histograms::{LateHistogram, LateHistograms};
use super::rules::window_of;
use super::series::{ClosedChunk, Work};
use crate::chunk::{AnyHistogram, Encoding, Value, XorAppender};
use crate::chunklog::ChunkLog;

/// Samples in memory before they become a chunk (Prometheus `out_of_order_cap_max`: 32).
const SAMPLES_MAX: usize = 32;

/// The late samples of one series.
#[derive(Debug, Default)]
pub struct Late {
    /// Time and bits of the value, by time, each time once.
    samples: Vec<(i64, u64)>,
    histograms: Option<Box<LateHistograms>>,
    closed: Vec<ClosedChunk>,
}

impl Late {
    /// Adds a sample. At a time that is taken the earlier one stays: the caller has looked.
    pub fn insert(&mut self, timestamp_ms: i64, value: f64, log: &mut ChunkLog, window_ms: i64) {
        if self.samples.len() >= SAMPLES_MAX {
            self.close(log, window_ms);
        }
        if let Err(at) = self.samples.binary_search_by_key(&timestamp_ms, |sample| sample.0) {
            self.samples.insert(at, (timestamp_ms, value.to_bits()));
        }
    }

    /// Adds a histogram, as [`Late::insert`] does, and returns how much work it was.
    pub fn insert_histogram(
        &mut self,
        timestamp_ms: i64,
        histogram: &AnyHistogram,
        log: &mut ChunkLog,
        window_ms: i64,
    ) -> Work {
        let mut work = 0;
        let histograms = self.histograms.get_or_insert_default();
        if histograms.is_full() {
            work = histograms.encode_work();
            for chunk in histograms.chunks(window_ms) {
                let span_ms = chunk.max_ms.wrapping_sub(chunk.min_ms) as u32;
                let window_ms = window_of(chunk.min_ms, window_ms).start;
                let place = log.append(window_ms, chunk.encoding, &chunk.bytes);
                self.closed.push(ClosedChunk { min_ms: chunk.min_ms, span_ms, place });
            }
            histograms.clear();
        }
        histograms.insert(LateHistogram::new(timestamp_ms, histogram));
        work
    }

    /// Makes chunks of the float samples, one per window.
    fn close(&mut self, log: &mut ChunkLog, window_ms: i64) {
        for chunk in self.samples.chunk_by(|a, b| window_of(a.0, window_ms) == window_of(b.0, window_ms)) {
            let (min_ms, max_ms, bytes) = encode(chunk);
            let place = log.append(window_of(min_ms, window_ms).start, Encoding::Xor, &bytes);
            self.closed.push(ClosedChunk { min_ms, span_ms: max_ms.wrapping_sub(min_ms) as u32, place });
        }
        self.samples.clear();
    }

    /// Whether a sample repeats the one that is stored for its time; `None` if there is none in memory.
    pub fn is_repeated_by(&self, timestamp_ms: i64, value: Value<'_>, work: &mut Work) -> Option<bool> {
        if let Ok(at) = self.samples.binary_search_by_key(&timestamp_ms, |sample| sample.0) {
            return Some(Value::Float(f64::from_bits(self.samples[at].1)).is_repeated_by(value));
        }
        let stored = self.histograms.as_ref()?.at(timestamp_ms)?;
        *work += stored.value().number_count();
        Some(stored.value().is_repeated_by(value))
    }

    /// Float samples in memory.
    pub fn samples(&self) -> &[(i64, u64)] {
        &self.samples
    }

    /// Histograms in memory.
    pub fn histograms(&self) -> &[LateHistogram] {
        self.histograms.as_ref().map_or(&[], |histograms| histograms.all())
    }

    /// Whether any sample is in memory.
    pub fn has_samples(&self) -> bool {
        !self.samples.is_empty() || !self.histograms().is_empty()
    }

    /// Chunks in the log, in the order in which they were made.
    pub fn closed(&self) -> &[ClosedChunk] {
        &self.closed
    }

    /// Adds a sample that a checkpoint holds; they come in order of time. Answers whether they do.
    pub fn restore_sample(&mut self, timestamp_ms: i64, bits: u64) -> bool {
        let fits =
            self.samples.len() < SAMPLES_MAX && self.samples.last().is_none_or(|last| last.0 < timestamp_ms);
        if fits {
            self.samples.push((timestamp_ms, bits));
        }
        fits
    }

    /// Adds a histogram that a checkpoint holds, as [`Late::restore_sample`] does.
    pub fn restore_histogram(&mut self, late: LateHistogram) -> bool {
        let histograms = self.histograms.get_or_insert_default();
        let fits = histograms.may_follow(late.timestamp_ms);
        if fits {
            histograms.insert(late);
        }
        fits
    }

    /// Adds a chunk that a checkpoint holds.
    pub fn restore_closed(&mut self, chunk: ClosedChunk) {
        self.closed.push(chunk);
    }

    /// The samples in memory as chunks, whatever the windows: time of the first, of the last, encoding and bytes.
    pub fn chunks(&self) -> Vec<(i64, i64, Encoding, Vec<u8>)> {
        let mut chunks = Vec::new();
        if !self.samples.is_empty() {
            let (min_ms, max_ms, bytes) = encode(&self.samples);
            chunks.push((min_ms, max_ms, Encoding::Xor, bytes));
        }
        let histograms = self.histograms.iter().flat_map(|histograms| histograms.chunks(i64::MAX));
        chunks.extend(
            histograms.map(|chunk| (chunk.min_ms, chunk.max_ms, chunk.encoding, chunk.bytes.into_vec())),
        );
        chunks
    }

    /// Time of the oldest and of the newest sample.
    pub fn extent(&self) -> Option<(i64, i64)> {
        let samples =
            self.samples.first().map(|sample| sample.0).zip(self.samples.last().map(|sample| sample.0));
        let histograms = self.histograms();
        let histograms = histograms.first().zip(histograms.last());
        let histograms = histograms.map(|(first, last)| (first.timestamp_ms, last.timestamp_ms));
        let closed = self.closed.iter().map(|chunk| (chunk.min_ms, chunk.max_ms()));
        closed.chain(samples).chain(histograms).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether there may be a sample of the range (both ends inclusive).
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        self.closed.iter().any(|chunk| chunk.overlaps(min_ms, max_ms))
            || self.samples.iter().any(|sample| (min_ms..=max_ms).contains(&sample.0))
            || self.histograms().iter().any(|late| (min_ms..=max_ms).contains(&late.timestamp_ms))
    }

    /// Memory of the samples.
    pub fn memory_bytes(&self) -> i64 {
        let histograms = self.histograms.as_ref().map_or(0, |histograms| histograms.memory_bytes());
        (size_of::<Late>() + self.samples.len() * size_of::<(i64, u64)>() + histograms) as i64
    }

    /// Drops what is before `below_ms`; answers whether nothing is left.
    pub fn truncate(&mut self, below_ms: i64, log: &mut ChunkLog) -> bool {
        self.samples.retain(|sample| sample.0 >= below_ms);
        if let Some(histograms) = &mut self.histograms {
            histograms.truncate(below_ms);
            if histograms.all().is_empty() {
                self.histograms = None;
            }
        }
        self.retain_closed(log, |chunk| chunk.max_ms() >= below_ms);
        !self.has_samples() && self.closed.is_empty()
    }

    /// Keeps the chunks that fulfil a condition.
    pub fn retain_closed(&mut self, log: &mut ChunkLog, keep: impl Fn(&ClosedChunk) -> bool) {
        self.closed.retain(|chunk| {
            let kept = keep(chunk);
            if !kept {
                log.release(chunk.place);
            }
            kept
        });
    }
}

fn encode(samples: &[(i64, u64)]) -> (i64, i64, Vec<u8>) {
    let mut appender = XorAppender::default();
    for (timestamp_ms, bits) in samples {
        appender.append(*timestamp_ms, f64::from_bits(*bits));
    }
    let first_ms = samples.first().map_or(0, |sample| sample.0);
    (first_ms, appender.last().0, appender.seal().into_vec())
}
