//! A range query is the instant queries at its steps: an independent way to the same values, over random series.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_shards::Labels;
use proptest::prelude::*;

use super::tests::{Memory, STALE};
use super::*;
use crate::promql::parser::Features;

/// Queries of every kind whose value at a step depends on nothing but that step.
const QUERIES: [&str; 54] = [
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

/// Values by their labels, as bits; NaNs are alike.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn at_one_time(answer: QueryAnswer) -> BTreeMap<Labels, u64> {
    match answer.value {
        QueryValue::Scalar { value, .. } => BTreeMap::from([(Labels::empty(), bits(value))]),
        QueryValue::Vector(samples) => samples
            .into_iter()
            .map(|sample| (sample.labels, bits(sample.value.as_float().unwrap())))
            .collect(),
        other => panic!("an instant query answered {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_range_query_is_its_instant_queries(memory in any_memory(), step_ms in 5_000i64..40_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (engine, source) = (Engine::new(2), Arc::new(memory));
        let features = Features::ALL;
        let options = QueryOptions { lookback_delta_ms: 30_000, features, ..QueryOptions::default() };
        let (start_ms, end_ms) = (1_000, 200_000);
        for query in QUERIES {
            let whole = runtime.block_on(engine.range(source.clone(), query, start_ms, end_ms, step_ms, &options)).unwrap();
            let QueryValue::Matrix(matrix) = whole.value else { panic!("{query}: a matrix") };
            for time_ms in (start_ms..=end_ms).step_by(step_ms as usize) {
                let alone = runtime.block_on(engine.instant(source.clone(), query, time_ms, &options)).unwrap();
                let within: BTreeMap<Labels, u64> = matrix
                    .iter()
                    .filter_map(|series| {
                        let point = series.points.iter().find(|(at_ms, _)| *at_ms == time_ms)?;
                        Some((series.labels.clone(), bits(point.1)))
                    })
                    .collect();
                prop_assert_eq!(within, at_one_time(alone), "{} at {}", query, time_ms);
            }
        }
    }
}
