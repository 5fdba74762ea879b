//! The rows of a request under the labels that rules give them, and in parts for the tenants that a label names.
//!
//! New labels are written to the body's end, so that a row stays a place in the body. A label set that is known from an
//! earlier request costs one look-up and the copy of its bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec::IntoIter;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::cache::{Cache, Relabelled};
use super::labels::LabelSet;
use super::node_rules::NodeRules;
use super::rule::Rules;
use crate::edge::is_tenant_name;
use crate::head::SeriesKey;
use crate::wire::{
    BodyRange, ExemplarRow, Extras, HistogramRow, Row, SERIES_BYTES_MAX, SeriesHasher, TenantHasher,
    canonical_label_bytes, parse_labels,
};

/// Memory of the label sets that one shard remembers.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// A request may write for so many tenants.
const TENANTS_MAX: usize = 1000;

/// New labels of a request may take so many times its size, and [`GROWTH_BYTES_MIN`].
const GROWTH_FACTOR: usize = 4;
const GROWTH_BYTES_MIN: usize = 1 << 20;

/// The work between two looks at the clock, in what a known label set costs: some 100 µs.
const UNIT_COST: usize = if cfg!(test) { 8 } else { 1024 };

/// What a label set costs that is not known, beside its rules.
const PARSE_COST: usize = 4;

/// Bytes of labels that cost as much to copy.
const LABEL_BYTES_PER_COST: usize = 256;

/// Why a request cannot be relabelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// Its labels would take too much memory.
    #[error("relabelling would make more than {bytes_max} bytes of labels of this request")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// Its series name too many tenants.
    #[error("the series of this request are for more than {TENANTS_MAX} tenants")]
    TooManyTenants,
}

/// What is counted.
#[derive(Clone)]
pub struct RelabelMetrics {
    dropped: IntCounter,
    lookups: IntCounterVec,
    cache_bytes: IntGaugeVec,
    /// `annulus_relabel_config_reload_total`
    pub reloads: IntCounter,
    /// `annulus_relabel_config_reload_err_total`
    pub reload_errors: IntCounter,
}

impl RelabelMetrics {
    /// Registers the families.
    ///
    /// # Panics
    /// If the registry has them already.
    pub fn register(registry: &Registry) -> RelabelMetrics {
        let name_is_valid = "names and labels of our families are valid";
        let opts = Opts::new(
            "annulus_relabel_samples_dropped_total",
            "Samples, histograms and exemplars that relabelling rules dropped; their senders are told 200.",
        );
        let dropped = IntCounter::with_opts(opts).expect(name_is_valid);
        let opts = Opts::new(
            "annulus_relabel_cache_lookups_total",
            "Label sets that were looked for among those relabelled before.",
        );
        let lookups = IntCounterVec::new(opts, &["result"]).expect(name_is_valid);
        let opts =
            Opts::new("annulus_relabel_cache_bytes", "Memory of relabelled label sets that are remembered.");
        let cache_bytes = IntGaugeVec::new(opts, &["shard"]).expect(name_is_valid);
        let opts = Opts::new(
            "annulus_relabel_config_reload_total",
            "Changes of the file of relabelling rules that were taken.",
        );
        let reloads = IntCounter::with_opts(opts).expect(name_is_valid);
        let opts = Opts::new(
            "annulus_relabel_config_reload_err_total",
            "Changes of the file of relabelling rules that could not be taken; the rules before them stay.",
        );
        let reload_errors = IntCounter::with_opts(opts).expect(name_is_valid);
        let once = "a family is registered once per registry";
        registry.register(Box::new(dropped.clone())).expect(once);
        registry.register(Box::new(lookups.clone())).expect(once);
        registry.register(Box::new(cache_bytes.clone())).expect(once);
        registry.register(Box::new(reloads.clone())).expect(once);
        registry.register(Box::new(reload_errors.clone())).expect(once);
        RelabelMetrics { dropped, lookups, cache_bytes, reloads, reload_errors }
    }
}

