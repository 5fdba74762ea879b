//! The bytes that Prometheus writes for given samples, what it does with its chunk for each, and what it reads back.
//!
//! `testdata/golden.txt` was written by a program that used Prometheus v3.16's `tsdb/chunkenc`. A line is a step:
//! - `case` and the encoding begin an empty chunk;
//! - `append`, `recode` and `cut` are a sample and what became of the open chunk;
//! - `seal` finishes the open chunk; the next sample is compared with its last one;
//! - `chunk` is a finished chunk, `read` are its samples as Prometheus reads them.
//!
//! A case named `restarted` continues its chunk as after a restart, which Prometheus does with other bits.

use std::fmt::Debug;
use std::str::{FromStr, SplitAsciiWhitespace};

use super::histogram_appender::Appender;
use super::histogram_track::{Float, Integer, Kind, Sample};
use super::*;

const GOLDEN: &str = include_str!("testdata/golden.txt");

/// A number of a vector file.
trait Number: Sized {
    fn parse(text: &str) -> Self;
}

impl Number for f64 {
    fn parse(text: &str) -> f64 {
        match text {
            "stale" => f64::from_bits(crate::STALE_NAN_BITS),
            // The bits of Go's NaN.
            "NaN" => f64::from_bits(0x7ff8_0000_0000_0001),
            number => number.parse().unwrap(),
        }
    }
}

impl Number for i64 {
    fn parse(text: &str) -> i64 {
        text.parse().unwrap()
    }
}

impl Number for u64 {
    fn parse(text: &str) -> u64 {
        text.parse().unwrap()
    }
}

fn list<T>(text: &str, parse: impl Fn(&str) -> T) -> Vec<T> {
    if text == "-" { Vec::new() } else { text.split(',').map(parse).collect() }
}

fn pair<A: FromStr<Err: Debug>>(text: &str) -> (A, &str) {
    let (left, right) = text.split_once(':').unwrap();
    (left.parse().unwrap(), right)
}

fn span(text: &str) -> Span {
    let (offset, length) = pair(text);
    Span { offset, length: length.parse().unwrap() }
}

fn histogram<C: Number + Default, B: Number + Default>(
    mut words: SplitAsciiWhitespace<'_>,
) -> (i64, NativeHistogram<C, B>) {
    let timestamp_ms = words.next().unwrap().parse().unwrap();
    let mut histogram = NativeHistogram::<C, B> {
        reset_hint: match words.next().unwrap() {
            "unknown" => ResetHint::Unknown,
            "yes" => ResetHint::Yes,
            "no" => ResetHint::No,
            _ => ResetHint::Gauge,
        },
        ..NativeHistogram::default()
    };
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("schema", schema)) => histogram.schema = schema.parse().unwrap(),
            Some(("zero", zero)) => {
                let (threshold, count) = pair(zero);
                (histogram.zero_threshold, histogram.zero_count) = (threshold, C::parse(count));
            }
            Some(("count", count)) => histogram.count = C::parse(count),
            Some(("sum", sum)) => histogram.sum = f64::parse(sum),
            Some((_, bounds)) => histogram.custom_values = list(bounds, f64::parse),
            None => {
                let side = if word == "+" { &mut histogram.positive } else { &mut histogram.negative };
                side.spans = list(words.next().unwrap(), span);
                side.values = list(words.next().unwrap(), B::parse);
            }
        }
    }
    (timestamp_ms, histogram)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The samples of a chunk as text, in which all NaN are the same, except for stale markers.
fn read_back(encoding: Encoding, bytes: &[u8]) -> Vec<String> {
    let mut samples = Vec::new();
    decode_values(encoding, bytes, |timestamp_ms, value| {
        samples.push(match value {
            Value::Float(value) => float_text(timestamp_ms, value),
            Value::Histogram(value) => format!("{timestamp_ms} {} {value:?}", value.is_stale()),
            Value::FloatHistogram(value) => format!("{timestamp_ms} {} {value:?}", value.is_stale()),
        });
    })
    .unwrap();
    samples
}

fn float_text(timestamp_ms: i64, value: f64) -> String {
    format!("{timestamp_ms} {} {value:?}", crate::is_stale(value))
}

fn histogram_text<C: Debug, B: Debug>((timestamp_ms, value): (i64, NativeHistogram<C, B>)) -> String {
    format!("{timestamp_ms} {} {value:?}", value.is_stale())
}

