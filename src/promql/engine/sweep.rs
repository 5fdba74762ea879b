//! Range functions that need not look at their whole window at each step: what they need of a series is found in one
//! pass over it, and each step takes its part of that. They are for series of floats; where there are histograms, and for
//! one window alone, the plain functions do the same, and the results are equal to the last bit.

use std::ops::Range;

use super::column::{ABSENT, Column};
use super::control::Control;
use super::range_functions::{is_better, is_change, seconds};
use super::rate::{Margins, Spacing, is_reset, range_seconds};
use super::samples::Samples;
use super::sliding::Sliding;
use super::steps::Steps;
use super::window::{Pace, Reach, ranges};
use crate::promql::value::QueryError;

/// Among so many pairs of samples is first looked whether there is any reset at all, which takes no branch for each.
const RESETS_RUN: usize = 64;

/// A range function that has such a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// `rate`
    Rate,
    /// `increase`
    Increase,
    /// `delta`
    Delta,
    /// `min_over_time`
    Smallest,
    /// `max_over_time`
    Largest,
    /// `ts_of_min_over_time`
    TimeOfSmallest,
    /// `ts_of_max_over_time`
    TimeOfLargest,
    /// `changes`
    Changes,
    /// `resets`
    Resets,
}

/// Buffers that a thread uses again from series to series.
#[derive(Debug, Default)]
pub(super) struct SweepBuffers {
    /// Where a counter began anew, or how many of the events that are counted lie before each sample.
    indexes: Vec<usize>,
    values: Vec<f64>,
    timed_values: Vec<(i64, f64)>,
}

impl Sweep {
    /// That of the function of this name.
    pub(super) fn named(name: &str) -> Option<Sweep> {
        Some(match name {
            "rate" => Sweep::Rate,
            "increase" => Sweep::Increase,
            "delta" => Sweep::Delta,
            "min_over_time" => Sweep::Smallest,
            "max_over_time" => Sweep::Largest,
            "ts_of_min_over_time" => Sweep::TimeOfSmallest,
            "ts_of_max_over_time" => Sweep::TimeOfLargest,
            "changes" => Sweep::Changes,
            "resets" => Sweep::Resets,
            _ => return None,
        })
    }

    /// The value of the function at each step. Only for ranges that are read as they are, without what lies beyond.
    ///
    /// # Errors
    /// When the query should stop.
    pub(super) fn over(
        self,
        samples: &Samples,
        steps: &Steps,
        reach: Reach,
        control: &Control,
        buffers: &mut SweepBuffers,
    ) -> Result<Column, QueryError> {
        let windows = Windows { times: &samples.times, values: &samples.values, steps, reach };
        match self {
            Sweep::Rate => windows.counter(control, &mut buffers.indexes, |change, factor, seconds| {
                change * (factor / seconds)
            }),
            Sweep::Increase => {
                windows.counter(control, &mut buffers.indexes, |change, factor, _| change * factor)
            }
            Sweep::Delta => Ok(windows.gauge()),
            Sweep::Smallest => Ok(windows.extreme(&mut buffers.values, |value, best| value < best)),
            Sweep::Largest => Ok(windows.extreme(&mut buffers.values, |value, best| value > best)),
            Sweep::TimeOfSmallest => {
                Ok(windows.time_of_extreme(&mut buffers.timed_values, |value, best| value <= best))
            }
            Sweep::TimeOfLargest => {
                Ok(windows.time_of_extreme(&mut buffers.timed_values, |value, best| value >= best))
            }
            Sweep::Changes => Ok(windows.count_pairs(&mut buffers.indexes, is_change)),
            Sweep::Resets => Ok(windows.count_pairs(&mut buffers.indexes, is_reset)),
        }
    }
}

/// The samples of a series, and the windows in which they are looked at.
struct Windows<'a> {
    times: &'a [i64],
    values: &'a [f64],
    steps: &'a Steps,
    reach: Reach,
}

