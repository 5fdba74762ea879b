//! The head as a source of PromQL: its series as Thanos Query shows them.
//! Owns:     the external labels of this process and the rules by which they meet series and matchers.
//! Touches:  the shards, through [`HeadReads`].
//! Runs on:  the thread that asks; large answers are labelled and sorted on rayon's threads.
//! Promises: series are sorted, each label set comes once, and an external label beats a series' own.

mod external;
mod extras;
mod order;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use annulus_shards::Matcher;
use annulus_shards::core::{
    HeadChunk, HeadSeries, ReadBudget, ReadError, ReadRequest, ShardHandle, TenantTexts, load_chunks,
};
use futures::channel::oneshot;
use rayon::prelude::*;

pub use external::ExternalLabels;
pub use extras::{ExtraReads, HeadExtras};
pub(crate) use order::{sorted_and_joined, sorted_once};

use crate::source::{
    ChunkRef, SelectRequest, SeriesChunks, Source, SourceError, SourceFuture, View, ViewSource, held_bytes,
};

/// Answers with more series than this are labelled and sorted on rayon's threads: below it, handing the work over
/// costs more than the work.
const INLINE_SERIES_MAX: usize = 500;

/// Series that a thread labels at a time, and whose chunks it reads.
const UNIT_SERIES: usize = 256;

/// A future of [`HeadReads`].
pub type ReadFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ReadError>> + Send + 'a>>;

/// The reads of [`ShardHandle`] that [`HeadSource`] needs; a trait, so that tests can stand in for the shards.
pub trait HeadReads: Send + Sync {
    /// See [`ShardHandle::select_within`].
    fn select(&self, request: ReadRequest, budget: ReadBudget) -> ReadFuture<'_, Vec<HeadSeries>>;

    /// See [`ShardHandle::label_names`].
    fn label_names(&self, request: ReadRequest) -> ReadFuture<'_, Vec<TenantTexts>>;

    /// See [`ShardHandle::label_values`].
    fn label_values(&self, request: ReadRequest, name: String) -> ReadFuture<'_, Vec<TenantTexts>>;
}

impl HeadReads for ShardHandle {
    fn select(&self, request: ReadRequest, budget: ReadBudget) -> ReadFuture<'_, Vec<HeadSeries>> {
        Box::pin(async move { ShardHandle::select_within(self, request, &budget).await })
    }

    fn label_names(&self, request: ReadRequest) -> ReadFuture<'_, Vec<TenantTexts>> {
        Box::pin(ShardHandle::label_names(self, request))
    }

    fn label_values(&self, request: ReadRequest, name: String) -> ReadFuture<'_, Vec<TenantTexts>> {
        Box::pin(ShardHandle::label_values(self, request, name))
    }
}

/// The head of this process, with external labels.
pub struct HeadSource {
    reads: Arc<dyn HeadReads>,
    labels: Arc<ExternalLabels>,
    select_bytes_max: u64,
}

impl HeadSource {
    /// Reads from `reads`; one select may take `select_bytes_max` bytes.
    pub fn new(reads: Arc<dyn HeadReads>, labels: ExternalLabels, select_bytes_max: u64) -> HeadSource {
        HeadSource { reads, labels: Arc::new(labels), select_bytes_max }
    }

    async fn select_series(&self, request: SelectRequest) -> Result<Vec<SeriesChunks>, SourceError> {
        let times = (request.min_ms, request.max_ms);
        let Some(read) = self.labels.read_request(request.matchers, times, request.skip_chunks) else {
            return Ok(Vec::new());
        };
        let budget = request.budget.unwrap_or_else(|| ReadBudget::new(self.select_bytes_max));
        let series = self.reads.select(read, budget.clone()).await?;
        let read_bytes: u64 = series.iter().map(HeadSeries::size_bytes).sum();
        let finished = self.finish(series).await?;
        // External labels come on top, and what series share goes.
        budget.release(read_bytes);
        budget.charge(held_bytes(&finished))?;
        Ok(finished)
    }

    async fn finish(&self, series: Vec<HeadSeries>) -> Result<Vec<SeriesChunks>, SourceError> {
        let labels = Arc::clone(&self.labels);
        let is_in_memory = |chunk: &HeadChunk| chunk.bytes.loaded().is_some();
        if series.len() <= INLINE_SERIES_MAX && series.iter().all(|one| one.chunks.iter().all(is_in_memory)) {
            return finish_series(&labels, series);
        }
        let (sender, receiver) = oneshot::channel();
        rayon::spawn(move || {
            // Nobody waits any more when the query was canceled.
            let _ = sender.send(finish_series(&labels, series));
        });
        receiver.await.map_err(|_| SourceError::Unavailable("the query threads are gone".to_owned()))?
    }

