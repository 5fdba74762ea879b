//! Native histograms: one sample holds the whole distribution, in buckets that a schema places.
//!
//! With an exponential schema n, bucket i of the positive side ends at 2^(i / 2^n), and the negative side mirrors it.
//! With [`SCHEMA_CUSTOM`], the sender names the bounds. Only the buckets that are in use are stored: spans say which.

use super::histogram_spans::{reduced, same_counts};
use super::histogram_track::{Float, Integer, Kind, Sample};
use crate::{STALE_NAN_BITS, is_stale};

/// The schema of histograms whose bounds the sender names.
pub const SCHEMA_CUSTOM: i32 = -53;
/// The coarsest exponential schema that is accepted.
pub const SCHEMA_MIN: i32 = -4;
/// The finest exponential schema that is accepted.
pub const SCHEMA_MAX: i32 = 8;
/// The coarsest exponential schema that a chunk may hold.
pub const SCHEMA_MIN_RESERVED: i32 = -9;
/// The finest exponential schema that a chunk may hold; it is read at the resolution of [`SCHEMA_MAX`].
pub const SCHEMA_MAX_RESERVED: i32 = 52;

/// What is known about a counter reset between a histogram and the one before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ResetHint {
    /// Whoever needs to know has to compare the two.
    #[default]
    Unknown,
    /// The counters began anew.
    Yes,
    /// The counters went on.
    No,
    /// The histogram is a gauge: it goes up and down, and there is nothing to reset.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Buckets between the end of the span before and this one; of the first span, the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// The buckets of one side of zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets<B> {
    /// Which buckets are there.
    pub spans: Vec<Span>,
    /// One value for each bucket.
    pub values: Vec<B>,
}

/// A native histogram with counts of type `C`, and bucket values of type `B`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NativeHistogram<C, B> {
    /// Whether the counters began anew with this sample.
    pub reset_hint: ResetHint,
    /// Where the buckets lie: [`SCHEMA_MIN`] to [`SCHEMA_MAX`], or [`SCHEMA_CUSTOM`].
    pub schema: i32,
    /// Observations up to this distance from zero are in the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: C,
    /// All observations.
    pub count: C,
    /// Sum of all observations; the stale marker makes the whole sample one.
    pub sum: f64,
    /// Buckets above zero; with custom bounds, all buckets.
    pub positive: Buckets<B>,
    /// Buckets below zero, from zero outwards.
    pub negative: Buckets<B>,
    /// Upper bounds of the buckets, without the last (+Inf); only with [`SCHEMA_CUSTOM`].
    pub custom_values: Vec<f64>,
}

/// A native histogram with integer counts. A bucket's value is the *difference* of its count to that of the bucket
/// before it.
pub type Histogram = NativeHistogram<u64, i64>;

/// A native histogram with float counts. A bucket's value is its count.
pub type FloatHistogram = NativeHistogram<f64, f64>;

impl<C: Default, B: Default> NativeHistogram<C, B> {
    /// The sample by which a sender says that the series has ended.
    pub fn stale() -> NativeHistogram<C, B> {
        NativeHistogram { sum: f64::from_bits(STALE_NAN_BITS), ..NativeHistogram::default() }
    }
}

impl<C, B> NativeHistogram<C, B> {
    /// Whether this is the stale marker; the other fields then say nothing.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether the sender named the bounds of the buckets.
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == SCHEMA_CUSTOM
    }
}

impl Histogram {
    /// Merges buckets until the schema is at most [`SCHEMA_MAX`]. Nothing is lost but resolution.
    pub fn reduce_to_accepted_schema(&mut self) {
        reduce::<Integer>(self);
    }
}

impl FloatHistogram {
    /// Merges buckets until the schema is at most [`SCHEMA_MAX`]. Nothing is lost but resolution.
    pub fn reduce_to_accepted_schema(&mut self) {
        reduce::<Float>(self);
    }
}

/// Merges buckets until the schema is at most [`SCHEMA_MAX`].
pub fn reduce<K: Kind>(histogram: &mut Sample<K>) {
    if histogram.schema > SCHEMA_MAX {
        let steps = histogram.schema.abs_diff(SCHEMA_MAX);
        histogram.positive = reduced::<K>(&histogram.positive, steps);
        histogram.negative = reduced::<K>(&histogram.negative, steps);
        histogram.schema = SCHEMA_MAX;
    }
}

/// Whether two samples say the same. Buckets without observations do not count: a chunk gives them to its samples.
pub fn same<K: Kind>(left: &Sample<K>, right: &Sample<K>) -> bool {
    if left.is_stale() || right.is_stale() {
        return left.is_stale() && right.is_stale();
    }
    let same_threshold = left.zero_threshold == right.zero_threshold
        || left.zero_threshold.to_bits() == right.zero_threshold.to_bits();
    left.schema == right.schema
        && same_threshold
        && left.sum.to_bits() == right.sum.to_bits()
        && K::same_count(left.count, right.count)
        && K::same_count(left.zero_count, right.zero_count)
        && left.custom_values == right.custom_values
        && same_counts::<K>(&left.positive, &right.positive)
        && same_counts::<K>(&left.negative, &right.negative)
}

impl From<&Histogram> for FloatHistogram {
    fn from(histogram: &Histogram) -> FloatHistogram {
        let side = |buckets: &Buckets<i64>| {
            let mut count = 0i64;
            let counts = buckets.values.iter().map(|difference| {
                count = count.wrapping_add(*difference);
                count as f64
            });
            Buckets { values: counts.collect(), spans: buckets.spans.clone() }
        };
        FloatHistogram {
            reset_hint: histogram.reset_hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count as f64,
            count: histogram.count as f64,
            sum: histogram.sum,
            positive: side(&histogram.positive),
            negative: side(&histogram.negative),
            custom_values: histogram.custom_values.clone(),
        }
    }
}
