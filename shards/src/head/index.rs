//! From labels to series: label pairs, their postings, and the values of each label name, by tenant.
//!
//! A pair is numbered once per tenant, so that a tenant is a prefix of the pair's key, not an index of its own.

use ahash::RandomState;
use hashbrown::HashTable;
use std::collections::{HashMap, VecDeque};

use super::error::HeadFull;
use super::pages::Pages;

/// Tenant, label name and value as symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The tenant's name.
    pub tenant: u32,
    /// The label's name.
    pub name: u32,
    /// The label's value.
    pub value: u32,
}

/// The pair of a vacant number.
const VACANT: Pair = Pair { tenant: u32::MAX, name: u32::MAX, value: u32::MAX };

/// The series that have a pair, in no order. Most pairs of high cardinality have one.
#[derive(Debug)]
enum Postings {
    One(u32),
    Many(Vec<u32>),
}

impl Postings {
    fn as_slice(&self) -> &[u32] {
        match self {
            Postings::One(series) => std::slice::from_ref(series),
            Postings::Many(series) => series,
        }
    }

    fn push(&mut self, series: u32) {
        match self {
            Postings::One(first) => *self = Postings::Many(vec![*first, series]),
            Postings::Many(all) => all.push(series),
        }
    }
}

/// One tenant's part of the index, and how far its time has come.
#[derive(Debug)]
pub struct TenantIndex {
    /// Every series of the tenant.
    pub series: Vec<u32>,
    /// Pairs by label name.
    pub names: HashMap<u32, Vec<u32>, RandomState>,
    /// A time before which no sample is in memory; `None` without samples.
    pub oldest_ms: Option<i64>,
    /// Time of the newest sample.
    pub newest_ms: Option<i64>,
    /// No sample before it is taken any more: a block of what is before is made, or was.
    pub frozen_ms: i64,
    /// What was before it is in a block, and was dropped.
    pub truncated_ms: i64,
    /// Samples taken since the start.
    pub samples: u64,
    /// Rises whenever the lists of pairs change other than by growing: who walks one begins again.
    pub removals: u64,
    /// It is in the list of those whose number of series has changed.
    is_changed: bool,
    /// It is in the queue of those that may be forgotten.
    is_queued: bool,
}

impl Default for TenantIndex {
    fn default() -> TenantIndex {
        TenantIndex {
            series: Vec::new(),
            names: HashMap::default(),
            oldest_ms: None,
            newest_ms: None,
            frozen_ms: i64::MIN,
            truncated_ms: i64::MIN,
            samples: 0,
            removals: 0,
            is_changed: false,
            is_queued: false,
        }
    }
}

impl TenantIndex {
    /// Notes that there are samples from one time to another.
    pub fn extend(&mut self, oldest_ms: i64, newest_ms: i64) {
        self.oldest_ms = Some(self.oldest_ms.map_or(oldest_ms, |known_ms| known_ms.min(oldest_ms)));
        self.newest_ms = self.newest_ms.max(Some(newest_ms));
    }

    /// Whether samples before some time are not taken any more. Without that, a replay that still knows of a cut would
    /// drop samples that were acknowledged after it was forgotten.
    fn was_cut(&self) -> bool {
        self.frozen_ms > i64::MIN || self.truncated_ms > i64::MIN
    }

    /// Whether nothing is lost with it: it has no series, never had samples, was never cut, and who counts series knows
    /// that there are none.
    fn is_blank(&self) -> bool {
        self.series.is_empty() && !self.is_changed && self.newest_ms.is_none() && !self.was_cut()
    }
}

/// The index of one shard.
#[derive(Default)]
pub struct Index {
    pairs: Pages<Pair>,
    /// By pair; empty slots are pairs that have no series.
    postings: Pages<Option<Postings>>,
    vacant: Vec<u32>,
    /// Vacant numbers that were given out again since an image began; `None` while none is made.
    reused: Option<Vec<u32>>,
    table: HashTable<u32>,
    hasher: RandomState,
    /// By the symbol of the tenant's name.
    pub tenants: HashMap<u32, TenantIndex, RandomState>,
    /// Tenants whose number of series has changed, each once.
    changed: Vec<u32>,
    /// Tenants that had no series, each once: those to look at when some are to be forgotten.
    queued: VecDeque<u32>,
}

impl Index {
    /// The number of a pair, if it is known.
    pub fn find(&self, pair: Pair) -> Option<u32> {
        self.table.find(self.hasher.hash_one(pair), |id| self.pairs[*id] == pair).copied()
    }

