//! Both versions of remote write, side by side: what is sent must not depend on how.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use super::skim2::SYMBOLS_MAX;
use super::testing::{Histogram, v1, v2};
use super::*;

const BYTES_MAX: usize = 1 << 20;

fn hasher() -> TenantHasher {
    SeriesHasher::new([9; 16]).tenant("team")
}

type Key = u128;
type LabelBytes = Vec<u8>;
type TimestampMs = i64;
type ValueBits = u64;

/// A decoded request, its rows made readable.
#[derive(Debug, PartialEq)]
struct Seen {
    samples: Vec<(Key, LabelBytes, TimestampMs, ValueBits)>,
    histograms: Vec<(Key, LabelBytes, TimestampMs, Vec<u8>)>,
    exemplars: Vec<(Key, LabelBytes, LabelBytes, TimestampMs, ValueBits)>,
    metadata: Vec<(u8, String, String, String)>,
}

fn decode_within(
    form: Form,
    mut body: Vec<u8>,
    decoded_bytes_max: usize,
    step: usize,
) -> Result<(Skimmed, Seen), WireError> {
    let (mut decoder, mut rows) = (Decoder::new(form, decoded_bytes_max), Vec::new());
    while !decoder.run(&body, &hasher(), &mut rows, step)? {}
    let (skimmed, extras) = decoder.finish(&mut body);
    let bytes = |range: BodyRange| range.of(&body).to_vec();
    let text = |range: BodyRange| String::from_utf8_lossy(range.of(&body)).into_owned();
    let labels = |row: &Row| bytes(BodyRange { offset: row.label_offset, len: row.label_len });
    let seen = Seen {
        samples: rows
            .iter()
            .map(|row| (row.key.0, labels(row), row.timestamp_ms, row.value.to_bits()))
            .collect(),
        histograms: extras
            .histograms
            .iter()
            .map(|row| (row.key.0, bytes(row.labels), row.timestamp_ms, bytes(row.message)))
            .collect(),
        exemplars: extras
            .exemplars
            .iter()
            .map(|row| {
                let (series, own) = (bytes(row.series_labels), bytes(row.labels));
                (row.key.0, series, own, row.timestamp_ms, row.value.to_bits())
            })
            .collect(),
        metadata: extras
            .metadata
            .iter()
            .map(|row| (row.kind, text(row.family), text(row.help), text(row.unit)))
            .collect(),
    };
    Ok((skimmed, seen))
}

fn decode(form: Form, body: Vec<u8>) -> Result<(Skimmed, Seen), WireError> {
    decode_within(form, body, BYTES_MAX, 50)
}

type Texts = BTreeMap<String, String>;

/// A series as a sender knows it.
#[derive(Debug, Clone)]
struct Sent {
    labels: Texts,
    samples: Vec<(i64, f64)>,
    histograms: Vec<Histogram>,
    exemplars: Vec<(Texts, i64, f64)>,
    /// Type, help and unit.
    metadata: (i32, String, String),
}

fn any_sent() -> impl Strategy<Value = Vec<Sent>> {
    let texts = || btree_map("[a-z]{1,4}", ".{1,140}", 0..4);
    let labels = (texts(), "[a-z]{1,3}").prop_map(|(mut labels, name)| {
        labels.insert("__name__".to_owned(), name);
        labels
    });
    let sample = || (any::<i64>(), any::<f64>());
    let histogram =
        (any::<u64>(), sample()).prop_map(|(count, (timestamp, sum))| Histogram { count, sum, timestamp });
    let exemplar = (texts(), sample()).prop_map(|(labels, (timestamp, value))| (labels, timestamp, value));
    let metadata = (0..3i32, "[a-c]{0,2}", "[a-c]{0,1}");
    let sent = (labels, vec(sample(), 0..4), vec(histogram, 0..3), vec(exemplar, 0..3), metadata);
    let sent = sent.prop_map(|(labels, samples, histograms, exemplars, metadata)| Sent {
        labels,
        samples,
        histograms,
        exemplars,
        metadata,
    });
    vec(sent, 0..8)
}

