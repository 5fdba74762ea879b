//! Series as scripts write them: `metric{a="b"} 0+10x3 _ 7 stale`.

use annulus_shards::labels::METRIC_NAME;
use annulus_shards::{Labels, LabelsBuilder, STALE_NAN_BITS};

use super::histogram::{ScriptHistogram, parse_histogram, repeated};
use crate::promql::parser::literal::{parse_number, unquote};

/// What stands at one step of a series.
#[derive(Debug, Clone)]
pub(super) enum Point {
    /// No sample.
    Gap,
    /// A sample; may be the stale marker.
    Value(f64),
    /// A native histogram.
    Histogram(ScriptHistogram),
}

/// A line that describes a series.
#[derive(Debug, Clone)]
pub(super) struct SeriesLine {
    pub labels: Labels,
    pub points: Vec<Point>,
    /// The line gives start timestamps (`@st`) for the samples of the line after it.
    pub start_timestamps: bool,
}

/// Repetitions beyond this are a mistake in the script.
const POINTS_MAX: usize = 1_000_000;

/// Reads a series line.
pub(super) fn parse_series(line: &str) -> Result<SeriesLine, String> {
    let (labels, rest) = parse_labels(line)?;
    let (start_timestamps, rest) = match rest.strip_prefix("@st") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Err(format!("unexpected {rest:?} after the labels of a series"));
    }
    // Start timestamps are not stored, so their values need not be understood.
    let points = if start_timestamps { Vec::new() } else { parse_points(rest)? };
    Ok(SeriesLine { labels, points, start_timestamps })
}

/// A number that is the whole line: the expectation of a scalar.
pub(super) fn parse_scalar_line(line: &str) -> Option<f64> {
    match take_number(line)? {
        (value, "") => Some(value),
        _ => None,
    }
}

fn parse_labels(line: &str) -> Result<(Labels, &str), String> {
    let mut builder = LabelsBuilder::default();
    let name_len = run_of(line, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let (name, mut rest) = line.split_at(name_len);
    if !name.is_empty() {
        builder.set(METRIC_NAME, name);
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{line:?} does not begin with a series"));
    }
    // Two braces after a blank are the first value, a histogram.
    let braces = rest.trim_start().strip_prefix('{');
    let Some(inner) = braces.filter(|inner| !inner.starts_with('{')) else {
        return match name {
            "" => Err(format!("{line:?} does not begin with a series")),
            _ => Ok((builder.finish(), rest)),
        };
    };
    rest = inner.trim_start();
    while !rest.starts_with('}') {
        let (label, after) = take_label_name(rest)?;
        rest = after.trim_start();
        match rest.strip_prefix('=') {
            Some(after) => {
                let (value, after) = take_string(after.trim_start())?;
                builder.set(&label, &value);
                rest = after.trim_start();
            }
            // A quoted name without a value is that of the metric.
            None => _ = builder.set(METRIC_NAME, &label),
        }
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.starts_with('}') => rest,
            None => return Err(format!("expected , or }} in labels, got {rest:?}")),
        };
    }
    Ok((builder.finish(), &rest[1..]))
}

fn take_label_name(text: &str) -> Result<(String, &str), String> {
    if text.starts_with(['"', '\'', '`']) {
        return take_string(text);
    }
    match run_of(text, |c| c.is_ascii_alphanumeric() || c == '_') {
        0 => Err(format!("expected a label name, got {text:?}")),
        len => Ok((text[..len].to_owned(), &text[len..])),
    }
}

/// A quoted string at the start of a text, and what comes after it.
pub(super) fn take_string(text: &str) -> Result<(String, &str), String> {
    let not_a_string = || format!("expected a string, got {text:?}");
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')).ok_or_else(not_a_string)?;
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            let end = index + c.len_utf8();
            return Ok((unquote(&text[..end])?, &text[end..]));
        }
    }
    Err(not_a_string())
}

