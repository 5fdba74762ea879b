//! Reads series and chunks from blocks: blocks in parallel, and the series of a large one as well.

use std::sync::Arc;

use annulus_shards::Labels;
use annulus_shards::chunk::Encoding;
use rayon::prelude::*;

use super::block::LocalBlock;
use super::chunk_copies::ChunkCopies;
use super::error::ReadFailure;
use super::merge::merge;
use super::scope::Scope;
use super::set::LocalBlocks;
use crate::block::{ChunkReader, LocalFile, Series, SeriesReader, SeriesRef};
use crate::head_source::{ExternalLabels, sorted_and_joined};
use crate::source::{ChunkRef, SelectRequest, SeriesChunks, SourceError, frame_bytes};

/// Series that a thread reads at a time, and between two looks at whether anybody waits.
const UNIT_SERIES: usize = 1_024;

/// The matching series of all the blocks, sorted by labels, each label set once. Results are merged as they come, so
/// that the labels of a series are held once, however many blocks have it.
pub(super) fn select(
    blocks: &LocalBlocks,
    list: &[Arc<LocalBlock>],
    request: &SelectRequest,
    scope: &Scope,
) -> Result<Vec<SeriesChunks>, SourceError> {
    list.par_iter()
        .map(|block| select_block(blocks, block, request, scope))
        .try_reduce(Vec::new, |earlier, later| Ok(merge(earlier, later, scope)))
}

fn select_block(
    blocks: &LocalBlocks,
    block: &LocalBlock,
    request: &SelectRequest,
    scope: &Scope,
) -> Result<Vec<SeriesChunks>, SourceError> {
    scope.check()?;
    let Some(matchers) = block.own_matchers(&request.matchers) else { return Ok(Vec::new()) };
    let labels = block.labels(scope.view());
    let found = blocks.read(block, scope, |reader| {
        let postings = reader.index().postings(&matchers, &|| scope.is_waited_for())?;
        scope.check()?;
        // Readers know the symbols and read ahead: units that one thread reads in a row share them.
        let readers = || (reader.index().series_reader(), reader.chunk_reader());
        let units = postings.par_chunks(UNIT_SERIES);
        let read = units.map_init(readers, |(entries, chunks), unit| {
            select_unit((block, &labels), entries, chunks, unit, request, scope)
        });
        Ok(read.collect::<Result<Vec<_>, ReadFailure>>()?.into_iter().flatten().collect())
    })?;
    Ok(sorted_and_joined(found.unwrap_or_default()))
}

fn select_unit(
    (block, external): (&LocalBlock, &ExternalLabels),
    entries: &mut SeriesReader<'_, LocalFile>,
    chunks: &mut ChunkReader<'_, LocalFile>,
    unit: &[SeriesRef],
    request: &SelectRequest,
    scope: &Scope,
) -> Result<Vec<SeriesChunks>, ReadFailure> {
    scope.check()?;
    let mut series: Vec<Series> = Vec::with_capacity(unit.len());
    for reference in unit {
        let mut one = entries.read(*reference)?;
        one.chunks.retain(|chunk| chunk.min_ms <= request.max_ms && chunk.max_ms >= request.min_ms);
        if one.chunks.is_empty() {
            continue;
        }
        if request.skip_chunks {
            one.chunks.clear();
        }
        series.push(one);
    }
    let mut pairs = Vec::new();
    let mut labels: Vec<Labels> = Vec::with_capacity(series.len());
    for one in &series {
        let final_labels = external.apply(&one.labels, &block.tenant, &mut pairs);
        scope.charge(frame_bytes(&final_labels, one.chunks.len()))?;
        labels.push(final_labels);
    }
    // Places rise with the labels, so the segments are read forwards.
    let mut copies = ChunkCopies::default();
    for meta in series.iter().flat_map(|one| &one.chunks) {
        let chunk = chunks.read(meta.place)?;
        let encoding = Encoding::from_byte(chunk.encoding).ok_or_else(|| {
            let (ulid, encoding) = (block.ulid, chunk.encoding);
            SourceError::Corrupt(format!("local block {ulid}: a chunk of encoding {encoding} cannot be read"))
        })?;
        scope.charge(chunk.bytes.len() as u64)?;
        copies.push(*meta, encoding, chunk.bytes);
    }
    let mut copies = copies.finish().into_iter();
    let with_chunks = labels.into_iter().zip(&series).map(|(labels, one)| {
        let replica = external.replica(&one.labels, &block.tenant);
        let chunks = copies.by_ref().take(one.chunks.len()).map(|chunk| ChunkRef { replica, ..chunk });
        SeriesChunks { labels, chunks: chunks.collect() }
    });
    Ok(with_chunks.collect())
}
