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
use super::table::TenantTable;
use super::tenant::{RequestLimitError, TenantLimits};
use crate::rt::monotonic_now;

/// Tenants that a shard keeps at hand of those that sent lately; with more, it looks them up again now and then.
const TENANTS_AT_HAND_MAX: usize = 10_000;

/// Limits in effect on all shards.
pub struct NodeLimits {
    in_effect: Mutex<Arc<InEffect>>,
    /// The number of `in_effect`, for a look without the lock.
    generation: AtomicU64,
    gate: Arc<Gate>,
    tenants: TenantTable,
    memory: Arc<MemoryLimit>,
    metrics: LimitsMetrics,
    began: Instant,
}

struct InEffect {
    generation: u64,
    config: LimitsConfig,
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
        let gate = Gate::new(config.concurrency_max, metrics.clone());
        Arc::new(NodeLimits {
            in_effect: Mutex::new(Arc::new(InEffect { generation: 0, config })),
            gate,
            generation: AtomicU64::new(0),
            tenants: TenantTable::new(shard_count, metrics.clone()),
            memory: Arc::new(memory),
            metrics,
            began: monotonic_now(),
        })
    }

    /// Puts other limits in effect, for requests that begin from here on. Counts of tenants stay as they are.
    pub fn replace(&self, config: LimitsConfig) {
        let mut in_effect = lock(&self.in_effect);
        self.gate.resize(config.concurrency_max);
        self.metrics.show(&config);
        let generation = in_effect.generation + 1;
        *in_effect = Arc::new(InEffect { generation, config });
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

    /// Sets how many tenants there may be before requests for new ones are refused; 0 is no limit.
    pub fn set_tenants_max(&self, tenants_max: usize) {
        self.tenants.set_max(tenants_max);
    }

    /// Looks through some of the tenants, others at each call, and forgets those that use nothing.
    pub fn forget_unused(&self) {
        self.tenants.forget_unused(self.now());
    }

    fn now(&self) -> Duration {
        monotonic_now().duration_since(self.began)
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
}

/// Two generations of tenants: whoever sends comes to the young one, and the old one goes with each aging, or early when
/// very many send.
struct AtHand {
    in_effect: Arc<InEffect>,
    /// Those that sent since the last aging.
    young: HashMap<Arc<str>, Arc<TenantLimits>>,
    /// Those that sent between the last two.
    old: HashMap<Arc<str>, Arc<TenantLimits>>,
}

impl ShardLimits {
    /// The limits for one shard.
    pub fn new(node: Arc<NodeLimits>, shard: usize) -> ShardLimits {
        let in_effect = Arc::clone(&*lock(&node.in_effect));
        let at_hand = AtHand { in_effect, young: HashMap::new(), old: HashMap::new() };
        ShardLimits { node, shard, at_hand: RefCell::new(at_hand) }
    }

    /// The limits of a tenant, to be asked for once per request.
    ///
    /// # Errors
    /// When the tenant is not known, and there are as many as there may be.
    pub fn tenant(&self, tenant: &str) -> Result<Arc<TenantLimits>, RequestLimitError> {
        let at_hand = &mut *self.at_hand.borrow_mut();
        at_hand.refresh(&self.node);
        if let Some(limits) = at_hand.young.get(tenant) {
            return Ok(Arc::clone(limits));
        }
        let limits = match at_hand.old.remove(tenant) {
            Some(limits) => limits,
            None => {
                let (node, rules) = (&self.node, at_hand.in_effect.config.of(tenant));
                let usage = node.tenants.enter(tenant)?;
                Arc::new(TenantLimits::new(rules, usage, Arc::clone(&node.memory), node.metrics.clone()))
            }
        };
        if at_hand.young.len() >= TENANTS_AT_HAND_MAX {
            at_hand.old = std::mem::take(&mut at_hand.young);
        }
        at_hand.young.insert(Arc::clone(limits.name()), Arc::clone(&limits));
        Ok(limits)
    }

    /// Lets go of the tenants that were not asked for since the call before; the caller drops them at its leisure.
    pub fn age(&self) -> Vec<Arc<TenantLimits>> {
        let at_hand = &mut *self.at_hand.borrow_mut();
        let young = std::mem::take(&mut at_hand.young);
        std::mem::replace(&mut at_hand.old, young).into_values().collect()
    }

    /// The write gate, unless it is open: whoever goes through an open one is not counted, and need not be when it
    /// becomes narrow.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        let at_hand = &mut *self.at_hand.borrow_mut();
        at_hand.refresh(&self.node);
        at_hand.in_effect.config.concurrency_max.map(|_| Arc::clone(&self.node.gate))
    }

    /// What is counted.
    pub fn metrics(&self) -> &LimitsMetrics {
        &self.node.metrics
    }

    /// The clock that all shards have in common.
    pub fn now(&self) -> Duration {
        self.node.now()
    }

    /// Whether the node knows a tenant: it has series on a shard that told of them, or sent lately.
    pub fn knows(&self, tenant: &str) -> bool {
        self.node.tenants.find(tenant).is_some()
    }

    /// Tells how many series some tenants have in this shard's head.
    pub fn tell_series(&self, tenants: impl IntoIterator<Item = (Arc<str>, u32)>) {
        for (tenant, series) in tenants {
            let usage = match self.node.tenants.find(&tenant) {
                Some(usage) => usage,
                None if series == 0 => continue,
                None => self.node.tenants.admit(&tenant),
            };
            usage.set_series(self.shard, series);
        }
    }
}

