//! What is compared of an answer, and how.

use serde_json::Value;

use crate::support::http::Client;
use crate::support::query::Labels;

/// By how much of its value a number may differ.
const TOLERANCE: f64 = 1e-12;

/// Samples with their time as it was written.
type Samples = Vec<(String, f64)>;

/// An answer of the query API.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Refused: the status and the kind of the error. Its words name the parts of each engine.
    Error { status: u16, kind: String },
    /// A string.
    Text(String),
    /// A scalar, an instant vector or a matrix, in the order in which it came; a scalar is a series without labels.
    Series { kind: String, series: Vec<(Labels, Samples)> },
}

impl Answer {
    /// Asks at a connection that stays open.
    pub fn of(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Answer {
        let escape = crate::support::http::escape;
        let form: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let response = client.send("POST", path, &headers, form.join("&").as_bytes()).unwrap();
        let text = response.text();
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{fields:?}: {error}: {text}"));
        Answer::read(response.status, &json)
    }

    fn read(status: u16, json: &Value) -> Answer {
        if json["status"] != "success" {
            return Answer::Error { status, kind: json["errorType"].as_str().unwrap().to_owned() };
        }
        let (data, kind) = (&json["data"], json["data"]["resultType"].as_str().unwrap().to_owned());
        match kind.as_str() {
            "string" => Answer::Text(data["result"][1].as_str().unwrap().to_owned()),
            "scalar" => Answer::Series { kind, series: vec![(Labels::new(), vec![sample(&data["result"])])] },
            _ => {
                let series = data["result"].as_array().unwrap().iter().map(read_series).collect();
                Answer::Series { kind, series }
            }
        }
    }

    /// Whether it has a sample.
    pub fn has_samples(&self) -> bool {
        matches!(self, Answer::Series { series, .. } if !series.is_empty())
    }

    /// Whether it is a refusal.
    pub fn is_error(&self) -> bool {
        matches!(self, Answer::Error { .. })
    }

    /// Where it differs from what is expected. The order of series counts only as far as their values have one.
    pub fn difference(&self, expected: &Answer, is_sorted: bool) -> Option<String> {
        let (Answer::Series { kind, series }, Answer::Series { kind: expected_kind, series: expected }) =
            (self, expected)
        else {
            return (self != expected).then(|| format!("{self:?} instead of {expected:?}"));
        };
        if kind != expected_kind {
            return Some(format!("a {kind} instead of a {expected_kind}"));
        }
        if is_sorted {
            let values = |series: &[(Labels, Samples)]| -> Vec<f64> {
                series.iter().flat_map(|(_, samples)| samples).map(|(_, value)| *value).collect()
            };
            let (values, expected) = (values(series), values(expected));
            if !values.iter().zip(&expected).all(|(value, expected)| is_close(*value, *expected)) {
                return Some(format!("in the order {values:?} instead of {expected:?}"));
            }
        }
        difference_of_series(series, expected)
    }
}

fn difference_of_series(series: &[(Labels, Samples)], expected: &[(Labels, Samples)]) -> Option<String> {
    let sorted = |series: &[(Labels, Samples)]| {
        let mut series = series.to_vec();
        series.sort_by(|(a, _), (b, _)| a.cmp(b));
        series
    };
    let (series, expected) = (sorted(series), sorted(expected));
    let labels =
        |series: &[(Labels, Samples)]| series.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>();
    if let Some(more) =
        labels(&series).iter().find(|labels| !expected.iter().any(|(other, _)| other == *labels))
    {
        return Some(format!("{more:?} should not be there"));
    }
    if let Some(less) =
        labels(&expected).iter().find(|labels| !series.iter().any(|(other, _)| other == *labels))
    {
        return Some(format!("{less:?} is missing"));
    }
    if series.len() != expected.len() {
        return Some(format!("{} series instead of {}", series.len(), expected.len()));
    }
    series.iter().zip(&expected).find_map(|((labels, samples), (_, expected))| {
        if samples.len() != expected.len() {
            return Some(format!(
                "{labels:?}: {} samples instead of {}: {samples:?}\n    {expected:?}",
                samples.len(),
                expected.len()
            ));
        }
        let is_same = |((time, value), (expected_time, expected)): &(&(String, f64), &(String, f64))| {
            time == expected_time && is_close(*value, *expected)
        };
        let different = samples.iter().zip(expected).find(|pair| !is_same(pair));
        different.map(|(found, expected)| format!("{labels:?}: {found:?} instead of {expected:?}"))
    })
}

/// Equal but for the last bits; a NaN is as good as another, and only an infinity is close to itself.
fn is_close(a: f64, b: f64) -> bool {
    let is_near = a.is_finite() && b.is_finite() && (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
    a == b || a.is_nan() && b.is_nan() || is_near
}

fn read_series(series: &Value) -> (Labels, Samples) {
    let labels = serde_json::from_value(series["metric"].clone()).unwrap();
    let samples = match series.get("values") {
        Some(values) => values.as_array().unwrap().iter().map(sample).collect(),
        None => vec![sample(&series["value"])],
    };
    (labels, samples)
}

fn sample(pair: &Value) -> (String, f64) {
    (pair[0].to_string(), pair[1].as_str().unwrap().parse().unwrap())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vector(result: Value) -> Answer {
        Answer::read(200, &json!({"status": "success", "data": {"resultType": "vector", "result": result}}))
    }

    fn matrix(result: Value) -> Answer {
        Answer::read(200, &json!({"status": "success", "data": {"resultType": "matrix", "result": result}}))
    }

    fn is_different(a: &Answer, b: &Answer) -> bool {
        assert_eq!(a.difference(a, true), None);
        let [there, back] = [a.difference(b, false), b.difference(a, false)];
        assert_eq!(there.is_some(), back.is_some(), "{there:?} {back:?}");
        there.is_some()
    }

    #[test]
    fn a_planted_difference_of_any_kind_is_found() {
        let one = |name: &str, time: f64, value: &str| {
            vector(json!([{"metric": {"__name__": name}, "value": [time, value]}]))
        };
        let plain = one("m", 7.0, "1.5");
        for other in [
            one("n", 7.0, "1.5"),
            one("m", 7.001, "1.5"),
            one("m", 7.0, "1.500000000002"),
            one("m", 7.0, "NaN"),
            one("m", 7.0, "+Inf"),
            one("m", 7.0, "-1.5"),
            vector(json!([])),
            matrix(json!([{"metric": {"__name__": "m"}, "values": [[7.0, "1.5"]]}])),
            Answer::read(422, &json!({"status": "error", "errorType": "execution"})),
            Answer::Text("1.5".to_owned()),
        ] {
            assert!(is_different(&plain, &other), "{other:?}");
        }
        assert!(is_different(&one("m", 7.0, "+Inf"), &one("m", 7.0, "-Inf")));
        assert!(is_different(&one("m", 7.0, "+Inf"), &one("m", 7.0, "1e308")));
        assert!(is_different(&one("m", 7.0, "0"), &one("m", 7.0, "5e-324")));
        for [a, b] in
            [["1.5", "1.5000000000000002"], ["1e3", "1000"], ["NaN", "NaN"], ["-Inf", "-Inf"], ["0", "-0"]]
        {
            assert!(!is_different(&one("m", 7.0, a), &one("m", 7.0, b)), "{a} {b}");
        }
        let error = |status, kind| Answer::read(status, &json!({"status": "error", "errorType": kind}));
        assert!(is_different(&error(422, "execution"), &error(400, "execution")));
        assert!(is_different(&error(400, "execution"), &error(400, "bad_data")));
    }

    #[test]
    fn a_sample_too_many_or_in_another_place_is_found() {
        let of = |values: Value| matrix(json!([{"metric": {}, "values": values}]));
        let plain = of(json!([[1, "1"], [2, "2"]]));
        for other in [
            of(json!([[1, "1"]])),
            of(json!([[1, "1"], [2, "2"], [3, "3"]])),
            of(json!([[1, "2"], [2, "1"]])),
            of(json!([[1, "1"], [3, "2"]])),
            matrix(
                json!([{"metric": {}, "values": [[1, "1"], [2, "2"]]}, {"metric": {}, "values": [[1, "1"]]}]),
            ),
        ] {
            assert!(is_different(&plain, &other), "{other:?}");
        }
    }

    #[test]
    fn order_counts_where_values_are_sorted_and_only_there() {
        let of = |first: (&str, &str), second: (&str, &str)| {
            let one = |(id, value): (&str, &str)| json!({"metric": {"id": id}, "value": [1, value]});
            vector(json!([one(first), one(second)]))
        };
        let (ordered, reversed) = (of(("a", "1"), ("b", "2")), of(("b", "2"), ("a", "1")));
        assert_eq!(ordered.difference(&reversed, false), None);
        assert!(ordered.difference(&reversed, true).is_some());
        let (equal, swapped) = (of(("a", "1"), ("b", "1")), of(("b", "1"), ("a", "1")));
        assert_eq!(
            equal.difference(&swapped, true),
            None,
            "nothing says which of two equal values comes first"
        );
    }
}
