//! The values of integer histograms in a chunk (Prometheus `tsdb/chunkenc/histogram.go`): integers as varbits, first raw,
//! then as deltas of deltas; the sum as a float.

use super::bits::{BitReader, BitWriter, PutBits};
use super::fault::Fault;
use super::histogram::{Histogram, ResetHint};
use super::histogram_track::{Integer, Kind};
use super::varbit::{put_uvarbit, put_varbit, take_uvarbit, take_varbit};
use super::window::Window;

/// How the last sample differs from the one before it.
#[derive(Debug, Clone, Default)]
pub struct Deltas {
    count: i64,
    zero_count: i64,
    positive: Vec<i64>,
    negative: Vec<i64>,
    sum: Window,
}

impl Kind for Integer {
    type Count = u64;
    type Bucket = i64;
    type Context = Deltas;

    const FIRST_BUCKET_BITS_MIN: usize = 1;

    fn count(before: i64, value: i64) -> i64 {
        before.wrapping_add(value)
    }

    fn value(before: i64, count: i64) -> i64 {
        count.wrapping_sub(before)
    }

    fn sum(left: i64, right: i64) -> i64 {
        left.wrapping_add(right)
    }

    fn same_count(left: u64, right: u64) -> bool {
        left == right
    }

    fn same_bucket(left: i64, right: i64) -> bool {
        left == right
    }

    fn header_when_cut(found: ResetHint) -> ResetHint {
        found
    }

    fn header_when_continued(found: ResetHint) -> ResetHint {
        found
    }

    fn context(positive: usize, negative: usize) -> Deltas {
        Deltas { positive: vec![0; positive], negative: vec![0; negative], ..Deltas::default() }
    }

    fn put_first(writer: &mut BitWriter<'_>, sample: &Histogram) {
        put_uvarbit(writer, sample.count);
        put_uvarbit(writer, sample.zero_count);
        writer.put(sample.sum.to_bits(), 64);
        for value in sample.positive.values.iter().chain(&sample.negative.values) {
            put_varbit(writer, *value);
        }
    }

    fn put_next(deltas: &mut Deltas, last: &mut Histogram, writer: &mut BitWriter<'_>, sample: &Histogram) {
        if sample.is_stale() {
            // It has no counts. Only stale markers can follow, so the deltas are of no use any more.
            put_varbit(writer, 0);
            put_varbit(writer, 0);
        } else {
            put_count(writer, &mut last.count, &mut deltas.count, sample.count);
            put_count(writer, &mut last.zero_count, &mut deltas.zero_count, sample.zero_count);
        }
        deltas.sum.put(writer, sample.sum.to_bits() ^ last.sum.to_bits());
        last.sum = sample.sum;
        put_values(writer, &mut last.positive.values, &mut deltas.positive, &sample.positive.values);
        put_values(writer, &mut last.negative.values, &mut deltas.negative, &sample.negative.values);
    }

    fn take_first(reader: &mut BitReader<'_>, first: &mut Histogram) -> Result<(), Fault> {
        first.count = take_uvarbit(reader)?;
        first.zero_count = take_uvarbit(reader)?;
        first.sum = f64::from_bits(reader.take(64).ok_or(Fault::Truncated)?);
        for value in first.positive.values.iter_mut().chain(&mut first.negative.values) {
            *value = take_varbit(reader)?;
        }
        Ok(())
    }

    fn take_next(deltas: &mut Deltas, last: &mut Histogram, reader: &mut BitReader<'_>) -> Result<(), Fault> {
        take_count(reader, &mut last.count, &mut deltas.count)?;
        take_count(reader, &mut last.zero_count, &mut deltas.zero_count)?;
        last.sum = f64::from_bits(last.sum.to_bits() ^ deltas.sum.take(reader)?);
        if last.is_stale() {
            return Ok(());
        }
        take_values(reader, &mut last.positive.values, &mut deltas.positive)?;
        take_values(reader, &mut last.negative.values, &mut deltas.negative)
    }
}

fn put_count(writer: &mut BitWriter<'_>, last: &mut u64, last_delta: &mut i64, count: u64) {
    let delta = count.wrapping_sub(*last) as i64;
    put_varbit(writer, delta.wrapping_sub(*last_delta));
    (*last, *last_delta) = (count, delta);
}

fn take_count(reader: &mut BitReader<'_>, last: &mut u64, delta: &mut i64) -> Result<(), Fault> {
    *delta = delta.wrapping_add(take_varbit(reader)?);
    *last = last.wrapping_add_signed(*delta);
    Ok(())
}

fn put_values(writer: &mut BitWriter<'_>, last: &mut [i64], deltas: &mut [i64], values: &[i64]) {
    for ((value, last), last_delta) in values.iter().zip(last).zip(deltas) {
        let delta = value.wrapping_sub(*last);
        put_varbit(writer, delta.wrapping_sub(*last_delta));
        (*last, *last_delta) = (*value, delta);
    }
}

fn take_values(reader: &mut BitReader<'_>, last: &mut [i64], deltas: &mut [i64]) -> Result<(), Fault> {
    for (last, delta) in last.iter_mut().zip(deltas) {
        *delta = delta.wrapping_add(take_varbit(reader)?);
        *last = last.wrapping_add(*delta);
    }
    Ok(())
}
