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

#[cfg(test)]
pub(super) mod tests {
    use annulus_shards::chunk::{Buckets, Span};

    use super::*;

    /// A histogram with one bucket in use.
    pub(in super::super) fn histogram(schema: i32, count: f64) -> FloatHistogram {
        let positive = Buckets { spans: vec![Span { offset: 0, length: 1 }], values: vec![count] };
        FloatHistogram { schema, count, sum: count, positive, ..FloatHistogram::default() }
    }

    /// Samples each ten seconds from ten seconds after the start of the window, which ends at the last one.
    pub(in super::super) struct Samples {
        times: Vec<i64>,
        values: Vec<f64>,
        histograms: Vec<(i64, SharedHistogram)>,
    }

    /// First floats, then histograms.
    pub(in super::super) fn window(values: &[f64], histograms: &[FloatHistogram]) -> Samples {
        let time_ms = |index: usize| (index as i64 + 1) * 10_000;
        let histograms = histograms.iter().enumerate();
        Samples {
            times: (0..values.len()).map(time_ms).collect(),
            values: values.to_vec(),
            histograms: histograms
                .map(|(index, one)| (time_ms(values.len() + index), SharedHistogram::new(one.clone())))
                .collect(),
        }
    }

    impl Samples {
        pub(in super::super) fn get(&self) -> Window<'_> {
            let end_ms = (self.times.len() + self.histograms.len()) as i64 * 10_000;
            Window {
                times: &self.times,
                values: &self.values,
                histograms: &self.histograms,
                start_ms: 0,
                end_ms,
                step_ms: end_ms,
            }
        }
    }

    /// The count of a histogram.
    pub(in super::super) fn count_of(value: Option<SampleValue>) -> Option<f64> {
        match value? {
            SampleValue::Histogram(histogram) => Some(histogram.count),
            SampleValue::Float(_) => None,
        }
    }

    fn call(name: &str, samples: &Samples) -> Option<SampleValue> {
        histogram_range_function(name).unwrap()(&samples.get(), &[], &mut Notes::default())
    }

    #[test]
    fn functions_see_both_kinds_in_order_of_time() {
        let both = window(&[1.0, 2.0], &[histogram(0, 3.0), histogram(0, 3.0), histogram(0, 1.0)]);
        let float = |name| call(name, &both).and_then(|value| value.as_float());
        assert_eq!(float("first_over_time"), Some(1.0));
        assert_eq!(count_of(call("last_over_time", &both)), Some(1.0));
        assert_eq!(float("ts_of_first_over_time"), Some(10.0));
        assert_eq!(float("ts_of_last_over_time"), Some(50.0));
        assert_eq!(float("count_over_time"), Some(5.0));
        assert_eq!(float("present_over_time"), Some(1.0));
        // From 1 to 2, to a histogram, and to another one.
        assert_eq!(float("changes"), Some(3.0));
        assert_eq!(float("resets"), Some(2.0));
    }

    #[test]
    fn sums_and_averages_are_of_histograms_alone() {
        let some = window(&[], &[histogram(0, 3.0), histogram(0, 5.0)]);
        assert_eq!(count_of(call("sum_over_time", &some)), Some(8.0));
        assert_eq!(count_of(call("avg_over_time", &some)), Some(4.0));
        let mut notes = Notes::default();
        let both = window(&[1.0], &[histogram(0, 3.0)]);
        assert_eq!(sum(&both.get(), &[], &mut notes), None);
        let buckets = window(&[], &[histogram(0, 3.0), histogram(-53, 5.0)]);
        assert_eq!(sum(&buckets.get(), &[], &mut notes), None);
        let expected = [HistogramNote::MixedRange, HistogramNote::MixedBuckets];
        assert_eq!(notes.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn hints_that_collide_are_told() {
        let hinted = |reset_hint| FloatHistogram { reset_hint, ..histogram(0, 1.0) };
        let mut notes = Notes::default();
        let some = window(&[], &[hinted(ResetHint::No), hinted(ResetHint::Yes)]);
        assert_eq!(count_of(average(&some.get(), &[], &mut notes)), Some(1.0));
        let expected = [HistogramNote::HintsCollide(Combination::Aggregation)];
        assert_eq!(notes.iter().collect::<Vec<_>>(), expected);
    }
}
