//! A set of series as one bit each: unions of thousands of postings cost one pass, and so does an intersection.

/// Series numbers below a fixed bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitSet {
    words: Vec<u64>,
    bound: u32,
}

impl BitSet {
    /// The empty set, for numbers below `bound`.
    pub fn empty(bound: u32) -> BitSet {
        BitSet { words: vec![0; (bound as usize).div_ceil(64)], bound }
    }

    /// Adds numbers; those at or over the bound (series newer than the search) are left out.
    pub fn extend(&mut self, numbers: &[u32]) {
        for number in numbers {
            if *number < self.bound {
                self.words[*number as usize / 64] |= 1 << (number % 64);
            }
        }
    }

    /// Adds a number, whatever the bound; answers whether it is new.
    pub fn insert(&mut self, number: u32) -> bool {
        let word = number as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
            self.bound = self.bound.max(number.saturating_add(1));
        }
        let is_new = self.words[word] & 1 << (number % 64) == 0;
        self.words[word] |= 1 << (number % 64);
        is_new
    }

    /// Whether a number is a member.
    pub fn contains(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// Keeps what is in both.
    pub fn intersect(&mut self, other: &BitSet) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    /// Keeps what is not in the other.
    pub fn subtract(&mut self, other: &BitSet) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// The members, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(index as u32 * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(a in proptest::collection::vec(0u32..300, 0..80), b in proptest::collection::vec(0u32..300, 0..80)) {
            let set = |numbers: &[u32]| {
                let mut set = BitSet::empty(250);
                set.extend(numbers);
                set
            };
            let tree = |numbers: &[u32]| numbers.iter().copied().filter(|n| *n < 250).collect::<BTreeSet<_>>();
            let mut both = set(&a);
            both.intersect(&set(&b));
            prop_assert_eq!(both.iter().collect::<Vec<_>>(), tree(&a).intersection(&tree(&b)).copied().collect::<Vec<_>>());
            let mut rest = set(&a);
            rest.subtract(&set(&b));
            prop_assert_eq!(rest.iter().collect::<Vec<_>>(), tree(&a).difference(&tree(&b)).copied().collect::<Vec<_>>());
        }
    }
}
