//! The limits of one tenant, and what it uses of them on this node.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::IntGauge;

use super::config::TenantRules;
use super::memory::{MemoryLevel, MemoryLimit};
use super::metrics::LimitsMetrics;
use super::rate::Bucket;
use super::table::{NoPlace, TenantTable};

/// How much of a label a message shows.
const SHOWN_CHARS: usize = 64;

/// A whole request over a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestLimitError {
    /// Too many bytes, as sent or after decompression.
    #[error("the request has {bytes} bytes, more than the {bytes_max} of tenant {tenant} (size_bytes_limit)")]
    Bytes {
        /// Whose limit.
        tenant: Arc<str>,
        /// What it has.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// Too many series.
    #[error("the request has {series} series, more than the {series_max} of tenant {tenant} (series_limit)")]
    Series {
        /// Whose limit.
        tenant: Arc<str>,
        /// What it has.
        series: u64,
        /// The limit.
        series_max: u64,
    },
    /// Too many samples.
    #[error(
        "the request has {samples} samples, more than the {samples_max} of tenant {tenant} (samples_limit)"
    )]
    Samples {
        /// Whose limit.
        tenant: Arc<str>,
        /// What it has.
        samples: u64,
        /// The limit.
        samples_max: u64,
    },
    /// Too many samples of late.
    #[error("tenant {tenant} sends more than its {per_second} samples per second (samples_per_second)")]
    Rate {
        /// Whose limit.
        tenant: Arc<str>,
        /// The limit.
        per_second: u64,
        /// When a repeat may pass.
        wait: Duration,
    },
    /// A tenant that is not known, and one too many.
    #[error(
        "tenant {tenant:?} is new, and this node has the {tenants_max} tenants that it may have \
         (--receive.max-tenants)"
    )]
    Tenants {
        /// Who it is.
        tenant: Arc<str>,
        /// The limit.
        tenants_max: usize,
    },
}

/// Why a series that is not known is not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewSeriesError {
    /// The tenant is new, and one too many.
    #[error(
        "tenant {tenant:?} is new, and this node has the {tenants_max} tenants that it may have \
         (--receive.max-tenants)"
    )]
    Tenants {
        /// Who it is.
        tenant: Arc<str>,
        /// The limit.
        tenants_max: usize,
    },
    /// The tenant has as many as it may have.
    #[error(
        "tenant {tenant} has the {series_max} series that it may have (head_series_limit): known series are \
         written, new ones are not"
    )]
    SeriesLimit {
        /// Whose limit.
        tenant: Arc<str>,
        /// The limit.
        series_max: u64,
    },
    /// The process uses nearly as much memory as it may.
    #[error("the process uses nearly all memory that it may: known series are written, new ones are not")]
    Memory,
    /// Too many labels.
    #[error(
        "the series has {labels} labels, more than the {labels_max} of tenant {tenant} (labels_per_series)"
    )]
    Labels {
        /// Whose limit.
        tenant: Arc<str>,
        /// What it has.
        labels: u64,
        /// The limit.
        labels_max: u64,
    },
    /// A name that is too long.
    #[error(
        "the label name {name:?}… has more bytes than the {bytes_max} of tenant {tenant} (label_name_bytes)"
    )]
    LabelName {
        /// Whose limit.
        tenant: Arc<str>,
        /// How it begins.
        name: String,
        /// The limit.
        bytes_max: u64,
    },
    /// A value that is too long.
    #[error(
        "the value of label {name:?} has more bytes than the {bytes_max} of tenant {tenant} (label_value_bytes)"
    )]
    LabelValue {
        /// Whose limit.
        tenant: Arc<str>,
        /// The label.
        name: String,
        /// The limit.
        bytes_max: u64,
    },
}

/// What a tenant uses on this node.
#[derive(Debug)]
pub struct TenantUsage {
    name: Arc<str>,
    /// Series in the heads of all shards.
    series: AtomicI64,
    /// The part of each shard, which only that shard changes.
    by_shard: Box<[AtomicU32]>,
    /// Its place among those of which something is stored, once it has one: shows `series`. Tenants past a bound share a gauge.
    place: OnceLock<IntGauge>,
    /// A head remembers that it was cut.
    was_cut: AtomicBool,
    bucket: Bucket,
}

