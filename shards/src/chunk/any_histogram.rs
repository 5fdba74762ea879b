//! A native histogram of either kind, and its form alone: a chunk of one sample, as the WAL, checkpoints and late samples
//! hold it.

use super::bits::BitWriter;
use super::histogram::{FloatHistogram, Histogram, NativeHistogram, ResetHint, same};
use super::histogram_check::{HistogramError, check_shape};
use super::histogram_decoder::Decoder;
use super::histogram_layout::{header, put_layout};
use super::histogram_track::{Float, Integer, Kind, Sample};
use super::varbit::put_varbit;
use super::{ChunkError, Encoding, Value};
use crate::is_stale;

/// A native histogram with counts of one of the two types.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyHistogram {
    /// Integer counts.
    Integer(Histogram),
    /// Float counts.
    Float(FloatHistogram),
}

impl AnyHistogram {
    /// The encoding of chunks that it goes into.
    pub fn encoding(&self) -> Encoding {
        match self {
            AnyHistogram::Integer(_) => Encoding::Histogram,
            AnyHistogram::Float(_) => Encoding::FloatHistogram,
        }
    }

    /// It as the value of a sample.
    pub fn value(&self) -> Value<'_> {
        match self {
            AnyHistogram::Integer(histogram) => Value::Histogram(histogram),
            AnyHistogram::Float(histogram) => Value::FloatHistogram(histogram),
        }
    }

    /// Whether this is the stale marker.
    pub fn is_stale(&self) -> bool {
        match self {
            AnyHistogram::Integer(histogram) => histogram.is_stale(),
            AnyHistogram::Float(histogram) => histogram.is_stale(),
        }
    }

    /// Checks it as Prometheus does with a remote sample. A schema that is finer than the accepted ones becomes the finest
    /// of them.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn accept(&mut self) -> Result<(), HistogramError> {
        self.check_shape()?;
        match self {
            AnyHistogram::Integer(histogram) => {
                histogram.reduce_to_accepted_schema();
                histogram.validate()
            }
            AnyHistogram::Float(histogram) => {
                histogram.reduce_to_accepted_schema();
                histogram.validate()
            }
        }
    }

    /// Checks what a chunk relies on.
    ///
    /// # Errors
    /// When spans, buckets and bounds do not fit each other.
    pub fn check_shape(&self) -> Result<(), HistogramError> {
        match self {
            AnyHistogram::Integer(histogram) => check_shape(histogram),
            AnyHistogram::Float(histogram) => check_shape(histogram),
        }
    }

    /// How many buckets there are on both sides.
    pub fn bucket_count(&self) -> usize {
        match self {
            AnyHistogram::Integer(histogram) => bucket_count(histogram),
            AnyHistogram::Float(histogram) => bucket_count(histogram),
        }
    }

    /// An upper bound of what [`AnyHistogram::put_alone`] appends.
    pub fn alone_bytes_max(&self) -> usize {
        match self {
            AnyHistogram::Integer(histogram) => alone_bytes_max(histogram),
            AnyHistogram::Float(histogram) => alone_bytes_max(histogram),
        }
    }

    /// Appends a chunk that has nothing but this as its sample.
    pub fn put_alone(&self, out: &mut Vec<u8>, timestamp_ms: i64) {
        match self {
            AnyHistogram::Integer(histogram) => put_alone::<Integer>(out, timestamp_ms, histogram),
            AnyHistogram::Float(histogram) => put_alone::<Float>(out, timestamp_ms, histogram),
        }
    }

    /// Reads what [`AnyHistogram::put_alone`] appended: the time and the histogram.
    ///
    /// # Errors
    /// When the bytes are not such a chunk.
    pub fn take_alone(encoding: Encoding, bytes: &[u8]) -> Result<(i64, AnyHistogram), ChunkError> {
        match encoding {
            Encoding::Histogram => {
                take_alone::<Integer>(bytes).map(|(at_ms, sample)| (at_ms, AnyHistogram::Integer(sample)))
            }
            Encoding::FloatHistogram => {
                take_alone::<Float>(bytes).map(|(at_ms, sample)| (at_ms, AnyHistogram::Float(sample)))
            }
            Encoding::Xor | Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt => {
                Err(ChunkError::Malformed { sample: 0, count: 0 })
            }
        }
    }
}

impl Value<'_> {
    /// How many numbers it has that are coded one by one.
    pub fn number_count(self) -> usize {
        1 + match self {
            Value::Float(_) => 0,
            Value::Histogram(histogram) => bucket_count(histogram),
            Value::FloatHistogram(histogram) => bucket_count(histogram),
        }
    }

    /// Whether a sample that came is what is stored for its time already. A stale marker that came as a float is stored
    /// as a histogram in a series of histograms.
    pub fn is_repeated_by(self, sample: Value<'_>) -> bool {
        match (self, sample) {
            (Value::Float(stored), Value::Float(came)) => stored.to_bits() == came.to_bits(),
            (Value::Histogram(stored), Value::Histogram(came)) => same::<Integer>(stored, came),
            (Value::FloatHistogram(stored), Value::FloatHistogram(came)) => same::<Float>(stored, came),
            (Value::Histogram(stored), Value::Float(came)) => stored.is_stale() && is_stale(came),
            (Value::FloatHistogram(stored), Value::Float(came)) => stored.is_stale() && is_stale(came),
            (Value::Float(_), Value::Histogram(_) | Value::FloatHistogram(_))
            | (Value::Histogram(_), Value::FloatHistogram(_))
            | (Value::FloatHistogram(_), Value::Histogram(_)) => false,
        }
    }
}

fn bucket_count<C, B>(histogram: &NativeHistogram<C, B>) -> usize {
    histogram.positive.values.len() + histogram.negative.values.len()
}

/// The longest varbit has 72 bits.
const VARBIT_BYTES_MAX: usize = 9;

/// Header, zero threshold, schema, lengths, time, counts and sum.
const FIXED_BYTES_MAX: usize = 3 + 9 + 10 * VARBIT_BYTES_MAX;

fn alone_bytes_max<C, B>(histogram: &NativeHistogram<C, B>) -> usize {
    let span_count = histogram.positive.spans.len() + histogram.negative.spans.len();
    let varbit_count = 2 * span_count + histogram.custom_values.len() + bucket_count(histogram);
    FIXED_BYTES_MAX + varbit_count * VARBIT_BYTES_MAX
}

fn put_alone<K: Kind>(out: &mut Vec<u8>, timestamp_ms: i64, sample: &Sample<K>) {
    let stale;
    let sample = if sample.is_stale() {
        // A stale marker says nothing else.
        stale = Sample::<K> { reset_hint: sample.reset_hint, ..Sample::<K>::stale() };
        &stale
    } else {
        sample
    };
    out.extend_from_slice(&header(1, sample.reset_hint));
    let mut writer = BitWriter::new(out, 0);
    put_layout(&mut writer, sample);
    put_varbit(&mut writer, timestamp_ms);
    K::put_first(&mut writer, sample);
    writer.finish();
}

fn take_alone<K: Kind>(bytes: &[u8]) -> Result<(i64, Sample<K>), ChunkError> {
    let mut decoder = Decoder::<K>::new(bytes, false)?;
    let malformed = ChunkError::Malformed { sample: 0, count: decoder.count };
    if decoder.count != 1 || !decoder.advance()? || decoder.bits_left() >= 8 {
        return Err(malformed);
    }
    let reset_hint: ResetHint = decoder.header_hint;
    let sample = decoder.track.last;
    Ok((decoder.track.time_ms, Sample::<K> { reset_hint, ..sample }))
}
