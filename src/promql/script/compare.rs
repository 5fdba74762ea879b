//! Whether an answer is what a script expects, and how it differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use annulus_shards::chunk::Buckets;
use annulus_shards::labels::METRIC_NAME;
use annulus_shards::{Labels, is_stale};

use super::command::{Annotations, Expected, Steps, Times};
use super::histogram::ScriptHistogram;
use super::series::{Point, SeriesLine};
use crate::promql::histogram::{FloatHistogram, compact};
use crate::promql::parser::literal::quote;
use crate::promql::value::{MatrixSeries, QueryValue, SampleValue};

/// Two values match if they differ by less than this part of their sum.
const TOLERANCE: f64 = 1e-6;

/// Differences listed per query; the others are counted.
const DIFFERENCES_MAX: usize = 8;

/// A series with times and values.
type Series<V> = (Labels, Vec<(i64, V)>);

/// Compares the value of a query, and says what differs.
pub(super) fn compare_value(expected: &Expected, times: Times, value: &QueryValue) -> Result<(), String> {
    match (expected, value) {
        (Expected::Failure(pattern), _) => Err(format!("expected an error ({pattern}), got {}", show(value))),
        (Expected::Scalar(wanted), QueryValue::Scalar { value: got, .. }) if values_match(*wanted, *got) => {
            Ok(())
        }
        (Expected::Scalar(wanted), _) => Err(format!("expected the scalar {wanted}, got {}", show(value))),
        (Expected::String(wanted), QueryValue::String { value: got, .. }) if wanted == got => Ok(()),
        (Expected::String(wanted), _) => Err(format!("expected the string {wanted:?}, got {}", show(value))),
        (Expected::Series { series, ordered, range_vector }, _) => {
            let steps = range_vector.or(match times {
                Times::Instant(_) => None,
                Times::Range(steps) => Some(steps),
            });
            let got = match (value, steps) {
                (QueryValue::Vector(_), None) | (QueryValue::Matrix(_), Some(_)) => series_of(value),
                _ => return Err(format!("expected {} series, got {}", series.len(), show(value))),
            };
            let wanted = series.iter().map(|line| expected_series(line, times, steps)).collect();
            compare_series(wanted, &got, *ordered)?;
            match times {
                Times::Range(_) => check_sorted(&got),
                Times::Instant(_) => Ok(()),
            }
        }
    }
}

/// Compares what an instant query expects with the answer of a range query at the one step that has its time.
pub(super) fn compare_at(expected: &Expected, time_ms: i64, value: &QueryValue) -> Result<(), String> {
    let QueryValue::Matrix(_) = value else {
        return Err(format!("expected a matrix, got {}", show(value)));
    };
    let mut got = series_of(value);
    check_sorted(&got)?;
    for (_, points) in &mut got {
        points.retain(|(timestamp_ms, _)| *timestamp_ms == time_ms);
    }
    got.retain(|(_, points)| !points.is_empty());
    let times = Times::Instant(time_ms);
    match expected {
        Expected::Scalar(value) => {
            compare_series(vec![(Labels::empty(), vec![(time_ms, Point::Value(*value))])], &got, false)
        }
        Expected::Series { series, .. } => {
            let wanted = series.iter().map(|line| expected_series(line, times, None)).collect();
            compare_series(wanted, &got, false)
        }
        Expected::Failure(_) | Expected::String(_) => Ok(()),
    }
}

/// Compares warnings or infos; `kind` names them in the text.
pub(super) fn compare_annotations(expected: &Annotations, got: &[String], kind: &str) -> Result<(), String> {
    match expected {
        Annotations::Unchecked => Ok(()),
        Annotations::None if got.is_empty() => Ok(()),
        Annotations::None => Err(format!("expected no {kind}, got {got:?}")),
        Annotations::Some(_) if got.is_empty() => Err(format!("expected {kind}, got none")),
        Annotations::Some(patterns) => {
            if let Some(pattern) =
                patterns.iter().find(|pattern| !got.iter().any(|text| pattern.matches(text)))
            {
                return Err(format!("expected {kind} with {pattern}, got {got:?}"));
            }
            match got.iter().find(|text| !patterns.iter().any(|pattern| pattern.matches(text))) {
                Some(text) => Err(format!("unexpected {kind} {text:?}")),
                None => Ok(()),
            }
        }
    }
}

/// The relative comparison of the reference: zero matches only zero, NaN matches NaN, infinities have signs.
fn values_match(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan() && is_stale(a) == is_stale(b);
    }
    if a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// Whether a histogram is the one expected, buckets without observations aside.
