//! Counts over several heads, against a plain count.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::head::{Head, SeriesKey};

/// Asks heads to the end.
fn stats(heads: &[Head], scope: &StatsScope, limit: usize) -> Vec<HeadStats> {
    let only = match scope {
        StatsScope::Tenant(tenant) => Some(&**tenant),
        StatsScope::Together | StatsScope::Each => None,
    };
    let totals = heads.iter().map(|head| {
        let mut walk = TotalsWalk::new(head, only);
        while !walk.step(head) {}
        walk.finish()
    });
    let mut gather = StatsGather::new(scope, limit, totals.collect());
    while let Some(request) = gather.next_request() {
        let answers = heads.iter().map(|head| {
            let mut walk = ValuesWalk::new(request.clone());
            while !walk.step(head) {}
            walk.finish()
        });
        gather.add(&answers.collect::<Vec<_>>());
    }
    gather.finish()
}

type LabelSet = BTreeMap<String, String>;

/// The largest counts, by a sort of all.
fn largest(counts: BTreeMap<String, u64>, limit: usize) -> Vec<Count> {
    let mut all: Vec<Count> = counts.into_iter().map(|(name, count)| Count { name, count }).collect();
    all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    all.truncate(limit);
    all
}

fn expected(tenant: Option<&str>, sets: &[&LabelSet], limit: usize) -> HeadStats {
    let (mut metrics, mut bytes, mut pairs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut values: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in sets.iter().flat_map(|set| set.iter()) {
        if name == METRIC_NAME {
            *metrics.entry(value.clone()).or_default() += 1;
        }
        *bytes.entry(name.clone()).or_default() += value.len() as u64;
        *pairs.entry(format!("{name}={value}")).or_default() += 1;
        values.entry(name.clone()).or_default().insert(value);
    }
    let values = values.into_iter().map(|(name, values)| (name, values.len() as u64)).collect();
    HeadStats {
        tenant: tenant.map(Arc::from),
        series: sets.len() as u64,
        label_pairs: pairs.len() as u64,
        series_by_metric: largest(metrics, limit),
        values_by_label: largest(values, limit),
        bytes_by_label: largest(bytes, limit),
        series_by_pair: largest(pairs, limit),
        ..HeadStats::default()
    }
}

proptest! {
    #[test]
    fn counts_over_shards_are_those_of_a_plain_count(
        series in proptest::collection::vec(
            ("[ab]", proptest::collection::btree_map("__name__|[xy]", "[a-c]{1,2}", 1..4), 0usize..3),
            0..60,
        ),
        limit in 1usize..6,
    ) {
        let mut heads: Vec<Head> = (0..3).map(|_| Head::default()).collect();
        let mut sets: BTreeMap<&str, BTreeSet<&LabelSet>> = BTreeMap::new();
        for (number, (tenant, labels, shard)) in series.iter().enumerate() {
            // A label set is one series.
            if sets.entry(tenant.as_str()).or_default().insert(labels) {
                let pairs: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                heads[*shard].create(SeriesKey(number as u128), tenant, &pairs).unwrap();
            }
        }
        let each: Vec<HeadStats> = sets.iter().map(|(tenant, sets)| {
            expected(Some(tenant), &sets.iter().copied().collect::<Vec<_>>(), limit)
        }).collect();
        prop_assert_eq!(stats(&heads, &StatsScope::Each, limit), each.clone());
        let one = stats(&heads, &StatsScope::Tenant("b".into()), limit);
        prop_assert_eq!(one, each.into_iter().filter(|one| one.tenant.as_deref() == Some("b")).collect::<Vec<_>>());
        let all: Vec<&LabelSet> = sets.values().flatten().copied().collect();
        prop_assert_eq!(stats(&heads, &StatsScope::Together, limit), [expected(None, &all, limit)]);
    }
}

#[test]
fn large_labels_are_counted_in_parts_and_small_ones_together() {
    let label = |name: &str, values: u64| (Arc::from(name), values);
    let labels = BTreeMap::from([
        label("a", REQUEST_VALUES - 1),
        label("b", 1),
        label("c", 1),
        label("d", 2 * REQUEST_VALUES + 1),
        label("e", 5),
    ]);
    let planned: Vec<(Vec<String>, u64, u64)> = plan(&labels)
        .into_iter()
        .map(|one| (one.labels.iter().map(ToString::to_string).collect(), one.part, one.parts))
        .collect();
    let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    assert_eq!(
        planned,
        [
            (names("ab"), 0, 1),
            (names("d"), 0, 3),
            (names("d"), 1, 3),
            (names("d"), 2, 3),
            (names("ce"), 0, 1),
        ]
    );
    assert!(plan(&BTreeMap::new()).is_empty());
}

#[test]
fn a_label_in_parts_is_counted_once() {
    let mut heads = [Head::default(), Head::default()];
    for number in 0..REQUEST_VALUES + 10 {
        let value = number.to_string();
        let labels = [("__name__", "m"), ("n", value.as_str())];
        // The first ten are in both, with different metrics.
        heads[0].create(SeriesKey(number.into()), "t", &labels).unwrap();
        if number < 10 {
            let labels = [("__name__", "o"), ("n", value.as_str())];
            heads[1].create(SeriesKey(number.into()), "t", &labels).unwrap();
        }
    }
    let stats = stats(&heads, &StatsScope::Together, 3);
    let count = |name: &str, count| Count { name: name.to_owned(), count };
    assert_eq!(stats[0].label_pairs, REQUEST_VALUES + 12);
    assert_eq!(stats[0].series_by_metric, [count("m", REQUEST_VALUES + 10), count("o", 10)]);
    assert_eq!(stats[0].values_by_label, [count("n", REQUEST_VALUES + 10), count("__name__", 2)]);
    assert_eq!(
        stats[0].series_by_pair,
        [count("__name__=m", REQUEST_VALUES + 10), count("__name__=o", 10), count("n=0", 2)]
    );
}

#[test]
fn nothing_is_counted_as_nothing() {
    assert_eq!(stats(&[Head::default()], &StatsScope::Each, 10), []);
    assert_eq!(stats(&[Head::default()], &StatsScope::Tenant("t".into()), 10), []);
    assert_eq!(stats(&[], &StatsScope::Together, 10), [HeadStats::default()]);
}
