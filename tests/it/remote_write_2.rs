//! Remote write 2.0, zstd, and what a sender is told of what is stored.

use prost::Message;

use super::support::http::{Client, Response};
use super::support::now_ms;
use super::support::server::Server;
use super::support::write::{Sample, compress, message, series};

/// io.prometheus.write.v2.Request, as far as senders of samples need it.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<Series>,
}

/// io.prometheus.write.v2.TimeSeries.
#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(uint32, repeated, tag = "1")]
    label_references: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar>,
}

/// io.prometheus.write.v2.Exemplar.
#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(uint32, repeated, tag = "1")]
    label_references: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp_ms: i64,
}

const FIRST: &str = "application/x-protobuf;proto=prometheus.WriteRequest";
const SECOND: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// A resident set that grows by the text of a bomb has kept it.
const RESIDENT_GROWTH_BYTES_MAX: u64 = 48 << 20;

/// The series `m{id="1"}` and `m{id="2"}`, with a sample each.
fn request(timestamp_ms: i64) -> Request {
    let symbols = ["", "__name__", "m", "id", "1", "2"];
    let series = |id, value| Series {
        label_references: vec![1, 2, 3, id],
        samples: vec![Sample { value: Some(value), timestamp_ms }],
        exemplars: vec![],
    };
    Request { symbols: symbols.map(str::to_owned).to_vec(), series: vec![series(4, 1.5), series(5, 2.5)] }
}

fn send(server: &Server, content_type: &str, encoding: &str, body: &[u8]) -> Response {
    let headers = [("Content-Type", content_type), ("Content-Encoding", encoding)];
    Client::new(server.addresses.write).send("POST", "/api/v1/receive", &headers, body).unwrap()
}

/// Counts of samples, histograms and exemplars that the answer says are stored.
fn written(response: &Response) -> [Option<&str>; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|kind| response.header(&format!("x-prometheus-remote-write-{kind}-written")))
}

/// One zstd frame of blocks as given, without the size of its text.
fn zstd_frame(blocks: &[u8]) -> Vec<u8> {
    // The window descriptor says 1 MiB.
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50], blocks].concat()
}

/// A text as it is, in one zstd block.
fn zstd_stored(text: &[u8]) -> Vec<u8> {
    let head = ((text.len() as u32) << 3 | 1).to_le_bytes();
    zstd_frame(&[&head[..3], text].concat())
}

#[test]
fn a_2_0_request_is_stored_and_answered_with_204_and_counts() {
    let server = Server::start();
    let now = now_ms();
    let body = compress(&request(now).encode_to_vec());
    // The second time is a sender's retry: nothing new, and nothing is missing.
    for _ in 0..2 {
        let response = send(&server, SECOND, "snappy", &body);
        assert_eq!((response.status, response.text().as_str()), (204, ""));
        assert_eq!(written(&response), [Some("2"), Some("0"), Some("0")]);
    }
    assert_eq!(server.query().value("m{id=\"1\"}", now), Some(1.5));
    assert_eq!(server.query().value("m{id=\"2\"}", now), Some(2.5));
}

#[test]
fn both_versions_write_the_same_series() {
    let server = Server::start();
    let now = now_ms();
    let first =
        send(&server, FIRST, "snappy", &compress(&message(&[series("m", "1", &[(now - 1000, 1.0)])])));
    assert_eq!((first.status, written(&first)), (200, [Some("1"), Some("0"), Some("0")]));
    assert_eq!(send(&server, SECOND, "snappy", &compress(&request(now).encode_to_vec())).status, 204);
    assert_eq!(server.query().value("count_over_time(m{id=\"1\"}[1m])", now), Some(2.0));
    assert_eq!(server.query().value("count(m)", now), Some(2.0));
}

#[test]
fn a_partial_refusal_gets_400_and_counts_what_is_stored() {
    let server = Server::start();
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now, 7.0)])]);
    let mut request = request(now);
    request.series.push(Series { label_references: vec![1, 9], ..request.series[0].clone() });
    let response = send(&server, SECOND, "snappy", &compress(&request.encode_to_vec()));
    assert_eq!((response.status, written(&response)), (400, [Some("1"), Some("0"), Some("0")]));
    for part in
        ["1 samples: duplicate sample for timestamp", "1 samples: invalid label set", "1 samples stored"]
    {
        assert!(response.text().contains(part), "{}", response.text());
    }
    assert_eq!(server.query().value("m{id=\"1\"}", now), Some(7.0));
    assert_eq!(server.query().value("m{id=\"2\"}", now), Some(2.5));
}

