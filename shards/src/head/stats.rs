//! Counts over a head, for its operators: series, chunks and times of each tenant, and how many series have each value
//! of a label. In steps of bounded work, so that counting a million of them never stalls the shard.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use super::store::Head;

/// Series or values that one step looks at: some 100 µs of work.
const STEP_COUNT: usize = 250;

/// Tenants whose label names one step copies.
const STEP_TENANTS: usize = 10;

/// A longer value is told by its beginning and a hash: what is counted must not take more memory than what is stored.
const VALUE_BYTES_MAX: usize = 200;

/// Bytes of a longer value that are kept.
const VALUE_BEGIN_BYTES: usize = 150;

/// What a head has of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantTotals {
    /// Its name.
    pub tenant: Arc<str>,
    /// How many series it has.
    pub series: u64,
    /// Chunks of these series: open ones, closed ones, and those of late samples.
    pub chunks: u64,
    /// Time of the oldest and of the newest sample, if there is any.
    pub times_ms: Option<(i64, i64)>,
    /// Names of its labels, each with a number of values that is not below the true one.
    pub labels: Vec<(Arc<str>, u64)>,
}

/// A count of each tenant's series in progress.
pub struct TotalsWalk {
    /// Only this tenant is counted.
    only: Option<u32>,
    at: u32,
    bound: u32,
    by_tenant: HashMap<u32, TenantTotals, RandomState>,
    /// Tenants whose labels are not listed yet.
    unlisted: Vec<u32>,
}

impl TotalsWalk {
    /// Begins to count one tenant's series, or everybody's. Series that are made later are not counted.
    pub fn new(head: &Head, only: Option<&str>) -> TotalsWalk {
        let bound = head.series_count();
        let (only, bound) = match only.map(|tenant| head.symbols.find(tenant)) {
            None => (None, bound),
            Some(Some(symbol)) => (Some(symbol), bound),
            Some(None) => (None, 0),
        };
        TotalsWalk { only, at: 0, bound, by_tenant: HashMap::default(), unlisted: Vec::new() }
    }

    /// Does a bounded amount of work; answers whether all is counted.
    pub fn step(&mut self, head: &Head) -> bool {
        if self.at < self.bound {
            self.count(head);
        } else {
            self.list_labels(head);
        }
        self.at == self.bound && self.unlisted.is_empty()
    }

    fn count(&mut self, head: &Head) {
        let end = self.bound.min(self.at.saturating_add(STEP_COUNT as u32));
        for number in self.at..end {
            let series = &head.series[number];
            let Some(pair) = head.pairs_of(number).next().filter(|_| !series.is_vacant()) else { continue };
            let tenant = head.index.pair(pair).tenant;
            if self.only.is_some_and(|only| only != tenant) {
                continue;
            }
            let unlisted = &mut self.unlisted;
            let totals = self.by_tenant.entry(tenant).or_insert_with(|| {
                unlisted.push(tenant);
                TenantTotals {
                    tenant: Arc::from(head.symbols.text(tenant)),
                    series: 0,
                    chunks: 0,
                    times_ms: None,
                    labels: Vec::new(),
                }
            });
            let late = series.late().map_or(0, |late| late.closed().len() + usize::from(late.has_samples()));
            let chunks = usize::from(series.open().is_some()) + series.closed().len() + late;
            totals.series += 1;
            totals.chunks += chunks as u64;
            if let Some((min_ms, max_ms)) = series.extent() {
                let (known_min_ms, known_max_ms) = totals.times_ms.unwrap_or((min_ms, max_ms));
                totals.times_ms = Some((known_min_ms.min(min_ms), known_max_ms.max(max_ms)));
            }
        }
        self.at = end;
    }

    fn list_labels(&mut self, head: &Head) {
        for _ in 0..STEP_TENANTS {
            let Some(tenant) = self.unlisted.pop() else { return };
            let names = head.index.tenants.get(&tenant).into_iter().flat_map(|tenant| &tenant.names);
            let labels = names
                .map(|(name, pairs)| (Arc::from(head.symbols.text(*name)), pairs.len() as u64))
                .collect();
            if let Some(totals) = self.by_tenant.get_mut(&tenant) {
                totals.labels = labels;
            }
        }
    }

    /// The tenants that have series, in no order.
    pub fn finish(self) -> Vec<TenantTotals> {
        self.by_tenant.into_values().collect()
    }
}

impl Head {
    /// Whose series a number is; `None` for a vacant one.
    pub fn tenant_of(&self, series: u32) -> Option<&str> {
        let pair = self.pairs_of(series).next().filter(|_| !self.series[series].is_vacant())?;
        Some(self.symbols.text(self.index.pair(pair).tenant))
    }
}

