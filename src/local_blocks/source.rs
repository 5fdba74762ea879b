//! The local blocks alone as a source of series.

use std::sync::Arc;

use annulus_shards::Matcher;

use super::aside::aside;
use super::scope::Scope;
use super::select::select;
use super::set::LocalBlocks;
use super::texts;
use crate::source::{SelectRequest, SeriesChunks, Source, SourceError, SourceFuture, View, ViewSource};

/// The series in local blocks, as queries see them.
pub struct BlockSource {
    blocks: Arc<LocalBlocks>,
    select_bytes_max: u64,
    view: View,
}

impl BlockSource {
    /// Reads from `blocks`; one select may take `select_bytes_max` bytes.
    pub fn new(blocks: Arc<LocalBlocks>, select_bytes_max: u64) -> BlockSource {
        BlockSource { blocks, select_bytes_max, view: View::default() }
    }
}

impl Source for BlockSource {
    fn select<'a>(&'a self, request: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>> {
        let blocks = Arc::clone(&self.blocks);
        let scope = match &request.budget {
            Some(budget) => Scope::within(budget.clone(), self.view.clone()),
            None => Scope::new(self.select_bytes_max, self.view.clone()),
        };
        Box::pin(aside(scope, move |scope| {
            let list = blocks.covering(request.min_ms, request.max_ms);
            blocks.tell_missing((request.min_ms, request.max_ms), scope)?;
            select(&blocks, &list, &request, scope)
        }))
    }

    fn label_names<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(label_names(Arc::clone(&self.blocks), self.view.clone(), sets, (min_ms, max_ms)))
    }

    fn label_values<'a>(
        &'a self,
        name: String,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(label_values(Arc::clone(&self.blocks), self.view.clone(), name, sets, (min_ms, max_ms)))
    }
}

impl ViewSource for BlockSource {
    fn view(&self, view: &View) -> Arc<dyn ViewSource> {
        let blocks = Arc::clone(&self.blocks);
        Arc::new(BlockSource { blocks, select_bytes_max: self.select_bytes_max, view: view.clone() })
    }
}

/// Names of labels in the blocks of these times, both inclusive.
pub(super) async fn label_names(
    blocks: Arc<LocalBlocks>,
    view: View,
    sets: Vec<Vec<Matcher>>,
    (min_ms, max_ms): (i64, i64),
) -> Result<Vec<String>, SourceError> {
    let read = move |scope: &Scope| {
        let list = blocks.covering(min_ms, max_ms);
        blocks.tell_missing((min_ms, max_ms), scope)?;
        let mut names = texts::label_names(&blocks, &list, &sets, scope)?;
        names.retain(|name| !blocks.is_hidden(name, scope.view()));
        Ok(names)
    };
    aside(Scope::new(u64::MAX, view), read).await
}

/// Values of a label in the blocks of these times, both inclusive.
pub(super) async fn label_values(
    blocks: Arc<LocalBlocks>,
    view: View,
    name: String,
    sets: Vec<Vec<Matcher>>,
    (min_ms, max_ms): (i64, i64),
) -> Result<Vec<String>, SourceError> {
    if blocks.is_hidden(&name, &view) {
        return Ok(Vec::new());
    }
    let read = move |scope: &Scope| {
        let list = blocks.covering(min_ms, max_ms);
        blocks.tell_missing((min_ms, max_ms), scope)?;
        texts::label_values(&blocks, &list, &name, &sets, scope)
    };
    aside(Scope::new(u64::MAX, view), read).await
}
