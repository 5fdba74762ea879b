//! Which windows are due. Pure: the caller brings the state of the tenants and the time.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use annulus_shards::head::{TenantState, TimeWindows, window_of};

/// The time, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch, by the system's clock.
    pub wall_ms: i64,
    /// Milliseconds since some moment, by a clock that nobody sets.
    pub uptime_ms: i64,
}

/// A window that is due: what a tenant has in it is to become a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueWindow {
    /// Whose.
    pub tenant: Arc<str>,
    /// Where it begins.
    pub from_ms: i64,
    /// Where it ends; no sample at this time belongs to it.
    pub below_ms: i64,
    /// All windows up to this time are due as well, if they have samples.
    pub settled_ms: i64,
    /// It was frozen before, so that its block may be there already.
    pub is_frozen: bool,
}

impl DueWindow {
    /// Its times.
    pub fn range(&self) -> Range<i64> {
        self.from_ms..self.below_ms
    }
}

/// Remembers what it takes to know that a tenant is idle, and whose turn it is.
#[derive(Debug)]
pub struct CutPolicy {
    windows: TimeWindows,
    seen: HashMap<Arc<str>, Seen>,
    /// The tenant that was served last.
    last: Option<Arc<str>>,
}

/// How many samples a tenant had taken when it was looked at, and since when it is that many.
#[derive(Debug, Clone, Copy)]
struct Seen {
    samples: u64,
    since_ms: i64,
}

impl CutPolicy {
    /// A policy for heads with these windows.
    pub fn new(windows: TimeWindows) -> CutPolicy {
        CutPolicy { windows, seen: HashMap::new(), last: None }
    }

    /// The oldest due window of each tenant that has one, beginning after the tenant that was served last.
    pub fn plan(&mut self, tenants: &[TenantState], now: Now) -> Vec<DueWindow> {
        self.note(tenants, now);
        let mut due: Vec<DueWindow> = tenants.iter().filter_map(|tenant| self.due(tenant, now)).collect();
        due.sort_unstable_by(|a, b| a.tenant.cmp(&b.tenant));
        let next = due.partition_point(|window| Some(&window.tenant) <= self.last.as_ref());
        due.rotate_left(next);
        due
    }

    /// Says that a tenant had its turn.
    pub fn served(&mut self, tenant: &Arc<str>) {
        self.last = Some(Arc::clone(tenant));
    }

    fn note(&mut self, tenants: &[TenantState], now: Now) {
        let seen = tenants.iter().map(|tenant| {
            let before = self.seen.get(&tenant.name).filter(|seen| seen.samples == tenant.samples);
            let since_ms = before.map_or(now.uptime_ms, |seen| seen.since_ms);
            (Arc::clone(&tenant.name), Seen { samples: tenant.samples, since_ms })
        });
        self.seen = seen.collect();
    }

    fn due(&self, tenant: &TenantState, now: Now) -> Option<DueWindow> {
        let block_ms = self.windows.block_ms;
        let (begin_ms, newest_ms) = (tenant.oldest_ms?.max(tenant.truncated_ms), tenant.newest_ms?);
        let window = window_of(begin_ms, block_ms);
        let (from_ms, end_ms) = (window.start.max(tenant.truncated_ms), window.end);
        // A range of blocks that was changed between a freeze and its block: what was frozen stays one block.
        let is_split = from_ms < tenant.frozen_ms && tenant.frozen_ms < end_ms;
        let below_ms = if is_split { tenant.frozen_ms } else { end_ms };
        // Nothing is after the newest sample, and a clock that is wrong must not freeze the years to come.
        let settled_ms =
            window_of(self.settled(tenant, now), block_ms).start.min(window_of(newest_ms, block_ms).end);
        let is_frozen = below_ms <= tenant.frozen_ms;
        // At the end of time a window can be empty.
        let has_samples = begin_ms <= newest_ms && from_ms < below_ms;
        let is_due = has_samples && (is_frozen || below_ms <= settled_ms);
        is_due.then(|| DueWindow {
            tenant: Arc::clone(&tenant.name),
            from_ms,
            below_ms,
            settled_ms: settled_ms.max(below_ms),
            is_frozen,
        })
    }

