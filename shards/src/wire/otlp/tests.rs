//! Whole requests: what senders encode, and what rows come out.

use proptest::prelude::*;
use prost::Message;

use super::testing::{
    Buckets, Exemplar, Exponential, Exponentials, Histogram, Histograms, KeyValue, Metric, NativeHistogram,
    Number, Numbers, Quantile, Request, Resource, ResourceMetrics, ScopeMetrics, Summaries, Summary, any,
    attribute,
};
use super::*;
use crate::is_stale;
use crate::wire::skim::SAMPLES_MAX;
use crate::wire::{Row, SeriesHasher, TenantHasher, WireError, canonical_label_bytes, parse_labels};

const CUMULATIVE: i32 = 2;
const TIME_NS: u64 = 1_700_000_000_123_999_999;
const TIME_MS: i64 = 1_700_000_000_123;

fn hasher() -> TenantHasher {
    SeriesHasher::new([7; 16]).tenant("team")
}

fn translate_in(
    request: &[u8],
    settings: &Settings,
    bytes_max: usize,
    step: usize,
) -> Result<Translated, OtlpError> {
    let hasher = hasher();
    let mut translator = Translator::new(request, settings, &hasher, Vec::new(), bytes_max);
    while !translator.run(step)? {}
    Ok(translator.finish())
}

fn translate(metrics: Vec<Metric>) -> Translated {
    translate_in(&request(metrics).encode_to_vec(), &Settings::default(), 1 << 20, usize::MAX).unwrap()
}

fn service() -> Vec<KeyValue> {
    vec![attribute("service.name", any::text("api")), attribute("host.name", any::text("h1"))]
}

fn request(metrics: Vec<Metric>) -> Request {
    let resource = Some(Resource { attributes: service() });
    Request { resources: vec![ResourceMetrics { resource, scopes: vec![ScopeMetrics { metrics }] }] }
}

fn named(name: &str, unit: &str) -> Metric {
    Metric { name: name.into(), unit: unit.into(), description: "what it is".into(), ..Metric::default() }
}

fn number(value: f64) -> Number {
    let attributes = vec![attribute("http.method", any::text("GET"))];
    Number { time_ns: TIME_NS, double: Some(value), attributes, ..Number::default() }
}

fn numbers(points: Vec<Number>, is_monotonic: bool) -> Option<Numbers> {
    Some(Numbers { points, temporality: CUMULATIVE, is_monotonic })
}

fn exemplar(value: f64) -> Exemplar {
    Exemplar { time_ns: TIME_NS, double: Some(value), trace_id: vec![1; 16], ..Exemplar::default() }
}

/// Each row as `name{label="value",…} value`, without `target_info`; checks keys, times and encodings on the way.
fn lines(translated: &Translated) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &translated.rows {
        let label_bytes = labels_of(translated, row);
        let line = line(label_bytes);
        assert_eq!(row.key, hasher().key(label_bytes));
        assert_eq!(row.timestamp_ms, TIME_MS);
        if !line.starts_with("target_info") {
            let value = if is_stale(row.value) { "stale".to_owned() } else { row.value.to_string() };
            lines.push(format!("{line} {value}"));
        }
    }
    lines
}

fn labels_of<'a>(translated: &'a Translated, row: &Row) -> &'a [u8] {
    &translated.body[row.label_offset as usize..][..row.label_len as usize]
}

fn line(label_bytes: &[u8]) -> String {
    let labels = parse_labels(label_bytes).unwrap();
    assert_eq!(canonical_label_bytes(&labels), label_bytes, "the encoding is the canonical one");
    let name = labels.iter().find(|(name, _)| *name == "__name__").unwrap().1;
    let rest: Vec<_> = labels.iter().filter(|(name, _)| *name != "__name__").collect();
    let rest: Vec<_> = rest.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{name}{{{}}}", rest.join(","))
}

/// Each metadata row as `type family help unit`.
fn metadata(translated: &Translated) -> Vec<String> {
    let text =
        |range: crate::wire::BodyRange| String::from_utf8(range.of(&translated.body).to_vec()).unwrap();
    let rows = translated.extras.metadata.iter();
    rows.map(|row| format!("{}|{}|{}|{}", row.kind, text(row.family), text(row.help), text(row.unit)))
        .collect()
}

