//! `anchored` and `smoothed` where native histograms are among the samples.

use annulus_shards::chunk::ResetHint;

use super::borders::{bordering, smooth};
use super::histogram_notes::{Combination, HistogramNote, Notes};
use super::histogram_range::{HistogramRangeFunction, histogram_range_function};
use super::histogram_rate::tell;
use super::rate::window_seconds;
use super::window::Window;
use crate::promql::ast::Borders;
use crate::promql::histogram::{
    Accumulator, FloatHistogram, Incompatible, compact, detect_reset, divide, multiply,
};
use crate::promql::value::{SampleValue, SharedHistogram};

/// The function of that name over windows with such borders, if it does not just pass over histograms.
pub(super) fn bordered_histogram_function(name: &str, borders: Borders) -> Option<HistogramRangeFunction> {
    Some(match (name, borders) {
        (name, Borders::Inside) => return histogram_range_function(name),
        ("rate", Borders::Anchored) => |window, _, notes| rate::<false>(window, notes),
        ("rate", Borders::Smoothed) => |window, _, notes| rate::<true>(window, notes),
        ("increase", Borders::Anchored) => |window, _, notes| value(change::<false, true>(window, notes)?),
        ("increase", Borders::Smoothed) => |window, _, notes| value(change::<true, true>(window, notes)?),
        ("delta", Borders::Anchored) => |window, _, notes| value(change::<false, false>(window, notes)?),
        ("delta", Borders::Smoothed) => |window, _, notes| value(change::<true, false>(window, notes)?),
        ("changes", _) => {
            |window, args, notes| histogram_range_function("changes")?(&from_anchor(window)?, args, notes)
        }
        ("resets", _) => {
            |window, args, notes| histogram_range_function("resets")?(&from_anchor(window)?, args, notes)
        }
        _ => return None,
    })
}

fn rate<const SMOOTHED: bool>(window: &Window<'_>, notes: &mut Notes) -> Option<SampleValue> {
    let mut change = change::<SMOOTHED, true>(window, notes)?;
    divide(&mut change, window_seconds(window));
    value(change)
}

fn value(mut change: FloatHistogram) -> Option<SampleValue> {
    change.reset_hint = ResetHint::Gauge;
    compact(&mut change);
    Some(change.into())
}

/// The window with its anchor, the last sample of either kind at or before its start.
fn from_anchor<'a>(window: &Window<'a>) -> Option<Window<'a>> {
    let floats = window.times.partition_point(|time_ms| *time_ms <= window.start_ms);
    let histograms = window.histograms.partition_point(|(time_ms, _)| *time_ms <= window.start_ms);
    if floats == window.times.len() && histograms == window.histograms.len() {
        return None;
    }
    let float_ms = floats.checked_sub(1).map(|last| window.times[last]);
    let histogram_ms = histograms.checked_sub(1).map(|last| window.histograms[last].0);
    let (first_float, first_histogram) = match (float_ms, histogram_ms) {
        (None, None) => (0, 0),
        (float_ms, histogram_ms) if float_ms >= histogram_ms => (floats - 1, histograms),
        _ => (floats, histograms - 1),
    };
    Some(Window {
        times: &window.times[first_float..],
        values: &window.values[first_float..],
        histograms: &window.histograms[first_histogram..],
        ..*window
    })
}

/// The change from one border to the other; of a counter, with what it lost in resets between them.
fn change<const SMOOTHED: bool, const COUNTER: bool>(
    window: &Window<'_>,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    if !window.times.is_empty() {
        notes.add(HistogramNote::MixedRange);
        return None;
    }
    let (first, last) = bordering(window.histograms, |(time_ms, _)| *time_ms, window, SMOOTHED)?;
    let between = Between { histograms: &window.histograms[first..=last], window, smoothed: SMOOTHED };
    let is_custom = between.histograms[0].1.has_custom_buckets();
    for (_, histogram) in between.histograms {
        if histogram.has_custom_buckets() != is_custom {
            notes.add(HistogramNote::MixedBuckets);
            return None;
        }
        if COUNTER && histogram.reset_hint == ResetHint::Gauge {
            notes.add(HistogramNote::NotCounter);
        }
    }
    let change = between.change::<COUNTER>(notes);
    change.map_err(|Incompatible| notes.add(HistogramNote::MixedBuckets)).ok()
}

/// The samples that borders are made from, the first at or before the start of the window, where there is one.
struct Between<'a> {
    histograms: &'a [(i64, SharedHistogram)],
    window: &'a Window<'a>,
    smoothed: bool,
}

