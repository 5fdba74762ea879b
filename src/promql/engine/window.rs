//! From samples to columns: the latest sample before each step, and the window of samples before each step.

use std::ops::Range;

use annulus_shards::is_stale;

use super::column::{ABSENT, Column};
use super::control::Control;
use super::samples::Samples;
use super::steps::Steps;
use crate::promql::value::{QueryError, SampleValue, SharedHistogram};

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
    #[inline]
    pub(super) fn end_ms(&self, step_ms: i64) -> i64 {
        self.at_ms.unwrap_or(step_ms).saturating_sub(self.offset_ms)
    }

    /// The open end of a step's range.
    #[inline]
    pub(super) fn start_ms(&self, step_ms: i64) -> i64 {
        self.end_ms(step_ms).saturating_sub(self.range_ms)
    }

    /// The time after which samples are read for a step.
    #[inline]
    pub(super) fn read_start_ms(&self, step_ms: i64) -> i64 {
        self.start_ms(step_ms).saturating_sub(self.beyond_ms.0)
    }

    /// The last time that is read for a step.
    #[inline]
    pub(super) fn read_end_ms(&self, step_ms: i64) -> i64 {
        self.end_ms(step_ms).saturating_add(self.beyond_ms.1)
    }

    /// The end of the first step's range, if those of the other steps follow it at the steps' distance and no time comes
    /// near the ends of what can be written: then plain sums do.
    fn plain_first_end_ms(&self, steps: &Steps) -> Option<i64> {
        let count = i64::try_from(steps.count()).ok()?;
        let last_ms = steps.first_ms().checked_add(steps.step_ms().checked_mul(count)?)?;
        let first_end_ms = steps.first_ms().checked_sub(self.offset_ms)?;
        let ends_fit = last_ms.checked_sub(self.offset_ms).is_some();
        let starts_fit = first_end_ms.checked_sub(self.range_ms).is_some();
        (self.at_ms.is_none() && ends_fit && starts_fit).then_some(first_end_ms)
    }

    /// The first and the last time that any of the steps needs, both inclusive.
    pub(super) fn bounds_ms(&self, steps: &Steps) -> (i64, i64) {
        let first_ms = self.read_start_ms(steps.first_ms()).saturating_add(1);
        (first_ms, self.read_end_ms(steps.last_ms()))
    }
}

/// The samples of one step's range, `(start_ms, end_ms]`, and of what is read beyond it. A function of floats never sees
/// it without one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window<'a> {
    /// Times of the floats.
    pub(super) times: &'a [i64],
    /// Their values.
    pub(super) values: &'a [f64],
    /// Times and values of the histograms.
    pub(super) histograms: &'a [(i64, SharedHistogram)],
    /// The open end.
    pub(super) start_ms: i64,
    /// The closed end.
    pub(super) end_ms: i64,
    /// The evaluation time, which differs from `end_ms` by the offset.
    pub(super) step_ms: i64,
}

/// The value of the latest sample in each step's reach; a stale marker ends the series.
pub(super) fn latest_values(samples: &Samples, steps: &Steps, reach: Reach) -> Column {
    if samples.histograms.is_empty() {
        return Column::from_values(latest(samples, steps, reach, |index| samples.values[index]));
    }
    let mut histograms = Vec::new();
    let mut cursor = LatestOfBoth::default();
    let values = steps.iter().enumerate().map(|(step, step_ms)| {
        match cursor.advance(samples, reach.end_ms(step_ms), reach.range_ms) {
            Some((_, SampleValue::Float(value))) => value,
            Some((_, SampleValue::Histogram(histogram))) => {
                histograms.push((step, histogram));
                ABSENT
            }
            None => ABSENT,
        }
    });
    let values = values.collect();
    Column::new(values, histograms)
}

/// The time of that sample, in seconds.
pub(super) fn latest_times(samples: &Samples, steps: &Steps, reach: Reach) -> Column {
    let seconds = |time_ms: i64| time_ms as f64 / 1000.0;
    if samples.histograms.is_empty() {
        return Column::from_values(latest(samples, steps, reach, |index| seconds(samples.times[index])));
    }
    let mut cursor = LatestOfBoth::default();
    let values = steps.iter().map(|step_ms| {
        let found = cursor.advance(samples, reach.end_ms(step_ms), reach.range_ms);
        found.map_or(ABSENT, |(time_ms, _)| seconds(time_ms))
    });
    Column::from_values(values.collect())
}

