//! Remote read: a Prometheus that keeps nothing itself shows what annulus has; chunks come as frames.

use prost::Message;

use super::super::support::http::{Client, post_form};
use super::super::support::query::QueryApi;
use super::super::support::server::Server;
use super::super::support::write::{compress, series_of};
use super::super::support::{leave_out, now_ms};
use super::Prometheus;

/// prometheus.ReadRequest, with one query for one name.
#[derive(Clone, PartialEq, prost::Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Query {
    #[prost(int64, tag = "1")]
    start_ms: i64,
    #[prost(int64, tag = "2")]
    end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<Matcher>,
    /// Hints, which may be anything.
    #[prost(bytes, tag = "4")]
    hints: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Matcher {
    #[prost(int32, tag = "1")]
    op: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

fn fill(server: &Server, now_ms: i64) {
    let of = |pod: usize| {
        let samples: Vec<(i64, f64)> =
            (0..300).map(|at| (now_ms - 300_000 + at * 1000, at as f64 + pod as f64)).collect();
        series_of(&[("__name__", "requests"), ("pod", &pod.to_string())], &samples)
    };
    server.sender().store(&(0..5).map(of).collect::<Vec<_>>());
}

#[test]
fn a_prometheus_reads_what_annulus_has() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let configuration = format!(
        "remote_read: [{{url: \"http://{}/api/v1/read\", read_recent: true}}]",
        server.addresses.query
    );
    let Some(prometheus) = Prometheus::start(home.path(), &configuration) else {
        return leave_out("a Prometheus with remote read", "prometheus is not installed");
    };
    let now_ms = now_ms();
    fill(&server, now_ms);
    // Off the grid of the samples, where both select the same of a range.
    let time_ms = now_ms - 500;
    for query in [
        "requests",
        "requests{pod=~\"[12]\"}",
        "requests{pod!~\"[12].*\",tenant_id=\"default-tenant\"}[1m]",
        "sum by (pod) (rate(requests[1m]))",
        "count(requests{pod!=\"0\"})",
    ] {
        let ours = server.query().instant(query, time_ms);
        assert!(!ours.is_empty(), "{query}");
        assert_eq!(QueryApi(prometheus.address).instant(query, time_ms), ours, "{query}");
    }
    let wrong =
        post_form(prometheus.address, "/api/v1/query", &[("query", "requests{pod=~\"(?:\"}")]).unwrap();
    assert_eq!(wrong.status, 400);
}

#[test]
fn chunks_are_sent_as_frames_with_their_checksums() {
    let server = Server::start_with(&["--storage.remote.read-max-bytes-in-frame=1KiB"]);
    let now_ms = now_ms();
    fill(&server, now_ms);
    let matcher = Matcher { op: 0, name: "__name__".to_owned(), value: "requests".to_owned() };
    let query = Query { start_ms: 0, end_ms: now_ms, matchers: vec![matcher], hints: vec![0x1a, 1, b'x'] };
    let request = ReadRequest { queries: vec![query], accepted: vec![1, 0] };
    let body = compress(&request.encode_to_vec());
    let response = Client::new(server.addresses.query).send("POST", "/api/v1/read", &[], &body).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.header("content-type").unwrap().starts_with("application/x-streamed-protobuf"));
    let (mut rest, mut frames) = (&response.body[..], 0);
    while !rest.is_empty() {
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let checksum = u32::from_be_bytes(rest[..4].try_into().unwrap());
        assert_eq!(checksum, crc32c::crc32c(&rest[4..4 + length]));
        rest = &rest[4 + length..];
        frames += 1;
    }
    assert!(frames >= 5, "{frames} frames for 5 series");
    let limited = Server::start_with(&["--storage.remote.read-sample-limit=10"]);
    fill(&limited, now_ms);
    let request = ReadRequest { accepted: vec![], ..request };
    let body = compress(&request.encode_to_vec());
    let response = Client::new(limited.addresses.query).send("POST", "/api/v1/read", &[], &body).unwrap();
    assert_eq!((response.status, response.text().as_str()), (400, "exceeded sample limit (10)\n"));
}
