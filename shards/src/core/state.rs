//! Where each shard is in its life, readable from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A part of a shard's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ShardState {
    /// It reads its checkpoint and its WAL.
    Recovering = 0,
    /// It takes writes and reads.
    Serving = 1,
    /// A commit failed: reads only.
    Poisoned = 2,
    /// It drains.
    Stopping = 3,
    /// It could not start.
    Failed = 4,
}

/// The states of all shards of a node.
#[derive(Clone)]
pub struct SharedState(Arc<[AtomicU8]>);

impl SharedState {
    /// All shards recover.
    pub fn new(count: usize) -> SharedState {
        SharedState((0..count).map(|_| AtomicU8::new(ShardState::Recovering as u8)).collect())
    }

    /// The state of one shard.
    pub fn get(&self, shard: usize) -> ShardState {
        match self.0[shard].load(Ordering::Acquire) {
            0 => ShardState::Recovering,
            1 => ShardState::Serving,
            2 => ShardState::Poisoned,
            3 => ShardState::Stopping,
            _ => ShardState::Failed,
        }
    }

    /// Changes the state of one shard.
    pub fn set(&self, shard: usize, state: ShardState) {
        self.0[shard].store(state as u8, Ordering::Release);
    }

    /// All states in order.
    pub fn all(&self) -> impl Iterator<Item = ShardState> + '_ {
        (0..self.0.len()).map(|shard| self.get(shard))
    }
}
