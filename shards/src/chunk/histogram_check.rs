//! What a native histogram must hold before it is stored: the rules of Prometheus (`model/histogram`), and a bound.

use super::histogram::{
    Buckets, FloatHistogram, Histogram, NativeHistogram, SCHEMA_CUSTOM, SCHEMA_MAX, SCHEMA_MAX_RESERVED,
    SCHEMA_MIN, SCHEMA_MIN_RESERVED, Span,
};

/// Indexes of buckets lie between the negative of this and this. Real ones are far inside (a float's smallest and
/// largest numbers are 2^20 buckets apart in the finest schema), and whatever is computed from two of them fits an `i32`.
const BUCKET_INDEX_MAX: i64 = 1 << 30;

/// A side of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Buckets above zero.
    Positive,
    /// Buckets below zero.
    Negative,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Positive => "positive",
            Side::Negative => "negative",
        })
    }
}

/// Why something is not a native histogram.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// A schema that has no meaning, or none yet.
    #[error(
        "a histogram has schema {schema}, but it must be {SCHEMA_MIN} to {SCHEMA_MAX}, or {SCHEMA_CUSTOM}"
    )]
    Schema {
        /// What was given.
        schema: i32,
    },
    /// Spans that overlap or run backwards.
    #[error("span {span} of the {side} side has offset {offset}")]
    SpanOffset {
        /// Which side.
        side: Side,
        /// Index of the span.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// A bucket that no float can fall into.
    #[error("span {span} of the {side} side reaches bucket {index}")]
    BucketIndex {
        /// Which side.
        side: Side,
        /// Index of the span.
        span: usize,
        /// Index of its bucket that is furthest from zero.
        index: i64,
    },
    /// Spans and buckets that do not belong together.
    #[error("the spans of the {side} side need {spans} buckets, but there are {buckets}")]
    BucketNumber {
        /// Which side.
        side: Side,
        /// Buckets of all spans.
        spans: u64,
        /// Values of buckets.
        buckets: usize,
    },
    /// A bucket with fewer than no observations.
    #[error("bucket {bucket} of the {side} side has a negative count")]
    NegativeBucket {
        /// Which side.
        side: Side,
        /// Position of the bucket.
        bucket: usize,
    },
    /// A zero bucket with fewer than no observations.
    #[error("the zero bucket has a count of {count}")]
    NegativeZeroCount {
        /// What was given.
        count: f64,
    },
    /// Fewer than no observations.
    #[error("the histogram has a count of {count}")]
    NegativeCount {
        /// What was given.
        count: f64,
    },
    /// The buckets do not add up to the count. With a sum of NaN they may be fewer: NaN is in no bucket.
    #[error("the buckets hold {buckets} observations, but the count is {count}")]
    CountMismatch {
        /// Observations in all buckets.
        buckets: u128,
        /// All observations.
        count: u64,
    },
    /// Bounds are named, but the schema places the buckets.
    #[error("a histogram with schema {schema} has custom bounds")]
    UnexpectedBounds {
        /// The schema.
        schema: i32,
    },
    /// A bound of NaN.
    #[error("custom bound {bound} is NaN")]
    BoundNan {
        /// Index of the bound.
        bound: usize,
    },
    /// Bounds must rise.
    #[error("custom bound {bound} is {value}, which is not above the one before it")]
    BoundOrder {
        /// Index of the bound.
        bound: usize,
        /// What was given.
        value: f64,
    },
    /// The bound of the last bucket is +Inf without being named.
    #[error("the last custom bound is +Inf, which must not be given")]
    BoundInfinite,
    /// Buckets without a bound.
    #[error("{bounds} custom bounds are too few for buckets up to {index}")]
    BoundsTooFew {
        /// How many were given.
        bounds: usize,
        /// Index of the last bucket.
        index: i64,
    },
    /// With custom bounds there is no zero bucket.
    #[error("a histogram with custom bounds has a zero bucket")]
    UnexpectedZeroBucket,
    /// With custom bounds all buckets are on the positive side.
    #[error("a histogram with custom bounds has a negative side")]
    UnexpectedNegativeSide,
}

impl Histogram {
    /// Checks all that Prometheus checks of a remote sample.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_accepted_schema(self.schema)?;
        check_shape(self)?;
        if self.has_custom_buckets() && self.zero_count != 0 {
            return Err(HistogramError::UnexpectedZeroBucket);
        }
        let mut observations = u128::from(self.zero_count);
        for (side, buckets) in [(Side::Positive, &self.positive), (Side::Negative, &self.negative)] {
            let mut count = 0i64;
            for (bucket, difference) in buckets.values.iter().enumerate() {
                count =
                    count.checked_add(*difference).ok_or(HistogramError::NegativeBucket { side, bucket })?;
                let count =
                    u64::try_from(count).map_err(|_| HistogramError::NegativeBucket { side, bucket })?;
                observations += u128::from(count);
            }
        }
        let count = u128::from(self.count);
        if observations == count || self.sum.is_nan() && observations < count {
            Ok(())
        } else {
            Err(HistogramError::CountMismatch { buckets: observations, count: self.count })
        }
    }
}

