//! The buckets of a histogram with their bounds, from the lowest to the highest.

use super::FloatHistogram;
use super::bounds::exponential_bound;
use super::places::places;

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to it.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to it.
    pub upper_inclusive: bool,
    /// Observations in it.
    pub count: f64,
}

impl Bucket {
    /// Which part of the bucket lies below a value within it, if its observations are spread evenly (`is_linear`), or
    /// evenly on a scale of logarithms.
    pub(super) fn part_below(&self, value: f64, is_linear: bool) -> f64 {
        if is_linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let [lower, upper, at] = [self.lower, self.upper, value].map(|bound| bound.abs().log2());
        if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}

/// Where a bucket lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Negative(i32),
    Zero,
    Positive(i32),
}

/// Place and count of each bucket, from the lowest to the highest. Bounds, which cost more, are computed by
/// [`bucket_at`] for those that matter.
pub(super) fn all_places(histogram: &FloatHistogram) -> Vec<(Place, f64)> {
    let (positive, negative) = (&histogram.positive, &histogram.negative);
    let mut all = Vec::with_capacity(positive.values.len() + negative.values.len() + 1);
    all.extend(places(negative).map(|(index, count)| (Place::Negative(index), count)));
    all.reverse();
    if histogram.zero_count > 0.0 && !histogram.has_custom_buckets() {
        all.push((Place::Zero, histogram.zero_count));
    }
    all.extend(places(positive).map(|(index, count)| (Place::Positive(index), count)));
    all
}

/// A bucket of a histogram as it is stored.
pub(super) fn stored_bucket(histogram: &FloatHistogram, place: Place, count: f64) -> Bucket {
    match place {
        Place::Zero => Bucket {
            lower: -histogram.zero_threshold,
            upper: histogram.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count,
        },
        Place::Positive(index) if histogram.has_custom_buckets() => Bucket {
            lower: custom_bound(&histogram.custom_values, index.saturating_sub(1)),
            upper: custom_bound(&histogram.custom_values, index),
            lower_inclusive: index == 0,
            upper_inclusive: true,
            count,
        },
        Place::Positive(index) => Bucket {
            lower: exponential_bound(index.saturating_sub(1), histogram.schema),
            upper: exponential_bound(index, histogram.schema),
            lower_inclusive: false,
            upper_inclusive: true,
            count,
        },
        Place::Negative(index) => Bucket {
            lower: -exponential_bound(index, histogram.schema),
            upper: -exponential_bound(index.saturating_sub(1), histogram.schema),
            lower_inclusive: true,
            upper_inclusive: false,
            count,
        },
    }
}

/// A bucket of a histogram; what of it lies within the zero bucket is cut off.
pub(super) fn bucket_at(histogram: &FloatHistogram, place: Place, count: f64) -> Bucket {
    let mut bucket = stored_bucket(histogram, place, count);
    let threshold = histogram.zero_threshold;
    if place != Place::Zero {
        if bucket.lower > 0.0 && bucket.lower < threshold {
            bucket.lower = threshold;
        } else if bucket.upper < 0.0 && bucket.upper > -threshold {
            bucket.upper = -threshold;
        }
    }
    bucket
}

/// All buckets, from the lowest to the highest; the zero bucket only with observations.
pub fn all_buckets(histogram: &FloatHistogram) -> impl Iterator<Item = Bucket> + '_ {
    all_places(histogram).into_iter().map(|(place, count)| bucket_at(histogram, place, count))
}

fn custom_bound(bounds: &[f64], index: i32) -> f64 {
    match usize::try_from(index) {
        Ok(index) => bounds.get(index).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::super::properties::histogram;
    use super::*;

    fn bounds(histogram: &FloatHistogram) -> Vec<(f64, f64, f64)> {
        all_buckets(histogram).map(|bucket| (bucket.lower, bucket.upper, bucket.count)).collect()
    }

    #[test]
    fn buckets_come_from_the_lowest_to_the_highest() {
        let mut all = histogram(0, &[(0, 1.0), (2, 3.0)]);
        all.negative = histogram(0, &[(1, 4.0), (2, 5.0)]).positive;
        (all.zero_count, all.zero_threshold) = (2.0, 0.25);
        assert_eq!(
            bounds(&all),
            [(-4.0, -2.0, 5.0), (-2.0, -1.0, 4.0), (-0.25, 0.25, 2.0), (0.5, 1.0, 1.0), (2.0, 4.0, 3.0)]
        );
        all.zero_threshold = 0.75;
        assert_eq!(bounds(&all)[3], (0.75, 1.0, 1.0));
    }

    #[test]
    fn the_outer_custom_buckets_are_unbounded() {
        let mut custom = histogram(-53, &[(0, 1.0), (1, 2.0), (2, 3.0)]);
        custom.custom_values = vec![5.0, 10.0];
        let infinity = f64::INFINITY;
        assert_eq!(bounds(&custom), [(-infinity, 5.0, 1.0), (5.0, 10.0, 2.0), (10.0, infinity, 3.0)]);
        assert!(all_buckets(&custom).next().is_some_and(|first| first.lower_inclusive));
    }
}
