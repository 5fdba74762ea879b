//! The answers of the query API, read strictly: whatever is not understood is an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Beyond these the milliseconds of a time in seconds are no longer exact in an `f64`.
const SECONDS_MAX: f64 = 4e12;

/// A series as the receiver returned it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundSeries {
    /// Sorted by name, `__name__` included.
    pub labels: Vec<(String, String)>,
    /// In the order of the answer, floats before histograms.
    pub samples: Vec<FoundSample>,
}

/// A sample as the receiver returned it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundSample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// A float or a native histogram.
    pub value: FoundValue,
}

/// A value as the receiver returned it.
#[derive(Debug, Clone, PartialEq)]
pub enum FoundValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Histogram),
}

/// A native histogram as the query API writes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Histogram {
    /// Number of observations.
    pub count: Number,
    /// Their sum.
    pub sum: Number,
    /// Which ends a bucket includes, lower end, upper end, observations; empty buckets are left out.
    #[serde(default)]
    pub buckets: Vec<(u8, Number, Number, Number)>,
}

/// A number that the API writes as text; equal if the bits are, or if both are NaN.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.0.to_bits() == other.0.to_bits() || (self.0.is_nan() && other.0.is_nan())
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number as text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A time that the API writes in seconds.
#[derive(Debug, Clone, Copy)]
struct TimestampMs(i64);

impl<'de> Deserialize<'de> for TimestampMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TimestampMs, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if seconds.abs() > SECONDS_MAX {
            return Err(D::Error::invalid_value(Unexpected::Float(seconds), &"a time in seconds"));
        }
        Ok(TimestampMs((seconds * 1000.0).round() as i64))
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    /// VictoriaMetrics says so when a part of its cluster did not answer.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Vec<ResultSeries>,
}

#[derive(Deserialize)]
struct ResultSeries {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(TimestampMs, Number)>,
    #[serde(default)]
    histograms: Vec<(TimestampMs, Histogram)>,
    #[serde(default)]
    value: Option<(TimestampMs, Number)>,
    #[serde(default)]
    histogram: Option<(TimestampMs, Histogram)>,
}

/// Reads the answer to a range selector (`matrix`) or to an instant selector (`vector`).
pub fn parse(body: &[u8], result_type: &'static str) -> Result<Vec<FoundSeries>, String> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)
        .map_err(|error| format!("not an answer of a Prometheus query API: {error}"))?;
    if envelope.status != "success" {
        return Err(envelope.error.unwrap_or_else(|| format!("status {:?}", envelope.status)));
    }
    if let Some(warning) = envelope.warnings.first() {
        return Err(format!("an answer that may be incomplete: {warning}"));
    }
    if envelope.is_partial {
        return Err("an answer that is incomplete (isPartial)".to_string());
    }
    let data = envelope.data.ok_or("an answer without data")?;
    if data.result_type != result_type {
        return Err(format!("a {} where a {result_type} was asked for", data.result_type));
    }
    Ok(data.result.into_iter().map(FoundSeries::from).collect())
}

/// Reads one native histogram, in the form that the API gives it.
pub fn parse_histogram(text: &str) -> Result<Histogram, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// The error text in an answer with an error status, or the beginning of whatever came instead.
pub fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Failure {
        error: String,
    }
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => failure.error,
        Err(_) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
            text.trim().chars().take(200).map(|char| if char.is_control() { ' ' } else { char }).collect()
        }
    }
}

impl From<ResultSeries> for FoundSeries {
    fn from(series: ResultSeries) -> FoundSeries {
        let floats = series.values.into_iter().chain(series.value);
        let floats = floats
            .map(|(time, value)| FoundSample { timestamp_ms: time.0, value: FoundValue::Float(value.0) });
        let histograms = series.histograms.into_iter().chain(series.histogram);
        let histograms = histograms
            .map(|(time, value)| FoundSample { timestamp_ms: time.0, value: FoundValue::Histogram(value) });
        FoundSeries {
            labels: series.metric.into_iter().collect(),
            samples: floats.chain(histograms).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_read_to_the_millisecond_and_to_the_bit() {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"job":"a","__name__":"up"},"values":[[1700000000.123,"0.1"],[1700000015,"-0"],
             [1700000030,"NaN"],[1700000045,"+Inf"],[1700000060,"1.7976931348623157e+308"]]}]}}"#;
        let series = parse(body, "matrix").unwrap();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].labels[0], ("__name__".to_string(), "up".to_string()));
        let samples = &series[0].samples;
        assert_eq!(samples[0].timestamp_ms, 1_700_000_000_123);
        let floats: Vec<f64> = samples
            .iter()
            .map(|sample| match &sample.value {
                FoundValue::Float(value) => *value,
                FoundValue::Histogram(_) => panic!("no histogram was given"),
            })
            .collect();
        assert_eq!(floats[0].to_bits(), 0.1f64.to_bits());
        assert_eq!(floats[1].to_bits(), (-0.0f64).to_bits());
        assert!(floats[2].is_nan() && floats[3] == f64::INFINITY && floats[4] == f64::MAX);
    }

    #[test]
    fn histograms_and_vectors_are_read() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{},"histogram":[5.5,{"count":"3","sum":"1.5","buckets":[[0,"0.5","1","3"]]}]},
            {"metric":{"a":"b"},"value":[6,"7"]}]}}"#;
        let series = parse(body, "vector").unwrap();
        let expected = parse_histogram(r#"{"count":"3","sum":"1.5","buckets":[[0,"0.5","1","3"]]}"#).unwrap();
        assert_eq!(series[0].samples[0].value, FoundValue::Histogram(expected));
        assert_eq!(series[1].samples[0], FoundSample { timestamp_ms: 6000, value: FoundValue::Float(7.0) });
    }

    #[test]
    fn whatever_is_not_a_complete_answer_is_an_error() {
        let whole = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}}"#;
        assert!(parse(whole.as_bytes(), "matrix").is_ok());
        for cut in 0..whole.len() {
            assert!(parse(&whole.as_bytes()[..cut], "matrix").is_err(), "cut at {cut}");
        }
        for (body, part) in [
            ("<html>", "not an answer"),
            (r#"{"status":"error","error":"too many samples"}"#, "too many samples"),
            (r#"{"status":"success"}"#, "without data"),
            (
                r#"{"status":"success","warnings":["store x is down"],"data":{"resultType":"matrix","result":[]}}"#,
                "store x",
            ),
            (
                r#"{"status":"success","isPartial":true,"data":{"resultType":"matrix","result":[]}}"#,
                "incomplete",
            ),
            (r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#, "a vector where a matrix"),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"x"]]}]}}"#,
                "not an answer",
            ),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1e300,"1"]]}]}}"#,
                "not an answer",
            ),
        ] {
            let error = parse(body.as_bytes(), "matrix").unwrap_err();
            assert!(error.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn error_texts_are_short_and_printable() {
        assert_eq!(error_text(br#"{"status":"error","error":"busy"}"#), "busy");
        assert_eq!(error_text(b"bad\ngateway\n"), "bad gateway");
        assert_eq!(error_text(&[b'x'; 5000]).len(), 200);
    }
}
