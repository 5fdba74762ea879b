//! Head and local blocks as one source.
//!
//! A block is served before the head drops what is in it. So the head is asked first, and only when all of it has
//! answered is the list of blocks taken: what the head had dropped by then is in a block of the list. What is in both
//! comes twice, and is taken once: equal chunks are dropped here, and of samples at the same time the engine takes the
//! first, wherever chunks overlap otherwise.

use std::sync::Arc;

use annulus_shards::Matcher;
use annulus_shards::core::ReadBudget;

use super::aside::aside;
use super::merge::merge;
use super::scope::Scope;
use super::select::select;
use super::set::LocalBlocks;
use super::source::{label_names, label_values};
use crate::head_source::sorted_once;
use crate::source::{SelectRequest, SeriesChunks, Source, SourceError, SourceFuture, View, ViewSource};

/// All that this node has.
pub struct Joined {
    head: Arc<dyn ViewSource>,
    blocks: Arc<LocalBlocks>,
    select_bytes_max: u64,
    view: View,
}

impl Joined {
    /// One select may take `select_bytes_max` bytes of head and blocks together.
    pub fn new(head: Arc<dyn ViewSource>, blocks: Arc<LocalBlocks>, select_bytes_max: u64) -> Joined {
        Joined { head, blocks, select_bytes_max, view: View::default() }
    }

    async fn select_series(&self, mut request: SelectRequest) -> Result<Vec<SeriesChunks>, SourceError> {
        let budget = request.budget.get_or_insert_with(|| ReadBudget::new(self.select_bytes_max)).clone();
        let in_head = self.head.select(request.clone()).await?;
        let list = self.blocks.covering(request.min_ms, request.max_ms);
        let scope = Scope::within(budget, self.view.clone());
        self.blocks.tell_missing((request.min_ms, request.max_ms), &scope)?;
        if list.is_empty() {
            return Ok(in_head);
        }
        let blocks = Arc::clone(&self.blocks);
        let read = move |scope: &Scope| {
            let in_blocks = select(&blocks, &list, &request, scope)?;
            Ok(merge(in_head, in_blocks, scope))
        };
        aside(scope, read).await
    }

    async fn names(&self, sets: Vec<Vec<Matcher>>, times: (i64, i64)) -> Result<Vec<String>, SourceError> {
        let mut names = self.head.label_names(sets.clone(), times.0, times.1).await?;
        names.extend(label_names(Arc::clone(&self.blocks), self.view.clone(), sets, times).await?);
        Ok(sorted_once(names))
    }

    async fn values(
        &self,
        name: String,
        sets: Vec<Vec<Matcher>>,
        times: (i64, i64),
    ) -> Result<Vec<String>, SourceError> {
        let mut values = self.head.label_values(name.clone(), sets.clone(), times.0, times.1).await?;
        let in_blocks = label_values(Arc::clone(&self.blocks), self.view.clone(), name, sets, times).await?;
        if in_blocks.is_empty() {
            return Ok(values);
        }
        values.extend(in_blocks);
        Ok(sorted_once(values))
    }
}

impl Source for Joined {
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

impl ViewSource for Joined {
    fn view(&self, view: &View) -> Arc<dyn ViewSource> {
        let (head, blocks) = (self.head.view(view), Arc::clone(&self.blocks));
        Arc::new(Joined { head, blocks, select_bytes_max: self.select_bytes_max, view: view.clone() })
    }
}
