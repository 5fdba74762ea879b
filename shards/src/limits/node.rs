//! The limits of the whole node, and what each shard keeps of them at hand.

use std::cell::RefCell;
use std::collections::hash_map::IntoValues;
use std::collections::{HashMap, VecDeque};
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

/// For each tenant that comes to hand, so many go that were let go of: more than come, so that they are bounded.
const GONE_PER_NEW: usize = 2;

/// Limits in effect on all shards.
pub struct NodeLimits {
    in_effect: Mutex<Arc<InEffect>>,
    /// The number of `in_effect`, for a look without the lock.
    generation: AtomicU64,
    gate: Arc<Gate>,
    tenants: Arc<TenantTable>,
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
    young: Tenants,
    /// Those that sent between the last two.
    old: Tenants,
    /// Those that were let go of, to be dropped some at a time.
    gone: VecDeque<IntoValues<Arc<str>, Arc<TenantLimits>>>,
}

type Tenants = HashMap<Arc<str>, Arc<TenantLimits>>;

/// What a shard's head has of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadTenant {
    /// Its name.
    pub name: Arc<str>,
    /// How many series it has.
    pub series: u32,
    /// Whether it has to be remembered although it has none.
    pub was_cut: bool,
}

impl ShardLimits {
    /// The limits for one shard.
    pub fn new(node: Arc<NodeLimits>, shard: usize) -> ShardLimits {
        let in_effect = Arc::clone(&*lock(&node.in_effect));
        let (young, old, gone) = (HashMap::new(), HashMap::new(), VecDeque::new());
        let at_hand = AtHand { in_effect, young, old, gone };
        ShardLimits { node, shard, at_hand: RefCell::new(at_hand) }
    }

    /// Checks the size that a request announces, before anything of its body is read.
    ///
    /// # Errors
    /// When it is more than the tenant may send at once.
    pub fn check_announced(&self, tenant: &str, bytes: u64) -> Result<(), RequestLimitError> {
        let at_hand = &mut *self.at_hand.borrow_mut();
        at_hand.refresh(&self.node);
        at_hand.in_effect.config.of(tenant).check_bytes(tenant, bytes, &self.node.metrics)
    }

    /// Checks that a tenant is one of those of the node, or that there is room for it, before anything of a body is read.
    /// It is not added: a sender that does not send, or nothing that can be stored, takes nobody's place.
    ///
    /// # Errors
    /// When there are as many tenants as there may be, and this is none of them.
    pub fn check_room(&self, tenant: &str) -> Result<(), RequestLimitError> {
        let at_hand = &*self.at_hand.borrow();
        if at_hand.young.contains_key(tenant) || at_hand.old.contains_key(tenant) {
            return Ok(());
        }
        self.node.tenants.check_room(tenant).inspect_err(|_| self.node.metrics.tenants_refused.inc())
    }

    /// The limits of a tenant, to be asked for once per request. Only a tenant of which something is stored stays at hand.
    pub fn tenant(&self, tenant: &str) -> Arc<TenantLimits> {
        let at_hand = &mut *self.at_hand.borrow_mut();
        at_hand.refresh(&self.node);
        if let Some(limits) = at_hand.young.get(tenant) {
            return Arc::clone(limits);
        }
        let limits = at_hand.old.remove(tenant).unwrap_or_else(|| {
            let (node, rules) = (&self.node, at_hand.in_effect.config.of(tenant));
            let (table, memory) = (Arc::clone(&node.tenants), Arc::clone(&node.memory));
            Arc::new(TenantLimits::new(rules, table.enter(tenant), table, memory))
        });
        if limits.is_stored() {
            at_hand.insert(&limits);
        }
        limits
    }

    /// Lets go of the tenants that were not asked for since the call before, for [`ShardLimits::drop_gone`].
    pub fn age(&self) {
        let at_hand = &mut *self.at_hand.borrow_mut();
        let young = std::mem::take(&mut at_hand.young);
        let old = std::mem::replace(&mut at_hand.old, young);
        at_hand.let_go(old);
    }