#[test]
fn gauges_and_sums_are_one_sample_a_point() {
    let gauge = Metric { gauge: numbers(vec![number(0.5)], false), ..named("cpu.usage", "1") };
    let counter = Metric { sum: numbers(vec![number(7.0)], true), ..named("http.requests", "{request}") };
    let mut whole = number(0.0);
    (whole.double, whole.int) = (None, Some(-3));
    let up_down = Metric { sum: numbers(vec![whole], false), ..named("queue.size", "By") };
    let translated = translate(vec![gauge, counter, up_down]);
    assert_eq!(
        lines(&translated),
        [
            "cpu_usage_ratio{http_method=GET,job=api} 0.5",
            "http_requests_total{http_method=GET,job=api} 7",
            "queue_size_bytes{http_method=GET,job=api} -3",
        ]
    );
    assert_eq!(
        metadata(&translated),
        [
            "2|cpu_usage_ratio|what it is|",
            "1|http_requests_total|what it is|",
            "2|queue_size_bytes|what it is|bytes",
            "2|target_info|Target metadata|",
        ]
    );
    assert_eq!((translated.point_count, translated.refused_count), (3, 0));
    assert_eq!((translated.skimmed.series_count, translated.skimmed.sample_count), (4, 4));
}

#[test]
fn a_resource_is_one_sample_of_target_info_at_its_newest_point() {
    let mut older = number(1.0);
    older.time_ns -= 5_000_000_000;
    let gauge = Metric { gauge: numbers(vec![older, number(2.0)], false), ..named("g", "") };
    let bytes = request(vec![gauge]).encode_to_vec();
    let translated = translate_in(&bytes, &Settings::default(), 1 << 20, 1).unwrap();
    let info = translated.rows.last().unwrap();
    assert_eq!(line(labels_of(&translated, info)), "target_info{host_name=h1,job=api}");
    assert_eq!((info.timestamp_ms, info.value), (TIME_MS, 1.0));
    let without = Settings { target_info: false, ..Settings::default() };
    assert_eq!(translate_in(&bytes, &without, 1 << 20, 1).unwrap().rows.len(), 2);
    let promoted = Settings { target_info: false, promoted: vec!["host.name".into()] };
    let translated = translate_in(&bytes, &promoted, 1 << 20, 1).unwrap();
    assert_eq!(line(labels_of(&translated, &translated.rows[0])), "g{host_name=h1,http_method=GET,job=api}");
}

#[test]
fn histograms_become_cumulative_buckets_a_sum_and_a_count() {
    let point = Histogram {
        time_ns: TIME_NS,
        count: 6,
        sum: Some(4.5),
        counts: vec![1, 2, 3],
        bounds: vec![0.25, 10.0],
        exemplars: vec![exemplar(99.0), exemplar(0.2), exemplar(10.0)],
        attributes: vec![attribute("le", any::text("mine"))],
        ..Histogram::default()
    };
    let histogram = Some(Histograms { points: vec![point], temporality: CUMULATIVE });
    let translated = translate(vec![Metric { histogram, ..named("latency", "s") }]);
    assert_eq!(
        lines(&translated),
        [
            "latency_seconds_sum{job=api,le=mine} 4.5",
            "latency_seconds_count{job=api,le=mine} 6",
            "latency_seconds_bucket{job=api,le=0.25} 1",
            "latency_seconds_bucket{job=api,le=10} 3",
            "latency_seconds_bucket{job=api,le=+Inf} 6",
        ]
    );
    assert_eq!(metadata(&translated)[0], "3|latency_seconds|what it is|seconds");
    let trace = canonical_label_bytes(&[("trace_id", &"01".repeat(16))]);
    let mut found = Vec::new();
    for row in &translated.extras.exemplars {
        assert_eq!(row.labels.of(&translated.body), trace);
        assert_eq!(
            (row.key, row.timestamp_ms),
            (hasher().key(row.series_labels.of(&translated.body)), TIME_MS)
        );
        found.push((line(row.series_labels.of(&translated.body)), row.value));
    }
    let bucket = |le: &str| format!("latency_seconds_bucket{{job=api,le={le}}}");
    assert_eq!(found, [(bucket("0.25"), 0.2), (bucket("10"), 10.0), (bucket("+Inf"), 99.0)]);
    assert_eq!(translated.skimmed.exemplar_count, 3);
}

