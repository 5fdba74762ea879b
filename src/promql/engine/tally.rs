//! How many samples a query looks at, for its statistics.

use super::column::Column;
use super::eval::Evaluator;
use super::samples::Samples;
use super::steps::Steps;
use super::window::Reach;

impl Evaluator<'_> {
    /// Counts what an instant selector took of a series: a sample for each step that has a value.
    pub(super) fn tally_latest(&self, samples: &Samples, column: &Column, steps: &Steps) {
        let Some(costs) = self.costs else { return };
        if costs.counts_steps() {
            let times: Vec<i64> = steps.iter().collect();
            let count = |(step, time_ms)| (time_ms, u64::from(column.get(step).is_some()));
            costs.add_steps(times.into_iter().enumerate().map(count));
        } else {
            costs.add_samples(samples.points() as u64);
        }
    }

    /// Counts what a range function took of a series: for each step, the samples in its window.
    pub(super) fn tally_windows(&self, samples: &Samples, steps: &Steps, reach: Reach) {
        let Some(costs) = self.costs else { return };
        if !costs.counts_steps() {
            return costs.add_samples(samples.points() as u64);
        }
        let before = |time_ms: i64| {
            samples.times.partition_point(|sample_ms| *sample_ms <= time_ms)
                + samples.histograms.partition_point(|(sample_ms, _)| *sample_ms <= time_ms)
        };
        let count = |step_ms: i64| {
            let end_ms = reach.end_ms(step_ms);
            (step_ms, (before(end_ms) - before(end_ms.saturating_sub(reach.range_ms))) as u64)
        };
        let counts: Vec<(i64, u64)> = steps.iter().map(count).collect();
        costs.add_steps(counts.into_iter());
    }
}