/// A case of the file: its name and its steps.
fn cases(kind: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let cases: Vec<_> = GOLDEN
        .split("case ")
        .filter_map(|case| {
            let (name, steps) = case.split_once('\n')?;
            let (case_kind, name) = name.split_once(' ')?;
            (case_kind == kind).then(|| (name, steps.lines().collect()))
        })
        .collect();
    assert!(!cases.is_empty(), "no case of {kind}");
    cases
}

fn assert_reads_as_prometheus(kind: &str, encoding: Encoding, text: impl Fn(&str) -> String) {
    for (name, steps) in cases(kind) {
        let mut read = Vec::new().into_iter();
        for step in steps {
            match step.split_once(' ') {
                Some(("chunk", bytes)) => {
                    assert_eq!(read.next(), None, "{name} has another sample");
                    read = read_back(encoding, &hex(bytes)).into_iter();
                }
                Some(("read", sample)) => assert_eq!(read.next(), Some(text(sample)), "{name}"),
                _ => {}
            }
        }
        assert_eq!(read.next(), None, "{name} has another sample");
    }
}

#[test]
fn each_encoding_is_read_as_prometheus_reads_it() {
    let float = |sample: &str| {
        let (timestamp_ms, value) = sample.split_once(' ').unwrap();
        float_text(timestamp_ms.parse().unwrap(), f64::parse(value))
    };
    let integer = |sample: &str| histogram_text(histogram::<u64, i64>(sample.split_ascii_whitespace()));
    let floats = |sample: &str| histogram_text(histogram::<f64, f64>(sample.split_ascii_whitespace()));
    assert_reads_as_prometheus("xor", Encoding::Xor, float);
    assert_reads_as_prometheus("xor2", Encoding::Xor2, float);
    assert_reads_as_prometheus("histogram", Encoding::Histogram, integer);
    assert_reads_as_prometheus("histogram_st", Encoding::HistogramSt, integer);
    assert_reads_as_prometheus("float_histogram", Encoding::FloatHistogram, floats);
    assert_reads_as_prometheus("float_histogram_st", Encoding::FloatHistogramSt, floats);
}

#[test]
fn floats_become_the_bytes_that_prometheus_writes() {
    for (name, steps) in cases("xor").into_iter().filter(|(name, _)| !name.contains("restarted")) {
        let mut appender = XorAppender::default();
        for step in steps {
            let (what, rest) = step.split_once(' ').unwrap();
            match what {
                "append" => {
                    let (timestamp_ms, value) = rest.split_once(' ').unwrap();
                    appender.append(timestamp_ms.parse().unwrap(), f64::parse(value));
                }
                "chunk" => assert_eq!(appender.to_bytes(), hex(rest), "{name}"),
                _ => {}
            }
        }
    }
}

fn assert_writes_as_prometheus<K: Kind>(
    kind: &str,
    parse: impl Fn(SplitAsciiWhitespace<'_>) -> (i64, Sample<K>),
) {
    for (name, steps) in cases(kind).into_iter().filter(|(name, _)| !name.contains("restarted")) {
        let mut appender = Appender::<K>::default();
        let mut finished = None;
        for step in steps {
            let mut words = step.split_ascii_whitespace();
            match words.next().unwrap() {
                "seal" => drop(appender.seal()),
                // A chunk that is cut is told before the sample that cuts it.
                "chunk" => finished = Some((hex(words.next().unwrap()), appender.bytes().to_vec())),
                "read" => {}
                what => {
                    let (timestamp_ms, sample) = parse(words);
                    let fit = appender.fit(&sample);
                    let appended = appender.append(timestamp_ms, &sample).unwrap();
                    assert!(appender.repeats(&sample), "{name} at {timestamp_ms}");
                    let (expected_fit, expected) = match what {
                        "append" => (Fit::AsIs, Appended::AsIs),
                        "recode" => {
                            (Fit::Recode { bucket_count: appender.bucket_count() }, Appended::Recoded)
                        }
                        _ => {
                            let (bytes, _) = finished.take().expect("a chunk was cut");
                            (Fit::Cut, Appended::Cut(bytes.into()))
                        }
                    };
                    assert_eq!((fit, appended), (expected_fit, expected), "{name} at {timestamp_ms}");
                }
            }
            if let Some((expected, bytes)) = &finished {
                assert_eq!(bytes, expected, "{name}");
            }
        }
    }
}

#[test]
fn histograms_become_the_bytes_that_prometheus_writes() {
    assert_writes_as_prometheus::<Integer>("histogram", histogram);
    assert_writes_as_prometheus::<Float>("float_histogram", histogram);
}