#[test]
fn a_histogram_without_sum_and_bounds_is_a_count_and_a_bucket() {
    let point = Histogram { time_ns: TIME_NS, count: 6, ..Histogram::default() };
    let histogram = Some(Histograms { points: vec![point], temporality: CUMULATIVE });
    let translated = translate(vec![Metric { histogram, ..named("h", "") }]);
    assert_eq!(lines(&translated), ["h_count{job=api} 6", "h_bucket{job=api,le=+Inf} 6"]);
}

#[test]
fn exponential_histograms_become_native_ones() {
    let point = Exponential {
        time_ns: TIME_NS,
        count: 10,
        sum: Some(2.5),
        scale: 3,
        positive: Some(Buckets { offset: 4, counts: vec![4, 6] }),
        exemplars: vec![exemplar(1.0)],
        ..Exponential::default()
    };
    let exponential = Some(Exponentials { points: vec![point], temporality: CUMULATIVE });
    let translated = translate(vec![Metric { exponential, ..named("latency", "s") }]);
    let row = translated.extras.histograms[0];
    let labels = row.labels.of(&translated.body);
    assert_eq!((line(labels).as_str(), row.key), ("latency_seconds{job=api}", hasher().key(labels)));
    let native = NativeHistogram::decode(row.message.of(&translated.body)).unwrap();
    assert_eq!((native.schema, native.count, native.timestamp_ms), (3, 10, row.timestamp_ms));
    assert_eq!((native.positive_spans[0].offset, native.positive_deltas), (5, vec![4, 2]));
    assert_eq!(translated.extras.exemplars[0].key, row.key);
    assert_eq!((translated.skimmed.histogram_count, row.timestamp_ms), (1, TIME_MS));
}

#[test]
fn summaries_become_quantiles_a_sum_and_a_count() {
    let quantile = |quantile, value| Quantile { quantile, value };
    let point = Summary {
        time_ns: TIME_NS,
        count: 9,
        sum: 3.0,
        quantiles: vec![quantile(0.5, 1.0), quantile(0.99, 2.0), quantile(1.0, 4.0)],
        ..Summary::default()
    };
    let summary = Some(Summaries { points: vec![point] });
    let translated = translate(vec![Metric { summary, ..named("rpc", "ms") }]);
    assert_eq!(
        lines(&translated),
        [
            "rpc_milliseconds_sum{job=api} 3",
            "rpc_milliseconds_count{job=api} 9",
            "rpc_milliseconds{job=api,quantile=0.5} 1",
            "rpc_milliseconds{job=api,quantile=0.99} 2",
            "rpc_milliseconds{job=api,quantile=1} 4",
        ]
    );
}

#[test]
fn a_point_without_a_recorded_value_is_a_stale_marker() {
    let gone = Number { flags: 1, ..number(5.0) };
    let gauge = Metric { gauge: numbers(vec![gone], false), ..named("g", "") };
    let point = Histogram { time_ns: TIME_NS, flags: 1, sum: Some(1.0), ..Histogram::default() };
    let histogram = Some(Histograms { points: vec![point], temporality: CUMULATIVE });
    let translated = translate(vec![gauge, Metric { histogram, ..named("h", "") }]);
    assert!(lines(&translated).iter().all(|line| line.ends_with(" stale")), "{:?}", lines(&translated));
    assert_eq!(translated.rows.len(), 5);
}

#[test]
fn only_sums_have_exemplars_of_their_own() {
    let with = Number { exemplars: vec![exemplar(1.0)], ..number(5.0) };
    let gauge = Metric { gauge: numbers(vec![with.clone()], false), ..named("g", "") };
    assert!(translate(vec![gauge]).extras.exemplars.is_empty());
    let sum = Metric { sum: numbers(vec![with], true), ..named("s", "") };
    let translated = translate(vec![sum]);
    assert_eq!(translated.extras.exemplars[0].key, translated.rows[0].key);
}

