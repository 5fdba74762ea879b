//! Calendar fields of a time in UTC (proleptic Gregorian), for the date functions of PromQL.

const DAY_SECONDS: i64 = 86_400;

/// The first second that Go's times know: 1 March of the year -292277022400. What is before it follows the last one.
const FIRST_SECOND: i64 = -9_223_372_028_741_760_000;

/// All fields of a date but the year are the same 400 years later.
const CYCLE_SECONDS: i128 = 146_097 * DAY_SECONDS as i128;

/// By how much, and by how many years, the last second of 64 bits is after the first one, whole cycles left out.
const AROUND_SECONDS: i64 = ((1i128 << 64) % CYCLE_SECONDS) as i64;
const AROUND_YEARS: i64 = ((1i128 << 64) / CYCLE_SECONDS * 400) as i64;

/// A date function: seconds since the epoch to the field.
pub(super) type DateFunction = fn(i64) -> f64;

/// The date function of that name.
pub(super) fn date_function(name: &str) -> Option<DateFunction> {
    Some(match name {
        "year" => |seconds| Date::of(seconds).year as f64,
        "month" => |seconds| f64::from(Date::of(seconds).month),
        "day_of_month" => |seconds| f64::from(Date::of(seconds).day),
        "day_of_year" => |seconds| f64::from(Date::of(seconds).day_of_year()),
        "days_in_month" => |seconds| {
            let date = Date::of(seconds);
            f64::from(days_in_month(date.year, date.month))
        },
        // The epoch was a Thursday.
        "day_of_week" => |seconds| (around(seconds).0.div_euclid(DAY_SECONDS) + 4).rem_euclid(7) as f64,
        "hour" => |seconds| (around(seconds).0.rem_euclid(DAY_SECONDS) / 3600) as f64,
        "minute" => |seconds| (around(seconds).0.rem_euclid(3600) / 60) as f64,
        _ => return None,
    })
}

/// The seconds of a value, cut off. What 64 bits cannot hold, and what is no number, is the least number: so Go's
/// compiler has it on amd64, and dashboards have seen what comes of it.
pub(super) fn seconds_of(value: f64) -> i64 {
    let fits = (i64::MIN as f64..-(i64::MIN as f64)).contains(&value);
    if fits { value as i64 } else { i64::MIN }
}

/// A time with the same fields as that of Go, and how many years it is before it.
fn around(seconds: i64) -> (i64, i64) {
    if seconds < FIRST_SECOND { (seconds + AROUND_SECONDS, AROUND_YEARS) } else { (seconds, 0) }
}

/// `2006-01-02T15:04:05Z`
pub(super) fn format_rfc3339(time_ms: i64) -> String {
    let seconds = time_ms / 1000;
    let date = Date::of(seconds);
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year,
        date.month,
        date.day,
        of_day / 3600,
        of_day % 3600 / 60,
        of_day % 60
    )
}

#[derive(Debug, PartialEq)]
struct Date {
    year: i64,
    month: u8,
    day: u8,
}

impl Date {
    /// The date, by counting from 1 March of year 0, so that the leap day ends a year: 400 years are 146,097 days.
    fn of(seconds: i64) -> Date {
        let (seconds, years) = around(seconds);
        let days = seconds.div_euclid(DAY_SECONDS) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2) + years;
        Date { year, month: month as u8, day: day as u8 }
    }

    fn day_of_year(&self) -> u16 {
        let before: u16 = (1..self.month).map(|month| u16::from(days_in_month(self.year, month))).sum();
        before + u16::from(self.day)
    }
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, seconds: i64) -> f64 {
        date_function(name).unwrap()(seconds)
    }

    #[test]
    fn known_days() {
        // 2024-02-29 23:59:59 UTC, a Thursday.
        let leap = 1_709_251_199;
        assert_eq!(format_rfc3339(leap * 1000), "2024-02-29T23:59:59Z");
        let expected = [
            ("year", 2024.0),
            ("month", 2.0),
            ("day_of_month", 29.0),
            ("day_of_week", 4.0),
            ("day_of_year", 60.0),
            ("days_in_month", 29.0),
            ("hour", 23.0),
            ("minute", 59.0),
        ];
        for (name, value) in expected {
            assert_eq!(field(name, leap), value, "{name}");
        }
        assert_eq!(field("days_in_month", -2_203_977_600), 28.0); // 1900-02-28
        assert_eq!((field("year", -1), field("day_of_year", -1)), (1969.0, 365.0));
    }

    #[test]
    fn what_is_no_time_has_the_fields_that_it_has_in_go() {
        // 292277026596-12-04 15:30:08, one second after the last one.
        let expected = [
            ("year", 292_277_026_596.0),
            ("month", 12.0),
            ("day_of_month", 4.0),
            ("day_of_week", 0.0),
            ("hour", 15.0),
            ("minute", 30.0),
        ];
        for (name, value) in expected {
            assert_eq!(field(name, i64::MAX), value, "{name}");
            for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e19, -1e19, i64::MIN as f64] {
                assert_eq!(field(name, seconds_of(number)), value, "{name} of {number}");
            }
        }
        assert_eq!(seconds_of(-1.9), -1);
        assert_eq!(field("year", FIRST_SECOND), -292_277_022_400.0);
        assert_eq!((field("month", FIRST_SECOND), field("day_of_month", FIRST_SECOND)), (3.0, 1.0));
    }

    #[test]
    fn extreme_seconds_do_not_overflow() {
        for seconds in [i64::MIN, i64::MAX] {
            for name in ["year", "day_of_year", "day_of_week", "days_in_month"] {
                assert!(field(name, seconds).is_finite());
            }
        }
    }
}
