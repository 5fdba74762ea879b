//! Compensated summation (Kahan, with Neumaier's improvement), as Prometheus sums floats.

/// A sum and what rounding has lost from it so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KahanSum {
    /// The rounded sum.
    pub(super) sum: f64,
    /// What has to be added to it.
    pub(super) compensation: f64,
}

impl KahanSum {
    /// A sum that starts with a value.
    pub(super) fn new(sum: f64) -> KahanSum {
        KahanSum { sum, compensation: 0.0 }
    }

    /// Adds one value.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// The best estimate of the sum.
    #[inline]
    pub(super) fn total(self) -> f64 {
        self.sum + self.compensation
    }
}

/// An average that sums directly while the sum is finite, and goes on as a running mean when it would overflow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Average {
    /// The sum, or the mean once `incremental`.
    state: KahanSum,
    count: f64,
    incremental: bool,
}

impl Average {
    /// Adds one value.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.state = KahanSum::new(value);
            return;
        }
        if !self.incremental {
            let mut sum = self.state;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.state = sum;
                return;
            }
            self.incremental = true;
            self.state.sum /= self.count - 1.0;
            self.state.compensation /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        self.state.sum *= share;
        self.state.compensation *= share;
        self.state.add(value / self.count);
    }

    /// The average; nothing when no value was added.
    #[inline]
    pub(super) fn mean(self) -> Option<f64> {
        if self.count == 0.0 {
            None
        } else if self.incremental {
            Some(self.state.total())
        } else {
            Some(self.state.sum / self.count + self.state.compensation / self.count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        let mut sum = KahanSum::default();
        for value in [5.0, 1e100, 0.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 5.0);
    }

    #[test]
    fn an_average_of_huge_values_does_not_overflow() {
        let mut average = Average::default();
        for _ in 0..2 {
            average.add(f64::MAX);
        }
        assert_eq!(average.mean(), Some(f64::MAX));
        assert_eq!(Average::default().mean(), None);
    }

    #[test]
    fn an_infinite_value_makes_the_average_infinite() {
        let mut average = Average::default();
        average.add(1.0);
        average.add(f64::INFINITY);
        average.add(2.0);
        assert_eq!(average.mean(), Some(f64::INFINITY));
    }
}
