//! An exporter that serves Prometheus' protobuf exposition: counters and histograms with exemplars, and native histograms,
//! which no other format can carry.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use prost::Message;

use crate::support::{free_address, now_ms};

/// Scrapes after which nothing changes any more, and no exemplar is shown.
pub const STEPS: u64 = 24;

/// The first scrape with exemplars: a sender may send one before the histogram that makes its series.
const EXEMPLARS_FROM: u64 = 3;

/// The scrape before which the exporter seems to have been restarted: all counters begin again.
const RESET: u64 = 14;

/// How long a connection may stay silent.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

// Types of families.
const COUNTER: i32 = 0;
const HISTOGRAM: i32 = 4;
const GAUGE_HISTOGRAM: i32 = 5;

/// io.prometheus.client.MetricFamily.
#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

/// io.prometheus.client.Metric.
#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

/// io.prometheus.client.LabelPair.
#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// io.prometheus.client.Counter.
#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<Exemplar>,
}

/// io.prometheus.client.Histogram: classic, native, or both.
#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(double, tag = "8")]
    zero_count_float: f64,
    #[prost(message, repeated, tag = "9")]
    negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "10")]
    negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    positive_counts: Vec<f64>,
}

/// io.prometheus.client.Bucket.
#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

/// io.prometheus.client.BucketSpan.
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// io.prometheus.client.Exemplar.
#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// google.protobuf.Timestamp.
#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The exporter; it ends with this.
pub struct Exporter {
    pub address: SocketAddr,
    scrapes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Serves from a thread of its own.
    pub fn start() -> Exporter {
        let address = free_address();
        let listener = TcpListener::bind(address).unwrap();
        let (scrapes, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, ended) = (Arc::clone(&scrapes), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let counted = Arc::clone(&counted);
                // A connection on which nothing is asked must not hold up the others; a scrape that is given up is lost.
                std::thread::spawn(move || stream.and_then(|stream| answer(stream, &counted)));
            }
        });
        Exporter { address, scrapes, is_over, thread: Some(thread) }
    }

    /// Whether nothing changes any more.
    pub fn is_done(&self) -> bool {
        self.scrapes.load(Ordering::Relaxed) > STEPS
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, scrapes: &AtomicU64) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut takes_protobuf = false;
    for line in BufReader::new(&stream).lines() {
        let line = line?.to_ascii_lowercase();
        takes_protobuf |= line.starts_with("accept:") && line.contains("application/vnd.google.protobuf");
        if line.is_empty() {
            break;
        }
    }
    if !takes_protobuf {
        return stream
            .write_all(b"HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let body = exposition(scrapes.fetch_add(1, Ordering::Relaxed).min(STEPS), now_ms());
    let (length, connection) = (body.len(), "Connection: close");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\n{connection}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

/// What the exporter shows at one step.
fn exposition(step: u64, now_ms: i64) -> Vec<u8> {
    let families = [
        family("exporter_requests_total", "Requests.", COUNTER, counter(step, now_ms)),
        family("exporter_latency_seconds", "Classic latency.", HISTOGRAM, classic(step, now_ms)),
        family("exporter_native_seconds", "Native latency.", HISTOGRAM, native(step, now_ms)),
        family("exporter_native_level", "A level that moves both ways.", GAUGE_HISTOGRAM, native_gauge(step)),
    ];
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn family(name: &str, help: &str, kind: i32, metric: Metric) -> MetricFamily {
    let other = Metric { labels: labels(&[("instance_of", "b")]), ..metric.clone() };
    MetricFamily { name: name.to_owned(), help: help.to_owned(), kind, metrics: vec![metric, other] }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair =
        |(name, value): &(&str, &str)| LabelPair { name: (*name).to_owned(), value: (*value).to_owned() };
    pairs.iter().map(pair).collect()
}

/// An exemplar with a time of its own, or with that of the scrape.
fn exemplar(step: u64, kind: &str, value: f64, time_ms: Option<i64>) -> Option<Exemplar> {
    let trace = format!("{kind}-{step}");
    (EXEMPLARS_FROM..STEPS).contains(&step).then(|| Exemplar {
        labels: labels(&[("trace_id", &trace), ("span_id", "é")]),
        value,
        timestamp: time_ms.map(|time_ms| Timestamp {
            seconds: time_ms.div_euclid(1000),
            nanos: time_ms.rem_euclid(1000) as i32 * 1_000_000,
        }),
    })
}

/// Steps since the exporter seems to have started.
fn since_start(step: u64) -> u64 {
    if step < RESET { step } else { step - RESET }
}

fn counter(step: u64, now_ms: i64) -> Metric {
    let exemplar = exemplar(step, "counter", 1.0, step.is_multiple_of(2).then_some(now_ms - 7));
    let counter = Some(Counter { value: (since_start(step) * 3) as f64, exemplar });
    Metric { labels: labels(&[("instance_of", "a")]), counter, histogram: None }
}

fn classic(step: u64, now_ms: i64) -> Metric {
    let count = since_start(step) * 4;
    let bucket = |upper_bound: f64, part: u64| Bucket {
        cumulative_count: count * part / 4,
        upper_bound,
        exemplar: exemplar(step, &format!("le-{upper_bound}"), upper_bound.min(9.0) - 0.03, Some(now_ms - 3))
            .filter(|_| step.is_multiple_of(part)),
    };
    let buckets = vec![bucket(0.1, 1), bucket(1.0, 2), bucket(2.5, 3), bucket(f64::INFINITY, 4)];
    histogram(Histogram { count, sum: count as f64 * 0.7, buckets, ..Histogram::default() })
}

/// Observations below and above zero. After a while buckets come up before, between and behind those that there are.
fn native(step: u64, now_ms: i64) -> Metric {
    let steps = since_start(step);
    let (lower, upper) = (steps as i64, (steps * steps) as i64);
    let (positive_spans, counts) = if steps < 6 {
        (vec![span(-3, 2), span(4, 1)], vec![lower + 1, upper, 2])
    } else {
        (vec![span(-5, 1), span(1, 3), span(2, 2)], vec![3, lower + 1, upper, lower, 2, upper + 7])
    };
    let (negative_spans, negative) = (vec![span(0, 2)], vec![lower, 1]);
    let zero_count = steps + 2;
    let observed = counts.iter().chain(&negative).sum::<i64>() as u64;
    // A bound that only carries an exemplar: the exposition has no other place for those of native histograms.
    let bound = Bucket {
        cumulative_count: zero_count,
        upper_bound: 0.5,
        exemplar: exemplar(step, "native", 0.25, Some(now_ms - 1)),
    };
    histogram(Histogram {
        count: zero_count + observed,
        sum: steps as f64 * 1.25 - 0.1,
        buckets: vec![bound],
        schema: 1,
        zero_threshold: 1e-3,
        zero_count,
        negative_spans,
        negative_deltas: deltas(&negative),
        positive_spans,
        positive_deltas: deltas(&counts),
        ..Histogram::default()
    })
}

/// Counts with fractions that rise and fall.
fn native_gauge(step: u64) -> Metric {
    let positive_counts: Vec<f64> =
        (0..4u64).map(|bucket| ((step * (bucket + 3)) % 11) as f64 + 0.25).collect();
    let zero_count_float = (step % 3) as f64 + 0.5;
    histogram(Histogram {
        count_float: positive_counts.iter().sum::<f64>() + zero_count_float,
        sum: (step % 7) as f64 - 2.5,
        schema: 0,
        zero_threshold: 0.01,
        zero_count_float,
        positive_spans: vec![span(1, 2), span(1, 2)],
        positive_counts,
        ..Histogram::default()
    })
}

fn histogram(histogram: Histogram) -> Metric {
    Metric { labels: labels(&[("instance_of", "a")]), counter: None, histogram: Some(histogram) }
}

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

/// Each bucket's count as the difference to the one before.
fn deltas(counts: &[i64]) -> Vec<i64> {
    let before = [0].iter().chain(counts);
    counts.iter().zip(before).map(|(count, before)| count - before).collect()
}
