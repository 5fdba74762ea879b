//! The metrics of exemplars and metadata.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::add;
use crate::exemplars::ExemplarReason;
use crate::head::HeadExtras;
use crate::metadata::MetadataReason;

/// Families shared by all shards.
#[derive(Clone)]
pub(super) struct ExtraFamilies {
    exemplars_written: IntCounterVec,
    exemplars_refused: IntCounterVec,
    exemplars: IntGaugeVec,
    exemplars_max: IntGaugeVec,
    exemplars_appended: IntCounterVec,
    exemplars_out_of_order: IntCounterVec,
    exemplar_series: IntGaugeVec,
    exemplar_bytes: IntGaugeVec,
    metadata_dropped: IntCounterVec,
    metadata_families: IntGaugeVec,
    metadata_bytes: IntGaugeVec,
}

impl ExtraFamilies {
    pub(super) fn register(registry: &Registry) -> ExtraFamilies {
        let counters = |name: &str, help: &str, label: &str| {
            add(registry, IntCounterVec::new(Opts::new(name, help), &[label]))
        };
        let gauges =
            |name: &str, help: &str| add(registry, IntGaugeVec::new(Opts::new(name, help), &["shard"]));
        ExtraFamilies {
            exemplars_written: counters(
                "annulus_ingest_exemplars_total",
                "Exemplars written, or known already.",
                "shard",
            ),
            exemplars_refused: counters(
                "annulus_ingest_exemplars_refused_total",
                "Exemplars left out of requests that otherwise count, by reason.",
                "reason",
            ),
            exemplars: gauges("prometheus_tsdb_exemplar_exemplars_in_storage", "Exemplars in memory."),
            exemplars_max: gauges(
                "prometheus_tsdb_exemplar_max_exemplars",
                "Exemplars that memory may hold.",
            ),
            exemplars_appended: counters(
                "prometheus_tsdb_exemplar_exemplars_appended_total",
                "Exemplars stored, those of a recovery included.",
                "shard",
            ),
            exemplars_out_of_order: counters(
                "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
                "Exemplars refused because newer ones of their series are stored.",
                "shard",
            ),
            exemplar_series: gauges(
                "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
                "Series that have exemplars in memory.",
            ),
            exemplar_bytes: gauges(
                "annulus_exemplar_bytes",
                "About how much memory exemplars take, with the labels of their series.",
            ),
            metadata_dropped: counters(
                "annulus_ingest_metadata_dropped_total",
                "Descriptions of metric families that were not kept, by reason.",
                "reason",
            ),
            metadata_families: gauges(
                "annulus_metadata_families",
                "Metric families whose metadata is kept, of all tenants.",
            ),
            metadata_bytes: gauges("annulus_metadata_bytes", "About how much memory metadata takes."),
        }
    }

    pub(super) fn shard(&self, shard: &str) -> ExtraMetrics {
        let label = [shard];
        ExtraMetrics {
            exemplars_written: self.exemplars_written.with_label_values(&label),
            exemplars_refused: ExemplarReason::ALL
                .map(|reason| self.exemplars_refused.with_label_values(&[reason.name()])),
            exemplars: self.exemplars.with_label_values(&label),
            exemplars_max: self.exemplars_max.with_label_values(&label),
            exemplars_appended: self.exemplars_appended.with_label_values(&label),
            exemplars_out_of_order: self.exemplars_out_of_order.with_label_values(&label),
            exemplar_series: self.exemplar_series.with_label_values(&label),
            exemplar_bytes: self.exemplar_bytes.with_label_values(&label),
            metadata_dropped: MetadataReason::ALL
                .map(|reason| self.metadata_dropped.with_label_values(&[reason.name()])),
            metadata_families: self.metadata_families.with_label_values(&label),
            metadata_bytes: self.metadata_bytes.with_label_values(&label),
        }
    }
}

/// Handles of one shard.
#[expect(
    missing_docs,
    reason = "each field is the family of the same name, described where it is registered"
)]
pub struct ExtraMetrics {
    pub exemplars_written: IntCounter,
    pub exemplars_refused: [IntCounter; ExemplarReason::ALL.len()],
    pub exemplars: IntGauge,
    pub exemplars_max: IntGauge,
    pub exemplars_appended: IntCounter,
    pub exemplars_out_of_order: IntCounter,
    pub exemplar_series: IntGauge,
    pub exemplar_bytes: IntGauge,
    pub metadata_dropped: [IntCounter; MetadataReason::ALL.len()],
    pub metadata_families: IntGauge,
    pub metadata_bytes: IntGauge,
}

impl ExtraMetrics {
    /// Adds what was refused, by reason.
    pub fn count_refused(&self, refused: &[u64; ExemplarReason::ALL.len()]) {
        for (counter, count) in self.exemplars_refused.iter().zip(refused) {
            counter.inc_by(*count);
        }
        self.exemplars_out_of_order.inc_by(refused[ExemplarReason::OutOfOrder as usize]);
    }

    /// Tells how much there is.
    pub fn report(&self, extras: &HeadExtras) {
        self.exemplars.set(extras.exemplars.len() as i64);
        self.exemplars_max.set(extras.exemplars.count_max() as i64);
        // The store counts from its own beginning; another one may have been counted before a recovery put this in place.
        let appended_count = extras.exemplars.appended_count();
        self.exemplars_appended.inc_by(appended_count.saturating_sub(self.exemplars_appended.get()));
        self.exemplar_series.set(extras.exemplars.series_count() as i64);
        self.exemplar_bytes.set(extras.exemplars.size_bytes() as i64);
        self.metadata_families.set(extras.metadata.family_count() as i64);
        self.metadata_bytes.set(extras.metadata.size_bytes() as i64);
    }
}
