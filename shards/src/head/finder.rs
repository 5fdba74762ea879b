//! Finds the series that fulfil a set of matchers, in steps of bounded work, so that a pattern over a million
//! values never stalls the shard.

use super::bitset::BitSet;
use super::store::Head;
use crate::Matcher;
use crate::matcher::MatchOp;

/// Values that one step compares with a pattern: some 100 µs of work.
const STEP_VALUES: usize = 1000;

/// A search in progress. It sees the series that existed when it began.
pub struct Finder {
    tenant: u32,
    matchers: Vec<Matcher>,
    /// Which matcher is worked on, and how many of its label's values were looked at.
    matcher_at: usize,
    value_at: usize,
    bound: u32,
    found: BitSet,
    current: BitSet,
    /// Lists of values are as they were at this count of removals.
    removals: u64,
}

impl Finder {
    /// Begins a search among one tenant's series; `None` when the tenant is unknown.
    pub fn new(head: &Head, tenant: &str, matchers: Vec<Matcher>) -> Option<Finder> {
        let tenant = head.symbols.find(tenant)?;
        let index = head.index.tenants.get(&tenant)?;
        let all = &index.series;
        let bound = head.series_count();
        let mut found = BitSet::empty(bound);
        found.extend(all);
        let current = BitSet::empty(bound);
        Some(Finder {
            tenant,
            matchers,
            matcher_at: 0,
            value_at: 0,
            bound,
            found,
            current,
            removals: index.removals,
        })
    }

    /// Does a bounded amount of work; answers whether the search is done.
    pub fn step(&mut self, head: &Head) -> bool {
        let Some(matcher) = self.matchers.get(self.matcher_at) else { return true };
        let removals = head.index.tenants.get(&self.tenant).map_or(0, |tenant| tenant.removals);
        if self.removals != removals {
            // Positions in the list have shifted: this matcher begins again.
            self.removals = removals;
            self.current = BitSet::empty(self.bound);
            self.value_at = 0;
        }
        // A matcher that accepts an absent label is easier to see as what it rejects.
        let rejects = matcher.matches_empty();
        let pairs = head
            .symbols
            .find(&matcher.name)
            .and_then(|name| head.index.tenants.get(&self.tenant)?.names.get(&name))
            .map_or(&[][..], Vec::as_slice);
        if matcher.op == MatchOp::Equal && !rejects {
            // One value, which the index finds without a walk.
            let value = head.symbols.find(&matcher.value);
            let name = head.symbols.find(&matcher.name);
            let pair = value.zip(name).and_then(|(value, name)| {
                head.index.find(super::index::Pair { tenant: self.tenant, name, value })
            });
            if let Some(pair) = pair {
                self.current.extend(head.index.postings(pair));
            }
            self.value_at = pairs.len();
        } else {
            let end = pairs.len().min(self.value_at + STEP_VALUES);
            for pair in &pairs[self.value_at..end] {
                let value = head.symbols.text(head.index.pair(*pair).value);
                if matcher.matches(value) != rejects {
                    self.current.extend(head.index.postings(*pair));
                }
            }
            self.value_at = end;
        }
        if self.value_at == pairs.len() {
            let current = std::mem::replace(&mut self.current, BitSet::empty(self.bound));
            if rejects {
                self.found.subtract(&current);
            } else {
                self.found.intersect(&current);
            }
            self.matcher_at += 1;
            self.value_at = 0;
        }
        self.matcher_at == self.matchers.len()
    }

    /// The numbers of the series found, rising.
    pub fn finish(self) -> Vec<u32> {
        self.found.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::SeriesKey;
    use proptest::prelude::*;

    fn find(head: &Head, tenant: &str, matchers: &[Matcher]) -> Vec<u32> {
        let Some(mut finder) = Finder::new(head, tenant, matchers.to_vec()) else { return Vec::new() };
        while !finder.step(head) {}
        finder.finish()
    }

    proptest! {
        #[test]
        fn a_search_finds_what_a_scan_finds(
            sets in proptest::collection::vec((0u32..2, proptest::collection::btree_map("[a-c]", "[x-z]{1,2}", 1..3)), 0..40),
            conditions in proptest::collection::vec((0usize..4, "[a-d]", prop_oneof!["[x-z]{0,2}", Just("x.*|zz".to_owned()), Just(".*".to_owned())]), 0..4),
        ) {
            let mut head = Head::default();
            for (number, (tenant, labels)) in sets.iter().enumerate() {
                let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                head.create(SeriesKey(number as u128), &tenant.to_string(), &labels).unwrap();
            }
            let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            let matchers: Vec<_> = conditions.into_iter()
                .map(|(op, name, value)| Matcher::new(ops[op], name, value).unwrap()).collect();
            for tenant in 0..3 {
                let expected: Vec<u32> = sets.iter().enumerate()
                    .filter(|(_, (owner, labels))| *owner == tenant && matchers.iter().all(|matcher| {
                        matcher.matches(labels.get(&matcher.name).map_or("", String::as_str))
                    }))
                    .map(|(number, _)| number as u32)
                    .collect();
                prop_assert_eq!(find(&head, &tenant.to_string(), &matchers), expected);
            }
        }
    }

    #[test]
    fn a_search_over_many_values_takes_many_steps() {
        let mut head = Head::default();
        for number in 0..10_000u32 {
            let value = number.to_string();
            head.create(SeriesKey(number.into()), "t", &[("pod", value.as_str())]).unwrap();
        }
        let matchers = vec![Matcher::new(MatchOp::Regex, "pod", "1.*").unwrap()];
        let mut finder = Finder::new(&head, "t", matchers).unwrap();
        let mut steps = 1;
        while !finder.step(&head) {
            steps += 1;
        }
        assert_eq!(steps, 10);
        assert_eq!(finder.finish().len(), 1111);
    }
}
