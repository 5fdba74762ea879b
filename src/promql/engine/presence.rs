//! At which steps the series of each signature have a value: what `and`, `or`, `unless` and `fill` look at.
//!
//! Series come and go, and there may be one signature for each of them, so that only the steps between the first and the
//! last value of a signature cost memory: a bit for each.

use std::ops::Range;

use super::column::Series;
use super::control::Budget;
use crate::promql::value::QueryError;

/// The steps of all signatures.
pub(super) struct Presence {
    signatures: Vec<Extent>,
    bits: Vec<u64>,
}

/// The steps of one signature.
#[derive(Clone)]
struct Extent {
    steps: Range<usize>,
    /// Where its bits begin, in words.
    at: usize,
}

impl Presence {
    /// The steps of series by the numbers of their signatures, of which there are `count`. The bits count as points of the
    /// query.
    pub(super) fn of(
        series: &[Series],
        numbers: &[usize],
        count: usize,
        budget: &Budget,
    ) -> Result<Presence, QueryError> {
        let mut signatures = vec![Extent { steps: 0..0, at: 0 }; count];
        for (one, number) in series.iter().zip(numbers) {
            let steps = &mut signatures[*number].steps;
            let extent = one.column.extent();
            *steps = if Range::is_empty(steps) {
                extent
            } else {
                steps.start.min(extent.start)..steps.end.max(extent.end)
            };
        }
        let mut words = 0;
        for signature in &mut signatures {
            signature.at = words;
            words += signature.steps.len().div_ceil(u64::BITS as usize);
        }
        budget.add(words as u64)?;
        let mut presence = Presence { signatures, bits: vec![0; words] };
        for (one, number) in series.iter().zip(numbers) {
            for step in one.column.present_steps() {
                if let Some((word, bit)) = presence.place(*number, step) {
                    presence.bits[word] |= bit;
                }
            }
        }
        Ok(presence)
    }

    /// Whether a signature has a value at a step.
    #[inline]
    pub(super) fn at(&self, number: usize, step: usize) -> bool {
        self.place(number, step).is_some_and(|(word, bit)| self.bits[word] & bit != 0)
    }

    /// The steps between which the values of a signature lie.
    pub(super) fn extent(&self, number: usize) -> Range<usize> {
        self.signatures[number].steps.clone()
    }

    fn place(&self, number: usize, step: usize) -> Option<(usize, u64)> {
        let Extent { steps, at } = &self.signatures[number];
        let index = step.checked_sub(steps.start).filter(|_| step < steps.end)?;
        Some((at + index / u64::BITS as usize, 1 << (index % u64::BITS as usize)))
    }
}

#[cfg(test)]
mod tests {
    use annulus_shards::Labels;
    use proptest::prelude::*;

    use super::super::column::{ABSENT, Column};
    use super::*;

    fn series(values: &[f64]) -> Series {
        let column = Column::from_values(values.to_vec());
        Series { labels: Labels::empty(), drop_name: false, column }
    }

    #[test]
    fn series_of_short_life_cost_a_word_each() {
        let many: Vec<Series> = (0..100)
            .map(|step| {
                let mut values = vec![ABSENT; 11_001];
                values[step * 110] = 1.0;
                series(&values)
            })
            .collect();
        let numbers: Vec<usize> = (0..100).collect();
        let presence = Presence::of(&many, &numbers, 100, &Budget::new(100)).unwrap();
        assert!(presence.at(7, 770) && !presence.at(7, 771) && !presence.at(8, 770));
        assert_eq!(presence.extent(7), 770..771);
        let error = Presence::of(&many, &numbers, 100, &Budget::new(99)).err().unwrap();
        assert!(matches!(error, QueryError::TooManySamples), "{error}");
    }

    proptest! {
        #[test]
        fn a_step_is_present_where_any_series_has_a_value(
            sets in proptest::collection::vec((0usize..3, proptest::collection::vec(any::<bool>(), 0..200)), 0..8),
        ) {
            let all: Vec<Series> = sets
                .iter()
                .map(|(_, steps)| {
                    series(&steps.iter().map(|is_set| if *is_set { 1.0 } else { ABSENT }).collect::<Vec<_>>())
                })
                .collect();
            let numbers: Vec<usize> = sets.iter().map(|(number, _)| *number).collect();
            let presence = Presence::of(&all, &numbers, 3, &Budget::new(1_000)).unwrap();
            for (number, step) in (0..3).flat_map(|number| (0..201).map(move |step| (number, step))) {
                let expected = sets
                    .iter()
                    .any(|(other, steps)| *other == number && steps.get(step).copied().unwrap_or(false));
                prop_assert_eq!(presence.at(number, step), expected);
                prop_assert!(!expected || presence.extent(number).contains(&step));
            }
        }
    }
}
