//! Connections that behave badly, and the protocols that share one port.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::http::{connect, read_response};
use super::support::metrics::metric;
use super::support::server::Server;
use super::support::write::{HEADERS, body, series};
use super::support::{leave_out, now_ms, wait_for, wait_until};

/// The limit that these tests give the server for a request to arrive.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(2);

fn server() -> Server {
    Server::start_with(&["--receive.request-timeout=2s"])
}

fn head(length: usize) -> Vec<u8> {
    let mut head = format!("POST /api/v1/receive HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
    for (name, value) in HEADERS {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Writes go through while a bad connection is open.
fn assert_serves(server: &Server) {
    let started = Instant::now();
    let now = now_ms();
    for round in 0..20 {
        server.sender().store(&[series("meanwhile", "1", &[(now + round, 1.0)])]);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "20 writes took {:?}", started.elapsed());
}

/// Reads until the server closes; fails when it takes longer than the limit and some slack for a busy machine.
fn assert_closed_in_time(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(RECEIVE_TIMEOUT + Duration::from_secs(10))).unwrap();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
            panic!("the server keeps the connection open")
        }
        _ => answer,
    }
}

#[test]
fn the_shards_share_the_connections_evenly() {
    let server = Server::start_with(&["--shards=3"]);
    let mut senders: Vec<_> = (0..12).map(|_| server.sender()).collect();
    let now = now_ms();
    for (number, sender) in (0..).zip(&mut senders) {
        sender.store(&[series("m", "1", &[(now + number, 1.0)])]);
    }
    let count = |shard: usize| {
        let series = format!("annulus_connections{{shard=\"{shard}\"}}");
        metric(server.addresses.write, &series).unwrap()
    };
    // The connections that ask are counted too, and those that have asked end some time later.
    wait_until("even shares", Duration::from_secs(10), || {
        let counts: Vec<f64> = (0..3).map(count).collect();
        let are_even = counts.iter().all(|count| (4.0..=5.0).contains(count));
        are_even.then_some(()).ok_or_else(|| format!("connections of the shards: {counts:?}"))
    });
}

#[test]
fn a_sender_that_stops_inside_the_body_is_cut_off_and_told_to_retry() {
    let server = server();
    let body = body(&[series("m", "1", &[(now_ms(), 1.0)])]);
    let mut stalled = connect(server.addresses.write).unwrap();
    stalled.write_all(&head(body.len())).unwrap();
    stalled.write_all(&body[..body.len() / 2]).unwrap();
    assert_serves(&server);
    let response = read_response(&mut BufReader::new(stalled)).unwrap();
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.header("retry-after").is_some());
    assert_eq!(server.query().value("m", now_ms()), None);
}

#[test]
fn a_sender_that_drips_bytes_is_cut_off() {
    let server = server();
    let mut slow = connect(server.addresses.write).unwrap();
    slow.write_all(&head(1000)).unwrap();
    let started = Instant::now();
    // A byte at a time keeps every idle timer quiet: only a limit on the whole request ends this.
    while slow.write_all(b"x").is_ok() && slow.peek_answer().is_none() {
        assert!(started.elapsed() < RECEIVE_TIMEOUT + Duration::from_secs(10), "the server waits for ever");
    }
    assert_serves(&server);
}

trait PeekAnswer {
    /// Whether an answer or the end of the connection has arrived, after a short wait.
    fn peek_answer(&self) -> Option<()>;
}

impl PeekAnswer for TcpStream {
    fn peek_answer(&self) -> Option<()> {
        self.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        self.peek(&mut [0]).ok().map(|_| ())
    }
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let server = server();
    let mut stalled = connect(server.addresses.write).unwrap();
    stalled.write_all(b"POST /api/v1/receive HTTP/1.1\r\nHost: x\r\nX-A: ").unwrap();
    let silent = connect(server.addresses.write).unwrap();
    assert_serves(&server);
    assert_closed_in_time(stalled);
    // A connection that sends nothing at all holds a descriptor as well.
    assert_closed_in_time(silent);
}

