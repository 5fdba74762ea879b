//! Choices at random, the same for the same seed.

use crate::support::random::Random;

/// A stream of choices.
pub struct Pick(Random);

impl Pick {
    /// The stream of one seed.
    pub fn new(seed: u64) -> Pick {
        Pick(Random::new(seed))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// True in so many cases of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.0.below(100) < percent
    }

    /// One of them.
    pub fn one<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.below(all.len())]
    }
}
