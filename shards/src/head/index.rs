//! From labels to series: label pairs, their postings, and the values of each label name, by tenant.
//!
//! A pair is numbered once per tenant, so that a tenant is a prefix of the pair's key, not an index of its own.

use ahash::RandomState;
use hashbrown::HashTable;
use std::collections::HashMap;

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

/// The series that have a pair, rising. Most pairs of high cardinality have one.
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

/// One tenant's part of the index.
#[derive(Debug, Default)]
pub struct TenantIndex {
    /// Every series of the tenant, rising.
    pub series: Vec<u32>,
    /// Pairs by label name, in the order in which they were first seen.
    pub names: HashMap<u32, Vec<u32>, RandomState>,
}

/// The index of one shard.
#[derive(Default)]
pub struct Index {
    pairs: Pages<Pair>,
    /// By pair; empty slots are pairs that were loaded from a checkpoint and have no series yet.
    postings: Pages<Option<Postings>>,
    table: HashTable<u32>,
    hasher: RandomState,
    /// By the symbol of the tenant's name.
    pub tenants: HashMap<u32, TenantIndex, RandomState>,
}

impl Index {
    /// The number of a pair, if it is known.
    pub fn find(&self, pair: Pair) -> Option<u32> {
        self.table.find(self.hasher.hash_one(pair), |id| self.pairs[*id] == pair).copied()
    }

    /// The number of a pair, which is added when it is not known.
    pub fn intern(&mut self, pair: Pair) -> Result<u32, HeadFull> {
        if let Some(id) = self.find(pair) {
            return Ok(id);
        }
        let id = u32::try_from(self.pairs.len()).map_err(|_| HeadFull)?;
        self.pairs.push(pair);
        self.postings.push(None);
        let (pairs, hasher) = (&self.pairs, &self.hasher);
        self.table.insert_unique(hasher.hash_one(pair), id, |id| hasher.hash_one(pairs[*id]));
        self.tenants.entry(pair.tenant).or_default().names.entry(pair.name).or_default().push(id);
        Ok(id)
    }

    /// Adds a series, whose number is higher than that of any before.
    pub fn add_series(&mut self, tenant: u32, series: u32, pairs: &[u32]) {
        self.tenants.entry(tenant).or_default().series.push(series);
        for pair in pairs {
            match &mut self.postings[*pair] {
                Some(postings) => postings.push(series),
                empty => *empty = Some(Postings::One(series)),
            }
        }
    }

    /// A pair by its number.
    pub fn pair(&self, id: u32) -> Pair {
        self.pairs[id]
    }

    /// How many pairs there are.
    pub fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// The series that have a pair, rising.
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
        let (a, b) = (index.intern(pair(1)).unwrap(), index.intern(pair(2)).unwrap());
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
}