impl TenantUsage {
    /// Nothing yet.
    pub fn new(name: Arc<str>, shard_count: usize) -> TenantUsage {
        let by_shard = (0..shard_count).map(|_| AtomicU32::new(0)).collect();
        let (place, was_cut) = (OnceLock::new(), AtomicBool::new(false));
        TenantUsage { name, series: AtomicI64::new(0), by_shard, place, was_cut, bucket: Bucket::default() }
    }

    /// Whether something of it is stored.
    pub fn has_place(&self) -> bool {
        self.place.get().is_some()
    }

    /// Something of it is stored from here on; the gauge shows its series.
    pub fn settle(&self, gauge: IntGauge) {
        // Whoever was first decides: the gauge is the same.
        let _ = self.place.set(gauge);
    }

    /// A head remembers that it was cut.
    pub fn note_cut(&self) {
        self.was_cut.store(true, Ordering::Relaxed);
    }

    /// Whether a head remembers that it was cut.
    pub fn was_cut(&self) -> bool {
        self.was_cut.load(Ordering::Relaxed)
    }

    fn show_added(&self, series: i64) {
        if let Some(gauge) = self.place.get() {
            gauge.add(series);
        }
    }

    /// Whose it is.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Tells how many series a shard has, for series end.
    pub fn set_series(&self, shard: usize, series: u32) {
        let before = self.by_shard[shard].swap(series, Ordering::Relaxed);
        let added = i64::from(series) - i64::from(before);
        self.series.fetch_add(added, Ordering::Relaxed);
        self.show_added(added);
    }

    /// Whether the rate of the tenant is as if it had never sent anything.
    pub fn is_rested(&self, now: Duration) -> bool {
        self.bucket.is_full(now)
    }

    /// Series in the heads of all shards.
    pub fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed).max(0) as u64
    }

    /// Counts a new series of a shard, unless there are as many as there may be. Shards that do so at once do not get
    /// past the limit together.
    fn begin_series(&self, shard: usize, series_max: Option<u64>) -> bool {
        let before = self.series.fetch_add(1, Ordering::Relaxed).max(0) as u64;
        if series_max.is_some_and(|series_max| before >= series_max) {
            self.series.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.by_shard[shard].fetch_add(1, Ordering::Relaxed);
        self.show_added(1);
        true
    }

    /// Takes back what [`TenantUsage::begin_series`] counted.
    fn end_series(&self, shard: usize) {
        self.series.fetch_sub(1, Ordering::Relaxed);
        self.by_shard[shard].fetch_sub(1, Ordering::Relaxed);
        self.show_added(-1);
    }
}

/// One tenant's limits and usage, for as long as the limits stay the same.
pub struct TenantLimits {
    rules: TenantRules,
    usage: Arc<TenantUsage>,
    table: Arc<TenantTable>,
    memory: Arc<MemoryLimit>,
}

impl Drop for TenantLimits {
    fn drop(&mut self) {
        self.table.leave(&self.usage);
    }
}

impl TenantRules {
    /// Checks the size of a request, announced or decoded.
    pub(super) fn check_bytes(
        &self,
        tenant: &str,
        bytes: u64,
        metrics: &LimitsMetrics,
    ) -> Result<(), RequestLimitError> {
        match self.request_bytes_max {
            Some(bytes_max) if bytes > bytes_max => {
                metrics.hit(tenant, "body_size", bytes - bytes_max);
                Err(RequestLimitError::Bytes { tenant: tenant.into(), bytes, bytes_max })
            }
            _ => Ok(()),
        }
    }
}

impl TenantLimits {
    /// Limits over what a tenant uses.
    pub fn new(
        rules: TenantRules,
        usage: Arc<TenantUsage>,
        table: Arc<TenantTable>,
        memory: Arc<MemoryLimit>,
    ) -> TenantLimits {
        TenantLimits { rules, usage, table, memory }
    }

    /// Whether something of the tenant is stored.
    pub fn is_stored(&self) -> bool {
        self.usage.has_place()
    }

    /// Asks whether something may be stored of the tenant, which counts as one of the node's tenants from here on.
    pub fn may_store(&self) -> bool {
        self.table.take_place(&self.usage).is_ok()
    }

    /// Whose limits they are.
    pub fn name(&self) -> &Arc<str> {
        self.usage.name()
    }

