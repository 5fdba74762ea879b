//! `rate` and its family: changes of a counter or gauge over a window.

use super::window::Window;

/// Extrapolation ends at the window's border when the nearest sample is closer to it than this many average
/// intervals; otherwise the series is taken to begin or end half an interval beyond its last sample.
const NEAR_INTERVALS: f64 = 1.1;

/// `rate`: the per-second increase of a counter.
pub(super) fn rate(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    extrapolated(window, true).map(|(change, factor)| change * (factor / window_seconds(window)))
}

/// `increase`: the increase of a counter over the window.
pub(super) fn increase(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    extrapolated(window, true).map(|(change, factor)| change * factor)
}

/// `delta`: the change of a gauge over the window.
pub(super) fn delta(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    extrapolated(window, false).map(|(change, factor)| change * factor)
}

/// `irate`: the per-second increase between the last two samples.
pub(super) fn irate(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let (before, last, seconds) = last_two(window)?;
    // After a reset the counter has grown from zero.
    let change = if is_reset(before, last) { last } else { last - before };
    Some(change / seconds)
}

/// `idelta`: the change between the last two samples.
pub(super) fn idelta(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let (before, last, _) = last_two(window)?;
    Some(last - before)
}

fn last_two(window: &Window<'_>) -> Option<(f64, f64, f64)> {
    let (&[before, last], &[before_ms, last_ms]) =
        (window.values.last_chunk::<2>()?, window.times.last_chunk::<2>()?);
    (last_ms != before_ms).then(|| (before, last, last_ms.wrapping_sub(before_ms) as f64 / 1000.0))
}

/// The window's length as Prometheus computes it: whole seconds and the fraction are added as floats.
pub(super) fn window_seconds(window: &Window<'_>) -> f64 {
    range_seconds(window.end_ms.wrapping_sub(window.start_ms))
}

/// The same of a length in milliseconds.
#[inline]
pub(super) fn range_seconds(range_ms: i64) -> f64 {
    (range_ms / 1000) as f64 + (range_ms % 1000 * 1_000_000) as f64 / 1e9
}

/// The change between the first and the last sample, and the factor that stretches it to the window.
fn extrapolated(window: &Window<'_>, is_counter: bool) -> Option<(f64, f64)> {
    let (times, values) = (window.times, window.values);
    let last = values.len() - 1;
    if last == 0 {
        return None;
    }
    let mut change = values[last] - values[0];
    if is_counter {
        // What a counter had before a reset is part of its increase.
        change = values
            .windows(2)
            .filter(|pair| is_reset(pair[0], pair[1]))
            .fold(change, |sum, pair| sum + pair[0]);
    }
    let counted = is_counter.then_some((values[0], change));
    Some((change, stretch(window, (times[0], times[last]), last, counted)))
}

/// Whether a counter began anew between two samples.
#[inline]
pub(super) fn is_reset(before: f64, after: f64) -> bool {
    after < before
}

/// The factor that stretches a change between the first and the last sample to the window. Of a counter, what it had
/// counted at the first sample and how much since.
pub(super) fn stretch(
    window: &Window<'_>,
    samples_ms: (i64, i64),
    intervals: usize,
    counted: Option<(f64, f64)>,
) -> f64 {
    let margins = Spacing::of((window.start_ms, window.end_ms), samples_ms, intervals).margins();
    counted.map_or(margins.factor, |(first, change)| margins.factor_of_counter(first, change))
}

/// Where the samples of a window lie. Series that are scraped regularly have the same at step after step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spacing {
    before_ms: i64,
    sampled_ms: i64,
    after_ms: i64,
    intervals: usize,
}

impl Spacing {
    /// From the ends of the window, the times of its first and last sample, and the number of intervals between them.
    #[inline]
    pub(super) fn of(
        (start_ms, end_ms): (i64, i64),
        (first_ms, last_ms): (i64, i64),
        intervals: usize,
    ) -> Spacing {
        Spacing {
            before_ms: first_ms.wrapping_sub(start_ms),
            sampled_ms: last_ms.wrapping_sub(first_ms),
            after_ms: end_ms.wrapping_sub(last_ms),
            intervals,
        }
    }

