//! The metrics of uploads, under Thanos' names where it has them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use annulus_shards::metrics::{OTHER_TENANTS, TENANT_LABELS_MAX};
use prometheus::core::Collector;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::local::BacklogTotals;
use super::lock;

/// Families of the shipper.
#[derive(Clone)]
pub struct ShipperMetrics {
    dir_syncs: IntCounterVec,
    dir_sync_failures: IntCounterVec,
    uploads: IntCounterVec,
    upload_failures: IntCounterVec,
    corrupted_blocks: IntCounterVec,
    upload_compacted_done: IntGaugeVec,
    backlog_blocks: IntGauge,
    backlog_bytes: IntGauge,
    oldest_backlog_block: Gauge,
    /// Tenants that have label values of their own.
    tenants: Arc<Mutex<HashSet<String>>>,
}

/// The series of one tenant.
pub(super) struct TenantMetrics {
    dir_syncs: IntCounter,
    dir_sync_failures: IntCounter,
    pub uploads: IntCounter,
    pub upload_failures: IntCounter,
    pub corrupted_blocks: IntCounter,
    pub upload_compacted_done: IntGauge,
}

impl ShipperMetrics {
    /// Makes the families and registers them.
    pub fn register(registry: &Registry) -> ShipperMetrics {
        let counters =
            |name: &str, help: &str| add(registry, IntCounterVec::new(Opts::new(name, help), &["tenant"]));
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(name, help));
        ShipperMetrics {
            dir_syncs: counters("thanos_shipper_dir_syncs_total", "Looks at a tenant's local blocks."),
            dir_sync_failures: counters(
                "thanos_shipper_dir_sync_failures_total",
                "Looks at a tenant's local blocks after which some were not in the bucket.",
            ),
            uploads: counters("thanos_shipper_uploads_total", "Blocks uploaded."),
            upload_failures: counters(
                "thanos_shipper_upload_failures_total",
                "Uploads of blocks that failed; they are tried again.",
            ),
            corrupted_blocks: counters(
                "thanos_shipper_corrupted_blocks_total",
                "Local blocks that lack a part or do not parse; they are not uploaded.",
            ),
            upload_compacted_done: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "thanos_shipper_upload_compacted_done",
                        "1 if all local blocks are in the bucket.",
                    ),
                    &["tenant"],
                ),
            ),
            backlog_blocks: gauge(
                "annulus_shipper_backlog_blocks",
                "Local blocks that are not in the bucket yet.",
            ),
            backlog_bytes: gauge(
                "annulus_shipper_backlog_bytes",
                "Bytes of local blocks that are not in the bucket yet.",
            ),
            oldest_backlog_block: add(
                registry,
                Gauge::new(
                    "annulus_shipper_oldest_backlog_block_timestamp_seconds",
                    "The time of the first sample of the oldest block that is not in the bucket yet; 0 if there is none.",
                ),
            ),
            tenants: Arc::default(),
        }
    }

    /// The series of a tenant; past the bound, those that all further tenants share.
    pub(super) fn tenant(&self, tenant: &str) -> TenantMetrics {
        let mut tenants = lock(&self.tenants);
        let label = if tenants.contains(tenant) {
            tenant
        } else if tenants.len() < TENANT_LABELS_MAX {
            tenants.insert(tenant.to_owned());
            tenant
        } else {
            OTHER_TENANTS
        };
        TenantMetrics {
            dir_syncs: self.dir_syncs.with_label_values(&[label]),
            dir_sync_failures: self.dir_sync_failures.with_label_values(&[label]),
            uploads: self.uploads.with_label_values(&[label]),
            upload_failures: self.upload_failures.with_label_values(&[label]),
            corrupted_blocks: self.corrupted_blocks.with_label_values(&[label]),
            upload_compacted_done: self.upload_compacted_done.with_label_values(&[label]),
        }
    }

    pub(super) fn set_backlog(&self, totals: &BacklogTotals) {
        self.backlog_blocks.set(i64::try_from(totals.block_count).unwrap_or(i64::MAX));
        self.backlog_bytes.set(i64::try_from(totals.size_bytes).unwrap_or(i64::MAX));
        self.oldest_backlog_block.set(totals.oldest_ms.map_or(0.0, |oldest_ms| oldest_ms as f64 / 1000.0));
    }
}

impl TenantMetrics {
    pub(super) fn synced(&self, is_ok: bool) {
        self.dir_syncs.inc();
        if !is_ok {
            self.dir_sync_failures.inc();
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels of our families are valid");
    registry.register(Box::new(collector.clone())).expect("a family is registered once per registry");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_past_the_bound_share_their_series() {
        let registry = Registry::new();
        let metrics = ShipperMetrics::register(&registry);
        for tenant in 0..TENANT_LABELS_MAX + 10 {
            metrics.tenant(&format!("t{tenant}")).synced(true);
        }
        metrics.tenant("t0").synced(false);
        let families = registry.gather();
        let syncs = families.iter().find(|family| family.name() == "thanos_shipper_dir_syncs_total").unwrap();
        assert_eq!(syncs.get_metric().len(), TENANT_LABELS_MAX + 1);
        let total: f64 = syncs.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
        assert_eq!(total, (TENANT_LABELS_MAX + 11) as f64);
    }
}