impl Windows<'_> {
    /// The results of a function of the samples in a window, of which there is at least one, and of its two ends.
    fn column(&self, mut function: impl FnMut(Range<usize>, (i64, i64)) -> Option<f64>) -> Column {
        let values = ranges(self.times, self.steps, self.reach).map(|(inside, ends_ms)| {
            if inside.is_empty() { ABSENT } else { function(inside, ends_ms).unwrap_or(ABSENT) }
        });
        Column::from_values(values.collect())
    }

    /// `rate` and `increase`, by what `result` makes of the change, its factor, and the window's length in seconds.
    ///
    /// Resets are rare, so they are looked for once, and a window without any needs no more than its first and last
    /// sample.
    fn counter(
        &self,
        control: &Control,
        resets: &mut Vec<usize>,
        result: impl Fn(f64, f64, f64) -> f64,
    ) -> Result<Column, QueryError> {
        find_resets(self.values, resets);
        let (mut margins, mut passed) = (LastMargins::default(), 0);
        // Of what is no counter, every second sample is a reset: then a window costs as much as it has samples.
        let (mut pace, mut stop) = (Pace::new(control), Ok(()));
        let column = self.column(|inside, (start_ms, end_ms)| {
            let (first, last) = (inside.start, inside.end - 1);
            if first == last || stop.is_err() {
                return None;
            }
            let mut change = self.values[last] - self.values[first];
            // What lies between the sample before the window and its first one is not within it.
            while resets.get(passed).is_some_and(|reset| *reset <= first) {
                passed += 1;
            }
            // What a counter had before a reset is part of its increase. Floats are added in the order of the samples.
            for (count, reset) in resets[passed..].iter().take_while(|reset| **reset <= last).enumerate() {
                change += self.values[reset - 1];
                if count == 0 {
                    stop = pace.take(inside.len());
                }
            }
            let spacing =
                Spacing::of((start_ms, end_ms), (self.times[first], self.times[last]), last - first);
            let factor = margins.of(spacing).factor_of_counter(self.values[first], change);
            Some(result(change, factor, range_seconds(end_ms.wrapping_sub(start_ms))))
        });
        stop.map(|()| column)
    }

    /// `delta`
    fn gauge(&self) -> Column {
        let mut margins = LastMargins::default();
        self.column(|inside, ends_ms| {
            let (first, last) = (inside.start, inside.end - 1);
            let spacing = Spacing::of(ends_ms, (self.times[first], self.times[last]), last - first);
            (first != last).then(|| (self.values[last] - self.values[first]) * margins.of(spacing).factor)
        })
    }

    /// The value that no other of its window beats.
    fn extreme(&self, suffixes: &mut Vec<f64>, beats: impl Fn(f64, f64) -> bool) -> Column {
        let join = |best, next| if is_better(next, best, &beats) { next } else { best };
        let mut sliding = Sliding::new(suffixes, join);
        self.column(|inside, _| sliding.fold(inside, |index| self.values[index]))
    }

    /// The time of that value.
    fn time_of_extreme(&self, suffixes: &mut Vec<(i64, f64)>, beats: impl Fn(f64, f64) -> bool) -> Column {
        let join = |best: (i64, f64), next: (i64, f64)| {
            if is_better(next.1, best.1, &beats) { next } else { best }
        };
        let mut sliding = Sliding::new(suffixes, join);
        self.column(|inside, _| {
            let best = sliding.fold(inside, |index| (self.times[index], self.values[index]));
            best.map(|(time_ms, _)| seconds(time_ms))
        })
    }

    /// `changes` and `resets`: of each sample is known how many events there were up to it.
    fn count_pairs(&self, events: &mut Vec<usize>, is_event: impl Fn(f64, f64) -> bool) -> Column {
        events.clear();
        events.push(0);
        events.extend(self.values.windows(2).scan(0, |count, pair| {
            *count += usize::from(is_event(pair[0], pair[1]));
            Some(*count)
        }));
        self.column(|inside, _| Some((events[inside.end - 1] - events[inside.start]) as f64))
    }
}

/// The margins of the last window, which are often those of the next one too.
#[derive(Default)]
struct LastMargins(Option<(Spacing, Margins)>);

impl LastMargins {
    #[inline]
    fn of(&mut self, spacing: Spacing) -> Margins {
        match self.0 {
            Some((last, margins)) if last == spacing => margins,
            _ => {
                let margins = spacing.margins();
                self.0 = Some((spacing, margins));
                margins
            }
        }
    }
}

