//! `anchored` and `smoothed`: what a selector takes for the value at the borders of its window, or at its time.
//!
//! A window of such a selector has samples beyond its borders, as far as the lookback reaches: before the start, and
//! for `smoothed` after the end too.

use super::range_functions::{RangeFunction, range_function};
use super::rate::window_seconds;
use super::window::Window;
use crate::promql::ast::Borders;
use crate::promql::value::QueryError;

/// Functions of an `anchored` range.
const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];

/// Functions of a `smoothed` range.
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

/// The function of that name over windows with such borders.
///
/// # Errors
/// When it has none, in Prometheus' words.
pub(super) fn bordered_function(name: &str, borders: Borders) -> Result<Option<RangeFunction>, QueryError> {
    let (word, names) = match borders {
        Borders::Inside => return Ok(range_function(name)),
        Borders::Anchored => ("anchored", ANCHORED.as_slice()),
        Borders::Smoothed => ("smoothed", SMOOTHED.as_slice()),
    };
    if !names.contains(&name) {
        let names = names.join(", ");
        let text = format!("{word} modifier can only be used with: {names} - not with {name}");
        return Err(QueryError::Execution(text));
    }
    Ok(match (name, borders) {
        ("rate", Borders::Anchored) => Some(|window, _| per_second(window, change::<false, true>(window)?)),
        ("increase", Borders::Anchored) => Some(|window, _| change::<false, true>(window)),
        ("delta", Borders::Anchored) => Some(|window, _| change::<false, false>(window)),
        ("changes", _) => Some(|window, args| range_function("changes")?(&from_anchor(window)?, args)),
        ("resets", _) => Some(|window, args| range_function("resets")?(&from_anchor(window)?, args)),
        ("rate", _) => Some(|window, _| per_second(window, change::<true, true>(window)?)),
        ("increase", _) => Some(|window, _| change::<true, true>(window)),
        ("delta", _) => Some(|window, _| change::<true, false>(window)),
        _ => None,
    })
}

fn per_second(window: &Window<'_>, change: f64) -> Option<f64> {
    Some(change / window_seconds(window))
}

/// A window, with the samples that its borders are made from.
#[derive(Debug, Clone, Copy)]
struct Bordered<'a> {
    window: &'a Window<'a>,
    first: usize,
    last: usize,
    smoothed: bool,
}

impl<'a> Bordered<'a> {
    /// Nothing, if no sample says anything about the window.
    fn of(window: &'a Window<'a>, smoothed: bool) -> Option<Bordered<'a>> {
        let (first, last) = bordering(window.times, |time_ms| *time_ms, window, smoothed)?;
        Some(Bordered { window, first, last, smoothed })
    }

    /// The value at the start of the window.
    fn left(&self, is_counter: bool) -> f64 {
        let Window { times, values, start_ms, .. } = self.window;
        if self.smoothed && times[self.first] < *start_ms {
            return self.interpolate(self.first, *start_ms, is_counter);
        }
        values[self.first]
    }

    /// The value at its end.
    fn right(&self, is_counter: bool) -> f64 {
        let Window { times, values, end_ms, .. } = self.window;
        if self.smoothed && self.last > 0 && times[self.last] > *end_ms {
            return self.interpolate(self.last - 1, *end_ms, is_counter);
        }
        values[self.last]
    }

    fn interpolate(&self, index: usize, time_ms: i64, is_counter: bool) -> f64 {
        let Window { times, values, .. } = self.window;
        let before = (times[index], values[index]);
        interpolate(before, (times[index + 1], values[index + 1]), time_ms, is_counter)
    }

    /// Times and values of the samples between the borders.
    fn inside(&self) -> (&'a [i64], &'a [f64]) {
        let Window { times, values, start_ms, end_ms, .. } = self.window;
        let first = self.first + usize::from(times[self.first] <= *start_ms);
        let end = self.last + usize::from(times[self.last] < *end_ms);
        let inside = first..end.max(first);
        (&times[inside.clone()], &values[inside])
    }
}