impl FloatHistogram {
    /// Checks all that Prometheus checks of a remote sample. The counts need not add up: floats round.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_accepted_schema(self.schema)?;
        check_shape(self)?;
        for (side, buckets) in [(Side::Positive, &self.positive), (Side::Negative, &self.negative)] {
            if let Some(bucket) = buckets.values.iter().position(|count| *count < 0.0) {
                return Err(HistogramError::NegativeBucket { side, bucket });
            }
        }
        if self.has_custom_buckets() && self.zero_count != 0.0 {
            return Err(HistogramError::UnexpectedZeroBucket);
        }
        if self.zero_count < 0.0 {
            return Err(HistogramError::NegativeZeroCount { count: self.zero_count });
        }
        if self.count < 0.0 {
            return Err(HistogramError::NegativeCount { count: self.count });
        }
        Ok(())
    }
}

fn check_accepted_schema(schema: i32) -> Result<(), HistogramError> {
    if schema == SCHEMA_CUSTOM || (SCHEMA_MIN..=SCHEMA_MAX).contains(&schema) {
        Ok(())
    } else {
        Err(HistogramError::Schema { schema })
    }
}

/// Checks what a chunk relies on: a known schema, and spans, buckets and bounds that fit each other.
pub fn check_shape<C, B>(histogram: &NativeHistogram<C, B>) -> Result<(), HistogramError> {
    let schema = histogram.schema;
    let end = check_side(Side::Positive, &histogram.positive)?;
    check_side(Side::Negative, &histogram.negative)?;
    if schema == SCHEMA_CUSTOM {
        check_bounds(&histogram.custom_values)?;
        check_custom_spans(&histogram.positive.spans, end, histogram.custom_values.len())?;
        if histogram.zero_threshold != 0.0 {
            return Err(HistogramError::UnexpectedZeroBucket);
        }
        if !histogram.negative.spans.is_empty() {
            return Err(HistogramError::UnexpectedNegativeSide);
        }
    } else if !(SCHEMA_MIN_RESERVED..=SCHEMA_MAX_RESERVED).contains(&schema) {
        return Err(HistogramError::Schema { schema });
    } else if !histogram.custom_values.is_empty() {
        return Err(HistogramError::UnexpectedBounds { schema });
    }
    Ok(())
}

/// Returns the index after the last bucket.
fn check_side<B>(side: Side, buckets: &Buckets<B>) -> Result<i64, HistogramError> {
    let (mut number, mut end) = (0u64, 0i64);
    for (index, span) in buckets.spans.iter().enumerate() {
        if index > 0 && span.offset < 0 {
            return Err(HistogramError::SpanOffset { side, span: index, offset: span.offset });
        }
        let begin = end + i64::from(span.offset);
        end = begin + i64::from(span.length);
        if begin < -BUCKET_INDEX_MAX || end > BUCKET_INDEX_MAX {
            let furthest = if begin < -BUCKET_INDEX_MAX { begin } else { end };
            return Err(HistogramError::BucketIndex { side, span: index, index: furthest });
        }
        number += u64::from(span.length);
    }
    if number != buckets.values.len() as u64 {
        return Err(HistogramError::BucketNumber { side, spans: number, buckets: buckets.values.len() });
    }
    Ok(end)
}

fn check_bounds(bounds: &[f64]) -> Result<(), HistogramError> {
    for (bound, value) in bounds.iter().enumerate() {
        if value.is_nan() {
            return Err(HistogramError::BoundNan { bound });
        }
        if bound > 0 && *value <= bounds[bound - 1] {
            return Err(HistogramError::BoundOrder { bound, value: *value });
        }
    }
    match bounds.last() {
        Some(&f64::INFINITY) => Err(HistogramError::BoundInfinite),
        _ => Ok(()),
    }
}

