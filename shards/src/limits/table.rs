//! The tenants that this node knows, within a bound on their number.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;

use super::metrics::LimitsMetrics;
use super::tenant::{RequestLimitError, TenantUsage};

/// Parts with a lock each: who looks through one of them holds up a shard for some microseconds only.
const PARTS: usize = 64;

/// What each tenant uses, by name.
///
/// A tenant of which something is stored has a place, and places are bounded. It keeps its place as long as it has series,
/// somebody holds its usage, as shards do for those that sent lately, or a head remembers that it was cut. A tenant without
/// a place is here only while its requests are worked on, so that names which store nothing crowd nobody out.
pub struct TenantTable {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    /// Places that are taken.
    count: AtomicUsize,
    /// 0 is no limit.
    count_max: AtomicUsize,
    /// The part that is looked through next.
    next_part: AtomicUsize,
    shard_count: usize,
    metrics: LimitsMetrics,
}

#[derive(Default)]
struct Part {
    known: HashMap<Arc<str>, Arc<TenantUsage>, RandomState>,
    /// Those that would be forgotten if no head had to remember that they were cut. Their places stay taken.
    remembered: HashSet<Arc<str>, RandomState>,
}

/// All places are taken.
pub struct NoPlace {
    /// How many there are.
    pub tenants_max: usize,
}

impl TenantTable {
    /// Nobody is known, and anybody may be.
    pub fn new(shard_count: usize, metrics: LimitsMetrics) -> Arc<TenantTable> {
        Arc::new(TenantTable {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            count: AtomicUsize::new(0),
            count_max: AtomicUsize::new(0),
            next_part: AtomicUsize::new(0),
            shard_count,
            metrics,
        })
    }

    /// What is counted.
    pub fn metrics(&self) -> &LimitsMetrics {
        &self.metrics
    }

    /// Sets how many tenants there may be before new ones are refused; 0 is no limit. Those that are known stay.
    pub fn set_max(&self, count_max: usize) {
        self.count_max.store(count_max, Ordering::Relaxed);
        self.metrics.tenants_max.set(i64::try_from(count_max).unwrap_or(i64::MAX));
    }

    /// The usage of a tenant, if it is known.
    pub fn find(&self, tenant: &str) -> Option<Arc<TenantUsage>> {
        self.part_of(tenant).known.get(tenant).cloned()
    }

    /// Whether a tenant has a place or could have one. It is not added.
    ///
    /// # Errors
    /// When it has none and all are taken.
    pub fn check_room(&self, tenant: &str) -> Result<(), RequestLimitError> {
        let tenants_max = self.count_max.load(Ordering::Relaxed);
        if tenants_max == 0 || self.count.load(Ordering::Relaxed) < tenants_max {
            return Ok(());
        }
        let part = self.part_of(tenant);
        if part.known.get(tenant).is_some_and(|usage| usage.has_place()) || part.remembered.contains(tenant) {
            return Ok(());
        }
        Err(RequestLimitError::Tenants { tenant: tenant.into(), tenants_max })
    }

    /// The usage of a tenant that somebody sends for, which is known at least as long as it is held.
    pub fn enter(&self, tenant: &str) -> Arc<TenantUsage> {
        self.find_or_add(&mut self.part_of(tenant), tenant)
    }

