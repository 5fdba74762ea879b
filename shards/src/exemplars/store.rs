//! The exemplars of all tenants of a shard, within one bound on their number and one on their bytes.
//!
//! When a bound is reached, the tenant that has most gives up its oldest: nobody's flood takes another's last ones.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::ring::{Ring, Standing};
use super::{Exemplar, ExemplarReason};
use crate::Labels;
use crate::head::SeriesKey;

/// What an exemplar may take on average, its series' labels included: with large labels fewer are kept.
pub const BYTES_PER_EXEMPLAR: u64 = 512;

/// However few exemplars are kept, a series with the largest labels has room.
const BYTES_MIN: u64 = 1 << 20;

/// How much a store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExemplarLimits {
    /// How many exemplars.
    count_max: usize,
    /// How much memory, about.
    bytes_max: u64,
}

impl ExemplarLimits {
    /// At most so many exemplars; none at all with 0.
    pub fn of_count(count_max: usize) -> ExemplarLimits {
        let bytes_max = (count_max as u64).saturating_mul(BYTES_PER_EXEMPLAR).max(BYTES_MIN);
        ExemplarLimits { count_max, bytes_max }
    }

    /// In no more than so many bytes. With very few, an exemplar of a series with large labels does not stay.
    pub fn within(self, bytes_max: u64) -> ExemplarLimits {
        ExemplarLimits { bytes_max: self.bytes_max.min(bytes_max), ..self }
    }
}

/// What became of an exemplar that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is stored.
    Stored,
    /// It was stored before: a sender's retry, or the same one in the next scrape.
    Repeat,
}

/// An exemplar in the store.
#[derive(Debug, Clone, Copy)]
pub struct StoredExemplar<'a> {
    /// Its number: those of a tenant are numbered in the order in which they came.
    pub number: u64,
    /// The key of its series.
    pub key: SeriesKey,
    /// The labels of its series.
    pub series: &'a Labels,
    /// The exemplar.
    pub exemplar: &'a Exemplar,
}

/// The exemplars of a shard.
#[derive(Debug)]
pub struct ExemplarStore {
    limits: ExemplarLimits,
    rings: HashMap<Arc<str>, Ring, ahash::RandomState>,
    /// The tenants by how many they have.
    by_count: BTreeSet<(usize, Arc<str>)>,
    count: usize,
    series_count: usize,
    size_bytes: u64,
    appended_count: u64,
    /// No exemplar of a tenant that has none has a number from this one on: who reads on from a number misses none.
    next_number: u64,
}

impl ExemplarStore {
    /// An empty store.
    pub fn new(limits: ExemplarLimits) -> ExemplarStore {
        ExemplarStore {
            limits,
            rings: HashMap::default(),
            by_count: BTreeSet::new(),
            count: 0,
            series_count: 0,
            size_bytes: 0,
            appended_count: 0,
            next_number: 0,
        }
    }

    /// Adds the exemplar of a series, whose labels are asked for if the store has none of that series.
    ///
    /// # Errors
    /// When it is not newer than the newest one of its series and not a repeat, or if none is to be kept.
    pub fn append(
        &mut self,
        tenant: &str,
        key: SeriesKey,
        exemplar: Exemplar,
        labels: impl FnOnce() -> Labels,
    ) -> Result<Kept, ExemplarReason> {
        if self.limits.count_max == 0 {
            return Err(ExemplarReason::Disabled);
        }
        match self.rings.get(tenant).map_or(Standing::New, |ring| ring.standing(key, &exemplar)) {
            Standing::New => {}
            Standing::Repeat => return Ok(Kept::Repeat),
            Standing::OutOfOrder => return Err(ExemplarReason::OutOfOrder),
        }
        let tenant = match self.rings.get_key_value(tenant) {
            Some((tenant, _)) => Arc::clone(tenant),
            None => {
                let tenant: Arc<str> = tenant.into();
                self.rings.insert(Arc::clone(&tenant), Ring::new(self.next_number));
                tenant
            }
        };
        self.change(tenant, |ring| ring.push(key, exemplar, labels) as i64);
        self.appended_count += 1;
        while self.count > self.limits.count_max || self.size_bytes > self.limits.bytes_max {
            let Some((_, tenant)) = self.by_count.last() else { break };
            self.change(Arc::clone(tenant), |ring| -(ring.pop() as i64));
        }
        Ok(Kept::Stored)
    }