    /// The number of a pair, which is added when it is not known; and whether it was.
    pub fn intern(&mut self, pair: Pair, may_reuse: bool) -> Result<(u32, bool), HeadFull> {
        if let Some(id) = self.find(pair) {
            return Ok((id, false));
        }
        let id = match may_reuse.then(|| self.vacant.pop()).flatten() {
            Some(id) => {
                self.pairs[id] = pair;
                self.reused.iter_mut().for_each(|reused| reused.push(id));
                id
            }
            None => {
                let id = u32::try_from(self.pairs.len()).map_err(|_| HeadFull)?;
                self.pairs.push(pair);
                self.postings.push(None);
                id
            }
        };
        self.enter(pair, id);
        Ok((id, true))
    }

    fn enter(&mut self, pair: Pair, id: u32) {
        let (pairs, hasher) = (&self.pairs, &self.hasher);
        self.table.insert_unique(hasher.hash_one(pair), id, |id| hasher.hash_one(pairs[*id]));
        self.tenants.entry(pair.tenant).or_default().names.entry(pair.name).or_default().push(id);
    }

    /// Gives a vacant number to a pair, as a checkpoint has it, unless the pair has that number. Answers whether the pair
    /// has it then, and whether it is new.
    pub fn restore(&mut self, id: u32, pair: Pair) -> (bool, bool) {
        if let Some(known) = self.find(pair) {
            return (known == id, false);
        }
        let Ok(at) = self.vacant.binary_search(&id) else { return (false, false) };
        self.vacant.remove(at);
        self.pairs[id] = pair;
        self.enter(pair, id);
        (true, true)
    }

    /// Sets whether an image is being made, which has to know of numbers that are given out again.
    pub fn set_imaged(&mut self, is_imaged: bool) {
        self.reused = is_imaged.then(Vec::new);
    }

    /// Numbers that were given out again since the image began.
    pub fn reused(&self) -> &[u32] {
        self.reused.as_deref().unwrap_or_default()
    }

    /// Adds a vacant number, as a checkpoint has it.
    pub fn push_vacant(&mut self) -> Result<(), HeadFull> {
        let id = u32::try_from(self.pairs.len()).map_err(|_| HeadFull)?;
        self.pairs.push(VACANT);
        self.postings.push(None);
        self.vacant.push(id);
        Ok(())
    }

    /// Adds a series.
    pub fn add_series(&mut self, tenant: u32, series: u32, pairs: &[u32]) {
        let index = self.tenants.entry(tenant).or_default();
        index.series.push(series);
        if !index.is_changed {
            index.is_changed = true;
            self.changed.push(tenant);
        }
        for pair in pairs {
            match &mut self.postings[*pair] {
                Some(postings) => postings.push(series),
                empty => *empty = Some(Postings::One(series)),
            }
        }
    }

    /// Takes a series out of its tenant's list. The last one comes in its place.
    pub fn remove_series(&mut self, tenant: u32, at: usize) {
        let Some(index) = self.tenants.get_mut(&tenant) else { return };
        index.series.swap_remove(at);
        if !index.is_changed {
            index.is_changed = true;
            self.changed.push(tenant);
        }
        if index.series.is_empty() {
            self.queue_tenant(tenant);
        }
    }

    /// Remembers to look whether a tenant without series may be forgotten.
    pub fn queue_tenant(&mut self, tenant: u32) {
        let Some(index) = self.tenants.get_mut(&tenant) else { return };
        if !std::mem::replace(&mut index.is_queued, true) {
            self.queued.push_back(tenant);
        }
    }

    /// Takes at most `max` tenants whose number of series has changed.
    pub fn take_changed(&mut self, max: usize) -> Vec<u32> {
        let first = self.changed.len().saturating_sub(max);
        let tenants = &mut self.tenants;
        let changed = self.changed.drain(first..).filter_map(|symbol| {
            tenants.get_mut(&symbol)?.is_changed = false;
            Some(symbol)
        });
        changed.collect()
    }

    /// Looks at no more than `max` tenants without series, others at each call, and takes out those of which there is
    /// nothing to remember.
    pub fn take_blank(&mut self, max: usize) -> Vec<u32> {
        let mut blank = Vec::new();
        for _ in 0..max.min(self.queued.len()) {
            let Some(symbol) = self.queued.pop_front() else { break };
            let Some(tenant) = self.tenants.get_mut(&symbol) else { continue };
            if tenant.is_blank() {
                self.tenants.remove(&symbol);
                blank.push(symbol);
            } else if tenant.series.is_empty() && !tenant.was_cut() {
                self.queued.push_back(symbol);
            } else {
                tenant.is_queued = false;
            }
        }
        blank
    }

