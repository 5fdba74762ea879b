//! `rate` and its family over ranges with native histograms.

use annulus_shards::chunk::ResetHint;

use super::histogram_notes::{Combination, HistogramNote, Notes};
use super::rate::{stretch, window_seconds};
use super::window::Window;
use crate::promql::histogram::{
    Accumulator, Added, FloatHistogram, Incompatible, compact, detect_reset, divide, multiply,
};
use crate::promql::value::{SampleValue, SharedHistogram};

/// `rate` of histograms.
pub(super) fn rate(window: &Window<'_>, _: &[f64], notes: &mut Notes) -> Option<SampleValue> {
    extrapolated(window, true, notes, |factor| factor / window_seconds(window))
}

/// `increase` of histograms.
pub(super) fn increase(window: &Window<'_>, _: &[f64], notes: &mut Notes) -> Option<SampleValue> {
    extrapolated(window, true, notes, |factor| factor)
}

/// `delta` of histograms.
pub(super) fn delta(window: &Window<'_>, _: &[f64], notes: &mut Notes) -> Option<SampleValue> {
    extrapolated(window, false, notes, |factor| factor)
}

fn extrapolated(
    window: &Window<'_>,
    is_counter: bool,
    notes: &mut Notes,
    scale: impl Fn(f64) -> f64,
) -> Option<SampleValue> {
    let histograms = window.histograms;
    if !window.times.is_empty() {
        notes.add(HistogramNote::MixedRange);
        return None;
    }
    let ([(first_ms, first), ..], [.., (last_ms, _)]) = (histograms, histograms) else { return None };
    if histograms.len() < 2 {
        return None;
    }
    let mut found = Notes::default();
    let mut change = match change(histograms, is_counter, &mut found) {
        Ok(change) => change,
        Err(Incompatible) => {
            // Nothing else is said then.
            notes.add(HistogramNote::MixedBuckets);
            return None;
        }
    };
    notes.join(found);
    let counted = is_counter.then_some((first.count, change.count));
    let factor = stretch(window, (*first_ms, *last_ms), histograms.len() - 1, counted);
    multiply(&mut change, scale(factor));
    Some(change.into())
}