    /// Changes the ring of a tenant, and keeps the counts; `change` answers by how many bytes it grew.
    fn change(&mut self, tenant: Arc<str>, change: impl FnOnce(&mut Ring) -> i64) {
        let ring = self.rings.get_mut(&tenant).expect("a tenant that is counted has a ring");
        let (count, series_count) = (ring.len(), ring.series_count());
        let grown_bytes = change(ring);
        self.size_bytes = self.size_bytes.saturating_add_signed(grown_bytes);
        self.count = self.count - count + ring.len();
        self.series_count = self.series_count - series_count + ring.series_count();
        self.next_number = self.next_number.max(ring.next_number());
        let now = ring.len();
        self.by_count.remove(&(count, Arc::clone(&tenant)));
        if now == 0 {
            self.rings.remove(&tenant);
        } else {
            self.by_count.insert((now, tenant));
        }
    }

    /// How many exemplars there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there may be.
    pub fn count_max(&self) -> usize {
        self.limits.count_max
    }

    /// How many were ever stored, those of a recovery included.
    pub fn appended_count(&self) -> u64 {
        self.appended_count
    }

    /// How many series have any.
    pub fn series_count(&self) -> usize {
        self.series_count
    }

    /// About how much memory they take.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The tenants that have any, by name.
    pub fn tenants(&self) -> Vec<Arc<str>> {
        let mut tenants: Vec<Arc<str>> = self.rings.keys().cloned().collect();
        tenants.sort_unstable();
        tenants
    }

    /// The exemplars of a tenant from a number on, in the order in which they came. Who goes on from the number after
    /// the last one misses none and sees none twice, whatever comes and goes meanwhile.
    pub fn from(&self, tenant: &str, number: u64) -> impl Iterator<Item = StoredExemplar<'_>> {
        let ring = self.rings.get(tenant);
        let stored = |(number, key, series, exemplar)| StoredExemplar { number, key, series, exemplar };
        ring.into_iter().flat_map(move |ring| ring.from(number)).map(stored)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exemplar(trace: &str, value: f64, timestamp_ms: i64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", trace)]), value, timestamp_ms }
    }

    fn series(number: u8) -> (SeriesKey, Labels) {
        let value = number.to_string();
        (SeriesKey(u128::from(number)), Labels::from_pairs([("__name__", "x"), ("n", value.as_str())]))
    }

    fn append(
        store: &mut ExemplarStore,
        tenant: &str,
        number: u8,
        exemplar: Exemplar,
    ) -> Result<Kept, ExemplarReason> {
        let (key, labels) = series(number);
        store.append(tenant, key, exemplar, || labels)
    }

    fn times(store: &ExemplarStore, tenant: &str) -> Vec<i64> {
        store.from(tenant, 0).map(|stored| stored.exemplar.timestamp_ms).collect()
    }

    #[test]
    fn exemplars_of_a_series_come_in_order_and_repeats_are_none_the_wiser() {
        let mut store = ExemplarStore::new(ExemplarLimits::of_count(10));
        let mut add = |trace, value, ms| append(&mut store, "t", 1, exemplar(trace, value, ms));
        assert_eq!(add("a", 1.0, 10), Ok(Kept::Stored));
        assert_eq!(add("b", f64::NAN, 20), Ok(Kept::Stored));
        assert_eq!(add("b", f64::NAN, 20), Ok(Kept::Repeat));
        assert_eq!(add("c", f64::NAN, 20), Ok(Kept::Stored), "several at one time");
        assert_eq!(add("a", 1.0, 10), Ok(Kept::Repeat), "also not the newest");
        assert_eq!(add("a", 2.0, 10), Err(ExemplarReason::OutOfOrder));
        assert_eq!(add("a", 1.0, 9), Err(ExemplarReason::OutOfOrder));
        assert_eq!(append(&mut store, "t", 2, exemplar("a", 1.0, 9)), Ok(Kept::Stored), "another series");
        assert_eq!(times(&store, "t"), [10, 20, 20, 9]);
    }

    #[test]
    fn the_tenant_with_most_gives_up_its_oldest() {
        let mut store = ExemplarStore::new(ExemplarLimits::of_count(5));
        for ms in 0..2 {
            append(&mut store, "quiet", 1, exemplar("a", 0.0, ms)).unwrap();
        }
        for ms in 0..100 {
            append(&mut store, "loud", (ms % 7) as u8, exemplar("a", 0.0, ms)).unwrap();
        }
        assert_eq!((times(&store, "quiet"), times(&store, "loud")), (vec![0, 1], vec![97, 98, 99]));
        assert_eq!((store.len(), store.series_count()), (5, 4));
        assert_eq!((store.count_max(), store.appended_count()), (5, 102));
    }

