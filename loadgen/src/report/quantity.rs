//! Numbers with units, as people write and read them.
//!
//! Four significant digits are shown: enough to check a sum by hand, and more than any measurement here deserves.

/// What stands in a table where there is no figure.
pub const NONE: &str = "–";

const KIB: f64 = 1024.0;

/// At most four significant digits, thousands separated by commas, no trailing zeros.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let integer_digits = value.abs().log10().floor() as i32 + 1;
    let decimals = (4 - integer_digits).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    let (integer, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let integer = separated(integer);
    if fraction.is_empty() { integer } else { format!("{integer}.{fraction}") }
}

/// All digits, thousands separated by commas.
pub fn exact(value: u64) -> String {
    separated(&value.to_string())
}

/// "1,500", "312 k", "7.2 M".
pub fn count(value: f64) -> String {
    if value.abs() < 10_000.0 {
        return number(value);
    }
    scaled(value, 1000.0, &["", "k", "M", "G", "T", "P"])
}

/// "512 MiB".
pub fn bytes(value: f64) -> String {
    scaled(value, KIB, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// "85 Mbit/s": networks are bought in bits.
pub fn bits_per_second(bytes_per_second: f64) -> String {
    scaled(bytes_per_second * 8.0, 1000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// "850 µs", "12.3 ms", "2.41 s".
pub fn milliseconds(value: f64) -> String {
    match value {
        value if !value.is_finite() => NONE.to_owned(),
        0.0 => "0 ms".to_owned(),
        value if value < 1.0 => format!("{} µs", number(value * 1000.0)),
        value if value < 1000.0 => format!("{} ms", number(value)),
        value => format!("{} s", number(value / 1000.0)),
    }
}

/// "45 s", "12 min 30 s", "2 h 5 min", "15 d".
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value < 60.0 {
        return format!("{} s", number(value));
    }
    let whole = value.round() as u64;
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut rest = whole;
    let mut parts = Vec::new();
    for (name, length) in units {
        let times = rest / length;
        rest %= length;
        if times > 0 {
            parts.push(format!("{times} {name}"));
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

/// "12.5 %" of a share between 0 and 1.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{} %", number(share * 100.0)) } else { NONE.to_owned() }
}

/// "1.85×".
pub fn ratio(value: f64) -> String {
    if value.is_finite() { format!("{}×", rounded(value)) } else { NONE.to_owned() }
}

/// "2025-06-30 14:05:09 UTC" of a time in milliseconds since the Unix epoch.
pub fn utc(time_ms: i64) -> String {
    let (days, of_day_s) = (time_ms.div_euclid(86_400_000), time_ms.rem_euclid(86_400_000) / 1000);
    // Years are counted from 1 March, so that the leap day is a year's last one; an era has 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day_s / 3600, of_day_s / 60 % 60, of_day_s % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Reads "1500", "1,500", "1.5k", "7.2M".
pub fn parse_count(text: &str) -> Result<f64, String> {
    let units = [("", 1.0), ("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9)];
    with_unit(text, &units).ok_or_else(|| format!("{text:?} is not a number such as 1500, 1.5k or 7.2M"))
}

/// Reads "32GiB", "500GB", "1048576".
pub fn parse_bytes(text: &str) -> Result<f64, String> {
    let units = [
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
    with_unit(text, &units).ok_or_else(|| format!("{text:?} is not a size such as 32GiB or 500GB"))
}

/// Reads "30%" or "30" as 0.3.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let units = [("", 0.01), ("%", 0.01)];
    with_unit(text, &units).ok_or_else(|| format!("{text:?} is not a percentage such as 30%"))
}

/// Reads a duration as Prometheus writes it, "30s", "1h30m", "15d", "1y", as seconds.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let invalid = || format!("{text:?} is not a duration such as 30s, 1h30m or 15d");
    if text == "0" {
        return Ok(0.0);
    }
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (amount, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let unit_s = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "y" => 31_536_000.0,
            _ => return Err(invalid()),
        };
        sum += amount.parse::<f64>().map_err(|_| invalid())? * unit_s;
        rest = next;
    }
    if text.is_empty() || sum > 1e11 { Err(invalid()) } else { Ok(sum) }
}

fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | '_'))).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    let value: f64 = digits.replace([',', '_'], "").parse().ok()?;
    Some(value * factor).filter(|value| value.is_finite())
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let mut scaled = value;
    let mut index = 0;
    // 999.95 would be shown as "1,000" of the smaller unit.
    while scaled.abs() >= base * 0.99995 && index + 1 < units.len() {
        scaled /= base;
        index += 1;
    }
    let text = number(scaled);
    if units[index].is_empty() { text } else { format!("{text} {}", units[index]) }
}

/// Three significant digits: a ratio of two measurements has no more.
fn rounded(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 4) as usize;
    let text = format!("{value:.decimals$}");
    let (integer, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.is_empty() { separated(integer) } else { format!("{}.{fraction}", separated(integer)) }
}

fn separated(integer: &str) -> String {
    let (sign, digits) = integer.strip_prefix('-').map_or(("", integer), |digits| ("-", digits));
    let mut result = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits_and_no_trailing_zeros() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(1234.56), "1,235");
        assert_eq!(number(12.3456), "12.35");
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(-1500.0), "-1,500");
        assert_eq!(number(f64::NAN), NONE);
    }

    #[test]
    fn counts_and_bytes_get_the_unit_that_people_would_choose() {
        assert_eq!(count(1500.0), "1,500");
        assert_eq!(count(312_000.0), "312 k");
        assert_eq!(count(7_200_000.0), "7.2 M");
        assert_eq!(count(999_999.0), "1 M");
        assert_eq!(bytes(512.0 * 1024.0 * 1024.0), "512 MiB");
        assert_eq!(bits_per_second(1e6), "8 Mbit/s");
    }

    #[test]
    fn times_read_like_times() {
        assert_eq!(milliseconds(0.85), "850 µs");
        assert_eq!(milliseconds(2410.0), "2.41 s");
        assert_eq!(seconds(750.0), "12 min 30 s");
        assert_eq!(seconds(15.0 * 86_400.0), "15 d");
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_751_292_309_999), "2025-06-30 14:05:09 UTC");
    }

    #[test]
    fn ratios_keep_three_digits() {
        assert_eq!(ratio(1.0), "1.00×");
        assert_eq!(ratio(13.62), "13.6×");
        assert_eq!(ratio(0.0734), "0.0734×");
        assert_eq!(ratio(f64::INFINITY), NONE);
    }

    #[test]
    fn parsing_takes_what_people_type() {
        assert_eq!(parse_count("1,500"), Ok(1500.0));
        assert_eq!(parse_count("7.2M"), Ok(7_200_000.0));
        assert_eq!(parse_bytes("32 GiB"), Ok(32.0 * KIB * KIB * KIB));
        assert_eq!(parse_percent("30%"), Ok(0.3));
        assert_eq!(parse_seconds("1h30m"), Ok(5400.0));
        assert_eq!(parse_seconds("15d"), Ok(1_296_000.0));
        assert_eq!(parse_seconds("500ms"), Ok(0.5));
    }

    #[test]
    fn parsing_refuses_everything_else() {
        for text in ["", "k", "1.2.3", "-5", "nan", "inf", "5 apples", "1e5"] {
            assert!(parse_count(text).is_err(), "{text:?}");
        }
        for text in ["", "5", "s", "5x", "1..5s", "-1d", "5 s", "99999999y", "µs"] {
            assert!(parse_seconds(text).is_err(), "{text:?}");
        }
        assert!(parse_bytes("5 potatoes").is_err());
        assert!(parse_percent("half").is_err());
    }
}
