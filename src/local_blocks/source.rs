//! The local blocks alone as a source of series.

use std::sync::Arc;

use annulus_shards::Matcher;

use super::aside::aside;
use super::scope::Scope;
use super::select::select;
use super::set::LocalBlocks;
use super::texts;
use crate::source::{SelectRequest, SeriesChunks, Source, SourceError, SourceFuture};

/// The series in local blocks, as queries see them.
pub struct BlockSource {
    blocks: Arc<LocalBlocks>,
    select_bytes_max: u64,
}

impl BlockSource {
    /// Reads from `blocks`; one select may take `select_bytes_max` bytes.
    pub fn new(blocks: Arc<LocalBlocks>, select_bytes_max: u64) -> BlockSource {
        BlockSource { blocks, select_bytes_max }
    }
}

impl Source for BlockSource {
    fn select<'a>(&'a self, request: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>> {
        let blocks = Arc::clone(&self.blocks);
        let scope = Scope::new(self.select_bytes_max);
        Box::pin(aside(scope, move |scope| {
            let list = blocks.covering(request.min_ms, request.max_ms);
            select(&blocks, &list, &request, scope)
        }))
    }

    fn label_names<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(label_names(Arc::clone(&self.blocks), sets, (min_ms, max_ms)))
    }

    fn label_values<'a>(
        &'a self,
        name: String,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(label_values(Arc::clone(&self.blocks), name, sets, (min_ms, max_ms)))
    }
}

/// Names of labels in the blocks of these times, both inclusive.
pub(super) async fn label_names(
    blocks: Arc<LocalBlocks>,
    sets: Vec<Vec<Matcher>>,
    (min_ms, max_ms): (i64, i64),
) -> Result<Vec<String>, SourceError> {
    let list = blocks.covering(min_ms, max_ms);
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let read = move |scope: &Scope| {
        let mut names = texts::label_names(&blocks, &list, &sets, scope)?;
        names.retain(|name| !blocks.is_hidden(name));
        Ok(names)
    };
    aside(Scope::new(u64::MAX), read).await
}

/// Values of a label in the blocks of these times, both inclusive.
pub(super) async fn label_values(
    blocks: Arc<LocalBlocks>,
    name: String,
    sets: Vec<Vec<Matcher>>,
    (min_ms, max_ms): (i64, i64),
) -> Result<Vec<String>, SourceError> {
    let list = blocks.covering(min_ms, max_ms);
    if list.is_empty() || blocks.is_hidden(&name) {
        return Ok(Vec::new());
    }
    let read = move |scope: &Scope| texts::label_values(&blocks, &list, &name, &sets, scope);
    aside(Scope::new(u64::MAX), read).await
}
