//! The values of float histograms in a chunk (Prometheus `tsdb/chunkenc/float_histogram.go`): each a float of its own,
//! first raw, then as its difference to the last.

use super::bits::{BitReader, BitWriter, PutBits};
use super::fault::Fault;
use super::histogram::{FloatHistogram, ResetHint};
use super::histogram_track::{Float, Kind};
use super::window::Window;

/// The window of each value.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    count: Window,
    zero_count: Window,
    sum: Window,
    positive: Vec<Window>,
    negative: Vec<Window>,
}

impl Kind for Float {
    type Count = f64;
    type Bucket = f64;
    type Context = Windows;

    const FIRST_BUCKET_BITS_MIN: usize = 64;

    fn count(_before: f64, value: f64) -> f64 {
        value
    }

    fn value(_before: f64, count: f64) -> f64 {
        count
    }

    fn sum(left: f64, right: f64) -> f64 {
        left + right
    }

    fn same_count(left: f64, right: f64) -> bool {
        left.to_bits() == right.to_bits()
    }

    fn same_bucket(left: f64, right: f64) -> bool {
        left == right || left.to_bits() == right.to_bits()
    }

    /// Less is told than for integers: this is what Prometheus writes.
    fn header_when_cut(found: ResetHint) -> ResetHint {
        match found {
            ResetHint::Yes | ResetHint::Gauge => found,
            ResetHint::No | ResetHint::Unknown => ResetHint::Unknown,
        }
    }

    /// More is told than is known: this is what Prometheus writes.
    fn header_when_continued(found: ResetHint) -> ResetHint {
        match found {
            ResetHint::Yes | ResetHint::Gauge => found,
            ResetHint::No | ResetHint::Unknown => ResetHint::No,
        }
    }

    fn context(positive: usize, negative: usize) -> Windows {
        Windows {
            positive: vec![Window::default(); positive],
            negative: vec![Window::default(); negative],
            ..Windows::default()
        }
    }

    fn put_first(writer: &mut BitWriter<'_>, sample: &FloatHistogram) {
        for value in [sample.count, sample.zero_count, sample.sum] {
            writer.put(value.to_bits(), 64);
        }
        for value in sample.positive.values.iter().chain(&sample.negative.values) {
            writer.put(value.to_bits(), 64);
        }
    }

    fn put_next(
        windows: &mut Windows,
        last: &mut FloatHistogram,
        writer: &mut BitWriter<'_>,
        sample: &FloatHistogram,
    ) {
        put_value(writer, &mut last.count, &mut windows.count, sample.count);
        put_value(writer, &mut last.zero_count, &mut windows.zero_count, sample.zero_count);
        put_value(writer, &mut last.sum, &mut windows.sum, sample.sum);
        put_values(writer, &mut last.positive.values, &mut windows.positive, &sample.positive.values);
        put_values(writer, &mut last.negative.values, &mut windows.negative, &sample.negative.values);
    }

    fn take_first(reader: &mut BitReader<'_>, first: &mut FloatHistogram) -> Result<(), Fault> {
        let FloatHistogram { count, zero_count, sum, positive, negative, .. } = first;
        for value in [count, zero_count, sum] {
            *value = f64::from_bits(reader.take(64).ok_or(Fault::Truncated)?);
        }
        for value in positive.values.iter_mut().chain(&mut negative.values) {
            *value = f64::from_bits(reader.take(64).ok_or(Fault::Truncated)?);
        }
        Ok(())
    }

    fn take_next(
        windows: &mut Windows,
        last: &mut FloatHistogram,
        reader: &mut BitReader<'_>,
    ) -> Result<(), Fault> {
        take_value(reader, &mut last.count, &mut windows.count)?;
        take_value(reader, &mut last.zero_count, &mut windows.zero_count)?;
        take_value(reader, &mut last.sum, &mut windows.sum)?;
        if last.is_stale() {
            return Ok(());
        }
        take_values(reader, &mut last.positive.values, &mut windows.positive)?;
        take_values(reader, &mut last.negative.values, &mut windows.negative)
    }
}

fn put_value(writer: &mut BitWriter<'_>, last: &mut f64, window: &mut Window, value: f64) {
    window.put(writer, value.to_bits() ^ last.to_bits());
    *last = value;
}

fn take_value(reader: &mut BitReader<'_>, last: &mut f64, window: &mut Window) -> Result<(), Fault> {
    *last = f64::from_bits(last.to_bits() ^ window.take(reader)?);
    Ok(())
}

fn put_values(writer: &mut BitWriter<'_>, last: &mut [f64], windows: &mut [Window], values: &[f64]) {
    for ((value, last), window) in values.iter().zip(last).zip(windows) {
        put_value(writer, last, window, *value);
    }
}

fn take_values(reader: &mut BitReader<'_>, last: &mut [f64], windows: &mut [Window]) -> Result<(), Fault> {
    for (last, window) in last.iter_mut().zip(windows) {
        take_value(reader, last, window)?;
    }
    Ok(())
}