    async fn names(&self, sets: Vec<Vec<Matcher>>, times: (i64, i64)) -> Result<Vec<String>, SourceError> {
        let mut names = Vec::new();
        for read in self.read_requests(sets, times) {
            let found = self.reads.label_names(read).await?;
            if !found.is_empty() {
                names.extend(self.labels.names().map(str::to_owned));
            }
            names.extend(found.into_iter().flat_map(|tenant| tenant.texts));
            names = sorted_once(names);
        }
        names.retain(|name| !self.labels.is_replica(name));
        Ok(names)
    }

    async fn values(
        &self,
        name: String,
        sets: Vec<Vec<Matcher>>,
        times: (i64, i64),
    ) -> Result<Vec<String>, SourceError> {
        if self.labels.is_replica(&name) {
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        for read in self.read_requests(sets, times) {
            for found in self.reads.label_values(read, name.clone()).await? {
                match self.labels.value(&name, &found.tenant) {
                    Some(value) => values.push(value.to_owned()),
                    None => values.extend(found.texts),
                }
            }
            values = sorted_once(values);
        }
        Ok(values)
    }

    /// One read per set of matchers that can match at all; no set stands for all series.
    fn read_requests(&self, mut sets: Vec<Vec<Matcher>>, times: (i64, i64)) -> Vec<ReadRequest> {
        if sets.is_empty() {
            sets.push(Vec::new());
        }
        sets.into_iter().filter_map(|matchers| self.labels.read_request(matchers, times, true)).collect()
    }
}

impl Source for HeadSource {
    fn select<'a>(&'a self, request: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>> {
        Box::pin(self.select_series(request))
    }

    fn label_names<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(self.names(sets, (min_ms, max_ms)))
    }

    fn label_values<'a>(
        &'a self,
        name: String,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(self.values(name, sets, (min_ms, max_ms)))
    }
}

impl ViewSource for HeadSource {
    fn view(&self, view: &View) -> Arc<dyn ViewSource> {
        let labels = match &view.hidden_labels {
            Some(hidden) => Arc::new(self.labels.hiding(Arc::clone(hidden))),
            None => Arc::clone(&self.labels),
        };
        let (reads, select_bytes_max) = (Arc::clone(&self.reads), self.select_bytes_max);
        Arc::new(HeadSource { reads, labels, select_bytes_max })
    }
}

impl From<ReadError> for SourceError {
    fn from(error: ReadError) -> SourceError {
        match error {
            ReadError::Unavailable { .. } => SourceError::Unavailable(error.to_string()),
            ReadError::TooLarge { bytes_max } => SourceError::TooLarge { bytes_max },
            ReadError::Chunk(_) => SourceError::Corrupt(error.to_string()),
        }
    }
}

/// Reads what is in the chunk log, gives every series its final labels, sorts by them, and joins series that became one.
fn finish_series(
    external: &ExternalLabels,
    mut series: Vec<HeadSeries>,
) -> Result<Vec<SeriesChunks>, SourceError> {
    if series.len() <= INLINE_SERIES_MAX {
        let found = finish_unit(external, &mut series, &mut Vec::new())?;
        return Ok(sorted_and_joined(found));
    }
    // The series of a unit come from one shard, most of them in the order in which it stores them: their chunks are
    // neighbours in its files.
    let units: Vec<Vec<SeriesChunks>> = series
        .par_chunks_mut(UNIT_SERIES)
        .map(|unit| finish_unit(external, unit, &mut Vec::new()))
        .collect::<Result<_, SourceError>>()?;
    let mut found = Vec::with_capacity(series.len());
    found.extend(units.into_iter().flatten());
    Ok(sorted_and_joined(found))
}

/// The same for a part of the series, without the order.
fn finish_unit<'a>(
    external: &'a ExternalLabels,
    series: &'a mut [HeadSeries],
    pairs: &mut Vec<(&'a str, &'a str)>,
) -> Result<Vec<SeriesChunks>, SourceError> {
    load_chunks(series)?;
    let finish = |one: &'a mut HeadSeries| {
        let chunks = std::mem::take(&mut one.chunks);
        let labels = external.apply(&one.labels, &one.tenant, pairs);
        let replica = external.replica(&one.labels, &one.tenant);
        SeriesChunks { labels, chunks: chunks.into_iter().map(|chunk| chunk_ref(chunk, replica)).collect() }
    };
    Ok(series.iter_mut().map(finish).collect())
}

fn chunk_ref(chunk: HeadChunk, replica: u64) -> ChunkRef {
    let HeadChunk { min_ms, max_ms, encoding, bytes } = chunk;
    let bytes = bytes.into_loaded().expect("the chunks were loaded before");
    ChunkRef { min_ms, max_ms, encoding, bytes, replica }
}

#[cfg(test)]
mod tests;