    /// Drops at most `max` of the tenants that were let go of; answers whether there are more.
    pub fn drop_gone(&self, max: usize) -> bool {
        let at_hand = &mut *self.at_hand.borrow_mut();
        at_hand.drop_gone(max);
        !at_hand.gone.is_empty()
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

    /// Whether the node knows a tenant: it has series on a shard that told of them, or sent lately. One that is only
    /// remembered to have been cut is not.
    pub fn knows(&self, tenant: &str) -> bool {
        self.node.tenants.find(tenant).is_some()
    }

    /// Tells what this shard's head has of some tenants.
    pub fn tell_series(&self, tenants: impl IntoIterator<Item = HeadTenant>) {
        for HeadTenant { name, series, was_cut } in tenants {
            let table = &self.node.tenants;
            let is_stored = series > 0 || was_cut;
            let usage = if is_stored { Some(table.admit(&name)) } else { table.find(&name) };
            let Some(usage) = usage else { continue };
            if was_cut {
                usage.note_cut();
            }
            usage.set_series(self.shard, series);
        }
    }
}

impl AtHand {
    fn refresh(&mut self, node: &NodeLimits) {
        if self.in_effect.generation != node.generation.load(Ordering::Acquire) {
            self.in_effect = Arc::clone(&*lock(&node.in_effect));
            let (young, old) = (std::mem::take(&mut self.young), std::mem::take(&mut self.old));
            self.let_go(young);
            self.let_go(old);
        }
    }

    fn insert(&mut self, limits: &Arc<TenantLimits>) {
        if self.young.len() >= TENANTS_AT_HAND_MAX {
            let young = std::mem::take(&mut self.young);
            let old = std::mem::replace(&mut self.old, young);
            self.let_go(old);
        }
        self.young.insert(Arc::clone(limits.name()), Arc::clone(limits));
        self.drop_gone(GONE_PER_NEW);
    }

    fn let_go(&mut self, tenants: Tenants) {
        if !tenants.is_empty() {
            self.gone.push_back(tenants.into_values());
        }
    }

