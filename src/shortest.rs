//! The shortest decimal digits that read back as the same float, as Go's `strconv` finds them.
//!
//! The standard library's are of the same number, but where a float lies exactly between two candidates, Go takes the one
//! whose last digit is even, and the standard library the larger one.

/// The number without an exponent, however long it gets (Go's `'f'` with precision -1). For finite numbers.
pub fn plain(value: f64) -> String {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    if !text.contains('e') {
        return text.strip_suffix(".0").unwrap_or(text).to_owned();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let (digits, exponent) = digits(value);
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// The digits, without zeros at either end, and the power of ten of the first of them. For finite numbers.
pub fn digits(value: f64) -> (String, i32) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0');
    if digits.is_empty() {
        return ("0".to_owned(), 0);
    }
    // Both are of a few hundred at most.
    let exponent = exponent.parse::<i32>().unwrap_or(0) + whole.len() as i32 - 1 - zeros as i32;
    (digits.to_owned(), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_two_candidates_at_the_same_distance_the_even_one_is_taken() {
        assert_eq!(plain(18_240_826_415_861.0 + 13.0 / 16.0), "18240826415861.812");
        assert_eq!(plain(8_796_093_022_208.0 + 1.0 / 16.0), "8796093022208.062");
        assert_eq!(plain(4_503_599_627_370_497.5), "4503599627370498");
    }

    #[test]
    fn zeros_are_written_out() {
        assert_eq!((plain(0.0), plain(-0.0)), ("0".to_owned(), "-0".to_owned()));
        assert_eq!(plain(1e23), "100000000000000000000000");
        assert_eq!(plain(-1.25e-9), "-0.00000000125");
        assert_eq!(digits(0.0), ("0".to_owned(), 0));
        assert_eq!(digits(-1.25e-9), ("125".to_owned(), -9));
        assert_eq!(digits(1200.0), ("12".to_owned(), 3));
    }

    proptest! {
        #[test]
        fn digits_read_back_and_are_no_more_than_those_of_the_standard_library(bits in any::<u64>(), near in any::<i64>()) {
            for value in [f64::from_bits(bits), near as f64 / 1e6] {
                if !value.is_finite() {
                    continue;
                }
                let text = plain(value);
                prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
                prop_assert_eq!(text.len(), format!("{value}").len());
                let (digits, exponent) = digits(value);
                let (first, rest) = digits.split_at(1);
                let read: f64 = format!("{first}.{rest}e{exponent}").parse().unwrap();
                prop_assert_eq!(read, value.abs());
            }
        }
    }
}