fn histograms_match(wanted: &ScriptHistogram, got: &FloatHistogram) -> bool {
    let [wanted_one, got] = [&wanted.histogram, got].map(|histogram| {
        let mut histogram = histogram.clone();
        compact(&mut histogram);
        histogram
    });
    let same_side = |wanted: &Buckets<f64>, got: &Buckets<f64>| {
        let values = wanted.values.iter().zip(&got.values);
        wanted.spans == got.spans
            && wanted.values.len() == got.values.len()
            && values.into_iter().all(|(wanted, got)| values_match(*wanted, *got))
    };
    wanted_one.schema == got.schema
        && values_match(wanted_one.count, got.count)
        && values_match(wanted_one.sum, got.sum)
        && wanted_one.zero_threshold == got.zero_threshold
        && values_match(wanted_one.zero_count, got.zero_count)
        && (!got.has_custom_buckets() || wanted_one.custom_values == got.custom_values)
        && same_side(&wanted_one.positive, &got.positive)
        && same_side(&wanted_one.negative, &got.negative)
        && (!wanted.has_hint || wanted_one.reset_hint == got.reset_hint)
}

fn points_match(wanted: &Point, got: &SampleValue) -> bool {
    match (wanted, got) {
        (Point::Value(wanted), SampleValue::Float(got)) => values_match(*wanted, *got),
        (Point::Histogram(wanted), SampleValue::Histogram(got)) => histograms_match(wanted, got),
        _ => false,
    }
}

fn series_of(value: &QueryValue) -> Vec<Series<SampleValue>> {
    match value {
        QueryValue::Vector(samples) => samples
            .iter()
            .map(|sample| (sample.labels.clone(), vec![(sample.timestamp_ms, sample.value.clone())]))
            .collect(),
        QueryValue::Matrix(series) => series.iter().map(|one| (one.labels.clone(), points_of(one))).collect(),
        QueryValue::Scalar { .. } | QueryValue::String { .. } => Vec::new(),
    }
}

fn points_of(series: &MatrixSeries) -> Vec<(i64, SampleValue)> {
    let floats = series.points.iter().map(|(time_ms, value)| (*time_ms, SampleValue::Float(*value)));
    let histograms = series.histograms.iter();
    let histograms = histograms.map(|(time_ms, one)| (*time_ms, SampleValue::Histogram(one.clone())));
    let mut points: Vec<(i64, SampleValue)> = floats.chain(histograms).collect();
    points.sort_by_key(|(time_ms, _)| *time_ms);
    points
}

fn expected_series(line: &SeriesLine, times: Times, steps: Option<Steps>) -> Series<Point> {
    let (start_ms, step_ms) = match (times, steps) {
        (_, Some(steps)) => (steps.start_ms, steps.step_ms),
        (Times::Instant(time_ms), None) => (time_ms, 1),
        (Times::Range(steps), None) => (steps.start_ms, steps.step_ms),
    };
    let points = (0..).zip(&line.points).filter_map(|(index, point)| match point {
        Point::Gap => None,
        // Durations are bounded far below the range of i64, and so are points.
        point => Some((start_ms + index * step_ms, point.clone())),
    });
    (line.labels.clone(), points.collect())
}

fn check_sorted<V>(got: &[Series<V>]) -> Result<(), String> {
    match got.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        Some(pair) => Err(format!(
            "the series are not sorted by labels: {} stands before {}",
            show_labels(&pair[0].0),
            show_labels(&pair[1].0)
        )),
        None => Ok(()),
    }
}

fn compare_series(
    wanted: Vec<Series<Point>>,
    got: &[Series<SampleValue>],
    ordered: bool,
) -> Result<(), String> {
    let mut differences = Vec::new();
    if ordered {
        let wanted: Vec<&Labels> = wanted.iter().map(|(labels, _)| labels).collect();
        let got: Vec<&Labels> = got.iter().map(|(labels, _)| labels).collect();
        let order =
            |all: &[&Labels]| all.iter().map(|labels| show_labels(labels)).collect::<Vec<_>>().join(", ");
        if wanted != got {
            differences.push(format!("expected the order {}, got {}", order(&wanted), order(&got)));
        }
    }
    let mut missing: BTreeMap<Labels, Vec<(i64, Point)>> = BTreeMap::new();
    for (labels, points) in wanted {
        if missing.contains_key(&labels) {
            differences.push(format!("{} is expected twice", show_labels(&labels)));
        }
        missing.insert(labels, points);
    }
    let mut seen: BTreeMap<&Labels, ()> = BTreeMap::new();
    for (labels, points) in got {
        if seen.insert(labels, ()).is_some() {
            differences.push(format!("{} is there twice", show_labels(labels)));
            continue;
        }
        match missing.remove(labels) {
            Some(wanted) => {
                if let Some(difference) = compare_points(&wanted, points) {
                    differences.push(format!("{}: {difference}", show_labels(labels)));
                }
            }
            None => differences.push(format!(
                "unexpected {} {}",
                show_labels(labels),
                show_points(points, show_value)
            )),
        }
    }
    for (labels, points) in &missing {
        differences.push(format!("missing {} {}", show_labels(labels), show_points(points, show_point)));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(DIFFERENCES_MAX);
    differences.truncate(DIFFERENCES_MAX);
    if more > 0 {
        differences.push(format!("and {more} more differences"));
    }
    Err(differences.join("\n"))
}

fn compare_points(wanted: &[(i64, Point)], got: &[(i64, SampleValue)]) -> Option<String> {
    let equal = wanted.len() == got.len()
        && wanted.iter().zip(got).all(|(wanted, got)| wanted.0 == got.0 && points_match(&wanted.1, &got.1));
    (!equal).then(|| {
        format!("expected {}, got {}", show_points(wanted, show_point), show_points(got, show_value))
    })
}

/// A value in a few words.
fn show(value: &QueryValue) -> String {
    match value {
        QueryValue::Scalar { value, .. } => format!("the scalar {value}"),
        QueryValue::String { value, .. } => format!("the string {value:?}"),
        QueryValue::Vector(_) | QueryValue::Matrix(_) => {
            let kind = if matches!(value, QueryValue::Vector(_)) { "an instant vector" } else { "a matrix" };
            let series = series_of(value);
            let mut text = format!("{kind} of {} series", series.len());
            for (labels, points) in series.iter().take(DIFFERENCES_MAX) {
                write!(text, "\n{} {}", show_labels(labels), show_points(points, show_value))
                    .expect("a String takes everything");
            }
            text
        }
    }
}

fn show_labels(labels: &Labels) -> String {
    let name = labels.metric_name().unwrap_or_default();
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(label, _)| *label != METRIC_NAME)
        .map(|(label, value)| format!("{label}={}", quote(value)))
        .collect();
    format!("{name}{{{}}}", pairs.join(", "))
}

