//! From samples to columns: the latest sample before each step, and the window of samples before each step.

use annulus_shards::is_stale;

use super::column::{ABSENT, Column};
use super::control::Control;
use super::samples::Samples;
use super::steps::Steps;
use crate::promql::value::QueryError;

/// A series may have windows of many samples at many steps: after so many samples the query's control is asked.
const UNCHECKED_SAMPLES_MAX: usize = 1 << 20;

/// Where a selector looks, seen from a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// Positive looks back.
    pub(super) offset_ms: i64,
    /// The time that `@` pins it to, instead of the step's.
    pub(super) at_ms: Option<i64>,
    /// How far back it looks from there; the far end is open.
    pub(super) range_ms: i64,
    /// How far before and after that it reads, to know the values at the ends.
    pub(super) beyond_ms: (i64, i64),
}

impl Reach {
    /// The last time that belongs to a step.
    pub(super) fn end_ms(&self, step_ms: i64) -> i64 {
        self.at_ms.unwrap_or(step_ms).saturating_sub(self.offset_ms)
    }

    /// The open end of a step's range.
    pub(super) fn start_ms(&self, step_ms: i64) -> i64 {
        self.end_ms(step_ms).saturating_sub(self.range_ms)
    }

    /// The time after which samples are read for a step.
    pub(super) fn read_start_ms(&self, step_ms: i64) -> i64 {
        self.start_ms(step_ms).saturating_sub(self.beyond_ms.0)
    }

    /// The last time that is read for a step.
    pub(super) fn read_end_ms(&self, step_ms: i64) -> i64 {
        self.end_ms(step_ms).saturating_add(self.beyond_ms.1)
    }

    /// The first and the last time that any of the steps needs, both inclusive.
    pub(super) fn bounds_ms(&self, steps: &Steps) -> (i64, i64) {
        let first_ms = self.read_start_ms(steps.first_ms()).saturating_add(1);
        (first_ms, self.read_end_ms(steps.last_ms()))
    }
}

/// The samples of one step's range, `(start_ms, end_ms]`, and of what is read beyond it; never empty when a function
/// sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window<'a> {
    /// Times of the samples.
    pub(super) times: &'a [i64],
    /// Their values.
    pub(super) values: &'a [f64],
    /// The open end.
    pub(super) start_ms: i64,
    /// The closed end.
    pub(super) end_ms: i64,
    /// The evaluation time, which differs from `end_ms` by the offset.
    pub(super) step_ms: i64,
}

/// The value of the latest sample in each step's reach; a stale marker ends the series.
pub(super) fn latest_values(samples: &Samples, steps: &Steps, reach: Reach) -> Column {
    latest(samples, steps, reach, |index| samples.values[index])
}

/// The time of that sample, in seconds.
pub(super) fn latest_times(samples: &Samples, steps: &Steps, reach: Reach) -> Column {
    latest(samples, steps, reach, |index| samples.times[index] as f64 / 1000.0)
}

fn latest(samples: &Samples, steps: &Steps, reach: Reach, value: impl Fn(usize) -> f64) -> Column {
    let mut next = 0;
    let values = steps
        .iter()
        .map(|step_ms| {
            let end_ms = reach.end_ms(step_ms);
            while next < samples.len() && samples.times[next] <= end_ms {
                next += 1;
            }
            match next.checked_sub(1) {
                Some(last)
                    if samples.times[last] > end_ms.saturating_sub(reach.range_ms)
                        && !is_stale(samples.values[last]) =>
                {
                    value(last)
                }
                _ => ABSENT,
            }
        })
        .collect();
    Column::from_values(values)
}

