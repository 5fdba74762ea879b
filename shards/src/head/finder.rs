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
    /// The values are those that the matcher lists, not those of its label.
    looks_up: bool,
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
            looks_up: false,
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
        let name = head.symbols.find(&matcher.name);
        let pairs = name
            .and_then(|name| head.index.tenants.get(&self.tenant)?.names.get(&name))
            .map_or(&[][..], Vec::as_slice);
        let find = |value: &str| {
            let (name, value) = name.zip(head.symbols.find(value))?;
            head.index.find(super::index::Pair { tenant: self.tenant, name, value })
        };
        let mut listed = matcher.listed_values();
        if self.value_at == 0 {
            // What a list names is looked up, if that is what is sought, and less work than a walk.
            let is_sought = rejects == (matcher.op == MatchOp::NotRegex);
            self.looks_up = is_sought && listed.as_ref().is_some_and(|values| values.len() < pairs.len());
        }
        if !self.looks_up {
            listed = None;
        }
        let value_count = listed.as_ref().map_or(pairs.len(), ExactSizeIterator::len);
        if matcher.op == MatchOp::Equal && !rejects {
            // One value, which the index finds without a walk.
            if let Some(pair) = find(&matcher.value) {
                self.current.extend(head.index.postings(pair));
            }
            self.value_at = value_count;
        } else if let Some(values) = listed {
            for pair in values.skip(self.value_at).take(STEP_VALUES).filter_map(find) {
                self.current.extend(head.index.postings(pair));
            }
            self.value_at = value_count.min(self.value_at + STEP_VALUES);
        } else {
            let end = value_count.min(self.value_at + STEP_VALUES);
            for pair in &pairs[self.value_at..end] {
                let value = head.symbols.text(head.index.pair(*pair).value);
                if matcher.matches(value) != rejects {
                    self.current.extend(head.index.postings(*pair));
                }
            }
            self.value_at = end;
        }
        if self.value_at == value_count {
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
            conditions in proptest::collection::vec((0usize..4, "[a-d]", prop_oneof!["[x-z]{0,2}", Just("x.*|zz".to_owned()), Just("x|zz|y".to_owned()), Just("x||zy".to_owned()), Just(".*".to_owned())]), 0..4),
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

    #[test]
    fn listed_values_are_looked_up_and_not_walked_to() {
        let mut head = Head::default();
        let create = |head: &mut Head, number: u32| {
            let value = number.to_string();
            head.create(SeriesKey(number.into()), "t", &[("pod", value.as_str())]).unwrap();
        };
        (0..4000).for_each(|number| create(&mut head, number));
        let list: Vec<String> = (2000..5000).map(|number| number.to_string()).collect();
        for (op, lookups, found) in [(MatchOp::Regex, 3, 2000), (MatchOp::NotRegex, 3, 2000)] {
            let matchers = vec![Matcher::new(op, "pod", list.join("|")).unwrap()];
            let mut finder = Finder::new(&head, "t", matchers).unwrap();
            let mut steps = 1;
            while !finder.step(&head) {
                steps += 1;
            }
            assert_eq!((steps, finder.finish().len()), (lookups, found), "{op:?}");
        }
        // A label that gets more values than the list has while they are walked is walked to its end.
        let mut head = Head::default();
        (0..2000).for_each(|number| create(&mut head, number));
        let list: Vec<String> = (0..2500).map(|number| number.to_string()).collect();
        let matchers = vec![Matcher::new(MatchOp::Regex, "pod", list.join("|")).unwrap()];
        let mut finder = Finder::new(&head, "t", matchers).unwrap();
        assert!(!finder.step(&head));
        (2000..4000).for_each(|number| create(&mut head, number));
        while !finder.step(&head) {}
        assert_eq!(finder.finish().len(), 2000);
    }
}
