//! Numbers as Go prints them, for texts and labels that have to equal those of Prometheus.

use crate::shortest;

/// The shortest digits that read back as the same number, without an exponent (Go's `%f` with precision -1).
pub(super) fn format_plain(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    if value.is_nan() { "NaN".to_owned() } else { shortest::plain(value) }
}

/// Go's `%g`: the shortest digits, or so many significant ones; an exponent when it is below -4 or too large.
pub(super) fn format_general(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_plain(value);
    }
    let (digits, exponent) = match precision {
        Some(digits) => {
            let scientific = format!("{value:.*e}", digits.max(1) - 1);
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
            let digits = match digits.trim_end_matches('0') {
                "" => "0".to_owned(),
                trimmed => trimmed.to_owned(),
            };
            (digits, exponent.parse().unwrap_or(0))
        }
        None => shortest::digits(value),
    };
    let sign = if value < 0.0 { "-" } else { "" };
    let large = match precision {
        // Trailing zeros before the point are worth printing as long as there are digits for them.
        Some(digits) => i32::try_from(digits.max(1)).unwrap_or(i32::MAX),
        // Go decides this as if the shortest digits were six.
        None => 6,
    };
    if exponent < -4 || exponent >= large {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// The form of OpenMetrics: like `%g`, but always recognisable as a float (`1.0`).
pub(super) fn format_open_metrics(value: f64) -> String {
    let mut text = format_general(value, None);
    if value.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_go() {
        for (value, text) in [
            (1.5, "1.5"),
            (-1.1, "-1.1"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (123456.0, "123456"),
            (1234567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_general(value, None), text);
        }
        for (value, text) in [(2.0, "2"), (12.34, "12"), (1234.0, "1.2e+03"), (0.004567, "0.0046")] {
            assert_eq!(format_general(value, Some(2)), text);
        }
        assert_eq!(format_plain(1e21), "1000000000000000000000");
        assert_eq!(format_plain(f64::NEG_INFINITY), "-Inf");
        assert_eq!((format_open_metrics(1.0), format_open_metrics(0.99)), ("1.0".into(), "0.99".into()));
    }
}
