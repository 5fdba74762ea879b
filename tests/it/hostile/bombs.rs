//! Small requests that say, or become, large ones.

use std::io::{BufReader, Write};

use super::super::support::http::{connect, read_response};
use super::super::support::now_ms;
use super::super::support::server::Server;
use super::super::support::write::{compress, series};
use super::connection::{Connection, Request};
use super::content::{Encoding, KINDS, Protocol, headers, zstd_zeros};

/// The limits of these servers.
const FLAGS: [&str; 2] = ["--receive.max-body-bytes=1MiB", "--receive.max-decoded-bytes=4MiB"];

const BODY_BYTES_MAX: u64 = 1 << 20;
const DECODED_BYTES_MAX: usize = 4 << 20;

/// A refused request must not cost memory that the limits do not justify.
const RESIDENT_GROWTH_BYTES_MAX: u64 = 48 << 20;

fn assert_refused_without_memory(requests: Vec<(Request, u16)>) {
    let server = Server::start_with(&FLAGS);
    let before = server.process.resident_bytes();
    let mut connection = Connection::new(server.addresses.write);
    for (request, status) in requests {
        let response = connection.send(&request).unwrap().unwrap();
        let headers = String::from_utf8_lossy(&request.headers[1].1).into_owned();
        assert_eq!(response.status, status, "{} {headers}: {}", request.path, response.text());
        server.sender().store(&[series("meanwhile", "1", &[(now_ms(), 1.0)])]);
    }
    let growth = server.process.resident_bytes().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_BYTES_MAX, "{growth} bytes more than before");
}

fn request(protocol: Protocol, encoding: Encoding, body: Vec<u8>) -> Request {
    Request { path: protocol.path(), headers: headers(protocol, encoding, "t"), body, announced_bytes: None }
}

#[test]
fn a_length_far_over_the_limit_gets_413_before_the_body_comes() {
    let server = Server::start_with(&FLAGS);
    let before = server.process.resident_bytes();
    let mut streams = Vec::new();
    for (protocol, encoding) in KINDS {
        for factor in [10, 1000] {
            let mut request = request(protocol, encoding, vec![0; 1000]);
            request.announced_bytes = Some(factor * BODY_BYTES_MAX);
            let mut stream = connect(server.addresses.write).unwrap();
            stream.write_all(&request.bytes()).unwrap();
            streams.push((protocol, stream));
        }
    }
    // The receiver waits for the rest for some seconds, so that a sender that still sends gets the answer.
    for (protocol, stream) in streams {
        let response = read_response(&mut BufReader::new(stream)).unwrap();
        assert_eq!(response.status, 413, "{protocol:?}: {}", response.text());
    }
    server.sender().store(&[series("meanwhile", "1", &[(now_ms(), 1.0)])]);
    let growth = server.process.resident_bytes().saturating_sub(before);
    assert!(growth < RESIDENT_GROWTH_BYTES_MAX, "{growth} bytes more than before");
}

#[test]
fn a_size_that_is_only_declared_is_refused() {
    let snappy = |bytes: u64| {
        let mut body = Vec::new();
        super::message::put_varint(&mut body, bytes);
        body.extend([0; 100]);
        body
    };
    // A frame that says how long its text is, in eight bytes, and has one segment.
    let zstd = |bytes: u64| [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &bytes.to_le_bytes(), &[1, 0, 0]].concat();
    let mut requests = Vec::new();
    for protocol in [Protocol::First, Protocol::Second] {
        for factor in [10, 1000] {
            let bytes = factor * DECODED_BYTES_MAX as u64;
            requests.push((request(protocol, Encoding::Snappy, snappy(bytes)), 413));
            requests.push((request(protocol, Encoding::Zstd, zstd(bytes)), 413));
        }
        requests.push((request(protocol, Encoding::Snappy, snappy(u64::from(u32::MAX))), 413));
        // The largest number is the library's sign for no size at all; the window is too large then.
        requests.push((request(protocol, Encoding::Zstd, zstd(u64::MAX)), 400));
    }
    assert_refused_without_memory(requests);
}

#[test]
fn a_body_that_grows_a_thousandfold_gets_413() {
    let mut requests = Vec::new();
    for factor in [2, 4] {
        let zeros = vec![0; factor * DECODED_BYTES_MAX];
        for protocol in [Protocol::First, Protocol::Second] {
            requests.push((request(protocol, Encoding::Snappy, compress(&zeros)), 413));
            requests
                .push((request(protocol, Encoding::Zstd, zstd_zeros(factor * 50 * DECODED_BYTES_MAX)), 413));
        }
        requests.push((request(Protocol::Otlp, Encoding::Gzip, Encoding::Gzip.apply(&zeros)), 413));
    }
    let gigabyte = Encoding::Gzip.apply(&vec![0; 200 * DECODED_BYTES_MAX]);
    assert!(gigabyte.len() > BODY_BYTES_MAX as usize, "it would not be refused for its length");
    requests.push((request(Protocol::Otlp, Encoding::Gzip, gigabyte), 413));
    assert_refused_without_memory(requests);
}
