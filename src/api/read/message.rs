//! The messages of remote read, as far as they are read and written (`prompb/remote.proto`, `prompb/types.proto`).

use annulus_shards::chunk::{Buckets, FloatHistogram, Histogram, ResetHint};
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{self, WireType};

#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    /// In the order in which the client likes them.
    #[prost(int32, repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// A query. Its hints say what the client will do with the samples; an answer may heed them and need not.
#[derive(Clone, PartialEq, Message)]
pub struct Query {
    #[prost(int64, tag = "1")]
    pub start_ms: i64,
    #[prost(int64, tag = "2")]
    pub end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LabelMatcher {
    #[prost(int32, tag = "1")]
    pub op: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<HistogramSample>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// Optional, so that a negative zero is written too.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
    #[prost(int64, tag = "2")]
    pub timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct HistogramSample {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub count: Option<Count>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp_ms: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Count {
    #[prost(uint64, tag = "1")]
    Integer(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Integer(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    #[prost(int64, tag = "1")]
    pub min_ms: i64,
    #[prost(int64, tag = "2")]
    pub max_ms: i64,
    #[prost(int32, tag = "3")]
    pub encoding: i32,
    #[prost(bytes = "bytes", tag = "4")]
    pub bytes: Bytes,
}

/// The field that an answer (`ReadResponse`) has for its results and a result (`QueryResult`) has for its series.
const PARTS: u32 = 1;

/// Adds a series to the encoded series of a result.
pub fn push_series(series: &TimeSeries, result: &mut Vec<u8>) {
    encoding::message::encode(PARTS, series, result);
}

/// Adds a result to an encoded answer.
pub fn push_result(result: &[u8], answer: &mut Vec<u8>) {
    encoding::encode_key(PARTS, WireType::LengthDelimited, answer);
    encoding::encode_varint(result.len() as u64, answer);
    answer.extend_from_slice(result);
}

/// Labels as messages have them.
pub fn labels(labels: &annulus_shards::Labels) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

/// A histogram with integer counts.
pub fn integer_histogram(timestamp_ms: i64, histogram: &Histogram) -> HistogramSample {
    HistogramSample {
        count: Some(Count::Integer(histogram.count)),
        zero_count: Some(ZeroCount::Integer(histogram.zero_count)),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        negative_spans: spans(&histogram.negative),
        negative_deltas: histogram.negative.values.clone(),
        positive_spans: spans(&histogram.positive),
        positive_deltas: histogram.positive.values.clone(),
        reset_hint: reset_hint(histogram.reset_hint),
        timestamp_ms,
        custom_values: histogram.custom_values.clone(),
        ..HistogramSample::default()
    }
}

/// A histogram with float counts.
pub fn float_histogram(timestamp_ms: i64, histogram: &FloatHistogram) -> HistogramSample {
    HistogramSample {
        count: Some(Count::Float(histogram.count)),
        zero_count: Some(ZeroCount::Float(histogram.zero_count)),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        negative_spans: spans(&histogram.negative),
        negative_counts: histogram.negative.values.clone(),
        positive_spans: spans(&histogram.positive),
        positive_counts: histogram.positive.values.clone(),
        reset_hint: reset_hint(histogram.reset_hint),
        timestamp_ms,
        custom_values: histogram.custom_values.clone(),
        ..HistogramSample::default()
    }
}

fn spans<B>(buckets: &Buckets<B>) -> Vec<BucketSpan> {
    buckets.spans.iter().map(|span| BucketSpan { offset: span.offset, length: span.length }).collect()
}

fn reset_hint(hint: ResetHint) -> i32 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Yes => 1,
        ResetHint::No => 2,
        ResetHint::Gauge => 3,
    }
}
