//! The open chunk of a series: of floats, or of native histograms of one kind.

use crate::chunk::{
    AnyHistogram, Appended, ChunkError, Encoding, Fit, FloatHistogramAppender, HistogramAppender, XorState,
};
use crate::wire::BUCKETS_MAX;

/// Samples that a chunk of histograms has at least, unless its window ends or its buckets change (as in Prometheus).
const HISTOGRAMS_MIN: u16 = 10;

/// Bytes after which a chunk of histograms is closed (as in Prometheus).
const HISTOGRAM_CHUNK_BYTES: usize = 1024;

/// Bytes after which it is closed however few samples it has: a chunk has to fit into the chunk log.
const HISTOGRAM_CHUNK_BYTES_MAX: usize = 256 << 10;

/// Values of buckets that are written anew at most when a sample brings a chunk more buckets: a few milliseconds of work.
/// Where it would be more, or where a sample would have more buckets than one that is sent may have, the sample begins a
/// new chunk.
const RECODED_BUCKETS_MAX: usize = 256 << 10;

/// The chunk that takes samples. Histograms are behind a pointer, so that a series of floats does not pay for them.
#[derive(Debug)]
pub enum Open {
    /// Of floats, whose words the series has; also before the first sample.
    Floats(XorState),
    /// Of histograms; it has at least one sample.
    Histograms(Box<OpenHistograms>),
}

/// An open chunk of histograms.
#[derive(Debug)]
pub enum OpenHistograms {
    /// With integer counts.
    Integer(HistogramAppender),
    /// With float counts.
    Float(FloatHistogramAppender),
}

impl Default for Open {
    fn default() -> Open {
        Open::Floats(XorState::default())
    }
}

impl Open {
    /// Samples so far.
    #[inline]
    pub fn count(&self) -> u16 {
        match self {
            Open::Floats(open) => open.count(),
            Open::Histograms(open) => open.count(),
        }
    }

    /// Time of the newest sample; meaningless while empty.
    #[inline]
    pub fn last_ms(&self) -> i64 {
        match self {
            Open::Floats(open) => open.last().0,
            Open::Histograms(open) => open.last_ms(),
        }
    }

    /// How the chunk is encoded.
    pub fn encoding(&self) -> Encoding {
        match self {
            Open::Floats(_) => Encoding::Xor,
            Open::Histograms(open) => open.encoding(),
        }
    }
}

impl OpenHistograms {
    /// An empty chunk for a histogram of this kind.
    pub fn empty_for(histogram: &AnyHistogram) -> OpenHistograms {
        match histogram {
            AnyHistogram::Integer(_) => OpenHistograms::Integer(HistogramAppender::default()),
            AnyHistogram::Float(_) => OpenHistograms::Float(FloatHistogramAppender::default()),
        }
    }

    /// Continues a chunk with at least one sample.
    ///
    /// # Errors
    /// When the bytes are not a whole chunk of histograms of an encoding that is written.
    pub fn resume(encoding: Encoding, bytes: Vec<u8>) -> Result<OpenHistograms, ChunkError> {
        let malformed = ChunkError::Malformed { sample: 0, count: 0 };
        let open = match encoding {
            Encoding::Histogram => OpenHistograms::Integer(HistogramAppender::resume(bytes)?),
            Encoding::FloatHistogram => OpenHistograms::Float(FloatHistogramAppender::resume(bytes)?),
            Encoding::Xor | Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt => {
                return Err(malformed);
            }
        };
        if open.count() > 0 { Ok(open) } else { Err(malformed) }
    }

    /// Whether a histogram is of the chunk's kind.
    pub fn takes(&self, histogram: &AnyHistogram) -> bool {
        self.encoding() == histogram.encoding()
    }

    /// Whether the next sample, which is of the chunk's kind, begins a new chunk because of this one's size.
    pub fn is_full_for(&self, histogram: &AnyHistogram) -> bool {
        let (count, bytes) = (self.count(), self.bytes().len());
        if count >= HISTOGRAMS_MIN && bytes >= HISTOGRAM_CHUNK_BYTES || bytes >= HISTOGRAM_CHUNK_BYTES_MAX {
            return true;
        }
        let are_too_many = |bucket_count: usize| {
            bucket_count > BUCKETS_MAX || usize::from(count) * bucket_count > RECODED_BUCKETS_MAX
        };
        // Few samples are near the bounds: the others need not be looked at twice.
        are_too_many(self.bucket_count() + histogram.bucket_count())
            && matches!(self.fit(histogram), Fit::Recode { bucket_count } if are_too_many(bucket_count))
    }

    /// How many buckets each sample of the chunk has.
    pub fn bucket_count(&self) -> usize {
        match self {
            OpenHistograms::Integer(open) => open.bucket_count(),
            OpenHistograms::Float(open) => open.bucket_count(),
        }
    }

    fn fit(&self, histogram: &AnyHistogram) -> Fit {
        match (self, histogram) {
            (OpenHistograms::Integer(open), AnyHistogram::Integer(histogram)) => open.fit(histogram),
            (OpenHistograms::Float(open), AnyHistogram::Float(histogram)) => open.fit(histogram),
            _ => Fit::Cut,
        }
    }

    /// Appends a histogram of the chunk's kind, whose shape was checked, at a time that is not before the newest.
    pub fn append(&mut self, timestamp_ms: i64, histogram: &AnyHistogram) -> Appended {
        let appended = match (self, histogram) {
            (OpenHistograms::Integer(open), AnyHistogram::Integer(histogram)) => {
                open.append(timestamp_ms, histogram)
            }
            (OpenHistograms::Float(open), AnyHistogram::Float(histogram)) => {
                open.append(timestamp_ms, histogram)
            }
            _ => unreachable!("a chunk of histograms takes one kind"),
        };
        appended.expect("the shape of the histogram was checked")
    }

    /// Takes the finished chunk. The next sample is compared with its last one, for the new chunk's reset hint.
    pub fn seal(&mut self) -> Box<[u8]> {
        match self {
            OpenHistograms::Integer(open) => open.seal(),
            OpenHistograms::Float(open) => open.seal(),
        }
    }

    /// Samples so far.
    pub fn count(&self) -> u16 {
        match self {
            OpenHistograms::Integer(open) => open.count(),
            OpenHistograms::Float(open) => open.count(),
        }
    }

    /// Time of the newest sample; meaningless while empty.
    pub fn last_ms(&self) -> i64 {
        match self {
            OpenHistograms::Integer(open) => open.last_ms(),
            OpenHistograms::Float(open) => open.last_ms(),
        }
    }

    /// How the chunk is encoded.
    pub fn encoding(&self) -> Encoding {
        match self {
            OpenHistograms::Integer(_) => Encoding::Histogram,
            OpenHistograms::Float(_) => Encoding::FloatHistogram,
        }
    }

    /// The chunk so far.
    pub fn bytes(&self) -> &[u8] {
        match self {
            OpenHistograms::Integer(open) => open.bytes(),
            OpenHistograms::Float(open) => open.bytes(),
        }
    }

    /// What it takes in memory beside its bytes.
    pub fn state_bytes(&self) -> usize {
        match self {
            OpenHistograms::Integer(open) => open.state_bytes(),
            OpenHistograms::Float(open) => open.state_bytes(),
        }
    }
}