#[test]
fn what_cannot_be_taken_is_counted_and_the_rest_is_taken() {
    let delta = Some(Numbers { points: vec![number(1.0), number(2.0)], temporality: 1, is_monotonic: true });
    let mut odd = number(3.0);
    odd.attributes = vec![attribute("字", any::text("x"))];
    let unnamed = Metric { gauge: numbers(vec![number(4.0)], false), ..named("!!", "") };
    let wide = Exponential { scale: -9, ..Exponential::default() };
    let exponential = Some(Exponentials { points: vec![wide], temporality: CUMULATIVE });
    let translated = translate(vec![
        Metric { sum: delta, ..named("d", "") },
        Metric { gauge: numbers(vec![odd, number(5.0)], false), ..named("g", "") },
        unnamed,
        Metric { exponential, ..named("e", "") },
        named("empty", ""),
        Metric { gauge: numbers(vec![], false), ..named("no.points", "") },
    ]);
    assert_eq!(lines(&translated), ["g{http_method=GET,job=api} 5"]);
    assert_eq!((translated.point_count, translated.refused_count), (6, 5));
    assert_eq!(translated.first_refusal, Some(PointError::Temporality { metric: "d".into() }));
}

#[test]
fn fields_may_come_in_any_order() {
    // The resource after its points, and the name, unit and temporality after theirs.
    let field = |number: u8, bytes: Vec<u8>| [&[number << 3 | 2, bytes.len() as u8][..], &bytes].concat();
    let point = Number { attributes: vec![], ..number(2.0) }.encode_to_vec();
    let sum = [field(1, point), vec![0x18, 1, 0x10, 2]].concat();
    let metric = [field(7, sum), field(3, b"s".to_vec()), field(1, b"m".to_vec())].concat();
    let resource = Resource { attributes: service() }.encode_to_vec();
    let request = field(1, [field(2, field(2, metric)), field(1, resource)].concat());
    let translated = translate_in(&request, &Settings::default(), 1 << 20, 1).unwrap();
    assert_eq!(lines(&translated), ["m_seconds_total{job=api} 2"]);
    assert_eq!(translated.rows.len(), 2);
}

/// A request of one histogram, each of whose buckets becomes a series with a name of that length.
pub fn wide_histogram(bucket_count: usize, name_bytes: usize) -> Vec<u8> {
    let point = Histogram {
        counts: vec![1; bucket_count],
        bounds: (0..bucket_count).map(|bound| bound as f64).collect(),
        ..Histogram::default()
    };
    let histogram = Some(Histograms { points: vec![point], temporality: CUMULATIVE });
    request(vec![Metric { histogram, ..named(&"x".repeat(name_bytes), "") }]).encode_to_vec()
}

#[test]
fn a_small_body_cannot_become_a_large_request() {
    let body = wide_histogram(10_000, 1000);
    let refused = translate_in(&body, &Settings::default(), 1 << 20, 1000).unwrap_err();
    assert_eq!(refused, OtlpError::TooLarge { bytes_max: 1 << 20 });
    let large = wide_histogram(40_000, 1);
    let refused = translate_in(&large, &Settings::default(), 1 << 30, 1000).unwrap();
    assert_eq!((refused.refused_count, refused.first_refusal), (1, Some(PointError::TooLarge)));
}

