//! A fold over a window that slides along a series, without looking at the whole window at each step.
//!
//! The window is held as two parts. Of the older part, the fold of every suffix is known, so that samples can leave at
//! its front; of the newer part only the fold of all, to which samples are added. When the older part is used up,
//! the whole window becomes the older part. Each sample is thus taken in twice, however many windows it lies in.

use std::ops::Range;

/// The folds of one window after the other; both ends of the windows only move forward.
pub(super) struct Sliding<'b, T, J> {
    join: J,
    /// The fold from each sample to the end of the older part.
    suffixes: &'b mut Vec<T>,
    /// Where the older part ends and the newer one begins.
    split: usize,
    /// The newer part, up to `taken`.
    newer: Option<T>,
    taken: usize,
}

impl<'b, T: Copy, J: Fn(T, T) -> T> Sliding<'b, T, J> {
    /// Begins before the first sample. `join` makes the fold of two neighbouring runs from those of each, the earlier
    /// one first; it has to be associative.
    pub(super) fn new(suffixes: &'b mut Vec<T>, join: J) -> Sliding<'b, T, J> {
        suffixes.clear();
        Sliding { join, suffixes, split: 0, newer: None, taken: 0 }
    }

    /// The fold of the samples of a window, if there are any.
    #[inline]
    pub(super) fn fold(&mut self, window: Range<usize>, sample: impl Fn(usize) -> T) -> Option<T> {
        if window.start > self.split {
            self.begin_anew(window.clone(), &sample);
        }
        for index in self.taken..window.end {
            let value = sample(index);
            self.newer = Some(self.newer.map_or(value, |newer| (self.join)(newer, value)));
        }
        self.taken = self.taken.max(window.end);
        let older = if window.start < self.split { self.suffixes.get(window.start).copied() } else { None };
        match (older, self.newer) {
            (Some(older), Some(newer)) => Some((self.join)(older, newer)),
            (older, newer) => older.or(newer),
        }
    }

    /// Makes the whole window the older part.
    fn begin_anew(&mut self, window: Range<usize>, sample: impl Fn(usize) -> T) {
        (self.split, self.taken, self.newer) = (window.end, window.end, None);
        let Some(last) = window.clone().next_back() else { return };
        let mut fold = sample(last);
        if self.suffixes.len() < window.end {
            self.suffixes.resize(window.end, fold);
        }
        for (suffix, index) in self.suffixes[window.clone()].iter_mut().zip(window).rev() {
            if index < last {
                fold = (self.join)(sample(index), fold);
            }
            *suffix = fold;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Texts joined in order show every sample that is missing, repeated or out of place.
        #[test]
        fn every_window_holds_exactly_its_samples(moves in proptest::collection::vec((0usize..6, 0usize..6), 1..60)) {
            let ranges: Vec<Range<usize>> = moves
                .iter()
                .scan((0, 0), |(low, high), (low_by, high_by)| {
                    *high += high_by;
                    *low = (*low + low_by).min(*high);
                    Some(*low..*high)
                })
                .collect();
            let mut suffixes = Vec::new();
            let (first, last) = ((usize::MAX, 0), |a: (usize, usize), b: (usize, usize)| {
                assert!(a.1 == b.0, "the runs {a:?} and {b:?} are no neighbours");
                (a.0, b.1)
            });
            suffixes.push(first);
            let mut sliding = Sliding::new(&mut suffixes, last);
            for range in ranges {
                let fold = sliding.fold(range.clone(), |index| (index, index + 1));
                prop_assert_eq!(fold, (!range.is_empty()).then_some((range.start, range.end)));
            }
        }
    }
}
