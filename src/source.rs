//! Where samples come from: the one stream of series and chunks that head, blocks and remote stores all give.

use std::collections::BTreeMap;

use annulus_shards::exemplars::Exemplar;
use annulus_shards::metadata::Description;
use annulus_shards::{Labels, Matcher};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// Which series and which times a selector needs.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// First millisecond wanted, inclusive.
    pub min_ms: i64,
    /// Last millisecond wanted, inclusive.
    pub max_ms: i64,
    /// Labels only: the caller will not decode chunks.
    pub skip_chunks: bool,
}

/// A compressed run of samples of one series, in Prometheus' chunk encoding.
#[derive(Debug, Clone)]
pub struct ChunkRef {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// How `bytes` are encoded.
    pub encoding: annulus_shards::chunk::Encoding,
    /// The chunk as Prometheus has it, without encoding byte and checksum.
    pub bytes: Bytes,
}

/// One series with the chunks that overlap the request, in order of time; chunks may reach outside it.
#[derive(Debug, Clone)]
pub struct SeriesChunks {
    /// All labels, external ones included.
    pub labels: Labels,
    /// Ordered by `min_ms`. Where two overlap, the samples of the first one win at equal times.
    pub chunks: Vec<ChunkRef>,
}

/// Why a source could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The part of the store that should answer does not (shutting down, overloaded, unreachable).
    #[error("{0}")]
    Unavailable(String),
    /// Data that fails its checks.
    #[error("{0}")]
    Corrupt(String),
    /// The query would read more than it may.
    #[error("the query would read more than {bytes_max} bytes")]
    TooLarge {
        /// The budget of one query.
        bytes_max: u64,
    },
}

/// A future of a source; boxed, because a source is used as a trait object.
pub type SourceFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SourceError>> + Send + 'a>>;

/// Anything that PromQL and the metadata API read from.
pub trait Source: Send + Sync {
    /// The matching series, sorted by their labels, each label set once.
    fn select<'a>(&'a self, request: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>>;

    /// Names of labels of series that match any of the sets of matchers (all series, if there is none), sorted.
    fn label_names<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>>;

    /// Values of one label, under the same conditions, sorted.
    fn label_values<'a>(
        &'a self,
        name: String,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>>;
}

/// The exemplars of one series.
#[derive(Debug, Clone)]
pub struct SeriesExemplars {
    /// All labels of the series, external ones included.
    pub labels: Labels,
    /// In order of time.
    pub exemplars: Vec<Exemplar>,
}

/// What senders say of each family of metrics, each text once, by the family's name.
pub type Metadata = BTreeMap<String, Vec<Description>>;

/// What there is to read beside samples.
pub trait ExtraSource: Send + Sync {
    /// Exemplars of the series that match any of the sets of matchers, sorted by their labels, each label set once.
    fn exemplars<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<SeriesExemplars>>;

    /// What is known of one family, or of all.
    fn metadata<'a>(&'a self, family: Option<&'a str>) -> SourceFuture<'a, Metadata>;
}