    /// How far the series is taken to reach.
    pub(super) fn margins(self) -> Margins {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let sampled = seconds(self.sampled_ms);
        let (mut to_start, mut to_end) = (seconds(self.before_ms), seconds(self.after_ms));
        let average = sampled / self.intervals as f64;
        let threshold = average * NEAR_INTERVALS;
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        Margins { sampled, to_start, to_end, factor: factor(sampled, to_start, to_end) }
    }
}

/// How far beyond its samples a series is taken to reach within a window, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Margins {
    sampled: f64,
    to_start: f64,
    to_end: f64,
    /// What stretches the change of a gauge to the window.
    pub(super) factor: f64,
}

impl Margins {
    /// The same for a counter, of which is known what it had counted at the first sample and how much since.
    #[inline]
    pub(super) fn factor_of_counter(&self, first: f64, change: f64) -> f64 {
        // A counter that had no less at the first sample than it gained since was zero before the samples' length.
        let is_old = first >= change && self.sampled >= self.to_start;
        if change > 0.0 && first >= 0.0 && !is_old {
            // A counter is never negative: do not extrapolate beyond the time at which it was zero.
            let to_zero = self.sampled * (first / change);
            if to_zero < self.to_start {
                return factor(self.sampled, to_zero, self.to_end);
            }
        }
        self.factor
    }
}

#[inline]
fn factor(sampled: f64, to_start: f64, to_end: f64) -> f64 {
    if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(times: &'a [i64], values: &'a [f64], start_ms: i64, end_ms: i64) -> Window<'a> {
        Window { times, values, histograms: &[], start_ms, end_ms, step_ms: end_ms }
    }

    #[test]
    fn a_steady_counter_is_extrapolated_to_both_borders() {
        // 10 per 10 s, first sample 5 s after the start: 30 over 30 s, stretched to 40 s.
        let window = window(&[5_000, 15_000, 25_000, 35_000], &[100.0, 110.0, 120.0, 130.0], 0, 40_000);
        assert_eq!(increase(&window, &[]), Some(40.0));
        assert_eq!(rate(&window, &[]), Some(1.0));
    }

    #[test]
    fn far_borders_get_half_an_interval() {
        let window = window(&[50_000, 60_000], &[100.0, 110.0], 0, 100_000);
        assert_eq!(delta(&window, &[]), Some(20.0));
    }

    #[test]
    fn a_counter_is_not_extrapolated_below_zero() {
        // Zero 2.5 s before the first sample, though the start is 10 s away.
        let times = [10_000, 20_000, 30_000];
        let window = window(&times, &[5.0, 25.0, 45.0], 0, 30_000);
        assert_eq!(increase(&window, &[]), Some(40.0 * (20.0 + 2.5) / 20.0));
        assert_eq!(delta(&window, &[]), Some(40.0 * (20.0 + 10.0) / 20.0));
    }

    #[test]
    fn resets_add_what_was_counted_before() {
        let window = window(&[0, 10_000, 20_000], &[50.0, 10.0, 20.0], -1, 20_000);
        // 20 - 50 + 50, over a range of one millisecond more than the samples.
        let expected = 20.0 * ((20.0 + 0.001) / 20.0);
        assert_eq!(increase(&window, &[]), Some(expected));
        assert_eq!(irate(&window, &[]), Some(1.0));
        assert_eq!(idelta(&window, &[]), Some(10.0));
    }

    #[test]
    fn one_sample_has_no_rate() {
        let window = window(&[0], &[1.0], -10, 10);
        assert_eq!((rate(&window, &[]), irate(&window, &[]), delta(&window, &[])), (None, None, None));
    }
}
