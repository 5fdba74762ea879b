//! Functions of a window of samples: the `_over_time` family, regression, smoothing, changes and resets.

use super::quantile::quantile;
use super::rate;
use super::window::Window;
use crate::promql::kahan::{Average, KahanSum};

/// A function of a window and of the call's scalar arguments at that step. Nothing is no value.
pub(super) type RangeFunction = fn(&Window<'_>, &[f64]) -> Option<f64>;

/// The function of that name, if it is one of a range vector.
pub(super) fn range_function(name: &str) -> Option<RangeFunction> {
    Some(match name {
        "rate" => rate::rate,
        "increase" => rate::increase,
        "delta" => rate::delta,
        "irate" => rate::irate,
        "idelta" => rate::idelta,
        "avg_over_time" => avg,
        "sum_over_time" => sum,
        "min_over_time" => |window, _| Some(extreme(window, |value, best| value < best).1),
        "max_over_time" => |window, _| Some(extreme(window, |value, best| value > best).1),
        "ts_of_min_over_time" => |window, _| Some(seconds(extreme(window, |value, best| value <= best).0)),
        "ts_of_max_over_time" => |window, _| Some(seconds(extreme(window, |value, best| value >= best).0)),
        "ts_of_first_over_time" => |window, _| window.times.first().copied().map(seconds),
        "ts_of_last_over_time" => |window, _| window.times.last().copied().map(seconds),
        "first_over_time" => |window, _| window.values.first().copied(),
        "last_over_time" => |window, _| window.values.last().copied(),
        "count_over_time" => |window, _| Some(window.values.len() as f64),
        "present_over_time" | "absent_over_time" => |_, _| Some(1.0),
        "stdvar_over_time" => |window, _| Some(variance(window.values)),
        "stddev_over_time" => |window, _| Some(variance(window.values).sqrt()),
        "quantile_over_time" => |window, args| Some(quantile(args[0], &mut window.values.to_vec())),
        "mad_over_time" => |window, _| Some(median_absolute_deviation(window.values)),
        "deriv" => |window, _| Some(regression(window, window.times[0])?.0),
        "predict_linear" => |window, args| {
            let (slope, intercept) = regression(window, window.step_ms)?;
            Some(slope * args[0] + intercept)
        },
        "double_exponential_smoothing" => |window, args| smooth(window.values, args[0], args[1]),
        "changes" => |window, _| Some(count_pairs(window.values, is_change)),
        "resets" => |window, _| Some(count_pairs(window.values, rate::is_reset)),
        _ => return None,
    })
}

/// A time as functions return it.
#[inline]
pub(super) fn seconds(time_ms: i64) -> f64 {
    time_ms as f64 / 1000.0
}

fn avg(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let mut average = Average::default();
    for value in window.values {
        average.add(*value);
    }
    average.mean()
}

fn sum(window: &Window<'_>, _: &[f64]) -> Option<f64> {
    let mut sum = KahanSum::default();
    for value in window.values {
        sum.add(*value);
    }
    Some(if sum.sum.is_infinite() { sum.sum } else { sum.total() })
}

/// Time and value of the sample that no other beats; NaN only if there is nothing else.
fn extreme(window: &Window<'_>, beats: impl Fn(f64, f64) -> bool) -> (i64, f64) {
    let mut best = (window.times[0], window.values[0]);
    for (time_ms, value) in window.times.iter().zip(window.values) {
        if is_better(*value, best.1, &beats) {
            best = (*time_ms, *value);
        }
    }
    best
}

/// Whether a value takes the place of the best one before it.
#[inline]
pub(super) fn is_better(value: f64, best: f64, beats: impl Fn(f64, f64) -> bool) -> bool {
    beats(value, best) || best.is_nan()
}

/// Welford's variance with compensated sums.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, KahanSum::default(), KahanSum::default());
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / count
}

fn median_absolute_deviation(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut values = values.to_vec();
    let median = quantile(0.5, &mut values);
    for value in &mut values {
        *value = (*value - median).abs();
    }
    quantile(0.5, &mut values)
}

