//! A range query is the instant queries at its steps: an independent way to the same values, over random series.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_shards::Labels;
use annulus_shards::chunk::{Buckets, SCHEMA_CUSTOM, Span};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::tests::{Memory, STALE};
use super::*;
use crate::promql::histogram::FloatHistogram;
use crate::promql::parser::Features;
use crate::promql::script::MemorySource;
use crate::promql::value::SampleValue;

/// Queries of every kind whose value at a step depends on nothing but that step.
const QUERIES: [&str; 61] = [
    "m",
    "m offset 25s",
    "m offset -15s",
    "m @ 70",
    "rate(m[40s])",
    "increase(m[35s] offset 10s)",
    "irate(m[1m])",
    "delta(m[50s])",
    "deriv(m[1m])",
    "predict_linear(m[1m], 30)",
    "sum_over_time(m[30s])",
    "quantile_over_time(0.4, m[45s])",
    "last_over_time(m[20s])",
    "absent_over_time(m[15s])",
    "min_over_time(m[45s])",
    "max_over_time(m[1m] offset 5s)",
    "ts_of_min_over_time(m[1m])",
    "ts_of_max_over_time(m[30s])",
    "changes(m[1m])",
    "resets(m[45s] @ 120)",
    "sum by (b, b) (increase(m[1m]))",
    "max_over_time(sum by (a) (m)[1m:20s])",
    "sum_over_time(rate(m[30s])[40s:10s] offset 5s)",
    "avg_over_time(m[1m:15s] @ 90)",
    "sum(m)",
    "sum by (a) (rate(m[40s]))",
    "avg without (b) (m)",
    "min by (b) (m)",
    "stddev(m)",
    "quantile by (a) (0.3, m)",
    "count_values by (a) (\"v\", m > bool 2)",
    "topk by (a) (1, m)",
    "bottomk(1 + time() % 20 / 10, m)",
    "limitk(2, m)",
    "limit_ratio(0.5, m)",
    "m + m",
    "m * on (a) group_left sum by (a) (m)",
    "sum by (a) (m) - on (a) group_right m",
    "m > 2",
    "3 >= bool m",
    "m and on (a) (m > 3)",
    "(m > 3) or on (a, b) -m",
    "m unless (m < 2)",
    "absent(m)",
    "scalar(sum(m)) + time()",
    "vector(time()) % 7",
    "timestamp(m)",
    "clamp(m, 1, 3)",
    "label_replace(m, \"c\", \"$1\", \"a\", \"(.*)\")",
    "histogram_quantile(0.6, label_replace(m, \"le\", \"$1\", \"b\", \"(.*)\"))",
    "-m ^ 2",
    "m smoothed",
    "m smoothed offset 12s",
    "rate(m[40s] smoothed)",
    "increase(m[35s] smoothed offset -10s)",
    "delta(m[50s] anchored)",
    "changes(m[15s] anchored @ 90)",
    "m + fill(7) (m > 2)",
    "(m < 4) * on (a) group_left fill_left(1) fill_right(2) sum by (a) (m > 3)",
    "m > bool fill_right(3) (m offset 20s)",
    "info(label_replace(m, \"job\", \"$1\", \"a\", \"(.*)\"), {__name__=\"m\"})",
];

/// Up to five series of up to sixteen samples, one each ten seconds; stale markers among them.
fn any_memory() -> impl Strategy<Value = Memory> {
    let value = prop_oneof![4 => (0u32..6).prop_map(f64::from), 1 => Just(STALE), 1 => -3.0..9.0f64];
    let series = proptest::collection::vec(value, 1..16);
    proptest::collection::vec(series, 1..5).prop_map(|all| {
        let names = [("x", "1"), ("x", "+Inf"), ("y", "1"), ("y", "2"), ("z", "+Inf")];
        let mut memory = Memory::default();
        for ((a, b), values) in names.iter().zip(all) {
            memory.add(&[("__name__", "m"), ("a", a), ("b", b)], &values);
        }
        memory
    })
}

/// Queries whose value at a step depends on nothing but that step, over native histograms too.
const HISTOGRAM_QUERIES: [&str; 40] = [
    "m smoothed",
    "rate(m[40s] smoothed)",
    "increase(m[35s] smoothed offset 12s)",
    "delta(m[50s] anchored)",
    "increase(m[50s] anchored)",
    "resets(m[15s] anchored @ 90)",
    "m * fill_right(2) (m offset 20s)",
    "m",
    "m offset 15s",
    "rate(m[40s])",
    "increase(m[1m] offset 10s)",
    "delta(m[50s])",
    "irate(m[1m])",
    "idelta(m[1m])",
    "sum_over_time(m[30s])",
    "avg_over_time(m[1m:15s])",
    "first_over_time(m[45s])",
    "last_over_time(m[20s])",
    "ts_of_last_over_time(m[20s])",
    "count_over_time(m[50s])",
    "max_over_time(m[50s])",
    "changes(m[1m])",
    "resets(m[1m])",
    "sum(m)",
    "avg by (a) (m)",
    "count(m) + on () group(m)",
    "max(m)",
    "topk(1, m)",
    "limitk(2, m)",
    "count_values(\"v\", m)",
    "m + m",
    "m - on (a) group_left sum by (a) (m)",
    "m == m offset 10s",
    "2 * -m / 3",
    "m </ 1.5",
    "m and on (a) (m > 3)",
    "histogram_count(rate(m[40s]))",
    "histogram_quantile(0.6, sum by (a) (m))",
    "histogram_fraction(0, 2, m) or timestamp(m)",
    "absent(m)",
];

