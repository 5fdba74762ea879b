//! The metrics of the ingest plane. Names are Thanos' and Prometheus' where they have one, `annulus_` otherwise.
//!
//! Handles are resolved once (per shard, per connection core, per tenant), so that counting is an atomic add.

mod extras;
mod grpc;
mod peers;
mod tenants;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use self::extras::ExtraFamilies;
pub use self::extras::ExtraMetrics;
pub use self::grpc::GrpcMetrics;
pub use self::peers::{PeerFamilies, PeerMetrics};
use self::tenants::{TenantLabel, TenantLabels};
use crate::core::Reason;

/// Buckets of `http_request_duration_seconds` of Thanos Receive.
const RECEIVE_SECONDS: [f64; 21] = [
    0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0,
    4.0, 5.0, 10.0,
];

/// Buckets of request and response sizes.
const SIZE_BYTES: [f64; 10] =
    [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 65536.0, 1_048_576.0, 16_777_216.0];

/// Buckets of a commit's latency: from a fast flash drive to a disk in trouble.
const COMMIT_SECONDS: [f64; 14] =
    [5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 0.0128, 0.0256, 0.1, 0.5, 2.0, 10.0];

/// Buckets of the size of a commit.
const COMMIT_BYTES: [f64; 9] =
    [4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0, 262_144.0, 524_288.0, 1_048_576.0];

/// Buckets of `thanos_receive_write_*`.
const WRITE_COUNTS: [f64; 7] = [10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10_000.0];

/// More tenants than this share the label value [`OTHER_TENANTS`]: a sender must not be able to make series at will.
pub const TENANT_LABELS_MAX: usize = 1000;

/// The tenant label of all tenants past the bound.
pub const OTHER_TENANTS: &str = "other";

/// The handlers and the method of write requests, in the labels of HTTP families.
const REMOTE_WRITE: &str = "receive";
const OTLP: &str = "otlp";
const METHOD: &str = "post";

/// Families shared by all shards.
#[derive(Clone)]
pub struct Metrics {
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    http_request_bytes: HistogramVec,
    http_inflight: IntGaugeVec,
    seed_seconds: HistogramVec,
    write_timeseries: HistogramVec,
    write_samples: HistogramVec,
    forward_requests: IntCounterVec,
    peers: PeerFamilies,
    samples: IntCounterVec,
    refused: IntCounterVec,
    commit_seconds: HistogramVec,
    commit_bytes: HistogramVec,
    commit_failures: IntCounterVec,
    lost_frames: IntCounterVec,
    ring_used_bytes: IntGaugeVec,
    ring_size_bytes: IntGaugeVec,
    shard_series: IntGaugeVec,
    head_bytes: IntGaugeVec,
    chunk_bytes: IntGaugeVec,
    queue_depth: IntGaugeVec,
    queue_capacity: IntGauge,
    queries_queued: IntGaugeVec,
    inflight_bytes: IntGaugeVec,
    connections: IntGaugeVec,
    connections_refused: IntCounter,
    turns: IntCounterVec,
    nudges: IntGauge,
    aside_waiting: IntGauge,
    recovery_seconds: GaugeVec,
    checkpoint_seconds: HistogramVec,
    checkpoint_failures: IntCounterVec,
    chunk_log_bytes: IntGaugeVec,
    chunk_log_failures: IntCounterVec,
    chunk_read_failures: IntCounterVec,
    lost_chunks: IntCounterVec,
    extras: ExtraFamilies,
    otlp_refused: IntCounter,
    tenants: TenantLabels,
    /// `annulus_disk_free_bytes`
    pub disk_free_bytes: IntGauge,
    /// Samples decoded and waiting to be durable (`thanos_receive_samples_pending`).
    pub samples_pending: IntGauge,
    /// Requests of peers.
    pub grpc: GrpcMetrics,
}