fn latest(samples: &Samples, steps: &Steps, reach: Reach, value: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut next = 0;
    steps
        .iter()
        .map(|step_ms| {
            let end_ms = reach.end_ms(step_ms);
            while next < samples.times.len() && samples.times[next] <= end_ms {
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
        .collect()
}

/// Finds the latest sample of either kind, from step to step.
#[derive(Default)]
struct LatestOfBoth {
    next_float: usize,
    next_histogram: usize,
}

impl LatestOfBoth {
    fn advance(&mut self, samples: &Samples, end_ms: i64, range_ms: i64) -> Option<(i64, SampleValue)> {
        while samples.times.get(self.next_float).is_some_and(|time_ms| *time_ms <= end_ms) {
            self.next_float += 1;
        }
        while samples.histograms.get(self.next_histogram).is_some_and(|(time_ms, _)| *time_ms <= end_ms) {
            self.next_histogram += 1;
        }
        let is_near = |time_ms: i64| time_ms > end_ms.saturating_sub(range_ms);
        let float = self.next_float.checked_sub(1).map(|last| (samples.times[last], samples.values[last]));
        let histogram = self.next_histogram.checked_sub(1).map(|last| &samples.histograms[last]);
        match (float, histogram) {
            (Some((time_ms, value)), other) if other.is_none_or(|(other_ms, _)| *other_ms < time_ms) => {
                (is_near(time_ms) && !is_stale(value)).then_some((time_ms, SampleValue::Float(value)))
            }
            (_, Some((time_ms, histogram))) => {
                is_near(*time_ms).then(|| (*time_ms, SampleValue::Histogram(histogram.clone())))
            }
            _ => None,
        }
    }
}

/// Calls `function` with the index and the window of each step whose window has floats; of histograms none is looked at.
/// Both ends of the window only move forward, so each sample enters and leaves once.
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
    let mut floats = Ends::default();
    let mut pace = Pace::new(control);
    let mut results = Vec::with_capacity(steps.count());
    for (index, step_ms) in steps.iter().enumerate() {
        let (start_ms, end_ms) = (reach.read_start_ms(step_ms), reach.read_end_ms(step_ms));
        let inside = floats.advance(samples.times.len(), start_ms, end_ms, |index| samples.times[index]);
        if inside.is_empty() {
            results.push(ABSENT);
            continue;
        }
        pace.take(inside.len())?;
        let (times, values) = (&samples.times[inside.clone()], &samples.values[inside]);
        let (start_ms, end_ms) = (reach.start_ms(step_ms), reach.end_ms(step_ms));
        let window = Window { times, values, histograms: &[], start_ms, end_ms, step_ms };
        results.push(function(index, &window).unwrap_or(ABSENT));
    }
    Ok(Column::from_values(results))
}

/// For each step, which samples lie in its range, and the two ends of it; nothing that lies beyond is read.
pub(super) fn ranges<'a>(
    times: &'a [i64],
    steps: &Steps,
    reach: Reach,
) -> impl ExactSizeIterator<Item = (Range<usize>, (i64, i64))> + use<'a> {
    let mut floats = Ends::default();
    let steps = *steps;
    let plain = reach.plain_first_end_ms(&steps);
    (0..steps.count()).map(move |index| {
        let (start_ms, end_ms) = match plain {
            Some(first_ms) => {
                let end_ms = first_ms + index as i64 * steps.step_ms();
                (end_ms - reach.range_ms, end_ms)
            }
            None => {
                let step_ms = steps.time_ms(index);
                (reach.start_ms(step_ms), reach.end_ms(step_ms))
            }
        };
        let inside = floats.advance(times.len(), start_ms, end_ms, |index| times[index]);
        (inside, (start_ms, end_ms))
    })
}

