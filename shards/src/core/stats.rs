//! What is in the heads of all shards, for `/api/v1/status/tsdb` and for tools: exact counts, in bounded memory.
//!
//! A label's values, and a metric's series, are spread over the shards, so that each shard's own list of the largest
//! would not do. [`StatsGather`] asks every shard for the count of every value and adds them up, some values at a
//! time: whole labels while they are small, parts of one by hash when it is large. Only the largest are kept.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;

use ahash::RandomState;
use futures::channel::oneshot;
use hashbrown::HashTable;

use super::handle::ReadError;
use super::read::readable;
use super::shard::Shard;
use crate::head::{TenantTotals, TotalsWalk, ValueCounts, ValuesRequest, ValuesWalk};
use crate::rt::Pacer;

/// About how many values one request is for: some milliseconds of adding up.
const REQUEST_VALUES: u64 = 64 << 10;

/// The label whose values are the names of metrics.
const METRIC_NAME: &str = "__name__";

/// Whose heads are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatsScope {
    /// All tenants together, as one.
    Together,
    /// Each tenant for itself.
    Each,
    /// One tenant.
    Tenant(Arc<str>),
}

/// Something with a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// The figures of one tenant, or of all together. The lists have the largest first, and equal ones by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Whose; `None` for all together.
    pub tenant: Option<Arc<str>>,
    /// How many series there are.
    pub series: u64,
    /// Pairs of label name and value.
    pub label_pairs: u64,
    /// Chunks, open and closed.
    pub chunks: u64,
    /// Time of the oldest and of the newest sample, if there is any.
    pub times_ms: Option<(i64, i64)>,
    /// Series of each metric.
    pub series_by_metric: Vec<Count>,
    /// Values of each label.
    pub values_by_label: Vec<Count>,
    /// Bytes of each label's values, counted once for each series that has them.
    pub bytes_by_label: Vec<Count>,
    /// Series of each label pair, written `name=value`.
    pub series_by_pair: Vec<Count>,
}

/// What another thread may ask of a shard to count.
pub enum StatsJob {
    /// What it has of each tenant.
    Totals {
        /// Only this one.
        only: Option<Arc<str>>,
        /// Takes the answer.
        reply: StatsReply<Vec<TenantTotals>>,
    },
    /// The series of each value.
    Values {
        /// Which values.
        request: ValuesRequest,
        /// Takes the answer.
        reply: StatsReply<ValueCounts>,
    },
}

/// Where the answer to a [`StatsJob`] goes. A dropped receiver cancels the count.
pub type StatsReply<T> = oneshot::Sender<Result<T, ReadError>>;

/// Counts, in units that never hold up a write for long.
pub async fn run(shard: Rc<Shard>, job: StatsJob) {
    let mut pacer = Pacer::default();
    // An error in sending means that the asker has gone.
    match job {
        StatsJob::Totals { only, reply } => {
            if let Err(error) = readable(&shard) {
                return drop(reply.send(Err(error)));
            }
            let mut walk = TotalsWalk::new(&shard.head.borrow(), only.as_deref());
            while !walk.step(&shard.head.borrow()) {
                if reply.is_canceled() {
                    return;
                }
                pacer.pace().await;
            }
            let _ = reply.send(Ok(walk.finish()));
        }
        StatsJob::Values { request, reply } => {
            if let Err(error) = readable(&shard) {
                return drop(reply.send(Err(error)));
            }
            let mut walk = ValuesWalk::new(request);
            while !walk.step(&shard.head.borrow()) {
                if reply.is_canceled() {
                    return;
                }
                pacer.pace().await;
            }
            let _ = reply.send(Ok(walk.finish()));
        }
    }
}

/// Adds up what shards answer. It does not ask itself, so that a handle and a tool can use it.
pub struct StatsGather {
    limit: usize,
    hasher: RandomState,
    groups: Vec<Group>,
    /// Requests that are still to be made: the group, and which of its labels.
    requests: std::vec::IntoIter<(usize, ValuesRequest)>,
    asked: Option<(usize, ValuesRequest)>,
}

/// Tenants that are counted as one.
#[derive(Default)]
struct Group {
    stats: HeadStats,
    tenants: Vec<Arc<str>>,
    /// Its labels, each with about how many values it has.
    listed: BTreeMap<Arc<str>, u64>,
    /// Values and bytes of each label so far.
    labels: BTreeMap<Arc<str>, (u64, u64)>,
    metrics: Top,
    pairs: Top,
}

impl StatsGather {
    /// From the totals of all shards; each list will have `limit` entries.
    pub fn new(scope: &StatsScope, limit: usize, shards: Vec<Vec<TenantTotals>>) -> StatsGather {
        let mut by_tenant: BTreeMap<Arc<str>, Group> = BTreeMap::new();
        if *scope == StatsScope::Together {
            by_tenant.entry("".into()).or_default();
        }
        for totals in shards.into_iter().flatten() {
            let key = if *scope == StatsScope::Together { "".into() } else { Arc::clone(&totals.tenant) };
            by_tenant.entry(key).or_default().add(totals, *scope != StatsScope::Together);
        }
        let hasher = RandomState::new();
        let (mut groups, mut requests) = (Vec::new(), Vec::new());
        for mut group in by_tenant.into_values() {
            (group.metrics, group.pairs) = (Top::new(limit), Top::new(limit));
            group.tenants.sort_unstable();
            group.tenants.dedup();
            let tenants: Arc<[Arc<str>]> = group.tenants.iter().cloned().collect();
            let planned = plan(&group.listed).into_iter().map(|Planned { labels, part, parts }| {
                let (tenants, hasher) = (Arc::clone(&tenants), hasher.clone());
                (groups.len(), ValuesRequest { tenants, labels: labels.into(), part, parts, hasher })
            });
            requests.extend(planned);
            groups.push(group);
        }
        StatsGather { limit, hasher, groups, requests: requests.into_iter(), asked: None }
    }

