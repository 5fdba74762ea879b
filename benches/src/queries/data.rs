//! The series that are asked for: few metrics of many pods, because that is what makes a query slow.
//!
//! A profile of the load generator spreads 20,000 series over hundreds of metrics, so that a query would find some
//! dozens of them. Here every metric has one series for each pod. All is a pure function of the numbers of a series
//! and a round, so that every receiver gets the same bytes.

use std::fmt::Write;

use annulus_loadgen::send::load::Source;
use annulus_loadgen::stream::{Counts, Encoded, Protocol};
use bytes::Bytes;

/// Series of one request.
const SERIES_PER_REQUEST: u64 = 2000;

/// How a metric's values behave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Values {
    /// Whole numbers that only rise.
    Count,
    /// The same, so large that hardly two series ever gain the same: among equals, `topk` may take any.
    Traffic,
    /// Seconds that only rise, in hundredths.
    Seconds,
    /// Bytes of memory, in whole pages.
    Bytes,
    /// A small whole number.
    Whole,
    /// Any number from 0 to 1, with all its digits.
    Share,
}

/// The metrics; each pod has one series of each.
const METRICS: [(&str, Values); 10] = [
    ("pod_http_requests_total", Values::Count),
    ("pod_http_errors_total", Values::Count),
    ("pod_cpu_seconds_total", Values::Seconds),
    ("pod_network_receive_bytes_total", Values::Traffic),
    ("pod_gc_seconds_total", Values::Seconds),
    ("pod_memory_working_set_bytes", Values::Bytes),
    ("pod_memory_cache_bytes", Values::Bytes),
    ("pod_connections", Values::Whole),
    ("pod_threads", Values::Whole),
    ("pod_load", Values::Share),
];

const APPS: [&str; 8] =
    ["billing", "catalogue", "checkout", "gateway", "orders", "payments", "search", "sessions"];
const NAMESPACES: u64 = 40;
const PODS_PER_NODE: u64 = 30;

/// Rounds that every counter has seen before the first sample.
const ROUNDS_BEFORE: u64 = 1000;

/// Which series, and when they have samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Data {
    /// How many series.
    pub series: u64,
    /// Before the first samples, milliseconds since the Unix epoch.
    pub begin_ms: i64,
    /// Between two samples of a series.
    pub interval_ms: i64,
    /// Samples of each series.
    pub rounds: u64,
    /// Whether a label `session` tells all series apart by itself.
    pub has_session: bool,
}

impl Data {
    /// A time that no sample reaches.
    pub fn end_ms(&self) -> i64 {
        self.begin_ms + self.interval_ms * self.rounds as i64
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.series * self.rounds
    }

    /// All requests, of which each round has the same number.
    pub fn requests(&self) -> u64 {
        self.rounds * self.requests_per_round()
    }

    /// How many pods have all their series; a last one may lack some.
    pub fn whole_pods(&self) -> u64 {
        self.series / METRICS.len() as u64
    }

    /// The metrics, each with the number of its series.
    pub fn metrics(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let metric_count = METRICS.len() as u64;
        let series = self.series;
        (0u64..)
            .zip(METRICS)
            .map(move |(index, (name, _))| (name, (series + metric_count - 1 - index) / metric_count))
    }

    /// The time of a sample: as scrapes do, each pod's lie at its own moment of the interval.
    fn timestamp_ms(&self, pod: u64, round: u64) -> i64 {
        let offset_ms = mix(pod) % self.interval_ms.unsigned_abs();
        self.begin_ms + self.interval_ms * round as i64 + offset_ms as i64
    }