    /// The time before which no sample is to be expected. A shard takes none that is older than the tenant's newest
    /// by the lag. Of an idle tenant the newest stays where it is, so there the clock counts.
    fn settled(&self, tenant: &TenantState, now: Now) -> i64 {
        let lag_ms = self.windows.lag_ms();
        // As for the shards, a sample counts only up to the clock: one from the future does not end the present.
        let behind = |newest_ms: i64| newest_ms.min(now.wall_ms).saturating_sub(lag_ms);
        let by_samples_ms = tenant.newest_ms.map_or(i64::MIN, behind);
        let is_idle = self
            .seen
            .get(&tenant.name)
            .is_some_and(|seen| now.uptime_ms.saturating_sub(seen.since_ms) >= lag_ms);
        if is_idle { by_samples_ms.max(now.wall_ms.saturating_sub(lag_ms)) } else { by_samples_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_shards::head::Rules;
    use proptest::prelude::*;

    use super::*;

    const WINDOWS: TimeWindows = TimeWindows { block_ms: 100, out_of_order_ms: 30, future_ms: 0 };
    const LAG_MS: i64 = 50;

    fn tenant(name: &str, oldest_ms: i64, newest_ms: i64) -> TenantState {
        TenantState {
            name: Arc::from(name),
            series: 1,
            samples: 2,
            oldest_ms: Some(oldest_ms),
            newest_ms: Some(newest_ms),
            frozen_ms: i64::MIN,
            truncated_ms: i64::MIN,
        }
    }

    fn at(wall_ms: i64, uptime_ms: i64) -> Now {
        Now { wall_ms, uptime_ms }
    }

    fn ranges(due: &[DueWindow]) -> Vec<(&str, i64, i64)> {
        due.iter().map(|window| (&*window.tenant, window.from_ms, window.below_ms)).collect()
    }

    #[test]
    fn a_window_is_due_when_the_newest_sample_is_past_it_by_the_lag() {
        let mut policy = CutPolicy::new(WINDOWS);
        let now = at(1_000_000, 0);
        assert!(policy.plan(&[tenant("a", 110, 200 + LAG_MS - 1)], now).is_empty());
        let due = policy.plan(&[tenant("a", 110, 200 + LAG_MS)], now);
        assert_eq!(ranges(&due), [("a", 100, 200)]);
        assert!(!due[0].is_frozen);
    }

    #[test]
    fn an_idle_tenant_is_cut_by_the_clock() {
        let mut policy = CutPolicy::new(WINDOWS);
        let mut state = tenant("a", 110, 120);
        assert!(policy.plan(&[state.clone()], at(1_000, 0)).is_empty());
        assert!(policy.plan(&[state.clone()], at(1_000, LAG_MS - 1)).is_empty());
        assert!(
            policy.plan(&[state.clone()], at(200 + LAG_MS - 1, LAG_MS)).is_empty(),
            "the clock is behind"
        );
        assert_eq!(ranges(&policy.plan(&[state.clone()], at(200 + LAG_MS, LAG_MS))), [("a", 100, 200)]);
        state.samples += 1;
        assert!(policy.plan(&[state], at(1_000, LAG_MS)).is_empty(), "it is not idle any more");
    }

    #[test]
    fn a_clock_that_is_ahead_settles_nothing_after_the_newest_sample() {
        let mut policy = CutPolicy::new(WINDOWS);
        let state = tenant("a", 110, 320);
        policy.plan(std::slice::from_ref(&state), at(0, 0));
        let due = policy.plan(&[state], at(i64::MAX, LAG_MS));
        assert_eq!(due[0].settled_ms, 400);
    }

    #[test]
    fn what_is_truncated_is_over_and_what_is_frozen_is_due_at_once() {
        let mut policy = CutPolicy::new(WINDOWS);
        let state =
            |frozen_ms, truncated_ms| TenantState { frozen_ms, truncated_ms, ..tenant("a", 110, 310) };
        let mut plan =
            |frozen_ms, truncated_ms| policy.plan(&[state(frozen_ms, truncated_ms)], at(1_000_000, 0));
        assert!(plan(200, 200).is_empty());
        let due = plan(300, 200);
        assert_eq!(ranges(&due), [("a", 200, 300)]);
        assert!(due[0].is_frozen);
        // Cut under another range of blocks.
        assert_eq!(ranges(&plan(250, 130)), [("a", 130, 200)]);
        assert_eq!(ranges(&plan(150, 130)), [("a", 130, 150)]);
        assert_eq!(ranges(&plan(150, 150)), [("a", 150, 200)]);
    }

    #[test]
    fn each_tenant_gets_its_turn() {
        let mut policy = CutPolicy::new(WINDOWS);
        let tenants = ["c", "a", "b"].map(|name| tenant(name, 0, 1_000));
        let mut order = |served: &str| {
            policy.served(&Arc::from(served));
            policy
                .plan(&tenants, at(1_000_000, 0))
                .iter()
                .map(|window| window.tenant.to_string())
                .collect::<String>()
        };
        assert_eq!(["", "a", "bb", "c"].map(&mut order), ["abc", "bca", "cab", "abc"]);
    }

    #[test]
    fn the_ends_of_time_are_no_trap() {
        let mut policy = CutPolicy::new(WINDOWS);
        let now = at(i64::MAX, 0);
        let due = policy.plan(&[tenant("a", i64::MIN, i64::MAX)], now);
        assert_eq!(due[0].from_ms, i64::MIN);
        let mut state = tenant("a", i64::MAX, i64::MAX);
        (state.frozen_ms, state.truncated_ms) = (i64::MAX, i64::MAX);
        assert!(policy.plan(&[state], now).is_empty());
        let none = TenantState { oldest_ms: None, newest_ms: None, ..tenant("a", 0, 0) };
        assert!(policy.plan(&[none], now).is_empty());
    }

    /// What happens to a head.
    #[derive(Debug, Clone)]
    enum Event {
        /// A sample, so far behind or ahead of the newest one.
        Sample { ahead_ms: i64 },
        /// Time passes.
        Pass { pause_ms: i64 },
        /// Due windows are frozen, and cut if so.
        Cut { is_cut: bool },
        /// The process begins anew, maybe with another range of blocks.
        Restart { block_ms: i64 },
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            10 => (-120i64..60).prop_map(|ahead_ms| Event::Sample { ahead_ms }),
            1 => (0i64..3_000).prop_map(|ahead_ms| Event::Sample { ahead_ms }),
            3 => (0i64..90).prop_map(|pause_ms| Event::Pass { pause_ms }),
            3 => any::<bool>().prop_map(|is_cut| Event::Cut { is_cut }),
            1 => prop_oneof![Just(100i64), Just(70), Just(300)].prop_map(|block_ms| Event::Restart { block_ms }),
        ]
    }

    proptest! {
        #[test]
        fn every_sample_ends_up_in_exactly_one_block(
            events in proptest::collection::vec(any_event(), 1..200),
            out_of_order_ms in prop_oneof![Just(0i64), Just(30), Just(200)],
        ) {
            let mut windows = TimeWindows { out_of_order_ms, ..WINDOWS };
            let mut policy = CutPolicy::new(windows);
            let mut state = TenantState { oldest_ms: None, newest_ms: None, samples: 0, ..tenant("a", 0, 0) };
            let (mut head, mut blocks) = (BTreeMap::<i64, u32>::new(), Vec::<Range<i64>>::new());
            let mut now = at(1_000_000, 0);
            for event in events {
                match event {
                    Event::Sample { ahead_ms } => {
                        let time_ms = state.newest_ms.unwrap_or(0) + ahead_ms;
                        let rules = Rules::new(&windows, state.newest_ms, state.frozen_ms, 0);
                        if time_ms < rules.floor_ms {
                            continue;
                        }
                        prop_assert!(
                            blocks.iter().all(|block| !block.contains(&time_ms)), "{} is in a block", time_ms
                        );
                        *head.entry(time_ms).or_default() += 1;
                        state.samples += 1;
                        state.oldest_ms = Some(state.oldest_ms.unwrap_or(time_ms).min(time_ms));
                        state.newest_ms = state.newest_ms.max(Some(time_ms));
                    }
                    Event::Pass { pause_ms } => {
                        now = at(now.wall_ms + pause_ms, now.uptime_ms + pause_ms);
                    }
                    Event::Cut { is_cut } => {
                        for due in policy.plan(std::slice::from_ref(&state), now) {
                            state.frozen_ms = state.frozen_ms.max(due.below_ms);
                            if !is_cut {
                                continue;
                            }
                            let left = head.split_off(&due.below_ms);
                            let cut = std::mem::replace(&mut head, left);
                            prop_assert!(cut.keys().all(|time_ms| due.range().contains(time_ms)));
                            if !cut.is_empty() {
                                blocks.push(due.range());
                            }
                            state.truncated_ms = due.below_ms;
                            // As the shards do: a bound, not the oldest sample.
                            state.oldest_ms = state.oldest_ms.map(|oldest_ms| oldest_ms.max(due.below_ms));
                        }
                    }
                    Event::Restart { block_ms } => {
                        windows.block_ms = block_ms;
                        policy = CutPolicy::new(windows);
                        now.uptime_ms = 0;
                    }
                }
            }
            prop_assert!(blocks.windows(2).all(|pair| pair[0].end <= pair[1].start), "{:?}", blocks);
        }
    }
}
