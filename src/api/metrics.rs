//! The metrics of the query API, under Thanos' names.

use annulus_shards::metrics::Metrics;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Buckets of times that queries take (Thanos Query).
const QUERY_SECONDS: [f64; 17] =
    [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0, 720.0];

/// Families of the query API.
pub struct ApiMetrics {
    /// `http_requests_total` and `http_request_duration_seconds`, which both planes share.
    pub http: Metrics,
    /// Instant queries, under the name that older dashboards use.
    pub instant_seconds: Histogram,
    /// Range queries, under the name that older dashboards use.
    pub range_seconds: Histogram,
    /// From the first to the last step of range queries.
    pub range_span_seconds: Histogram,
    /// Queries that may run at once.
    pub gate_max: IntGauge,
    /// Queries that run.
    pub gate_in_flight: IntGauge,
    /// Queries that were let in.
    pub gate_passed: IntCounter,
    /// How long queries waited to be let in.
    pub gate_seconds: Histogram,
}

impl ApiMetrics {
    /// Makes the families and registers them; `http` are those of the ingest plane, in the same registry.
    pub fn register(registry: &Registry, http: Metrics) -> ApiMetrics {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            add(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
        };
        let spans: Vec<f64> = (0..12).map(|power| 900.0 * f64::from(1 << power)).collect();
        ApiMetrics {
            http,
            instant_seconds: histogram(
                "thanos_query_api_instant_query_duration_seconds",
                "Same as http_request_duration_seconds{handler=\"query\"}, under the name that older dashboards use.",
                &QUERY_SECONDS,
            ),
            range_seconds: histogram(
                "thanos_query_api_range_query_duration_seconds",
                "Same as http_request_duration_seconds{handler=\"query_range\"}, under the name that older dashboards \
                 use.",
                &QUERY_SECONDS,
            ),
            range_span_seconds: histogram(
                "thanos_query_range_requested_timespan_duration_seconds",
                "From the first to the last step of range queries.",
                &spans,
            ),
            gate_max: add(
                registry,
                IntGauge::new("thanos_query_concurrent_gate_queries_max", "Queries that may run at once."),
            ),
            gate_in_flight: add(
                registry,
                IntGauge::new("thanos_query_concurrent_gate_queries_in_flight", "Queries that run."),
            ),
            gate_passed: add(
                registry,
                IntCounter::new("thanos_query_concurrent_gate_queries_total", "Queries that were let in."),
            ),
            gate_seconds: histogram(
                "thanos_query_concurrent_gate_queries_duration_seconds",
                "How long queries waited to be let in.",
                &QUERY_SECONDS[1..],
            ),
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels of our families are valid");
    registry.register(Box::new(collector.clone())).expect("a family is registered once per registry");
    collector
}
