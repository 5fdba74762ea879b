//! Numbers as Prometheus' API writes them: as Go's `strconv` would, shortest digits first.

use std::io::{self, Write};
use std::ops::Range;

/// Magnitudes of sample values that are written without an exponent; 0 is too.
const PLAIN: Range<f64> = 1e-6..1e21;

/// The value of a sample: `1.5`, `1e+21`, `NaN`, `+Inf`.
pub fn write_sample_value(out: &mut impl Write, value: f64) -> io::Result<()> {
    let magnitude = value.abs();
    if magnitude != 0.0 && value.is_finite() && !PLAIN.contains(&magnitude) {
        return write_with_exponent(out, value);
    }
    write_plain(out, value)
}

/// A number without an exponent, however long it gets; Prometheus writes scalars so.
pub fn write_plain(out: &mut impl Write, value: f64) -> io::Result<()> {
    if value.is_nan() {
        out.write_all(b"NaN")
    } else if value.is_infinite() {
        out.write_all(if value > 0.0 { b"+Inf" } else { b"-Inf" })
    } else {
        write!(out, "{value}")
    }
}

fn write_with_exponent(out: &mut impl Write, value: f64) -> io::Result<()> {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    write!(out, "{digits}e{sign}{exponent:0>2}")
}

/// The time of a sample in seconds: whole, or with exactly three decimals.
pub fn write_sample_time(out: &mut impl Write, ms: i64) -> io::Result<()> {
    let sign = if ms < 0 { "-" } else { "" };
    let (seconds, fraction) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
    if fraction == 0 { write!(out, "{sign}{seconds}") } else { write!(out, "{sign}{seconds}.{fraction:03}") }
}

/// The time of a scalar or string in seconds: trailing zeros are cut, unlike [`write_sample_time`].
pub fn write_scalar_time(out: &mut impl Write, ms: i64) -> io::Result<()> {
    write!(out, "{}", ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_look_as_in_go() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (123_456_789.125, "123456789.125"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (1e-6, "0.000001"),
            (9.5e-7, "9.5e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(|out| write_sample_value(out, value)), expected);
        }
        assert_eq!(text(|out| write_plain(out, 1e-7)), "0.0000001");
    }

    #[test]
    fn times_look_as_in_prometheus() {
        for (ms, expected) in
            [(0, "0"), (1_435_781_451_781, "1435781451.781"), (20, "0.020"), (1_500, "1.500"), (-1, "-0.001")]
        {
            assert_eq!(text(|out| write_sample_time(out, ms)), expected);
        }
        assert_eq!(text(|out| write_sample_time(out, i64::MIN)), "-9223372036854775.808");
        assert_eq!(text(|out| write_scalar_time(out, 1_500)), "1.5");
    }
}
