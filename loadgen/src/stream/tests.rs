//! The stream against an independent decoder: what is sent is what is expected, in every way of encoding it.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use prost::Message;

use super::remote_write::{Histogram, Label, Sample, v1, v2};
use super::*;

const BEGIN_MS: i64 = 1_770_000_000_000;
const PROTOCOLS: [Protocol; 2] = [Protocol::RemoteWrite1, Protocol::RemoteWrite2];

type Labels = Vec<(String, String)>;

/// A series as a request holds it.
#[derive(Debug, Clone, PartialEq)]
struct Decoded {
    labels: Labels,
    samples: Vec<(i64, String)>,
}

fn unpack(encoded: &Encoded) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(&encoded.body).unwrap()
}

/// The value as text, so that floats are compared by their bits.
fn float_text(value: f64) -> String {
    format!("{:x}", value.to_bits())
}

fn expected_text(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) => float_text(*value),
        SampleValue::Histogram(text) => text.to_string(),
    }
}

fn go_float(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-6 { format!("{value:e}") } else { value.to_string() }
}

/// What the query API shows for a histogram, written once more from the protobuf's point of view.
fn histogram_text(histogram: &Histogram) -> String {
    if histogram.sum.to_bits() == STALE_NAN_BITS {
        return float_text(histogram.sum);
    }
    let zero = (histogram.zero_count.unwrap(), go_float(histogram.zero_threshold));
    let mut buckets = Vec::new();
    if zero.0 > 0 {
        buckets.push(format!(r#"[3,"-{}","{}","{}"]"#, zero.1, zero.1, zero.0));
    }
    let (mut index, mut count, mut total) = (0, 0, zero.0);
    let mut deltas = histogram.positive_deltas.iter();
    for span in &histogram.positive_spans {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            total += count as u64;
            if count > 0 {
                let bound = |index: i32| {
                    let fraction = 2f64.powf(f64::from(index.rem_euclid(8)) / 8.0);
                    go_float(fraction * 2f64.powi(index.div_euclid(8)))
                };
                buckets.push(format!(r#"[0,"{}","{}","{count}"]"#, bound(index - 1), bound(index)));
            }
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    assert_eq!(histogram.count, Some(total));
    assert_eq!(histogram.schema, 3);
    let head = format!(r#"{{"count":"{total}","sum":"{}""#, go_float(histogram.sum));
    if buckets.is_empty() {
        format!("{head}}}")
    } else {
        format!(r#"{head},"buckets":[{}]}}"#, buckets.join(","))
    }
}

/// Bounds are compared to 12 digits, since `powf` is not exact to the last one.
fn blurred(text: &str) -> String {
    let blur = |part: &str| match part.parse::<f64>() {
        Ok(number) if part.contains('.') => format!("{number:.12e}"),
        _ => part.to_owned(),
    };
    text.split('"').map(blur).collect::<Vec<_>>().join("\"")
}

fn decoded(labels: Labels, samples: &[Sample], histograms: &[Histogram]) -> Decoded {
    assert!(samples.is_empty() || histograms.is_empty());
    let floats = samples.iter().map(|sample| (sample.timestamp, float_text(sample.value)));
    let natives = histograms.iter().map(|native| (native.timestamp, histogram_text(native)));
    Decoded { labels, samples: floats.chain(natives).collect() }
}

/// Decodes a request and checks what must hold in each.
fn decode(encoded: &Encoded, protocol: Protocol) -> Vec<Decoded> {
    let bytes = unpack(encoded);
    let mut counts = Counts::default();
    let (mut all, mut exemplars) = (Vec::new(), Vec::new());
    match protocol {
        Protocol::RemoteWrite1 => {
            for series in v1::Request::decode(&bytes[..]).unwrap().series {
                counts.series += 1;
                counts.samples += series.samples.len() as u64;
                counts.histograms += series.histograms.len() as u64;
                let texts =
                    |labels: Vec<Label>| labels.into_iter().map(|label| (label.name, label.value)).collect();
                let labels: Labels = texts(series.labels);
                if let Some(exemplar) = series.exemplars.into_iter().next() {
                    assert!(series.samples.is_empty() && series.histograms.is_empty());
                    exemplars.push((labels, exemplar.timestamp, texts(exemplar.labels)));
                } else {
                    all.push(decoded(labels, &series.samples, &series.histograms));
                }
            }
        }
        Protocol::RemoteWrite2 => {
            let request = v2::Request::decode(&bytes[..]).unwrap();
            assert_eq!(request.symbols[0], "");
            let unique: HashSet<_> = request.symbols.iter().collect();
            assert_eq!(unique.len(), request.symbols.len(), "a symbol occurs twice");
            for series in request.series {
                counts.series += 1;
                counts.samples += series.samples.len() as u64;
                counts.histograms += series.histograms.len() as u64;
                let text = |symbol: u32| request.symbols[symbol as usize].clone();
                let texts = |refs: &[u32]| {
                    refs.chunks_exact(2).map(|pair| (text(pair[0]), text(pair[1]))).collect::<Labels>()
                };
                let labels = texts(&series.label_refs);
                let metadata = series.metadata.unwrap();
                let name = &labels[0].1;
                assert!((1..=3).contains(&metadata.metric_type), "{name}");
                assert!(metadata.metric_type == 1 || !name.ends_with("_total"), "{name}");
                assert_eq!(
                    text(metadata.help).is_empty(),
                    name == "up" || name.starts_with("scrape_"),
                    "{name}"
                );
                assert!(["", "seconds", "bytes"].contains(&text(metadata.unit).as_str()));
                if let [exemplar] = &series.exemplars[..] {
                    assert!(series.samples.is_empty() && series.histograms.is_empty());
                    exemplars.push((labels, exemplar.timestamp, texts(&exemplar.label_refs)));
                } else {
                    all.push(decoded(labels, &series.samples, &series.histograms));
                }
            }
        }
    }
    counts.exemplars = exemplars.len() as u64;
    assert_eq!(counts, encoded.counts);
    let timestamps: HashMap<&Labels, i64> =
        all.iter().map(|series| (&series.labels, series.samples[series.samples.len() - 1].0)).collect();
    for (labels, timestamp_ms, trace) in &exemplars {
        assert_eq!(timestamps.get(labels), Some(timestamp_ms), "an exemplar without its sample: {labels:?}");
        assert!(matches!(&trace[..], [(name, id)] if name == "trace_id" && id.len() == 32), "{trace:?}");
    }
    for series in &all {
        assert!(series.labels.is_sorted_by(|left, right| left.0 < right.0), "{:?}", series.labels);
        assert!(series.samples.is_sorted_by(|left, right| left.0 < right.0), "{series:?}");
        assert!(!series.samples.is_empty());
    }
    all
}

fn config(profile: &str, seed: u64) -> StreamConfig {
    let profile = profile.to_owned();
    StreamConfig {
        profile,
        profile_changes: Vec::new(),
        seed,
        series: None,
        samples_per_request: 100,
        begin_ms: BEGIN_MS,
        interval_ms: 15_000,
    }
}

/// Everything that requests `0..end` carry must be what the targets expect, with the first request of each sample.
fn check_expected(stream: &Stream, end: u64, protocol: Protocol) {
    let mut sent: BTreeMap<Labels, BTreeMap<i64, (String, u64)>> = BTreeMap::new();
    for request in 0..end {
        let due_ms = BEGIN_MS + (stream.due_us(request) / 1000) as i64;
        for series in decode(&stream.encode(request, protocol), protocol) {
            let samples = sent.entry(series.labels).or_default();
            for (timestamp_ms, text) in series.samples {
                assert!(timestamp_ms <= due_ms);
                let first = samples.entry(timestamp_ms).or_insert((text.clone(), request));
                assert_eq!(first.0, text, "a sample was repeated with another value");
            }
        }
    }
    let mut expected_count = 0;
    for target in 0..stream.targets() {
        for series in stream.expected(target, end) {
            expected_count += 1;
            let sent = &sent[&series.labels];
            assert_eq!(sent.len(), series.samples.len(), "{:?}", series.labels);
            for (sample, (&timestamp_ms, (text, request))) in series.samples.iter().zip(sent) {
                assert_eq!((sample.timestamp_ms, sample.request), (timestamp_ms, *request));
                assert_eq!(blurred(&expected_text(&sample.value)), blurred(text));
            }
        }
    }
    assert_eq!(expected_count, sent.len(), "a series was sent that no target expects, or none twice");
}

/// Profiles with everything in them, in short rounds.
fn profiles() -> impl Strategy<Value = String> {
    (
        1u64..700,
        0.0..100.0,
        0.0..100.0,
        0.0..1.0,
        0.0..0.5,
        2u64..6,
        0.0..1.0,
        any::<[bool; 6]>(),
        any::<bool>(),
        prop_oneof![Just(0.0), 0.0..1.0],
    )
        .prop_map(
            |(series, churn, resets, native, late, late_rounds, repeated, kinds, is_plain, exemplars)| {
                let names = ["node_exporter", "cadvisor", "kube_state_metrics", "apiserver", "flood"];
                let mix: String = names
                    .iter()
                    .zip(kinds)
                    .map(|(name, is_in)| format!("{name} = {}\n", u8::from(is_in)))
                    .collect();
                let (late, repeated) = if is_plain { (0.0, 0.0) } else { (late, repeated) };
                format!(
                    "series = {series}\nchurn_per_hour = {churn}\ncounter_resets_per_hour = {resets}\n\
                 native_histogram_share = {native}\nlate_share = {late}\nlate_rounds = {late_rounds}\n\
                 duplicate_share = {repeated}\nexemplar_share = {exemplars}\n[mix]\n{mix}app = 1\n"
                )
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn targets_expect_exactly_what_the_requests_carry(
        profile in profiles(), seed in any::<u64>(), per_request in 1u64..200, end_share in 0.0..1.0, is_v2 in any::<bool>(),
    ) {
        let mut config = config(&profile, seed);
        config.samples_per_request = per_request;
        let stream = Stream::new(&config).unwrap();
        let end = (stream.requests_per_round() as f64 * 25.0 * end_share) as u64;
        check_expected(&stream, end, PROTOCOLS[usize::from(is_v2)]);
    }

    #[test]
    fn a_patched_body_is_the_message_written_from_scratch(
        profile in profiles(), seed in any::<u64>(), rounds in prop::collection::vec(0u64..500, 1..12), is_v2 in any::<bool>(),
    ) {
        let profile: String = profile.lines().filter(|line| !line.starts_with("late_") && !line.starts_with("dup")).map(|line| format!("{line}\n")).collect();
        let stream = Stream::new(&config(&profile, seed)).unwrap();
        let protocol = PROTOCOLS[usize::from(is_v2)];
        for round in rounds {
            for block in 0..stream.requests_per_round() {
                let patched = stream.encode(round * stream.requests_per_round() + block, protocol);
                let scratch = stream.encode_from_scratch(block, round, protocol);
                prop_assert_eq!(patched.counts, scratch.counts);
                prop_assert!(unpack(&patched) == unpack(&scratch), "block {} of round {}", block, round);
            }
        }
    }
}

#[test]
fn every_built_in_profile_sends_what_it_expects() {
    for built_in in BUILT_IN {
        for protocol in PROTOCOLS {
            let mut config = config(built_in.name, 11);
            (config.series, config.samples_per_request) = (Some(3001), 700);
            let stream = Stream::new(&config).unwrap();
            assert_eq!(stream.samples_per_round(), 3001);
            check_expected(&stream, stream.requests_per_round() * 4, protocol);
        }
    }
}

#[test]
fn a_round_has_exactly_as_many_series_as_asked_for() {
    let mut config = config("kube-large", 1);
    (config.series, config.samples_per_request) = (Some(12_345), 2000);
    let stream = Stream::new(&config).unwrap();
    let requests =
        (0..stream.requests_per_round()).map(|request| stream.encode(request, Protocol::RemoteWrite1));
    let series: Vec<_> = requests.flat_map(|encoded| decode(&encoded, Protocol::RemoteWrite1)).collect();
    let unique: HashSet<_> = series.iter().map(|series| &series.labels).collect();
    assert_eq!((series.len(), unique.len()), (12_345, 12_345));
}

#[test]
fn as_many_series_carry_exemplars_as_the_profile_says() {
    let mut config = config("kube-small", 1);
    config.profile_changes = vec!["exemplar_share=0.1".to_owned()];
    let stream = Stream::new(&config).unwrap();
    for protocol in PROTOCOLS {
        let all: Vec<_> =
            (0..stream.requests_per_round()).map(|request| stream.encode(request, protocol)).collect();
        all.iter().for_each(|encoded| drop(decode(encoded, protocol)));
        let share = all.iter().map(|encoded| encoded.counts.exemplars).sum::<u64>() as f64
            / stream.samples_per_round() as f64;
        // About seven of ten series are counters or buckets.
        assert!((0.05..0.1).contains(&share), "{share}");
    }
}

#[test]
fn metadata_names_each_metric_that_is_sent_once() {
    for profile in ["kube-small", "single-metric-flood"] {
        let stream = Stream::new(&config(profile, 1)).unwrap();
        let bytes = snap::raw::Decoder::new().decompress_vec(&stream.metadata()).unwrap();
        let request = v1::Request::decode(&bytes[..]).unwrap();
        assert!(request.series.is_empty());
        let types: BTreeMap<_, _> = request
            .metadata
            .iter()
            .map(|entry| (entry.metric_family_name.as_str(), entry.metric_type))
            .collect();
        assert_eq!(types.len(), request.metadata.len(), "a metric occurs twice");
        assert!(request.metadata.iter().all(|entry| !entry.help.is_empty()));
        for target in 0..stream.targets().min(20) {
            for series in stream.expected(target, stream.requests_per_round()) {
                let name = series.labels[0].1.as_str();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                let family = types.get(name).or_else(|| types.get(base?));
                assert!(family.is_some() || name == "up" || name.starts_with("scrape_"), "{name}");
            }
        }
    }
}

#[test]
fn due_times_are_even_and_exact_to_the_interval() {
    for per_request in [7, 100, 333] {
        let mut config = config("kube-small", 1);
        (config.series, config.samples_per_request, config.interval_ms) = (Some(3000), per_request, 9_999);
        let stream = Stream::new(&config).unwrap();
        let blocks = stream.requests_per_round();
        for request in (0..5 * blocks).chain(1_000_000_000..1_000_000_100) {
            assert_eq!(stream.due_us(request + blocks) - stream.due_us(request), 9_999_000);
            let step = stream.due_us(request + 1) - stream.due_us(request);
            assert!(step.abs_diff(9_999_000 / blocks) <= 1);
        }
    }
}

#[test]
fn selectors_name_exactly_the_series_of_their_target() {
    let mut config = config("kube-small", 4);
    config.series = Some(4000);
    let stream = Stream::new(&config).unwrap();
    let matchers = |target| {
        let selector = stream.target_selector(target);
        let pairs = selector.trim_matches(['{', '}']).split(',').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        });
        pairs.collect::<Labels>()
    };
    let series: Vec<Vec<_>> = (0..stream.targets()).map(|target| stream.expected(target, 200)).collect();
    for target in 0..stream.targets() {
        let matchers = matchers(target);
        for (owner, series) in series.iter().enumerate() {
            for series in series {
                let is_selected = matchers.iter().all(|matcher| series.labels.contains(matcher));
                assert_eq!(is_selected, owner as u64 == target, "{matchers:?} and {:?}", series.labels);
            }
        }
    }
}

#[test]
fn another_seed_has_other_values_and_other_pods() {
    let stream = |seed| Stream::new(&config("kube-small", seed)).unwrap();
    let body = |seed| stream(seed).encode(3, Protocol::RemoteWrite1).body;
    assert_eq!(body(5), body(5));
    assert_ne!(body(5), body(6));
    assert_ne!(stream(5).target_selector(0), stream(6).target_selector(0));
}

#[test]
fn series_have_the_size_that_a_cluster_gives_them() {
    let mut config = config("kube-small", 1);
    config.samples_per_request = 2000;
    let stream = Stream::new(&config).unwrap();
    let blocks = stream.requests_per_round();
    for (protocol, raw_bytes) in PROTOCOLS.into_iter().zip([340..400, 60..100]) {
        let (mut raw, mut packed, mut plain) = (0, 0, 0);
        for request in 0..blocks {
            let encoded = stream.encode(blocks + request, protocol);
            raw += unpack(&encoded).len();
            packed += encoded.body.len();
            plain += stream.encode_from_scratch(request, 1, protocol).body.len();
        }
        let per_series = raw as u64 / stream.samples_per_round();
        assert!(raw_bytes.contains(&per_series), "{per_series} bytes a series in {protocol:?}");
        let ratio = packed as f64 / plain as f64;
        assert!((0.85..1.15).contains(&ratio), "{packed} instead of {plain} bytes in {protocol:?}");
    }
    let memory = stream.memory_bytes() as u64 / stream.samples_per_round();
    assert!(memory < 2 * 50, "{memory} bytes of memory a series, both protocols together");
}

#[test]
fn impossible_configurations_are_one_clear_line() {
    let change = |change: fn(&mut StreamConfig)| {
        let mut config = config("kube-small", 1);
        change(&mut config);
        Stream::new(&config).unwrap_err().to_string()
    };
    assert!(change(|config| config.series = Some(0)).contains("0 series"));
    assert!(change(|config| config.samples_per_request = 0).contains("0 samples per request"));
    assert!(change(|config| config.interval_ms = 0).contains("interval of 0 ms"));
    assert!(change(|config| config.begin_ms = -1).contains("begin at -1 ms"));
    assert!(change(|config| config.profile = "no-such".to_owned()).contains("\"no-such\""));
}

#[test]
fn requests_at_the_end_of_all_numbers_do_not_panic() {
    let stream = Stream::new(&config("churn", 1)).unwrap();
    for protocol in PROTOCOLS {
        assert!(!stream.encode(u64::MAX, protocol).body.is_empty());
    }
}
