//! The tenants that this node knows, within a bound on their number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;

use super::metrics::LimitsMetrics;
use super::tenant::{RequestLimitError, TenantUsage};

/// Parts with a lock each: who looks through one of them holds up a shard for some microseconds only.
const PARTS: usize = 64;

/// What each tenant uses, by name. A tenant is known as long as it has series, or somebody holds its usage, as shards do
/// for those that sent lately.
pub struct TenantTable {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    count: AtomicUsize,
    /// 0 is no limit.
    count_max: AtomicUsize,
    /// The part that is looked through next.
    next_part: AtomicUsize,
    shard_count: usize,
    metrics: LimitsMetrics,
}

type Part = HashMap<Arc<str>, Arc<TenantUsage>, RandomState>;

impl TenantTable {
    /// Nobody is known, and anybody may be.
    pub fn new(shard_count: usize, metrics: LimitsMetrics) -> TenantTable {
        TenantTable {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            count: AtomicUsize::new(0),
            count_max: AtomicUsize::new(0),
            next_part: AtomicUsize::new(0),
            shard_count,
            metrics,
        }
    }

    /// Sets how many tenants there may be before new ones are refused; 0 is no limit. Those that are known stay.
    pub fn set_max(&self, count_max: usize) {
        self.count_max.store(count_max, Ordering::Relaxed);
        self.metrics.tenants_max.set(i64::try_from(count_max).unwrap_or(i64::MAX));
    }

    /// The usage of a tenant, if it is known.
    pub fn find(&self, tenant: &str) -> Option<Arc<TenantUsage>> {
        self.part_of(tenant).get(tenant).cloned()
    }

    /// The usage of a tenant that somebody sends for, which is added if there is room.
    pub fn enter(&self, tenant: &str) -> Result<Arc<TenantUsage>, RequestLimitError> {
        let part = self.part_of(tenant);
        if let Some(usage) = part.get(tenant) {
            return Ok(Arc::clone(usage));
        }
        let tenants_max = self.count_max.load(Ordering::Relaxed);
        // Counted first: shards that add others at the same time do not get past the limit together.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if tenants_max > 0 && before >= tenants_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.metrics.tenants_refused.inc();
            return Err(RequestLimitError::Tenants { tenant: tenant.into(), tenants_max });
        }
        Ok(self.add(part, tenant))
    }

    /// The usage of a tenant that has series already: it is known, whatever the limit.
    pub fn admit(&self, tenant: &str) -> Arc<TenantUsage> {
        let part = self.part_of(tenant);
        if let Some(usage) = part.get(tenant) {
            return Arc::clone(usage);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.add(part, tenant)
    }

    fn add(&self, mut part: MutexGuard<'_, Part>, tenant: &str) -> Arc<TenantUsage> {
        let name: Arc<str> = tenant.into();
        let series_gauge = self.metrics.head_series(tenant);
        let usage = Arc::new(TenantUsage::new(Arc::clone(&name), self.shard_count, series_gauge));
        part.insert(name, Arc::clone(&usage));
        self.metrics.tenants.inc();
        usage
    }

    /// Looks through one part of the table, the next one at each call, and forgets who has no series, sent nothing
    /// lately, and owes nothing to its rate.
    pub fn forget_unused(&self, now: Duration) {
        let part = self.next_part.fetch_add(1, Ordering::Relaxed) % PARTS;
        let mut part = lock(&self.parts[part]);
        let is_unused = |usage: &Arc<TenantUsage>| {
            // Nobody else gets hold of it meanwhile: that takes the lock.
            Arc::strong_count(usage) == 1 && usage.series() == 0 && usage.is_rested(now)
        };
        let forgotten: Vec<Arc<str>> =
            part.extract_if(|_, usage| is_unused(usage)).map(|(name, _)| name).collect();
        if part.capacity() > 4 * part.len() + 64 {
            part.shrink_to_fit();
        }
        // Under the lock, so that a tenant that comes back gets label values that stay.
        for tenant in &forgotten {
            self.metrics.forget(tenant);
        }
        self.count.fetch_sub(forgotten.len(), Ordering::Relaxed);
        self.metrics.tenants.sub(forgotten.len() as i64);
    }

    fn part_of(&self, tenant: &str) -> MutexGuard<'_, Part> {
        lock(&self.parts[self.hasher.hash_one(tenant) as usize % PARTS])
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    // Whoever panicked while holding it left whole values: a tenant is there, or is not.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(count_max: usize) -> TenantTable {
        let table = TenantTable::new(2, LimitsMetrics::register(&prometheus::Registry::new()));
        table.set_max(count_max);
        table
    }

    fn forget_all(table: &TenantTable, now: Duration) {
        (0..PARTS).for_each(|_| table.forget_unused(now));
    }

    #[test]
    fn new_tenants_over_the_limit_are_refused_until_others_are_forgotten() {
        let table = table(3);
        let held = table.enter("a").unwrap();
        table.enter("b").unwrap();
        table.enter("with series").unwrap().set_series(1, 1);
        let refused = table.enter("c").unwrap_err();
        assert!(refused.to_string().contains("--receive.max-tenants"), "{refused}");
        assert!(table.enter("b").is_ok(), "who is known goes on");
        assert_eq!((table.metrics.tenants.get(), table.metrics.tenants_refused.get()), (3, 1));
        forget_all(&table, Duration::ZERO);
        assert!(
            table.find("b").is_none() && table.find("a").is_some() && table.find("with series").is_some()
        );
        assert!(table.enter("c").is_ok() && table.enter("d").is_err());
        drop(held);
        table.enter("with series").unwrap().set_series(1, 0);
        forget_all(&table, Duration::ZERO);
        assert_eq!((table.count.load(Ordering::Relaxed), table.metrics.tenants.get()), (0, 0));
    }

    #[test]
    fn tenants_with_series_are_known_whatever_the_limit() {
        let table = table(1);
        for tenant in ["a", "b"] {
            table.admit(tenant).set_series(0, 1);
        }
        assert!(table.enter("a").is_ok() && table.enter("b").is_ok() && table.enter("c").is_err());
        table.set_max(0);
        assert!(table.enter("c").is_ok());
    }

    #[test]
    fn threads_do_not_pass_the_limit_together() {
        let table = table(100);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    (0..100).filter(|number| table.enter(&format!("{thread}-{number}")).is_ok()).count()
                });
            }
        });
        assert_eq!(table.count.load(Ordering::Relaxed), 100);
    }
}
