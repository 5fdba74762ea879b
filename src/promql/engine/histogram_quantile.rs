//! Quantiles and fractions of classic histograms: series of cumulative buckets told apart by the label `le`.

/// Smaller relative differences between buckets are rounding errors.
const SMALL_DELTA: f64 = 1e-12;

/// One cumulative bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    /// The value of `le`.
    pub(super) upper_bound: f64,
    /// Observations up to that bound.
    pub(super) count: f64,
}

/// Buckets whose count was below that of a lower bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Decrease {
    /// The lowest and the highest upper bound concerned.
    pub(super) bounds: (f64, f64),
    /// The largest difference.
    pub(super) diff_max: f64,
}

/// The upper bound that a label value stands for.
pub(super) fn parse_upper_bound(value: &str) -> Option<f64> {
    value.parse().ok()
}

/// The φ-quantile, linear within a bucket, and what had to be corrected for it. NaN without observations, without a
/// bucket for +Inf, or with that bucket alone.
pub(super) fn bucket_quantile(quantile: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Decrease>) {
    if quantile.is_nan() {
        return (f64::NAN, None);
    }
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, None);
    }
    if !sort_and_join(buckets) {
        return (f64::NAN, None);
    }
    let decrease = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, decrease);
    }
    let mut rank = quantile * observations;
    let index = first_not_below(&buckets[..last], rank);
    let value = if index == last {
        // Nothing is known about the values beyond the last bound.
        buckets[last - 1].upper_bound
    } else if index == 0 && buckets[0].upper_bound <= 0.0 {
        buckets[0].upper_bound
    } else {
        let (mut start, mut count) = (0.0, buckets[index].count);
        if index > 0 {
            start = buckets[index - 1].upper_bound;
            count -= buckets[index - 1].count;
            rank -= buckets[index - 1].count;
        }
        start + (buckets[index].upper_bound - start) * (rank / count)
    };
    (value, decrease)
}

/// The share of observations between two values, linear within a bucket.
pub(super) fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !sort_and_join(buckets) {
        return f64::NAN;
    }
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, total) - rank_of(lower, buckets, total)) / total
}

/// How many observations lie below a value.
fn rank_of(value: f64, buckets: &[Bucket], total: f64) -> f64 {
    // Positive bounds alone mean positive observations.
    let mut lower_bound = if buckets[0].upper_bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut below = 0.0;
    for bucket in buckets {
        let rank = if lower_bound >= value {
            Some(below)
        } else if bucket.upper_bound > value {
            // A bucket without a lower end cannot be divided.
            Some(if lower_bound == f64::NEG_INFINITY {
                bucket.count
            } else {
                let width = bucket.upper_bound - lower_bound;
                below + (bucket.count - below) * (value - lower_bound) / width
            })
        } else {
            None
        };
        if let Some(rank) = rank {
            return if rank > total { total } else { rank };
        }
        below = bucket.count;
        lower_bound = bucket.upper_bound;
    }
    total
}

/// Sorts by bound and adds up buckets of the same bound; false unless the last bound is +Inf.
fn sort_and_join(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound));
    if buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper_bound == kept.upper_bound;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

/// Ignores tiny differences between neighbours, then lifts each bucket to the count of the one below it.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Decrease> {
    let mut decrease: Option<Decrease> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            let bound = bucket.upper_bound;
            let found = decrease.get_or_insert(Decrease { bounds: (bound, bound), diff_max: 0.0 });
            found.bounds = (found.bounds.0.min(bound), found.bounds.1.max(bound));
            found.diff_max = found.diff_max.max(before - bucket.count);
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    decrease
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < SMALL_DELTA
}

/// Index of the first bucket whose count reaches the rank, by bisection: with NaN among the counts there is no
/// order, and the result has to be that of Prometheus' search all the same.
fn first_not_below(buckets: &[Bucket], rank: f64) -> usize {
    let (mut low, mut high) = (0, buckets.len());
    while low < high {
        let middle = (low + high) / 2;
        if buckets[middle].count >= rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|&(upper_bound, count)| Bucket { upper_bound, count }).collect()
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let all = buckets(&[(f64::INFINITY, 10.0), (1.0, 4.0), (2.0, 8.0)]);
        assert_eq!(bucket_quantile(0.2, &mut all.clone()).0, 0.5);
        assert_eq!(bucket_quantile(0.6, &mut all.clone()).0, 1.5);
        assert_eq!(bucket_quantile(1.0, &mut all.clone()).0, 2.0);
        assert_eq!(bucket_quantile(-1.0, &mut all.clone()).0, f64::NEG_INFINITY);
    }

    #[test]
    fn without_an_infinite_bucket_there_is_no_quantile() {
        assert!(bucket_quantile(0.5, &mut buckets(&[(1.0, 4.0), (2.0, 8.0)])).0.is_nan());
        assert!(bucket_quantile(0.5, &mut buckets(&[(f64::INFINITY, 8.0)])).0.is_nan());
        assert!(bucket_quantile(0.5, &mut buckets(&[(1.0, 0.0), (f64::INFINITY, 0.0)])).0.is_nan());
    }

    #[test]
    fn decreasing_buckets_are_lifted_and_told() {
        let mut all = buckets(&[(1.0, 10.0), (2.0, 6.0), (f64::INFINITY, 20.0)]);
        let (value, decrease) = bucket_quantile(0.5, &mut all);
        assert_eq!(value, 1.0);
        assert_eq!(decrease, Some(Decrease { bounds: (2.0, 2.0), diff_max: 4.0 }));
    }

    #[test]
    fn rounding_errors_between_buckets_are_not_told() {
        let mut all = buckets(&[(1.0, 10.0), (2.0, 10.0 - 1e-13), (f64::INFINITY, 10.0)]);
        assert_eq!(bucket_quantile(0.5, &mut all), (0.5, None));
    }

    #[test]
    fn fractions_count_what_lies_between_two_values() {
        let all = buckets(&[(1.0, 4.0), (2.0, 8.0), (f64::INFINITY, 10.0)]);
        assert_eq!(bucket_fraction(0.0, 1.0, &mut all.clone()), 0.4);
        assert_eq!(bucket_fraction(0.5, 1.5, &mut all.clone()), 0.4);
        assert_eq!(bucket_fraction(f64::NEG_INFINITY, f64::INFINITY, &mut all.clone()), 1.0);
        assert_eq!(bucket_fraction(2.0, 1.0, &mut all.clone()), 0.0);
        let negative = buckets(&[(-1.0, 3.0), (f64::INFINITY, 4.0)]);
        assert_eq!(bucket_fraction(-5.0, f64::INFINITY, &mut negative.clone()), 0.25);
    }
}