/// The samples before which a counter began anew.
fn find_resets(values: &[f64], resets: &mut Vec<usize>) {
    resets.clear();
    let mut first = 1;
    for run in values.get(1..).unwrap_or_default().chunks(RESETS_RUN) {
        let before = &values[first - 1..first - 1 + run.len()];
        let pairs = || before.iter().zip(run);
        if pairs().fold(false, |any, (before, after)| any | is_reset(*before, *after)) {
            let found = pairs().enumerate().filter(|(_, (before, after))| is_reset(**before, **after));
            resets.extend(found.map(|(index, _)| first + index));
        }
        first += run.len();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::range_functions::range_function;
    use super::super::window::over_windows;
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 9] = [
        "rate",
        "increase",
        "delta",
        "min_over_time",
        "max_over_time",
        "ts_of_min_over_time",
        "ts_of_max_over_time",
        "changes",
        "resets",
    ];

    /// Counters with few resets, noise, and everything that is odd about floats.
    fn any_values() -> impl Strategy<Value = Vec<f64>> {
        let odd = prop_oneof![
            Just(f64::NAN),
            Just(0.0),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(f64::MAX),
            Just(1e-300),
        ];
        let noise = prop_oneof![4 => -9.0..9.0f64, 2 => (0i32..4).prop_map(f64::from), 1 => odd];
        let rises = prop_oneof![20 => 0.0..3.0f64, 1 => Just(-1.0)];
        let counter = proptest::collection::vec(rises, 0..200).prop_map(|rises| {
            let mut value = 0.25;
            let next = |rise: f64| {
                value = if rise < 0.0 { 0.0 } else { value + rise };
                value
            };
            rises.into_iter().map(next).collect()
        });
        prop_oneof![proptest::collection::vec(noise, 0..200), counter]
    }

    /// All values to the last bit; NaNs are alike.
    fn bits(column: &Column, count: usize) -> Vec<Option<u64>> {
        let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        (0..count).map(|step| column.get(step).map(bits)).collect()
    }

    proptest! {
        #[test]
        fn a_sweep_equals_the_function_of_each_window_to_the_last_bit(
            values in any_values(),
            gaps in proptest::collection::vec(prop_oneof![6 => Just(10i64), 1 => 1i64..60], 200),
            (start_ms, step_ms, count) in (-100i64..2000, 1i64..100, 1usize..60),
            (range_ms, offset_ms, at_ms) in (1i64..900, -50i64..50, proptest::option::of(-50i64..2000)),
        ) {
            let times = gaps.iter().take(values.len()).scan(0, |time_ms, gap| {
                *time_ms += gap;
                Some(*time_ms)
            });
            let samples = Samples { times: times.collect(), values, histograms: Vec::new() };
            let steps = Steps::span(start_ms, start_ms + step_ms * (count as i64 - 1), step_ms).unwrap();
            let reach = Reach { offset_ms, at_ms, range_ms, beyond_ms: (0, 0) };
            let control = Control::new(Duration::from_secs(60));
            let mut buffers = SweepBuffers::default();
            for name in NAMES {
                let plain = range_function(name).unwrap();
                let plain = over_windows(&samples, &steps, reach, &control, |_, window| plain(window, &[])).unwrap();
                let sweep = Sweep::named(name).unwrap();
                let swept = sweep.over(&samples, &steps, reach, &control, &mut buffers).unwrap();
                prop_assert_eq!(bits(&swept, count), bits(&plain, count), "{}", name);
            }
        }
    }

    #[test]
    fn a_series_that_resets_all_the_time_does_not_outlast_its_query() {
        let values = (0..3_000).map(|index| f64::from(index % 2)).collect();
        let samples = Samples { times: (0..3_000).collect(), values, histograms: Vec::new() };
        let steps = Steps::span(3_000, 5_000, 1).unwrap();
        let reach = Reach { offset_ms: 0, at_ms: None, range_ms: 10_000, beyond_ms: (0, 0) };
        let control = Control::new(Duration::from_secs(60));
        control.cancel();
        let swept = Sweep::Rate.over(&samples, &steps, reach, &control, &mut SweepBuffers::default());
        assert!(matches!(swept, Err(QueryError::Canceled)));
    }
}
