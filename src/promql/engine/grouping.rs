//! Which labels of a series count: the group of an aggregation, the signature of a binary operator.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use ahash::RandomState;
use annulus_shards::Labels;
use annulus_shards::labels::METRIC_NAME;
use hashbrown::HashTable;

use super::workers::Workers;

/// A choice of labels.
#[derive(Debug, Clone)]
pub(super) struct LabelChoice {
    names: Vec<String>,
    keep: bool,
}

impl LabelChoice {
    /// `by (…)`, `on (…)`: only the labels named.
    pub(super) fn only(names: &[String]) -> LabelChoice {
        LabelChoice { names: names.to_vec(), keep: true }
    }

    /// `without (…)`, `ignoring (…)`: all but the labels named and the metric's name.
    pub(super) fn all_but(names: &[String]) -> LabelChoice {
        let mut names = names.to_vec();
        names.push(METRIC_NAME.to_owned());
        LabelChoice { names, keep: false }
    }

    /// The labels chosen.
    pub(super) fn of(&self, labels: &Labels) -> Labels {
        if self.keep && self.names.is_empty() {
            return Labels::empty();
        }
        Labels::from_sorted(self.chosen(labels))
    }

    /// Numbers the series by their chosen labels, without making a label set of those.
    pub(super) fn number(&self, labels: &[&Labels], workers: &Workers) -> Numbering {
        if self.keep && self.names.is_empty() {
            return Numbering { numbers: vec![0; labels.len()], count: labels.len().min(1) };
        }
        let state = RandomState::new();
        let hashes = workers.map(labels.len(), |index| {
            let mut hasher = state.build_hasher();
            self.chosen(labels[index]).for_each(|label| label.hash(&mut hasher));
            hasher.finish()
        });
        let (numbering, firsts) = Numbering::of_equal(&hashes);
        let is_like_first = |index: usize| {
            let first = firsts[numbering.numbers[index]];
            first == index || self.chosen(labels[first]).eq(self.chosen(labels[index]))
        };
        if workers.map(labels.len(), is_like_first).contains(&false) {
            // Two label sets share a hash.
            let mut ordinals = Ordinals::default();
            let numbers = labels.iter().map(|labels| ordinals.of(&self.of(labels))).collect();
            return Numbering { numbers, count: ordinals.len() };
        }
        numbering
    }

    /// The labels chosen, as pairs. Label sets are walked no further than to the last one that is named.
    fn chosen<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
        let most = if self.keep { self.names.len() } else { usize::MAX };
        let is_named = |name: &str| self.names.iter().any(|other| other == name);
        labels.iter().filter(move |(name, _)| is_named(name) == self.keep).take(most)
    }
}

/// The numbers of series; equal ones have the same label set after a choice. They follow its first appearance.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    /// The number of each series.
    pub(super) numbers: Vec<usize>,
    /// How many numbers there are.
    pub(super) count: usize,
}

impl Numbering {
    /// Equal hashes get the same number; also where each number appeared first.
    fn of_equal(hashes: &[u64]) -> (Numbering, Vec<usize>) {
        let mut firsts: Vec<usize> = Vec::new();
        let mut table: HashTable<usize> = HashTable::new();
        let mut numbers = Vec::with_capacity(hashes.len());
        for (index, hash) in hashes.iter().enumerate() {
            let number = match table.find(*hash, |number| hashes[firsts[*number]] == *hash) {
                Some(number) => *number,
                None => {
                    let number = firsts.len();
                    firsts.push(index);
                    table.insert_unique(*hash, number, |number| hashes[firsts[*number]]);
                    number
                }
            };
            numbers.push(number);
        }
        let count = firsts.len();
        (Numbering { numbers, count }, firsts)
    }
}

/// Numbers label sets in the order in which they appear.
#[derive(Debug, Default)]
pub(super) struct Ordinals {
    numbers: HashMap<Labels, usize, RandomState>,
}

impl Ordinals {
    /// The number of a label set, a new one if it was not seen before.
    pub(super) fn of(&mut self, labels: &Labels) -> usize {
        let next = self.numbers.len();
        match self.numbers.get(labels) {
            Some(number) => *number,
            None => *self.numbers.entry(labels.clone()).or_insert(next),
        }
    }

    /// How many label sets.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_keeps_and_without_removes() {
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "1"), ("b", "2")]);
        let names = ["a".to_owned(), "missing".to_owned()];
        assert_eq!(LabelChoice::only(&names).of(&labels), Labels::from_pairs([("a", "1")]));
        assert_eq!(LabelChoice::all_but(&names).of(&labels), Labels::from_pairs([("b", "2")]));
        assert_eq!(LabelChoice::only(&[]).of(&labels), Labels::empty());
    }

    proptest! {
        /// Names and values are few, so that many label sets agree in what is chosen.
        #[test]
        fn series_have_the_same_number_when_their_chosen_labels_are_equal(
            sets in proptest::collection::vec(proptest::collection::btree_map("[abc]", "[xy]{1,2}", 0..4), 0..40),
            names in proptest::collection::vec("[abcd]", 0..3),
            keep in any::<bool>(),
        ) {
            let sets: Vec<Labels> = sets
                .iter()
                .map(|set| Labels::from_pairs(set.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
                .collect();
            let choice = if keep { LabelChoice::only(&names) } else { LabelChoice::all_but(&names) };
            let mut ordinals = Ordinals::default();
            let numbers: Vec<usize> = sets.iter().map(|labels| ordinals.of(&choice.of(labels))).collect();
            let labels: Vec<&Labels> = sets.iter().collect();
            prop_assert_eq!(
                choice.number(&labels, &Workers::new(2)),
                Numbering { numbers, count: ordinals.len() }
            );
        }
    }

    #[test]
    fn ordinals_follow_the_first_appearance() {
        let mut ordinals = Ordinals::default();
        let (a, b) = (Labels::from_pairs([("a", "1")]), Labels::empty());
        assert_eq!([ordinals.of(&a), ordinals.of(&b), ordinals.of(&a), ordinals.len()], [0, 1, 0, 2]);
    }
}
