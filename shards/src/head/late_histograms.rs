//! Native histograms that came later than newer samples of their series: few in memory, each as a chunk of its own.

use super::open::OpenHistograms;
use super::rules::window_of;
use super::series::Work;
use crate::chunk::{AnyHistogram, Appended, Encoding};

/// Histograms in memory before they become chunks, as for floats.
const HISTOGRAMS_MAX: usize = 32;

/// Bytes of them after which they do, however few they are.
const BYTES_MAX: usize = 64 << 10;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct LateHistogram {
    /// Its time.
    pub timestamp_ms: i64,
    /// How `bytes` are encoded.
    pub encoding: Encoding,
    /// A chunk that has nothing else.
    pub bytes: Box<[u8]>,
}

impl LateHistogram {
    /// Encodes a histogram.
    pub fn new(timestamp_ms: i64, histogram: &AnyHistogram) -> LateHistogram {
        let mut bytes = Vec::new();
        histogram.put_alone(&mut bytes, timestamp_ms);
        LateHistogram { timestamp_ms, encoding: histogram.encoding(), bytes: bytes.into_boxed_slice() }
    }

    /// Decodes it.
    pub fn histogram(&self) -> AnyHistogram {
        let (_, histogram) = AnyHistogram::take_alone(self.encoding, &self.bytes)
            .expect("the bytes were encoded here, or checked when a checkpoint brought them");
        histogram
    }
}

/// A chunk made of late histograms.
pub struct LateChunk {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// How `bytes` are encoded.
    pub encoding: Encoding,
    /// The chunk.
    pub bytes: Box<[u8]>,
}

/// The late histograms of one series that are in memory, by time, each time once.
#[derive(Debug, Default)]
pub struct LateHistograms {
    all: Vec<LateHistogram>,
    bytes: usize,
}

impl LateHistograms {
    /// Whether they are to become chunks before another one comes.
    pub fn is_full(&self) -> bool {
        self.all.len() >= HISTOGRAMS_MAX || self.bytes >= BYTES_MAX
    }

    /// Adds one. At a time that is taken the earlier one stays.
    pub fn insert(&mut self, late: LateHistogram) {
        if let Err(at) = self.all.binary_search_by_key(&late.timestamp_ms, |late| late.timestamp_ms) {
            self.bytes += late.bytes.len();
            self.all.insert(at, late);
        }
    }

    /// The one of a time.
    pub fn at(&self, timestamp_ms: i64) -> Option<AnyHistogram> {
        let at = self.all.binary_search_by_key(&timestamp_ms, |late| late.timestamp_ms).ok()?;
        Some(self.all[at].histogram())
    }

    /// All of them, in order of time.
    pub fn all(&self) -> &[LateHistogram] {
        &self.all
    }

    /// Whether one that a checkpoint holds may follow. Only their number is bounded: they came in another order than that
    /// of time, and a large one may have been the last to come.
    pub fn may_follow(&self, timestamp_ms: i64) -> bool {
        self.all.len() < HISTOGRAMS_MAX && self.all.last().is_none_or(|last| last.timestamp_ms < timestamp_ms)
    }

    /// At most how much work it is to make chunks of them: a number takes a bit or more, and is read once and written once.
    pub fn encode_work(&self) -> Work {
        2 * 8 * self.bytes
    }

    /// They as chunks, each in one window.
    pub fn chunks(&self, window_ms: i64) -> Vec<LateChunk> {
        let mut chunks = Chunks::default();
        for late in &self.all {
            chunks.add(late.timestamp_ms, &late.histogram(), window_ms);
        }
        chunks.seal();
        chunks.finished
    }

    /// Drops those before a time.
    pub fn truncate(&mut self, below_ms: i64) {
        self.all.retain(|late| late.timestamp_ms >= below_ms);
        self.bytes = self.all.iter().map(|late| late.bytes.len()).sum();
    }

    /// Drops all.
    pub fn clear(&mut self) {
        (self.all, self.bytes) = (Vec::new(), 0);
    }

    /// What they take in memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<LateHistograms>() + self.all.len() * size_of::<LateHistogram>() + self.bytes
    }
}

/// Chunks that are being made.
#[derive(Default)]
struct Chunks {
    finished: Vec<LateChunk>,
    open: Option<OpenHistograms>,
    min_ms: i64,
    max_ms: i64,
}

impl Chunks {
    fn add(&mut self, timestamp_ms: i64, histogram: &AnyHistogram, window_ms: i64) {
        let fits = |open: &OpenHistograms| {
            open.takes(histogram)
                && !open.is_full_for(histogram)
                && window_of(self.min_ms, window_ms) == window_of(timestamp_ms, window_ms)
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.seal();
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                self.min_ms = timestamp_ms;
                self.open.insert(OpenHistograms::empty_for(histogram))
            }
        };
        let encoding = open.encoding();
        if let Appended::Cut(bytes) = open.append(timestamp_ms, histogram) {
            let (min_ms, max_ms) = (self.min_ms, self.max_ms);
            self.finished.push(LateChunk { min_ms, max_ms, encoding, bytes });
            self.min_ms = timestamp_ms;
        }
        self.max_ms = timestamp_ms;
    }

    fn seal(&mut self) {
        if let Some(mut open) = self.open.take() {
            let (min_ms, max_ms, encoding) = (self.min_ms, self.max_ms, open.encoding());
            self.finished.push(LateChunk { min_ms, max_ms, encoding, bytes: open.seal() });
        }
    }
}
