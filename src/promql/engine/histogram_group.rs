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
