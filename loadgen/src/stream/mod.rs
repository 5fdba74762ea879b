//! The stream: what is sent, as a pure function of profile, seed and time.
//!
//! Requests are numbered from 0 in the order in which they are due. Request `n` is block `n % blocks` of the
//! series in round `n / blocks`; a round is one scrape of every series. Everything about a request follows from its
//! number, so that whatever is read back later can be checked without having been kept.

mod catalogue;
mod delivery;
mod exemplar;
mod families;
mod generator;
mod histogram;
mod layout;
mod message;
mod metadata;
mod mix;
mod names;
mod profile;
mod proto;
#[cfg(test)]
#[path = "../../tests/it/remote_write.rs"]
mod remote_write;
mod template;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use generator::Stream;
pub use profile::{BUILT_IN, BuiltIn, KEYS_HELP, Mix, Profile, SERIES_MAX};
pub use value::STALE_NAN_BITS;

/// How a request is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `prometheus.WriteRequest`, snappy block.
    RemoteWrite1,
    /// `io.prometheus.write.v2.Request`, snappy block.
    RemoteWrite2,
}

/// What a request holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of the request, each with the labels of one series.
    pub series: u64,
    /// Floats, stale markers included.
    pub samples: u64,
    /// Native histograms, stale markers included.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// Which stream: enough to make it again in another process (`verify` reads it from the ledger file).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Built-in profile name or the content of a profile file (TOML).
    pub profile: String,
    /// Keys of it with other values, as KEY=VALUE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profile_changes: Vec<String>,
    /// Streams of different seeds have different values, pods and addresses.
    pub seed: u64,
    /// Active series wanted at any time; overrides the profile's own number when given.
    pub series: Option<u64>,
    /// Series of one request.
    pub samples_per_request: u64,
    /// Time of round 0, milliseconds since the Unix epoch.
    pub begin_ms: i64,
    /// Time between two samples of a series.
    pub interval_ms: i64,
}

/// A profile or configuration that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StreamError(pub String);

/// One request, ready to be sent as the body of a POST.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The snappy block.
    pub body: Bytes,
    /// What is in it.
    pub counts: Counts,
}

/// The value of one sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// Bits count (stale markers included).
    Float(f64),
    /// A native histogram, as the JSON text that the query API of Prometheus shows for it.
    Histogram(Arc<str>),
}

/// A sample that one request carries.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedSample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value sent.
    pub value: SampleValue,
    /// Whose fate in the ledger decides about this sample (the first request that carries it).
    pub request: u64,
}

/// One series over a span of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedSeries {
    /// Sorted by name, `__name__` included.
    pub labels: Vec<(String, String)>,
    /// In order of time.
    pub samples: Vec<ExpectedSample>,
}
