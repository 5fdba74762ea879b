//! What a query costs, counted while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a query cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryCosts {
    /// From text to plan, and the reading of the series.
    pub prepare_seconds: f64,
    /// The evaluation.
    pub evaluate_seconds: f64,
    /// Samples that were looked at, once for each step that did.
    pub samples: u64,
    /// The most points that were held at once.
    pub peak_samples: u64,
    /// Time of each step, with its part of `samples`.
    pub samples_by_step: Vec<(i64, u64)>,
}

/// Counts what one query costs. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct CostCounter(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    by_step: bool,
    prepare_ns: AtomicU64,
    evaluate_ns: AtomicU64,
    samples: AtomicU64,
    peak_samples: AtomicU64,
    steps: Mutex<Vec<(i64, u64)>>,
}

impl CostCounter {
    /// A counter that counts each step on its own, which takes time; otherwise samples are counted once, when they are
    /// decoded.
    pub fn by_step() -> CostCounter {
        CostCounter(Arc::new(Counted { by_step: true, ..Counted::default() }))
    }

    /// Whether each step is to be counted on its own.
    pub fn counts_steps(&self) -> bool {
        self.0.by_step
    }

    /// Adds time of the preparation.
    pub fn add_prepare(&self, time: Duration) {
        add(&self.0.prepare_ns, time);
    }

    /// Adds time of the evaluation.
    pub fn add_evaluate(&self, time: Duration) {
        add(&self.0.evaluate_ns, time);
    }

    /// Adds samples.
    pub fn add_samples(&self, samples: u64) {
        self.0.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// Adds the samples of each step of a series.
    pub fn add_steps(&self, counts: impl ExactSizeIterator<Item = (i64, u64)>) {
        let mut steps = self.0.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = 0;
        if steps.len() == counts.len() {
            for ((_, known), (_, count)) in steps.iter_mut().zip(counts) {
                *known += count;
                sum += count;
            }
        } else if steps.is_empty() {
            steps.extend(counts);
            sum = steps.iter().map(|(_, count)| count).sum();
        } else {
            // Inner steps of a subquery belong to no step of the query.
            sum = counts.map(|(_, count)| count).sum();
        }
        self.add_samples(sum);
    }

    /// Says how many points were held.
    pub fn see_peak(&self, points: u64) {
        self.0.peak_samples.fetch_max(points, Ordering::Relaxed);
    }

    /// The sums so far.
    pub fn costs(&self) -> QueryCosts {
        let seconds = |ns: &AtomicU64| Duration::from_nanos(ns.load(Ordering::Relaxed)).as_secs_f64();
        QueryCosts {
            prepare_seconds: seconds(&self.0.prepare_ns),
            evaluate_seconds: seconds(&self.0.evaluate_ns),
            samples: self.0.samples.load(Ordering::Relaxed),
            peak_samples: self.0.peak_samples.load(Ordering::Relaxed),
            samples_by_step: self.0.steps.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn add(sum_ns: &AtomicU64, time: Duration) {
    sum_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_all_series_are_added_up() {
        let counter = CostCounter::by_step();
        counter.add_steps([(0, 1), (10, 2)].into_iter());
        counter.add_steps([(0, 3), (10, 0)].into_iter());
        counter.add_steps([(5, 7)].into_iter());
        counter.see_peak(4);
        counter.see_peak(2);
        let costs = counter.clone().costs();
        assert_eq!((costs.samples, costs.peak_samples), (13, 4));
        assert_eq!(costs.samples_by_step, [(0, 4), (10, 2)]);
    }
}
