//! Durations as Prometheus writes them: `1h30m`, `500ms`; units fall, each at most once.

use std::fmt::Write as _;

/// Units from the largest to the smallest, with their length in milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The longest duration: Prometheus counts nanoseconds in 64 bits.
pub(crate) const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DurationError {
    /// Not digits and units in falling order.
    Syntax,
    /// Longer than [`DURATION_MS_MAX`].
    OutOfRange,
}

impl DurationError {
    /// The message in Prometheus' words.
    pub(crate) fn message(self, text: &str) -> String {
        match self {
            DurationError::Syntax => format!("not a valid duration string: {text:?}"),
            DurationError::OutOfRange => "duration out of range".to_owned(),
        }
    }
}

/// Milliseconds of a duration without sign.
pub(crate) fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    if text == "0" {
        return Ok(0);
    }
    let mut units = UNITS.iter();
    let mut total_ms: i64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(DurationError::Syntax);
    }
    while !rest.is_empty() {
        let (digits, after) = split_run(rest, |byte| byte.is_ascii_digit());
        let (unit, after) = split_run(after, |byte| byte.is_ascii_alphabetic());
        if digits.is_empty() {
            return Err(DurationError::Syntax);
        }
        // Going on from the unit before makes a repeated or rising unit an error.
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or(DurationError::Syntax)?;
        let count: i64 = digits.parse().map_err(|_| DurationError::OutOfRange)?;
        total_ms = count
            .checked_mul(*unit_ms)
            .and_then(|part_ms| total_ms.checked_add(part_ms))
            .filter(|total_ms| *total_ms <= DURATION_MS_MAX)
            .ok_or(DurationError::OutOfRange)?;
        rest = after;
    }
    Ok(total_ms)
}

/// The shortest text in units of days and below that parses to the same duration.
pub(crate) fn format_duration(duration_ms: i64) -> String {
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

fn split_run(text: &str, accept: impl Fn(&u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().take_while(|byte| accept(byte)).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_add_up_and_must_fall() {
        assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration_ms("1y2w3d4h5m6s7ms"), Ok(33_019_506_007));
        assert_eq!(parse_duration_ms("0"), Ok(0));
        for text in ["", "5", "m", "1m1h", "1m2m", "1.5m", "-1m", "1hs", "1 m", "é"] {
            assert_eq!(parse_duration_ms(text), Err(DurationError::Syntax), "{text}");
        }
    }

    #[test]
    fn a_duration_beyond_64_bits_of_nanoseconds_is_refused() {
        for text in ["293y", "99999999999999999999d", "106752d", "200000y1s"] {
            assert_eq!(parse_duration_ms(text), Err(DurationError::OutOfRange), "{text}");
        }
        assert!(parse_duration_ms("292y").is_ok());
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
