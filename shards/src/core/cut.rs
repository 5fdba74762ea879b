//! A shard's part in cutting blocks: what it has, freezing a window, and dropping what is in a block.

use std::cell::Cell;
use std::rc::Rc;

use super::chunks::ChunkWriter;
use super::outcome::Failure;
use super::run::Reads;
use super::shard::Shard;
use crate::head::{Sweep, TenantState};
use crate::rt::{Native, Pace, Platform, monotonic_now};

/// Why a shard could not do its part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// The shard does not take commands.
    #[error("shard {shard}: {failure:?}")]
    Shard {
        /// Which one.
        shard: usize,
        /// Why.
        failure: Failure,
    },
    /// It could not remove chunk files; they are removed by the next cut or start.
    #[error("shard {shard}: {reason}")]
    Files {
        /// Which one.
        shard: usize,
        /// What the system said.
        reason: String,
    },
    /// It has stopped.
    #[error("shard {shard} has stopped")]
    Stopped {
        /// Which one.
        shard: usize,
    },
}

/// Drops what is in blocks, one sweep at a time.
pub struct Sweeper<P: Platform = Native> {
    shard: Rc<Shard<P>>,
    chunks: Rc<ChunkWriter<P>>,
    reads: Rc<Reads>,
    /// Reads that began in this epoch or before may know the numbers that rest.
    rest_epoch: Cell<u64>,
}

impl<P: Platform> Sweeper<P> {
    /// For a shard that has recovered.
    pub fn new(shard: Rc<Shard<P>>, chunks: Rc<ChunkWriter<P>>, reads: Rc<Reads>) -> Sweeper<P> {
        Sweeper { shard, chunks, reads, rest_epoch: Cell::new(0) }
    }

    /// From now on a tenant takes no sample before `frozen_ms`. Durable when it returns.
    pub async fn freeze(&self, tenant: &str, frozen_ms: i64) -> Result<(), CutError> {
        let frozen = self.shard.set_bounds(tenant, frozen_ms, i64::MIN).await;
        frozen.map_err(|failure| CutError::Shard { shard: self.shard.index, failure })
    }

    /// A block has what a tenant had before `below_ms`: drops it, and the series that have nothing else.
    pub async fn truncate(&self, tenant: &str, below_ms: i64) -> Result<(), CutError> {
        let shard = &self.shard;
        let began = monotonic_now();
        let turn = shard.maintenance.turn().await;
        if self.reads.oldest_epoch().is_none_or(|oldest| oldest > self.rest_epoch.get()) {
            shard.head.borrow_mut().end_rest();
        }
        // Durable before a chunk file goes: a replay must know that nobody misses it.
        let bounds = shard.set_bounds(tenant, below_ms, below_ms).await;
        bounds.map_err(|failure| CutError::Shard { shard: shard.index, failure })?;
        let sweep = Sweep::new(&shard.head.borrow(), tenant, below_ms);
        let Some(mut sweep) = sweep else { return Ok(()) };
        let mut pacer = shard.platform.pacer();
        loop {
            match sweep.step(&mut shard.head.borrow_mut()) {
                Ok(true) => break,
                Ok(false) => {}
                Err(_) => {
                    let failure = Failure::HeadFull;
                    return Err(CutError::Shard { shard: shard.index, failure });
                }
            }
            pacer.pace().await;
        }
        self.rest_epoch.set(self.reads.next_epoch());
        drop(turn);
        shard.report_size();
        let block_ms = shard.windows.block_ms;
        let is_over = |window_ms: i64| window_ms.saturating_add(block_ms) <= below_ms;
        let unneeded = shard.head.borrow().log().borrow_mut().take_unneeded(is_over);
        let files = unneeded.len();
        let removed = self.chunks.remove(unneeded).await;
        removed.map_err(|error| CutError::Files { shard: shard.index, reason: error.to_string() })?;
        tracing::info!(
            shard = shard.index,
            tenant,
            below_ms,
            series_dropped = sweep.vacated_count(),
            series_left = shard.head.borrow().live_series_count(),
            chunk_files_removed = files,
            seconds = format!("{:.3}", (monotonic_now() - began).as_secs_f64()),
            "dropped what is in a block"
        );
        Ok(())
    }

    /// What the shard has of each tenant.
    pub fn tenants(&self) -> Vec<TenantState> {
        self.shard.head.borrow().tenants()
    }
}