/// The indexes of the samples that the borders of a window are made from: the last one at or before its start, if
/// there is one, and its last one, or, if it is `smoothed`, the first one at or after its end. Nothing, if no sample
/// says anything about the window.
pub(super) fn bordering<T>(
    samples: &[T],
    time_ms: impl Fn(&T) -> i64,
    window: &Window<'_>,
    smoothed: bool,
) -> Option<(usize, usize)> {
    let mut last = samples.len().checked_sub(1)?;
    let first = samples[..last].partition_point(|one| time_ms(one) <= window.start_ms).saturating_sub(1);
    if smoothed {
        last = samples[..last].partition_point(|one| time_ms(one) < window.end_ms);
    }
    let is_before = time_ms(&samples[last]) <= window.start_ms;
    let is_after = smoothed && time_ms(&samples[first]) > window.end_ms;
    (!is_before && !is_after).then_some((first, last))
}

/// The value at a time between two samples. A counter that was reset between them grew from zero.
fn interpolate(before: (i64, f64), after: (i64, f64), time_ms: i64, is_counter: bool) -> f64 {
    let start = if is_counter && after.1 < before.1 { 0.0 } else { before.1 };
    let (passed, between) = (time_ms.wrapping_sub(before.0) as f64, after.0.wrapping_sub(before.0) as f64);
    start + (after.1 - start) * passed / between
}

/// The change from one border to the other; of a counter, with what it lost in resets between them.
fn change<const SMOOTHED: bool, const COUNTER: bool>(window: &Window<'_>) -> Option<f64> {
    let bordered = Bordered::of(window, SMOOTHED)?;
    let (left, right) = (bordered.left(COUNTER), bordered.right(COUNTER));
    if !COUNTER {
        return Some(right - left);
    }
    let (mut before, mut lost) = (left, 0.0);
    for value in bordered.inside().1.iter().chain([&right]) {
        if *value < before {
            lost += before;
        }
        before = *value;
    }
    Some(right - left + lost)
}

/// The window with its anchor, the last sample at or before its start, for functions that compare neighbours.
fn from_anchor<'a>(window: &Window<'a>) -> Option<Window<'a>> {
    let after = window.times.partition_point(|time_ms| *time_ms <= window.start_ms);
    if after == window.times.len() {
        return None;
    }
    let first = after.saturating_sub(1);
    Some(Window { times: &window.times[first..], values: &window.values[first..], ..*window })
}

/// The points of a bordered range as a query shows it: the samples inside, and the values at both borders.
///
/// # Errors
/// When there are histograms, as in Prometheus.
pub(super) fn border_points(window: &Window<'_>, borders: Borders) -> Result<Vec<(i64, f64)>, QueryError> {
    let is_smoothed = borders == Borders::Smoothed;
    if !window.histograms.is_empty() {
        let name = if is_smoothed { "smoothed" } else { "anchored" };
        return Err(QueryError::Execution(format!("{name} modifier is not supported with histograms")));
    }
    let Some(bordered) = Bordered::of(window, is_smoothed) else { return Ok(Vec::new()) };
    let (times, values) = bordered.inside();
    let inside = times.iter().copied().zip(values.iter().copied());
    let left = (window.start_ms, bordered.left(false));
    let right = (window.end_ms, bordered.right(false));
    Ok([left].into_iter().chain(inside).chain([right]).collect())
}

