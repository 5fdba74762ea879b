//! The metrics of the query API, under Thanos' names.

use annulus_shards::metrics::Metrics;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Registry};

use super::summary::TimeSummaries;
use crate::promql::value::QueryCosts;

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
    /// Queries that the engine evaluates.
    pub engine_queries: IntGauge,
    /// How many it may evaluate at once.
    pub engine_queries_max: IntGauge,
    /// Samples that queries looked at.
    pub engine_samples: IntCounter,
    /// How long the parts of queries take.
    pub engine_seconds: HistogramVec,
    /// The same as quantiles, which the dashboards of Prometheus draw.
    pub engine_quantiles: TimeSummaries,
    /// Queries that took longer than the operator wants to know of.
    pub slow_queries: IntCounter,
    /// Answers that lack something that could not be read.
    pub partial_answers: IntCounter,
    /// Bytes of answers that wait for their clients.
    pub answer_bytes: IntGauge,
    /// Bytes of forms whose requests wait or are worked on.
    pub form_bytes: IntGauge,
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
            engine_queries: add(
                registry,
                IntGauge::new("prometheus_engine_queries", "Queries that the engine evaluates."),
            ),
            engine_queries_max: add(
                registry,
                IntGauge::new(
                    "prometheus_engine_queries_concurrent_max",
                    "Queries that the engine may evaluate at once.",
                ),
            ),
            engine_samples: add(
                registry,
                IntCounter::new("prometheus_engine_query_samples_total", "Samples that queries decoded."),
            ),
            engine_seconds: add(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "prometheus_engine_query_duration_histogram_seconds",
                        "How long the parts of queries take.",
                    )
                    .buckets(QUERY_SECONDS.to_vec()),
                    &["slice"],
                ),
            ),
            engine_quantiles: add(
                registry,
                TimeSummaries::new(
                    "prometheus_engine_query_duration_seconds",
                    "How long the parts of queries take.",
                    "slice",
                    &["queue_time", "prepare_time", "inner_eval", "result_sort"],
                ),
            ),
            slow_queries: add(
                registry,
                IntCounter::new(
                    "annulus_query_slow_total",
                    "Queries that took at least --query.log-queries-longer-than.",
                ),
            ),
            partial_answers: add(
                registry,
                IntCounter::new(
                    "annulus_query_partial_answers_total",
                    "Answers that lack what could not be read, and say so in a warning.",
                ),
            ),
            answer_bytes: add(
                registry,
                IntGauge::new(
                    "annulus_query_answer_bytes",
                    "Bytes of large answers that are being sent to their clients.",
                ),
            ),
            form_bytes: add(
                registry,
                IntGauge::new(
                    "annulus_query_form_bytes",
                    "Bytes of parameters that came as forms, of requests that wait or are worked on.",
                ),
            ),
        }
    }
}

impl ApiMetrics {
    /// Counts what a query cost.
    pub fn see_costs(&self, costs: &QueryCosts, queue_seconds: f64) {
        self.engine_samples.inc_by(costs.samples);
        for (slice, seconds) in [
            ("queue_time", queue_seconds),
            ("prepare_time", costs.prepare_seconds),
            ("inner_eval", costs.evaluate_seconds),
            // Series come sorted from the source.
            ("result_sort", 0.0),
        ] {
            self.engine_seconds.with_label_values(&[slice]).observe(seconds);
            self.engine_quantiles.observe(slice, seconds);
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels of our families are valid");
    registry.register(Box::new(collector.clone())).expect("a family is registered once per registry");
    collector
}