impl Metrics {
    /// Makes the families and registers them.
    pub fn register(registry: &Registry) -> Metrics {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(name, help));
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            add(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
        };
        let http = ["code", "handler", "method", "tenant"];
        let forward_requests = counters(
            "thanos_receive_forward_requests_total",
            "Parts of write requests handed to their owner, local ones included.",
            &["result"],
        );
        Metrics {
            http_requests: counters("http_requests_total", "HTTP requests answered.", &http),
            http_seconds: histograms(
                "http_request_duration_seconds",
                "Time from the request's head to the answer.",
                &http,
                &RECEIVE_SECONDS,
            ),
            http_request_bytes: histograms(
                "http_request_size_bytes",
                "Size of request bodies.",
                &http,
                &SIZE_BYTES,
            ),
            http_inflight: gauges(
                "http_inflight_requests",
                "HTTP requests in progress.",
                &["handler", "method", "tenant"],
            ),
            seed_seconds: histograms(
                "thanos_receive_request_duration_seconds",
                "Same as http_request_duration_seconds{handler=\"receive\"}, under the name that older alerts use.",
                &["code", "tenant"],
                &RECEIVE_SECONDS,
            ),
            write_timeseries: histograms(
                "thanos_receive_write_timeseries",
                "Time series per write request.",
                &["code", "tenant"],
                &WRITE_COUNTS,
            ),
            write_samples: histograms(
                "thanos_receive_write_samples",
                "Samples per write request.",
                &["code", "tenant"],
                &WRITE_COUNTS,
            ),
            peers: PeerFamilies::register(registry, &forward_requests),
            forward_requests,
            samples: counters(
                "annulus_ingest_samples_total",
                "Samples written, or known already (a sender's retry).",
                &["shard", "result"],
            ),
            refused: counters(
                "annulus_ingest_samples_refused_total",
                "Samples refused for good, by reason.",
                &["reason"],
            ),
            otlp_refused: add(
                registry,
                IntCounter::new(
                    "annulus_otlp_points_refused_total",
                    "Points of OTLP requests that no series could be made of.",
                ),
            ),
            commit_seconds: histograms(
                "annulus_wal_fsync_duration_seconds",
                "Time of one durable write to the WAL.",
                &["shard"],
                &COMMIT_SECONDS,
            ),
            commit_bytes: histograms(
                "annulus_wal_commit_bytes",
                "Size of one durable write to the WAL.",
                &["shard"],
                &COMMIT_BYTES,
            ),
            commit_failures: counters(
                "annulus_wal_commit_failures_total",
                "Writes to the WAL that failed; after the first one the shard refuses writes until a restart.",
                &["shard"],
            ),
            lost_frames: counters(
                "annulus_wal_lost_frames_total",
                "Acknowledged frames that could not be read at the last start.",
                &["shard"],
            ),
            ring_used_bytes: gauges(
                "annulus_wal_ring_used_bytes",
                "Bytes of the WAL ring that a restart would replay.",
                &["shard"],
            ),
            ring_size_bytes: gauges("annulus_wal_ring_size_bytes", "Size of the WAL ring.", &["shard"]),
            shard_series: gauges("annulus_head_series", "Series in the head of each shard.", &["shard"]),
            head_bytes: gauges(
                "annulus_head_bytes",
                "About how much memory the head of each shard takes: chunks, series and labels.",
                &["shard"],
            ),
            chunk_bytes: gauges(
                "annulus_head_chunk_bytes",
                "Encoded bytes of all chunks in the head of each shard.",
                &["shard"],
            ),
            queue_depth: gauges(
                "annulus_mesh_queue_depth",
                "Batches that wait for their owner shard.",
                &["from", "to"],
            ),
            queue_capacity: gauge("annulus_mesh_queue_capacity", "Batches that may wait per pair of shards."),
            queries_queued: gauges(
                "annulus_shard_queries_queued",
                "Reads that wait for a shard.",
                &["shard"],
            ),
            inflight_bytes: gauges(
                "annulus_ingest_inflight_bytes",
                "Bytes of write requests in memory, per accepting shard.",
                &["shard"],
            ),
            connections: gauges("annulus_connections", "Open connections per accepting shard.", &["shard"]),
            connections_refused: add(
                registry,
                IntCounter::new(
                    "annulus_http_connections_refused_total",
                    "Connections that were closed at once because there are as many as there may be.",
                ),
            ),
            turns: counters(
                "annulus_shard_turns_total",
                "Heartbeats of the shard's executor, one a second while it turns.",
                &["shard"],
            ),
            aside_waiting: gauge(
                "annulus_reads_aside_waiting",
                "Pages of values that wait for a thread which matches patterns against them.",
            ),
            nudges: gauge(
                "annulus_executor_nudges",
                "Signals to executors that slept through their events, since the process began.",
            ),
            recovery_seconds: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "annulus_recovery_duration_seconds",
                        "Time that the last start took to replay.",
                    ),
                    &["shard"],
                ),
            ),
            checkpoint_seconds: histograms(
                "annulus_checkpoint_duration_seconds",
                "Time of one checkpoint.",
                &["shard"],
                &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0],
            ),
            checkpoint_failures: counters(
                "annulus_checkpoint_failures_total",
                "Checkpoints that failed; the WAL ring keeps what they would have covered.",
                &["shard"],
            ),
            chunk_log_bytes: gauges(
                "annulus_chunk_log_bytes",
                "Bytes of the files of closed chunks.",
                &["shard"],
            ),
            chunk_log_failures: counters(
                "annulus_chunk_log_write_failures_total",
                "Writes of closed chunks that failed; the chunks stay in memory until a later write succeeds.",
                &["shard"],
            ),
            chunk_read_failures: counters(
                "annulus_chunk_log_read_failures_total",
                "Closed chunks that could not be read when a write needed them.",
                &["shard"],
            ),
            lost_chunks: counters(
                "annulus_chunk_log_lost_chunks_total",
                "Closed chunks whose files were not there at the last start.",
                &["shard"],
            ),
            extras: ExtraFamilies::register(registry),
            tenants: TenantLabels::default(),
            disk_free_bytes: gauge(
                "annulus_disk_free_bytes",
                "Space that is left on the disk of the data directory.",
            ),
            samples_pending: gauge(
                "thanos_receive_samples_pending",
                "Samples that are decoded and wait to be durable.",
            ),
            grpc: GrpcMetrics::register(
                registry,
                gauge("thanos_receive_pending_write_requests", "Replicated writes of peers in progress."),
            ),
        }
    }

    /// The handles of one shard.
    pub fn shard(&self, shard: usize) -> ShardMetrics {
        let shard = shard.to_string();
        let label = [shard.as_str()];
        ShardMetrics {
            written: self.samples.with_label_values(&[shard.as_str(), "written"]),
            repeated: self.samples.with_label_values(&[shard.as_str(), "repeated"]),
            histograms: self.samples.with_label_values(&[shard.as_str(), "histogram"]),
            refused: Reason::ALL.map(|reason| self.refused.with_label_values(&[reason.name()])),
            commit_seconds: self.commit_seconds.with_label_values(&label),
            commit_bytes: self.commit_bytes.with_label_values(&label),
            commit_failures: self.commit_failures.with_label_values(&label),
            lost_frames: self.lost_frames.with_label_values(&label),
            ring_used_bytes: self.ring_used_bytes.with_label_values(&label),
            ring_size_bytes: self.ring_size_bytes.with_label_values(&label),
            series: self.shard_series.with_label_values(&label),
            head_bytes: self.head_bytes.with_label_values(&label),
            chunk_bytes: self.chunk_bytes.with_label_values(&label),
            queries_queued: self.queries_queued.with_label_values(&label),
            inflight_bytes: self.inflight_bytes.with_label_values(&label),
            connections: self.connections.with_label_values(&label),
            connections_refused: self.connections_refused.clone(),
            turns: self.turns.with_label_values(&label),
            recovery_seconds: self.recovery_seconds.with_label_values(&label),
            checkpoint_seconds: self.checkpoint_seconds.with_label_values(&label),
            checkpoint_failures: self.checkpoint_failures.with_label_values(&label),
            chunk_log_bytes: self.chunk_log_bytes.with_label_values(&label),
            chunk_log_failures: self.chunk_log_failures.with_label_values(&label),
            chunk_read_failures: self.chunk_read_failures.with_label_values(&label),
            lost_chunks: self.lost_chunks.with_label_values(&label),
            extras: self.extras.shard(&shard),
            samples_pending: self.samples_pending.clone(),
            forward_success: self.forward_requests.with_label_values(&["success"]),
            forward_error: self.forward_requests.with_label_values(&["error"]),
        }
    }

    /// The families of requests to other nodes.
    pub fn peers(&self) -> &PeerFamilies {
        &self.peers
    }

    /// The depth of the queue between two shards.
    pub fn queue_depth(&self, from: usize, to: usize) -> IntGauge {
        self.queue_depth.with_label_values(&[from.to_string(), to.to_string()])
    }

    /// Tells how many batches fit in each queue.
    pub fn set_queue_capacity(&self, capacity: usize) {
        self.queue_capacity.set(capacity as i64);
    }

    /// Counts one request that the query plane answered, in the families that the receive handler counts in.
    pub fn observe_http(&self, code: u16, handler: &str, method: &str, seconds: f64) {
        let code = code.to_string();
        let http = [code.as_str(), handler, method, ""];
        self.http_requests.with_label_values(&http).inc();
        self.http_seconds.with_label_values(&http).observe(seconds);
    }

    /// Tells how much work of reads waits for a thread beside the shards.
    pub fn set_aside_waiting(&self, count: usize) {
        self.aside_waiting.set(count as i64);
    }

    /// Tells how many signals executors needed since the process began.
    pub fn set_nudges(&self, count: u64) {
        self.nudges.set(count as i64);
    }

    /// Removes what is shown of tenants that no executor has handles of: others may have their places then.
    pub fn forget_unused_tenants(&self) {
        self.tenants.forget_unused(|tenant, codes| {
            for handler in [REMOTE_WRITE, OTLP] {
                // An error means that there is nothing to remove.
                let _ = self.http_inflight.remove_label_values(&[handler, METHOD, tenant]);
                for code in codes {
                    let http = [code.as_str(), handler, METHOD, tenant];
                    let _ = self.http_requests.remove_label_values(&http);
                    let _ = self.http_seconds.remove_label_values(&http);
                    let _ = self.http_request_bytes.remove_label_values(&http);
                }
            }
            for code in codes {
                let write = [code.as_str(), tenant];
                let _ = self.seed_seconds.remove_label_values(&write);
                let _ = self.write_timeseries.remove_label_values(&write);
                let _ = self.write_samples.remove_label_values(&write);
            }
        });
    }
}

