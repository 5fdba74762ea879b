//! The part of a histogram chunk that all its samples share: header and layout.

use super::bits::{BitReader, BitWriter, PutBits};
use super::fault::Fault;
use super::histogram::{NativeHistogram, ResetHint, SCHEMA_CUSTOM, Span};
use super::varbit::{put_uvarbit, put_varbit, take_uvarbit, take_varbit};

/// Bytes of the header: number of samples, big endian, then the reset hint in the two top bits of a byte.
pub const HEADER_BYTES: usize = 3;

/// The bits of a header's byte that hold the reset hint.
const HINT_MASK: u8 = 0b1100_0000;

/// The header of a chunk.
pub fn header(count: u16, hint: ResetHint) -> [u8; HEADER_BYTES] {
    let [high, low] = count.to_be_bytes();
    let hint = match hint {
        ResetHint::Unknown => 0b0000_0000,
        ResetHint::Yes => 0b1000_0000,
        ResetHint::No => 0b0100_0000,
        ResetHint::Gauge => 0b1100_0000,
    };
    [high, low, hint]
}

/// The reset hint in a byte of the header.
pub fn hint(byte: u8) -> ResetHint {
    match byte & HINT_MASK {
        0b0000_0000 => ResetHint::Unknown,
        0b1000_0000 => ResetHint::Yes,
        0b0100_0000 => ResetHint::No,
        _ => ResetHint::Gauge,
    }
}

/// Appends the layout of a chunk that begins with this sample.
pub fn put_layout<C, B>(writer: &mut BitWriter<'_>, first: &NativeHistogram<C, B>) {
    put_zero_threshold(writer, first.zero_threshold);
    put_varbit(writer, i64::from(first.schema));
    for spans in [&first.positive.spans, &first.negative.spans] {
        put_uvarbit(writer, spans.len() as u64);
        for span in spans {
            put_uvarbit(writer, u64::from(span.length));
            put_varbit(writer, i64::from(span.offset));
        }
    }
    if first.schema == SCHEMA_CUSTOM {
        put_uvarbit(writer, first.custom_values.len() as u64);
        for bound in &first.custom_values {
            put_bound(writer, *bound);
        }
    }
}

/// Reads a layout into a sample that has no buckets yet.
pub fn take_layout<C, B>(reader: &mut BitReader<'_>, first: &mut NativeHistogram<C, B>) -> Result<(), Fault> {
    first.zero_threshold = take_zero_threshold(reader)?;
    first.schema = i32::try_from(take_varbit(reader)?).map_err(|_| Fault::Malformed)?;
    for spans in [&mut first.positive.spans, &mut first.negative.spans] {
        // Grows with what was read, whatever number is announced.
        for _ in 0..take_uvarbit(reader)? {
            let length = u32::try_from(take_uvarbit(reader)?).map_err(|_| Fault::Malformed)?;
            let offset = i32::try_from(take_varbit(reader)?).map_err(|_| Fault::Malformed)?;
            spans.push(Span { offset, length });
        }
    }
    if first.schema == SCHEMA_CUSTOM {
        for _ in 0..take_uvarbit(reader)? {
            first.custom_values.push(take_bound(reader)?);
        }
    }
    Ok(())
}

/// Says that a threshold follows as a float.
const THRESHOLD_AS_FLOAT: u8 = 255;

/// A byte between 0 and [`THRESHOLD_AS_FLOAT`] is this much above the power of two that it stands for.
const THRESHOLD_BIAS: i64 = 244;

/// Most thresholds are a power of two, and take a byte.
fn put_zero_threshold(writer: &mut BitWriter<'_>, threshold: f64) {
    if threshold == 0.0 {
        writer.put(0, 8);
        return;
    }
    let bits = threshold.to_bits();
    // The sign ends up in the exponent, so that a negative threshold is out of range.
    let (exponent, mantissa) = ((bits >> 52) as i64 - 1023, bits << 12);
    let byte = exponent + THRESHOLD_BIAS;
    if mantissa == 0 && (1..i64::from(THRESHOLD_AS_FLOAT)).contains(&byte) {
        writer.put(byte as u64, 8);
    } else {
        writer.put(u64::from(THRESHOLD_AS_FLOAT), 8);
        writer.put(bits, 64);
    }
}

fn take_zero_threshold(reader: &mut BitReader<'_>) -> Result<f64, Fault> {
    let byte = reader.take(8).ok_or(Fault::Truncated)?;
    if byte == 0 {
        return Ok(0.0);
    }
    let bits = if byte == u64::from(THRESHOLD_AS_FLOAT) {
        reader.take(64).ok_or(Fault::Truncated)?
    } else {
        ((byte as i64 - THRESHOLD_BIAS + 1023) as u64) << 52
    };
    Ok(f64::from_bits(bits))
}

/// The largest bound that is stored as a number of thousandths: with one added, it fits a varbit of 32 bits.
const BOUND_THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// Most bounds are small and have few decimals: they are stored as thousandths plus one. 0 says that a float follows.
fn put_bound(writer: &mut BitWriter<'_>, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if (0.0..=BOUND_THOUSANDTHS_MAX).contains(&thousandths) && bound == whole / 1000.0 {
        put_uvarbit(writer, whole as u64 + 1);
    } else {
        put_uvarbit(writer, 0);
        writer.put(bound.to_bits(), 64);
    }
}

fn take_bound(reader: &mut BitReader<'_>) -> Result<f64, Fault> {
    match take_uvarbit(reader)? {
        0 => Ok(f64::from_bits(reader.take(64).ok_or(Fault::Truncated)?)),
        thousandths => Ok((thousandths - 1) as f64 / 1000.0),
    }
}
