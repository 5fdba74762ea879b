//! OTLP metrics from the sender's side, as far as the tests need them.

use prost::Message;

/// ExportMetricsServiceRequest.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<ResourceMetrics>,
}

/// The metrics of one resource.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scopes: Vec<ScopeMetrics>,
}

/// Who sends.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// The metrics of one library.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// One metric.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub unit: String,
    #[prost(message, optional, tag = "5")]
    pub gauge: Option<Numbers>,
    #[prost(message, optional, tag = "7")]
    pub sum: Option<Numbers>,
    #[prost(message, optional, tag = "9")]
    pub histogram: Option<Histograms>,
}

/// A gauge or a sum.
#[derive(Clone, PartialEq, Message)]
pub struct Numbers {
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Number>,
    /// 1 for delta, 2 for cumulative.
    #[prost(int32, tag = "2")]
    pub temporality: i32,
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// A histogram.
#[derive(Clone, PartialEq, Message)]
pub struct Histograms {
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Histogram>,
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

/// A point of a gauge or sum.
#[derive(Clone, PartialEq, Message)]
pub struct Number {
    #[prost(fixed64, tag = "3")]
    pub time_ns: u64,
    #[prost(double, optional, tag = "4")]
    pub value: Option<f64>,
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// A point of a histogram.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(fixed64, tag = "3")]
    pub time_ns: u64,
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    pub counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    pub bounds: Vec<f64>,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Text>,
}

/// An AnyValue that is a text.
#[derive(Clone, PartialEq, Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
}

/// ExportMetricsServiceResponse.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    #[prost(message, optional, tag = "1")]
    pub partial: Option<Partial>,
}

/// What was not taken.
#[derive(Clone, PartialEq, Message)]
pub struct Partial {
    #[prost(int64, tag = "1")]
    pub rejected_points: i64,
    #[prost(string, tag = "2")]
    pub error: String,
}

/// Attributes.
pub fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let value = |text: &str| Some(Text { text: text.to_owned() });
    pairs.iter().map(|(key, text)| KeyValue { key: (*key).to_owned(), value: value(text) }).collect()
}

/// A cumulative monotonic sum.
pub fn counter(name: &str, time_ms: i64, value: f64) -> Metric {
    let points = vec![number(time_ms, value)];
    let sum = Some(Numbers { points, temporality: 2, is_monotonic: true });
    Metric { name: name.to_owned(), sum, ..Metric::default() }
}

/// A point of a gauge or sum.
pub fn number(time_ms: i64, value: f64) -> Number {
    Number {
        time_ns: time_ns(time_ms),
        value: Some(value),
        attributes: attributes(&[("http.method", "GET")]),
    }
}

/// Nanoseconds.
pub fn time_ns(time_ms: i64) -> u64 {
    time_ms.unsigned_abs() * 1_000_000
}

/// A request of one resource.
pub fn body(resource: &[(&str, &str)], metrics: Vec<Metric>) -> Vec<u8> {
    let resource = Some(Resource { attributes: attributes(resource) });
    let resources = vec![ResourceMetrics { resource, scopes: vec![ScopeMetrics { metrics }] }];
    Request { resources }.encode_to_vec()
}