/// Handles of one shard.
#[expect(
    missing_docs,
    reason = "each field is the family of the same name, described where it is registered"
)]
pub struct ShardMetrics {
    pub written: IntCounter,
    pub repeated: IntCounter,
    /// Native histograms, those that were stored before included.
    pub histograms: IntCounter,
    pub refused: [IntCounter; Reason::ALL.len()],
    pub commit_seconds: Histogram,
    pub commit_bytes: Histogram,
    pub commit_failures: IntCounter,
    pub lost_frames: IntCounter,
    pub ring_used_bytes: IntGauge,
    pub ring_size_bytes: IntGauge,
    pub series: IntGauge,
    pub head_bytes: IntGauge,
    pub chunk_bytes: IntGauge,
    pub queries_queued: IntGauge,
    pub inflight_bytes: IntGauge,
    pub connections: IntGauge,
    /// `annulus_http_connections_refused_total`
    pub connections_refused: IntCounter,
    pub turns: IntCounter,
    pub recovery_seconds: Gauge,
    pub checkpoint_seconds: Histogram,
    pub checkpoint_failures: IntCounter,
    /// `annulus_chunk_log_bytes`
    pub chunk_log_bytes: IntGauge,
    /// `annulus_chunk_log_write_failures_total`
    pub chunk_log_failures: IntCounter,
    /// `annulus_chunk_log_read_failures_total`
    pub chunk_read_failures: IntCounter,
    /// `annulus_chunk_log_lost_chunks_total`
    pub lost_chunks: IntCounter,
    pub extras: ExtraMetrics,
    pub samples_pending: IntGauge,
    pub forward_success: IntCounter,
    pub forward_error: IntCounter,
}