fn as_v1(sent: &[Sent]) -> v1::WriteRequest {
    let labels = |texts: &Texts| {
        texts.iter().map(|(name, value)| v1::Label { name: name.clone(), value: value.clone() }).collect()
    };
    let timeseries = sent.iter().map(|series| v1::TimeSeries {
        labels: labels(&series.labels),
        samples: series.samples.iter().map(|&(timestamp, value)| v1::Sample { value, timestamp }).collect(),
        exemplars: series
            .exemplars
            .iter()
            .map(|(texts, timestamp, value)| v1::Exemplar {
                labels: labels(texts),
                value: *value,
                timestamp: *timestamp,
            })
            .collect(),
        histograms: series.histograms.clone(),
    });
    // A sender of 1.0 says once what one of 2.0 repeats.
    let mut metadata: Vec<v1::MetricMetadata> = Vec::new();
    for Sent { labels, metadata: (kind, help, unit), .. } in sent {
        let said = v1::MetricMetadata {
            kind: *kind,
            family: labels["__name__"].clone(),
            help: help.clone(),
            unit: unit.clone(),
        };
        let says_something = *kind > 0 || !help.is_empty() || !unit.is_empty();
        if says_something && metadata.iter().rfind(|last| last.family == said.family) != Some(&said) {
            metadata.push(said);
        }
    }
    v1::WriteRequest { timeseries: timeseries.collect(), metadata }
}

fn as_v2(sent: &[Sent]) -> v2::Request {
    let mut symbols = vec![String::new()];
    let mut symbol = |text: &str| {
        let at = symbols.iter().position(|known| known == text).unwrap_or_else(|| {
            symbols.push(text.to_owned());
            symbols.len() - 1
        });
        at as u32
    };
    let mut timeseries = Vec::new();
    for series in sent {
        let mut labels =
            |texts: &Texts| texts.iter().flat_map(|(name, value)| [symbol(name), symbol(value)]).collect();
        let labels_refs = labels(&series.labels);
        let exemplars = series
            .exemplars
            .iter()
            .map(|(texts, timestamp, value)| v2::Exemplar {
                labels_refs: labels(texts),
                value: *value,
                timestamp: *timestamp,
            })
            .collect();
        let (kind, help, unit) = &series.metadata;
        let metadata = v2::Metadata { kind: *kind, help_ref: symbol(help), unit_ref: symbol(unit) };
        timeseries.push(v2::TimeSeries {
            labels_refs,
            samples: series
                .samples
                .iter()
                .map(|&(timestamp, value)| v2::Sample { value, timestamp, start_timestamp: 5 })
                .collect(),
            histograms: series.histograms.clone(),
            exemplars,
            metadata: Some(metadata),
            created_timestamp: 7,
        });
    }
    v2::Request { symbols, timeseries }
}

/// One series with its labels as given, and one sample.
fn one(symbols: &[&str], labels_refs: &[u32]) -> v2::Request {
    let samples = vec![v2::Sample { value: 1.5, timestamp: 5, start_timestamp: 1 }];
    let series = v2::TimeSeries { labels_refs: labels_refs.to_vec(), samples, ..Default::default() };
    v2::Request {
        symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        timeseries: vec![series],
    }
}

fn decode_v2(request: &v2::Request) -> Result<(Skimmed, Seen), WireError> {
    decode(Form::RemoteWrite2, request.encode_to_vec())
}

#[test]
fn references_that_make_no_labels_refuse_their_series_alone() {
    let symbols = ["", "__name__", "up", "job"];
    let missing = |reference| LabelError::NoSymbol { reference, symbol_count: 4 };
    let long: Vec<u32> = [1, 2].repeat(2000);
    for (refs, error) in [
        (&[1, 2, 3][..], LabelError::OddReferences { count: 3 }),
        (&[1, 4], missing(4)),
        (&[1, u32::MAX], missing(u32::MAX)),
        (&long, LabelError::TooLarge),
    ] {
        let mut request = one(&symbols, refs);
        let bad = &mut request.timeseries[0];
        bad.histograms = vec![Histogram::default()];
        bad.exemplars = vec![v2::Exemplar::default()];
        bad.metadata = Some(v2::Metadata { kind: 1, ..Default::default() });
        request.timeseries.extend(one(&symbols, &[1, 2]).timeseries);
        let (skimmed, seen) = decode_v2(&request).unwrap();
        assert_eq!((skimmed.refused_count, skimmed.first_refusal), (3, Some(error)));
        assert_eq!((skimmed.series_count, skimmed.sample_count), (2, 1));
        let [(key, labels, 5, _)] = &seen.samples[..] else { panic!("{seen:?}") };
        assert_eq!(*labels, canonical_label_bytes(&[("__name__", "up")]));
        assert_eq!(*key, hasher().key(labels).0);
        assert!(seen.histograms.is_empty() && seen.exemplars.is_empty() && seen.metadata.is_empty());
    }
}

