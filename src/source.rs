//! Where samples come from: the one stream of series and chunks that head, blocks and remote stores all give.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use annulus_shards::core::ReadBudget;
use annulus_shards::exemplars::Exemplar;
use annulus_shards::metadata::Description;
use annulus_shards::{Labels, Matcher};
use bytes::Bytes;

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
    /// What the selects of one query may hold together. Without it, the source's limit is for this one alone.
    pub budget: Option<ReadBudget>,
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
    /// Which replica of its series it is of: a number that stands for the labels that are hidden.
    pub replica: u64,
}

/// One series with the chunks that overlap the request, in order of time; chunks may reach outside it.
#[derive(Debug, Clone)]
pub struct SeriesChunks {
    /// All labels, external ones included.
    pub labels: Labels,
    /// Ordered by `min_ms`. Where two of one replica overlap, the samples of the first one win at equal times; those of
    /// different replicas are never mixed.
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

/// How one query wants its source.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Labels that it does not see, instead of those that are hidden by default.
    pub hidden_labels: Option<Arc<[String]>>,
    /// Where a part of the data that cannot be read is told; without it, the read fails.
    pub partial: Option<Warnings>,
}

/// A source that can be seen in more than one way.
pub trait ViewSource: Source {
    /// The same data as one query wants it.
    fn view(&self, view: &View) -> Arc<dyn ViewSource>;
}

/// What a query is told beside its answer, each text once. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    texts: BTreeSet<String>,
    left_out: usize,
}

/// More texts than this are only counted.
const WARNINGS_MAX: usize = 10;

impl Warnings {
    /// Adds a text.
    pub fn add(&self, text: String) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.texts.len() < WARNINGS_MAX {
            told.texts.insert(text);
        } else if !told.texts.contains(&text) {
            told.left_out += 1;
        }
    }

    /// The texts, and a line about those that are left out.
    pub fn texts(&self) -> Vec<String> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts: Vec<String> = told.texts.iter().cloned().collect();
        if told.left_out > 0 {
            texts.push(format!("{} more warnings are left out", told.left_out));
        }
        texts
    }
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

/// Bytes that a query holds for a series without what is in its chunks.
pub fn frame_bytes(labels: &Labels, chunk_count: usize) -> u64 {
    (size_of::<SeriesChunks>() + labels.size_bytes() + chunk_count * size_of::<ChunkRef>()) as u64
}

/// Bytes that a query holds for series.
pub fn held_bytes(series: &[SeriesChunks]) -> u64 {
    let of_one = |one: &SeriesChunks| {
        let chunks: usize = one.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        frame_bytes(&one.labels, one.chunks.len()) + chunks as u64
    };
    series.iter().map(of_one).sum()
}

/// The chunks of each replica of a series; nothing if all are of one.
pub fn split_replicas(chunks: &[ChunkRef]) -> Option<Vec<Vec<ChunkRef>>> {
    let first = chunks.first()?;
    if chunks.iter().all(|chunk| chunk.replica == first.replica) {
        return None;
    }
    let mut sorted = chunks.to_vec();
    sorted.sort_by_key(|chunk| chunk.replica); // Stable: those of a replica stay in order of time.
    Some(sorted.chunk_by(|a, b| a.replica == b.replica).map(<[ChunkRef]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_once_and_have_a_bound() {
        let warnings = Warnings::default();
        assert!(warnings.texts().is_empty());
        for number in (0..100).chain(0..3) {
            warnings.add(format!("block {number:02}"));
        }
        let texts = warnings.texts();
        assert_eq!((texts.len(), texts[0].as_str()), (11, "block 00"));
        assert_eq!(texts[10], "90 more warnings are left out");
    }
}
