//! The metrics of a bucket, under the names of Thanos' object storage client.

use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::error::BucketError;

/// Buckets of the time that operations take.
const OPERATION_SECONDS: [f64; 14] =
    [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0];

/// The first bucket of transferred sizes, and how many of them there are; each is twice the one before.
const TRANSFERRED_BYTES_MIN: f64 = 32_768.0;
const TRANSFERRED_BUCKET_COUNT: usize = 16;

/// What is done with a bucket, as the label `operation` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Listing a folder.
    Iter,
    /// Reading a whole object.
    Get,
    /// Reading a part of an object.
    GetRange,
    /// Asking whether an object is there.
    Exists,
    /// Writing an object.
    Upload,
    /// Removing an object.
    Delete,
    /// Asking for an object's size and age.
    Attributes,
}

impl Operation {
    const ALL: [Operation; 7] = [
        Operation::Iter,
        Operation::Get,
        Operation::GetRange,
        Operation::Exists,
        Operation::Upload,
        Operation::Delete,
        Operation::Attributes,
    ];

    fn label(self) -> &'static str {
        match self {
            Operation::Iter => "iter",
            Operation::Get => "get",
            Operation::GetRange => "get_range",
            Operation::Exists => "exists",
            Operation::Upload => "upload",
            Operation::Delete => "delete",
            Operation::Attributes => "attributes",
        }
    }
}

/// Families shared by all buckets of a process.
#[derive(Clone)]
pub struct BucketMetrics {
    operations: IntCounterVec,
    failures: IntCounterVec,
    fetched_bytes: IntCounterVec,
    transferred_bytes: HistogramVec,
    seconds: HistogramVec,
    last_upload: GaugeVec,
}

impl BucketMetrics {
    /// Makes the families and registers them.
    pub fn register(registry: &Registry) -> BucketMetrics {
        let labels = ["bucket", "operation"];
        let counters =
            |name: &str, help: &str| add(registry, IntCounterVec::new(Opts::new(name, help), &labels));
        let histograms = |name: &str, help: &str, buckets: Vec<f64>| {
            add(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &labels))
        };
        let sizes = prometheus::exponential_buckets(TRANSFERRED_BYTES_MIN, 2.0, TRANSFERRED_BUCKET_COUNT)
            .expect("the first size and the factor are positive");
        BucketMetrics {
            operations: counters("thanos_objstore_bucket_operations_total", "Operations on the bucket."),
            failures: counters(
                "thanos_objstore_bucket_operation_failures_total",
                "Operations on the bucket that failed. An object that is not there is an answer, not a failure.",
            ),
            fetched_bytes: counters(
                "thanos_objstore_bucket_operation_fetched_bytes_total",
                "Bytes read from the bucket.",
            ),
            transferred_bytes: histograms(
                "thanos_objstore_bucket_operation_transferred_bytes",
                "Bytes per operation that reads or writes objects.",
                sizes,
            ),
            seconds: histograms(
                "thanos_objstore_bucket_operation_duration_seconds",
                "Time that operations on the bucket took.",
                OPERATION_SECONDS.to_vec(),
            ),
            last_upload: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "thanos_objstore_bucket_last_successful_upload_time",
                        "When an upload last succeeded, in seconds since the epoch; 0 if none did since the start.",
                    ),
                    &["bucket"],
                ),
            ),
        }
    }

    /// Makes the series of a bucket appear with zeros, so that alerts on their rate work from the first event on.
    pub fn announce(&self, bucket: &str) {
        for operation in Operation::ALL {
            let labels = [bucket, operation.label()];
            self.operations.with_label_values(&labels);
            self.failures.with_label_values(&labels);
            self.seconds.with_label_values(&labels);
            match operation {
                Operation::Get | Operation::GetRange => {
                    self.fetched_bytes.with_label_values(&labels);
                    self.transferred_bytes.with_label_values(&labels);
                }
                Operation::Upload => {
                    self.transferred_bytes.with_label_values(&labels);
                }
                _ => {}
            }
        }
        self.last_upload.with_label_values(&[bucket]);
    }

    /// Counts an operation that ended.
    pub fn observe<T>(
        &self,
        bucket: &str,
        operation: Operation,
        started: Instant,
        result: &Result<T, BucketError>,
    ) {
        let labels = [bucket, operation.label()];
        self.operations.with_label_values(&labels).inc();
        self.seconds.with_label_values(&labels).observe(started.elapsed().as_secs_f64());
        if result.as_ref().is_err_and(|error| !error.is_not_found()) {
            self.failures.with_label_values(&labels).inc();
        }
    }

    /// Counts what a read brought.
    pub fn fetched(&self, bucket: &str, operation: Operation, bytes: u64) {
        let labels = [bucket, operation.label()];
        self.fetched_bytes.with_label_values(&labels).inc_by(bytes);
        self.transferred_bytes.with_label_values(&labels).observe(bytes as f64);
    }

    /// Counts an upload that succeeded.
    pub fn uploaded(&self, bucket: &str, bytes: u64, now_ms: i64) {
        self.transferred_bytes.with_label_values(&[bucket, Operation::Upload.label()]).observe(bytes as f64);
        self.last_upload.with_label_values(&[bucket]).set(now_ms as f64 / 1000.0);
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels of our families are valid");
    registry.register(Box::new(collector.clone())).expect("a family is registered once per registry");
    collector
}
