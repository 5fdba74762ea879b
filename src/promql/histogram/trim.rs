//! `</` and `>/`: a histogram without the observations above, or below, a value.

use super::buckets::{Bucket, Place, stored_bucket};
use super::places::places;
use super::{FloatHistogram, compact};

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Those up to the value.
    Below,
    /// Those from the value on.
    Above,
}

/// What stays of a bucket, and the middle of it.
struct Kept {
    count: f64,
    middle: f64,
}

/// Leaves out observations. Unless nothing goes, count and sum are estimated anew from the buckets.
pub fn trim(histogram: &mut FloatHistogram, keep: Trim, value: f64) {
    let (mut count, mut sum, mut has_changed) = (0.0, 0.0, false);
    let mut in_use = [false, false];
    for (is_positive, in_use) in [true, false].into_iter().zip(&mut in_use) {
        let buckets = if is_positive { &histogram.positive } else { &histogram.negative };
        let mut kept_counts = buckets.values.clone();
        for ((index, before), now) in places(buckets).zip(&mut kept_counts) {
            if before == 0.0 {
                continue;
            }
            *in_use = true;
            let place = if is_positive { Place::Positive(index) } else { Place::Negative(index) };
            let bucket = stored_bucket(histogram, place, before);
            let kept = keep_of(&bucket, keep, value, is_positive, histogram.has_custom_buckets());
            count += kept.count;
            sum += kept.middle * kept.count;
            has_changed |= kept.count != before;
            *now = kept.count;
        }
        let buckets = if is_positive { &mut histogram.positive } else { &mut histogram.negative };
        buckets.values = kept_counts;
    }
    if histogram.zero_count > 0.0 {
        let zero = stored_bucket(histogram, Place::Zero, histogram.zero_count);
        let kept = keep_of_zero(zero, keep, value, in_use);
        has_changed |= kept.count != histogram.zero_count;
        histogram.zero_count = kept.count;
        sum += kept.middle * kept.count;
        count += kept.count;
    }
    if has_changed {
        (histogram.count, histogram.sum) = (count, sum);
        compact(histogram);
    }
}

fn keep_of(bucket: &Bucket, keep: Trim, value: f64, is_positive: bool, is_linear: bool) -> Kept {
    let (is_whole, is_cut) = match keep {
        Trim::Below => (bucket.upper <= value, bucket.lower < value),
        Trim::Above => (bucket.lower >= value, bucket.upper > value),
    };
    if is_whole {
        let middle = middle(bucket.lower, bucket.upper, is_positive, is_linear);
        return Kept { count: bucket.count, middle };
    }
    if !is_cut {
        return Kept { count: 0.0, middle: 0.0 };
    }
    if bucket.lower == f64::NEG_INFINITY {
        return keep_of_bottomless(bucket, keep, value);
    }
    if bucket.upper == f64::INFINITY {
        return match keep {
            // Where they lie is not known, so none may stay.
            Trim::Below => Kept { count: 0.0, middle: 0.0 },
            // None of them is known to lie below.
            Trim::Above => Kept { count: bucket.count, middle: value },
        };
    }
    let below = if value <= bucket.lower {
        0.0
    } else if value >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.part_below(value, is_linear)
    };
    match keep {
        Trim::Below => Kept { count: below, middle: middle(bucket.lower, value, is_positive, is_linear) },
        Trim::Above => {
            Kept { count: bucket.count - below, middle: middle(value, bucket.upper, is_positive, is_linear) }
        }
    }
}

/// Of a bucket that has no lower end, and that the value cuts. If it ends above zero, observations are taken to be
/// positive.
fn keep_of_bottomless(bucket: &Bucket, keep: Trim, value: f64) -> Kept {
    let is_bounded = bucket.upper != f64::INFINITY;
    match keep {
        Trim::Below if value > 0.0 && bucket.upper > 0.0 && is_bounded => {
            Kept { count: bucket.count * value / bucket.upper, middle: value / 2.0 }
        }
        Trim::Below if bucket.upper <= 0.0 => Kept { count: bucket.count, middle: value },
        Trim::Above if value == f64::NEG_INFINITY => Kept { count: bucket.count, middle: 0.0 },
        Trim::Above if value >= 0.0 && bucket.upper > value && is_bounded => {
            Kept { count: bucket.count * (1.0 - value / bucket.upper), middle: (value + bucket.upper) / 2.0 }
        }
        Trim::Below | Trim::Above => Kept { count: 0.0, middle: 0.0 },
    }
}

