//! Laws of the arithmetic, over histograms of any layout; and histograms for the tests beside.

use annulus_shards::chunk::{Buckets, ResetHint, SCHEMA_CUSTOM, Span};
use proptest::prelude::*;

use super::accumulator::Number;
use super::bounds::exponential_bound;
use super::places::{from_places, places};
use super::*;
use crate::promql::kahan::KahanSum;

/// A histogram of positive buckets; its count is their sum.
pub fn histogram(schema: i32, buckets: &[(i32, f64)]) -> FloatHistogram {
    let count = buckets.iter().map(|(_, count)| count).sum();
    FloatHistogram {
        schema,
        count,
        positive: from_places(buckets.iter().copied()),
        ..FloatHistogram::default()
    }
}

fn sum<N: Number>(histograms: &[&FloatHistogram]) -> Result<FloatHistogram, Incompatible> {
    let mut sum = Accumulator::<N>::new(histograms[0]);
    for histogram in &histograms[1..] {
        sum.add(histogram)?;
    }
    let mut sum = sum.finish();
    compact(&mut sum);
    Ok(sum)
}

/// What is in the buckets, whatever the layout.
fn observations(histogram: &FloatHistogram) -> f64 {
    let in_buckets: f64 = histogram.positive.values.iter().chain(&histogram.negative.values).sum();
    in_buckets + histogram.zero_count
}

#[test]
fn different_schemas_are_added_at_the_coarser_one() {
    let (fine, coarse) =
        (histogram(1, &[(1, 1.0), (2, 2.0), (3, 4.0)]), histogram(0, &[(1, 10.0), (4, 5.0)]));
    for pair in [[&fine, &coarse], [&coarse, &fine]] {
        let sum = sum::<f64>(&pair).unwrap();
        assert_eq!((sum.schema, sum.count), (0, 22.0));
        assert_eq!(places(&sum.positive).collect::<Vec<_>>(), [(1, 13.0), (2, 4.0), (4, 5.0)]);
    }
}

#[test]
fn zero_buckets_grow_to_the_wider_one() {
    let mut wide = histogram(0, &[(3, 1.0)]);
    (wide.zero_threshold, wide.zero_count, wide.count) = (1.5, 2.0, 3.0);
    // The bucket from 1 to 2 is in use, so the zero bucket has to reach to 2.
    let narrow = histogram(0, &[(0, 1.0), (1, 1.0), (2, 1.0)]);
    for pair in [[&wide, &narrow], [&narrow, &wide]] {
        let sum = sum::<f64>(&pair).unwrap();
        assert_eq!((sum.zero_threshold, sum.zero_count, sum.count), (2.0, 4.0, 6.0));
        assert_eq!(places(&sum.positive).collect::<Vec<_>>(), [(2, 1.0), (3, 1.0)]);
    }
}

#[test]
fn other_custom_bounds_leave_those_that_both_have() {
    let custom = |bounds: &[f64], counts: &[(i32, f64)]| FloatHistogram {
        custom_values: bounds.to_vec(),
        ..histogram(SCHEMA_CUSTOM, counts)
    };
    let left = custom(&[1.0, 2.0, 5.0], &[(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)]);
    let right = custom(&[2.0, 3.0, 5.0], &[(0, 10.0), (1, 20.0), (2, 40.0), (3, 80.0)]);
    let mut sum = Accumulator::<f64>::new(&left);
    assert_eq!(sum.add(&right), Ok(Added { hints_collide: false, bounds_reconciled: true }));
    let sum = sum.finish();
    assert_eq!(
        (sum.custom_values.as_slice(), sum.positive.values.as_slice()),
        (&[2.0, 5.0][..], &[13.0, 64.0, 88.0][..])
    );
    assert_eq!(Accumulator::<f64>::new(&left).add(&histogram(0, &[])), Err(Incompatible));
}

#[test]
fn hints_are_joined_and_collisions_told() {
    use ResetHint::{Gauge, No, Unknown, Yes};
    for (left, right, joined, collide) in [
        (No, No, No, false),
        (No, Gauge, Gauge, false),
        (Unknown, No, Unknown, false),
        (Yes, Unknown, Unknown, false),
        (Yes, No, Unknown, true),
    ] {
        let hinted = |reset_hint| FloatHistogram { reset_hint, ..histogram(0, &[]) };
        let mut sum = Accumulator::<f64>::new(&hinted(left));
        let added = sum.add(&hinted(right)).unwrap();
        assert_eq!((sum.finish().reset_hint, added.hints_collide), (joined, collide));
    }
}

