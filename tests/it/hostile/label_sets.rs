//! Label sets that are made to be taken for each other.

use std::collections::BTreeSet;

use super::super::support::now_ms;
use super::super::support::query::Matrix;
use super::super::support::server::Server;
use super::super::support::write::{TimeSeries, series, series_of};
use super::connection::{Connection, Request};
use super::content::{Encoding, Protocol, headers};
use super::message::{Field, double, encode, fixed, nested, packed, text, varint};
use super::requests::attribute;

/// Label sets of one flood.
const FLOOD_SERIES: usize = 200_000;

/// Series of one request of a flood.
const REQUEST_SERIES: usize = 4000;

/// Characters of which the free end of a colliding value is made.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// Sends one message as this protocol does.
pub fn send(server: &Server, protocol: Protocol, fields: &[Field]) -> (u16, String) {
    let encoding = if protocol == Protocol::Otlp { Encoding::Identity } else { Encoding::Snappy };
    let request = Request {
        path: protocol.path(),
        headers: headers(protocol, encoding, "t"),
        body: encoding.apply(&encode(fields)),
        announced_bytes: None,
    };
    let response = Connection::new(server.addresses.write).send(&request).unwrap().unwrap();
    (response.status, response.text())
}

/// A series of 1.0 or 2.0 with one sample, and whatever labels.
pub fn write_request(protocol: Protocol, labels: &[(&[u8], &[u8])], sample: (i64, f64)) -> Vec<Field> {
    let sample = nested(2, vec![double(1, sample.1), varint(2, sample.0 as u64)]);
    if protocol == Protocol::First {
        let labels = labels.iter().map(|(name, value)| nested(1, vec![text(1, name), text(2, value)]));
        return vec![nested(1, labels.chain([sample]).collect())];
    }
    let symbols = labels.iter().flat_map(|(name, value)| [text(4, name), text(4, value)]);
    let references: Vec<u64> = (1..=labels.len() as u64 * 2).collect();
    let series = nested(5, vec![packed(1, &references), sample]);
    [text(4, "")].into_iter().chain(symbols).chain([series]).collect()
}

/// The low half of FNV-1a's state that the bytes lead to: it depends on no higher bits.
fn fnv_low(state: u16, bytes: &[u8]) -> u16 {
    let prime = 0x0000_0100_0000_01b3_u64 as u16;
    bytes.iter().fold(state, |state, byte| (state ^ u16::from(*byte)).wrapping_mul(prime))
}

/// Values of the label `id` for which the sets `{__name__="flood",id="…"}`, written with separators as Prometheus hashes
/// them, have the same low 16 bits of FNV-1a.
fn colliding_values() -> Vec<String> {
    let start = fnv_low(0xcbf2_9ce4_8422_2325_u64 as u16, b"__name__\xffflood\xffid\xff");
    // Three characters lead nearly every state to any other.
    let mut ends: Vec<Option<[u8; 3]>> = vec![None; 1 << 16];
    let target = 0x1234;
    let inverse = inverse_of(0x0000_0100_0000_01b3_u64 as u16);
    let back = |state: u16, byte: u8| state.wrapping_mul(inverse) ^ u16::from(byte);
    for last in ALPHABET {
        for middle in ALPHABET {
            for first in ALPHABET {
                let before = back(back(back(target, *last), *middle), *first);
                ends[usize::from(before)] = Some([*first, *middle, *last]);
            }
        }
    }
    let with_end = |number: usize| {
        let begin = format!("{number:07}-");
        let end = ends[usize::from(fnv_low(start, begin.as_bytes()))]?;
        Some(begin + std::str::from_utf8(&end).unwrap())
    };
    let values: Vec<String> = (0..).filter_map(with_end).take(FLOOD_SERIES).collect();
    assert!(values.iter().all(|value| fnv_low(start, value.as_bytes()) == target));
    values
}