    /// What to ask every shard next; `None` when all is known. The answers go to [`StatsGather::add`].
    pub fn next_request(&mut self) -> Option<ValuesRequest> {
        self.asked = self.requests.next();
        self.asked.as_ref().map(|(_, request)| request.clone())
    }

    /// Adds all shards' answers to the last request.
    pub fn add(&mut self, answers: &[ValueCounts]) {
        let Some((group, request)) = self.asked.take() else { return };
        let group = &mut self.groups[group];
        let mut sums: HashTable<(usize, &str, u64)> = HashTable::new();
        for (label, value, series) in answers.iter().flat_map(ValueCounts::iter) {
            let hash = self.hasher.hash_one((label, value));
            let known = sums.find_mut(hash, |(other, text, _)| (*other, *text) == (label, value));
            match known {
                Some((.., sum)) => *sum += series,
                None => {
                    let rehash =
                        |(label, text, _): &(usize, &str, u64)| self.hasher.hash_one((*label, *text));
                    sums.insert_unique(hash, (label, value, series), rehash);
                }
            }
        }
        for (label, value, series) in &sums {
            let Some(name) = request.labels.get(*label) else { continue };
            let (values, bytes) = group.labels.entry(Arc::clone(name)).or_default();
            *values += 1;
            *bytes += value.len() as u64 * series;
            if **name == *METRIC_NAME {
                group.metrics.push(*series, |text| text.push_str(value));
            }
            group.pairs.push(*series, |text| text.extend([name, "=", value]));
        }
    }

    /// The figures, by tenant.
    pub fn finish(self) -> Vec<HeadStats> {
        let limit = self.limit;
        self.groups.into_iter().map(|group| group.finish(limit)).collect()
    }
}

impl Group {
    fn add(&mut self, totals: TenantTotals, is_one_tenant: bool) {
        let stats = &mut self.stats;
        stats.tenant = is_one_tenant.then(|| Arc::clone(&totals.tenant));
        stats.series += totals.series;
        stats.chunks += totals.chunks;
        if let Some((min_ms, max_ms)) = totals.times_ms {
            let (known_min_ms, known_max_ms) = stats.times_ms.unwrap_or((min_ms, max_ms));
            stats.times_ms = Some((known_min_ms.min(min_ms), known_max_ms.max(max_ms)));
        }
        for (name, values) in totals.labels {
            *self.listed.entry(name).or_default() += values;
        }
        self.tenants.push(totals.tenant);
    }

    fn finish(mut self, limit: usize) -> HeadStats {
        let (mut values_top, mut bytes_top) = (Top::new(limit), Top::new(limit));
        for (name, (values, bytes)) in &self.labels {
            self.stats.label_pairs += values;
            values_top.push(*values, |text| text.push_str(name));
            bytes_top.push(*bytes, |text| text.push_str(name));
        }
        HeadStats {
            series_by_metric: self.metrics.finish(),
            values_by_label: values_top.finish(),
            bytes_by_label: bytes_top.finish(),
            series_by_pair: self.pairs.finish(),
            ..self.stats
        }
    }
}

/// What to ask for at once.
#[derive(Debug, PartialEq, Eq)]
struct Planned {
    labels: Vec<Arc<str>>,
    part: u64,
    parts: u64,
}

/// Small labels together, and large ones in parts.
fn plan(labels: &BTreeMap<Arc<str>, u64>) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut together = Vec::new();
    let mut together_values = 0;
    for (name, values) in labels {
        if *values > REQUEST_VALUES {
            let parts = values.div_ceil(REQUEST_VALUES);
            planned.extend((0..parts).map(|part| Planned { labels: vec![Arc::clone(name)], part, parts }));
            continue;
        }
        if together_values + values > REQUEST_VALUES {
            planned.push(Planned { labels: std::mem::take(&mut together), part: 0, parts: 1 });
            together_values = 0;
        }
        together.push(Arc::clone(name));
        together_values += values;
    }
    if !together.is_empty() {
        planned.push(Planned { labels: together, part: 0, parts: 1 });
    }
    planned
}

/// The largest of many counts.
#[derive(Default)]
struct Top {
    limit: usize,
    /// The smallest that is kept comes out first; of equal ones, the last by name.
    heap: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
}

impl Top {
    fn new(limit: usize) -> Top {
        Top { limit, heap: BinaryHeap::new() }
    }

    /// Takes a count, if it is among the largest so far; only then is its name made.
    fn push(&mut self, count: u64, name: impl FnOnce(&mut String)) {
        let is_full = self.heap.len() >= self.limit;
        if is_full && self.heap.peek().is_none_or(|Reverse((least, _))| count < *least) {
            return;
        }
        let mut text = String::new();
        name(&mut text);
        self.heap.push(Reverse((count, Reverse(text))));
        if is_full {
            self.heap.pop();
        }
    }

    fn finish(self) -> Vec<Count> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|Reverse((count, Reverse(name)))| Count { name, count }).collect()
    }
}

#[cfg(test)]
mod tests;
