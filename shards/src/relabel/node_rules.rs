//! The rules in effect on all shards, which may change while requests are relabelled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::rewrite::RelabelMetrics;
use super::rule::Rules;

/// Told by whoever reads the rules, and looked at by each shard with each request.
pub struct NodeRules {
    in_effect: Mutex<Arc<Rules>>,
    /// Rises with each change, for a look without the lock.
    generation: AtomicU64,
    metrics: RelabelMetrics,
}

impl NodeRules {
    /// The first rules.
    pub fn new(rules: Arc<Rules>, metrics: RelabelMetrics) -> Arc<NodeRules> {
        Arc::new(NodeRules { in_effect: Mutex::new(rules), generation: AtomicU64::new(0), metrics })
    }

    /// Puts other rules in effect, for requests that begin from here on.
    pub fn replace(&self, rules: Rules) {
        *self.in_effect.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// What is counted.
    pub fn metrics(&self) -> &RelabelMetrics {
        &self.metrics
    }

    /// Which rules are in effect, as a number that rises.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn in_effect(&self) -> Arc<Rules> {
        Arc::clone(&self.in_effect.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
