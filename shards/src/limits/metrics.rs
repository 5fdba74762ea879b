//! The metrics of limits, under Thanos' names where it has one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::config::{LimitsConfig, TenantRules};
use crate::metrics::{OTHER_TENANTS, TENANT_LABELS_MAX};

/// Tenants whose label values stay although nothing of them is stored.
const TENANT_LABELS_KEPT: usize = TENANT_LABELS_MAX / 4 * 3;

/// Buckets of the time that requests wait at the gate.
const GATE_SECONDS: [f64; 8] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// Buckets of how much was too much.
const EXCESS: [f64; 6] = [1.0, 10.0, 100.0, 10_000.0, 1e6, 1e8];

/// The families.
#[derive(Clone)]
pub struct LimitsMetrics {
    /// Limits per tenant and kind, as they are configured.
    write_limits: IntGaugeVec,
    write_limits_hit: HistogramVec,
    head_series_limit: IntGaugeVec,
    head_series_limited: IntCounterVec,
    rate_limited: IntCounterVec,
    /// `prometheus_tsdb_head_series`
    head_series: IntGaugeVec,
    /// `annulus_tenants`
    pub tenants: IntGauge,
    /// `annulus_tenants_limit`
    pub tenants_max: IntGauge,
    /// `annulus_tenants_refused_total`
    pub tenants_refused: IntCounter,
    /// `thanos_receive_limits_config_reload_total`
    pub reloads: IntCounter,
    /// `thanos_receive_limits_config_reload_err_total`
    pub reload_errors: IntCounter,
    /// `thanos_receive_write_request_concurrent_gate_write_requests_max`
    pub gate_max: IntGauge,
    /// `thanos_receive_write_request_concurrent_gate_write_requests_in_flight`
    pub gate_in_flight: IntGauge,
    /// `thanos_receive_write_request_concurrent_gate_write_requests_total`
    pub gate_total: IntCounter,
    /// `thanos_receive_write_request_concurrent_gate_write_requests_duration_seconds`
    pub gate_seconds: Histogram,
    /// `annulus_memory_used_bytes`
    pub memory_used_bytes: IntGauge,
    /// `annulus_memory_limit_bytes`
    pub memory_limit_bytes: IntGauge,
    /// `annulus_memory_refused_requests_total`
    pub memory_refused: IntCounter,
    /// Tenants that have a label value of their own.
    labelled: Arc<Mutex<HashSet<String>>>,
}