/// The value of a `smoothed` instant selector, from the samples around its time: on the line between those before and
/// after it, or that of the one before it if none comes after.
pub(super) fn smooth(window: &Window<'_>) -> Option<f64> {
    let Window { times, values, end_ms, .. } = window;
    let next = times.partition_point(|time_ms| time_ms < end_ms);
    match (next.checked_sub(1), times.get(next)) {
        (_, Some(next_ms)) if next_ms == end_ms => Some(values[next]),
        (Some(last), Some(next_ms)) => {
            Some(interpolate((times[last], values[last]), (*next_ms, values[next]), *end_ms, false))
        }
        (Some(last), None) => Some(values[last]),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(times: &'a [i64], values: &'a [f64]) -> Window<'a> {
        Window { times, values, histograms: &[], start_ms: 15_000, end_ms: 35_000, step_ms: 35_000 }
    }

    fn call(name: &str, borders: Borders, times: &[i64], values: &[f64]) -> Option<f64> {
        bordered_function(name, borders).unwrap().unwrap()(&window(times, values), &[])
    }

    #[test]
    fn an_anchor_is_the_last_sample_before_the_window() {
        let (times, values) = ([0, 10_000, 20_000, 30_000], [5.0, 1.0, 4.0, 2.0]);
        assert_eq!(call("delta", Borders::Anchored, &times, &values), Some(1.0));
        assert_eq!(call("increase", Borders::Anchored, &times, &values), Some(5.0));
        assert_eq!(call("rate", Borders::Anchored, &times, &values), Some(0.25));
        assert_eq!(call("changes", Borders::Anchored, &times, &values), Some(2.0));
        assert_eq!(call("resets", Borders::Anchored, &times, &values), Some(1.0));
        let points = border_points(&window(&times, &values), Borders::Anchored).unwrap();
        assert_eq!(points, [(15_000, 1.0), (20_000, 4.0), (30_000, 2.0), (35_000, 2.0)]);
    }

    #[test]
    fn smooth_borders_lie_between_samples() {
        let (times, values) = ([10_000, 20_000, 30_000, 40_000], [0.0, 10.0, 4.0, 6.0]);
        assert_eq!(call("delta", Borders::Smoothed, &times, &values), Some(0.0));
        // From 5 to 10, to 4 after a reset, to 5.
        assert_eq!(call("increase", Borders::Smoothed, &times, &values), Some(10.0));
        let points = border_points(&window(&times, &values), Borders::Smoothed).unwrap();
        assert_eq!(points, [(15_000, 5.0), (20_000, 10.0), (30_000, 4.0), (35_000, 5.0)]);
    }

    #[test]
    fn samples_on_one_side_only_say_nothing() {
        for borders in [Borders::Anchored, Borders::Smoothed] {
            for times in [&[0, 10_000][..], &[15_000], &[]] {
                assert_eq!(call("increase", borders, times, &[1.0, 2.0][..times.len()]), None);
                assert!(
                    border_points(&window(times, &[1.0, 2.0][..times.len()]), borders).unwrap().is_empty()
                );
            }
        }
        assert_eq!(call("rate", Borders::Smoothed, &[36_000, 40_000], &[1.0, 2.0]), None);
        assert_eq!(call("resets", Borders::Anchored, &[15_000], &[1.0]), None);
    }

    #[test]
    fn any_window_has_a_result() {
        // Every set of up to six times around the borders, equal ones among them.
        let places = [0, 15_000, 20_000, 35_000, 50_000];
        for choice in 0..5usize.pow(6) {
            let mut times: Vec<i64> = (0..6).map(|n| places[choice / 5usize.pow(n) % 5]).collect();
            times.sort_unstable();
            times.dedup();
            let values: Vec<f64> = (0..times.len()).map(|n| (n * 7 % 5) as f64).collect();
            for borders in [Borders::Anchored, Borders::Smoothed] {
                let delta = call("delta", borders, &times, &values);
                let points = border_points(&window(&times, &values), borders).unwrap();
                let ends = points.last().zip(points.first()).map(|(last, first)| last.1 - first.1);
                assert!(borders == Borders::Anchored || delta == ends, "{times:?}: {delta:?} {ends:?}");
            }
        }
    }

    #[test]
    fn other_functions_are_refused() {
        let error = bordered_function("deriv", Borders::Smoothed).unwrap_err().to_string();
        assert_eq!(error, "smoothed modifier can only be used with: delta, increase, rate - not with deriv");
        assert!(bordered_function("deriv", Borders::Inside).is_ok_and(|function| function.is_some()));
    }
}
