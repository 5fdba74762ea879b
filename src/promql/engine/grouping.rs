//! Which labels of a series count: the group of an aggregation, the signature of a binary operator.

use std::collections::HashMap;

use ahash::RandomState;
use annulus_shards::Labels;
use annulus_shards::labels::METRIC_NAME;

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
        Labels::from_sorted(
            labels.iter().filter(|(name, _)| self.names.iter().any(|n| n == name) == self.keep),
        )
    }

    /// The labels chosen of many series.
    pub(super) fn of_all(&self, labels: &[&Labels], workers: &Workers) -> Vec<Labels> {
        workers.map(labels.len(), |index| self.of(labels[index]))
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

    #[test]
    fn by_keeps_and_without_removes() {
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "1"), ("b", "2")]);
        let names = ["a".to_owned(), "missing".to_owned()];
        assert_eq!(LabelChoice::only(&names).of(&labels), Labels::from_pairs([("a", "1")]));
        assert_eq!(LabelChoice::all_but(&names).of(&labels), Labels::from_pairs([("b", "2")]));
        assert_eq!(LabelChoice::only(&[]).of(&labels), Labels::empty());
    }

    #[test]
    fn ordinals_follow_the_first_appearance() {
        let mut ordinals = Ordinals::default();
        let (a, b) = (Labels::from_pairs([("a", "1")]), Labels::empty());
        assert_eq!([ordinals.of(&a), ordinals.of(&b), ordinals.of(&a), ordinals.len()], [0, 1, 0, 2]);
    }
}
