//! The metrics of local blocks, under the names of Prometheus' TSDB where it has them.

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

/// Families of local blocks. Cheap to clone.
#[derive(Clone)]
pub struct LocalBlockMetrics {
    blocks_loaded: IntGaugeVec,
    blocks_bytes: IntGaugeVec,
    lowest_ms: IntGaugeVec,
    lowest_seconds: GaugeVec,
    /// Folders that are named like a block and are not served.
    pub broken: IntGauge,
    /// Blocks whose files are open.
    pub open: IntGauge,
    /// How many may stay open.
    pub open_max: IntGauge,
    /// How often a block was opened.
    pub opened: IntCounter,
    /// How often the list was compared with the disk.
    pub reloads: IntCounter,
    /// How often that failed, for one tenant or for all.
    pub reload_failures: IntCounter,
    /// When it succeeded last.
    pub last_reload_seconds: Gauge,
}

/// What the blocks of one tenant are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TenantSums {
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) lowest_ms: i64,
}

impl LocalBlockMetrics {
    /// Makes the families and registers them.
    ///
    /// # Panics
    /// If the registry has them already.
    pub fn register(registry: &Registry) -> LocalBlockMetrics {
        let gauges =
            |name: &str, help: &str| add(registry, IntGaugeVec::new(Opts::new(name, help), &["tenant"]));
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(name, help));
        let counter = |name: &str, help: &str| add(registry, IntCounter::new(name, help));
        LocalBlockMetrics {
            blocks_loaded: gauges("prometheus_tsdb_blocks_loaded", "Local blocks that are served."),
            blocks_bytes: gauges(
                "prometheus_tsdb_storage_blocks_bytes",
                "Bytes that the local blocks take on the disk.",
            ),
            lowest_ms: gauges(
                "prometheus_tsdb_lowest_timestamp",
                "When the oldest local block begins, in milliseconds.",
            ),
            lowest_seconds: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "prometheus_tsdb_lowest_timestamp_seconds",
                        "When the oldest local block begins.",
                    ),
                    &["tenant"],
                ),
            ),
            broken: gauge(
                "annulus_local_blocks_broken",
                "Folders that are named like a local block and cannot be served; the log says why.",
            ),
            open: gauge("annulus_local_blocks_open", "Local blocks whose files are open between reads."),
            open_max: gauge(
                "annulus_local_blocks_open_max",
                "Local blocks that may stay open between reads.",
            ),
            opened: counter("annulus_local_blocks_opened_total", "How often a local block was opened."),
            reloads: counter(
                "prometheus_tsdb_reloads_total",
                "How often the list of local blocks was compared with the disk.",
            ),
            reload_failures: counter(
                "prometheus_tsdb_reloads_failures_total",
                "How often a folder of local blocks could not be listed.",
            ),
            last_reload_seconds: add(
                registry,
                Gauge::new(
                    "annulus_local_blocks_last_reload_timestamp_seconds",
                    "When all folders of local blocks were listed last.",
                ),
            ),
        }
    }

    /// Shows what a tenant has; nothing, once it has no blocks.
    pub(super) fn show(&self, tenant: &str, sums: Option<TenantSums>) {
        let Some(sums) = sums else {
            for gauges in [&self.blocks_loaded, &self.blocks_bytes, &self.lowest_ms] {
                // An error says that it was not shown.
                let _ = gauges.remove_label_values(&[tenant]);
            }
            let _ = self.lowest_seconds.remove_label_values(&[tenant]);
            return;
        };
        self.blocks_loaded.with_label_values(&[tenant]).set(sums.count as i64);
        self.blocks_bytes.with_label_values(&[tenant]).set(sums.bytes as i64);
        self.lowest_ms.with_label_values(&[tenant]).set(sums.lowest_ms);
        self.lowest_seconds.with_label_values(&[tenant]).set(sums.lowest_ms as f64 / 1000.0);
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, family: prometheus::Result<C>) -> C {
    let family = family.expect("the names are valid");
    registry.register(Box::new(family.clone())).expect("registered once per registry");
    family
}
