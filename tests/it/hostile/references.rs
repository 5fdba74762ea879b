//! References of remote write 2.0 that refer to nothing.

use super::super::support::now_ms;
use super::super::support::query::Matrix;
use super::super::support::server::Server;
use super::content::Protocol;
use super::label_sets::send;
use super::message::{Content, Field, double, nested, packed, put_varint, text, varint};

/// Symbols of each request.
const SYMBOLS: [&str; 5] = ["", "__name__", "m", "id", "1"];

fn request(series: Vec<Field>) -> Vec<Field> {
    SYMBOLS.map(|symbol| text(4, symbol)).into_iter().chain([nested(5, series)]).collect()
}

fn sample(now: i64) -> Field {
    nested(2, vec![double(1, 1.0), varint(2, now as u64)])
}

#[test]
fn references_out_of_range_get_400_with_the_reason_and_write_nothing() {
    let server = Server::start();
    let now = now_ms();
    for (references, reason) in [
        (&[1, 2, 3, 5][..], "symbol 5 is referred to, but there are only 5"),
        (&[1, 2, 9, 4], "symbol 9 is referred to"),
        (&[1, 2, 3, u32::MAX as u64], "symbol 4294967295 is referred to"),
        // More than 32 bits: not to be taken for the low ones.
        (&[1, 2, 3, (1 << 32) + 4], "symbol 4294967295 is referred to"),
        (&[1, 2, 3, u64::MAX], "symbol 4294967295 is referred to"),
        (&[1, 2, 3], "3 references to symbols are not pairs"),
        (&[1], "1 references to symbols are not pairs"),
        (&[], "the label set is empty"),
        (&[0, 2], "a label has no name"),
        (&[1, 0], "has no value"),
        (&[3, 4], "no __name__"),
        (&[1, 2, 1, 2], "occurs twice"),
        (&[3, 4, 1, 2], "must be sorted by name"),
    ] {
        let (status, text) =
            send(&server, Protocol::Second, &request(vec![packed(1, references), sample(now)]));
        assert_eq!(status, 400, "{references:?}: {text}");
        assert!(text.contains(reason), "{references:?}: {text}");
        assert!(text.contains("0 samples stored"), "{references:?}: {text}");
    }
    assert_eq!(server.query().instant("{__name__=~\".+\"}", now), Matrix::new());
}

#[test]
fn references_that_are_no_numbers_get_400() {
    let server = Server::start();
    let now = now_ms();
    // A varint of eleven bytes, one that ends in its middle, and the fields of another wire type.
    for content in [
        Content::Bytes([&[0xff; 10][..], &[1]].concat()),
        Content::Bytes(vec![1, 2, 3, 0x84]),
        Content::Fixed64(1),
        Content::Raw(5, vec![1, 0, 0, 0]),
    ] {
        let references = Field { number: 1, content };
        let (status, text) = send(&server, Protocol::Second, &request(vec![references.clone(), sample(now)]));
        assert_eq!(status, 400, "{references:?}: {text}");
    }
    assert_eq!(server.query().instant("{__name__=~\".+\"}", now), Matrix::new());
}

#[test]
fn references_out_of_range_in_exemplars_and_metadata_leave_the_samples_alone() {
    let server = Server::start();
    let now = now_ms();
    let labels = packed(1, &[1, 2, 3, 4]);
    for (round, (extra, status)) in [
        (nested(4, vec![packed(1, &[3, 77]), double(2, 1.0), varint(3, now as u64)]), 400),
        (nested(4, vec![packed(1, &[3]), double(2, 1.0), varint(3, now as u64)]), 400),
        (nested(5, vec![varint(1, 1), varint(3, 77), varint(4, u64::MAX)]), 204),
    ]
    .into_iter()
    .enumerate()
    {
        let at_ms = now + round as i64;
        let fields = request(vec![labels.clone(), sample(at_ms), extra]);
        let (found, text) = send(&server, Protocol::Second, &fields);
        assert_eq!(found, status, "{text}");
        assert!(status == 204 || text.contains("1 samples stored"), "{text}");
        assert_eq!(server.query().value("m{id=\"1\"}", at_ms), Some(1.0), "{text}");
    }
}

#[test]
fn a_first_symbol_that_is_not_empty_gets_400() {
    let server = Server::start();
    let now = now_ms();
    let mut fields = request(vec![packed(1, &[1, 2]), sample(now)]);
    fields.remove(0);
    let (status, text) = send(&server, Protocol::Second, &fields);
    assert_eq!(status, 400, "{text}");
    assert_eq!(server.query().instant("{__name__=~\".+\"}", now), Matrix::new());
}

#[test]
fn a_million_references_to_one_symbol_cost_no_memory() {
    let server = Server::start();
    let now = now_ms();
    let before = server.process.resident_bytes();
    let mut references = Vec::new();
    for _ in 0..4_000_000 {
        put_varint(&mut references, 3);
    }
    let references = Field { number: 1, content: Content::Bytes(references) };
    for _ in 0..3 {
        let (status, text) = send(&server, Protocol::Second, &request(vec![references.clone(), sample(now)]));
        assert_eq!(status, 400, "{text}");
        assert!(text.contains("too many or too long"), "{text}");
    }
    let growth = server.process.resident_bytes().saturating_sub(before);
    assert!(growth < 64 << 20, "{growth} bytes more than before");
    assert_eq!(server.query().instant("{__name__=~\".+\"}", now), Matrix::new());
}