/// Which values of which labels are to be counted.
#[derive(Debug, Clone)]
pub struct ValuesRequest {
    /// Whose series count.
    pub tenants: Arc<[Arc<str>]>,
    /// The labels.
    pub labels: Arc<[Arc<str>]>,
    /// Only this part of the values, by their hash.
    pub part: u64,
    /// How many parts there are, at least 1.
    pub parts: u64,
    /// The same for all shards, so that they agree on the part of a value.
    pub hasher: RandomState,
}

impl ValuesRequest {
    fn has(&self, value: &str) -> bool {
        self.parts <= 1 || self.hasher.hash_one(value) % self.parts == self.part
    }
}

/// How many series have each value. A value may come more than once: the counts then add up.
#[derive(Debug, Default)]
pub struct ValueCounts {
    /// The values in one piece: millions of small texts cost more than their bytes.
    texts: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    label: u32,
    series: u32,
    text_end: usize,
}

impl ValueCounts {
    /// Index of the label in the request, value, and count of series.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str, u64)> {
        let mut begin = 0;
        self.entries.iter().map(move |entry| {
            let text = &self.texts[begin..entry.text_end];
            begin = entry.text_end;
            (entry.label as usize, text, u64::from(entry.series))
        })
    }

    fn push(&mut self, request: &ValuesRequest, label: usize, value: &str, series: usize) {
        if value.len() <= VALUE_BYTES_MAX {
            self.texts.push_str(value);
        } else {
            let begin = value.floor_char_boundary(VALUE_BEGIN_BYTES);
            self.texts.push_str(&value[..begin]);
            // The length tells values apart too, should the hash not.
            self.texts.push_str(&format!(
                "…({} bytes, {:016x})",
                value.len(),
                request.hasher.hash_one(value)
            ));
        }
        self.entries.push(Entry { label: label as u32, series: series as u32, text_end: self.texts.len() });
    }

    fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
        self.texts.truncate(self.entries.last().map_or(0, |entry| entry.text_end));
    }
}

/// A count of the series by value in progress.
pub struct ValuesWalk {
    request: ValuesRequest,
    /// Which tenant and which label are worked on, and how many of its values were looked at.
    tenant_at: usize,
    label_at: usize,
    value_at: usize,
    /// Values that were found before this tenant's label.
    found_before: usize,
    /// The tenant's lists of values are as they were at this count of removals.
    removals: u64,
    counts: ValueCounts,
}

impl ValuesWalk {
    /// Begins to count.
    pub fn new(request: ValuesRequest) -> ValuesWalk {
        ValuesWalk {
            request,
            tenant_at: 0,
            label_at: 0,
            value_at: 0,
            found_before: 0,
            removals: 0,
            counts: ValueCounts::default(),
        }
    }

    /// Does a bounded amount of work; answers whether all is counted.
    pub fn step(&mut self, head: &Head) -> bool {
        let mut left = STEP_COUNT;
        while left > 0 {
            let ValuesRequest { tenants, labels, .. } = &self.request;
            let (Some(tenant), false) = (tenants.get(self.tenant_at), labels.is_empty()) else { return true };
            let removals = head.index_removals(tenant);
            if self.removals != removals {
                // It is another tenant's list, or positions in it have shifted: this label begins again.
                self.removals = removals;
                self.value_at = 0;
                self.counts.truncate(self.found_before);
            }
            let list = || {
                let tenant = head.index.tenants.get(&head.symbols.find(tenant)?)?;
                tenant.names.get(&head.symbols.find(&labels[self.label_at])?)
            };
            let pairs = list().map_or(&[][..], Vec::as_slice);
            let end = pairs.len().min(self.value_at + left);
            for pair in &pairs[self.value_at.min(end)..end] {
                let value = head.symbols.text(head.index.pair(*pair).value);
                let series = head.index.postings_len(*pair);
                if series > 0 && self.request.has(value) {
                    self.counts.push(&self.request, self.label_at, value, series);
                }
            }
            // A label without values costs something too: there may be thousands of tenants without it.
            left = left.saturating_sub((end - self.value_at.min(end)).max(10));
            self.value_at = end;
            if end == pairs.len() {
                self.value_at = 0;
                self.found_before = self.counts.entries.len();
                self.label_at += 1;
                if self.label_at == self.request.labels.len() {
                    self.label_at = 0;
                    self.tenant_at += 1;
                }
            }
        }
        self.tenant_at == self.request.tenants.len()
    }

    /// What was counted.
    pub fn finish(self) -> ValueCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::head::{Rules, SeriesKey};