    /// The message that a request carries.
    fn message(&self, request: u64) -> (Vec<u8>, u64) {
        let round = request / self.requests_per_round();
        let first = request % self.requests_per_round() * SERIES_PER_REQUEST;
        let end = (first + SERIES_PER_REQUEST).min(self.series);
        let mut message = Vec::with_capacity((end - first) as usize * 400);
        let (mut labels_of, mut labels, mut series_bytes) = (None, Vec::new(), Vec::new());
        for series in first..end {
            let (pod, metric) = (series / METRICS.len() as u64, series % METRICS.len() as u64);
            if labels_of.replace(pod) != Some(pod) {
                labels = pod_labels(pod);
            }
            let (name, values) = METRICS[metric as usize];
            series_bytes.clear();
            put_label("__name__", name, &mut series_bytes);
            series_bytes.extend_from_slice(&labels);
            if self.has_session {
                // Sorted, as senders must: no other name comes after it.
                put_label("session", &session(series), &mut series_bytes);
            }
            let value = value(values, series, round);
            put_sample(value, self.timestamp_ms(pod, round), &mut series_bytes);
            put_field(1, &series_bytes, &mut message);
        }
        (message, end - first)
    }
}

impl Source for Data {
    fn requests_per_round(&self) -> u64 {
        self.series.div_ceil(SERIES_PER_REQUEST)
    }

    fn due_us(&self, request: u64) -> u64 {
        // A closed loop has no due times; all of a round may as well have the same.
        request / self.requests_per_round() * self.interval_ms.unsigned_abs() * 1000
    }

    fn encode(&self, request: u64, protocol: Protocol) -> Encoded {
        assert_eq!(protocol, Protocol::RemoteWrite1, "the load is started with this version alone");
        let (message, count) = self.message(request);
        let body = snap::raw::Encoder::new()
            .compress_vec(&message)
            .expect("a message of 2000 series is far below the 4 GiB that snappy takes");
        let counts = Counts { series: count, samples: count, histograms: 0, exemplars: 0 };
        Encoded { body: Bytes::from(body), counts }
    }
}

/// The name of a pod; no two below 2^28 have the same.
pub fn pod_name(pod: u64) -> String {
    // An odd factor permutes the numbers of 28 bits.
    let replica_set = pod.wrapping_mul(0x9e3_779b) & 0xfff_ffff;
    format!("{}-{replica_set:07x}-{:05x}", app(pod), mix(pod) >> 44)
}

fn app(pod: u64) -> &'static str {
    APPS[(pod % APPS.len() as u64) as usize]
}

fn session(series: u64) -> String {
    format!("s-{series:07x}{:06x}", mix(!series) >> 40)
}

/// The labels that all series of a pod have, in the order of their names.
fn pod_labels(pod: u64) -> Vec<u8> {
    let node = pod / PODS_PER_NODE;
    let mut text = String::new();
    let mut labels = Vec::new();
    let mut put = |name: &str, value: std::fmt::Arguments<'_>| {
        text.clear();
        text.write_fmt(value).expect("writing into a string cannot fail");
        put_label(name, &text, &mut labels);
    };
    put("cluster", format_args!("prod-eu-west-1"));
    put("container", format_args!("{}", app(pod)));
    put("endpoint", format_args!("http-metrics"));
    put("environment", format_args!("prod"));
    put("instance", format_args!("10.{}.{}.{}:9102", pod >> 16 & 0xff, pod >> 8 & 0xff, pod & 0xff));
    put("job", format_args!("{}", app(pod)));
    put("namespace", format_args!("team-{:02}", mix(pod) % NAMESPACES));
    put("node", format_args!("ip-10-0-{}-{}.eu-west-1.compute.internal", node >> 8, node & 0xff));
    put("pod", format_args!("{}", pod_name(pod)));
    put("prometheus", format_args!("monitoring/k8s"));
    put("service", format_args!("{}", app(pod)));
    labels
}

fn value(values: Values, series: u64, round: u64) -> f64 {
    let own = mix(series);
    let noise = mix(own ^ round);
    let gain_max = if values == Values::Traffic { 100_000_000 } else { 1000 };
    // What a counter gains in a round, give or take: with noise below it, no step is negative.
    let gain = 1 + own % gain_max;
    // Far from zero from the start: near it, versions of Prometheus extrapolate differently.
    let counted = ((own >> 40) + gain * (round + ROUNDS_BEFORE) + noise % gain) as f64;
    match values {
        Values::Count | Values::Traffic => counted,
        Values::Seconds => counted / 100.0,
        Values::Bytes => (4096 * (1000 + own % 50_000 + noise % 2000)) as f64,
        Values::Whole => (own % 50 + noise % 8) as f64,
        Values::Share => (noise >> 11) as f64 / (1u64 << 53) as f64,
    }
}

