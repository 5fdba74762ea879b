//! Whatever is where, head and blocks together give what was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_shards::{Labels, MatchOp};
use proptest::prelude::*;

use super::samples::*;
use super::{Joined, ReaderLimits};

const WINDOW_MS: i64 = 1_000;
const WINDOWS: i64 = 4;

/// Where the samples of a window are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Head,
    Both,
    Block,
}

/// The samples of one series: own labels, times, and the sizes of its chunks in head and block.
#[derive(Debug, Clone)]
struct Written {
    tenant: usize,
    labels: Labels,
    times: Vec<i64>,
    chunk_samples: [usize; 2],
}

const TENANTS: [&str; 3] = ["a", "b", "team/c"];

fn any_labels() -> impl Strategy<Value = Labels> {
    let pairs = proptest::collection::btree_map("[a-c]|tenant_id|region|x|zz", "[p-r]", 0..4);
    pairs.prop_map(|pairs| {
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::from_pairs([("__name__", "m")].into_iter().chain(pairs))
    })
}

fn any_series() -> impl Strategy<Value = Vec<Written>> {
    let times = proptest::collection::btree_set(0..WINDOWS * WINDOW_MS, 1..40);
    let one = (0..TENANTS.len(), any_labels(), times, [1usize..12, 1usize..12]).prop_map(
        |(tenant, labels, times, chunk_samples)| {
            let times = times.into_iter().collect();
            Written { tenant, labels, times, chunk_samples }
        },
    );
    proptest::collection::vec(one, 0..25).prop_map(|all| {
        let key = |one: &Written| (one.tenant, one.labels.clone());
        // Each series once.
        let each: BTreeMap<_, Written> = all.into_iter().map(|one| (key(&one), one)).collect();
        each.into_values().collect()
    })
}

fn any_place() -> impl Strategy<Value = Place> {
    prop_oneof![Just(Place::Head), Just(Place::Both), Just(Place::Block)]
}

/// The value at a time is the same for all series, so that those whose labels become equal agree.
fn samples(times: &[i64]) -> Samples {
    times.iter().map(|time_ms| (*time_ms, (time_ms * 7 % 13) as f64)).collect()
}

fn chunks(times: &[i64], chunk_samples: usize) -> Vec<Samples> {
    times.chunks(chunk_samples).map(samples).collect()
}

fn final_labels(one: &Written) -> String {
    let mut builder = annulus_shards::LabelsBuilder::from_labels(&one.labels);
    builder.remove("x").set("region", "eu").set("tenant_id", TENANTS[one.tenant]);
    format!("{:?}", builder.finish())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn head_and_blocks_give_what_was_written(
        all in any_series(),
        places in proptest::collection::vec(any_place(), TENANTS.len() * WINDOWS as usize),
        (min_ms, length_ms) in (0..WINDOWS * WINDOW_MS, 0..WINDOWS * WINDOW_MS),
        (op, name, value) in (
            prop_oneof![Just(MatchOp::Equal), Just(MatchOp::NotEqual)],
            prop_oneof![Just("__name__"), Just("a"), Just("region"), Just("tenant_id"), Just("zz")],
            prop_oneof![Just(""), Just("p"), Just("b"), Just("eu"), Just("m")],
        ),
    ) {
        let root = tempfile::tempdir().unwrap();
        let head = Arc::new(FakeHead::default());
        let times = (min_ms, min_ms + length_ms);
        for window in 0..WINDOWS {
            let window_times = (window * WINDOW_MS, (window + 1) * WINDOW_MS);
            for tenant in 0..TENANTS.len() {
                let place = places[tenant * WINDOWS as usize + window as usize];
                let mut in_block = Content::new();
                for one in all.iter().filter(|one| one.tenant == tenant) {
                    let within: Vec<i64> = one.times.iter().copied()
                        .filter(|time_ms| (window_times.0..window_times.1).contains(time_ms)).collect();
                    if within.is_empty() {
                        continue;
                    }
                    if place != Place::Block {
                        head.put(TENANTS[tenant], &one.labels, &chunks(&within, one.chunk_samples[0]));
                    }
                    in_block.insert(one.labels.clone(), chunks(&within, one.chunk_samples[1]));
                }
                if place != Place::Head && !in_block.is_empty() {
                    let number = (tenant as u128) << 8 | window as u128;
                    let mut labels = block_labels(TENANTS[tenant]);
                    labels.insert("x".to_owned(), "hidden".to_owned());
                    write(root.path(), &tenant.to_string(), meta(number, window_times, labels), &in_block);
                }
            }
        }

        let condition = matcher(op, name, value);
        let mut expected: BTreeMap<String, Samples> = BTreeMap::new();
        for one in &all {
            let external = match name {
                "region" => Some("eu"),
                "tenant_id" => Some(TENANTS[one.tenant]),
                _ => None,
            };
            let value = external.or(one.labels.get(name)).unwrap_or("");
            let within: Vec<i64> =
                one.times.iter().copied().filter(|time_ms| (times.0..=times.1).contains(time_ms)).collect();
            if condition.matches(value) && !within.is_empty() {
                expected.entry(final_labels(one)).or_default().extend(samples(&within));
            }
        }
        for samples in expected.values_mut() {
            samples.sort_by_key(|(time_ms, _)| *time_ms);
            samples.dedup();
        }

        let hidden = vec!["receive_replica".to_owned(), "x".to_owned()];
        let fixed = [("receive_replica", "r0"), ("region", "eu")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let own = crate::head_source::ExternalLabels::new(fixed, "tenant_id".to_owned(), hidden);
        let metrics = super::LocalBlockMetrics::register(&prometheus::Registry::new());
        let limits = ReaderLimits { count_max: 3, ..ReaderLimits::default() };
        let blocks = super::LocalBlocks::open(root.path(), own.clone(), limits, metrics).unwrap();
        let head = crate::head_source::HeadSource::new(head, own, BYTES_MAX);
        let joined = Joined::new(Arc::new(head), Arc::new(blocks), BYTES_MAX);
        let found = content(&select(&joined, vec![condition], times), times);
        // Chunks reach outside the range, and may have no sample in it.
        let found: BTreeMap<String, Samples> =
            found.into_iter().filter(|(_, samples)| !samples.is_empty()).collect();
        prop_assert_eq!(found, expected);
    }
}
