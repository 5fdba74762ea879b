//! The limits of the whole node, and what each shard keeps of them at hand.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::LimitsConfig;
use super::gate::Gate;
use super::memory::MemoryLimit;
use super::metrics::LimitsMetrics;
use super::tenant::{TenantLimits, TenantUsage};
use crate::rt::monotonic_now;

/// Tenants that a shard keeps at hand; senders may name new ones at will.
const TENANTS_AT_HAND_MAX: usize = 10_000;

/// With more tenants than this, those that use nothing are forgotten from time to time.
const TENANTS_KEPT_MIN: usize = 20_000;

/// Limits in effect on all shards.
pub struct NodeLimits {
    in_effect: Mutex<Arc<InEffect>>,
    /// The number of `in_effect`, for a look without the lock.
    generation: AtomicU64,
    tenants: Mutex<Tenants>,
    memory: Arc<MemoryLimit>,
    metrics: LimitsMetrics,
    shard_count: usize,
    began: Instant,
}

struct InEffect {
    generation: u64,
    config: LimitsConfig,
    gate: Option<Arc<Gate>>,
}

struct Tenants {
    by_name: HashMap<Arc<str>, Arc<TenantUsage>>,
    /// How many there may be before unused ones are looked for.
    look_at: usize,
}

impl NodeLimits {
    /// Limits for so many shards; the memory limit is in bytes, and 0 is none.
    pub fn new(
        config: LimitsConfig,
        memory_bytes_max: u64,
        metrics: LimitsMetrics,
        shard_count: usize,
    ) -> Arc<NodeLimits> {
        let memory = MemoryLimit::new(
            memory_bytes_max,
            metrics.memory_used_bytes.clone(),
            metrics.memory_refused.clone(),
        );
        metrics.memory_limit_bytes.set(i64::try_from(memory_bytes_max).unwrap_or(i64::MAX));
        metrics.show(&config);
        let gate = config.concurrency_max.map(|count| Gate::new(count, metrics.clone()));
        Arc::new(NodeLimits {
            in_effect: Mutex::new(Arc::new(InEffect { generation: 0, config, gate })),
            generation: AtomicU64::new(0),
            tenants: Mutex::new(Tenants { by_name: HashMap::new(), look_at: TENANTS_KEPT_MIN }),
            memory: Arc::new(memory),
            metrics,
            shard_count,
            began: monotonic_now(),
        })
    }

    /// Puts other limits in effect, for requests that begin from here on. Counts of tenants stay as they are.
    pub fn replace(&self, config: LimitsConfig) {
        let mut in_effect = lock(&self.in_effect);
        let gate = match (config.concurrency_max, &in_effect.gate) {
            (None, _) => None,
            (Some(count), Some(gate)) if gate.concurrency_max() == count => Some(Arc::clone(gate)),
            (Some(count), _) => Some(Gate::new(count, self.metrics.clone())),
        };
        if gate.is_none() {
            self.metrics.gate_max.set(0);
        }
        self.metrics.show(&config);
        let generation = in_effect.generation + 1;
        *in_effect = Arc::new(InEffect { generation, config, gate });
        self.generation.store(generation, Ordering::Release);
    }

    /// What is counted.
    pub fn metrics(&self) -> &LimitsMetrics {
        &self.metrics
    }

    /// How near the process is to the memory that it may take.
    pub fn memory(&self) -> &Arc<MemoryLimit> {
        &self.memory
    }