#[test]
fn exemplars_with_wrong_references_are_refused_without_their_series() {
    let mut request = one(&["", "__name__", "up"], &[1, 2]);
    let exemplar = |refs: &[u32]| v2::Exemplar { labels_refs: refs.to_vec(), value: 2.0, timestamp: 5 };
    request.timeseries[0].exemplars = vec![exemplar(&[1]), exemplar(&[]), exemplar(&[1, 3])];
    let (skimmed, seen) = decode_v2(&request).unwrap();
    assert_eq!((skimmed.refused_count, skimmed.sample_count, skimmed.exemplar_count), (2, 1, 1));
    assert_eq!(skimmed.first_refusal, Some(LabelError::OddReferences { count: 1 }));
    assert_eq!((seen.samples.len(), seen.exemplars.len()), (1, 1));
}

#[test]
fn labels_that_prometheus_would_not_send_are_left_to_the_owner() {
    let symbols = ["", "__name__", "up", "a", "b"];
    for refs in [&[3, 4, 1, 2][..], &[1, 2, 3, 4, 3, 4], &[1, 2, 3, 0], &[]] {
        let (skimmed, seen) = decode_v2(&one(&symbols, refs)).unwrap();
        assert_eq!(skimmed.refused_count, 0);
        let expected = refs.is_empty() || parse_labels(&seen.samples[0].1).is_err();
        assert!(expected && seen.samples.len() == 1, "{refs:?}");
    }
}

#[test]
fn symbols_may_follow_the_series_that_need_them() {
    let request = one(&["", "__name__", "up"], &[1, 2]);
    let series = v2::Request { symbols: vec![], ..request.clone() }.encode_to_vec();
    let symbols = v2::Request { timeseries: vec![], ..request.clone() }.encode_to_vec();
    let usual = decode_v2(&request).unwrap();
    assert_eq!(decode(Form::RemoteWrite2, [series, symbols].concat()), Ok(usual));
}

#[test]
fn references_need_not_be_packed() {
    let mut body = v2::Request { timeseries: vec![], ..one(&["", "__name__", "up"], &[]) }.encode_to_vec();
    // Two references, one by one, around a sample.
    body.extend([0x2a, 8, 0x08, 1, 0x12, 2, 0x10, 5, 0x08, 2]);
    let (_, seen) = decode(Form::RemoteWrite2, body).unwrap();
    assert_eq!(seen.samples[0].1, canonical_label_bytes(&[("__name__", "up")]));
}

#[test]
fn the_first_symbol_is_empty() {
    assert_eq!(decode_v2(&one(&["__name__", "up"], &[0, 1])), Err(WireError::FirstSymbol));
}

#[test]
fn symbols_without_end_are_refused() {
    let body = [0x22, 0].repeat(SYMBOLS_MAX + 1);
    assert_eq!(decode_within(Form::RemoteWrite2, body, 8 << 20, 4096), Err(WireError::TooManySymbols));
}

#[test]
fn one_version_announced_as_the_other_is_told() {
    let first = as_v1(&[sent("up")]).encode_to_vec();
    assert_eq!(decode(Form::RemoteWrite2, first), Err(WireError::OtherVersion { field: 1 }));
    let second = as_v2(&[sent("up")]).encode_to_vec();
    assert_eq!(decode(Form::RemoteWrite1, second), Err(WireError::OtherVersion { field: 4 }));
}

fn sent(name: &str) -> Sent {
    Sent {
        labels: Texts::from([("__name__".to_owned(), name.to_owned())]),
        samples: vec![(1, 1.0)],
        histograms: vec![],
        exemplars: vec![],
        metadata: (1, "Helps.".to_owned(), String::new()),
    }
}

