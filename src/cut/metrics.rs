//! The metrics of the cutter.

use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Buckets of the time that a cut takes: from a small tenant to one with millions of series.
const CUT_SECONDS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];

/// Families of the cutter. Cheap to clone.
#[derive(Clone)]
pub struct CutMetrics {
    /// Blocks that were written.
    pub blocks: IntCounter,
    /// Cuts that failed and are tried again.
    pub failures: IntCounter,
    /// How long cuts took that came to their end.
    pub seconds: Histogram,
    /// When a cut came to its end last.
    pub last_success_seconds: Gauge,
    /// Windows that are due.
    pub pending_windows: IntGauge,
    /// Chunks that are in no block.
    pub lost_chunks: IntCounter,
}

impl CutMetrics {
    /// Makes the families and registers them.
    ///
    /// # Panics
    /// If the registry has them already.
    pub fn register(registry: &Registry) -> CutMetrics {
        let counter = |name: &str, help: &str| add(registry, IntCounter::new(name, help));
        let seconds = HistogramOpts::new(
            "annulus_cut_duration_seconds",
            "How long it took to cut a window, from freezing it to dropping it from the head.",
        );
        CutMetrics {
            blocks: counter("annulus_cut_blocks_total", "Blocks cut from the head."),
            failures: counter("annulus_cut_failures_total", "Cuts that failed; they are tried again."),
            seconds: add(registry, Histogram::with_opts(seconds.buckets(CUT_SECONDS.to_vec()))),
            last_success_seconds: add(
                registry,
                Gauge::new("annulus_cut_last_success_timestamp_seconds", "When a window was cut last."),
            ),
            pending_windows: add(
                registry,
                IntGauge::new(
                    "annulus_cut_pending_windows",
                    "Windows that are due and not cut yet; of each tenant the oldest one.",
                ),
            ),
            lost_chunks: counter(
                "annulus_cut_lost_chunks_total",
                "Chunks of the head that are in no block, whole or in part, because they could not be used.",
            ),
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, family: prometheus::Result<C>) -> C {
    let family = family.expect("the names are valid");
    registry.register(Box::new(family.clone())).expect("registered once per registry");
    family
}
