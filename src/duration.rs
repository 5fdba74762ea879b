//! Durations as Prometheus writes them: `15d`, `2h30m`, `500ms`.

use std::fmt::Write;

/// Units from large to small; a text may leave out any, but not reorder them.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The longest duration: Prometheus counts nanoseconds in 64 bits, which is 292 years.
pub const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

/// A text that is not a duration; the words are Prometheus' own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing at all.
    #[error("empty duration string")]
    Empty,
    /// Not digits and units in order.
    #[error("not a valid duration string: {0:?}")]
    Malformed(String),
    /// Longer than [`DURATION_MS_MAX`].
    #[error("duration out of range")]
    OutOfRange,
}

/// Parses a duration to milliseconds; `0` needs no unit.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let malformed = || DurationError::Malformed(text.to_owned());
    let (mut rest, mut units, mut total_ms) = (text, UNITS.as_slice(), 0i64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let index = units.iter().position(|(name, _)| *name == unit).ok_or_else(malformed)?;
        if digits == 0 {
            return Err(malformed());
        }
        let count: i64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total_ms = count
            .checked_mul(units[index].1)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|ms| *ms <= DURATION_MS_MAX)
            .ok_or(DurationError::OutOfRange)?;
        (rest, units) = (after, &units[index + 1..]);
    }
    Ok(total_ms)
}

/// The shortest text in units of days and below that parses to the same duration.
pub fn format_duration(duration_ms: i64) -> String {
    let mut text = String::new();
    if duration_ms < 0 {
        text.push('-');
    }
    let mut left_ms = duration_ms.unsigned_abs();
    for (unit, unit_ms) in &UNITS[2..] {
        let count = left_ms / unit_ms.unsigned_abs();
        left_ms %= unit_ms.unsigned_abs();
        if count > 0 {
            write!(text, "{count}{unit}").expect("a String takes everything");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_in_prometheus() {
        for (text, ms) in [
            ("0", 0),
            ("324ms", 324),
            ("3s", 3_000),
            ("5m", 300_000),
            ("2m0s", 120_000),
            ("1h30m", 5_400_000),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        assert_eq!(parse_duration_ms("1y1w1d"), Ok((365 + 7 + 1) * 86_400_000));
        assert_eq!(parse_duration_ms(""), Err(DurationError::Empty));
        for text in ["1", "1y1m1d", "-1w", "1.5d", "d", "5mm", "5 m", "é", "1é", "1h2h"] {
            assert_eq!(parse_duration_ms(text), Err(DurationError::Malformed(text.to_owned())), "{text}");
        }
        for text in ["293y", "106752d", "200000y1s", "99999999999999999999s", "9223372036854775807y"] {
            assert_eq!(parse_duration_ms(text), Err(DurationError::OutOfRange), "{text}");
        }
    }
    proptest! {
        #[test]
        fn formatted_durations_parse_to_themselves(duration_ms in 0..=DURATION_MS_MAX) {
            prop_assert_eq!(parse_duration_ms(&format_duration(duration_ms)), Ok(duration_ms));
        }

        #[test]
        fn any_text_ends_in_a_result(text in "[0-9smhdwy. -]{0,12}|.{0,12}") {
            let _ = parse_duration_ms(&text);
        }
    }
}