/// Relabels the requests that one shard accepts.
pub struct Rewriter {
    node: Arc<NodeRules>,
    /// Those of the node, when a request began last.
    rules: Arc<Rules>,
    generation: u64,
    tenant_label: Option<Arc<str>>,
    hasher: SeriesHasher,
    cache: Cache,
    /// What rules before made; it goes step by step.
    stale: Vec<Cache>,
    dropped: IntCounter,
    hits: IntCounter,
    misses: IntCounter,
    cache_bytes: IntGauge,
}

/// The rows that one tenant gets of a request.
pub struct TenantRows {
    /// The tenant.
    pub tenant: Arc<str>,
    /// Makes the keys of its series.
    pub hasher: TenantHasher,
    /// In the order of the request.
    pub rows: Vec<Row>,
    /// In the order of the request.
    pub extras: Extras,
}

/// What became of the rows of a request.
pub struct Rewritten {
    /// By tenant; the first is the request's own and may have nothing.
    pub parts: Vec<TenantRows>,
    /// Samples whose labels would be too long.
    pub too_long: u64,
    /// Samples for what is no tenant, and the first such name.
    pub bad_tenant: Option<(u64, Arc<str>)>,
}

impl Rewritten {
    /// All rows for one tenant.
    pub fn same(part: TenantRows) -> Rewritten {
        Rewritten { parts: vec![part], too_long: 0, bad_tenant: None }
    }
}

/// A walk through the rows of a request.
pub struct Walk {
    rows: IntoIter<Row>,
    histograms: IntoIter<HistogramRow>,
    exemplars: IntoIter<ExemplarRow>,
    tenants: HashMap<Arc<str>, usize>,
    out: Rewritten,
    growth_bytes: usize,
    growth_bytes_max: usize,
    dropped: u64,
    hits: u64,
    misses: u64,
    cost: usize,
    /// The labels that were looked at last, and what came of them: the rows of a series follow each other.
    last: Option<(BodyRange, Place)>,
}

/// Where the rows of a label set go.
#[derive(Clone, Copy)]
enum Place {
    Part { part: usize, labels: BodyRange, key: SeriesKey },
    Dropped,
    TooLong,
    BadTenant,
}

impl Walk {
    /// Begins with rows that are all of one tenant, and a body of so many bytes.
    pub fn new(all: TenantRows, body_bytes: usize) -> Walk {
        let TenantRows { tenant, hasher, rows, mut extras } = all;
        let own = Extras { metadata: std::mem::take(&mut extras.metadata), ..Extras::default() };
        let own = TenantRows { tenant, hasher, rows: Vec::with_capacity(rows.len()), extras: own };
        Walk {
            rows: rows.into_iter(),
            histograms: extras.histograms.into_iter(),
            exemplars: extras.exemplars.into_iter(),
            tenants: HashMap::from([(Arc::clone(&own.tenant), 0)]),
            out: Rewritten::same(own),
            growth_bytes: 0,
            growth_bytes_max: body_bytes.saturating_mul(GROWTH_FACTOR).saturating_add(GROWTH_BYTES_MIN),
            dropped: 0,
            hits: 0,
            misses: 0,
            cost: 0,
            last: None,
        }
    }

    /// What became of the rows, when the walk is done.
    pub fn finish(self) -> Rewritten {
        self.out
    }

    /// The part of a tenant.
    fn part(&mut self, tenant: &Arc<str>, hasher: &SeriesHasher) -> Result<usize, RewriteError> {
        if let Some(part) = self.tenants.get(tenant) {
            return Ok(*part);
        }
        let part = self.out.parts.len();
        if part == TENANTS_MAX {
            return Err(RewriteError::TooManyTenants);
        }
        let (rows, extras) = (Vec::new(), Extras::default());
        let tenant = Arc::clone(tenant);
        self.tenants.insert(Arc::clone(&tenant), part);
        self.out.parts.push(TenantRows { hasher: hasher.tenant(&tenant), tenant, rows, extras });
        Ok(part)
    }