/// The inverse of an odd number modulo 2^16, by Newton's iteration.
fn inverse_of(odd: u16) -> u16 {
    (0..4).fold(odd, |inverse, _| inverse.wrapping_mul(2u16.wrapping_sub(odd.wrapping_mul(inverse))))
}

/// Stores one sample of each series; the CPU seconds that the receiver took.
fn flood(server: &Server, metric: &str, values: &[String], at_ms: i64) -> f64 {
    let before = server.process.cpu_seconds();
    let mut sender = server.sender();
    for (part, values) in values.chunks(REQUEST_SERIES).enumerate() {
        let sample = |index: usize| [(at_ms, (part * REQUEST_SERIES + index) as f64)];
        let batch: Vec<TimeSeries> =
            values.iter().enumerate().map(|(index, value)| series(metric, value, &sample(index))).collect();
        sender.store(&batch);
    }
    server.process.cpu_seconds() - before
}

#[test]
fn label_sets_that_collide_under_a_common_hash_are_stored_like_others() {
    let server = Server::start_with(&["--wal.ring-size=64MiB"]);
    let now = now_ms();
    let colliding = colliding_values();
    let plain: Vec<String> = (0..FLOOD_SERIES).map(|number| format!("{number:011}")).collect();
    let plain_seconds = flood(&server, "plain", &plain, now);
    let seconds = flood(&server, "flood", &colliding, now);
    eprintln!(
        "CPU seconds of the receiver for {FLOOD_SERIES} new series: {seconds}, of others: {plain_seconds}"
    );

    // By the first digits of the value, so that no answer is large.
    let mut found_count = 0;
    for prefix in 0..30 {
        let found = server.query().instant(&format!("flood{{id=~\"{prefix:03}.*\"}}"), now);
        for (labels, samples) in &found {
            let index = colliding.binary_search(&labels["id"]).unwrap();
            assert_eq!(samples, &[(now, index as f64)], "{labels:?}");
        }
        found_count += found.len();
    }
    assert_eq!(found_count, FLOOD_SERIES);
}

#[test]
fn label_sets_that_differ_in_order_alone_are_one_series() {
    let server = Server::start();
    let now = now_ms();
    let labels = ["a", "b", "c", "d"];
    let orders = orders(&labels);
    assert_eq!(orders.len(), 24);
    for (round, order) in orders.iter().enumerate() {
        let at_ms = now + round as i64;
        // Remote write has its labels sorted by name; another order is refused, and no series.
        let pairs: Vec<(&[u8], &[u8])> =
            order.iter().map(|name| (name.as_bytes(), &b"1"[..])).chain([(&b"zz"[..], &b"2"[..])]).collect();
        let pairs = [&[(&b"__name__"[..], &b"m"[..])][..], &pairs].concat();
        let is_sorted = order.is_sorted();
        for (protocol, stored, refused) in [(Protocol::First, 200, 409), (Protocol::Second, 204, 400)] {
            let (status, text) = send(&server, protocol, &write_request(protocol, &pairs, (at_ms, 1.0)));
            assert_eq!(status, if is_sorted { stored } else { refused }, "{order:?}: {text}");
            assert!(is_sorted || text.contains("must be sorted by name"), "{text}");
        }
        // OTLP's attributes have no order.
        let attributes = order.iter().map(|name| attribute(7, name, "1"));
        let point = attributes.chain([fixed(3, at_ms as u64 * 1_000_000), double(4, round as f64)]).collect();
        let metric = vec![text(1, "o"), nested(5, vec![nested(1, point)])];
        let (status, text) =
            send(&server, Protocol::Otlp, &[nested(1, vec![nested(2, vec![nested(2, metric)])])]);
        assert_eq!((status, text.as_str()), (200, ""), "{order:?}");
    }
    assert_eq!(server.query().value("count(m)", now + 30), Some(1.0));
    assert_eq!(server.query().value("count_over_time(m[1m])", now + 30), Some(1.0));
    let found = server.query().instant("o[1m]", now + 30);
    let samples: Vec<_> = found.into_values().collect();
    let expected: Vec<_> = (0..24).map(|round| (now + round, round as f64)).collect();
    assert_eq!(samples, [expected]);
}

