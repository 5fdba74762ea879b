//! Functions of ranges in which native histograms are among the samples.

use annulus_shards::chunk::ResetHint;

use super::histogram_notes::{Combination, HistogramNote, Notes};
use super::histogram_rate as rate;
use super::window::Window;
use crate::promql::histogram::{
    Accumulator, Added, FloatHistogram, HistogramAverage, Incompatible, detect_reset, same,
};
use crate::promql::kahan::KahanSum;
use crate::promql::value::{SampleValue, SharedHistogram};

/// A function of a window that holds histograms, and of the call's scalar arguments at that step.
pub(super) type HistogramRangeFunction = fn(&Window<'_>, &[f64], &mut Notes) -> Option<SampleValue>;

/// The function of that name, if it does not just pass over histograms.
pub(super) fn histogram_range_function(name: &str) -> Option<HistogramRangeFunction> {
    Some(match name {
        "rate" => rate::rate,
        "increase" => rate::increase,
        "delta" => rate::delta,
        "irate" => rate::irate,
        "idelta" => rate::idelta,
        "sum_over_time" => sum,
        "avg_over_time" => average,
        "first_over_time" => |window, _, _| samples(window).next().map(|(_, sample)| sample.into()),
        "last_over_time" => |window, _, _| last(window).map(|(_, sample)| sample.into()),
        "ts_of_first_over_time" => |window, _, _| samples(window).next().map(|(time_ms, _)| seconds(time_ms)),
        "ts_of_last_over_time" => |window, _, _| last(window).map(|(time_ms, _)| seconds(time_ms)),
        "count_over_time" => {
            |window, _, _| Some(((window.times.len() + window.histograms.len()) as f64).into())
        }
        "present_over_time" | "absent_over_time" => |_, _, _| Some(1.0.into()),
        "changes" => |window, _, _| Some(count_pairs(window, is_change)),
        "resets" => |window, _, _| Some(count_pairs(window, is_reset)),
        _ => return None,
    })
}

/// A sample of either kind.
#[derive(Clone, Copy)]
enum Sample<'a> {
    Float(f64),
    Histogram(&'a SharedHistogram),
}

impl From<Sample<'_>> for SampleValue {
    fn from(sample: Sample<'_>) -> SampleValue {
        match sample {
            Sample::Float(value) => SampleValue::Float(value),
            Sample::Histogram(histogram) => SampleValue::Histogram(histogram.clone()),
        }
    }
}

fn seconds(time_ms: i64) -> SampleValue {
    SampleValue::Float(time_ms as f64 / 1000.0)
}

/// The samples of both kinds in order of time.
fn samples<'a>(window: &Window<'a>) -> impl Iterator<Item = (i64, Sample<'a>)> + use<'a> {
    let floats = window.times.iter().zip(window.values);
    let mut floats = floats.map(|(time_ms, value)| (*time_ms, Sample::Float(*value))).peekable();
    let histograms = window.histograms.iter();
    let mut histograms =
        histograms.map(|(time_ms, histogram)| (*time_ms, Sample::Histogram(histogram))).peekable();
    std::iter::from_fn(move || match (floats.peek(), histograms.peek()) {
        (Some((float_ms, _)), Some((histogram_ms, _))) if float_ms > histogram_ms => histograms.next(),
        (Some(_), _) => floats.next(),
        (None, _) => histograms.next(),
    })
}

fn last<'a>(window: &Window<'a>) -> Option<(i64, Sample<'a>)> {
    let float = window.times.last().zip(window.values.last());
    let float = float.map(|(time_ms, value)| (*time_ms, Sample::Float(*value)));
    let histogram = window.histograms.last();
    let histogram = histogram.map(|(time_ms, histogram)| (*time_ms, Sample::Histogram(histogram)));
    match (float, histogram) {
        (Some(float), Some(histogram)) if float.0 > histogram.0 => Some(float),
        (_, Some(histogram)) => Some(histogram),
        (float, None) => float,
    }
}

fn count_pairs(window: &Window<'_>, counts: impl Fn(Sample<'_>, Sample<'_>) -> bool) -> SampleValue {
    let pairs = samples(window).zip(samples(window).skip(1));
    SampleValue::Float(pairs.filter(|((_, before), (_, after))| counts(*before, *after)).count() as f64)
}

fn is_change(before: Sample<'_>, after: Sample<'_>) -> bool {
    match (before, after) {
        (Sample::Float(before), Sample::Float(after)) => {
            after != before && !(after.is_nan() && before.is_nan())
        }
        (Sample::Histogram(before), Sample::Histogram(after)) => !same(before, after),
        _ => true,
    }
}

fn is_reset(before: Sample<'_>, after: Sample<'_>) -> bool {
    match (before, after) {
        (Sample::Float(before), Sample::Float(after)) => after < before,
        (Sample::Histogram(before), Sample::Histogram(after)) => detect_reset(after, before),
        _ => true,
    }
}

fn sum(window: &Window<'_>, _: &[f64], notes: &mut Notes) -> Option<SampleValue> {
    fold(window, notes, Accumulator::<KahanSum>::new, Accumulator::add, Accumulator::finish)
}

fn average(window: &Window<'_>, _: &[f64], notes: &mut Notes) -> Option<SampleValue> {
    fold(window, notes, HistogramAverage::new, HistogramAverage::add, HistogramAverage::finish)
}

/// Combines all histograms of a window without floats.
fn fold<State>(
    window: &Window<'_>,
    notes: &mut Notes,
    first: impl Fn(&FloatHistogram) -> State,
    add: impl Fn(&mut State, &FloatHistogram) -> Result<Added, Incompatible>,
    finish: impl Fn(State) -> FloatHistogram,
) -> Option<SampleValue> {
    if !window.times.is_empty() {
        notes.add(HistogramNote::MixedRange);
        return None;
    }
    let ((_, histogram), others) = window.histograms.split_first()?;
    let mut state = first(histogram);
    let mut are_bounds_reconciled = false;
    for (_, histogram) in others {
        match add(&mut state, histogram) {
            Ok(added) => are_bounds_reconciled |= added.bounds_reconciled,
            Err(Incompatible) => {
                notes.add(HistogramNote::MixedBuckets);
                return None;
            }
        }
    }
    let hinted = |hint| window.histograms.iter().any(|(_, histogram)| histogram.reset_hint == hint);
    if hinted(ResetHint::Yes) && hinted(ResetHint::No) {
        notes.add(HistogramNote::HintsCollide(Combination::Aggregation));
    }
    if are_bounds_reconciled {
        notes.add(HistogramNote::BoundsReconciled(Combination::Aggregation));
    }
    Some(finish(state).into())
}
