//! Numbers as people type them: durations (`90s`, `1m30s`, `250ms`) and counts (`1.5M`, `200k`, `200_000`).

use std::time::Duration;

/// Units of a duration with their seconds; `ms` comes first because it begins like `m`.
const DURATION_UNITS: [(&str, f64); 5] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

/// Longest duration that is believed to be meant.
const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Parses a duration: numbers with units, one after another; `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let malformed = || format!("{text:?} is not a duration such as 90s, 1m30s or 250ms");
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
        let number: f64 = rest[..end].parse().map_err(|_| malformed())?;
        let (unit, unit_seconds) =
            DURATION_UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit)).ok_or_else(malformed)?;
        seconds += number * unit_seconds;
        rest = &rest[end + unit.len()..];
    }
    if text.is_empty() {
        return Err(malformed());
    }
    if seconds > DURATION_MAX.as_secs_f64() {
        return Err(format!("{text:?} is longer than a year"));
    }
    // Whole microseconds: 0.001 has no exact binary form, and 250ms must be 250ms.
    Ok(Duration::from_micros((seconds * 1e6).round() as u64))
}

/// Parses a duration that may not be zero.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    Ok(duration)
}

/// Parses a count with an optional `k`, `M` or `G` (thousands, millions, billions) and `_` between digits.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let value = parse_rate(text)?;
    if value.fract() != 0.0 {
        return Err(format!("{text:?} is not a whole number"));
    }
    Ok(value as u64)
}

/// Parses a positive number with an optional `k`, `M` or `G`.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let malformed = || format!("{text:?} is not a number such as 200000, 200k or 1.5M");
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1e6),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'_') {
        return Err(malformed());
    }
    let value = digits.replace('_', "").parse::<f64>().map_err(|_| malformed())? * factor;
    // Above 2^53 not every whole number has a float of its own.
    if !(value > 0.0 && value <= 9e15) {
        return Err(format!("{text:?} is out of range"));
    }
    Ok(value)
}

/// Parses a share: `0.5` or `50%`, from 0 to 1.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let (digits, divisor) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    let share =
        digits.parse::<f64>().map_err(|_| format!("{text:?} is not a share such as 0.01 or 1%"))? / divisor;
    if !(0.0..=1.0).contains(&share) {
        return Err(format!("{text:?} is not between 0 and 1 (or 0% and 100%)"));
    }
    Ok(share)
}

/// A number for people: three or four digits and a letter.
pub fn short(value: f64) -> String {
    match value {
        _ if value >= 1e9 => format!("{:.2}G", value / 1e9),
        _ if value >= 1e6 => format!("{:.2}M", value / 1e6),
        _ if value >= 1e4 => format!("{:.1}k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units_in_a_row() {
        for (text, ms) in [("90s", 90_000), ("1m30s", 90_000), ("250ms", 250), ("1.5h", 5_400_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "5x", "5s3", "-1s", "400d", "1..2s", "é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_positive_duration("0s").is_err());
    }

    #[test]
    fn counts_take_a_letter_for_thousands_and_millions() {
        for (text, count) in [("200000", 200_000), ("200k", 200_000), ("1.5M", 1_500_000), ("1_000", 1000)] {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        for text in ["", "k", "1.5", "-3", "0", "1e5", "nan", "inf", "9999999G", "5é"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_fractions_or_percentages() {
        assert_eq!(parse_share("1%"), Ok(0.01));
        assert_eq!(parse_share("0.7"), Ok(0.7));
        for text in ["", "%", "101%", "-1", "nan"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }
}
