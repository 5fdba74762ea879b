//! What cutting needs of the head; a trait, so that tests can stand in for the shards.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use annulus_shards::core::{CutError, HeadSeries, ReadError, SeriesPages, ShardHandle};
use annulus_shards::head::TenantState;
use futures::executor::block_on;
use futures::future::{Either, select};

use super::error::CutFailure;
use super::stop::StopSignal;

/// A future of [`HeadCuts`].
pub type CutFuture<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// The series of one shard, page by page.
pub trait Pages {
    /// The next page; `None` is the end. Blocks.
    fn next(&mut self) -> Result<Option<Vec<HeadSeries>>, ReadError>;
}

/// The parts of [`ShardHandle`] that cutting needs.
pub trait HeadCuts: Send + Sync {
    /// See [`ShardHandle::tenants`].
    fn tenants(&self) -> CutFuture<'_, Vec<TenantState>, CutError>;

    /// See [`ShardHandle::freeze`].
    fn freeze<'a>(&'a self, tenant: &'a Arc<str>, frozen_ms: i64) -> CutFuture<'a, (), CutError>;

    /// See [`ShardHandle::stream`].
    fn stream<'a>(&'a self, tenant: &'a str, max_ms: i64) -> CutFuture<'a, Vec<Box<dyn Pages>>, ReadError>;

    /// See [`ShardHandle::truncate`].
    fn truncate<'a>(&'a self, tenant: &'a Arc<str>, below_ms: i64) -> CutFuture<'a, (), CutError>;
}

impl Pages for SeriesPages {
    fn next(&mut self) -> Result<Option<Vec<HeadSeries>>, ReadError> {
        SeriesPages::next(self)
    }
}

impl HeadCuts for ShardHandle {
    fn tenants(&self) -> CutFuture<'_, Vec<TenantState>, CutError> {
        Box::pin(ShardHandle::tenants(self))
    }

    fn freeze<'a>(&'a self, tenant: &'a Arc<str>, frozen_ms: i64) -> CutFuture<'a, (), CutError> {
        Box::pin(ShardHandle::freeze(self, tenant, frozen_ms))
    }

    fn stream<'a>(&'a self, tenant: &'a str, max_ms: i64) -> CutFuture<'a, Vec<Box<dyn Pages>>, ReadError> {
        Box::pin(async move {
            let streams = ShardHandle::stream(self, tenant, max_ms).await?;
            Ok(streams.into_iter().map(|pages| Box::new(pages) as Box<dyn Pages>).collect())
        })
    }

    fn truncate<'a>(&'a self, tenant: &'a Arc<str>, below_ms: i64) -> CutFuture<'a, (), CutError> {
        Box::pin(ShardHandle::truncate(self, tenant, below_ms))
    }
}

/// Waits for an answer of the head, or for the end of the cutter. A shard that was asked does its part all the same.
pub fn ask<T, E>(stop: &StopSignal, answer: CutFuture<'_, T, E>) -> Result<T, CutFailure>
where
    CutFailure: From<E>,
{
    // No step is begun any more, even if it could be done at once.
    if stop.is_set() {
        return Err(CutFailure::Stopped);
    }
    let stopped = pin!(stop.stopped());
    match block_on(select(answer, stopped)) {
        Either::Left((answer, _)) => Ok(answer?),
        Either::Right(_) => Err(CutFailure::Stopped),
    }
}