    /// Gives a tenant a place, if it has none: something of it is about to be stored.
    ///
    /// # Errors
    /// When all places are taken.
    pub fn take_place(&self, usage: &TenantUsage) -> Result<(), NoPlace> {
        if usage.has_place() {
            return Ok(());
        }
        let _part = self.part_of(usage.name());
        if usage.has_place() {
            return Ok(());
        }
        let tenants_max = self.count_max.load(Ordering::Relaxed);
        // Counted first: parts of the table that do so at the same time do not get past the limit together.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if tenants_max > 0 && before >= tenants_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(NoPlace { tenants_max });
        }
        self.metrics.tenants.inc();
        usage.settle(self.metrics.head_series(usage.name()));
        Ok(())
    }

    /// The usage of a tenant of which something is stored already: it has a place, whatever the limit.
    pub fn admit(&self, tenant: &str) -> Arc<TenantUsage> {
        let mut part = self.part_of(tenant);
        let usage = self.find_or_add(&mut part, tenant);
        if !usage.has_place() {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.metrics.tenants.inc();
            usage.settle(self.metrics.head_series(tenant));
        }
        usage
    }

    fn find_or_add(&self, part: &mut Part, tenant: &str) -> Arc<TenantUsage> {
        if let Some(usage) = part.known.get(tenant) {
            return Arc::clone(usage);
        }
        let name: Arc<str> = tenant.into();
        let usage = Arc::new(TenantUsage::new(Arc::clone(&name), self.shard_count));
        if part.remembered.remove(tenant) {
            // It goes on with the place that it has.
            usage.note_cut();
            usage.settle(self.metrics.head_series(tenant));
        }
        part.known.insert(name, Arc::clone(&usage));
        usage
    }

    /// Forgets a tenant without a place when the last one who holds its usage lets go. One of which two let go at the same
    /// moment is found by [`TenantTable::forget_unused`].
    pub fn leave(&self, usage: &Arc<TenantUsage>) {
        if usage.has_place() {
            return;
        }
        let mut part = self.part_of(usage.name());
        // That of the table and that of the caller; nobody else gets hold of it meanwhile, for that takes the lock.
        if Arc::strong_count(usage) == 2 && !usage.has_place() {
            part.known.remove(usage.name());
        }
    }

    /// Looks through one part of the table, the next one at each call, and forgets who has no series, sent nothing
    /// lately, and owes nothing to its rate.
    pub fn forget_unused(&self, now: Duration) {
        let part = self.next_part.fetch_add(1, Ordering::Relaxed) % PARTS;
        let is_of_part = |tenant: &str| self.part_index(tenant) == part;
        let Part { known, remembered } = &mut *lock(&self.parts[part]);
        let is_unused = |usage: &Arc<TenantUsage>| {
            // Nobody else gets hold of it meanwhile: that takes the lock.
            Arc::strong_count(usage) == 1
                && (!usage.has_place() || usage.series() == 0 && usage.is_rested(now))
        };
        let mut left_count = 0;
        for (tenant, usage) in known.extract_if(|_, usage| is_unused(usage)) {
            if !usage.has_place() {
                continue;
            }
            // Under the lock, so that a tenant that comes back gets label values that stay.
            self.metrics.forget(&tenant);
            if usage.was_cut() {
                remembered.insert(tenant);
            } else {
                left_count += 1;
            }
        }
        self.metrics.make_room(|tenant| is_of_part(tenant) && !known.contains_key(tenant));
        if known.capacity() > 4 * known.len() + 64 {
            known.shrink_to_fit();
        }
        self.count.fetch_sub(left_count, Ordering::Relaxed);
        self.metrics.tenants.sub(left_count as i64);
    }

    fn part_of(&self, tenant: &str) -> MutexGuard<'_, Part> {
        lock(&self.parts[self.part_index(tenant)])
    }

    fn part_index(&self, tenant: &str) -> usize {
        self.hasher.hash_one(tenant) as usize % PARTS
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    // Whoever panicked while holding it left whole values: a tenant is there, or is not.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(count_max: usize) -> Arc<TenantTable> {
        let table = TenantTable::new(2, LimitsMetrics::register(&prometheus::Registry::new()));
        table.set_max(count_max);
        table
    }

    /// A tenant that stores something and goes away.
    fn store(table: &TenantTable, tenant: &str) -> bool {
        table.take_place(&table.enter(tenant)).is_ok()
    }

    fn forget_all(table: &TenantTable, now: Duration) {
        (0..PARTS).for_each(|_| table.forget_unused(now));
    }

    fn counts(table: &TenantTable) -> (usize, i64) {
        (table.count.load(Ordering::Relaxed), table.metrics.tenants.get())
    }

    fn known_count(table: &TenantTable) -> usize {
        table.parts.iter().map(|part| lock(part).known.len()).sum()
    }

    #[test]
    fn new_tenants_over_the_limit_are_refused_until_others_are_forgotten() {
        let table = table(3);
        let held = table.enter("a");
        assert!(table.take_place(&held).is_ok() && store(&table, "b"));
        table.admit("with series").set_series(1, 1);
        let refused = table.check_room("c").unwrap_err();
        assert!(refused.to_string().contains("--receive.max-tenants"), "{refused}");
        assert!(!store(&table, "c"));
        assert!(table.check_room("b").is_ok() && store(&table, "b"), "who is known goes on");
        assert_eq!(counts(&table), (3, 3));
        forget_all(&table, Duration::ZERO);
        assert!(
            table.find("b").is_none() && table.find("a").is_some() && table.find("with series").is_some()
        );
        assert!(table.check_room("c").is_ok() && store(&table, "c") && !store(&table, "d"));
        drop(held);
        table.enter("with series").set_series(1, 0);
        forget_all(&table, Duration::ZERO);
        assert_eq!(counts(&table), (0, 0));
    }

    #[test]
    fn tenants_that_store_nothing_take_no_places_and_leave_nothing_behind() {
        let table = table(10);
        for number in 0..1000 {
            let usage = table.enter(&format!("made-up-{number}"));
            assert!(table.check_room("new").is_ok());
            table.leave(&usage);
        }
        assert_eq!((counts(&table), known_count(&table)), ((0, 0), 0));
        // Two let go of it at once: neither is the last one.
        let (usage, other) = (table.enter("twice"), table.enter("twice"));
        table.leave(&usage);
        table.leave(&other);
        drop((usage, other));
        forget_all(&table, Duration::ZERO);
        assert_eq!(known_count(&table), 0);
    }

    #[test]
    fn tenants_with_series_are_known_whatever_the_limit() {
        let table = table(1);
        for tenant in ["a", "b"] {
            table.admit(tenant).set_series(0, 1);
        }
        assert!(store(&table, "a") && store(&table, "b") && !store(&table, "c"));
        table.set_max(0);
        assert!(store(&table, "c"));
    }

    #[test]
    fn tenants_that_a_head_remembers_count_although_they_are_silent() {
        let table = table(2);
        for tenant in ["a", "b"] {
            let usage = table.admit(tenant);
            usage.set_series(0, 1);
            usage.note_cut();
            usage.set_series(0, 0);
        }
        forget_all(&table, Duration::ZERO);
        assert_eq!((counts(&table), known_count(&table)), ((2, 2), 0));
        assert!(table.check_room("c").is_err() && !store(&table, "c"));
        assert!(table.check_room("a").is_ok() && store(&table, "a"), "its place is its own");
        assert_eq!((counts(&table), known_count(&table)), ((2, 2), 2), "c was not let go of yet");
        forget_all(&table, Duration::ZERO);
        assert_eq!((counts(&table), known_count(&table)), ((2, 2), 0));
    }

    #[test]
    fn threads_do_not_pass_the_limit_together() {
        let table = table(100);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    (0..100).filter(|number| store(table, &format!("{thread}-{number}"))).count()
                });
            }
        });
        assert_eq!(table.count.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn threads_that_meet_leave_nobody_behind() {
        let table = table(0);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let table = &table;
                scope.spawn(move || {
                    for number in 0..2000u32 {
                        let usage = table.enter(&format!("t-{}", number % 7));
                        if (number + thread) % 5 == 0 {
                            assert!(table.take_place(&usage).is_ok());
                        }
                        table.leave(&usage);
                        drop(usage);
                        table.forget_unused(Duration::ZERO);
                    }
                });
            }
        });
        forget_all(&table, Duration::ZERO);
        assert_eq!((counts(&table), known_count(&table)), ((0, 0), 0));
    }
}