    /// Writes labels to the body's end.
    fn append(&mut self, body: &mut Vec<u8>, label_bytes: &[u8]) -> Result<BodyRange, RewriteError> {
        self.growth_bytes += label_bytes.len();
        let end = u32::try_from(body.len() + label_bytes.len());
        let (Ok(end), true) = (end, self.growth_bytes <= self.growth_bytes_max) else {
            return Err(RewriteError::TooLarge { bytes_max: self.growth_bytes_max });
        };
        let len = label_bytes.len() as u32;
        self.cost += label_bytes.len() / LABEL_BYTES_PER_COST;
        body.extend_from_slice(label_bytes);
        Ok(BodyRange { offset: end - len, len })
    }

    /// Counts a row that is stored nowhere.
    fn leave_out(&mut self, place: Place) {
        match place {
            Place::TooLong => self.out.too_long += 1,
            Place::BadTenant => {
                if let Some((count, _)) = &mut self.out.bad_tenant {
                    *count += 1;
                }
            }
            Place::Dropped | Place::Part { .. } => self.dropped += 1,
        }
    }
}

impl Rewriter {
    /// Nothing is remembered yet.
    pub fn new(
        node: Arc<NodeRules>,
        tenant_label: Option<Arc<str>>,
        hasher: SeriesHasher,
        shard: usize,
    ) -> Rewriter {
        let metrics = node.metrics();
        Rewriter {
            generation: node.generation(),
            rules: node.in_effect(),
            tenant_label,
            hasher,
            cache: Cache::new(CACHE_BYTES_MAX),
            stale: Vec::new(),
            dropped: metrics.dropped.clone(),
            hits: metrics.lookups.with_label_values(&["hit"]),
            misses: metrics.lookups.with_label_values(&["miss"]),
            cache_bytes: metrics.cache_bytes.with_label_values(&[shard.to_string()]),
            node,
        }
    }

    /// Whether a label names the tenant of each series.
    pub fn splits_tenants(&self) -> bool {
        self.tenant_label.is_some()
    }

    /// Takes over what rules are in effect; answers whether there is anything to do for a request that begins. One that
    /// is under way goes on with the new rules.
    pub fn begin(&mut self) -> bool {
        let generation = self.node.generation();
        if self.generation != generation {
            self.generation = generation;
            self.rules = self.node.in_effect();
            self.stale.push(std::mem::replace(&mut self.cache, Cache::new(CACHE_BYTES_MAX)));
        }
        self.drop_stale();
        !self.rules.is_empty() || self.tenant_label.is_some()
    }

    /// Drops some of what other rules made: at least as much as comes in with the step that follows.
    fn drop_stale(&mut self) {
        if let Some(last) = self.stale.last_mut() {
            last.shrink(UNIT_COST);
            if last.is_empty() {
                self.stale.pop();
            }
            self.report_bytes();
        }
    }

    fn report_bytes(&self) {
        let caches = self.stale.iter().chain([&self.cache]);
        self.cache_bytes.set(caches.map(Cache::size_bytes).sum::<usize>() as i64);
    }

    /// Goes on for a bounded amount of work; answers whether the walk is done.
    ///
    /// # Errors
    /// When the request cannot be taken; nothing of it may be used then.
    pub fn run(&mut self, walk: &mut Walk, body: &mut Vec<u8>) -> Result<bool, RewriteError> {
        walk.cost = 0;
        let done = self.rows(walk, body)?;
        self.dropped.inc_by(std::mem::take(&mut walk.dropped));
        self.hits.inc_by(std::mem::take(&mut walk.hits));
        self.misses.inc_by(std::mem::take(&mut walk.misses));
        self.drop_stale();
        self.report_bytes();
        Ok(done)
    }