#[test]
fn an_exemplar_that_is_out_of_order_gets_400_and_the_exact_counts() {
    let server = Server::start();
    let now = now_ms();
    let send = |offset_ms: i64, exemplars: &[(u32, i64)]| {
        let mut request = request(now + offset_ms);
        let exemplar = |&(value, time_ms): &(u32, i64)| Exemplar {
            label_references: vec![3, value],
            value: 0.5,
            timestamp_ms: now + time_ms,
        };
        request.symbols.push("x".repeat(200));
        request.series[0].exemplars = exemplars.iter().map(exemplar).collect();
        let response = send(&server, SECOND, "snappy", &compress(&request.encode_to_vec()));
        let written = written(&response).map(|count| count.unwrap().parse::<u64>().unwrap());
        (response.status, written, response.text().trim_end().to_owned())
    };
    assert_eq!(send(0, &[(4, 0)]), (204, [2, 0, 1], String::new()));
    // Twice the same is no error, and counts as written both times.
    assert_eq!(send(1000, &[(4, 0), (5, 1000), (5, 1000)]), (204, [2, 0, 3], String::new()));
    // The symbol that is too long is only left out, as in Prometheus, and one that is not there makes no exemplar.
    assert_eq!(send(2000, &[(6, 2000)]), (204, [2, 0, 0], String::new()));
    let (status, counts, text) = send(3000, &[(5, 500), (6, 2000), (5, 3000)]);
    assert_eq!((status, counts), (400, [2, 0, 1]), "{text}");
    assert_eq!(text, "1 exemplars: out of order exemplar; 2 samples stored, 1 exemplars stored");
    let (status, counts, text) = send(4000, &[(5, 4000), (9, 4000)]);
    assert_eq!((status, counts), (400, [2, 0, 1]), "{text}");
    assert_eq!(server.query().value("count_over_time(m{id=\"1\"}[1m])", now + 4000), Some(5.0));
}

#[test]
fn zstd_is_read_under_both_versions() {
    let server = Server::start();
    let now = now_ms();
    let first = send(&server, FIRST, "zstd", &zstd_stored(&message(&[series("n", "1", &[(now, 3.0)])])));
    assert_eq!((first.status, first.text().as_str()), (200, ""));
    let second = send(&server, SECOND, "zstd", &zstd_stored(&request(now).encode_to_vec()));
    assert_eq!((second.status, second.text().as_str()), (204, ""));
    assert_eq!(server.query().value("n", now), Some(3.0));
    assert_eq!(server.query().value("sum(m)", now), Some(4.0));
}

#[test]
fn a_zstd_bomb_gets_413_and_leaves_no_memory_taken() {
    let server = Server::start();
    let before = server.process.resident_bytes();
    // Blocks of one byte, 128 KiB times each: more than a gigabyte.
    let block = (((128u32 << 10) << 3) | 1 << 1).to_le_bytes();
    let bomb = zstd_frame(&[block[0], block[1], block[2], b'x'].repeat(10_000));
    let response = send(&server, SECOND, "zstd", &bomb);
    assert_eq!(response.status, 413, "{}", response.text());
    let growth = server.process.resident_bytes().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_BYTES_MAX, "{growth} bytes more than before");
    server.sender().store(&[series("serves", "1", &[(now_ms(), 1.0)])]);
}

#[test]
fn symbols_that_grow_without_bound_get_413() {
    let server = Server::start();
    let mut request = request(now_ms());
    request.symbols[2] = "x".repeat(60_000);
    request.series = vec![request.series[0].clone(); 2000];
    let response = send(&server, SECOND, "snappy", &compress(&request.encode_to_vec()));
    assert_eq!(response.status, 413, "{}", response.text());
}

#[test]
fn what_is_not_read_gets_415_and_the_wrong_message_400() {
    let server = Server::start();
    let body = compress(&request(now_ms()).encode_to_vec());
    for (content_type, encoding) in [
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy"),
        (SECOND, "gzip"),
        (FIRST, "identity"),
    ] {
        let response = send(&server, content_type, encoding, &body);
        assert_eq!(response.status, 415, "{content_type} {encoding}: {}", response.text());
    }
    for (content_type, encoding) in [(FIRST, "snappy"), (SECOND, "zstd")] {
        let response = send(&server, content_type, encoding, &body);
        assert_eq!(response.status, 400, "{content_type} {encoding}: {}", response.text());
    }
}