    fn tenant(&self) -> Arc<str> {
        Arc::clone(&self.usage.name)
    }

    /// Checks the size of a request, announced or decoded.
    pub fn check_bytes(&self, bytes: u64) -> Result<(), RequestLimitError> {
        self.rules.check_bytes(&self.usage.name, bytes, self.table.metrics())
    }

    /// Checks what a request holds: series, and float samples.
    pub fn check_counts(&self, series: u64, samples: u64) -> Result<(), RequestLimitError> {
        let TenantRules { request_series_max, request_samples_max, .. } = self.rules;
        if let Some(series_max) = request_series_max.filter(|series_max| series > *series_max) {
            self.table.metrics().hit(&self.usage.name, "series", series - series_max);
            return Err(RequestLimitError::Series { tenant: self.tenant(), series, series_max });
        }
        if let Some(samples_max) = request_samples_max.filter(|samples_max| samples > *samples_max) {
            self.table.metrics().hit(&self.usage.name, "samples", samples - samples_max);
            return Err(RequestLimitError::Samples { tenant: self.tenant(), samples, samples_max });
        }
        Ok(())
    }

    /// Takes samples from what the tenant may send; the clock is asked only if there is such a limit.
    pub fn take_samples(
        &self,
        samples: u64,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), RequestLimitError> {
        let Some(rate) = self.rules.rate else { return Ok(()) };
        self.usage.bucket.take(samples, rate, now()).map_err(|wait| {
            self.table.metrics().rate_limited(&self.usage.name);
            RequestLimitError::Rate { tenant: self.tenant(), per_second: rate.per_second, wait }
        })
    }

    /// Gives back what was taken for samples that failed: their sender is told to send them again.
    pub fn give_back_samples(&self, samples: u64) {
        if let Some(rate) = self.rules.rate {
            self.usage.bucket.give_back(samples, rate);
        }
    }

    /// Decides on a series that a shard does not know, and counts it if it may begin.
    pub fn begin_series(&self, labels: &[(&str, &str)], shard: usize) -> Result<(), NewSeriesError> {
        self.check_labels(labels)?;
        if self.memory.level() != MemoryLevel::Ample {
            return Err(NewSeriesError::Memory);
        }
        if let Err(NoPlace { tenants_max }) = self.table.take_place(&self.usage) {
            return Err(NewSeriesError::Tenants { tenant: self.tenant(), tenants_max });
        }
        if self.usage.begin_series(shard, self.rules.series_max) {
            return Ok(());
        }
        let series_max = self.rules.series_max.unwrap_or(u64::MAX);
        Err(NewSeriesError::SeriesLimit { tenant: self.tenant(), series_max })
    }

    /// Takes back that a series may begin, on the shard that asked, because it cannot.
    pub fn end_series(&self, shard: usize) {
        self.usage.end_series(shard);
    }

    fn check_labels(&self, labels: &[(&str, &str)]) -> Result<(), NewSeriesError> {
        let TenantRules { labels_max, label_name_bytes_max, label_value_bytes_max, .. } = self.rules;
        if let Some(labels_max) = labels_max.filter(|labels_max| labels.len() as u64 > *labels_max) {
            let (tenant, labels) = (self.tenant(), labels.len() as u64);
            return Err(NewSeriesError::Labels { tenant, labels, labels_max });
        }
        let is_over =
            |text: &str, bytes_max: Option<u64>| bytes_max.is_some_and(|max| text.len() as u64 > max);
        for (name, value) in labels {
            let shown = || name.chars().take(SHOWN_CHARS).collect();
            if let Some(bytes_max) = label_name_bytes_max.filter(|max| is_over(name, Some(*max))) {
                return Err(NewSeriesError::LabelName { tenant: self.tenant(), name: shown(), bytes_max });
            }
            if let Some(bytes_max) = label_value_bytes_max.filter(|max| is_over(value, Some(*max))) {
                return Err(NewSeriesError::LabelValue { tenant: self.tenant(), name: shown(), bytes_max });
            }
        }
        Ok(())
    }

    /// Counts a request of which new series were refused.
    pub fn count_series_limited(&self) {
        self.table.metrics().series_limited(&self.usage.name);
    }

