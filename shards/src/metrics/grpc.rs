//! Requests of peers, in the families of gRPC servers that Thanos has.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::add;
use crate::peer::Code;

const LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];
const REMOTE_WRITE: [&str; 3] = ["unary", "thanos.WriteableStore", "RemoteWrite"];

/// Buckets of `grpc_server_handling_seconds` of Thanos.
const SECONDS: [f64; 14] = [0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4];

/// Handles for the requests of peers.
#[derive(Clone)]
pub struct GrpcMetrics {
    handled: IntCounterVec,
    started: IntCounter,
    seconds: Histogram,
    /// Requests in progress.
    pub pending: IntGauge,
}

impl GrpcMetrics {
    pub(super) fn register(registry: &Registry, pending: IntGauge) -> GrpcMetrics {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let started = counters("grpc_server_started_total", "gRPC requests that began.", &LABELS);
        let seconds =
            HistogramOpts::new("grpc_server_handling_seconds", "Time until a gRPC request is answered.");
        let seconds = add(registry, HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &LABELS));
        GrpcMetrics {
            handled: counters("grpc_server_handled_total", "gRPC requests that were answered.", &with_code),
            started: started.with_label_values(&REMOTE_WRITE),
            seconds: seconds.with_label_values(&REMOTE_WRITE),
            pending,
        }
    }

    /// Counts a request that was answered.
    pub fn count(&self, code: Code, seconds: f64) {
        let [kind, service, method] = REMOTE_WRITE;
        self.handled.with_label_values(&[kind, service, method, code.name()]).inc();
        self.started.inc();
        self.seconds.observe(seconds);
    }
}