fn show_points<V>(points: &[(i64, V)], show: impl Fn(&V) -> String) -> String {
    const POINTS_MAX: usize = 12;
    let mut shown: Vec<String> = points
        .iter()
        .take(POINTS_MAX)
        .map(|(timestamp_ms, value)| format!("{}@{}s", show(value), *timestamp_ms as f64 / 1000.0))
        .collect();
    if points.len() > POINTS_MAX {
        shown.push(format!("({} in all)", points.len()));
    }
    format!("[{}]", shown.join(" "))
}

fn show_point(point: &Point) -> String {
    match point {
        Point::Gap => "_".to_owned(),
        Point::Value(value) => show_value(&SampleValue::Float(*value)),
        Point::Histogram(one) => show_histogram(&one.histogram),
    }
}

fn show_value(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) if is_stale(*value) => "stale".to_owned(),
        SampleValue::Float(value) => value.to_string(),
        SampleValue::Histogram(histogram) => show_histogram(histogram),
    }
}

fn show_histogram(histogram: &FloatHistogram) -> String {
    let mut shown = histogram.clone();
    compact(&mut shown);
    let side = |buckets: &Buckets<f64>| {
        let spans: Vec<String> =
            buckets.spans.iter().map(|span| format!("{}+{}", span.offset, span.length)).collect();
        format!("{:?} in {}", buckets.values, spans.join(" "))
    };
    format!(
        "{{{{schema:{} count:{} sum:{} zero:{}/{} buckets:({}) n_buckets:({}) custom_values:{:?} hint:{:?}}}}}",
        shown.schema,
        shown.count,
        shown.sum,
        shown.zero_count,
        shown.zero_threshold,
        side(&shown.positive),
        side(&shown.negative),
        shown.custom_values,
        shown.reset_hint
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::script::command::Pattern;

    #[test]
    fn values_match_within_a_relative_tolerance() {
        assert!(values_match(1.0, 1.000_001) && !values_match(1.0, 1.000_003));
        assert!(values_match(0.0, -0.0) && !values_match(0.0, 1e-9));
        assert!(values_match(f64::NAN, -f64::NAN) && !values_match(f64::NAN, 1.0));
        assert!(
            values_match(f64::INFINITY, f64::INFINITY) && !values_match(f64::INFINITY, f64::NEG_INFINITY)
        );
        assert!(!values_match(f64::INFINITY, 1.0) && values_match(f64::MAX, f64::MAX * (1.0 - 1e-9)));
        assert!(!values_match(f64::from_bits(annulus_shards::STALE_NAN_BITS), f64::NAN));
    }

    #[test]
    fn annotations_must_match_both_ways() {
        let text = |text: &str| Pattern::Text(text.to_owned());
        let got = ["a".to_owned(), "b".to_owned()];
        let check = |expected: Annotations| compare_annotations(&expected, &got, "warnings").is_ok();
        assert!(check(Annotations::Unchecked));
        assert!(!check(Annotations::None));
        assert!(check(Annotations::Some(vec![Pattern::Any])));
        assert!(check(Annotations::Some(vec![text("b"), text("a")])));
        assert!(!check(Annotations::Some(vec![text("a")])));
        assert!(!check(Annotations::Some(vec![text("a"), text("b"), text("c")])));
        assert!(compare_annotations(&Annotations::None, &[], "infos").is_ok());
        assert!(compare_annotations(&Annotations::Some(vec![Pattern::Any]), &[], "infos").is_err());
    }
}