impl LimitsMetrics {
    /// Makes the families and registers them.
    ///
    /// # Panics
    /// If the registry has them already.
    pub fn register(registry: &Registry) -> LimitsMetrics {
        let counter = |name: &str, help: &str| add(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(name, help));
        let counters =
            |name: &str, help: &str| add(registry, IntCounterVec::new(Opts::new(name, help), &["tenant"]));
        let gate = "thanos_receive_write_request_concurrent_gate_write_requests";
        LimitsMetrics {
            write_limits: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "thanos_receive_write_limits",
                        "Configured limits of a write request; the default ones have an empty tenant.",
                    ),
                    &["tenant", "limit"],
                ),
            ),
            write_limits_hit: add(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "thanos_receive_write_limits_hit",
                        "By how much refused write requests were over a limit.",
                    )
                    .buckets(EXCESS.to_vec()),
                    &["tenant", "limit"],
                ),
            ),
            head_series_limit: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "thanos_receive_head_series_limit",
                        "Configured limit of series in the head; the default one has an empty tenant.",
                    ),
                    &["tenant"],
                ),
            ),
            head_series_limited: counters(
                "thanos_receive_head_series_limited_requests_total",
                "Write requests with new series beyond head_series_limit; their known series are written.",
            ),
            rate_limited: counters(
                "annulus_rate_limited_requests_total",
                "Write requests refused because their tenant sends more samples per second than it may.",
            ),
            head_series: add(
                registry,
                IntGaugeVec::new(
                    Opts::new("prometheus_tsdb_head_series", "Series in the head."),
                    &["tenant"],
                ),
            ),
            tenants: gauge(
                "annulus_tenants",
                "Tenants of which series or metadata are stored, or that the head remembers to have been cut.",
            ),
            tenants_max: gauge(
                "annulus_tenants_limit",
                "Tenants that there may be before new ones are refused; 0 is any number.",
            ),
            tenants_refused: counter(
                "annulus_tenants_refused_total",
                "How often a tenant that is not known was refused because there are as many as there may be.",
            ),
            reloads: counter(
                "thanos_receive_limits_config_reload_total",
                "Changes of the limits file that were taken.",
            ),
            reload_errors: counter(
                "thanos_receive_limits_config_reload_err_total",
                "Changes of the limits file that could not be taken; the limits before them stay.",
            ),
            gate_max: gauge(
                &format!("{gate}_max"),
                "Write requests that may be worked on at once; 0 is any number.",
            ),
            gate_in_flight: gauge(&format!("{gate}_in_flight"), "Write requests that are worked on."),
            gate_total: counter(&format!("{gate}_total"), "Write requests that came to the gate."),
            gate_seconds: add(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        format!("{gate}_duration_seconds"),
                        "How long write requests waited at the gate.",
                    )
                    .buckets(GATE_SECONDS.to_vec()),
                ),
            ),
            memory_used_bytes: gauge(
                "annulus_memory_used_bytes",
                "Memory of the process that only it uses, as admission sees it.",
            ),
            memory_limit_bytes: gauge(
                "annulus_memory_limit_bytes",
                "Memory above which writes are refused; new series are from nine tenths of it on. 0 is no limit.",
            ),
            memory_refused: counter(
                "annulus_memory_refused_requests_total",
                "Write requests refused because the process uses more memory than it may.",
            ),
            labelled: Arc::default(),
        }
    }

    /// Shows the limits in effect.
    pub fn show(&self, config: &LimitsConfig) {
        self.write_limits.reset();
        self.head_series_limit.reset();
        self.show_tenant("", &config.default);
        for (tenant, rules) in config.tenants.iter().take(TENANT_LABELS_MAX) {
            self.show_tenant(tenant, rules);
        }
    }

    fn show_tenant(&self, tenant: &str, rules: &TenantRules) {
        let value = |limit: Option<u64>| i64::try_from(limit.unwrap_or(0)).unwrap_or(i64::MAX);
        for (limit, max) in [
            ("body_size", rules.request_bytes_max),
            ("series", rules.request_series_max),
            ("samples", rules.request_samples_max),
        ] {
            self.write_limits.with_label_values(&[tenant, limit]).set(value(max));
        }
        self.head_series_limit.with_label_values(&[tenant]).set(value(rules.series_max));
    }

    /// Counts a request over a limit.
    pub fn hit(&self, tenant: &str, limit: &str, excess: u64) {
        self.write_limits_hit.with_label_values(&[&*self.label(tenant), limit]).observe(excess as f64);
    }

    /// Counts a request with new series beyond the limit.
    pub fn series_limited(&self, tenant: &str) {
        self.head_series_limited.with_label_values(&[self.label(tenant)]).inc();
    }

    /// Counts a request beyond the rate of its tenant.
    pub fn rate_limited(&self, tenant: &str) {
        self.rate_limited.with_label_values(&[self.label(tenant)]).inc();
    }

    /// Series of a tenant in the heads of all shards.
    pub fn head_series(&self, tenant: &str) -> IntGauge {
        self.head_series.with_label_values(&[self.label(tenant)])
    }

    /// Removes what is shown of a tenant: somebody else may have its place then.
    pub fn forget(&self, tenant: &str) {
        if !self.labelled.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant) {
            return;
        }
        // An error means that there is nothing to remove.
        let _ = self.head_series.remove_label_values(&[tenant]);
        let _ = self.head_series_limited.remove_label_values(&[tenant]);
        let _ = self.rate_limited.remove_label_values(&[tenant]);
        for limit in ["body_size", "series", "samples"] {
            let _ = self.write_limits_hit.remove_label_values(&[tenant, limit]);
        }
    }

    /// Removes what is shown of tenants that nobody knows, once label values run short: counters of a tenant that is refused
    /// every few minutes go on.
    pub fn make_room(&self, is_unknown: impl Fn(&str) -> bool) {
        let labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        if labelled.len() <= TENANT_LABELS_KEPT {
            return;
        }
        let unknown: Vec<String> = labelled.iter().filter(|tenant| is_unknown(tenant)).cloned().collect();
        drop(labelled);
        unknown.iter().for_each(|tenant| self.forget(tenant));
    }

    /// Who refused requests may name tenants at will: only the first of them get series of their own.
    fn label(&self, tenant: &str) -> String {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        if labelled.contains(tenant) || labelled.len() < TENANT_LABELS_MAX {
            labelled.insert(tenant.to_owned());
            return tenant.to_owned();
        }
        OTHER_TENANTS.to_owned()
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels of our families are valid");
    registry.register(Box::new(collector.clone())).expect("a family is registered once per registry");
    collector
}