/// Counts are whole and small, so that sums are exact in any order. The zero bucket has no width.
fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    any_histogram_with(-4i32..=8, Just(0.0))
}

/// No bucket begins within the zero bucket.
fn any_histogram_with(
    schema: impl Strategy<Value = i32>,
    threshold: impl Strategy<Value = f64>,
) -> impl Strategy<Value = FloatHistogram> {
    let side = || proptest::collection::btree_map(-20i32..20, 0u8..6, 0..12);
    (schema, side(), side(), 0u8..5, threshold, -50i8..50).prop_map(
        |(schema, positive, negative, zero_count, zero_threshold, sum)| {
            let buckets = |side: std::collections::BTreeMap<i32, u8>| {
                let outside = side
                    .into_iter()
                    .filter(|(index, _)| exponential_bound(index - 1, schema) >= zero_threshold);
                from_places(outside.map(|(index, count)| (index, f64::from(count))))
            };
            let mut histogram = FloatHistogram {
                schema,
                zero_threshold,
                zero_count: f64::from(zero_count),
                sum: f64::from(sum),
                positive: buckets(positive),
                negative: buckets(negative),
                ..FloatHistogram::default()
            };
            histogram.count = observations(&histogram);
            histogram
        },
    )
}

fn any_custom() -> impl Strategy<Value = FloatHistogram> {
    let bounds = proptest::collection::btree_set(-9i8..9, 0..8);
    (bounds, proptest::collection::vec(0u8..6, 9)).prop_map(|(bounds, counts)| {
        let custom_values: Vec<f64> = bounds.into_iter().map(f64::from).collect();
        let places: Vec<(i32, f64)> =
            (0..).zip(counts.into_iter().map(f64::from)).take(custom_values.len() + 1).collect();
        FloatHistogram { custom_values, ..histogram(SCHEMA_CUSTOM, &places) }
    })
}