/// All orders of the names.
fn orders<'a>(names: &[&'a str]) -> Vec<Vec<&'a str>> {
    if names.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for (at, first) in names.iter().enumerate() {
        for rest in orders(&[&names[..at], &names[at + 1..]].concat()) {
            all.push([&[*first][..], &rest].concat());
        }
    }
    all
}

/// Label sets that are the same bytes to whoever joins names and values with a separator, by zero bytes or by the
/// characters U+00FE and U+00FF.
fn label_sets_of_separators() -> Vec<Vec<(String, String)>> {
    let mut sets = BTreeSet::new();
    for separator in ["\0", "\u{fe}", "\u{ff}"] {
        let parts = ["a", "b", "c", "d"];
        let join = |parts: &[&str]| parts.join(separator);
        sets.insert(vec![("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())]);
        for at in 1..parts.len() {
            sets.insert(vec![(join(&parts[..at]), join(&parts[at..]))]);
        }
        for (name, value) in [("a", "b"), ("ab", "c")] {
            sets.insert(vec![(format!("{name}{separator}"), value.to_owned())]);
            sets.insert(vec![(name.to_owned(), format!("{separator}{value}"))]);
            sets.insert(vec![(name.to_owned(), format!("{value}{separator}"))]);
            sets.insert(vec![(name.to_owned(), format!("{value}{separator}{separator}"))]);
        }
        sets.insert(vec![("a".to_owned(), separator.to_owned())]);
    }
    sets.into_iter().collect()
}

#[test]
fn label_sets_with_separators_at_different_places_are_different_series() {
    let server = Server::start();
    let now = now_ms();
    let sets = label_sets_of_separators();
    for (round, protocol) in [Protocol::First, Protocol::Second].into_iter().enumerate() {
        for (index, set) in sets.iter().enumerate() {
            let pairs: Vec<(&[u8], &[u8])> = [(&b"__name__"[..], &b"m"[..])]
                .into_iter()
                .chain(set.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
                .collect();
            let sample = (now + round as i64, index as f64);
            let (status, text) = send(&server, protocol, &write_request(protocol, &pairs, sample));
            assert!(matches!(status, 200 | 204), "{set:?}: {status} {text}");
        }
    }
    let mut found = server.query().instant("m[1m]", now + 10);
    let mut expected = Matrix::new();
    for (index, set) in sets.iter().enumerate() {
        let fixed = [("__name__", "m"), ("replica", "a"), ("tenant_id", "t")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let value = index as f64;
        expected.insert(set.iter().cloned().chain(fixed).collect(), vec![(now, value), (now + 1, value)]);
    }
    for (labels, samples) in &expected {
        assert_eq!(found.remove(labels).as_ref(), Some(samples), "{labels:?}");
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn bytes_that_are_no_utf8_make_no_series() {
    let server = Server::start();
    let now = now_ms();
    for bytes in [&b"a\xffb"[..], b"a\xfeb", b"\xff", b"a\0\xff", b"\xed\xa0\x80"] {
        for (protocol, refused) in [(Protocol::First, 409), (Protocol::Second, 400)] {
            for pairs in [(&b"id"[..], bytes), (bytes, &b"1"[..])] {
                let pairs = [(&b"__name__"[..], &b"m"[..]), pairs];
                let (status, text) = send(&server, protocol, &write_request(protocol, &pairs, (now, 1.0)));
                assert_eq!(status, refused, "{bytes:?}: {text}");
                assert!(text.contains("not valid UTF-8") || text.contains("sorted"), "{text}");
            }
        }
    }
    assert_eq!(server.query().instant("{__name__=~\".+\"}", now), Matrix::new());
    // The same text in another encoding of the same message is still one series.
    server.sender().store(&[series_of(&[("__name__", "m"), ("id", "\u{ff}")], &[(now, 1.0)])]);
    assert_eq!(server.query().value("count(m)", now), Some(1.0));
}