fn parse_points(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (item, after) = split_item(rest);
        rest = after.trim_start();
        push_item(&mut points, item)?;
        if points.len() > POINTS_MAX {
            return Err(format!("a series of more than {POINTS_MAX} points"));
        }
    }
    Ok(points)
}

/// Splits at the first blank that is not inside a histogram.
fn split_item(text: &str) -> (&str, &str) {
    let mut depth = 0u32;
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ' ' | '\t' if depth == 0 => return text.split_at(index),
            _ => {}
        }
    }
    (text, "")
}

fn push_item(points: &mut Vec<Point>, item: &str) -> Result<(), String> {
    if let Some(rest) = item.strip_prefix('_') {
        // Here the number is the count itself; elsewhere it counts what comes after the first.
        let count = if rest.is_empty() { 1 } else { repeat_count(rest, item)? };
        points.extend(std::iter::repeat_n(Point::Gap, count));
        return Ok(());
    }
    if item.starts_with("{{") {
        return push_histograms(points, item);
    }
    let (first, rest) = match item.strip_prefix("stale") {
        Some(rest) => (f64::from_bits(STALE_NAN_BITS), rest),
        None => take_number(item).ok_or_else(|| malformed(item))?,
    };
    if rest.is_empty() {
        points.push(Point::Value(first));
        return Ok(());
    }
    if rest.starts_with('x') {
        points.extend(std::iter::repeat_n(Point::Value(first), repeat_count(rest, item)? + 1));
        return Ok(());
    }
    let (step, rest) =
        take_number(rest).filter(|_| rest.starts_with(['+', '-'])).ok_or_else(|| malformed(item))?;
    let mut value = first;
    for _ in 0..=repeat_count(rest, item)? {
        points.push(Point::Value(value));
        // Added up rather than multiplied: the last bits of the values are those of the reference.
        value += step;
    }
    Ok(())
}

/// `{{…}}`, `{{…}}x3`, `{{…}}+{{…}}x3`
fn push_histograms(points: &mut Vec<Point>, item: &str) -> Result<(), String> {
    let take = |text: &'_ str| -> Result<(ScriptHistogram, usize), String> {
        let inner = text.strip_prefix("{{").ok_or_else(|| malformed(item))?;
        let end = inner.find("}}").ok_or_else(|| malformed(item))?;
        Ok((parse_histogram(&inner[..end])?, end + 4))
    };
    let (first, end) = take(item)?;
    let rest = &item[end..];
    if let Some(step) = rest.strip_prefix(['+', '-']) {
        let (step, end) = take(step)?;
        let count = repeat_count(&rest[1 + end..], item)?;
        let all = repeated(&first, &step, rest.starts_with('-'), count)?;
        points.extend(all.into_iter().map(Point::Histogram));
    } else {
        let more = if rest.is_empty() { 0 } else { repeat_count(rest, item)? };
        points.extend(std::iter::repeat_n(Point::Histogram(first), more + 1));
    }
    Ok(())
}

fn repeat_count(text: &str, item: &str) -> Result<usize, String> {
    let digits = text.strip_prefix('x').ok_or_else(|| malformed(item))?;
    digits.parse().ok().filter(|count| *count <= POINTS_MAX).ok_or_else(|| malformed(item))
}

/// A number with its sign at the start of a text, and what comes after it.
pub(super) fn take_number(text: &str) -> Option<(f64, &str)> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let len = number_len(unsigned);
    let value = parse_number(&unsigned[..len])?;
    Some((if negative { -value } else { value }, &unsigned[len..]))
}