fn check_custom_spans(spans: &[Span], end: i64, bounds: usize) -> Result<(), HistogramError> {
    if let Some(Span { offset, .. }) = spans.first()
        && *offset < 0
    {
        return Err(HistogramError::SpanOffset { side: Side::Positive, span: 0, offset: *offset });
    }
    // The bucket above the last bound has none of its own.
    if end > bounds as i64 + 1 {
        return Err(HistogramError::BoundsTooFew { bounds, index: end - 1 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(spans: &[(i32, u32)]) -> Vec<Span> {
        spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
    }

    fn exponential() -> Histogram {
        Histogram {
            schema: 3,
            zero_threshold: 1e-3,
            zero_count: 2,
            count: 12,
            sum: 18.4,
            positive: Buckets { spans: spans(&[(-2, 2), (1, 1)]), values: vec![1, 1, -1] },
            negative: Buckets { spans: spans(&[(0, 2)]), values: vec![3, 0] },
            ..Histogram::default()
        }
    }

    fn custom() -> Histogram {
        Histogram {
            schema: SCHEMA_CUSTOM,
            count: 6,
            sum: 1.0,
            positive: Buckets { spans: spans(&[(0, 1), (1, 1)]), values: vec![2, 2] },
            custom_values: vec![-1.5, 0.25],
            ..Histogram::default()
        }
    }

    fn changed(mut histogram: Histogram, change: impl FnOnce(&mut Histogram)) -> Result<(), HistogramError> {
        change(&mut histogram);
        histogram.validate()
    }

    #[test]
    fn sound_histograms_and_stale_markers_are_accepted() {
        for histogram in [exponential(), custom(), Histogram::default(), Histogram::stale()] {
            assert_eq!(histogram.validate(), Ok(()));
            assert_eq!(FloatHistogram::from(&histogram).validate(), Ok(()));
        }
    }

    #[test]
    fn each_rule_can_be_broken() {
        let positive = Side::Positive;
        assert_eq!(changed(exponential(), |h| h.schema = 9), Err(HistogramError::Schema { schema: 9 }));
        assert_eq!(changed(exponential(), |h| h.schema = -5), Err(HistogramError::Schema { schema: -5 }));
        assert_eq!(
            changed(exponential(), |h| h.positive.spans[1].offset = -1),
            Err(HistogramError::SpanOffset { side: positive, span: 1, offset: -1 })
        );
        assert_eq!(
            changed(exponential(), |h| h.positive.spans[1].offset = i32::MAX),
            Err(HistogramError::BucketIndex { side: positive, span: 1, index: i64::from(i32::MAX) + 1 })
        );
        assert_eq!(
            changed(exponential(), |h| h.negative.spans[0].length = 3),
            Err(HistogramError::BucketNumber { side: Side::Negative, spans: 3, buckets: 2 })
        );
        assert_eq!(
            changed(exponential(), |h| h.negative.values[1] = -4),
            Err(HistogramError::NegativeBucket { side: Side::Negative, bucket: 1 })
        );
        assert_eq!(
            changed(exponential(), |h| h.positive.values[1] = i64::MAX),
            Err(HistogramError::NegativeBucket { side: positive, bucket: 1 })
        );
        assert_eq!(
            changed(exponential(), |h| h.count = 13),
            Err(HistogramError::CountMismatch { buckets: 12, count: 13 })
        );
        assert_eq!(
            changed(exponential(), |h| h.custom_values = vec![1.0]),
            Err(HistogramError::UnexpectedBounds { schema: 3 })
        );
        assert_eq!(
            changed(custom(), |h| h.custom_values[1] = f64::NAN),
            Err(HistogramError::BoundNan { bound: 1 })
        );
        assert_eq!(
            changed(custom(), |h| h.custom_values[1] = -1.5),
            Err(HistogramError::BoundOrder { bound: 1, value: -1.5 })
        );
        assert_eq!(
            changed(custom(), |h| h.custom_values[1] = f64::INFINITY),
            Err(HistogramError::BoundInfinite)
        );
        assert_eq!(
            changed(custom(), |h| h.positive.spans[1].offset = 2),
            Err(HistogramError::BoundsTooFew { bounds: 2, index: 3 })
        );
        assert_eq!(
            changed(custom(), |h| h.positive.spans[0].offset = -1),
            Err(HistogramError::SpanOffset { side: positive, span: 0, offset: -1 })
        );
        assert_eq!(changed(custom(), |h| h.zero_count = 1), Err(HistogramError::UnexpectedZeroBucket));
        assert_eq!(changed(custom(), |h| h.zero_threshold = 0.5), Err(HistogramError::UnexpectedZeroBucket));
        assert_eq!(
            changed(custom(), |h| h.negative.spans = spans(&[(0, 0)])),
            Err(HistogramError::UnexpectedNegativeSide)
        );
    }

    #[test]
    fn observations_of_nan_are_in_no_bucket() {
        assert_eq!(changed(exponential(), |h| (h.sum, h.count) = (f64::NAN, 13)), Ok(()));
        assert_eq!(
            changed(exponential(), |h| (h.sum, h.count) = (f64::NAN, 11)),
            Err(HistogramError::CountMismatch { buckets: 12, count: 11 })
        );
    }

    #[test]
    fn float_counts_must_not_be_negative() {
        let changed = |change: fn(&mut FloatHistogram)| {
            let mut histogram = FloatHistogram::from(&exponential());
            change(&mut histogram);
            histogram.validate()
        };
        assert_eq!(changed(|h| h.count = -1.0), Err(HistogramError::NegativeCount { count: -1.0 }));
        assert_eq!(changed(|h| h.zero_count = -0.5), Err(HistogramError::NegativeZeroCount { count: -0.5 }));
        assert_eq!(
            changed(|h| h.positive.values[2] = -0.5),
            Err(HistogramError::NegativeBucket { side: Side::Positive, bucket: 2 })
        );
        assert_eq!(changed(|h| h.count = 1000.0), Ok(()));
    }
}