#[test]
fn symbols_cannot_be_referred_to_without_bound() {
    let text = "x".repeat(60_000);
    let mut request = one(&["", "__name__", &text], &[1, 2]);
    let series = request.timeseries.remove(0);
    request.timeseries = std::iter::repeat_n(series, 1000).collect();
    let body = request.encode_to_vec();
    let mut decoder = Decoder::new(Form::RemoteWrite2, BYTES_MAX);
    let mut rows = Vec::new();
    let error = loop {
        let before = decoder.memory_bytes();
        match decoder.run(&body, &hasher(), &mut rows, 1000) {
            Ok(is_done) => assert!(!is_done && decoder.memory_bytes() - before < 4 * BYTES_MAX),
            Err(error) => break error,
        }
    };
    assert_eq!(error, WireError::TooLarge { bytes_max: BYTES_MAX });
    assert!(decoder.memory_bytes() < 5 * BYTES_MAX);
    assert!(rows.len() < 20);
}

/// How often a decoder of 2.0 has to go on for 1000 bytes, what was found, and the memory that it took beside the rows.
fn runs(request: &v2::Request) -> (usize, Skimmed, usize) {
    let mut body = request.encode_to_vec();
    let (mut decoder, mut rows) = (Decoder::new(Form::RemoteWrite2, 64 << 20), Vec::new());
    let mut count = 1;
    while !decoder.run(&body, &hasher(), &mut rows, 1000).unwrap() {
        count += 1;
    }
    let memory_bytes = decoder.memory_bytes();
    (count, decoder.finish(&mut body).0, memory_bytes)
}

#[test]
fn labels_that_become_too_large_are_not_copied_first() {
    let text = "x".repeat(120_000);
    let mut request = one(&["", "a", &text], &[1, 2, 1, 2, 1, 2]);
    let series = request.timeseries[0].clone();
    request.timeseries = vec![series; 10];
    let (_, skimmed, memory_bytes) = runs(&request);
    assert_eq!((skimmed.refused_count, skimmed.first_refusal), (10, Some(LabelError::TooLarge)));
    assert!(memory_bytes < 10_000, "{memory_bytes}");
}

#[test]
fn a_run_stops_inside_a_series() {
    let text = "x".repeat(120_000);
    let exemplar = |refs: &[u32]| v2::Exemplar { labels_refs: refs.to_vec(), ..Default::default() };
    for refs in [&[1, 2, 1, 2, 1, 2][..], &[1, 9], &[]] {
        let mut request = one(&["", "a", &text], &[1, 1]);
        request.timeseries[0].exemplars = vec![exemplar(refs); 20_000];
        let (count, skimmed, _) = runs(&request);
        assert!(count > 300, "{count}");
        assert_eq!(skimmed.refused_count + skimmed.exemplar_count, 20_000);
    }
    // What is written out is paid for as well.
    let mut request = one(&["", "a", &text], &[1, 1]);
    request.timeseries[0].exemplars = vec![exemplar(&[1, 2]); 100];
    assert!(runs(&request).0 > 100);
}

#[test]
fn refused_samples_are_bounded_as_others_are() {
    let content = [&[0x08, 9][..], &[0x12, 0].repeat(skim::SAMPLES_MAX + 1)].concat();
    let mut body = vec![0x22, 0, 0x2a];
    put_varint(&mut body, content.len() as u64);
    body.extend(content);
    assert_eq!(decode_within(Form::RemoteWrite2, body, 8 << 20, 4096), Err(WireError::TooManySamples));
}

#[test]
fn metadata_with_wrong_references_is_left_out_and_the_samples_are_kept() {
    for (help_ref, unit_ref) in [(9, 0), (0, 9)] {
        let mut request = one(&["", "__name__", "up"], &[1, 2]);
        request.timeseries[0].metadata = Some(v2::Metadata { kind: 1, help_ref, unit_ref });
        let (skimmed, seen) = decode_v2(&request).unwrap();
        assert_eq!((skimmed.refused_count, seen.samples.len(), seen.metadata.len()), (0, 1, 0));
    }
}

#[test]
fn samples_of_one_series_are_bounded_while_they_are_read() {
    for (form, head) in [(Form::RemoteWrite1, &[0x0a][..]), (Form::RemoteWrite2, &[0x22, 0, 0x2a])] {
        for field in [0x12, 0x1a, 0x22] {
            let content = [field, 0].repeat(skim::SAMPLES_MAX + 1);
            let mut body = head.to_vec();
            put_varint(&mut body, content.len() as u64);
            body.extend(content);
            let error = decode_within(form, body, 8 << 20, 4096).unwrap_err();
            assert_eq!(error, WireError::TooManySamples, "{form:?} {field:x}");
        }
    }
}

