//! Medians and quantiles of a few measurements.

/// Times of several runs, in milliseconds, sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// In whatever order they were measured.
    pub fn new(mut times_ms: Vec<f64>) -> Times {
        times_ms.sort_by(f64::total_cmp);
        Times(times_ms)
    }

    /// How many runs.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one in the middle, or between the two in the middle; 0 of none.
    pub fn median(&self) -> f64 {
        let (times, middle) = (&self.0, self.0.len() / 2);
        match times.len() {
            0 => 0.0,
            count if count % 2 == 1 => times[middle],
            _ => f64::midpoint(times[middle - 1], times[middle]),
        }
    }

    /// The largest; 0 of none.
    pub fn worst(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }

    /// The smallest that `share` of all do not exceed; 0 of none.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or(0.0)
    }

    /// These and those.
    pub fn joined<'a>(all: impl IntoIterator<Item = &'a Times>) -> Times {
        Times::new(all.into_iter().flat_map(|times| &times.0).copied().collect())
    }
}

/// How many times as much as the base; `None` where the base is nothing.
pub fn ratio(value: f64, base: f64) -> Option<f64> {
    (base > 0.0).then(|| value / base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Times::new(vec![9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Times::new(vec![9.0, 1.0, 2.0, 4.0]).median(), 3.0);
        assert_eq!(Times::new(vec![5.0]).worst(), 5.0);
    }

    #[test]
    fn a_quantile_is_a_time_that_was_measured() {
        let times = Times::new((1..=200).rev().map(f64::from).collect());
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| times.quantile(share)), [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(Times::new(vec![3.0]).quantile(0.99), 3.0);
    }

    #[test]
    fn nothing_measured_is_zero_and_has_no_ratio() {
        let none = Times::joined(&[Times::default(), Times::default()]);
        assert_eq!((none.median(), none.worst(), none.quantile(0.5)), (0.0, 0.0, 0.0));
        assert_eq!((ratio(3.0, 2.0), ratio(3.0, 0.0)), (Some(1.5), None));
    }

    #[test]
    fn joined_times_are_sorted_again() {
        let joined = Times::joined(&[Times::new(vec![5.0, 1.0]), Times::new(vec![3.0])]);
        assert_eq!(joined, Times::new(vec![1.0, 3.0, 5.0]));
    }
}
