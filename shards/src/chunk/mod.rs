//! Prometheus' chunk encodings. The bytes of each are in `docs/format/chunk.md`.

mod any_histogram;
mod bits;
mod fault;
mod float_histogram;
#[cfg(test)]
mod golden;
mod histogram;
mod histogram_appender;
mod histogram_check;
mod histogram_decoder;
mod histogram_integer;
mod histogram_layout;
mod histogram_spans;
mod histogram_track;
#[cfg(test)]
mod properties;
mod start_time;
mod varbit;
mod window;
mod xor;
mod xor2;
mod xor_columns;

pub use any_histogram::AnyHistogram;
pub use histogram::{Buckets, FloatHistogram, Histogram, NativeHistogram, ResetHint, Span};
pub use histogram::{SCHEMA_CUSTOM, SCHEMA_MAX, SCHEMA_MAX_RESERVED, SCHEMA_MIN, SCHEMA_MIN_RESERVED};
pub use histogram_appender::{Appended, Fit, FloatHistogramAppender, HistogramAppender};
pub use histogram_check::{HistogramError, Side};
pub use histogram_decoder::{decode_float_histogram, decode_histogram};
use histogram_track::{Float, Integer};
pub use xor::{XorAppender, XorState, decode_xor};
pub use xor_columns::decode_xor_columns;
pub use xor2::decode_xor2;

/// How the bytes of a chunk are encoded (Prometheus `tsdb/chunkenc`); the number is the byte on disk.
///
/// The encodings with start times are read, so that blocks of a newer Prometheus can be served, and never written:
/// Thanos knows the first three only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Gorilla-style floats.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
    /// Floats with start times; only read.
    Xor2 = 4,
    /// Native histograms with integer counts and start times; only read.
    HistogramSt = 5,
    /// Native histograms with float counts and start times; only read.
    FloatHistogramSt = 6,
}

impl Encoding {
    /// The encoding that a byte on disk names.
    pub fn from_byte(byte: u8) -> Option<Encoding> {
        Some(match byte {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            4 => Encoding::Xor2,
            5 => Encoding::HistogramSt,
            6 => Encoding::FloatHistogramSt,
            _ => return None,
        })
    }

    /// Whether the samples are floats; otherwise they are native histograms.
    pub fn holds_floats(self) -> bool {
        match self {
            Encoding::Xor | Encoding::Xor2 => true,
            Encoding::Histogram
            | Encoding::FloatHistogram
            | Encoding::HistogramSt
            | Encoding::FloatHistogramSt => false,
        }
    }
}

/// Why bytes are not a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The chunk ends before its last sample.
    #[error("the chunk ends inside sample {sample} of {count}")]
    Truncated {
        /// Index of the sample that is cut.
        sample: u16,
        /// How many the header announces.
        count: u16,
    },
    /// Bits that no encoder writes.
    #[error("the chunk is malformed at sample {sample} of {count}")]
    Malformed {
        /// Index of the sample.
        sample: u16,
        /// How many the header announces.
        count: u16,
    },
    /// Floats were asked for.
    #[error("the chunk holds histograms ({encoding:?}), not floats")]
    NotFloats {
        /// How the chunk is encoded.
        encoding: Encoding,
    },
}

/// The value of a sample, whatever its kind. Histograms are lent, since the decoder needs them for the next sample.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A float.
    Float(f64),
    /// A native histogram with integer counts.
    Histogram(&'a Histogram),
    /// A native histogram with float counts.
    FloatHistogram(&'a FloatHistogram),
}

/// Calls `each` with the time and value of every sample of a chunk of floats, in order of time.
///
/// # Errors
/// When the bytes are not a whole chunk; `each` was then called for the samples before the damage.
pub fn decode(encoding: Encoding, bytes: &[u8], each: impl FnMut(i64, f64)) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor => decode_xor(bytes, each),
        Encoding::Xor2 => decode_xor2(bytes, each),
        Encoding::Histogram
        | Encoding::FloatHistogram
        | Encoding::HistogramSt
        | Encoding::FloatHistogramSt => Err(ChunkError::NotFloats { encoding }),
    }
}

/// Appends the times and values of a chunk of floats to columns, in order of time and up to the first sample that is not
/// before `until_ms`; some later ones may come as well.
///
/// # Errors
/// When the bytes are not a chunk up to there; the samples before the damage were then appended.
pub fn decode_columns(
    encoding: Encoding,
    bytes: &[u8],
    until_ms: i64,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    if encoding == Encoding::Xor {
        return decode_xor_columns(bytes, until_ms, times, values);
    }
    decode(encoding, bytes, |time_ms, value| {
        times.push(time_ms);
        values.push(value);
    })
}

/// Calls `each` with the time and value of every sample of a chunk of any kind, in order of time.
///
/// # Errors
/// As [`decode`].
pub fn decode_values(
    encoding: Encoding,
    bytes: &[u8],
    mut each: impl FnMut(i64, Value<'_>),
) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            decode(encoding, bytes, |timestamp_ms, value| each(timestamp_ms, Value::Float(value)))
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            decode_histogram(encoding, bytes, |timestamp_ms, value| {
                each(timestamp_ms, Value::Histogram(value))
            })
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            decode_float_histogram(encoding, bytes, |timestamp_ms, value| {
                each(timestamp_ms, Value::FloatHistogram(value))
            })
        }
    }
}

/// Calls `each` with the time and value of the samples of a chunk of any kind, in order of time, up to the first one that
/// is not before `until_ms`. Of floats, which are few and small, some later ones may come as well.
///
/// # Errors
/// As [`decode`].
pub fn decode_values_until(
    encoding: Encoding,
    bytes: &[u8],
    until_ms: i64,
    mut each: impl FnMut(i64, Value<'_>),
) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => decode_values(encoding, bytes, each),
        Encoding::Histogram | Encoding::HistogramSt => {
            histogram_decoder::decode::<Integer>(encoding, bytes, |timestamp_ms, value| {
                each(timestamp_ms, Value::Histogram(value));
                timestamp_ms < until_ms
            })
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            histogram_decoder::decode::<Float>(encoding, bytes, |timestamp_ms, value| {
                each(timestamp_ms, Value::FloatHistogram(value));
                timestamp_ms < until_ms
            })
        }
    }
}
