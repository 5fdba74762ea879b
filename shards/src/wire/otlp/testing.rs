//! The messages of OTLP as senders encode them, for tests.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scopes: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub description: String,
    #[prost(string, tag = "3")]
    pub unit: String,
    #[prost(message, optional, tag = "5")]
    pub gauge: Option<Numbers>,
    #[prost(message, optional, tag = "7")]
    pub sum: Option<Numbers>,
    #[prost(message, optional, tag = "9")]
    pub histogram: Option<Histograms>,
    #[prost(message, optional, tag = "10")]
    pub exponential: Option<Exponentials>,
    #[prost(message, optional, tag = "11")]
    pub summary: Option<Summaries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Numbers {
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Number>,
    #[prost(int32, tag = "2")]
    pub temporality: i32,
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Histograms {
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Histogram>,
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Exponentials {
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Exponential>,
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Summaries {
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Summary>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Number {
    #[prost(fixed64, tag = "3")]
    pub time_ns: u64,
    #[prost(double, optional, tag = "4")]
    pub double: Option<f64>,
    #[prost(message, repeated, tag = "5")]
    pub exemplars: Vec<Exemplar>,
    #[prost(sfixed64, optional, tag = "6")]
    pub int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

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
    #[prost(message, repeated, tag = "8")]
    pub exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "10")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Exponential {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    pub time_ns: u64,
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    #[prost(sint32, tag = "6")]
    pub scale: i32,
    #[prost(fixed64, tag = "7")]
    pub zero_count: u64,
    #[prost(message, optional, tag = "8")]
    pub positive: Option<Buckets>,
    #[prost(message, optional, tag = "9")]
    pub negative: Option<Buckets>,
    #[prost(message, repeated, tag = "11")]
    pub exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Buckets {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint64, repeated, tag = "2")]
    pub counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(fixed64, tag = "3")]
    pub time_ns: u64,
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    #[prost(double, tag = "5")]
    pub sum: f64,
    #[prost(message, repeated, tag = "6")]
    pub quantiles: Vec<Quantile>,
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Quantile {
    #[prost(double, tag = "1")]
    pub quantile: f64,
    #[prost(double, tag = "2")]
    pub value: f64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    #[prost(fixed64, tag = "2")]
    pub time_ns: u64,
    #[prost(double, optional, tag = "3")]
    pub double: Option<f64>,
    #[prost(bytes = "vec", tag = "4")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub trace_id: Vec<u8>,
    #[prost(sfixed64, optional, tag = "6")]
    pub int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub text: Option<String>,
    #[prost(bool, optional, tag = "2")]
    pub bool: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    pub int: Option<i64>,
    #[prost(double, optional, tag = "4")]
    pub double: Option<f64>,
    #[prost(message, optional, tag = "5")]
    pub list: Option<ArrayValue>,
    #[prost(message, optional, tag = "6")]
    pub map: Option<KeyValueList>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub bytes: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KeyValue>,
}

/// prometheus.Histogram, as far as it is written.
#[derive(Clone, PartialEq, Message)]
pub struct NativeHistogram {
    #[prost(uint64, tag = "1")]
    pub count: u64,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    pub zero_count: u64,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    pub timestamp_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// One attribute.
pub fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value) }
}

/// One attribute, encoded.
pub fn attribute_bytes(key: &str, value: AnyValue) -> Vec<u8> {
    attribute(key, value).encode_to_vec()
}

/// A list.
pub fn list<const N: usize>(values: [AnyValue; N]) -> AnyValue {
    AnyValue { list: Some(ArrayValue { values: values.into() }), ..AnyValue::default() }
}

/// A map.
pub fn map<const N: usize>(pairs: [(&str, AnyValue); N]) -> AnyValue {
    let values = pairs.into_iter().map(|(key, value)| attribute(key, value)).collect();
    AnyValue { map: Some(KeyValueList { values }), ..AnyValue::default() }
}

/// Scalars.
pub mod any {
    use super::AnyValue;

    pub fn text(value: &str) -> AnyValue {
        AnyValue { text: Some(value.to_owned()), ..AnyValue::default() }
    }

    pub fn bool(value: bool) -> AnyValue {
        AnyValue { bool: Some(value), ..AnyValue::default() }
    }

    pub fn int(value: i64) -> AnyValue {
        AnyValue { int: Some(value), ..AnyValue::default() }
    }

    pub fn double(value: f64) -> AnyValue {
        AnyValue { double: Some(value), ..AnyValue::default() }
    }

    pub fn bytes(value: &[u8]) -> AnyValue {
        AnyValue { bytes: Some(value.to_vec()), ..AnyValue::default() }
    }
}
