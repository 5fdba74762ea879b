//! Requests that are refused: the status, the text, and that nothing else suffers.

use super::support::http::{Client, Response, get};
use super::support::now_ms;
use super::support::server::Server;
use super::support::write::{HEADERS, TimeSeries, body, compress, message, series, series_of};

/// A refused request must not cost memory that its size does not justify.
const RESIDENT_GROWTH_BYTES_MAX: u64 = 48 << 20;

/// Sends a body that must be refused, then checks that the server still stores and answers.
fn refused(server: &Server, body: &[u8]) -> Response {
    let response = server.sender().send_body(body).unwrap();
    assert!(!response.text().is_empty(), "a refusal says why");
    assert_serves(server);
    response
}

fn assert_serves(server: &Server) {
    let now = now_ms();
    server.sender().store(&[series("serves", "1", &[(now, 1.5)])]);
    assert_eq!(server.query().value("serves", now), Some(1.5));
}

#[test]
fn a_body_that_is_not_snappy_gets_400() {
    let server = Server::start();
    let plain = message(&[series("m", "1", &[(1, 1.0)])]);
    assert_eq!(refused(&server, &plain).status, 400);
    assert_eq!(refused(&server, b"").status, 400);
    assert_eq!(refused(&server, &[0xff; 100]).status, 400);
}

#[test]
fn truncated_snappy_gets_400() {
    let server = Server::start();
    let whole = body(&[series("m", "1", &[(1, 1.0), (2, 2.0)])]);
    let mut sender = server.sender();
    for length in 1..whole.len() {
        let response = sender.send_body(&whole[..length]).unwrap();
        assert_eq!(response.status, 400, "{length} of {} bytes: {}", whole.len(), response.text());
    }
    assert_serves(&server);
}

#[test]
fn a_decompression_bomb_gets_413_and_takes_no_memory() {
    let server = Server::start();
    assert_serves(&server);
    let before = server.process.resident_bytes();
    // The declared size alone, with a body that has nothing of the kind.
    let mut declared = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    declared.extend([0; 1000]);
    assert_eq!(refused(&server, &declared).status, 413);
    // A true one: 400 MB of zeros in 19 MB, or what the limit of the body lets through of it.
    let bomb = compress(&vec![0; 400 << 20]);
    assert_eq!(refused(&server, &bomb).status, 413);
    let growth = server.process.resident_bytes().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_BYTES_MAX, "{growth} bytes more than before");
}

#[test]
fn what_is_not_protobuf_gets_400() {
    let server = Server::start();
    for text in [&b"{\"streams\": []}"[..], b"\xff\xff\xff\xff", b"\x0a\x7f short"] {
        let response = refused(&server, &compress(text));
        assert_eq!(response.status, 400, "{text:?}: {}", response.text());
    }
}

#[test]
fn wrong_field_types_get_400() {
    let server = Server::start();
    for text in [
        &[0x08, 0x01][..],                  // WriteRequest.timeseries as a varint
        &[0x0a, 0x02, 0x08, 0x01],          // TimeSeries.labels as a varint
        &[0x0a, 0x04, 0x12, 0x02, 0x08, 1], // Sample.value as a varint
        &[0x0a, 0x04, 0x12, 0x02, 0x12, 0], // Sample.timestamp as bytes
        &[0x0a, 0x02, 0x10, 0x01],          // TimeSeries.samples as a varint
        &[0x0b, 0x0c],                      // a group
    ] {
        let response = refused(&server, &compress(text));
        assert_eq!(response.status, 400, "{text:x?}: {}", response.text());
    }
}

/// Sends one bad label set between two good series: 409, the text names it, and both good ones are stored.
fn assert_only_labels_refused(bad: TimeSeries) {
    let server = Server::start();
    let now = now_ms();
    let batch = [series("before", "1", &[(now, 1.0)]), bad, series("after", "1", &[(now, 2.0)])];
    let response = server.sender().send(&batch).unwrap();
    assert_eq!(response.status, 409, "{}", response.text());
    assert!(response.text().contains("invalid label set"), "{}", response.text());
    assert!(response.text().contains("2 samples stored"), "{}", response.text());
    assert_eq!(server.query().value("before", now), Some(1.0));
    assert_eq!(server.query().value("after", now), Some(2.0));
    assert_eq!(server.query().value("count({__name__=~\".+\",__name__!~\"before|after\"})", now), None);
}

#[test]
fn a_series_without_labels_is_refused_alone() {
    assert_only_labels_refused(series_of::<&str>(&[], &[(now_ms(), 1.0)]));
}

#[test]
fn empty_label_names_and_values_are_refused_alone() {
    assert_only_labels_refused(series_of(&[("", "x"), ("__name__", "m")], &[(now_ms(), 1.0)]));
    assert_only_labels_refused(series_of(&[("__name__", "m"), ("id", "")], &[(now_ms(), 1.0)]));
}

#[test]
fn duplicate_labels_are_refused_alone() {
    let labels = [("__name__", "m"), ("id", "1"), ("id", "1")];
    assert_only_labels_refused(series_of(&labels, &[(now_ms(), 1.0)]));
}