/// The change between the first and the last histogram.
fn change(
    histograms: &[(i64, SharedHistogram)],
    is_counter: bool,
    notes: &mut Notes,
) -> Result<FloatHistogram, Incompatible> {
    let ([(_, first), (_, second), ..], [.., (_, last)]) = (histograms, histograms) else {
        return Err(Incompatible);
    };
    let begun;
    let mut previous: &FloatHistogram = first;
    if is_counter && detect_reset(second, first) {
        // The first one counts for nothing then, whatever its layout.
        let (schema, custom_values) = (second.schema, second.custom_values.clone());
        begun = FloatHistogram { schema, custom_values, ..FloatHistogram::default() };
        previous = &begun;
    }
    let is_gauge = |histogram: &FloatHistogram| histogram.reset_hint == ResetHint::Gauge;
    let is_custom = previous.has_custom_buckets();
    if last.has_custom_buckets() != is_custom {
        return Err(Incompatible);
    }
    let mut schema = last.schema.min(previous.schema);
    if is_counter {
        for (_, between) in &histograms[1..histograms.len() - 1] {
            if between.has_custom_buckets() != is_custom {
                return Err(Incompatible);
            }
            schema = schema.min(between.schema);
        }
        if histograms.iter().any(|(_, histogram)| is_gauge(histogram)) {
            notes.add(HistogramNote::NotCounter);
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        notes.add(HistogramNote::NotGauge);
    }
    // Whether hints collide says nothing here: resets are looked for one by one.
    let mut change = Accumulator::<f64>::new(last);
    change.reduce_to(schema);
    tell(change.subtract(previous)?, Combination::Subtraction, notes);
    if is_counter {
        for (_, next) in &histograms[1..] {
            if detect_reset(next, previous) {
                tell(change.add(previous)?, Combination::Addition, notes);
            }
            previous = next;
        }
    }
    change.set_reset_hint(ResetHint::Gauge);
    let mut change = change.finish();
    compact(&mut change);
    Ok(change)
}

/// Says what became of the bounds of two histograms that were combined.
pub(super) fn tell(added: Added, combination: Combination, notes: &mut Notes) {
    if added.bounds_reconciled {
        notes.add(HistogramNote::BoundsReconciled(combination));
    }
}

/// `irate` where histograms are among the samples.
pub(super) fn irate(window: &Window<'_>, _: &[f64], notes: &mut Notes) -> Option<SampleValue> {
    instant_change(window, true, notes)
}

/// `idelta` where histograms are among the samples.
pub(super) fn idelta(window: &Window<'_>, _: &[f64], notes: &mut Notes) -> Option<SampleValue> {
    instant_change(window, false, notes)
}

fn instant_change(window: &Window<'_>, is_rate: bool, notes: &mut Notes) -> Option<SampleValue> {
    let [(before_ms, before), (last_ms, last)] = last_two(window)?;
    let seconds = last_ms.wrapping_sub(before_ms) as f64 / 1000.0;
    match (before, last) {
        (SampleValue::Float(before), SampleValue::Float(last)) => {
            let change = if is_rate && last < before { last } else { last - before };
            Some(SampleValue::Float(if is_rate { change / seconds } else { change }))
        }
        (SampleValue::Histogram(before), SampleValue::Histogram(last)) => {
            let gauges = [&before, &last].map(|histogram| histogram.reset_hint == ResetHint::Gauge);
            match (is_rate, gauges) {
                (true, [true, _] | [_, true]) => notes.add(HistogramNote::NotCounter),
                (false, [false, _] | [_, false]) => notes.add(HistogramNote::NotGauge),
                _ => {}
            }
            let mut change = Accumulator::<f64>::new(&last);
            if !is_rate || !detect_reset(&last, &before) {
                match change.subtract(&before) {
                    Ok(added) => tell(added, Combination::Subtraction, notes),
                    Err(Incompatible) => {
                        notes.add(HistogramNote::MixedBuckets);
                        return None;
                    }
                }
            }
            change.set_reset_hint(ResetHint::Gauge);
            let mut change = change.finish();
            compact(&mut change);
            if is_rate {
                divide(&mut change, seconds);
            }
            Some(change.into())
        }
        _ => {
            notes.add(HistogramNote::MixedRange);
            None
        }
    }
}

/// The last two samples of either kind.
fn last_two(window: &Window<'_>) -> Option<[(i64, SampleValue); 2]> {
    let floats = window.times.iter().zip(window.values).rev();
    let floats = floats.map(|(time_ms, value)| (*time_ms, SampleValue::Float(*value)));
    let histograms = window.histograms.iter().rev();
    let histograms = histograms.map(|(time_ms, one)| (*time_ms, SampleValue::Histogram(one.clone())));
    let mut last: Vec<(i64, SampleValue)> = floats.take(2).chain(histograms.take(2)).collect();
    last.sort_by_key(|(time_ms, _)| *time_ms);
    let second = last.pop()?;
    Some([last.pop()?, second])
}

#[cfg(test)]
mod tests {
    use super::super::histogram_range::tests::{count_of, histogram, window};
    use super::*;

    #[test]
    fn changes_are_stretched_to_the_range_and_marked_as_gauges() {
        let histograms = [2.0, 4.0, 6.0].map(|count| histogram(0, count));
        let mut notes = Notes::default();
        let all = window(&[], &histograms);
        // Four over twenty seconds, the first sample ten after the start: two to go back to zero, or two for ten seconds.
        let SampleValue::Histogram(change) = increase(&all.get(), &[], &mut notes).unwrap() else {
            panic!("a histogram")
        };
        assert_eq!((change.count, change.reset_hint), (6.0, ResetHint::Gauge));
        assert_eq!(change.positive.values, [6.0]);
        assert_eq!(count_of(rate(&all.get(), &[], &mut notes)), Some(6.0 / 30.0));
        assert!(notes.is_empty());
        assert_eq!(count_of(delta(&all.get(), &[], &mut notes)), Some(6.0));
        assert_eq!(notes.iter().collect::<Vec<_>>(), [HistogramNote::NotGauge]);
    }

    #[test]
    fn what_was_counted_before_a_reset_is_part_of_the_increase() {
        let histograms = [2.0, 4.0, 1.0, 3.0].map(|count| histogram(0, count));
        let all = window(&[], &histograms);
        let mut notes = Notes::default();
        // 3 - 2 + 4 over thirty seconds, and ten more.
        let SampleValue::Histogram(change) = increase(&all.get(), &[], &mut notes).unwrap() else {
            panic!("a histogram")
        };
        assert!((change.count - 5.0 * 40.0 / 30.0).abs() < 1e-12, "{}", change.count);
        assert_eq!(count_of(irate(&all.get(), &[], &mut notes)), Some(0.2));
        let reset = window(&[], &histograms[..3]);
        assert_eq!(count_of(irate(&reset.get(), &[], &mut notes)), Some(0.1));
        assert!(notes.is_empty());
    }

    #[test]
    fn kinds_do_not_mix() {
        let mut notes = Notes::default();
        let both = window(&[1.0], &[histogram(0, 1.0), histogram(0, 2.0)]);
        assert_eq!(rate(&both.get(), &[], &mut notes), None);
        assert_eq!(notes.iter().collect::<Vec<_>>(), [HistogramNote::MixedRange]);
        let mut notes = Notes::default();
        let buckets = window(&[], &[histogram(-53, 5.0), histogram(0, 6.0), histogram(-53, 7.0)]);
        assert_eq!(increase(&buckets.get(), &[], &mut notes), None);
        assert_eq!(notes.iter().collect::<Vec<_>>(), [HistogramNote::MixedBuckets]);
        assert_eq!(rate(&window(&[], &[histogram(0, 1.0)]).get(), &[], &mut notes), None);
    }
}
