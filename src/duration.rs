//! Durations as Prometheus writes them: `15d`, `2h30m`, `500ms`.

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

/// A text that is not a duration; the words are Prometheus' own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing at all.
    #[error("empty duration string")]
    Empty,
    /// Not digits and units in order.
    #[error("not a valid duration string: {0:?}")]
    Malformed(String),
    /// More than 64 bits of nanoseconds hold (292 years), which is Prometheus' limit.
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
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or(DurationError::OutOfRange)?;
        (rest, units) = (after, &units[index + 1..]);
    }
    Ok(total_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for text in ["294y", "99999999999999999999s", "9223372036854775807y"] {
            assert_eq!(parse_duration_ms(text), Err(DurationError::OutOfRange), "{text}");
        }
    }
}
