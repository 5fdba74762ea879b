//! Native histograms as scripts write them: `{{schema:1 count:3 sum:4 buckets:[1 2]}}`.

use std::sync::Arc;

use annulus_shards::chunk::{Buckets, ResetHint, SCHEMA_CUSTOM, Span};

use super::series::take_number;
use crate::promql::histogram::{Accumulator, FloatHistogram};
use crate::promql::value::SharedHistogram;

/// A histogram of a script.
#[derive(Debug, Clone)]
pub(super) struct ScriptHistogram {
    pub histogram: SharedHistogram,
    /// The script says what is known of resets, so an answer has to say the same.
    pub has_hint: bool,
}

/// Reads what stands between the braces.
pub(super) fn parse_histogram(text: &str) -> Result<ScriptHistogram, String> {
    let mut histogram = FloatHistogram::default();
    let (mut has_hint, mut offset, mut negative_offset) = (false, 0, 0);
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| malformed(rest))?;
        let (value, after) = take_value(after);
        rest = after.trim_start();
        match key {
            "schema" => histogram.schema = index(value)?,
            "sum" => histogram.sum = number(value)?,
            "count" => histogram.count = number(value)?,
            "z_bucket" => histogram.zero_count = number(value)?,
            "z_bucket_w" => histogram.zero_threshold = number(value)?,
            "custom_values" => histogram.custom_values = numbers(value)?,
            "buckets" => histogram.positive.values = numbers(value)?,
            "n_buckets" => histogram.negative.values = numbers(value)?,
            "offset" => offset = index(value)?,
            "n_offset" => negative_offset = index(value)?,
            "counter_reset_hint" => {
                has_hint = true;
                histogram.reset_hint = hint(value)?;
            }
            _ => return Err(malformed(text)),
        }
    }
    for (buckets, offset) in [(&mut histogram.positive, offset), (&mut histogram.negative, negative_offset)] {
        if !buckets.values.is_empty() {
            let length = u32::try_from(buckets.values.len()).map_err(|_| malformed(text))?;
            buckets.spans = vec![Span { offset, length }];
        }
    }
    Ok(ScriptHistogram { histogram: Arc::new(histogram), has_hint })
}

/// A histogram, and the sums with another one that is added, or subtracted, so many times.
pub(super) fn repeated(
    first: &ScriptHistogram,
    step: &ScriptHistogram,
    subtract: bool,
    count: usize,
) -> Result<Vec<ScriptHistogram>, String> {
    let mut all = vec![ScriptHistogram { has_hint: step.has_hint, ..first.clone() }];
    let mut sum = Accumulator::<f64>::new(&first.histogram);
    for _ in 0..count {
        let added = if subtract { sum.subtract(&step.histogram) } else { sum.add(&step.histogram) };
        added.map_err(|error| error.to_string())?;
        let histogram = Arc::new(sum.clone().finish());
        all.push(ScriptHistogram { histogram, has_hint: step.has_hint });
    }
    Ok(all)
}

/// The histogram with custom buckets that holds what a classic one does, whose buckets are sorted by their bounds.
/// Nothing if that is inconsistent.
pub(super) fn from_classic(buckets: &[(f64, f64)], count: Option<f64>, sum: f64) -> Option<FloatHistogram> {
    let count = count.or(buckets.last().map(|(_, count)| *count)).unwrap_or_default();
    let mut below = 0.0;
    let mut values = Vec::new();
    for (_, cumulative) in buckets {
        values.push(cumulative - below);
        below = *cumulative;
    }
    let mut custom_values: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
    if custom_values.last() == Some(&f64::INFINITY) {
        custom_values.pop();
    } else {
        values.push(count - below);
        below = count;
    }
    let length = u32::try_from(values.len()).ok()?;
    let positive = Buckets { spans: vec![Span { offset: 0, length }], values };
    let is_consistent = below == count && positive.values.iter().all(|value| *value >= 0.0);
    is_consistent.then(|| FloatHistogram {
        schema: SCHEMA_CUSTOM,
        count,
        sum,
        positive,
        custom_values,
        ..FloatHistogram::default()
    })
}

/// A value up to the next blank that is not within brackets.
fn take_value(text: &str) -> (&str, &str) {
    let end = match text.strip_prefix('[') {
        Some(inner) => inner.find(']').map_or(text.len(), |end| end + 2),
        None => text.find([' ', '\t']).unwrap_or(text.len()),
    };
    text.split_at(end)
}

fn number(text: &str) -> Result<f64, String> {
    match take_number(text) {
        Some((value, "")) => Ok(value),
        _ => Err(malformed(text)),
    }
}

fn index(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| malformed(text))
}

fn numbers(text: &str) -> Result<Vec<f64>, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.ok_or_else(|| malformed(text))?.split_whitespace().map(number).collect()
}

fn hint(text: &str) -> Result<ResetHint, String> {
    match text {
        "unknown" => Ok(ResetHint::Unknown),
        "reset" => Ok(ResetHint::Yes),
        "not_reset" => Ok(ResetHint::No),
        "gauge" => Ok(ResetHint::Gauge),
        _ => Err(malformed(text)),
    }
}

fn malformed(text: &str) -> String {
    format!("malformed histogram at {text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let text = "schema:1 sum:-0.3 count:3.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10 7] offset:-3 \
                    n_buckets:[4.1 5] n_offset:-5 counter_reset_hint:gauge custom_values:[5 10]";
        let parsed = parse_histogram(text).unwrap();
        let histogram = &parsed.histogram;
        assert!(parsed.has_hint && histogram.reset_hint == ResetHint::Gauge);
        assert_eq!((histogram.schema, histogram.sum, histogram.count), (1, -0.3, 3.1));
        assert_eq!((histogram.zero_count, histogram.zero_threshold), (7.1, 0.05));
        assert_eq!(histogram.positive.values, [5.1, 10.0, 7.0]);
        assert_eq!(histogram.positive.spans, [Span { offset: -3, length: 3 }]);
        assert_eq!(histogram.negative.spans, [Span { offset: -5, length: 2 }]);
        assert_eq!(histogram.custom_values, [5.0, 10.0]);
        assert!(!parse_histogram("").unwrap().has_hint);
    }

    #[test]
    fn malformed_histograms_are_errors() {
        for text in
            ["schema", "schema:x", "buckets:[1", "buckets:1", "sum:1x", "unknown:1", "counter_reset_hint:x"]
        {
            assert!(parse_histogram(text).is_err(), "{text}");
        }
    }

    #[test]
    fn classic_buckets_become_custom_ones() {
        let histogram = from_classic(&[(1.0, 2.0), (5.0, 3.0)], Some(7.0), 4.0).unwrap();
        assert_eq!((histogram.custom_values.as_slice(), histogram.count), (&[1.0, 5.0][..], 7.0));
        assert_eq!(histogram.positive.values, [2.0, 1.0, 4.0]);
        let infinite = from_classic(&[(1.0, 2.0), (f64::INFINITY, 3.0)], None, 0.0).unwrap();
        assert_eq!((infinite.custom_values.as_slice(), infinite.count), (&[1.0][..], 3.0));
        assert_eq!(from_classic(&[(1.0, 2.0), (f64::INFINITY, 3.0)], Some(4.0), 0.0), None);
    }
}