/// Spreads a number over all 64 bits (the finisher of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes, text or a message.
fn put_field(field: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    put_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn put_label(name: &str, value: &str, out: &mut Vec<u8>) {
    // Both lengths are below 128, and so is that of the whole: each takes one byte.
    out.extend([0x0a, (name.len() + value.len() + 4) as u8]);
    put_field(1, name.as_bytes(), out);
    put_field(2, value.as_bytes(), out);
}

fn put_sample(value: f64, timestamp_ms: i64, out: &mut Vec<u8>) {
    let mut sample = Vec::with_capacity(20);
    sample.push(1 << 3 | 1);
    sample.extend(value.to_le_bytes());
    sample.push(2 << 3);
    put_varint(timestamp_ms as u64, &mut sample);
    put_field(2, &sample, out);
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::*;

    pub fn data(series: u64) -> Data {
        Data { series, begin_ms: 1_770_000_000_000, interval_ms: 15_000, rounds: 40, has_session: false }
    }

    /// Whether a metric of this name is among those that are sent.
    pub fn is_sent(name: &str) -> bool {
        METRICS.iter().any(|(sent, _)| *sent == name)
    }

    #[test]
    fn every_series_is_in_one_request_of_each_round() {
        for series in [1, 9, 10, 2000, 2001, 20_000] {
            let data = data(series);
            let in_round: u64 = (0..data.requests_per_round()).map(|request| data.message(request).1).sum();
            assert_eq!(in_round, series);
            assert_eq!(data.metrics().map(|(_, count)| count).sum::<u64>(), series);
        }
        assert_eq!(data(20_000).metrics().next(), Some(("pod_http_requests_total", 2000)));
    }

    #[test]
    fn requests_are_the_same_each_time_and_decompress_to_their_message() {
        let data = Data { has_session: true, ..data(2500) };
        for request in [0, 1, 2, data.requests() - 1] {
            let encoded = data.encode(request, Protocol::RemoteWrite1);
            let message = snap::raw::Decoder::new().decompress_vec(&encoded.body).unwrap();
            assert_eq!(message, data.message(request).0);
            assert_eq!(encoded.counts.samples, if request % 2 == 0 { 2000 } else { 500 });
        }
    }

    #[test]
    fn counters_only_rise_and_samples_stay_within_their_interval() {
        let data = data(1000);
        for series in 0..data.series {
            for round in 1..data.rounds {
                for values in [Values::Count, Values::Traffic, Values::Seconds] {
                    let step = value(values, series, round) - value(values, series, round - 1);
                    assert!(step > 0.0, "{values:?}, series {series}, round {round}");
                }
            }
        }
        for pod in 0..100 {
            assert!(data.timestamp_ms(pod, 0) >= data.begin_ms);
            assert!(data.timestamp_ms(pod, data.rounds - 1) < data.end_ms());
        }
    }

    #[test]
    fn no_two_pods_and_no_two_sessions_have_one_name() {
        let pods: HashSet<String> = (0..100_000).map(pod_name).collect();
        let sessions: HashSet<String> = (0..100_000).map(session).collect();
        assert_eq!((pods.len(), sessions.len()), (100_000, 100_000));
    }

    #[test]
    fn labels_are_short_enough_for_lengths_of_one_byte() {
        for pod in [0, 7, 100_000, 10_000_000] {
            // Each label is a field of its own, and all of them together fill the bytes exactly.
            let labels = pod_labels(pod);
            let (mut at, mut count) = (0, 0);
            while at < labels.len() {
                assert_eq!(labels[at], 0x0a);
                at += 2 + usize::from(labels[at + 1]);
                count += 1;
            }
            assert_eq!((at, count), (labels.len(), 11));
        }
    }
}