    fn rows(&mut self, walk: &mut Walk, body: &mut Vec<u8>) -> Result<bool, RewriteError> {
        while walk.cost < UNIT_COST {
            if let Some(row) = walk.rows.next() {
                let range = BodyRange { offset: row.label_offset, len: row.label_len };
                match self.place(walk, body, range, row.key)? {
                    Place::Part { part, labels, key } => {
                        let (label_offset, label_len) = (labels.offset, labels.len);
                        walk.out.parts[part].rows.push(Row { key, label_offset, label_len, ..row });
                    }
                    place => walk.leave_out(place),
                }
            } else if let Some(row) = walk.histograms.next() {
                match self.place(walk, body, row.labels, row.key)? {
                    Place::Part { part, labels, key } => {
                        walk.out.parts[part].extras.histograms.push(HistogramRow { key, labels, ..row });
                    }
                    place => walk.leave_out(place),
                }
            } else if let Some(row) = walk.exemplars.next() {
                match self.place(walk, body, row.series_labels, row.key)? {
                    Place::Part { part, labels, key } => {
                        let row = ExemplarRow { key, series_labels: labels, ..row };
                        walk.out.parts[part].extras.exemplars.push(row);
                    }
                    place => walk.leave_out(place),
                }
            } else {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn place(
        &mut self,
        walk: &mut Walk,
        body: &mut Vec<u8>,
        range: BodyRange,
        raw_key: SeriesKey,
    ) -> Result<Place, RewriteError> {
        walk.cost += 1;
        if let Some((_, place)) = walk.last.filter(|(last, _)| *last == range) {
            return Ok(place);
        }
        let made;
        let relabelled = match self.cache.get(raw_key) {
            Some(known) => {
                walk.hits += 1;
                known
            }
            None => {
                walk.misses += 1;
                walk.cost += PARSE_COST + range.len as usize / LABEL_BYTES_PER_COST;
                made = self.relabel(walk, range.of(body))?;
                self.cache.insert(raw_key, made.clone());
                &made
            }
        };
        let place = match relabelled {
            Relabelled::Same => Place::Part { part: 0, labels: range, key: raw_key },
            Relabelled::Dropped => Place::Dropped,
            Relabelled::TooLong => Place::TooLong,
            Relabelled::BadTenant(tenant) => {
                walk.out.bad_tenant.get_or_insert_with(|| (0, Arc::clone(tenant)));
                Place::BadTenant
            }
            Relabelled::Other { label_bytes, key, tenant } => {
                let part = match tenant {
                    Some(tenant) => walk.part(tenant, &self.hasher)?,
                    None => 0,
                };
                Place::Part { part, labels: walk.append(body, label_bytes)?, key: *key }
            }
        };
        walk.last = Some((range, place));
        Ok(place)
    }

    /// What rules and tenant label make of a label set that is not known.
    fn relabel(&self, walk: &mut Walk, label_bytes: &[u8]) -> Result<Relabelled, RewriteError> {
        // What is no label set stays as it is, and is refused by the shard that gets it.
        let Ok(labels) = parse_labels(label_bytes) else { return Ok(Relabelled::Same) };
        walk.cost += self.rules.cost(labels.len(), label_bytes.len());
        let mut set = LabelSet::new(&labels);
        match self.rules.apply(&mut set) {
            Ok(true) => {}
            Ok(false) => return Ok(Relabelled::Dropped),
            Err(_) => return Ok(Relabelled::TooLong),
        }
        let mut tenant: Option<Arc<str>> = None;
        if let Some(label) = &self.tenant_label {
            let name = set.get(label);
            if !name.is_empty() {
                if !is_tenant_name(name) {
                    // A message needs no more of it.
                    let shown: String = name.chars().take(crate::edge::TENANT_BYTES_MAX).collect();
                    return Ok(Relabelled::BadTenant(shown.into()));
                }
                tenant = Some(name.into());
            }
            set.remove(label);
        }
        let canonical = canonical_label_bytes(&set.sorted());
        if tenant.is_none() && canonical == label_bytes {
            return Ok(Relabelled::Same);
        }
        if canonical.len() > SERIES_BYTES_MAX {
            return Ok(Relabelled::TooLong);
        }
        let part = match &tenant {
            Some(tenant) => walk.part(tenant, &self.hasher)?,
            None => 0,
        };
        let key = walk.out.parts[part].hasher.key(&canonical);
        Ok(Relabelled::Other { label_bytes: canonical.into(), key, tenant })
    }
}

#[cfg(test)]
mod tests;