    /// Counts a request of a tenant that is one too many.
    pub fn count_refused(&self) {
        self.table.metrics().tenants_refused.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::config::LimitsConfig;

    fn limits(rules: &str) -> TenantLimits {
        let config = LimitsConfig::parse(&format!("write: {{default: {rules}}}")).unwrap();
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let memory =
            MemoryLimit::new(1000, metrics.memory_used_bytes.clone(), metrics.memory_refused.clone());
        let table = TenantTable::new(4, metrics);
        TenantLimits::new(config.default, table.admit("t"), table, Arc::new(memory))
    }

    fn shown(limits: &TenantLimits) -> i64 {
        limits.usage.place.get().unwrap().get()
    }

    #[test]
    fn requests_at_a_limit_pass_and_above_it_do_not() {
        let limits = limits("{request: {size_bytes_limit: 10, series_limit: 2, samples_limit: 3}}");
        assert_eq!((limits.check_bytes(10), limits.check_counts(2, 3)), (Ok(()), Ok(())));
        let text = limits.check_bytes(11).unwrap_err().to_string();
        assert!(text.contains("size_bytes_limit") && text.contains("tenant t"), "{text}");
        assert!(matches!(limits.check_counts(3, 9), Err(RequestLimitError::Series { series_max: 2, .. })));
        assert!(matches!(limits.check_counts(1, 4), Err(RequestLimitError::Samples { samples: 4, .. })));
        assert_eq!(limits.take_samples(u64::MAX, || unreachable!("no rate, no clock")), Ok(()));
    }

    #[test]
    fn series_are_counted_over_all_shards() {
        let limits = limits("{head_series_limit: 100}");
        for shard in 0..4 {
            limits.usage.set_series(shard, 20);
        }
        let labels = [("__name__", "up")];
        let begun = (0..50).filter(|number| limits.begin_series(&labels, number % 4).is_ok()).count();
        assert_eq!((begun, limits.usage.series()), (20, 100));
        // A shard says what it has: others ended.
        limits.usage.set_series(2, 3);
        assert_eq!(limits.usage.series(), 78);
        assert_eq!(limits.begin_series(&labels, 2), Ok(()));
    }

    #[test]
    fn a_series_that_could_not_begin_makes_room_at_once() {
        let limits = limits("{head_series_limit: 1}");
        for _ in 0..3 {
            assert_eq!(limits.begin_series(&[("__name__", "up")], 2), Ok(()));
            assert!(limits.begin_series(&[("__name__", "up")], 2).is_err());
            limits.end_series(2);
            assert_eq!((limits.usage.series(), shown(&limits)), (0, 0));
        }
        // What the shard tells later is counted from what it has.
        limits.usage.set_series(2, 1);
        assert_eq!((limits.usage.series(), shown(&limits)), (1, 1));
    }

    #[test]
    fn threads_do_not_pass_the_limit_together() {
        let limits = limits("{head_series_limit: 1000}");
        std::thread::scope(|scope| {
            for shard in 0..4 {
                let limits = &limits;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let _ = limits.begin_series(&[("__name__", "up")], shard);
                    }
                });
            }
        });
        assert!(limits.usage.series() <= 1000);
        // Who met the limit at the same time as another may have been turned away one too early.
        while limits.begin_series(&[("__name__", "up")], 0).is_ok() {}
        assert_eq!(limits.usage.series(), 1000);
    }

    #[test]
    fn labels_over_a_limit_are_named() {
        let limits = limits("{annulus: {labels_per_series: 2, label_name_bytes: 8, label_value_bytes: 4}}");
        assert_eq!(limits.begin_series(&[("__name__", "up"), ("a", "1234")], 0), Ok(()));
        let error = |labels: &[(&str, &str)]| limits.begin_series(labels, 0).unwrap_err().to_string();
        assert!(error(&[("a", "1"), ("b", "1"), ("c", "1")]).contains("labels_per_series"));
        assert!(error(&[("abcdefghi", "1")]).contains("label_name_bytes"));
        let text = error(&[("a", "12345")]);
        assert!(text.contains("label_value_bytes") && text.contains("\"a\""), "{text}");
        assert_eq!(limits.usage.series(), 1);
    }

    #[test]
    fn no_series_begins_when_memory_is_tight() {
        let limits = limits("{}");
        limits.memory.set_used(950);
        assert_eq!(limits.begin_series(&[("__name__", "up")], 0), Err(NewSeriesError::Memory));
    }
}