/// Calls `function` with the index and the window of each step whose window is not empty. Both ends of the window
/// only move forward, so each sample enters and leaves once.
///
/// # Errors
/// When the query should stop.
pub(super) fn over_windows(
    samples: &Samples,
    steps: &Steps,
    reach: Reach,
    control: &Control,
    function: impl Fn(usize, &Window<'_>) -> Option<f64>,
) -> Result<Column, QueryError> {
    let (mut low, mut high) = (0, 0);
    let mut unchecked = 0;
    let values: Result<Vec<f64>, QueryError> = steps
        .iter()
        .enumerate()
        .map(|(index, step_ms)| {
            let (read_start_ms, read_end_ms) = (reach.read_start_ms(step_ms), reach.read_end_ms(step_ms));
            while high < samples.len() && samples.times[high] <= read_end_ms {
                high += 1;
            }
            while low < high && samples.times[low] <= read_start_ms {
                low += 1;
            }
            if low == high {
                return Ok(ABSENT);
            }
            unchecked += high - low;
            if unchecked > UNCHECKED_SAMPLES_MAX {
                control.check()?;
                unchecked = 0;
            }
            let window = Window {
                times: &samples.times[low..high],
                values: &samples.values[low..high],
                start_ms: reach.start_ms(step_ms),
                end_ms: reach.end_ms(step_ms),
                step_ms,
            };
            Ok(function(index, &window).unwrap_or(ABSENT))
        })
        .collect();
    values.map(Column::from_values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(pairs: &[(i64, f64)]) -> Samples {
        let (times, values) = pairs.iter().copied().unzip();
        Samples { times, values }
    }

    fn all(column: &Column, count: usize) -> Vec<Option<f64>> {
        (0..count).map(|step| column.get(step)).collect()
    }

    fn reach(range_ms: i64) -> Reach {
        Reach { offset_ms: 0, at_ms: None, range_ms, beyond_ms: (0, 0) }
    }

    #[test]
    fn the_far_end_of_the_lookback_is_open() {
        let samples = samples(&[(0, 7.0)]);
        let steps = Steps::span(0, 300_000, 100_000).unwrap();
        let column = latest_values(&samples, &steps, reach(300_000));
        assert_eq!(all(&column, 4), [Some(7.0), Some(7.0), Some(7.0), None]);
    }

    #[test]
    fn a_stale_marker_ends_a_series_until_the_next_sample() {
        let samples = samples(&[(0, 1.0), (10, ABSENT), (30, 2.0)]);
        let column = latest_values(&samples, &Steps::span(0, 30, 10).unwrap(), reach(100));
        assert_eq!(all(&column, 4), [Some(1.0), None, None, Some(2.0)]);
        let column = latest_times(&samples, &Steps::single(35), reach(100));
        assert_eq!(column.get(0), Some(0.03));
    }

    #[test]
    fn at_pins_every_step_to_one_time() {
        let samples = samples(&[(0, 1.0), (10, 2.0), (20, 3.0)]);
        let pinned = Reach { offset_ms: 5, at_ms: Some(15), ..reach(100) };
        let column = latest_values(&samples, &Steps::span(0, 100, 50).unwrap(), pinned);
        assert_eq!(all(&column, 3), [Some(2.0); 3]);
    }

    proptest! {
        /// The two pointers see what a scan of all samples sees.
        #[test]
        fn windows_equal_a_rescan(
            gaps in proptest::collection::vec(1i64..40, 0..60),
            (start_ms, step_ms, count) in (-100i64..1000, 1i64..60, 1usize..40),
            (range_ms, offset_ms, at_ms) in (1i64..200, -50i64..50, proptest::option::of(-50i64..1000)),
            beyond_ms in (0i64..50, 0i64..50),
        ) {
            let mut time_ms = 0;
            let pairs: Vec<_> = gaps.iter().map(|gap| { time_ms += gap; (time_ms, time_ms as f64) }).collect();
            let samples = samples(&pairs);
            let steps = Steps::span(start_ms, start_ms + step_ms * (count as i64 - 1), step_ms).unwrap();
            let reach = Reach { offset_ms, at_ms, range_ms, beyond_ms };
            let fold = |values: &[f64]| values.iter().fold(0.0, |hash, value| hash * 31.0 + value);
            let control = Control::new(std::time::Duration::from_secs(60));
            let got = over_windows(&samples, &steps, reach, &control, |_, window| Some(fold(window.values))).unwrap();
            let latest = latest_values(&samples, &steps, reach);
            for (index, step_ms) in steps.iter().enumerate() {
                let end_ms = at_ms.unwrap_or(step_ms) - offset_ms;
                let within = |(before_ms, after_ms): (i64, i64)| -> Vec<f64> {
                    let range = end_ms - range_ms - before_ms + 1..=end_ms + after_ms;
                    pairs.iter().filter(|(time_ms, _)| range.contains(time_ms)).map(|(_, value)| *value).collect()
                };
                let read = within(beyond_ms);
                prop_assert_eq!(got.get(index), (!read.is_empty()).then(|| fold(&read)));
                prop_assert_eq!(latest.get(index), within((0, 0)).last().copied());
            }
        }
    }
}
