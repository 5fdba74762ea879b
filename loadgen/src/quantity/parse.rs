//! What people type: durations (`90s`, `1h30m`, `250ms`, `15d`), numbers (`1.5M`, `200k`, `1,500`), sizes (`32GiB`),
//! shares (`5%`, `0.05`).

use std::time::Duration;

/// Units of a duration with their seconds, as Prometheus knows them; `ms` comes first because it begins like `m`.
const DURATION_UNITS: [(&str, f64); 7] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("w", 604_800.0),
    ("y", 31_536_000.0),
];

/// Longest time that is believed to be meant: some three thousand years.
const SECONDS_MAX: f64 = 1e11;

/// Longest duration of anything that this program does.
const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Above 2^53 not every whole number has a float of its own.
const NUMBER_MAX: f64 = 9e15;

const COUNT_UNITS: [(&str, f64); 7] =
    [("", 1.0), ("k", 1e3), ("K", 1e3), ("M", 1e6), ("m", 1e6), ("G", 1e9), ("g", 1e9)];

const KIB: f64 = 1024.0;

const BYTE_UNITS: [(&str, f64); 11] = [
    ("", 1.0),
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", KIB),
    ("MiB", KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("TiB", KIB * KIB * KIB * KIB),
];

/// Reads a time as seconds: numbers with units, one after another; `0` needs no unit.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let malformed = || format!("{text:?} is not a duration such as 90s, 1h30m, 250ms or 15d");
    if text == "0" {
        return Ok(0.0);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
        let number: f64 = rest[..end].parse().map_err(|_| malformed())?;
        let (unit, unit_seconds) =
            DURATION_UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit)).ok_or_else(malformed)?;
        seconds += number * unit_seconds;
        rest = &rest[end + unit.len()..];
    }
    if text.is_empty() || seconds > SECONDS_MAX { Err(malformed()) } else { Ok(seconds) }
}

/// Reads a duration of at most a year.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = parse_seconds(text)?;
    if seconds > DURATION_MAX.as_secs_f64() {
        return Err(format!("{text:?} is longer than a year"));
    }
    // Whole microseconds: 0.001 has no exact binary form, and 250ms must be 250ms.
    Ok(Duration::from_micros((seconds * 1e6).round() as u64))
}

/// Reads a duration that may not be zero.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    Ok(duration)
}

/// Reads a number, zero included, with an optional `k`, `M` or `G` (thousands, millions, billions).
pub fn parse_number(text: &str) -> Result<f64, String> {
    with_unit(text, &COUNT_UNITS)
        .ok_or_else(|| format!("{text:?} is not a number such as 200000, 200k or 1.5M"))
}

/// Reads a number above zero.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let value = parse_number(text)?;
    if !(value > 0.0 && value <= NUMBER_MAX) {
        return Err(format!("{text:?} is out of range"));
    }
    Ok(value)
}

/// Reads a whole number above zero.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let value = parse_rate(text)?;
    if value.fract() != 0.0 {
        return Err(format!("{text:?} is not a whole number"));
    }
    Ok(value as u64)
}

/// Reads "32GiB", "500GB", "1048576".
pub fn parse_bytes(text: &str) -> Result<f64, String> {
    with_unit(text, &BYTE_UNITS).ok_or_else(|| format!("{text:?} is not a size such as 32GiB or 500GB"))
}

/// Reads a part of a whole that may exceed it: "150%", or a plain number up to 1, since with a larger one nobody
/// could tell whether percent were meant.
pub fn parse_ratio(text: &str) -> Result<f64, String> {
    let malformed = || format!("{text:?} is not a share such as 5% or 0.05");
    match text.trim_end().strip_suffix('%') {
        Some(percent) => with_unit(percent, &[("", 0.01)]).ok_or_else(malformed),
        // Tolerances are so small that people write them as 1e-11.
        None => text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(malformed),
    }
}

/// Reads a part of a whole: "5%" or "0.05".
pub fn parse_share(text: &str) -> Result<f64, String> {
    match parse_ratio(text)? {
        share if share <= 1.0 => Ok(share),
        _ => Err(format!("{text:?} is more than the whole")),
    }
}

/// A number, digits grouped by `,` or `_` at will, and one of the units behind it.
fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | '_'))).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    let value: f64 = digits.replace([',', '_'], "").parse().ok()?;
    Some(value * factor).filter(|value| value.is_finite())
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
        assert_eq!(parse_seconds("1y2w"), Ok(31_536_000.0 + 2.0 * 604_800.0));
        for text in ["", "5", "s", "5x", "5s3", "-1s", "1..2s", "5 s", "é", "99999999y"] {
            assert!(parse_duration(text).is_err() && parse_seconds(text).is_err(), "{text}");
        }
        assert!(parse_duration("400d").unwrap_err().contains("longer than a year"));
        assert!(parse_positive_duration("0s").is_err());
    }

    #[test]
    fn counts_take_a_letter_for_thousands_and_millions() {
        for (text, count) in [("200000", 200_000), ("200k", 200_000), ("1.5M", 1_500_000), ("1_000", 1000)] {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        assert_eq!((parse_number("1,500"), parse_number("0")), (Ok(1500.0), Ok(0.0)));
        for text in ["", "k", "1.5", "-3", "0", "1e5", "nan", "inf", "9999999G", "5é", "5 apples"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        assert_eq!(parse_bytes("32 GiB"), Ok(32.0 * KIB * KIB * KIB));
        assert_eq!(parse_bytes("500GB"), Ok(5e11));
        assert!(parse_bytes("5 potatoes").is_err());
    }

    #[test]
    fn shares_are_fractions_or_percentages() {
        assert_eq!((parse_share("1%"), parse_share("0.7")), (Ok(0.01), Ok(0.7)));
        assert_eq!(parse_share("1e-11"), Ok(1e-11));
        assert_eq!((parse_ratio("150%"), parse_ratio("1")), (Ok(1.5), Ok(1.0)));
        for text in ["", "%", "101%", "-1", "nan", "30", "half"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
        assert!(parse_ratio("30").is_err(), "percent may be meant, or thirty times");
    }
}