#[test]
fn points_without_end_are_refused() {
    // Two bytes each.
    let points = [0x0a, 0].repeat(SAMPLES_MAX + 1);
    let wrap = |tag: u8, content: Vec<u8>| {
        let mut message = vec![tag];
        crate::wire::put_varint(&mut message, content.len() as u64);
        [message, content].concat()
    };
    let metric = [wrap(0x0a, b"m".to_vec()), wrap(0x2a, points)].concat();
    let request = wrap(0x0a, wrap(0x12, wrap(0x12, metric)));
    let refused = translate_in(&request, &Settings::default(), 1 << 30, 1 << 16).unwrap_err();
    assert_eq!(refused, OtlpError::Wire(WireError::TooManySamples));
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        "[a-z.]{0,6}".prop_map(|text| any::text(&text)),
        proptest::num::i64::ANY.prop_map(any::int),
        proptest::num::f64::ANY.prop_map(any::double),
    ];
    let attributes = proptest::collection::vec(("[a-z._]{0,5}", value), 0..4);
    let metric =
        (attributes, "[a-z._]{0,8}", "[a-zA-Z/%1]{0,4}", 0..3i32, proptest::num::f64::ANY, 0..5usize);
    proptest::collection::vec(metric, 0..5).prop_map(|metrics| {
        let metric = |(attributes, name, unit, temporality, value, kind): (
            Vec<(String, _)>,
            String,
            String,
            _,
            f64,
            _,
        )| {
            let attributes: Vec<_> =
                attributes.into_iter().map(|(key, value)| attribute(&key, value)).collect();
            let exemplars = vec![exemplar(value)];
            let point = Number {
                attributes: attributes.clone(),
                exemplars: exemplars.clone(),
                double: Some(value),
                time_ns: value.to_bits(),
                ..Number::default()
            };
            let mut metric = named(&name, &unit);
            match kind {
                0 => metric.gauge = numbers(vec![point], false),
                1 => metric.sum = Some(Numbers { points: vec![point], temporality, is_monotonic: true }),
                2 => {
                    let (counts, bounds) = (vec![1, 2], vec![value]);
                    let point = Histogram { counts, bounds, attributes, exemplars, ..Histogram::default() };
                    metric.histogram = Some(Histograms { points: vec![point], temporality });
                }
                3 => {
                    let positive = Some(Buckets { offset: temporality, counts: vec![0, 3, 0, 0, 0, 1] });
                    let scale = value as i32;
                    let point =
                        Exponential { attributes, positive, scale, exemplars, ..Exponential::default() };
                    metric.exponential = Some(Exponentials { points: vec![point], temporality });
                }
                _ => {
                    let quantiles = vec![Quantile { quantile: value, value }];
                    let point = Summary { attributes, quantiles, ..Summary::default() };
                    metric.summary = Some(Summaries { points: vec![point] });
                }
            }
            metric
        };
        request(metrics.into_iter().map(metric).collect()).encode_to_vec()
    })
}

/// What must hold of whatever is taken.
fn check(translated: &Translated) {
    let Translated { body, rows, extras, .. } = translated;
    let canonical = |bytes: &[u8]| {
        if let Ok(labels) = parse_labels(bytes) {
            assert_eq!(canonical_label_bytes(&labels), bytes);
        }
    };
    for row in rows {
        let labels = labels_of(translated, row);
        assert_eq!(row.key, hasher().key(labels));
        canonical(labels);
    }
    for row in &extras.histograms {
        assert_eq!(row.key, hasher().key(row.labels.of(body)));
        NativeHistogram::decode(row.message.of(body)).unwrap();
    }
    for row in &extras.exemplars {
        canonical(row.labels.of(body));
        canonical(row.series_labels.of(body));
    }
    assert!(translated.refused_count <= translated.point_count);
    assert_eq!(translated.skimmed.sample_count, rows.len() as u64);
}

proptest! {
    #[test]
    fn the_size_of_steps_changes_nothing(request in anything(), step in 1..400usize) {
        let whole = translate_in(&request, &Settings::default(), 1 << 20, usize::MAX).unwrap();
        let stepped = translate_in(&request, &Settings::default(), 1 << 20, step).unwrap();
        check(&whole);
        prop_assert_eq!(whole.body, stepped.body);
        prop_assert_eq!(whole.rows.len(), stepped.rows.len());
        prop_assert_eq!(whole.first_refusal, stepped.first_refusal);
    }

    #[test]
    fn damaged_requests_end_in_a_result(
        request in anything(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut request = request;
        for (at, byte) in damage {
            if !request.is_empty() {
                let at = at.index(request.len());
                request[at] = byte;
            }
        }
        request.truncate(cut.index(request.len() + 1).max(request.len() / 2));
        if let Ok(translated) = translate_in(&request, &Settings::default(), 1 << 16, 64) {
            check(&translated);
        }
    }

    #[test]
    fn random_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(translated) = translate_in(&bytes, &Settings::default(), 1 << 16, 64) {
            check(&translated);
        }
    }
}
