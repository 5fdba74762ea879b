//! Changes of one histogram: products, quotients, and leaving out empty buckets.

use annulus_shards::chunk::{Buckets, ResetHint};

use super::FloatHistogram;
use super::places::{from_places, places};

/// Multiplies all counts and the sum. With a negative factor it is no counter any more.
pub fn multiply(histogram: &mut FloatHistogram, factor: f64) {
    each_number(histogram, |number| *number *= factor);
    if factor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

/// Divides all counts and the sum. A division by zero leaves no bucket.
pub fn divide(histogram: &mut FloatHistogram, divisor: f64) {
    if divisor == 0.0 {
        histogram.positive = Buckets::default();
        histogram.negative = Buckets::default();
    }
    each_number(histogram, |number| *number /= divisor);
    if divisor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

/// Leaves out the buckets without observations.
pub fn compact(histogram: &mut FloatHistogram) {
    for buckets in [&mut histogram.positive, &mut histogram.negative] {
        if buckets.values.contains(&0.0) || buckets.spans.iter().skip(1).any(|span| span.offset <= 0) {
            *buckets = from_places(places(buckets).filter(|(_, count)| *count != 0.0));
        }
    }
}

/// Whether two histograms are the same to the bit, whatever they say about resets. An empty bucket is not the same as
/// none.
pub fn same(left: &FloatHistogram, right: &FloatHistogram) -> bool {
    let same_bits = |left: f64, right: f64| left.to_bits() == right.to_bits();
    let same_buckets = |left: &Buckets<f64>, right: &Buckets<f64>| {
        let (left, right) = (places(left), places(right));
        left.map(|(index, count)| (index, count.to_bits()))
            .eq(right.map(|(index, count)| (index, count.to_bits())))
    };
    left.schema == right.schema
        && same_bits(left.count, right.count)
        && same_bits(left.sum, right.sum)
        && left.zero_threshold == right.zero_threshold
        && same_bits(left.zero_count, right.zero_count)
        && (!left.has_custom_buckets() || left.custom_values == right.custom_values)
        && same_buckets(&left.positive, &right.positive)
        && same_buckets(&left.negative, &right.negative)
}

fn each_number(histogram: &mut FloatHistogram, change: impl Fn(&mut f64)) {
    let FloatHistogram { zero_count, count, sum, positive, negative, .. } = histogram;
    let buckets = positive.values.iter_mut().chain(&mut negative.values);
    buckets.chain([zero_count, count, sum]).for_each(change);
}

#[cfg(test)]
mod tests {
    use super::super::properties::histogram;
    use super::*;

    #[test]
    fn a_negative_factor_makes_a_gauge() {
        let mut one = histogram(0, &[(1, 2.0)]);
        multiply(&mut one, 2.0);
        assert_eq!((one.count, one.positive.values[0], one.reset_hint), (4.0, 4.0, ResetHint::Unknown));
        multiply(&mut one, -1.0);
        assert_eq!((one.count, one.positive.values[0], one.reset_hint), (-4.0, -4.0, ResetHint::Gauge));
    }

    #[test]
    fn a_division_by_zero_leaves_no_bucket() {
        let mut one = histogram(0, &[(1, 2.0)]);
        divide(&mut one, 0.0);
        assert_eq!((one.count, one.positive.values.len()), (f64::INFINITY, 0));
    }

    #[test]
    fn empty_buckets_are_left_out() {
        let mut one = histogram(0, &[(-1, 0.0), (0, 1.0), (1, 0.0), (2, 2.0), (5, 0.0)]);
        compact(&mut one);
        assert_eq!(places(&one.positive).collect::<Vec<_>>(), [(0, 1.0), (2, 2.0)]);
        assert_eq!(one.positive.spans.len(), 2);
    }

    #[test]
    fn sameness_is_one_of_bits_and_of_empty_buckets() {
        let one = histogram(0, &[(0, 1.0)]);
        let padded = histogram(0, &[(0, 1.0), (1, 0.0)]);
        let gauge = FloatHistogram { reset_hint: ResetHint::Gauge, ..one.clone() };
        assert!(same(&one, &gauge) && !same(&one, &padded));
        let nan = FloatHistogram { sum: f64::NAN, ..one.clone() };
        assert!(same(&nan, &nan) && !same(&nan, &one));
    }
}
