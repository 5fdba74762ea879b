//! Quantiles, fractions and the variance of native histograms.

use super::buckets::{Bucket, Place, all_places, bucket_at};
use super::{FloatHistogram, all_buckets};
use crate::promql::kahan::KahanSum;

/// An estimate, and what is to be said about it. Only histograms whose sum is NaN can have observations of NaN, which are
/// in no bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Observations of NaN take part in it, or were left out of it.
    pub has_nan_observations: bool,
    /// They are so many that the result is one of them.
    pub is_nan_observation: bool,
}

impl From<f64> for Estimate {
    fn from(value: f64) -> Estimate {
        Estimate { value, has_nan_observations: false, is_nan_observation: false }
    }
}

/// The φ-quantile. Within a bucket, observations are taken to be spread evenly on a scale of logarithms; in the zero
/// bucket and in custom buckets, evenly as they are.
pub fn histogram_quantile(quantile: f64, histogram: &FloatHistogram) -> Estimate {
    if quantile < 0.0 {
        return f64::NEG_INFINITY.into();
    }
    if quantile > 1.0 {
        return f64::INFINITY.into();
    }
    if histogram.count == 0.0 || quantile.is_nan() {
        return f64::NAN.into();
    }
    let places = all_places(histogram);
    // Observations of NaN come after all others, so they can only be counted from below.
    let from_below = histogram.sum.is_nan() || quantile < 0.5;
    let found = if from_below {
        reach(places.iter(), quantile * histogram.count)
    } else {
        reach(places.iter().rev(), (1.0 - quantile) * histogram.count)
    };
    let mut bucket = found.place.map_or(NO_BUCKET, |(place, count)| bucket_at(histogram, place, count));
    if let Some(value) = close_open_end(histogram, &mut bucket) {
        return value.into();
    }
    let Reached { rank, rest, .. } = found;
    // Rounding may have yielded more than the whole.
    let count = if found.count > histogram.count { histogram.count } else { found.count };
    if count < rank {
        let is_nan_observation = histogram.sum.is_nan();
        let value = if is_nan_observation { f64::NAN } else { bucket.upper };
        return Estimate { value, has_nan_observations: false, is_nan_observation };
    }
    let has_nan_observations = histogram.sum.is_nan() && count + rest < histogram.count;
    let rank_in_bucket = if from_below { rank - (count - bucket.count) } else { count - rank };
    let value = interpolate(histogram, &bucket, rank_in_bucket / bucket.count);
    Estimate { value, has_nan_observations, is_nan_observation: false }
}

/// Stands for the bucket of a histogram that has none.
const NO_BUCKET: Bucket =
    Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };

/// The bucket at which a rank is reached.
struct Reached {
    rank: f64,
    /// The bucket, or the last one if the rank is not reached.
    place: Option<(Place, f64)>,
    /// Observations up to its end.
    count: f64,
    /// Observations beyond it.
    rest: f64,
}

fn reach<'a>(mut places: impl Iterator<Item = &'a (Place, f64)>, rank: f64) -> Reached {
    let mut reached = Reached { rank, place: None, count: 0.0, rest: 0.0 };
    for (place, count) in places.by_ref() {
        reached.place = Some((*place, *count));
        reached.count += count;
        if *count != 0.0 && reached.count >= rank {
            break;
        }
    }
    reached.rest = places.map(|(_, count)| count).sum();
    reached
}

/// Gives a bucket that reaches across zero, or without end, the bounds that its observations are taken to have. If they
/// are unknown, the answer is the bound that there is.
fn close_open_end(histogram: &FloatHistogram, bucket: &mut Bucket) -> Option<f64> {
    if histogram.has_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return Some(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return Some(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        cut_at_zero(histogram, bucket);
    }
    None
}

/// A histogram of positive buckets alone has no negative observations in its zero bucket either, and the other way round.
fn cut_at_zero(histogram: &FloatHistogram, bucket: &mut Bucket) {
    match (histogram.negative.values.is_empty(), histogram.positive.values.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

fn interpolate(histogram: &FloatHistogram, bucket: &Bucket, part: f64) -> f64 {
    if histogram.has_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * part;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * part).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - part)).exp2()
    }
}

