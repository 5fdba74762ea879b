//! The average of histograms.

use super::accumulator::{Accumulator, Added, Incompatible};
use super::{FloatHistogram, divide};
use crate::promql::kahan::KahanSum;

/// An average that sums up while no number overflows, and goes on as a running mean then.
#[derive(Debug, Clone)]
pub struct HistogramAverage {
    /// The sum, or the mean once `is_mean`.
    state: Accumulator<KahanSum>,
    count: f64,
    is_mean: bool,
}

impl HistogramAverage {
    /// The average of one histogram.
    pub fn new(first: &FloatHistogram) -> HistogramAverage {
        HistogramAverage { state: Accumulator::new(first), count: 1.0, is_mean: false }
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// When the kinds of buckets differ.
    pub fn add(&mut self, histogram: &FloatHistogram) -> Result<Added, Incompatible> {
        self.count += 1.0;
        if !self.is_mean {
            let mut sum = self.state.clone();
            let added = sum.add(histogram)?;
            if !sum.has_overflow() {
                self.state = sum;
                return Ok(added);
            }
            self.is_mean = true;
            self.state.divide(self.count - 1.0);
        }
        self.state.scale((self.count - 1.0) / self.count);
        let mut part = histogram.clone();
        divide(&mut part, self.count);
        self.state.add(&part)
    }

    /// What it costs, in floats with a time.
    pub fn points(&self) -> usize {
        self.state.points()
    }

    /// The average; buckets without observations are still there.
    pub fn finish(mut self) -> FloatHistogram {
        if !self.is_mean {
            self.state.divide(self.count);
        }
        self.state.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::properties::histogram;
    use super::*;

    #[test]
    fn an_average_of_huge_counts_does_not_overflow() {
        let huge = histogram(0, &[(0, f64::MAX)]);
        let mut average = HistogramAverage::new(&huge);
        average.add(&huge).unwrap();
        let mean = average.finish();
        assert_eq!((mean.count, mean.positive.values[0]), (f64::MAX, f64::MAX));
    }

    #[test]
    fn an_average_is_the_sum_over_the_number() {
        let mut average = HistogramAverage::new(&histogram(0, &[(0, 1.0), (1, 2.0)]));
        average.add(&histogram(0, &[(1, 4.0), (2, 6.0)])).unwrap();
        let mean = average.finish();
        assert_eq!((mean.count, mean.positive.values), (6.5, vec![0.5, 3.0, 3.0]));
    }
}