    /// Looks at series `from..` (from the end down) of a pair's postings, at most `max` of them, and removes those
    /// that do not fulfil a condition. Returns where to go on; 0 is the end.
    pub fn sweep(&mut self, pair: u32, from: usize, max: usize, mut keep: impl FnMut(u32) -> bool) -> usize {
        let Some(postings) = &mut self.postings[pair] else { return 0 };
        let mut at = from.min(postings.as_slice().len());
        let end = at.saturating_sub(max);
        match postings {
            Postings::One(series) => {
                if at > 0 && !keep(*series) {
                    self.postings[pair] = None;
                }
                return 0;
            }
            Postings::Many(all) => {
                while at > end {
                    at -= 1;
                    if !keep(all[at]) {
                        // What comes in its place was looked at, or is new.
                        all.swap_remove(at);
                    }
                }
                if at == 0 {
                    match all.len() {
                        0 => self.postings[pair] = None,
                        1 => self.postings[pair] = Some(Postings::One(all[0])),
                        len if all.capacity() > 2 * len => all.shrink_to(len + len / 4),
                        _ => {}
                    }
                }
            }
        }
        at
    }

    /// Forgets a pair that has no series, except for its place in its name's list: its number is not given out again
    /// before [`Index::vacate_pairs`]. Answers whether it had none.
    pub fn unlink_pair(&mut self, id: u32) -> bool {
        if self.postings[id].is_some() {
            return false;
        }
        let hash = self.hasher.hash_one(self.pairs[id]);
        match self.table.find_entry(hash, |other| *other == id) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Takes pairs that were unlinked out of the list of one name.
    pub fn sweep_names(&mut self, tenant: u32, name: u32, is_dead: impl Fn(u32) -> bool) {
        let Some(tenant) = self.tenants.get_mut(&tenant) else { return };
        let Some(pairs) = tenant.names.get_mut(&name) else { return };
        pairs.retain(|pair| !is_dead(*pair));
        if pairs.is_empty() {
            tenant.names.remove(&name);
        } else if pairs.capacity() > 2 * pairs.len() {
            pairs.shrink_to_fit();
        }
        tenant.removals += 1;
    }

    /// Gives the numbers of pairs that are in no list any more for others to use.
    pub fn vacate_pairs(&mut self, pairs: &[u32]) {
        for pair in pairs {
            self.pairs[*pair] = VACANT;
            self.vacant.push(*pair);
        }
    }

    /// A pair by its number.
    pub fn pair(&self, id: u32) -> Pair {
        self.pairs[id]
    }

    /// Whether a number is vacant.
    pub fn is_vacant(&self, id: u32) -> bool {
        self.pairs[id] == VACANT
    }

    /// How many numbers there are, vacant ones included.
    pub fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// How many series have a pair, at most.
    pub fn postings_len(&self, id: u32) -> usize {
        self.postings(id).len()
    }

    /// The series that have a pair, in no order.
    pub fn postings(&self, id: u32) -> &[u32] {
        self.postings[id].as_ref().map_or(&[], Postings::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_do_not_see_each_others_pairs() {
        let mut index = Index::default();
        let pair = |tenant| Pair { tenant, name: 7, value: 8 };
        let (a, b) = (index.intern(pair(1), true).unwrap().0, index.intern(pair(2), true).unwrap().0);
        assert_ne!(a, b);
        index.add_series(1, 0, &[a]);
        index.add_series(2, 1, &[b]);
        index.add_series(1, 2, &[a]);
        assert_eq!(index.postings(a), [0, 2]);
        assert_eq!(index.postings(b), [1]);
        assert_eq!(index.tenants[&1].series, [0, 2]);
        assert_eq!(index.tenants[&2].names[&7], [b]);
        assert_eq!(index.find(pair(3)), None);
    }

    #[test]
    fn a_sweep_goes_on_where_it_stopped_while_postings_grow() {
        let mut index = Index::default();
        let pair = index.intern(Pair { tenant: 1, name: 2, value: 3 }, true).unwrap().0;
        for series in 0..100 {
            index.add_series(1, series, &[pair]);
        }
        let (mut from, mut steps) = (usize::MAX, 0);
        loop {
            from = index.sweep(pair, from, 30, |series| series % 3 == 0);
            if from == 0 {
                break;
            }
            index.add_series(1, 300 + steps, &[pair]);
            steps += 3;
        }
        let mut left = index.postings(pair).to_vec();
        left.sort_unstable();
        let expected: Vec<u32> = (0..100).filter(|series| series % 3 == 0).chain([300, 303, 306]).collect();
        assert_eq!(left, expected);
        assert!(!index.unlink_pair(pair));
        index.sweep(pair, usize::MAX, 1000, |_| false);
        assert!(index.unlink_pair(pair));
        index.sweep_names(1, 2, |dead| dead == pair);
        index.vacate_pairs(&[pair]);
        assert!(index.tenants[&1].names.is_empty() && index.is_vacant(pair));
        assert_eq!(index.intern(Pair { tenant: 1, name: 2, value: 4 }, true), Ok((pair, true)));
    }
}
