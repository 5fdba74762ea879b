//! What a run measured: the one value that tables, JSON and HTML are made of.

use serde::{Deserialize, Serialize};

/// One second of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the measured part began.
    pub at_s: f64,
    /// Samples due in this second.
    pub offered_samples: u64,
    /// Samples of requests that were acknowledged in this second.
    pub acknowledged_samples: u64,
    /// Attempts answered with 5xx or 429, or not at all.
    pub retries: u64,
    /// Requests refused for good.
    pub refused_requests: u64,
    /// Latency from the due time, of requests acknowledged in this second, in milliseconds; `None` without any.
    pub p50_ms: Option<f64>,
    /// Likewise.
    pub p99_ms: Option<f64>,
    /// Likewise.
    pub max_ms: Option<f64>,
    /// CPU of the receiver's processes in this second, in seconds.
    pub receiver_cpu_s: Option<f64>,
    /// Memory of these processes at its end.
    pub receiver_rss_bytes: Option<u64>,
    /// CPU of the generator itself.
    pub generator_cpu_s: f64,
    /// Prometheus' shards at its end; `None` without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u64>,
}

/// A point of the percentile curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// 0 to 100.
    pub percentile: f64,
    /// So many percent of the acknowledged requests took no longer.
    pub latency_ms: f64,
}

/// What the receiver spent, over the measured part of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverCost {
    /// User and system time of its processes, in seconds.
    pub cpu_s: f64,
    /// The same for a million acknowledged samples.
    pub cpu_s_per_million_samples: f64,
    /// Memory at the end.
    pub rss_bytes: u64,
    /// The most memory at any time.
    pub peak_rss_bytes: u64,
    /// Bytes written to storage; `None` if it is not known.
    pub written_bytes: Option<u64>,
    /// Of the threads that lived from begin to end; `None` if it is not known.
    pub context_switches: Option<u64>,
    /// "processes 1234, 1240" or "metrics of http://…".
    pub source: String,
}

/// Whether the generator itself was the limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Headroom {
    /// Delay between the moment a request could start (it was due, and a connection free) and the moment it did, at
    /// the 99th percentile: time that the generator itself lost.
    pub schedule_lag_p99_ms: f64,
    /// Share of its allowed CPUs that the generator used, 0 to 1.
    pub cpu_share: f64,
    /// The same in seconds.
    #[serde(default)]
    pub cpu_s: f64,
    /// `Some` says why the figures must not be trusted.
    pub bottleneck: Option<String>,
}

/// The result of one run.
///
/// Counts are of the whole run, warm-up included, and agree with the ledger. Rates, latencies, costs and seconds are
/// of the measured part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its name in reports.
    pub receiver: String,
    /// Where it takes writes.
    pub url: String,
    /// The machine of the generator.
    pub machine: String,
    /// What the series look like.
    pub profile: String,
    /// Of the stream.
    pub seed: u64,
    /// Active series.
    pub series: u64,
    /// Requests were sent as soon as a connection was free, not by a schedule.
    #[serde(default)]
    pub is_closed_loop: bool,
    /// Samples per second that were due.
    pub offered_rate: f64,
    /// Samples per second that were acknowledged while they were offered.
    pub achieved_rate: f64,
    /// Length of the measured part.
    pub duration_s: f64,
    /// Samples, native histograms included, of requests that were sent at least once. Each of them was acknowledged,
    /// refused, or is unknown.
    pub sent_samples: u64,
    /// Of requests that were answered with 2xx.
    pub acknowledged_samples: u64,
    /// The native histograms among them.
    pub acknowledged_histograms: u64,
    /// Exemplars of these requests; they are no samples.
    #[serde(default)]
    pub acknowledged_exemplars: u64,
    /// Metadata messages that were answered with 2xx.
    #[serde(default)]
    pub metadata_messages: u64,
    /// Of requests that were refused for good.
    pub refused_samples: u64,
    /// The native histograms among them.
    #[serde(default)]
    pub refused_histograms: u64,
    /// Of requests that were never sent, because they were too old when their turn came.
    #[serde(default)]
    pub discarded_samples: u64,
    /// Of requests that were given up without an acknowledgement.
    pub unknown_samples: u64,
    /// Requests that were due and never sent, because no connection became free in time.
    #[serde(default)]
    pub unsent_requests: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// Prometheus' shards; `None` for other kinds of senders.
    #[serde(default)]
    pub shards: Option<ShardCounts>,
    /// Texts of the first few different errors, with counts.
    pub errors: Vec<(String, u64)>,
    /// Latency from the due time, of acknowledged requests.
    pub latency: Vec<Percentile>,
    /// Half of the requests took no longer.
    pub p50_ms: f64,
    /// Likewise.
    pub p95_ms: f64,
    /// Likewise.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// The part of the latency that requests waited for a free connection, at the 99th percentile.
    #[serde(default)]
    pub waited_p99_ms: f64,
    /// All bodies as they were sent, each counted once.
    pub body_bytes: u64,
    /// Of the generator.
    pub headroom: Headroom,
    /// Of the receiver; `None` if nobody looked.
    pub cost: Option<ReceiverCost>,
    /// The measured part, second by second.
    pub seconds: Vec<Second>,
    /// The run was ended early (Ctrl-C): a valid part.
    pub interrupted: bool,
    /// What reading back found; `None` if nobody did.
    pub verification: Option<Verification>,
}

/// How many shards there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCounts {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
    /// At the end.
    pub last: u64,
}

/// What reading back found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Series that were read back.
    pub series_checked: u64,
    /// Samples that were compared.
    pub samples_checked: u64,
    /// Acknowledged, but not there.
    pub lost: u64,
    /// There with another value.
    pub altered: u64,
    /// There more than once.
    pub duplicated: u64,
    /// There, but never sent.
    pub unexpected: u64,
    /// Samples of unacknowledged requests that are there / are not there; neither is an error.
    pub unknown_present: u64,
    /// Likewise.
    pub unknown_absent: u64,
    /// The first few differences, readable.
    pub examples: Vec<String>,
    /// What was not compared, and why.
    #[serde(default)]
    pub notes: Vec<String>,
}