/// HTTP families with their handles kept per (handler, method, tenant, code), for one executor.
pub struct HttpMetrics {
    metrics: Metrics,
    handler: &'static str,
    /// Of tenants that sent since the last aging.
    young: RefCell<TenantHandles>,
    /// Of those that sent between the last two.
    old: RefCell<TenantHandles>,
}

type TenantHandles = HashMap<String, Rc<TenantHttpMetrics>>;

/// Handles of one handler for one tenant.
pub struct TenantHttpMetrics {
    tenant: String,
    /// Keeps the tenant's label value; `None` for all tenants past the bound.
    _label: Option<TenantLabel>,
    by_code: RefCell<HashMap<u16, Rc<CodeMetrics>>>,
    /// Write requests in progress.
    pub inflight: IntGauge,
}

/// Handles for one tenant and status.
#[expect(missing_docs, reason = "each field is the family of the same name")]
pub struct CodeMetrics {
    pub requests: IntCounter,
    pub seconds: Histogram,
    pub request_bytes: Histogram,
    pub seed_seconds: Histogram,
    pub timeseries: Histogram,
    pub samples: Histogram,
}

impl HttpMetrics {
    /// Those of remote write. No handle is resolved yet.
    pub fn new(metrics: Metrics) -> HttpMetrics {
        HttpMetrics { metrics, handler: REMOTE_WRITE, young: RefCell::default(), old: RefCell::default() }
    }