impl AtHand {
    fn refresh(&mut self, node: &NodeLimits) {
        if self.in_effect.generation != node.generation.load(Ordering::Acquire) {
            self.in_effect = Arc::clone(&*lock(&node.in_effect));
            self.young.clear();
            self.old.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

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
        let begin = |shard: usize| shards[shard].tenant("t").unwrap().begin_series(&labels, shard).is_ok();
        assert!(begin(0) && begin(1) && !begin(0) && !begin(1));
        assert!(shards[0].tenant("other").unwrap().begin_series(&labels, 0).is_ok());
        let other = "write: {tenants: {t: {head_series_limit: 3}}, global: {max_concurrency: 5}}";
        node.replace(LimitsConfig::parse(other).unwrap());
        assert!(begin(0) && !begin(1));
        let gate = shards[1].gate().unwrap();
        let ticket = gate.enter().now_or_never().unwrap().unwrap();
        node.replace(LimitsConfig::parse(&other.replace('3', "0").replace('5', "1")).unwrap());
        assert!(begin(0) && begin(1));
        let narrower = shards[1].gate().unwrap();
        assert!(narrower.enter().now_or_never().is_none(), "who is inside counts for the other width");
        drop(ticket);
        assert!(narrower.enter().now_or_never().is_some());
        node.replace(LimitsConfig::default());
        assert!(shards[0].gate().is_none());
    }

    #[test]
    fn a_tenant_that_left_the_head_has_no_series() {
        let node = node("write: {default: {head_series_limit: 5}}");
        let shard = ShardLimits::new(Arc::clone(&node), 1);
        let series = |tenant| node.tenants.find(tenant).map(|usage| usage.series());
        shard.tell_series([("a".into(), 5), ("b".into(), 1), ("unknown".into(), 0)]);
        assert_eq!((series("a"), series("b"), series("unknown")), (Some(5), Some(1), None));
        assert!(shard.tenant("a").unwrap().begin_series(&[("__name__", "up")], 1).is_err());
        shard.tell_series([("a".into(), 0), ("b".into(), 2)]);
        assert_eq!((series("a"), series("b")), (Some(0), Some(2)));
        assert!(shard.tenant("a").unwrap().begin_series(&[("__name__", "up")], 1).is_ok());
        assert_eq!(node.metrics.head_series("a").get(), 1);
    }

    fn forget_all(node: &NodeLimits) {
        (0..1000).for_each(|_| node.forget_unused());
    }

    #[test]
    fn who_sends_is_known_and_who_does_not_is_forgotten() {
        let node = node("write: {default: {annulus: {samples_per_second: 1}}}");
        let shards = [ShardLimits::new(Arc::clone(&node), 0), ShardLimits::new(Arc::clone(&node), 1)];
        shards[0].tell_series([("kept".into(), 1)]);
        shards[0].tenant("owes").unwrap().take_samples(1000, || shards[0].now()).unwrap();
        for number in 0..2 * TENANTS_AT_HAND_MAX {
            shards[number % 2].tenant(&format!("tenant-{number}")).unwrap();
        }
        forget_all(&node);
        assert_eq!(node.metrics.tenants.get(), 2 * TENANTS_AT_HAND_MAX as i64 + 2);
        for round in 0..4 {
            shards[1].tenant("sends").unwrap();
            for shard in &shards {
                let before = shard.at_hand.borrow().old.len();
                assert_eq!(shard.age().len(), before, "round {round}");
            }
            forget_all(&node);
        }
        assert_eq!(node.metrics.tenants.get(), 3);
        let is_known = |tenant| node.tenants.find(tenant).is_some();
        assert!(is_known("kept") && is_known("owes") && is_known("sends") && !is_known("tenant-7"));
    }

    #[test]
    fn a_node_that_is_full_refuses_new_tenants_only() {
        let node = node("");
        node.set_tenants_max(2);
        let shard = ShardLimits::new(Arc::clone(&node), 0);
        assert!(shard.tenant("a").is_ok() && shard.tenant("b").is_ok());
        let refused = shard.tenant("c").err();
        assert!(matches!(refused, Some(RequestLimitError::Tenants { tenants_max: 2, .. })), "{refused:?}");
        assert!(shard.tenant("a").is_ok());
        shard.age();
        shard.tenant("b").unwrap();
        shard.age();
        forget_all(&node);
        assert!(shard.tenant("c").is_ok() && shard.tenant("a").is_err());
    }
}
