//! The times at which an expression is evaluated: a start, a step and a count.

/// Evaluation times `start_ms + i · step_ms`; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    start_ms: i64,
    step_ms: i64,
    count: usize,
}

impl Steps {
    /// One time only; the step is nothing.
    pub(super) fn single(time_ms: i64) -> Steps {
        Steps { start_ms: time_ms, step_ms: 0, count: 1 }
    }

    /// The times from `start_ms` to `end_ms`, both inclusive; nothing when the end lies before the start.
    pub(super) fn span(start_ms: i64, end_ms: i64, step_ms: i64) -> Option<Steps> {
        let step_ms = step_ms.max(1);
        let length_ms = i128::from(end_ms) - i128::from(start_ms);
        if length_ms < 0 {
            return None;
        }
        let count = usize::try_from(length_ms / i128::from(step_ms) + 1).unwrap_or(usize::MAX);
        Some(Steps { start_ms, step_ms, count })
    }

    /// The times of a subquery's inner expression: multiples of the inner step in `(first - range, last]`, where
    /// `first` and `last` are the earliest and latest times that the subquery is asked for.
    pub(super) fn inside_subquery(first_ms: i64, last_ms: i64, range_ms: i64, step_ms: i64) -> Option<Steps> {
        let step_ms = step_ms.max(1);
        let open_ms = first_ms.saturating_sub(range_ms);
        let aligned_ms = step_ms.saturating_mul(open_ms / step_ms);
        let start_ms = if aligned_ms <= open_ms { aligned_ms.saturating_add(step_ms) } else { aligned_ms };
        Steps::span(start_ms, last_ms, step_ms)
    }

    /// How many times.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether there is one time only, as in an instant query.
    #[inline]
    pub(super) fn is_single(&self) -> bool {
        self.count == 1
    }

    /// The time of one step.
    #[inline]
    pub(super) fn time_ms(&self, index: usize) -> i64 {
        let offset_ms = self.step_ms.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX));
        self.start_ms.saturating_add(offset_ms)
    }

    /// The distance between two times.
    pub(super) fn step_ms(&self) -> i64 {
        self.step_ms
    }

    /// The first time.
    pub(super) fn first_ms(&self) -> i64 {
        self.start_ms
    }

    /// The last time.
    pub(super) fn last_ms(&self) -> i64 {
        self.time_ms(self.count - 1)
    }

    /// All times in order.
    #[inline]
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = i64> + use<> {
        let steps = *self;
        (0..steps.count).map(move |index| steps.time_ms(index))
    }

    /// The first time alone.
    pub(super) fn first(&self) -> Steps {
        Steps::single(self.start_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_counts_only_when_a_step_meets_it() {
        assert_eq!(Steps::span(0, 30, 10).unwrap().iter().collect::<Vec<_>>(), [0, 10, 20, 30]);
        assert_eq!(Steps::span(5, 30, 10).unwrap().iter().collect::<Vec<_>>(), [5, 15, 25]);
        assert_eq!(Steps::span(5, 4, 10), None);
    }

    #[test]
    fn inner_steps_are_multiples_of_the_step_after_the_open_end() {
        let inner = |first, last, range, step| {
            Steps::inside_subquery(first, last, range, step).map(|s| s.iter().collect::<Vec<_>>())
        };
        assert_eq!(inner(1000, 1000, 30, 10), Some(vec![980, 990, 1000]));
        assert_eq!(inner(1001, 1001, 30, 10), Some(vec![980, 990, 1000]));
        assert_eq!(inner(0, 0, 25, 10), Some(vec![-20, -10, 0]));
        assert_eq!(inner(12, 12, 1, 5), None);
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let steps = Steps::span(i64::MIN, i64::MAX, 1).unwrap();
        assert_eq!((steps.first_ms(), steps.count()), (i64::MIN, usize::MAX));
        assert!(Steps::inside_subquery(i64::MIN, i64::MAX, i64::MAX, 7).is_some());
    }
}