    #[test]
    fn large_labels_leave_room_for_fewer() {
        let mut store = ExemplarStore::new(ExemplarLimits::of_count(1000));
        let large = "x".repeat(100 << 10);
        for number in 0..30 {
            let labels = || Labels::from_pairs([("__name__", large.as_str())]);
            store.append("t", SeriesKey(number), exemplar("a", 0.0, 1), labels).unwrap();
            assert!(store.size_bytes() <= BYTES_MIN, "{} bytes", store.size_bytes());
        }
        assert!((5..11).contains(&store.len()), "{} are left", store.len());
    }

    #[test]
    fn with_a_bound_of_none_all_are_refused() {
        let mut store = ExemplarStore::new(ExemplarLimits::of_count(0));
        assert_eq!(append(&mut store, "t", 1, exemplar("a", 1.0, 1)), Err(ExemplarReason::Disabled));
        assert!(store.is_empty() && store.tenants().is_empty());
    }

    #[test]
    fn a_walk_misses_none_when_its_tenant_goes_and_comes_back() {
        let mut store = ExemplarStore::new(ExemplarLimits::of_count(10));
        append(&mut store, "t", 1, exemplar("a", 0.0, 1)).unwrap();
        let next = store.from("t", 0).last().unwrap().number + 1;
        store.change("t".into(), |ring| -(ring.pop() as i64));
        assert!(store.tenants().is_empty());
        append(&mut store, "t", 1, exemplar("a", 0.0, 2)).unwrap();
        let times: Vec<i64> = store.from("t", next).map(|stored| stored.exemplar.timestamp_ms).collect();
        assert_eq!(times, [2]);
    }

    /// What a store should have: all that was stored, in order of arrival.
    #[derive(Default)]
    struct Model(Vec<(u8, u8, Exemplar)>);

    impl Model {
        fn append(&mut self, tenant: u8, series: u8, exemplar: Exemplar) -> Result<Kept, ExemplarReason> {
            let of_series = self.0.iter().filter(|(t, s, _)| (*t, *s) == (tenant, series));
            let mut of_series = of_series.map(|(.., exemplar)| exemplar);
            if of_series.clone().any(|other| *other == exemplar) {
                return Ok(Kept::Repeat);
            }
            if of_series.next_back().is_some_and(|newest| *newest > exemplar) {
                return Err(ExemplarReason::OutOfOrder);
            }
            self.0.push((tenant, series, exemplar));
            Ok(Kept::Stored)
        }

        fn count(&self, tenant: u8) -> usize {
            self.0.iter().filter(|(t, ..)| *t == tenant).count()
        }

        fn shrink(&mut self, count_max: usize) {
            while self.0.len() > count_max {
                let most = (0..3).max_by_key(|tenant| (self.count(*tenant), *tenant)).unwrap();
                let oldest = self.0.iter().position(|(tenant, ..)| *tenant == most).unwrap();
                self.0.remove(oldest);
            }
        }
    }

    proptest! {
        #[test]
        fn a_store_has_what_a_plain_list_has(
            count_max in 1usize..20,
            appends in proptest::collection::vec((0u8..3, 0u8..4, 0i64..12, 0u8..2, 0u8..2), 0..120),
        ) {
            let (mut store, mut model) = (ExemplarStore::new(ExemplarLimits::of_count(count_max)), Model::default());
            for (tenant, number, ms, value, trace) in appends {
                let exemplar = exemplar(&trace.to_string(), f64::from(value), ms);
                let got = append(&mut store, &tenant.to_string(), number, exemplar.clone());
                prop_assert_eq!(got, model.append(tenant, number, exemplar));
                model.shrink(count_max);
            }
            let mut bytes_series = 0;
            for tenant in 0..3u8 {
                let name = tenant.to_string();
                let got: Vec<_> = store.from(&name, 0).map(|s| (s.key, s.series.clone(), s.exemplar.clone())).collect();
                let of_tenant = model.0.iter().filter(|(t, ..)| *t == tenant);
                let expected: Vec<_> = of_tenant.map(|(_, n, e)| { let (key, labels) = series(*n); (key, labels, e.clone()) }).collect();
                let distinct: BTreeSet<_> = got.iter().map(|(key, ..)| *key).collect();
                bytes_series += distinct.len();
                prop_assert_eq!(got, expected);
            }
            prop_assert_eq!((store.len(), store.series_count()), (model.0.len(), bytes_series));
            while let Some((_, tenant)) = store.by_count.last() {
                let tenant = Arc::clone(tenant);
                store.change(tenant, |ring| -(ring.pop() as i64));
            }
            prop_assert_eq!((store.size_bytes(), store.len(), store.series_count()), (0, 0, 0));
        }
    }
}