#[test]
fn a_huge_head_is_refused() {
    let server = server();
    let mut stream = connect(server.addresses.write).unwrap();
    let line = format!("X-Filler: {}\r\n", "x".repeat(8000));
    let _ = stream.write_all(b"POST /api/v1/receive HTTP/1.1\r\nHost: x\r\n");
    let refused = (0..1000).any(|_| stream.write_all(line.as_bytes()).is_err());
    let answer = assert_closed_in_time(stream);
    assert!(refused || answer.starts_with(b"HTTP/1.1 4"), "8 MB of headers were taken");
    assert_serves(&server);
}

#[test]
fn a_half_closed_connection_still_gets_its_answer() {
    let server = server();
    let now = now_ms();
    let whole = body(&[series("m", "1", &[(now, 1.0)])]);
    let mut stream = connect(server.addresses.write).unwrap();
    stream.write_all(&[head(whole.len()), whole].concat()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let response = read_response(&mut BufReader::new(stream)).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(server.query().value("m", now), Some(1.0));
}

#[test]
fn a_connection_closed_inside_the_body_stores_nothing() {
    let server = server();
    let now = now_ms();
    let whole = body(&[series("m", "1", &[(now, 1.0)])]);
    for length in [0, 1, whole.len() - 1] {
        let mut stream = connect(server.addresses.write).unwrap();
        stream.write_all(&head(whole.len())).unwrap();
        stream.write_all(&whole[..length]).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    assert_serves(&server);
    assert_eq!(server.query().value("m", now), None);
}

#[test]
fn bytes_that_are_no_http_end_the_connection() {
    let server = server();
    for text in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0", b"hello\r\n\r\n"] {
        let mut stream = connect(server.addresses.write).unwrap();
        stream.write_all(text).unwrap();
        assert_closed_in_time(stream);
    }
    // The preface of HTTP/2, and then no frame.
    let mut stream = connect(server.addresses.write).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff").unwrap();
    assert_closed_in_time(stream);
    assert_serves(&server);
}

#[test]
fn many_connections_are_served_side_by_side() {
    let server = server();
    let idle: Vec<_> = (0..500).map(|_| connect(server.addresses.write).unwrap()).collect();
    assert_serves(&server);
    drop(idle);
    assert_serves(&server);
}

#[test]
fn http_1_and_http_2_share_each_port() {
    let server = server();
    if Command::new("curl").arg("--version").output().is_err() {
        return leave_out("http_1_and_http_2_share_each_port", "curl is not installed");
    }
    let now = now_ms();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("body");
    for (index, address) in [server.addresses.write, server.addresses.grpc].into_iter().enumerate() {
        for protocol in ["--http1.1", "--http2-prior-knowledge"] {
            let id = format!("{index}{protocol}");
            std::fs::write(&file, body(&[series("m", &id, &[(now, 1.0)])])).unwrap();
            let mut curl = Command::new("curl");
            curl.args([
                "--silent",
                "--max-time",
                "20",
                protocol,
                "--write-out",
                "%{http_code} %{http_version}",
            ]);
            for (name, value) in HEADERS {
                curl.args(["--header", &format!("{name}: {value}")]);
            }
            curl.arg("--data-binary").arg(format!("@{}", file.display()));
            let output = curl.arg(format!("http://{address}/api/v1/receive")).output().unwrap();
            let version = if protocol == "--http1.1" { "1.1" } else { "2" };
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("200 {version}"), "{address}");
        }
    }
    assert_eq!(server.query().value("count(m)", now), Some(4.0));
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let server = Server::start_with(&["--shards=2", "--receive.max-connections=4"]);
    let open: Vec<TcpStream> = (0..12).map(|_| connect(server.addresses.write).unwrap()).collect();
    open.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let is_closed = |mut stream: &TcpStream| match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    wait_for("those beyond the limit are closed", Duration::from_secs(30), || {
        (open.iter().filter(|stream| is_closed(stream)).count() >= 8).then_some(())
    });
    assert!(open.iter().any(|stream| !is_closed(stream)), "the first ones stay");
    drop(open);
    wait_for("they are counted", Duration::from_secs(30), || {
        let refused = metric(server.addresses.write, "annulus_http_connections_refused_total")?;
        (refused >= 8.0).then_some(())
    });
    assert_serves(&server);
}