impl Between<'_> {
    fn change<const COUNTER: bool>(&self, notes: &mut Notes) -> Result<FloatHistogram, Incompatible> {
        let left = self.left(COUNTER, notes)?;
        let right = self.right(COUNTER, notes)?;
        let are_gauges = [&left, &right].iter().all(|border| border.reset_hint == ResetHint::Gauge);
        if !COUNTER && !are_gauges {
            notes.add(HistogramNote::NotGauge);
        }
        let mut change = Accumulator::<f64>::new(&right);
        tell(change.subtract(&left)?, Combination::Subtraction, notes);
        if COUNTER && let Some(lost) = self.lost(&left, &right, notes)? {
            tell(change.add(&lost)?, Combination::Addition, notes);
        }
        Ok(change.finish())
    }

    /// Whether a line is drawn from the first sample to the start of the window.
    fn begins_before(&self) -> bool {
        self.smoothed && self.histograms[0].0 < self.window.start_ms
    }

    fn left(&self, is_counter: bool, notes: &mut Notes) -> Result<FloatHistogram, Incompatible> {
        match self.histograms {
            [before, after, ..] if self.begins_before() => {
                interpolate(before, after, self.window.start_ms, is_counter, notes)
            }
            histograms => Ok(FloatHistogram::clone(&histograms[0].1)),
        }
    }

    fn right(&self, is_counter: bool, notes: &mut Notes) -> Result<FloatHistogram, Incompatible> {
        match self.histograms {
            [.., before, after] if self.smoothed && after.0 > self.window.end_ms => {
                interpolate(before, after, self.window.end_ms, is_counter, notes)
            }
            histograms => Ok(FloatHistogram::clone(&histograms[histograms.len() - 1].1)),
        }
    }

    /// What a counter had before each of its resets.
    fn lost(
        &self,
        left: &FloatHistogram,
        right: &FloatHistogram,
        notes: &mut Notes,
    ) -> Result<Option<FloatHistogram>, Incompatible> {
        let (mut from, mut before) = (1, left);
        if let [(_, first), (_, second), ..] = self.histograms
            && self.begins_before()
            && detect_reset(second, first)
        {
            // The line to the start of the window has that reset in it.
            (from, before) = (2, second);
        }
        // The last sample is not looked at: the right border stands for it, with its hint.
        let last = self.histograms.len() - 1;
        let Some(inside) = self.histograms.get(from..last.max(from)).filter(|_| from <= last) else {
            return Ok(None);
        };
        let mut lost: Option<Accumulator<f64>> = None;
        for next in inside.iter().map(|(_, histogram)| histogram.as_ref()).chain([right]) {
            if detect_reset(next, before) {
                match &mut lost {
                    Some(lost) => tell(lost.add(before)?, Combination::Addition, notes),
                    None => lost = Some(Accumulator::new(before)),
                }
            }
            before = next;
        }
        Ok(lost.map(Accumulator::finish))
    }
}

/// The histogram at a time between two others. A counter that was reset between them grew from zero.
fn interpolate(
    before: &(i64, SharedHistogram),
    after: &(i64, SharedHistogram),
    time_ms: i64,
    is_counter: bool,
    notes: &mut Notes,
) -> Result<FloatHistogram, Incompatible> {
    let ((before_ms, before), (after_ms, after)) = (before, after);
    if time_ms == *before_ms {
        return Ok(FloatHistogram::clone(before));
    }
    if time_ms == *after_ms {
        return Ok(FloatHistogram::clone(after));
    }
    let passed = time_ms.wrapping_sub(*before_ms) as f64 / after_ms.wrapping_sub(*before_ms) as f64;
    if is_counter && detect_reset(after, before) {
        let mut grown = FloatHistogram::clone(after);
        multiply(&mut grown, passed);
        return Ok(grown);
    }
    let mut difference = Accumulator::<f64>::new(after);
    tell(difference.subtract(before)?, Combination::Subtraction, notes);
    let mut difference = difference.finish();
    multiply(&mut difference, passed);
    let mut sum = Accumulator::<f64>::new(&difference);
    tell(sum.add(before)?, Combination::Addition, notes);
    Ok(sum.finish())
}

/// The value of a `smoothed` instant selector, from the samples around its time.
pub(super) fn smooth_either(window: &Window<'_>, notes: &mut Notes) -> Option<SampleValue> {
    let (histograms, time_ms) = (window.histograms, window.end_ms);
    if histograms.is_empty() {
        return smooth(window).map(SampleValue::Float);
    }
    if !window.times.is_empty() {
        notes.add(HistogramNote::MixedRange);
        return None;
    }
    let next = histograms.partition_point(|(next_ms, _)| *next_ms < time_ms);
    let before = next.checked_sub(1).map(|last| &histograms[last]);
    match (before, histograms.get(next)) {
        (_, Some((next_ms, exact))) if *next_ms == time_ms => Some(SampleValue::Histogram(exact.clone())),
        (Some(before), Some(after)) => {
            let is_counter = [before, after].iter().any(|(_, one)| one.reset_hint != ResetHint::Gauge);
            if before.1.has_custom_buckets() != after.1.has_custom_buckets() {
                notes.add(HistogramNote::MixedBuckets);
                return None;
            }
            match interpolate(before, after, time_ms, is_counter, notes) {
                Ok(histogram) => Some(histogram.into()),
                Err(Incompatible) => {
                    notes.add(HistogramNote::MixedBuckets);
                    None
                }
            }
        }
        // A hint tells of the sample before; this one is carried on.
        (Some((_, last)), None) => {
            Some(FloatHistogram { reset_hint: ResetHint::Unknown, ..FloatHistogram::clone(last) }.into())
        }
        (None, _) => None,
    }
}