    fn usage(&self, tenant: &str) -> Arc<TenantUsage> {
        let mut tenants = lock(&self.tenants);
        if let Some(usage) = tenants.by_name.get(tenant) {
            return Arc::clone(usage);
        }
        if tenants.by_name.len() >= tenants.look_at {
            tenants.by_name.retain(|_, usage| Arc::strong_count(usage) > 1 || usage.series() > 0);
            tenants.look_at = TENANTS_KEPT_MIN.max(2 * tenants.by_name.len());
        }
        let name: Arc<str> = tenant.into();
        let usage = Arc::new(TenantUsage::new(Arc::clone(&name), self.shard_count));
        tenants.by_name.insert(name, Arc::clone(&usage));
        usage
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left whole values: each change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limits as one shard sees them.
pub struct ShardLimits {
    node: Arc<NodeLimits>,
    shard: usize,
    at_hand: RefCell<AtHand>,
    told: RefCell<Told>,
}

struct AtHand {
    in_effect: Arc<InEffect>,
    tenants: HashMap<Arc<str>, Arc<TenantLimits>>,
}

/// The tenants that this shard told its series of, and when it last did.
#[derive(Default)]
struct Told {
    tenants: HashMap<Arc<str>, (Arc<TenantUsage>, u64)>,
    round: u64,
}

impl ShardLimits {
    /// The limits for one shard.
    pub fn new(node: Arc<NodeLimits>, shard: usize) -> ShardLimits {
        let in_effect = Arc::clone(&*lock(&node.in_effect));
        let at_hand = RefCell::new(AtHand { in_effect, tenants: HashMap::new() });
        ShardLimits { node, shard, at_hand, told: RefCell::default() }
    }

    /// The limits of a tenant, to be asked for once per request.
    pub fn tenant(&self, tenant: &str) -> Arc<TenantLimits> {
        let at_hand = &mut *self.at_hand.borrow_mut();
        at_hand.refresh(&self.node);
        if let Some(limits) = at_hand.tenants.get(tenant) {
            return Arc::clone(limits);
        }
        if at_hand.tenants.len() >= TENANTS_AT_HAND_MAX {
            at_hand.tenants.clear();
        }
        let rules = at_hand.in_effect.config.of(tenant);
        let node = &self.node;
        let limits =
            TenantLimits::new(rules, node.usage(tenant), Arc::clone(&node.memory), node.metrics.clone());
        let limits = Arc::new(limits);
        at_hand.tenants.insert(tenant.into(), Arc::clone(&limits));
        limits
    }

    /// The write gate, if there is one.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        let at_hand = &mut *self.at_hand.borrow_mut();
        at_hand.refresh(&self.node);
        at_hand.in_effect.gate.clone()
    }

    /// What is counted.
    pub fn metrics(&self) -> &LimitsMetrics {
        &self.node.metrics
    }

    /// The clock that all shards have in common.
    pub fn now(&self) -> Duration {
        monotonic_now().duration_since(self.node.began)
    }

    /// Tells how many series each tenant has in this shard's head.
    pub fn tell_series(&self, tenants: impl IntoIterator<Item = (Arc<str>, u32)>) {
        let told = &mut *self.told.borrow_mut();
        told.round += 1;
        for (tenant, series) in tenants {
            let entry = told.tenants.entry(tenant);
            let entry = entry.or_insert_with_key(|tenant| (self.node.usage(tenant), 0));
            entry.1 = told.round;
            entry.0.set_series(self.shard, series);
        }
        told.tenants.retain(|_, (usage, round)| {
            let is_there = *round == told.round;
            if !is_there {
                usage.set_series(self.shard, 0);
            }
            is_there
        });
    }
}

impl AtHand {
    fn refresh(&mut self, node: &NodeLimits) {
        if self.in_effect.generation != node.generation.load(Ordering::Acquire) {
            self.in_effect = Arc::clone(&*lock(&node.in_effect));
            self.tenants.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(yaml: &str) -> Arc<NodeLimits> {
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        NodeLimits::new(LimitsConfig::parse(yaml).unwrap(), 0, metrics, 2)
    }

    #[test]
    fn other_limits_hold_for_the_next_request_and_counts_stay() {
        let node = node("write: {default: {head_series_limit: 2}}");
        let shards = [ShardLimits::new(Arc::clone(&node), 0), ShardLimits::new(Arc::clone(&node), 1)];
        let labels = [("__name__", "up")];
        let begin = |shard: usize| shards[shard].tenant("t").begin_series(&labels, shard).is_ok();
        assert!(begin(0) && begin(1) && !begin(0) && !begin(1));
        assert!(shards[0].tenant("other").begin_series(&labels, 0).is_ok());
        let other = "write: {tenants: {t: {head_series_limit: 3}}, global: {max_concurrency: 5}}";
        node.replace(LimitsConfig::parse(other).unwrap());
        assert!(begin(0) && !begin(1));
        let gate = shards[1].gate().unwrap();
        node.replace(LimitsConfig::parse(&other.replace('3', "0")).unwrap());
        assert!(begin(0) && begin(1));
        assert!(Arc::ptr_eq(&gate, &shards[1].gate().unwrap()), "a gate of the same width stays");
        node.replace(LimitsConfig::default());
        assert!(shards[0].gate().is_none());
    }

    #[test]
    fn a_tenant_that_left_the_head_has_no_series() {
        let node = node("write: {default: {head_series_limit: 5}}");
        let shard = ShardLimits::new(Arc::clone(&node), 1);
        shard.tell_series([("a".into(), 5), ("b".into(), 1)]);
        assert_eq!((node.usage("a").series(), node.usage("b").series()), (5, 1));
        assert!(shard.tenant("a").begin_series(&[("__name__", "up")], 1).is_err());
        shard.tell_series([("b".into(), 2)]);
        assert_eq!((node.usage("a").series(), node.usage("b").series()), (0, 2));
        assert!(shard.tenant("a").begin_series(&[("__name__", "up")], 1).is_ok());
    }

    #[test]
    fn tenants_that_use_nothing_are_forgotten() {
        let node = node("");
        let shard = ShardLimits::new(Arc::clone(&node), 0);
        shard.tell_series([("kept".into(), 1)]);
        for number in 0..3 * TENANTS_KEPT_MIN {
            shard.tenant(&format!("tenant-{number}"));
        }
        let tenants = lock(&node.tenants);
        assert!(tenants.by_name.len() <= 2 * TENANTS_KEPT_MIN, "{}", tenants.by_name.len());
        assert_eq!(tenants.by_name["kept"].series(), 1);
    }
}
