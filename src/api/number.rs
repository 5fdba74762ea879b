//! Numbers as Prometheus' API writes them: as Go's `strconv` would, shortest digits first.

use std::io::{self, Write};
use std::ops::Range;

use crate::shortest;

/// Magnitudes of sample values that are written without an exponent; 0 is too.
const PLAIN: Range<f64> = 1e-6..1e21;

/// Magnitudes below which whole numbers are exact, so that their digits are those of an integer.
const WHOLE: f64 = (1u64 << 53) as f64;

/// A short text that is put together before it is written: most of an answer is points, and each is one write.
pub struct Line {
    bytes: [u8; Line::BYTES],
    len: usize,
}

impl Line {
    /// The longest point: brackets, a time of at most 21 bytes, and a value of at most 25.
    const BYTES: usize = 64;

    /// An empty text.
    pub fn new() -> Line {
        Line { bytes: [0; Line::BYTES], len: 0 }
    }

    /// Adds bytes. The callers' texts are short; what does not fit would be a mistake in this file.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds the time of a sample in seconds: whole, or with exactly three decimals.
    #[inline]
    pub fn push_sample_time(&mut self, ms: i64) {
        if ms < 0 {
            self.push(b"-");
        }
        let (seconds, fraction) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
        self.push(itoa::Buffer::new().format(seconds).as_bytes());
        if fraction != 0 {
            let digit = |unit: u64| b'0' + (fraction / unit % 10) as u8;
            self.push(&[b'.', digit(100), digit(10), digit(1)]);
        }
    }

    /// Adds the value of a sample: `1.5`, `1e+21`, `NaN`, `+Inf`.
    #[inline]
    pub fn push_sample_value(&mut self, value: f64) {
        let whole = value as i64;
        if whole as f64 == value && value.abs() < WHOLE && (whole != 0 || value.is_sign_positive()) {
            return self.push(itoa::Buffer::new().format(whole).as_bytes());
        }
        self.push_fraction(value);
    }

    fn push_fraction(&mut self, value: f64) {
        let mut buffer = zmij::Buffer::new();
        let magnitude = value.abs();
        if value.is_finite() && (PLAIN.contains(&magnitude) || magnitude == 0.0) {
            let text = buffer.format_finite(value);
            if !text.contains('e') {
                // It has a fraction, if only to show that it is no integer.
                return self.push(text.strip_suffix(".0").unwrap_or(text).as_bytes());
            }
        }
        let mut text = Vec::with_capacity(Line::BYTES);
        write_any_value(&mut text, value).expect("writing to memory does not fail");
        self.push(&text);
    }

    /// What was put together.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The value of a sample: `1.5`, `1e+21`, `NaN`, `+Inf`.
pub fn write_sample_value(out: &mut impl Write, value: f64) -> io::Result<()> {
    let mut line = Line::new();
    line.push_sample_value(value);
    out.write_all(line.as_bytes())
}

/// The same for any value, however rare.
fn write_any_value(out: &mut impl Write, value: f64) -> io::Result<()> {
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
        out.write_all(shortest::plain(value).as_bytes())
    }
}

fn write_with_exponent(out: &mut impl Write, value: f64) -> io::Result<()> {
    let (digits, exponent) = shortest::digits(value);
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let (sign, exponent_sign) = (if value < 0.0 { "-" } else { "" }, if exponent < 0 { '-' } else { '+' });
    write!(out, "{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.unsigned_abs())
}

/// The time of a sample in seconds: whole, or with exactly three decimals.
pub fn write_sample_time(out: &mut impl Write, ms: i64) -> io::Result<()> {
    let mut line = Line::new();
    line.push_sample_time(ms);
    out.write_all(line.as_bytes())
}

/// The time of a scalar or string in seconds: trailing zeros are cut, unlike [`write_sample_time`].
pub fn write_scalar_time(out: &mut impl Write, ms: i64) -> io::Result<()> {
    write!(out, "{}", ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            // Halfway between two candidates, Go takes the even one.
            (8_796_093_022_208.0 + 1.0 / 16.0, "8796093022208.062"),
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

    proptest! {
        /// Most of random bits are numbers far from 1, so some are brought near it.
        #[test]
        fn the_quick_way_writes_what_the_general_one_does(bits in any::<u64>(), whole in any::<i64>(), digits in 0i32..20) {
            for value in [f64::from_bits(bits), bits as f64 / 1e6, whole as f64 / 10f64.powi(digits), whole as f64] {
                let any = text(|out| write_any_value(out, value));
                prop_assert_eq!(text(|out| write_sample_value(out, value)), any);
            }
        }
    }

    #[test]
    fn the_longest_texts_fit_into_a_line() {
        for value in
            [-9.999_999_999_999_999e20, -1.234_567_890_123_456_7e-6, -1.797_693_134_862_315_7e308, -1e-300]
        {
            let mut line = Line::new();
            line.push_sample_time(i64::MIN + 1);
            let time = line.as_bytes().len();
            line.push_sample_value(value);
            assert!(line.as_bytes().len() - time <= 25 && time <= 21, "{value}");
        }
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
