//! The native histograms of a group that is summed or averaged, at one step.

use annulus_shards::chunk::ResetHint;

use super::histogram_notes::{Combination, HistogramNote, Notes};
use crate::promql::histogram::{Accumulator, Added, FloatHistogram, HistogramAverage, Incompatible, compact};
use crate::promql::kahan::KahanSum;

/// How histograms are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// Added up.
    Sum,
    /// Averaged.
    Average,
}

enum State {
    Sum(Accumulator<KahanSum>),
    Average(Box<HistogramAverage>),
    /// A float came first: the group has no result, whatever comes.
    Spoiled,
    /// Exponential and custom buckets have met: nothing that comes after counts.
    Incompatible,
}

/// Histograms that are combined.
pub(super) struct HistogramCell {
    state: State,
    has_reset: bool,
    has_no_reset: bool,
}

impl HistogramCell {
    /// A cell that begins with a histogram.
    pub(super) fn new(fold: Fold, first: &FloatHistogram, after_float: bool) -> HistogramCell {
        let state = match fold {
            _ if after_float => State::Spoiled,
            Fold::Sum => State::Sum(Accumulator::new(first)),
            Fold::Average => State::Average(Box::new(HistogramAverage::new(first))),
        };
        let mut cell = HistogramCell { state, has_reset: false, has_no_reset: false };
        cell.take_hint(first.reset_hint);
        cell
    }

    /// Takes a histogram in.
    pub(super) fn add(&mut self, histogram: &FloatHistogram, notes: &mut Notes) {
        let result = match &mut self.state {
            State::Sum(sum) => sum.add(histogram),
            State::Average(average) => average.add(histogram),
            State::Spoiled | State::Incompatible => return,
        };
        self.take_hint(histogram.reset_hint);
        match result {
            Ok(Added { bounds_reconciled: true, .. }) => {
                notes.add(HistogramNote::BoundsReconciled(Combination::Aggregation));
            }
            Ok(_) => {}
            Err(Incompatible) => {
                notes.add(HistogramNote::MixedBuckets);
                self.state = State::Incompatible;
            }
        }
    }

    /// What it costs, in floats with a time.
    pub(super) fn points(&self) -> usize {
        match &self.state {
            State::Sum(sum) => sum.points(),
            State::Average(average) => average.points(),
            State::Spoiled | State::Incompatible => 1,
        }
    }

    /// Whether what comes after it no longer counts.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Incompatible)
    }

    /// The result of a group that has no floats.
    pub(super) fn finish(self, notes: &mut Notes) -> Option<FloatHistogram> {
        let mut result = match self.state {
            State::Sum(sum) => sum.finish(),
            State::Average(average) => average.finish(),
            State::Spoiled | State::Incompatible => return None,
        };
        if self.has_reset && self.has_no_reset {
            notes.add(HistogramNote::HintsCollide(Combination::Aggregation));
        }
        compact(&mut result);
        Some(result)
    }

    fn take_hint(&mut self, hint: ResetHint) {
        self.has_reset |= hint == ResetHint::Yes;
        self.has_no_reset |= hint == ResetHint::No;
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram_range::tests::histogram;
    use super::*;

    fn fold(fold: Fold, histograms: &[FloatHistogram]) -> (Option<FloatHistogram>, Vec<HistogramNote>) {
        let mut notes = Notes::default();
        let mut cell = HistogramCell::new(fold, &histograms[0], false);
        for histogram in &histograms[1..] {
            cell.add(histogram, &mut notes);
        }
        (cell.finish(&mut notes), notes.iter().collect())
    }

    #[test]
    fn groups_are_summed_and_averaged_without_their_empty_buckets() {
        let histograms = [histogram(0, 2.0), histogram(0, -2.0), histogram(0, 0.0)];
        let (sum, notes) = fold(Fold::Sum, &histograms);
        assert_eq!((sum.unwrap().positive.values.len(), notes), (0, vec![]));
        let (mean, _) = fold(Fold::Average, &[histogram(0, 2.0), histogram(1, 4.0)]);
        assert_eq!(mean.map(|mean| (mean.schema, mean.count)), Some((0, 3.0)));
    }

    #[test]
    fn a_group_of_both_kinds_of_buckets_has_no_result() {
        let (sum, notes) = fold(Fold::Sum, &[histogram(0, 2.0), histogram(-53, 4.0), histogram(0, 1.0)]);
        assert_eq!((sum, notes), (None, vec![HistogramNote::MixedBuckets]));
        let mut cell = HistogramCell::new(Fold::Sum, &histogram(0, 2.0), true);
        assert!(!cell.is_closed());
        cell.add(&histogram(-53, 2.0), &mut Notes::default());
        assert_eq!(cell.finish(&mut Notes::default()), None, "a float came first");
    }

    #[test]
    fn a_group_costs_what_its_buckets_cost() {
        let mut cell = HistogramCell::new(Fold::Sum, &histogram(0, 2.0), false);
        let before = cell.points();
        let mut wide = histogram(0, 0.0);
        wide.positive.values = vec![1.0; 100];
        wide.positive.spans[0].length = 100;
        cell.add(&wide, &mut Notes::default());
        assert!(cell.points() >= before + 99, "{} {before}", cell.points());
    }
}