/// Up to four series of floats, stale markers and histograms of several layouts, with resets.
fn any_mixed_memory() -> impl Strategy<Value = MemorySource> {
    let histogram = |schema: i32, values: Vec<u8>, offset: i32| {
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let (count, length) = (values.iter().sum(), values.len() as u32);
        let positive = Buckets { spans: vec![Span { offset, length }], values };
        let custom_values = if schema == SCHEMA_CUSTOM { vec![1.0, 2.0, 3.0, 4.0, 5.0] } else { Vec::new() };
        FloatHistogram { schema, count, sum: count, positive, custom_values, ..FloatHistogram::default() }
    };
    let schema = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(SCHEMA_CUSTOM)];
    let histogram = (schema, proptest::collection::vec(0u8..9, 1..4), 0..2i32)
        .prop_map(move |(schema, values, offset)| SampleValue::from(histogram(schema, values, offset)));
    let value = prop_oneof![
        6 => histogram,
        1 => (0u32..6).prop_map(|value| f64::from(value).into()),
        1 => Just(SampleValue::Float(STALE)),
    ];
    let series = proptest::collection::vec(value, 1..16);
    proptest::collection::vec(series, 1..5).prop_map(|all| {
        let mut memory = MemorySource::default();
        for ((a, b), values) in [("x", "1"), ("x", "2"), ("y", "1"), ("z", "1")].iter().zip(all) {
            let samples: Vec<(i64, SampleValue)> =
                (0..).zip(values).map(|(index, value)| (index * 10_000, value)).collect();
            memory.add(&Labels::from_pairs([("__name__", "m"), ("a", *a), ("b", *b)]), &samples);
        }
        memory
    })
}

/// A value to the last bit; NaNs are alike.
fn exactly(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) if value.is_nan() => "NaN".to_owned(),
        SampleValue::Float(value) => format!("{:x}", value.to_bits()),
        SampleValue::Histogram(histogram) => format!("{histogram:?}"),
    }
}

fn at_one_time(answer: QueryAnswer) -> BTreeMap<Labels, String> {
    match answer.value {
        QueryValue::Scalar { value, .. } => BTreeMap::from([(Labels::empty(), exactly(&value.into()))]),
        QueryValue::Vector(samples) => {
            samples.into_iter().map(|sample| (sample.labels, exactly(&sample.value))).collect()
        }
        other => panic!("an instant query answered {other:?}"),
    }
}

fn check_steps(source: Arc<dyn Source>, queries: &[&str], step_ms: i64) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let engine = Engine::new(2);
    let features = Features::ALL;
    let options = QueryOptions { lookback_delta_ms: 30_000, features, ..QueryOptions::default() };
    let (start_ms, end_ms) = (1_000, 200_000);
    for query in queries {
        let whole = engine.range(source.clone(), query, start_ms, end_ms, step_ms, &options);
        let QueryValue::Matrix(matrix) = runtime.block_on(whole).unwrap().value else {
            panic!("{query}: a matrix")
        };
        for time_ms in (start_ms..=end_ms).step_by(step_ms as usize) {
            let alone = runtime.block_on(engine.instant(source.clone(), query, time_ms, &options)).unwrap();
            let within: BTreeMap<Labels, String> = matrix
                .iter()
                .filter_map(|series| {
                    let float = series.points.iter().find(|(at_ms, _)| *at_ms == time_ms);
                    let float = float.map(|(_, value)| SampleValue::Float(*value));
                    let histogram = series.histograms.iter().find(|(at_ms, _)| *at_ms == time_ms);
                    let histogram = histogram.map(|(_, one)| SampleValue::Histogram(one.clone()));
                    assert!(float.is_none() || histogram.is_none(), "{query}: two values at one time");
                    Some((series.labels.clone(), exactly(&float.or(histogram)?)))
                })
                .collect();
            prop_assert_eq!(within, at_one_time(alone), "{} at {}", query, time_ms);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_range_query_is_its_instant_queries(memory in any_memory(), step_ms in 5_000i64..40_000) {
        check_steps(Arc::new(memory), &QUERIES, step_ms)?;
    }

    #[test]
    fn a_range_query_of_histograms_is_its_instant_queries(
        memory in any_mixed_memory(),
        step_ms in 5_000i64..40_000,
    ) {
        check_steps(Arc::new(memory), &HISTOGRAM_QUERIES, step_ms)?;
    }
}