/// Slope per second and value at `intercept_ms` of the line of least squares.
fn regression(window: &Window<'_>, intercept_ms: i64) -> Option<(f64, f64)> {
    let first = window.values[0];
    if window.values.len() < 2 {
        return None;
    }
    if window.values.iter().all(|value| *value == first) {
        // The sums below would only add rounding errors, or NaN where there is infinity.
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let mut count = 0.0;
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [KahanSum::default(); 4];
    for (time_ms, y) in window.times.iter().zip(window.values) {
        count += 1.0;
        let x = time_ms.wrapping_sub(intercept_ms) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let (x_sum, y_sum) = (x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x_sum * y_sum / count;
    let variance = xx_sum.total() - x_sum * x_sum / count;
    let slope = covariance / variance;
    Some((slope, y_sum / count - slope * x_sum / count))
}

/// Holt's linear smoothing; both factors lie between 0 and 1, which the plan has checked.
fn smooth(values: &[f64], smoothing_factor: f64, trend_factor: f64) -> Option<f64> {
    let [first, second, ..] = values else { return None };
    let (mut before, mut smoothed, mut trend) = (0.0, *first, second - first);
    for (index, value) in values.iter().enumerate().skip(1) {
        let scaled = smoothing_factor * value;
        if index > 1 {
            trend = trend_factor * (smoothed - before) + (1.0 - trend_factor) * trend;
        }
        let forecast = (1.0 - smoothing_factor) * (smoothed + trend);
        (before, smoothed) = (smoothed, scaled + forecast);
    }
    Some(smoothed)
}

/// Whether two samples in a row differ; NaN is like NaN.
#[inline]
pub(super) fn is_change(before: f64, after: f64) -> bool {
    after != before && !(after.is_nan() && before.is_nan())
}

fn count_pairs(values: &[f64], counts: impl Fn(f64, f64) -> bool) -> f64 {
    values.windows(2).filter(|pair| counts(pair[0], pair[1])).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, values: &[f64], args: &[f64]) -> Option<f64> {
        let times: Vec<i64> = (0..values.len() as i64).map(|index| index * 10_000).collect();
        let end_ms = times[times.len() - 1];
        let window = Window { times: &times, values, histograms: &[], start_ms: -1, end_ms, step_ms: end_ms };
        range_function(name).unwrap()(&window, args)
    }

    #[test]
    fn over_time_functions_of_a_known_window() {
        let values = [4.0, 1.0, 3.0, 1.0, f64::NAN, 7.0];
        let finite = [4.0, 1.0, 3.0, 1.0, 7.0];
        assert_eq!(call("min_over_time", &values, &[]), Some(1.0));
        assert_eq!(call("max_over_time", &values, &[]), Some(7.0));
        assert_eq!(call("ts_of_min_over_time", &values, &[]), Some(30.0));
        assert_eq!(call("ts_of_max_over_time", &values, &[]), Some(50.0));
        assert_eq!(call("first_over_time", &values, &[]), Some(4.0));
        assert_eq!(call("last_over_time", &values, &[]), Some(7.0));
        assert_eq!(call("count_over_time", &values, &[]), Some(6.0));
        assert_eq!(call("sum_over_time", &finite, &[]), Some(16.0));
        assert_eq!(call("avg_over_time", &finite, &[]), Some(3.2));
        assert_eq!(call("quantile_over_time", &finite, &[0.5]), Some(3.0));
        assert_eq!(call("mad_over_time", &finite, &[]), Some(2.0));
        assert_eq!(call("stdvar_over_time", &[1.0, 3.0], &[]), Some(1.0));
        assert_eq!(call("changes", &[1.0, 1.0, 2.0, f64::NAN, f64::NAN], &[]), Some(2.0));
        assert_eq!(call("resets", &values, &[]), Some(2.0));
    }

    #[test]
    fn regression_follows_a_line() {
        assert_eq!(call("deriv", &[0.0, 10.0, 20.0], &[]), Some(1.0));
        assert_eq!(call("predict_linear", &[0.0, 10.0, 20.0], &[60.0]), Some(80.0));
        assert_eq!(call("deriv", &[5.0, 5.0], &[]), Some(0.0));
        assert_eq!(call("deriv", &[5.0], &[]), None);
        assert!(call("deriv", &[f64::INFINITY, f64::INFINITY], &[]).unwrap().is_nan());
    }

    #[test]
    fn smoothing_a_line_yields_the_line() {
        assert_eq!(call("double_exponential_smoothing", &[1.0, 2.0, 3.0, 4.0], &[0.5, 0.5]), Some(4.0));
        assert_eq!(call("double_exponential_smoothing", &[1.0], &[0.5, 0.5]), None);
    }

    #[test]
    fn sums_are_compensated_and_infinity_stays() {
        assert_eq!(call("sum_over_time", &[1.0, 1e100, 1.0, -1e100], &[]), Some(2.0));
        assert_eq!(call("sum_over_time", &[f64::INFINITY, 1.0], &[]), Some(f64::INFINITY));
        assert_eq!(call("avg_over_time", &[f64::MAX, f64::MAX], &[]), Some(f64::MAX));
    }
}