/// The part of all observations that lies between two values.
pub fn histogram_fraction(lower: f64, upper: f64, histogram: &FloatHistogram) -> Estimate {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN.into();
    }
    if lower >= upper {
        return 0.0.into();
    }
    let places = all_places(histogram);
    let mut below = 0.0;
    let mut ranks: [Option<f64>; 2] = [None, None];
    for (place, count) in &places {
        let mut bucket = bucket_at(histogram, *place, *count);
        let spans_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if spans_zero {
            cut_at_zero(histogram, &mut bucket);
        }
        let is_linear = spans_zero || histogram.has_custom_buckets();
        for (rank, value) in ranks.iter_mut().zip([lower, upper]) {
            if rank.is_none() {
                *rank = rank_within(&bucket, value, below, is_linear);
            }
        }
        if ranks.iter().all(Option::is_some) {
            break;
        }
        below += count;
    }
    let mut total = histogram.count;
    let mut has_nan_observations = false;
    if histogram.sum.is_nan() {
        let in_buckets = places.iter().map(|(_, count)| count).sum::<f64>();
        has_nan_observations = in_buckets < total;
        total = in_buckets;
    }
    let [lower, upper] = ranks.map(|rank| match rank {
        Some(rank) if rank > total => total,
        rank => rank.unwrap_or(total),
    });
    let value = (upper - lower) / histogram.count;
    Estimate { value, has_nan_observations, is_nan_observation: false }
}

/// How many observations lie below a value, if it lies in this bucket or below.
fn rank_within(bucket: &Bucket, value: f64, below: f64, is_linear: bool) -> Option<f64> {
    if bucket.lower >= value {
        return Some(below);
    }
    if bucket.upper <= value {
        return None;
    }
    if is_linear && bucket.lower == f64::NEG_INFINITY {
        // A bucket without a lower end cannot be divided.
        return Some(bucket.count);
    }
    Some(below + bucket.count * bucket.part_below(value, is_linear))
}

/// The variance: each observation is taken to be in the middle of its bucket.
pub fn histogram_variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut variance = KahanSum::default();
    for bucket in all_buckets(histogram).filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.has_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        variance.add(bucket.count * delta * delta);
    }
    variance.total() / histogram.count
}

#[cfg(test)]
mod tests {
    use super::super::properties::histogram;
    use super::*;

    #[test]
    fn quantiles_are_exponential_within_a_bucket() {
        let one = histogram(0, &[(0, 1.0), (1, 2.0), (2, 1.0)]);
        assert_eq!(histogram_quantile(0.5, &one).value, 2f64.sqrt());
        assert_eq!(histogram_quantile(0.0, &one).value, 0.5);
        assert_eq!(histogram_quantile(1.0, &one).value, 4.0);
        assert_eq!(histogram_quantile(-1.0, &one).value, f64::NEG_INFINITY);
        assert!(histogram_quantile(0.5, &histogram(0, &[])).value.is_nan());
    }

    #[test]
    fn the_zero_bucket_and_custom_buckets_are_linear() {
        let mut zero = histogram(0, &[(3, 0.0)]);
        (zero.zero_count, zero.count, zero.zero_threshold) = (4.0, 4.0, 1.0);
        assert_eq!(histogram_quantile(0.25, &zero).value, 0.25);
        let mut custom = histogram(-53, &[(0, 2.0), (1, 2.0), (2, 4.0)]);
        custom.custom_values = vec![10.0, 20.0];
        assert_eq!(histogram_quantile(0.125, &custom).value, 5.0);
        assert_eq!(histogram_quantile(0.375, &custom).value, 15.0);
        assert_eq!(histogram_quantile(0.9, &custom).value, 20.0);
    }

    #[test]
    fn observations_of_nan_come_last() {
        let mut one = histogram(0, &[(0, 1.0), (1, 1.0)]);
        (one.count, one.sum) = (4.0, f64::NAN);
        let skewed = histogram_quantile(0.5, &one);
        assert_eq!((skewed.value, skewed.has_nan_observations), (2.0, true));
        assert!(histogram_quantile(0.9, &one).is_nan_observation);
        let all = histogram_fraction(f64::NEG_INFINITY, f64::INFINITY, &one);
        assert_eq!((all.value, all.has_nan_observations), (0.5, true));
    }

    #[test]
    fn fractions_are_the_inverse_of_quantiles() {
        let one = histogram(1, &[(0, 1.0), (1, 2.0), (4, 1.0)]);
        for quantile in [0.1, 0.3, 0.6, 0.9] {
            let value = histogram_quantile(quantile, &one).value;
            let fraction = histogram_fraction(f64::NEG_INFINITY, value, &one).value;
            assert!((fraction - quantile).abs() < 1e-12, "{quantile} {fraction}");
        }
        assert_eq!(histogram_fraction(2.0, 1.0, &one).value, 0.0);
        assert!(histogram_fraction(f64::NAN, 1.0, &one).value.is_nan());
    }

    #[test]
    fn the_variance_is_that_of_the_middles() {
        let mut custom = histogram(-53, &[(1, 2.0), (3, 2.0)]);
        custom.custom_values = vec![0.0, 2.0, 4.0, 6.0];
        custom.sum = 12.0;
        assert_eq!(histogram_variance(&custom), 4.0);
    }
}
