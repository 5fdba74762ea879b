//! What a true sender would send, with each kind of sample, exemplars and metadata: the stock of the mutations.

use super::super::support::random::Random;
use super::content::Protocol;
use super::message::{Field, double, fixed, nested, packed, text, varint};

/// The series of one kind of a message.
const SERIES_MAX: usize = 6;

/// Different ids of a template's series; more series come from mutations alone.
const IDS: usize = 50;

/// A message that is valid as it is.
pub fn message(protocol: Protocol, random: &mut Random, now_ms: i64) -> Vec<Field> {
    let count = 1 + random.below(SERIES_MAX);
    match protocol {
        Protocol::First => first(random, count, now_ms),
        Protocol::Second => second(random, count, now_ms),
        Protocol::Otlp => otlp(random, count, now_ms),
    }
}

fn first(random: &mut Random, count: usize, now_ms: i64) -> Vec<Field> {
    let mut fields: Vec<Field> = (0..count)
        .map(|index| {
            let id = random.below(IDS).to_string();
            let name = if index % 3 == 2 { "mutant_histogram" } else { "mutant" };
            let mut series: Vec<Field> = [("__name__", name), ("id", &id), ("zone", "z")]
                .map(|(name, value)| nested(1, vec![text(1, name), text(2, value)]))
                .to_vec();
            if index % 3 == 2 {
                series.push(nested(4, native_histogram(now_ms)));
            } else {
                series.extend(samples(random, now_ms));
            }
            if index % 3 == 1 {
                let label = nested(1, vec![text(1, "trace_id"), text(2, "abc")]);
                series.push(nested(3, vec![label, double(2, 1.0), varint(3, now_ms as u64)]));
            }
            nested(1, series)
        })
        .collect();
    fields.push(nested(3, vec![varint(1, 1), text(2, "mutant"), text(4, "a help"), text(5, "bytes")]));
    fields
}

fn second(random: &mut Random, count: usize, now_ms: i64) -> Vec<Field> {
    let mut symbols: Vec<String> =
        ["", "__name__", "mutant", "mutant_histogram", "id", "zone", "z", "trace_id", "abc", "a help"]
            .map(str::to_owned)
            .to_vec();
    let mut all = Vec::new();
    for index in 0..count {
        let id = symbols.len() as u64;
        symbols.push(random.below(IDS).to_string());
        let name = if index % 3 == 2 { 3 } else { 2 };
        let mut series = vec![packed(1, &[1, name, 4, id, 5, 6])];
        if index % 3 == 2 {
            series.push(nested(3, native_histogram(now_ms)));
        } else {
            series.extend(samples(random, now_ms));
        }
        if index % 3 == 1 {
            series.push(nested(4, vec![packed(1, &[7, 8]), double(2, 1.0), varint(3, now_ms as u64)]));
        }
        series.push(nested(5, vec![varint(1, 2), varint(3, 9)]));
        all.push(nested(5, series));
    }
    symbols.iter().map(|symbol| text(4, symbol)).chain(all).collect()
}

/// Up to three samples of a series of 1.0 or 2.0.
fn samples(random: &mut Random, now_ms: i64) -> Vec<Field> {
    let count = 1 + random.below(3);
    // A function of the time, so that two requests with the same series do not contradict each other.
    let sample = |at_ms: i64| nested(2, vec![double(1, (at_ms % 1000) as f64), varint(2, at_ms as u64)]);
    (0..count).map(|index| sample(now_ms + index as i64)).collect()
}

fn native_histogram(now_ms: i64) -> Vec<Field> {
    let spans = |number| nested(number, vec![varint(1, 2), varint(2, 2)]);
    vec![
        varint(1, 11),
        double(3, 12.5),
        varint(4, 2),
        double(5, 0.001),
        varint(6, 2),
        spans(8),
        packed(9, &[4, 1]),
        spans(11),
        packed(12, &[8, 3]),
        varint(15, now_ms as u64),
    ]
}

fn otlp(random: &mut Random, count: usize, now_ms: i64) -> Vec<Field> {
    let metrics = (0..count)
        .map(|index| {
            let id = random.below(IDS).to_string();
            let attributes = move |number| attribute(number, "id", &id);
            let time = fixed(3, now_ms as u64 * 1_000_000);
            let (kind, point) = match index % 5 {
                0 => (5, vec![attributes(7), time, double(4, 1.5)]),
                1 => {
                    let exemplar = nested(5, vec![time.clone(), double(3, 2.0), text(5, [7; 16])]);
                    (7, vec![attributes(7), time, fixed(6, 7), exemplar])
                }
                2 => {
                    let mut point = vec![attributes(9), time, fixed(4, 6), double(5, 4.5)];
                    point.extend([1, 2, 3].map(|bucket| fixed(6, bucket)));
                    point.extend([0.5, 10.0].map(|bound| double(7, bound)));
                    (9, point)
                }
                3 => {
                    let buckets = |number| nested(number, vec![varint(1, 4), packed(2, &[1, 2, 3])]);
                    let numbers = [fixed(4, 14), double(5, 1.0), varint(6, 6), fixed(7, 2)];
                    let mut point = vec![attributes(1), time, buckets(8), buckets(9)];
                    point.extend(numbers);
                    (10, point)
                }
                _ => {
                    let quantile = nested(6, vec![double(1, 0.5), double(2, 3.0)]);
                    (11, vec![attributes(7), time, fixed(4, 6), double(5, 4.5), quantile])
                }
            };
            let mut data = vec![nested(1, point)];
            if matches!(kind, 7 | 9 | 10) {
                data.extend([varint(2, 2), varint(3, 1)]);
            }
            let name = format!("mutant.kind.{kind}");
            nested(2, vec![text(1, name), text(2, "a help"), text(3, "By"), nested(kind, data)])
        })
        .collect();
    let resource = nested(1, vec![attribute(1, "service.name", "mutants"), attribute(1, "host", "h")]);
    vec![nested(1, vec![resource, nested(2, metrics)])]
}

/// A KeyValue whose value is a text.
pub fn attribute(number: u64, key: &str, value: &str) -> Field {
    nested(number, vec![text(1, key), nested(2, vec![text(1, value)])])
}