    fn drop_gone(&mut self, max: usize) {
        for _ in 0..max {
            let Some(first) = self.gone.front_mut() else { return };
            if first.next().is_none() {
                self.gone.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::tenant::NewSeriesError;
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
        shard.tell_series([has("a", 5), has("b", 1), has("unknown", 0)]);
        assert_eq!((series("a"), series("b"), series("unknown")), (Some(5), Some(1), None));
        assert!(shard.tenant("a").begin_series(&[("__name__", "up")], 1).is_err());
        shard.tell_series([has("a", 0), has("b", 2)]);
        assert_eq!((series("a"), series("b")), (Some(0), Some(2)));
        assert!(shard.tenant("a").begin_series(&[("__name__", "up")], 1).is_ok());
        assert_eq!(node.metrics.head_series("a").get(), 1);
    }

    fn has(tenant: &str, series: u32) -> HeadTenant {
        HeadTenant { name: tenant.into(), series, was_cut: false }
    }

    /// A request that stores something.
    fn store(shard: &ShardLimits, tenant: &str) -> bool {
        let may_store = shard.tenant(tenant).may_store();
        shard.tenant(tenant);
        may_store
    }

    fn forget_all(node: &NodeLimits) {
        (0..1000).for_each(|_| node.forget_unused());
    }

    #[test]
    fn who_sends_is_known_and_who_does_not_is_forgotten() {
        let node = node("write: {default: {annulus: {samples_per_second: 1}}}");
        let shards = [ShardLimits::new(Arc::clone(&node), 0), ShardLimits::new(Arc::clone(&node), 1)];
        shards[0].tell_series([has("kept", 1)]);
        store(&shards[0], "owes");
        shards[0].tenant("owes").take_samples(1000, || shards[0].now()).unwrap();
        for number in 0..2 * TENANTS_AT_HAND_MAX {
            store(&shards[number % 2], &format!("tenant-{number}"));
        }
        forget_all(&node);
        assert_eq!(node.metrics.tenants.get(), 2 * TENANTS_AT_HAND_MAX as i64 + 2);
        for _ in 0..4 {
            store(&shards[1], "sends");
            for shard in &shards {
                shard.age();
                while shard.drop_gone(100) {}
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
        assert!(store(&shard, "a") && store(&shard, "b"));
        let refused = shard.check_room("c").err();
        assert!(matches!(refused, Some(RequestLimitError::Tenants { tenants_max: 2, .. })), "{refused:?}");
        let refused = shard.tenant("c").begin_series(&[("__name__", "up")], 0).err();
        assert!(matches!(refused, Some(NewSeriesError::Tenants { tenants_max: 2, .. })), "{refused:?}");
        assert!(shard.check_room("a").is_ok() && store(&shard, "a"));
        shard.age();
        shard.tenant("b");
        shard.age();
        while shard.drop_gone(1) {}
        forget_all(&node);
        assert!(shard.check_room("c").is_ok() && store(&shard, "c"));
        assert!(shard.check_room("a").is_err() && shard.check_room("b").is_ok());
    }

    #[test]
    fn requests_that_store_nothing_take_no_places() {
        let node =
            node("write: {default: {request: {size_bytes_limit: 10}, annulus: {samples_per_second: 1}}}");
        node.set_tenants_max(10);
        let shard = ShardLimits::new(Arc::clone(&node), 0);
        for number in 0..100 {
            let tenant = format!("made-up-{number}");
            assert!(shard.check_room(&tenant).is_ok() && shard.check_announced(&tenant, 11).is_err());
            shard.tenant(&tenant).take_samples(1000, || shard.now()).unwrap();
            assert!(!shard.knows(&tenant));
        }
        assert!(store(&shard, "stores") && shard.knows("stores"));
        assert_eq!((node.metrics.tenants.get(), node.metrics.tenants_refused.get()), (1, 0));
    }

    #[test]
    fn what_heads_remember_counts_before_and_after_a_restart() {
        let cut = |series| HeadTenant { name: "cut".into(), series, was_cut: true };
        for first in [5, 0] {
            let node = node("");
            node.set_tenants_max(1);
            let shard = ShardLimits::new(Arc::clone(&node), 1);
            shard.tell_series([cut(first)]);
            shard.tell_series([cut(0)]);
            forget_all(&node);
            assert!(!shard.knows("cut") && shard.check_room("other").is_err());
            assert!(store(&shard, "cut") && !store(&shard, "other"));
            assert_eq!(node.metrics.tenants.get(), 1);
        }
    }

    #[test]
    fn tenants_that_are_let_go_of_go_some_at_a_time() {
        let node = node("");
        let shard = ShardLimits::new(Arc::clone(&node), 0);
        let gone = || shard.at_hand.borrow().gone.iter().map(ExactSizeIterator::len).sum::<usize>();
        for number in 0..TENANTS_AT_HAND_MAX {
            store(&shard, &format!("tenant-{number}"));
        }
        // None goes while a request looks for new limits, and they are no more than there were for all the changes.
        node.replace(LimitsConfig::default());
        store(&shard, "first");
        assert_eq!(gone(), TENANTS_AT_HAND_MAX - GONE_PER_NEW);
        for number in 0..20_000 {
            if number % 1000 == 0 {
                node.replace(LimitsConfig::default());
            }
            store(&shard, &format!("other-{number}"));
            assert!(gone() <= 2 * TENANTS_AT_HAND_MAX);
        }
        while shard.drop_gone(1000) {}
        assert_eq!(gone(), 0);
    }
}