/// Numbers and layouts that no sender should send.
fn any_nonsense() -> impl Strategy<Value = FloatHistogram> {
    let number = || prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), -3.0..3.0];
    let side = move || {
        let span = (prop_oneof![any::<i32>(), -3i32..3], prop_oneof![any::<u32>(), 0u32..4]);
        let spans = proptest::collection::vec(span, 0..4);
        (spans, proptest::collection::vec(number(), 0..6)).prop_map(|(spans, values)| Buckets {
            spans: spans.into_iter().map(|(offset, length)| Span { offset, length }).collect(),
            values,
        })
    };
    let schema = prop_oneof![any::<i32>(), -9i32..=8, Just(SCHEMA_CUSTOM)];
    let bounds = proptest::collection::vec(number(), 0..4);
    (schema, [number(), number(), number(), number()], side(), side(), bounds).prop_map(
        |(schema, [zero_threshold, zero_count, count, sum], positive, negative, custom_values)| {
            FloatHistogram {
                reset_hint: ResetHint::Unknown,
                schema,
                zero_threshold,
                zero_count,
                count,
                sum,
                positive,
                negative,
                custom_values,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_sum_does_not_depend_on_the_order(
        histograms in proptest::collection::vec(any_histogram(), 2..5),
    ) {
        let forward: Vec<&FloatHistogram> = histograms.iter().collect();
        let backward: Vec<&FloatHistogram> = histograms.iter().rev().collect();
        let (forward, backward) = (sum::<f64>(&forward).unwrap(), sum::<f64>(&backward).unwrap());
        prop_assert!(same(&forward, &backward), "{:?}\n{:?}", forward, backward);
        prop_assert_eq!(observations(&forward), forward.count);
    }

    /// Of different schemas, a bucket that lies within the zero bucket may end outside of it when it gets coarser;
    /// Prometheus counts its observations twice then.
    #[test]
    fn no_observation_is_lost_when_zero_buckets_grow((left, right) in (-4i32..=8).prop_flat_map(|schema| (
        any_histogram_with(Just(schema), prop_oneof![Just(0.0), Just(0.25), Just(1.0)]),
        any_histogram_with(Just(schema), prop_oneof![Just(0.0), Just(0.3), Just(2.5)]),
    ))) {
        let both = sum::<f64>(&[&left, &right]).unwrap();
        prop_assert_eq!(observations(&both), left.count + right.count);
        prop_assert!(both.zero_threshold >= left.zero_threshold.max(right.zero_threshold));
    }

    #[test]
    fn a_sum_of_custom_buckets_does_not_depend_on_the_order(left in any_custom(), right in any_custom()) {
        let (forward, backward) = (sum::<f64>(&[&left, &right]).unwrap(), sum::<f64>(&[&right, &left]).unwrap());
        prop_assert!(same(&forward, &backward));
        prop_assert_eq!(observations(&forward), left.count + right.count);
    }

    #[test]
    fn compensated_and_plain_sums_of_whole_numbers_are_equal(
        histograms in proptest::collection::vec(any_histogram(), 1..5),
    ) {
        let all: Vec<&FloatHistogram> = histograms.iter().collect();
        prop_assert!(same(&sum::<f64>(&all).unwrap(), &sum::<KahanSum>(&all).unwrap()));
    }

    #[test]
    fn what_was_added_can_be_subtracted(left in any_histogram(), right in any_histogram()) {
        let mut difference = Accumulator::<f64>::new(&sum::<f64>(&[&left, &right]).unwrap());
        difference.subtract(&right).unwrap();
        let mut difference = difference.finish();
        compact(&mut difference);
        // The resolution stays the coarser one of both.
        let nothing = FloatHistogram { schema: right.schema, ..FloatHistogram::default() };
        let expected = sum::<f64>(&[&left, &nothing]).unwrap();
        prop_assert!(same(&difference, &expected), "{:?}\n{:?}", difference, expected);
    }

    #[test]
    fn compaction_keeps_the_meaning(before in any_histogram(), quantile in 0.0f64..1.0) {
        let mut after = before.clone();
        compact(&mut after);
        let in_use = |histogram: &FloatHistogram| -> Vec<Bucket> {
            all_buckets(histogram).filter(|bucket| bucket.count != 0.0).collect()
        };
        prop_assert_eq!(in_use(&before), in_use(&after));
        prop_assert_eq!(detect_reset(&after, &before), false);
        prop_assert_eq!(detect_reset(&before, &after), false);
        let _ = histogram_quantile(quantile, &after);
    }

    #[test]
    fn a_counter_that_grew_has_no_reset_and_one_that_shrank_has(first in any_histogram(), more in any_histogram()) {
        let grown = sum::<f64>(&[&first, &more]).unwrap();
        prop_assert!(!detect_reset(&grown, &first));
        prop_assert_eq!(detect_reset(&first, &grown), more.count > 0.0 || grown.schema < first.schema);
    }

    #[test]
    fn both_sides_of_a_trim_are_the_whole(whole in any_histogram(), value in -20.0f64..20.0) {
        let side = |keep| {
            let mut side = whole.clone();
            trim(&mut side, keep, value);
            side.count
        };
        prop_assert!((side(Trim::Below) + side(Trim::Above) - whole.count).abs() < 1e-9);
    }

    #[test]
    fn quantiles_rise_and_lie_within_the_buckets(histogram in any_histogram(), quantiles in [0.0f64..1.0, 0.0f64..1.0]) {
        prop_assume!(histogram.count > 0.0);
        let [low, high] = if quantiles[0] < quantiles[1] { quantiles } else { [quantiles[1], quantiles[0]] };
        let [low, high] = [low, high].map(|quantile| histogram_quantile(quantile, &histogram).value);
        prop_assert!(low <= high + high.abs() * 1e-12, "{low} {high}");
    }

    #[test]
    fn nonsense_ends_in_some_result(
        left in any_nonsense(), right in any_nonsense(), value in any::<f64>(), other in any::<f64>(),
    ) {
        if let (Ok(plain), Ok(compensated)) = (sum::<f64>(&[&left, &right]), sum::<KahanSum>(&[&left, &right])) {
            prop_assert_eq!(plain.schema, compensated.schema);
        }
        let _ = Accumulator::<f64>::new(&left).subtract(&right);
        let mut average = HistogramAverage::new(&left);
        let _ = average.add(&right);
        let _ = average.finish();
        let _ = detect_reset(&left, &right);
        let _ = (histogram_quantile(value, &left), histogram_fraction(value, other, &left));
        let _ = (histogram_variance(&left), all_buckets(&left).count(), same(&left, &right));
        for keep in [Trim::Below, Trim::Above] {
            let mut left = left.clone();
            trim(&mut left, keep, value);
            multiply(&mut left, value);
            divide(&mut left, other);
        }
    }
}