    fn request(tenants: &[&str], labels: &[&str], part: u64, parts: u64) -> ValuesRequest {
        let texts = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect();
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        ValuesRequest { tenants: texts(tenants), labels: texts(labels), part, parts, hasher }
    }

    fn totals(head: &Head, only: Option<&str>) -> Vec<TenantTotals> {
        let mut walk = TotalsWalk::new(head, only);
        while !walk.step(head) {}
        let mut totals = walk.finish();
        totals.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        totals.iter_mut().for_each(|one| one.labels.sort());
        totals
    }

    /// Counts to the end; returns the counts by label and value, and how many steps it took.
    fn values(head: &Head, request: ValuesRequest) -> (BTreeMap<(usize, String), u64>, usize) {
        let mut walk = ValuesWalk::new(request);
        let mut steps = 1;
        while !walk.step(head) {
            steps += 1;
        }
        let mut counts = BTreeMap::new();
        for (label, value, series) in walk.finish().iter() {
            *counts.entry((label, value.to_owned())).or_default() += series;
        }
        (counts, steps)
    }

    /// Series `m{n="0"}` and on, of two tenants in turn, with as many samples as their number says, up to 3.
    fn head(count: u32) -> Head {
        let mut head = Head::default();
        for number in 0..count {
            let (tenant, text) = (["a", "b"][number as usize % 2], number.to_string());
            let labels = [("__name__", "m"), ("n", text.as_str())];
            let series = head.create(SeriesKey(number.into()), tenant, &labels).unwrap();
            for sample in 0..number.min(3) {
                let at_ms = i64::from(number * 10 + sample);
                head.append(series, at_ms, 1.0, &Rules::replay(7_200_000), &()).unwrap();
            }
        }
        head
    }

    #[test]
    fn totals_are_those_of_each_tenant() {
        let head = head(5);
        let labels = |values| vec![(Arc::from("__name__"), 1), (Arc::from("n"), values)];
        let tenant = |name: &str, series, chunks, times_ms, values| TenantTotals {
            tenant: name.into(),
            series,
            chunks,
            times_ms,
            labels: labels(values),
        };
        let (a, b) = (tenant("a", 3, 2, Some((20, 42)), 3), tenant("b", 2, 2, Some((10, 32)), 2));
        assert_eq!(totals(&head, None), [a, b.clone()]);
        assert_eq!(totals(&head, Some("b")), [b]);
        assert_eq!(totals(&head, Some("nobody")), []);
        assert_eq!(totals(&Head::default(), None), []);
    }

    #[test]
    fn values_of_all_parts_are_all_values() {
        let head = head(3000);
        let (all, steps) = values(&head, request(&["a", "b", "c"], &["__name__", "n", "none"], 0, 1));
        assert_eq!(all.len(), 3001);
        assert_eq!(all[&(0, "m".to_owned())], 3000);
        assert!(steps > 3000 / STEP_COUNT, "{steps} steps");
        let mut joined = BTreeMap::new();
        for part in 0..3 {
            let (mut some, _) = values(&head, request(&["a", "b"], &["__name__", "n"], part, 3));
            assert!(some.len() > 500, "{} values in part {part}", some.len());
            joined.append(&mut some);
        }
        assert_eq!(joined, all);
    }

    #[test]
    fn a_list_that_shrinks_is_counted_from_its_beginning_again() {
        let mut head = head(4000);
        let mut walk = ValuesWalk::new(request(&["a"], &["__name__", "n"], 0, 1));
        walk.step(&head);
        walk.step(&head);
        let name = head.symbols.find("n").unwrap();
        let tenant = head.symbols.find("a").unwrap();
        let gone = head.index.tenants[&tenant].names[&name][7];
        head.index.sweep(gone, usize::MAX, 10, |_| false);
        assert!(head.index.unlink_pair(gone));
        head.index.sweep_names(tenant, name, |pair| pair == gone);
        while !walk.step(&head) {}
        assert_eq!(walk.finish().iter().filter(|(label, ..)| *label == 1).count(), 1999);
    }

    #[test]
    fn long_values_are_told_by_their_beginning() {
        let mut head = Head::default();
        for (number, end) in ["x", "y", "é"].iter().enumerate() {
            let value = "é".repeat(5000) + end;
            head.create(SeriesKey(number as u128), "t", &[("v", value.as_str())]).unwrap();
        }
        let (counts, _) = values(&head, request(&["t"], &["v"], 0, 1));
        assert_eq!(counts.len(), 3);
        assert!(counts.keys().all(|(_, text)| text.len() < 300 && text.starts_with("éé")), "{counts:?}");
    }
}