#[test]
fn unsorted_labels_are_refused_alone() {
    assert_only_labels_refused(series_of(&[("id", "1"), ("__name__", "m")], &[(now_ms(), 1.0)]));
}

#[test]
fn a_series_without_a_metric_name_is_refused_alone() {
    assert_only_labels_refused(series_of(&[("id", "1"), ("job", "j")], &[(now_ms(), 1.0)]));
}

#[test]
fn labels_that_are_not_utf8_are_refused_alone() {
    let labels = [(&b"__name__"[..], &b"m"[..]), (b"id", b"\xff\xfe")];
    assert_only_labels_refused(series_of(&labels, &[(now_ms(), 1.0)]));
}

#[test]
fn a_body_of_100_megabytes_gets_413_early_and_takes_no_memory() {
    let server = Server::start();
    assert_serves(&server);
    let before = server.process.resident_bytes();
    let head = "POST /api/v1/receive HTTP/1.1\r\nHost: x\r\nContent-Encoding: snappy\r\n";
    let by_length = format!("{head}Content-Length: {}\r\n\r\n", 100 << 20);
    let by_chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for (head, is_chunked) in [(by_length, false), (by_chunks, true)] {
        let response = send_megabytes(&server, &head, 100, is_chunked);
        assert_eq!(response.map(|response| response.status), Some(413), "{head:?}");
    }
    assert_serves(&server);
    let growth = server.process.resident_bytes().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_BYTES_MAX, "{growth} bytes more than before");
}

/// Sends a head and up to `megabytes` of body, looking for an answer in between as a sender does that reads
/// while it writes. `None` if the connection broke without an answer.
fn send_megabytes(server: &Server, head: &str, megabytes: usize, is_chunked: bool) -> Option<Response> {
    use std::io::{BufReader, Write};
    let mut stream = super::support::http::connect(server.addresses.write).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut piece = vec![0; 1 << 20];
    if is_chunked {
        piece.splice(0..0, format!("{:x}\r\n", 1 << 20).bytes());
        piece.extend(b"\r\n");
    }
    stream.set_read_timeout(Some(std::time::Duration::from_millis(10))).unwrap();
    for _ in 0..megabytes {
        if stream.peek(&mut [0]).is_ok_and(|count| count == 1) || stream.write_all(&piece).is_err() {
            break;
        }
    }
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    super::support::http::read_response(&mut BufReader::new(stream)).ok()
}

#[test]
fn a_conflicting_duplicate_gets_409_and_a_retry_200() {
    let server = Server::start();
    let now = now_ms();
    let first = [series("m", "1", &[(now, 1.0)])];
    server.sender().store(&first);
    server.sender().store(&first);
    let response = server.sender().send(&[series("m", "1", &[(now, 2.0)])]).unwrap();
    assert_eq!(response.status, 409);
    assert!(response.text().contains("duplicate sample for timestamp"), "{}", response.text());
    assert_eq!(server.query().value("m", now), Some(1.0));
}

#[test]
fn an_out_of_order_sample_gets_409_and_the_rest_is_stored() {
    let server = Server::start_with(&["--tsdb.out-of-order.time-window=0s"]);
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now, 1.0)])]);
    let batch =
        [series("m", "1", &[(now - 5000, 9.0), (now + 1000, 2.0)]), series("m", "2", &[(now - 5000, 3.0)])];
    let response = server.sender().send(&batch).unwrap();
    assert_eq!(response.status, 409);
    assert!(response.text().contains("1 samples: out of order sample"), "{}", response.text());
    assert!(response.text().contains("2 samples stored"), "{}", response.text());
    let stored = server.query().instant("m[1m]", now + 1000);
    let samples: Vec<_> = stored.values().cloned().collect();
    assert_eq!(samples, [vec![(now, 1.0), (now + 1000, 2.0)], vec![(now - 5000, 3.0)]]);
}

#[test]
fn other_methods_and_versions_are_told_so() {
    let server = Server::start();
    let address = server.addresses.write;
    assert_eq!(get(address, "/api/v1/receive").unwrap().status, 405);
    assert_eq!(get(address, "/no/such/path").unwrap().status, 404);
    let version_3 = [
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v3.Request"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "3.0.0"),
    ];
    let response = Client::new(address).send("POST", "/api/v1/receive", &version_3, b"\0").unwrap();
    assert_eq!(response.status, 415, "{}", response.text());
}

#[test]
fn every_path_of_every_listener_takes_a_write() {
    let server = Server::start();
    let now = now_ms();
    let mut id = 0;
    for address in [server.addresses.write, server.addresses.grpc] {
        for path in ["/api/v1/receive", "/api/v1/write", "/api/v1/push"] {
            id += 1;
            let body = body(&[series("m", &id.to_string(), &[(now, 1.0)])]);
            let response = Client::new(address).send("POST", path, &HEADERS, &body).unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, ""), "{path} on {address}");
        }
    }
    assert_eq!(server.query().value("count(m)", now), Some(6.0));
}