fn number_len(text: &str) -> usize {
    let word_len = run_of(text, |c| c.is_ascii_alphanumeric());
    let word = &text[..word_len];
    for name in ["inf", "nan"] {
        if word.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            return name.len();
        }
    }
    // `0x5` repeats a zero; `0x1f` cannot, so it is a number.
    let hex = word.strip_prefix("0x").is_some_and(|digits| digits.bytes().any(|b| b.is_ascii_alphabetic()));
    if hex {
        return word_len;
    }
    let mut len = run_of(text, |c| c.is_ascii_digit() || c == '.' || c == '_');
    let exponent = text[len..].strip_prefix(['e', 'E']);
    if let Some(exponent) = exponent {
        let sign_len = usize::from(exponent.starts_with(['+', '-']));
        let digits_len = run_of(&exponent[sign_len..], |c| c.is_ascii_digit());
        if digits_len > 0 {
            len += 1 + sign_len + digits_len;
        }
    }
    len
}

fn run_of(text: &str, accept: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accept(c)).unwrap_or(text.len())
}

fn malformed(item: &str) -> String {
    format!("malformed series value {item:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<String> {
        let show = |point: &Point| match point {
            Point::Gap => "_".to_owned(),
            Point::Histogram(one) => format!("H{}", one.histogram.count),
            Point::Value(value) if annulus_shards::is_stale(*value) => "stale".to_owned(),
            Point::Value(value) => value.to_string(),
        };
        parse_series(&format!("m {text}")).unwrap().points.iter().map(show).collect()
    }

    #[test]
    fn repetitions_add_points_after_the_first() {
        assert_eq!(values("1x3"), ["1", "1", "1", "1"]);
        assert_eq!(values("0+10x3 _ 7 stale"), ["0", "10", "20", "30", "_", "7", "stale"]);
        assert_eq!(values("5-2x2 _x2 -1-0.5x1"), ["5", "3", "1", "_", "_", "-1", "-1.5"]);
        assert_eq!(values("0x2 0x1f 1e3 1e-1x1"), ["0", "0", "0", "31", "1000", "0.1", "0.1"]);
        assert_eq!(values("NaN Inf -Inf NaNx1 +Inf"), ["NaN", "inf", "-inf", "NaN", "NaN", "inf"]);
        assert_eq!(
            values("{{schema:1 sum:2}}x1 3 {{}}+{{sum:1 count:2}}x2"),
            ["H0", "H0", "3", "H0", "H2", "H4"]
        );
    }

    #[test]
    fn series_have_any_labels_in_quotes() {
        let labels = |line: &str| {
            let labels = parse_series(line).unwrap().labels;
            labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>()
        };
        assert_eq!(labels("m{a=\"x y}\", b='\\''} 1"), ["__name__=m", "a=x y}", "b='"]);
        assert_eq!(labels("{\"my.metric\", \"l.x\"=`\\`,} 1"), ["__name__=my.metric", "l.x=\\"]);
        assert_eq!(labels("{__name__=\"m\"}"), ["__name__=m"]);
        assert_eq!(labels("{} 1"), Vec::<String>::new());
        assert!(parse_series("m{a=\"x\"}@st -1m _").unwrap().start_timestamps);
    }

    #[test]
    fn malformed_lines_are_errors() {
        for line in [
            "",
            "1",
            "m{a=\"x\" 1",
            "m{=\"x\"} 1",
            "m 1x",
            "m 1+x2",
            "m 1+2",
            "m x",
            "m{a=\"x}",
            "m 1x9999999",
            "m é",
        ] {
            assert!(parse_series(line).is_err(), "{line}: {:?}", parse_series(line));
        }
    }

    #[test]
    fn a_lone_number_is_a_scalar() {
        assert_eq!(parse_scalar_line("-1.5e3"), Some(-1500.0));
        assert_eq!(parse_scalar_line("+Inf"), Some(f64::INFINITY));
        assert_eq!(parse_scalar_line("m 1"), None);
        assert_eq!(parse_scalar_line("1 2"), None);
    }

    proptest! {
        #[test]
        fn any_line_ends_in_a_result(line in "[m{}a=\",0-9x+_. -]{0,30}|.{0,30}") {
            let _ = parse_series(&line);
            let _ = parse_scalar_line(&line);
        }
    }
}