/// Of the zero bucket. With observations on one side alone, it lies on that side too.
fn keep_of_zero(zero: Bucket, keep: Trim, value: f64, [has_positive, has_negative]: [bool; 2]) -> Kept {
    let lower = if has_positive && !has_negative { 0.0 } else { zero.lower };
    let upper = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let whole = Kept { count: zero.count, middle: (lower + upper) / 2.0 };
    let nothing = Kept { count: 0.0, middle: 0.0 };
    match keep {
        Trim::Below if value <= lower => nothing,
        Trim::Below if value >= upper => whole,
        Trim::Below => {
            Kept { count: zero.count * ((value - lower) / (upper - lower)), middle: (lower + value) / 2.0 }
        }
        Trim::Above if value <= lower => whole,
        Trim::Above if value >= upper => nothing,
        Trim::Above => {
            Kept { count: zero.count * ((upper - value) / (upper - lower)), middle: (value + upper) / 2.0 }
        }
    }
}

fn middle(lower: f64, upper: f64, is_positive: bool, is_linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if is_linear => (lower + upper) / 2.0,
        (false, false) => {
            let middle = (lower * upper).abs().sqrt();
            if is_positive { middle } else { -middle }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::properties::histogram;
    use super::*;

    fn trimmed(histogram: &FloatHistogram, keep: Trim, value: f64) -> FloatHistogram {
        let mut histogram = histogram.clone();
        trim(&mut histogram, keep, value);
        histogram
    }

    #[test]
    fn a_bound_that_cuts_no_bucket_takes_whole_buckets() {
        let one = histogram(0, &[(0, 1.0), (1, 2.0), (2, 4.0)]);
        let below = trimmed(&one, Trim::Below, 2.0);
        assert_eq!((below.count, below.positive.values), (3.0, vec![1.0, 2.0]));
        assert_eq!(below.sum, 0.5f64.sqrt() + 2.0 * 2f64.sqrt());
        let above = trimmed(&one, Trim::Above, 2.0);
        assert_eq!((above.count, above.sum), (4.0, 4.0 * 8f64.sqrt()));
    }

    #[test]
    fn a_bucket_is_divided_on_its_scale() {
        let one = histogram(0, &[(2, 4.0)]);
        assert_eq!(trimmed(&one, Trim::Below, 8f64.sqrt()).count.round(), 2.0);
        let mut custom = histogram(-53, &[(0, 4.0), (1, 4.0), (2, 4.0)]);
        custom.custom_values = vec![10.0, 20.0];
        assert_eq!(trimmed(&custom, Trim::Below, 15.0).positive.values, [4.0, 2.0]);
        assert_eq!(trimmed(&custom, Trim::Below, 5.0).positive.values, [2.0]);
        assert_eq!(trimmed(&custom, Trim::Above, 25.0).positive.values, [4.0]);
    }

    #[test]
    fn what_is_not_cut_stays_as_it_is() {
        let mut one = histogram(0, &[(0, 1.0)]);
        one.sum = 123.0;
        assert_eq!(trimmed(&one, Trim::Below, f64::INFINITY).sum, 123.0);
        assert_eq!(trimmed(&one, Trim::Above, f64::INFINITY).count, 0.0);
    }

    #[test]
    fn a_zero_bucket_lies_where_the_other_observations_are() {
        let mut one = histogram(0, &[(2, 4.0)]);
        (one.zero_count, one.count, one.zero_threshold) = (2.0, 6.0, 0.5);
        assert_eq!(trimmed(&one, Trim::Below, 0.25).zero_count, 1.0);
        assert_eq!(trimmed(&one, Trim::Above, -1.0).zero_count, 2.0);
    }
}
