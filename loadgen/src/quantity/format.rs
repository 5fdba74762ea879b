//! What people read: numbers with units.
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
}