/// The same for series that have histograms: the windows hold both kinds, and results may be of both.
///
/// # Errors
/// When the query should stop, and those of the function.
pub(super) fn over_windows_of_both(
    samples: &Samples,
    steps: &Steps,
    reach: Reach,
    control: &Control,
    mut function: impl FnMut(usize, &Window<'_>) -> Result<Option<SampleValue>, QueryError>,
) -> Result<Column, QueryError> {
    let (mut floats, mut histograms) = (Ends::default(), Ends::default());
    let mut pace = Pace::new(control);
    let mut results = Vec::new();
    let mut values = vec![ABSENT; steps.count()];
    for (index, step_ms) in steps.iter().enumerate() {
        let (start_ms, end_ms) = (reach.read_start_ms(step_ms), reach.read_end_ms(step_ms));
        let floats = floats.advance(samples.times.len(), start_ms, end_ms, |index| samples.times[index]);
        let histograms = histograms
            .advance(samples.histograms.len(), start_ms, end_ms, |index| samples.histograms[index].0);
        if floats.is_empty() && histograms.is_empty() {
            continue;
        }
        pace.take(floats.len() + HISTOGRAM_PACE * histograms.len())?;
        let (times, values_inside) = (&samples.times[floats.clone()], &samples.values[floats]);
        let histograms = &samples.histograms[histograms];
        let (start_ms, end_ms) = (reach.start_ms(step_ms), reach.end_ms(step_ms));
        let window = Window { times, values: values_inside, histograms, start_ms, end_ms, step_ms };
        match function(index, &window)? {
            Some(SampleValue::Float(value)) => values[index] = value,
            Some(SampleValue::Histogram(histogram)) => results.push((index, histogram)),
            None => {}
        }
    }
    Ok(Column::new(values, results))
}

/// The samples of a window, by index; both ends only move forward.
#[derive(Default)]
struct Ends {
    low: usize,
    high: usize,
}

impl Ends {
    #[inline]
    fn advance(
        &mut self,
        count: usize,
        start_ms: i64,
        end_ms: i64,
        time_ms: impl Fn(usize) -> i64,
    ) -> Range<usize> {
        while self.high < count && time_ms(self.high) <= end_ms {
            self.high += 1;
        }
        while self.low < self.high && time_ms(self.low) <= start_ms {
            self.low += 1;
        }
        self.low..self.high
    }
}

/// How many floats a histogram counts for, as to the time that it takes.
const HISTOGRAM_PACE: usize = 64;

/// Asks the query's control now and then.
pub(super) struct Pace<'a> {
    control: &'a Control,
    unchecked: usize,
}

impl<'a> Pace<'a> {
    /// A pace at which that control is asked.
    pub(super) fn new(control: &'a Control) -> Pace<'a> {
        Pace { control, unchecked: 0 }
    }

    /// Goes on by so many samples.
    ///
    /// # Errors
    /// When the query should stop.
    #[inline]
    pub(super) fn take(&mut self, samples: usize) -> Result<(), QueryError> {
        self.unchecked += samples;
        if self.unchecked > UNCHECKED_SAMPLES_MAX {
            self.control.check()?;
            self.unchecked = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::histogram::FloatHistogram;
    use proptest::prelude::*;

    fn samples(pairs: &[(i64, f64)]) -> Samples {
        let (times, values) = pairs.iter().copied().unzip();
        Samples { times, values, histograms: Vec::new() }
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

    #[test]
    fn ranges_at_the_ends_of_time_are_those_of_any_other_time() {
        let steps = |first_ms: i64, step_ms: i64| {
            Steps::span(first_ms, first_ms.saturating_add(step_ms.saturating_mul(3)), step_ms)
        };
        for (first_ms, step_ms, offset_ms, range_ms) in [
            (0, 10, 5, 20),
            (i64::MAX - 15, 10, 0, 20),
            (i64::MIN, 10, 5, 20),
            (i64::MIN + 10, 10, 0, 20),
            (0, i64::MAX / 2, -10, 20),
            (i64::MAX - 50, 10, -45, i64::MAX),
        ] {
            let (steps, reach) = (steps(first_ms, step_ms).unwrap(), Reach { offset_ms, ..reach(range_ms) });
            let found = ranges(&[], &steps, reach).map(|(_, ends_ms)| ends_ms);
            let wanted = steps.iter().map(|step_ms| (reach.start_ms(step_ms), reach.end_ms(step_ms)));
            assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_latest_of_both_kinds_is_found() {
        let histogram = |count| SharedHistogram::new(FloatHistogram { count, ..FloatHistogram::default() });
        let mut samples = samples(&[(0, 1.0), (20, ABSENT), (40, 4.0)]);
        samples.histograms = vec![(10, histogram(10.0)), (30, histogram(30.0))];
        let steps = Steps::span(0, 50, 5).unwrap();
        let column = latest_values(&samples, &steps, reach(12));
        let counts: Vec<_> = column.histograms().map(|(step, one)| (step, one.count)).collect();
        assert_eq!(counts, [(2, 10.0), (3, 10.0), (6, 30.0), (7, 30.0)]);
        assert_eq!(column.present().collect::<Vec<_>>(), [(0, 1.0), (1, 1.0), (8, 4.0), (9, 4.0), (10, 4.0)]);
        let times = latest_times(&samples, &steps, reach(12));
        assert_eq!((times.get(3), times.get(4), times.get(7)), (Some(0.01), None, Some(0.03)));
        let control = Control::new(std::time::Duration::from_secs(60));
        let sizes = over_windows_of_both(&samples, &steps, reach(21), &control, |_, window| {
            Ok(Some(((window.times.len() * 10 + window.histograms.len()) as f64).into()))
        });
        assert_eq!(
            sizes.unwrap().present().map(|(_, size)| size).collect::<Vec<_>>()[..5],
            [10.0, 10.0, 11.0, 11.0, 21.0]
        );
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
