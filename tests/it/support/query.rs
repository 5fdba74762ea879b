//! The Prometheus query API from the client's side; annulus and Prometheus are read by the same code.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::http::post_form;

/// A label set.
pub type Labels = BTreeMap<String, String>;

/// Samples by series: milliseconds and value, in order.
pub type Matrix = BTreeMap<Labels, Vec<(i64, f64)>>;

/// A query server.
#[derive(Clone, Copy)]
pub struct QueryApi(pub SocketAddr);

impl QueryApi {
    /// An instant query at `time_ms`; a range selector gives the raw samples.
    pub fn instant(&self, query: &str, time_ms: i64) -> Matrix {
        self.matrix("/api/v1/query", &[("query", query), ("time", &seconds(time_ms))])
    }

    /// A range query.
    pub fn range(&self, query: &str, start_ms: i64, end_ms: i64, step: &str) -> Matrix {
        let (start, end) = (seconds(start_ms), seconds(end_ms));
        let fields = [("query", query), ("start", start.as_str()), ("end", &end), ("step", step)];
        self.matrix("/api/v1/query_range", &fields)
    }

    /// The value of a query that gives exactly one series.
    pub fn value(&self, query: &str, time_ms: i64) -> Option<f64> {
        let matrix = self.instant(query, time_ms);
        assert!(matrix.len() <= 1, "{query} gives {} series", matrix.len());
        matrix.into_values().next().map(|samples| samples[0].1)
    }

    fn matrix(&self, path: &str, fields: &[(&str, &str)]) -> Matrix {
        let response = post_form(self.0, path, fields).unwrap();
        assert_eq!(response.status, 200, "{fields:?}: {}", response.text());
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(answer["status"], "success", "{fields:?}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap();
        series.iter().map(|series| (labels_of(&series["metric"]), samples_of(series))).collect()
    }
}

fn labels_of(metric: &Value) -> Labels {
    let pairs = metric.as_object().unwrap().iter();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn samples_of(series: &Value) -> Vec<(i64, f64)> {
    match series.get("values") {
        Some(values) => values.as_array().unwrap().iter().map(sample_of).collect(),
        None => vec![sample_of(&series["value"])],
    }
}

fn sample_of(pair: &Value) -> (i64, f64) {
    let timestamp_ms = (pair[0].as_f64().unwrap() * 1000.0).round() as i64;
    (timestamp_ms, pair[1].as_str().unwrap().parse().unwrap())
}

/// Where two answers differ: in a label set, a time, or by more than `tolerance` of a value.
pub fn difference(found: &Matrix, expected: &Matrix, tolerance: f64) -> Option<String> {
    if let Some(labels) = found.keys().find(|labels| !expected.contains_key(*labels)) {
        return Some(format!("{labels:?} should not be there"));
    }
    expected.iter().find_map(|(labels, expected)| {
        let Some(found) = found.get(labels) else { return Some(format!("{labels:?} is missing")) };
        let is_close = |(found, expected): (&(i64, f64), &(i64, f64))| {
            let (a, b) = (found.1, expected.1);
            // Nothing is near an infinity: the tolerance would be infinite too.
            let is_near = (a - b).is_finite() && (a - b).abs() <= tolerance * a.abs().max(b.abs());
            found.0 == expected.0 && (a == b || a.is_nan() && b.is_nan() || is_near)
        };
        let is_equal = found.len() == expected.len() && found.iter().zip(expected).all(is_close);
        (!is_equal).then(|| format!("{labels:?}: {found:?} instead of {expected:?}"))
    })
}

/// Milliseconds as the decimal seconds of a parameter.
pub fn seconds(time_ms: i64) -> String {
    let sign = if time_ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", time_ms.unsigned_abs() / 1000, time_ms.unsigned_abs() % 1000)
}