    /// Those of OTLP, in the same families.
    pub fn for_otlp(&self) -> HttpMetrics {
        HttpMetrics { handler: OTLP, ..HttpMetrics::new(self.metrics.clone()) }
    }

    /// Lets go of the handles of tenants that did not send since the call before.
    pub fn age(&self) {
        self.old.replace(self.young.take());
    }

    /// `annulus_otlp_points_refused_total`
    pub fn otlp_refused(&self) -> &IntCounter {
        &self.metrics.otlp_refused
    }

    /// Those of the requests of peers.
    pub fn grpc(&self) -> &GrpcMetrics {
        &self.metrics.grpc
    }

    /// The handles of a tenant; tenants past the bound share one set.
    pub fn tenant(&self, tenant: &str) -> Rc<TenantHttpMetrics> {
        let (mut young, mut old) = (self.young.borrow_mut(), self.old.borrow_mut());
        if let Some(found) = young.get(tenant) {
            return Rc::clone(found);
        }
        let label = if old.contains_key(tenant) { None } else { self.metrics.tenants.take(tenant) };
        let name = if label.is_some() || old.contains_key(tenant) { tenant } else { OTHER_TENANTS };
        let entry = young.entry(name.to_owned()).or_insert_with(|| {
            old.remove(name).unwrap_or_else(|| {
                let inflight = self.metrics.http_inflight.with_label_values(&[self.handler, METHOD, name]);
                let tenant = name.to_owned();
                Rc::new(TenantHttpMetrics { tenant, _label: label, by_code: RefCell::default(), inflight })
            })
        });
        Rc::clone(entry)
    }

    /// The handles of a tenant and an answer's status.
    pub fn code(&self, tenant: &TenantHttpMetrics, code: u16) -> Rc<CodeMetrics> {
        let mut by_code = tenant.by_code.borrow_mut();
        let entry = by_code.entry(code).or_insert_with(|| {
            self.metrics.tenants.note_code(code);
            let (code, tenant) = (code.to_string(), tenant.tenant.as_str());
            let http = [code.as_str(), self.handler, METHOD, tenant];
            let write = [code.as_str(), tenant];
            let metrics = &self.metrics;
            Rc::new(CodeMetrics {
                requests: metrics.http_requests.with_label_values(&http),
                seconds: metrics.http_seconds.with_label_values(&http),
                request_bytes: metrics.http_request_bytes.with_label_values(&http),
                seed_seconds: metrics.seed_seconds.with_label_values(&write),
                timeseries: metrics.write_timeseries.with_label_values(&write),
                samples: metrics.write_samples.with_label_values(&write),
            })
        });
        Rc::clone(entry)
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

    fn count(registry: &Registry, tenant: &str) -> usize {
        let families = registry.gather();
        let labels = families.iter().flat_map(|family| family.get_metric()).flat_map(|one| one.get_label());
        labels.filter(|label| label.name() == "tenant" && label.value() == tenant).count()
    }

    #[test]
    fn a_tenant_that_sends_nothing_gives_its_place_in_metrics_to_another() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry);
        let (one, other) = (HttpMetrics::new(metrics.clone()), HttpMetrics::new(metrics.clone()));
        for number in 0..TENANT_LABELS_MAX {
            let tenant = one.tenant(&format!("tenant-{number}"));
            one.code(&tenant, if number == 7 { 429 } else { 200 }).requests.inc();
        }
        assert_eq!(other.tenant("late").tenant, OTHER_TENANTS);
        assert_eq!((count(&registry, "tenant-7"), count(&registry, "late")), (7, 0));
        for _ in 0..2 {
            one.tenant("tenant-8");
            one.age();
            metrics.forget_unused_tenants();
        }
        assert_eq!((count(&registry, "tenant-7"), count(&registry, "tenant-8")), (0, 7));
        assert_eq!(
            (one.tenant("tenant-8").tenant.as_str(), one.tenant("late").tenant.as_str()),
            ("tenant-8", "late")
        );
    }
}
