//! From the labels of a series that begins to the numbers of its pairs.
//!
//! Series that are new in one request share most of their labels. So each label is first compared with that of the series
//! that was added last: two texts are compared in less time than it takes to find a name, a value and their pair.

use std::cmp::Ordering;
use std::ops::Range;

use super::error::HeadFull;
use super::index::{Pair, TenantIndex};
use super::store::Head;

impl Head {
    /// The numbers of a tenant and of a series' pairs, in the order of the labels, which are sorted by name.
    pub(super) fn intern_pairs(
        &mut self,
        tenant: &str,
        labels: &[(&str, &str)],
    ) -> Result<(u32, Vec<u32>), HeadFull> {
        assert!(!labels.is_empty(), "a series has at least its name");
        let mut model = self.model();
        let model_tenant = model.clone().next().map(|at| self.index.pair(self.series_pairs[at]).tenant);
        let tenant = match model_tenant {
            Some(symbol) if self.symbols.text(symbol) == tenant => symbol,
            _ => {
                model = 0..0;
                self.tenant_symbol(tenant)?
            }
        };
        let mut pairs = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            let id = match self.next_with_name(&mut model, name) {
                Some((id, pair)) if self.symbols.text(pair.value) == *value => id,
                Some((_, pair)) => {
                    let value = self.symbols.intern(value, true)?;
                    self.intern_pair(Pair { value, ..pair }, true)?
                }
                None => {
                    let (name, value) = (self.symbols.intern(name, true)?, self.symbols.intern(value, true)?);
                    self.intern_pair(Pair { tenant, name, value }, true)?
                }
            };
            pairs.push(id);
        }
        Ok((tenant, pairs))
    }

    /// Where the pairs of the series are that was added last, unless it has gone: those of a series that is there are in
    /// the index.
    fn model(&self) -> Range<u32> {
        if self.newest >= self.series_count() {
            return 0..0;
        }
        let series = &self.series[self.newest];
        series.pairs_start..series.pairs_start + u32::from(series.pairs_count)
    }

    /// The model's pair with a name, if it has one. Both have their names in order: what is before it is passed.
    fn next_with_name(&self, model: &mut Range<u32>, name: &str) -> Option<(u32, Pair)> {
        while model.start < model.end {
            let id = self.series_pairs[model.start];
            let pair = self.index.pair(id);
            match self.symbols.text(pair.name).cmp(name) {
                Ordering::Less => model.start += 1,
                Ordering::Equal => return Some((id, pair)),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The number of a pair whose symbols are known; a new one uses its symbols.
    pub(super) fn intern_pair(&mut self, pair: Pair, may_reuse: bool) -> Result<u32, HeadFull> {
        let (id, is_new) = self.index.intern(pair, may_reuse)?;
        if is_new {
            self.use_symbols(pair);
        }
        Ok(id)
    }

    /// Counts the symbols of a new pair as used.
    pub(super) fn use_symbols(&mut self, pair: Pair) {
        for symbol in [pair.tenant, pair.name, pair.value] {
            self.symbols.retain(symbol);
        }
    }

    /// The symbol of a tenant, which is kept when its series have gone: what was cut of it must not be forgotten.
    pub(super) fn tenant_symbol(&mut self, tenant: &str) -> Result<u32, HeadFull> {
        let symbol = self.symbols.intern(tenant, true)?;
        self.add_tenant(symbol);
        Ok(symbol)
    }

    /// Adds a tenant by its symbol, if it is new.
    pub(super) fn add_tenant(&mut self, symbol: u32) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.index.tenants.entry(symbol) {
            entry.insert(TenantIndex::default());
            self.index.queue_tenant(symbol);
            self.symbols.retain(symbol);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::head::SeriesKey;

    proptest! {
        #[test]
        fn what_a_series_shares_with_the_one_before_it_is_found_as_if_it_were_alone(
            sets in proptest::collection::vec(
                ("[ab]", proptest::collection::btree_map("[a-e]", "[a-c]", 1..5)), 1..40
            )
        ) {
            let mut head = Head::default();
            let mut pairs_seen = std::collections::BTreeMap::new();
            for (key, (tenant, set)) in sets.iter().enumerate() {
                let labels: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let series = head.create(SeriesKey(key as u128), tenant, &labels).unwrap();
                prop_assert!(head.labels(series.0).iter().eq(labels.iter().copied()));
                for (pair, label) in head.pairs_of(series.0).zip(set) {
                    prop_assert_eq!(*pairs_seen.entry((tenant, label)).or_insert(pair), pair);
                }
            }
            prop_assert_eq!(head.index.pair_count(), pairs_seen.len());
            prop_assert_eq!(head.audit(), Ok(()));
        }
    }
}
