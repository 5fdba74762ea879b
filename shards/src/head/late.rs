//! Samples that came later than newer ones of their series: few in memory, in order of time, the others in chunks of
//! their own, which may overlap each other and those of the series.

use super::rules::window_of;
use super::series::ClosedChunk;
use crate::chunk::{Encoding, XorAppender};
use crate::chunklog::ChunkLog;

/// Samples in memory before they become a chunk (Prometheus `out_of_order_cap_max`: 32).
const SAMPLES_MAX: usize = 32;

/// The late samples of one series.
#[derive(Debug, Default)]
pub struct Late {
    /// Time and bits of the value, by time, each time once.
    samples: Vec<(i64, u64)>,
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

    /// Makes chunks of the samples, one per window.
    fn close(&mut self, log: &mut ChunkLog, window_ms: i64) {
        for chunk in self.samples.chunk_by(|a, b| window_of(a.0, window_ms) == window_of(b.0, window_ms)) {
            let (min_ms, max_ms, bytes) = encode(chunk);
            let place = log.append(window_of(min_ms, window_ms).start, Encoding::Xor, &bytes);
            self.closed.push(ClosedChunk { min_ms, span_ms: max_ms.wrapping_sub(min_ms) as u32, place });
        }
        self.samples.clear();
    }

    /// The value stored for one time, if it is in memory.
    pub fn bits_at(&self, timestamp_ms: i64) -> Option<u64> {
        let at = self.samples.binary_search_by_key(&timestamp_ms, |sample| sample.0).ok()?;
        Some(self.samples[at].1)
    }

    /// Samples in memory.
    pub fn samples(&self) -> &[(i64, u64)] {
        &self.samples
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

    /// Adds a chunk that a checkpoint holds.
    pub fn restore_closed(&mut self, chunk: ClosedChunk) {
        self.closed.push(chunk);
    }

    /// The samples in memory as one chunk: time of the first, of the last, and the bytes.
    pub fn chunk(&self) -> Option<(i64, i64, Vec<u8>)> {
        (!self.samples.is_empty()).then(|| encode(&self.samples))
    }

    /// Time of the oldest and of the newest sample.
    pub fn extent(&self) -> Option<(i64, i64)> {
        let samples =
            self.samples.first().map(|sample| sample.0).zip(self.samples.last().map(|sample| sample.0));
        let closed = self.closed.iter().map(|chunk| (chunk.min_ms, chunk.max_ms()));
        closed.chain(samples).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether there may be a sample of the range (both ends inclusive).
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        self.closed.iter().any(|chunk| chunk.overlaps(min_ms, max_ms))
            || self.samples.iter().any(|sample| (min_ms..=max_ms).contains(&sample.0))
    }

    /// Memory of the samples.
    pub fn memory_bytes(&self) -> i64 {
        (size_of::<Late>() + self.samples.len() * size_of::<(i64, u64)>()) as i64
    }

    /// Drops what is before `below_ms`; answers whether nothing is left.
    pub fn truncate(&mut self, below_ms: i64, log: &mut ChunkLog) -> bool {
        self.samples.retain(|sample| sample.0 >= below_ms);
        self.retain_closed(log, |chunk| chunk.max_ms() >= below_ms);
        self.samples.is_empty() && self.closed.is_empty()
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