#[test]
fn metadata_has_the_name_of_the_family() {
    let kinds = [
        (1, "a_total", "a_total"),
        (2, "a_count", "a_count"),
        (3, "a_bucket", "a"),
        (3, "a_count", "a"),
        (3, "a_sum", "a"),
        (4, "a_gsum", "a"),
        (5, "a_sum", "a"),
        (5, "a", "a"),
        (9, "a_sum", "a_sum"),
    ];
    for (kind, name, family) in kinds {
        let mut series = sent(name);
        series.metadata.0 = kind;
        let (_, seen) = decode_v2(&as_v2(&[series])).unwrap();
        let expected = (if kind > 7 { 0 } else { kind as u8 }, family.into(), "Helps.".into(), String::new());
        assert_eq!(seen.metadata, [expected]);
    }
}

#[test]
fn metadata_is_kept_once_as_long_as_it_is_the_same() {
    let mut other = sent("up");
    other.metadata.1 = "Other.".to_owned();
    let all = [sent("up"), sent("down"), sent("up"), other.clone(), other, sent("down"), sent("up")];
    let (_, seen) = decode_v2(&as_v2(&all)).unwrap();
    let names: Vec<_> =
        seen.metadata.iter().map(|(_, name, help, _)| (name.as_str(), help.as_str())).collect();
    assert_eq!(names, [("up", "Helps."), ("down", "Helps."), ("up", "Other."), ("up", "Helps.")]);
}

proptest! {
    #[test]
    fn the_same_content_is_the_same_in_both_versions(sent in any_sent(), step in 1usize..2000) {
        let first = decode_within(Form::RemoteWrite1, as_v1(&sent).encode_to_vec(), BYTES_MAX, step);
        let second = decode_within(Form::RemoteWrite2, as_v2(&sent).encode_to_vec(), BYTES_MAX, step);
        prop_assert_eq!(&first, &second);
        let (skimmed, seen) = first.unwrap();
        let count = |of: fn(&Sent) -> usize| sent.iter().map(of).sum::<usize>();
        prop_assert_eq!(seen.samples.len(), count(|series| series.samples.len()));
        prop_assert_eq!(seen.histograms.len(), count(|series| series.histograms.len()));
        prop_assert_eq!(seen.exemplars.len(), count(|series| series.exemplars.len()));
        prop_assert_eq!(skimmed.histogram_count, seen.histograms.len() as u64);
        prop_assert_eq!(skimmed.exemplar_count, seen.exemplars.len() as u64);
        for (key, labels, ..) in &seen.samples {
            prop_assert_eq!(*key, hasher().key(labels).0);
            prop_assert!(parse_labels(labels).is_ok());
        }
        let messages = sent.iter().flat_map(|series| &series.histograms);
        for (message, (.., timestamp_ms, bytes)) in messages.zip(&seen.histograms) {
            prop_assert_eq!(&Histogram::decode(&bytes[..]).unwrap(), message);
            prop_assert_eq!(*timestamp_ms, message.timestamp);
        }
    }

    #[test]
    fn mutated_requests_end_in_a_result(
        sent in any_sent(),
        is_first: bool,
        edits in vec((any::<Index>(), any::<u8>()), 0..8),
        cut in any::<Index>(),
        decoded_bytes_max in 0usize..5000,
    ) {
        let (form, mut body) = if is_first {
            (Form::RemoteWrite1, as_v1(&sent).encode_to_vec())
        } else {
            (Form::RemoteWrite2, as_v2(&sent).encode_to_vec())
        };
        if body.is_empty() {
            return Ok(());
        }
        for (index, byte) in edits {
            let at = index.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut.index(body.len() + 1));
        // All places are read, which panics where one is wrong.
        if let Ok((skimmed, seen)) = decode_within(form, body, decoded_bytes_max, 30) {
            prop_assert_eq!(skimmed.sample_count, seen.samples.len() as u64);
        }
    }

    #[test]
    fn random_bytes_end_in_a_result(body in vec(any::<u8>(), 0..300)) {
        for form in [Form::RemoteWrite1, Form::RemoteWrite2] {
            let _ = decode(form, body.clone());
        }
    }
}
