//! What an answer says, and where two receivers differ.

use std::collections::BTreeMap;

use annulus_loadgen::verify::answer::{FoundSample, FoundSeries, FoundValue, parse};
use serde::Deserialize;

use super::catalogue::Shape;

/// Labels that a receiver adds to every series that it returns: they say where it is, not what was asked.
const RECEIVER_LABELS: [&str; 3] = ["receive", "replica", "tenant_id"];

/// How far two values may be apart, as a part of the larger one: sums are made in different orders.
const TOLERANCE: f64 = 1e-9;

/// The content of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Series by their labels.
    Series(BTreeMap<Vec<(String, String)>, Vec<FoundSample>>),
    /// Values of a label, sorted.
    Values(Vec<String>),
}

impl Content {
    /// Reads a body; what is not a whole answer of the expected kind is an error.
    pub fn read(body: &[u8], shape: Shape) -> Result<Content, String> {
        let result_type = match shape {
            Shape::Instant => "vector",
            Shape::Range(_) => "matrix",
            Shape::LabelValues => return read_values(body).map(Content::Values),
        };
        let found = parse(body, result_type)?;
        let count = found.len();
        let series: BTreeMap<_, _> = found.into_iter().map(plain).collect();
        if series.len() != count {
            return Err("two series have the same labels".to_owned());
        }
        Ok(Content::Series(series))
    }

    /// How many series, or values of a label.
    pub fn len(&self) -> usize {
        match self {
            Content::Series(series) => series.len(),
            Content::Values(values) => values.len(),
        }
    }

    /// The first thing in which another answer differs.
    pub fn difference(&self, other: &Content) -> Option<String> {
        if self.len() != other.len() {
            return Some(format!("{} and {} series or values", self.len(), other.len()));
        }
        match (self, other) {
            (Content::Series(these), Content::Series(those)) => {
                these.iter().find_map(|(labels, samples)| match those.get(labels) {
                    None => Some(format!("{} is in one answer only", shown(labels))),
                    Some(others) => {
                        samples_differ(samples, others).map(|what| format!("{}: {what}", shown(labels)))
                    }
                })
            }
            (Content::Values(these), Content::Values(those)) => {
                let differ = these.iter().zip(those).find(|(this, that)| this != that);
                differ.map(|(this, that)| format!("the values {this:?} and {that:?}"))
            }
            _ => Some("answers of two kinds".to_owned()),
        }
    }
}

fn plain(series: FoundSeries) -> (Vec<(String, String)>, Vec<FoundSample>) {
    let mut labels = series.labels;
    labels.retain(|(name, _)| !RECEIVER_LABELS.contains(&name.as_str()));
    (labels, series.samples)
}

fn read_values(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Envelope {
        status: String,
        data: Vec<String>,
    }
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|error| format!("not an answer with values of a label: {error}"))?;
    if envelope.status != "success" {
        return Err(format!("status {:?}", envelope.status));
    }
    let mut values = envelope.data;
    values.sort_unstable();
    Ok(values)
}

fn samples_differ(these: &[FoundSample], those: &[FoundSample]) -> Option<String> {
    if these.len() != those.len() {
        return Some(format!("{} and {} samples", these.len(), those.len()));
    }
    let differ = these
        .iter()
        .zip(those)
        .find(|(this, that)| this.timestamp_ms != that.timestamp_ms || !are_close(&this.value, &that.value));
    differ.map(|(this, that)| {
        let shown = |sample: &FoundSample| format!("{:?} at {}", sample.value, sample.timestamp_ms);
        format!("{} and {}", shown(this), shown(that))
    })
}

fn are_close(this: &FoundValue, that: &FoundValue) -> bool {
    match (this, that) {
        (FoundValue::Float(this), FoundValue::Float(that)) => {
            let are_equal = this == that || (this.is_nan() && that.is_nan());
            // Infinities have no distance that could be compared.
            are_equal || (this - that).abs() <= TOLERANCE * this.abs().max(that.abs()).min(f64::MAX)
        }
        _ => this == that,
    }
}

fn shown(labels: &[(String, String)]) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", labels.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(series: &[(&str, &[(u64, &str)])]) -> Content {
        let series: Vec<String> = series
            .iter()
            .map(|(metric, samples)| {
                let samples: Vec<String> =
                    samples.iter().map(|(time, value)| format!(r#"[{time},"{value}"]"#)).collect();
                format!(r#"{{"metric":{metric},"values":[{}]}}"#, samples.join(","))
            })
            .collect();
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
            series.join(",")
        );
        Content::read(body.as_bytes(), Shape::Range(60)).unwrap()
    }

    #[test]
    fn order_and_the_labels_of_the_receiver_make_no_difference() {
        let this = matrix(&[(r#"{"a":"1"}"#, &[(1, "1")]), (r#"{"a":"2"}"#, &[(1, "NaN")])]);
        let that = matrix(&[
            (r#"{"a":"2","replica":"x"}"#, &[(1, "NaN")]),
            (r#"{"a":"1","tenant_id":"t"}"#, &[(1, "1.0000000001")]),
        ]);
        assert_eq!(this.difference(&that), None);
        assert_eq!(this.len(), 2);
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let this = matrix(&[(r#"{"a":"1"}"#, &[(1, "1"), (2, "+Inf")])]);
        for (that, part) in [
            (matrix(&[]), "1 and 0 series"),
            (matrix(&[(r#"{"a":"2"}"#, &[(1, "1"), (2, "+Inf")])]), "in one answer only"),
            (matrix(&[(r#"{"a":"1"}"#, &[(1, "1")])]), "2 and 1 samples"),
            (matrix(&[(r#"{"a":"1"}"#, &[(1, "1.00000001"), (2, "+Inf")])]), "Float(1.0) at 1000"),
            (matrix(&[(r#"{"a":"1"}"#, &[(1, "1"), (3, "+Inf")])]), "at 3000"),
            (matrix(&[(r#"{"a":"1"}"#, &[(1, "1"), (2, "-Inf")])]), "Float(-inf)"),
            (matrix(&[(r#"{"a":"1"}"#, &[(1, "1"), (2, "1e308")])]), "Float(inf)"),
        ] {
            let difference = this.difference(&that).unwrap();
            assert!(difference.contains(part), "{difference}");
        }
    }

    #[test]
    fn values_of_a_label_are_compared_in_order() {
        let values = |body: &str| Content::read(body.as_bytes(), Shape::LabelValues);
        let this = values(r#"{"status":"success","data":["b","a"]}"#).unwrap();
        let same = values(r#"{"status":"success","data":["a","b"]}"#).unwrap();
        let other = values(r#"{"status":"success","data":["a","c"]}"#).unwrap();
        assert_eq!(this.difference(&same), None);
        assert!(this.difference(&other).unwrap().contains(r#""b" and "c""#));
        assert!(
            this.difference(&matrix(&[("{}", &[]), (r#"{"a":"1"}"#, &[])])).unwrap().contains("two kinds")
        );
        assert!(values(r#"{"status":"error","data":[]}"#).is_err() && values("{").is_err());
    }
}
