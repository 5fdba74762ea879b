//! The whole ingest plane in one process: real executors, files and sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use futures::executor::block_on;

use super::*;
use crate::chunk::{decode, decode_histogram};
use crate::core::handle::Job;
use crate::core::read::ReadJob;
use crate::core::{HeadSeries, ReadBudget, ReadRequest, Readiness, load_chunks};
use crate::matcher::{MatchOp, Matcher};
use crate::wire::{canonical_label_bytes, put_varint};

/// Says why the test was left out when the kernel does not let it run.
macro_rules! needs_io_uring {
    () => {
        if let Err(error) = preflight(2) {
            eprintln!("left out: {error}");
            return;
        }
    };
}

fn config(directory: &Path) -> NodeConfig {
    NodeConfig {
        data_dir: directory.to_owned(),
        shards: Some(2),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ring_bytes: 1 << 20,
        body_bytes_max: 1 << 20,
        decoded_bytes_max: 8 << 20,
        inflight_bytes_max: 64 << 20,
        connections_max: None,
        receive_timeout: Duration::from_secs(2),
        head_bytes_max: 1 << 30,
        extras: ExtraLimits::default(),
        windows: TimeWindows { block_ms: 7_200_000, out_of_order_ms: 0, future_ms: 0 },
        free_bytes_min: 0,
        tenant_header: "THANOS-TENANT".to_owned(),
        default_tenant: "default-tenant".to_owned(),
        rules: IngestRules::default(),
        otlp: Default::default(),
    }
}

fn start(config: NodeConfig) -> Node {
    let node = Node::start(config, Registry::new()).unwrap();
    let began = crate::rt::monotonic_now();
    while node.handle().readiness() != Readiness::Ready {
        assert_eq!(node.failed(), None);
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", node.handle().readiness());
        std::thread::yield_now();
    }
    node
}

/// A prometheus.WriteRequest; one sample per entry.
fn body<'a>(samples: impl IntoIterator<Item = (Vec<(&'a str, String)>, i64, f64)>) -> Vec<u8> {
    let mut body = Vec::new();
    for (labels, timestamp_ms, value) in samples {
        let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut series = canonical_label_bytes(&labels);
        let mut sample = vec![0x09];
        sample.extend(value.to_le_bytes());
        sample.push(0x10);
        put_varint(&mut sample, timestamp_ms as u64);
        series.push(0x12);
        put_varint(&mut series, sample.len() as u64);
        series.extend(sample);
        body.push(0x0a);
        put_varint(&mut body, series.len() as u64);
        body.extend(series);
    }
    body
}

fn labels(number: usize) -> Vec<(&'static str, String)> {
    vec![("__name__", "up".to_owned()), ("instance", format!("host-{number}"))]
}

fn read(node: &Node, matchers: Vec<Matcher>) -> Vec<HeadSeries> {
    let request =
        ReadRequest { tenants: vec![], matchers, min_ms: i64::MIN, max_ms: i64::MAX, skip_chunks: false };
    block_on(node.handle().select(request, 1 << 30)).unwrap()
}

fn samples(node: &Node) -> Vec<(String, i64, u64)> {
    let mut all = Vec::new();
    let mut found = read(node, vec![]);
    load_chunks(&mut found).unwrap();
    for series in found {
        let instance = series.labels.get("instance").unwrap();
        for chunk in series.chunks {
            let each = |at_ms, value: f64| all.push((instance.to_owned(), at_ms, value.to_bits()));
            decode(chunk.encoding, chunk.bytes.loaded().unwrap(), each).unwrap();
        }
    }
    all.sort();
    all
}

fn write(node: &Node, body: Vec<u8>) -> u16 {
    block_on(node.handle().write("default-tenant", body)).status.as_u16()
}

fn http(node: &Node, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n{length}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut round = 0i64;
    // Some 13 MB of records through two rings of 1 MB: the checkpoints have to keep up.
    for restart in 0..3 {
        let node = start(config(temp.path()));
        assert_eq!(samples(&node), expected, "after restart {restart}");
        for _ in 0..150 {
            round += 1;
            let rows = (0..500).map(|number| (labels(number), round * 1000, (round * 7) as f64 / 3.0));
            let mut tries = 0;
            while write(&node, body(rows.clone())) != 200 {
                tries += 1;
                assert!(tries < 100_000, "the ring stays full");
                std::thread::yield_now();
            }
            expected.extend(rows.map(|(labels, at_ms, value)| (labels[1].1.clone(), at_ms, value.to_bits())));
        }
        expected.sort();
        assert_eq!(samples(&node), expected);
        if restart < 2 {
            node.stop(Duration::from_secs(5)).unwrap();
        }
    }
}

#[test]
fn answers_follow_the_table() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(config(temp.path()));
    let post = "POST /api/v1/receive HTTP/1.1";
    let send = |body: &[u8]| http(&node, post, &snappy(body));
    let one = |at_ms, value| body([(labels(1), at_ms, value)]);
    assert!(send(&one(1000, 1.0)).starts_with("HTTP/1.1 200"));
    assert!(send(&one(1000, 1.0)).starts_with("HTTP/1.1 200"), "a retry");
    let conflict = send(&one(1000, 2.0));
    assert!(
        conflict.starts_with("HTTP/1.1 409") && conflict.contains("duplicate sample for timestamp"),
        "{conflict}"
    );
    assert!(send(&one(2000, 1.0)).starts_with("HTTP/1.1 200"));
    let late = send(&body([(labels(1), 1500, 1.0), (labels(2), 1500, 1.0)]));
    assert!(late.starts_with("HTTP/1.1 409") && late.contains("1 samples stored"), "{late}");
    assert_eq!(samples(&node).len(), 3);
    assert!(http(&node, post, b"not snappy").starts_with("HTTP/1.1 400"));
    assert!(send(b"\xff\xff\xff").starts_with("HTTP/1.1 400"));
    assert!(http(&node, post, &vec![0; 2 << 20]).starts_with("HTTP/1.1 413"));
    assert!(http(&node, "GET /api/v1/write HTTP/1.1", b"").starts_with("HTTP/1.1 405"));
    assert!(http(&node, "GET /nothing HTTP/1.1", b"").starts_with("HTTP/1.1 404"));
    assert!(http(&node, "GET /-/healthy HTTP/1.1", b"").ends_with("\r\n\r\nOK"));
    assert!(http(&node, "GET /-/ready HTTP/1.1", b"").ends_with("\r\n\r\nOK"));
    let metrics = http(&node, "GET /metrics HTTP/1.1", b"");
    let requests =
        r#"http_requests_total{code="409",handler="receive",method="post",tenant="default-tenant"} 2"#;
    assert!(metrics.contains(requests), "{metrics}");
    let other = http(&node, "POST /api/v1/push HTTP/1.1\r\nthanos-tenant: team-a", &snappy(&one(5, 5.0)));
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    let tenant = Matcher::new(MatchOp::Equal, "tenant_id", "team-a").unwrap();
    let request =
        ReadRequest { tenants: vec![tenant], matchers: vec![], min_ms: 0, max_ms: 10, skip_chunks: true };
    assert_eq!(block_on(node.handle().select(request.clone(), 1 << 20)).unwrap().len(), 1);
    let values =
        |request: &ReadRequest| block_on(node.handle().label_values(request.clone(), "instance".into()));
    assert_eq!(values(&request).unwrap()[0].texts, ["host-1"]);
    let later = ReadRequest { min_ms: 6, ..request.clone() };
    assert!(
        values(&later).unwrap().is_empty()
            && values(&ReadRequest { max_ms: 4, ..later.clone() }).unwrap().is_empty()
    );
    assert!(block_on(node.handle().label_names(later)).unwrap().is_empty());
    // Costly patterns, on the names of tenants and on values of labels.
    let regex = |name: &str, pattern: &str| Matcher::new(MatchOp::Regex, name, pattern).unwrap();
    let matching = |tenant: &str, instance: &str| {
        let (tenants, matchers) = (vec![regex("t", tenant)], vec![regex("instance", instance)]);
        block_on(node.handle().select(ReadRequest { tenants, matchers, ..request.clone() }, 1 << 20))
            .unwrap()
            .len()
    };
    assert_eq!(matching("(team|other)-[ab]", "h.st-[0-9]"), 1);
    assert_eq!(matching("(team|other)-[ab]", "h.st-[a-z]"), 0);
    assert_eq!(matching("(team|other)-[cd]", "h.st-[0-9]"), 0);
    node.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn one_label_set_is_one_series_whatever_the_encoding() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(config(temp.path()));
    for number in 0..50 {
        assert_eq!(write(&node, body([(labels(number), 1, 1.0)])), 200);
        // The same labels with the value before the name, and then a later sample.
        let mut series = Vec::new();
        for (name, value) in labels(number) {
            let mut label = vec![0x12];
            put_varint(&mut label, value.len() as u64);
            label.extend(value.as_bytes());
            label.push(0x0a);
            put_varint(&mut label, name.len() as u64);
            label.extend(name.as_bytes());
            series.push(0x0a);
            put_varint(&mut series, label.len() as u64);
            series.extend(label);
        }
        series.extend([0x12, 2, 0x10, 2]);
        let mut odd = vec![0x0a];
        put_varint(&mut odd, series.len() as u64);
        odd.extend(series);
        assert_eq!(write(&node, odd), 200);
    }
    assert_eq!(read(&node, vec![]).len(), 50);
    assert_eq!(samples(&node).len(), 100);
    node.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_second_node_on_the_same_directory_or_port_is_refused() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(config(temp.path()));
    let error = Node::start(config(temp.path()), Registry::new()).err().unwrap().to_string();
    assert!(error.contains("in use"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let taken = NodeConfig { listen: node.addresses().to_vec(), ..config(other.path()) };
    let error = Node::start(taken, Registry::new()).err().unwrap().to_string();
    assert!(error.starts_with("cannot listen on 127.0.0.1:"), "{error}");
    node.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn series_without_end_meet_the_limit_of_the_head() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(NodeConfig { head_bytes_max: 8 << 20, ring_bytes: 16 << 20, ..config(temp.path()) });
    let mut stored = 0;
    let refused = loop {
        assert!(stored < 100_000, "the head has no limit");
        let batch = body((stored..stored + 500).map(|number| (labels(number), 1, 1.0)));
        let answer = block_on(node.handle().write("default-tenant", batch));
        if answer.status.as_u16() != 200 {
            break answer;
        }
        stored += 500;
    };
    assert_eq!((refused.status.as_u16(), refused.retry_after_seconds), (503, Some(30)), "{}", refused.text);
    assert!(read(&node, vec![]).len() >= stored);
    node.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_shard_that_cannot_start_refuses_at_once() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    start(config(temp.path())).stop(Duration::from_secs(5)).unwrap();
    std::fs::write(temp.path().join("shard-1/wal"), vec![0xee; 1 << 20]).unwrap();
    let node = Node::start(config(temp.path()), Registry::new()).unwrap();
    while node.failed().is_none() {
        std::thread::yield_now();
    }
    let rows = body((0..50).map(|number| (labels(number), 1, 1.0)));
    let answer = http(&node, "POST /api/v1/receive HTTP/1.1", &snappy(&rows));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"), "{answer}");
    let request = ReadRequest { tenants: vec![], matchers: vec![], min_ms: 0, max_ms: 1, skip_chunks: true };
    let error = block_on(node.handle().select(request, 1 << 20)).unwrap_err();
    assert!(matches!(error, crate::core::ReadError::Unavailable { .. }), "{error}");
    node.stop(Duration::from_secs(5)).unwrap();
}

/// One time series with `count` samples of no content, which are two bytes each.
fn empty_samples(label_bytes: &[u8], count: usize) -> Vec<u8> {
    let mut series = label_bytes.to_vec();
    series.extend([0x12, 0].repeat(count));
    let mut body = vec![0x0a];
    put_varint(&mut body, series.len() as u64);
    body.extend(series);
    body
}

#[test]
fn large_labels_are_parsed_once_for_all_samples_of_a_series() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(config(temp.path()));
    let names: Vec<String> = (0..1000).map(|number| format!("label_{number:04}")).collect();
    let value = "x".repeat(200);
    // No metric name, so none of them can be stored.
    let labels: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let bad = empty_samples(&canonical_label_bytes(&labels), 100_000);
    let began = crate::rt::monotonic_now();
    let answer = http(&node, "POST /api/v1/receive HTTP/1.1", &snappy(&bad));
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("100000 samples"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    node.stop(Duration::from_secs(5)).unwrap();
}

/// A request with one series of native histograms: of each its time, its count and how many of them are in a bucket.
fn histograms(all: &[(u8, u8, u8)]) -> Vec<u8> {
    let mut series = canonical_label_bytes(&[("__name__", "latency"), ("job", "a")]);
    for (time_ms, count, in_buckets) in all {
        let mut message = vec![0x08, *count, 0x19];
        message.extend(f64::from(*count).to_le_bytes());
        message.extend([0x30, *in_buckets, 0x78, *time_ms]);
        series.extend([0x22, message.len() as u8]);
        series.extend(message);
    }
    let mut body = vec![0x0a];
    put_varint(&mut body, series.len() as u64);
    body.extend(series);
    body
}

#[test]
fn native_histograms_are_there_after_a_restart_and_wrong_ones_are_refused() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(config(temp.path()));
    let found = |node: &Node| {
        let mut found = Vec::new();
        for chunk in read(node, Vec::new()).into_iter().flat_map(|series| series.chunks) {
            let bytes = chunk.bytes.loaded().unwrap();
            decode_histogram(chunk.encoding, bytes, |time_ms, histogram| {
                found.push((time_ms, histogram.count, histogram.sum));
            })
            .unwrap();
        }
        found
    };
    let expected = [(10, 1, 1.0), (20, 3, 3.0), (30, 4, 4.0)];
    for _ in 0..2 {
        assert_eq!(write(&node, histograms(&[(10, 1, 1), (20, 3, 3)])), 200);
    }
    assert_eq!(write(&node, histograms(&[(25, 9, 8), (30, 4, 4), (26, 9, 8)])), 400);
    assert_eq!(write(&node, histograms(&[(20, 2, 2)])), 409);
    assert_eq!(found(&node), expected);
    let metrics = http(&node, "GET /metrics HTTP/1.1", b"");
    let refused = r#"annulus_ingest_samples_refused_total{reason="invalid_histogram"} 2"#;
    assert!(metrics.contains(refused), "{metrics}");
    node.stop(Duration::from_secs(5)).unwrap();
    let node = start(config(temp.path()));
    assert_eq!(found(&node), expected);
    assert_eq!(write(&node, histograms(&[(30, 4, 4)])), 200);
    node.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn series_count_against_the_memory_of_the_head() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(NodeConfig { head_bytes_max: 4 << 20, ring_bytes: 32 << 20, ..config(temp.path()) });
    let answer_to = |round: usize| {
        let first = round * 1000;
        write(&node, body((first..first + 1000).map(|number| (labels(number), 1, 1.0))))
    };
    // 40,000 series with one sample each: less than 1 MiB of chunks.
    assert!((0..40).any(|round| answer_to(round) == 503), "series without end were taken");
    node.stop(Duration::from_secs(5)).unwrap();
}

/// Sends raw bytes, perhaps says that no more come, and returns all that is answered.
fn raw(node: &Node, bytes: &[u8], half_close: bool) -> String {
    let mut stream = TcpStream::connect(node.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    if half_close {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn unusual_senders_get_an_answer_or_a_closed_connection() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(NodeConfig { receive_timeout: Duration::from_millis(300), ..config(temp.path()) });
    let request = |tail: &str, body: &[u8]| {
        let head = format!("POST /api/v1/receive HTTP/1.1\r\nhost: x\r\n{tail}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let sized = |at_ms| {
        let body = snappy(&body([(labels(1), at_ms, 1.0)]));
        request(&format!("content-length: {}", body.len()), &body)
    };
    let pipelined = raw(&node, &[sized(1), sized(2), sized(3)].concat(), true);
    assert_eq!(pipelined.matches("HTTP/1.1 200").count(), 3, "{pipelined}");

    let mut chunked = Vec::new();
    for byte in snappy(&body([(labels(1), 4, 1.0)])) {
        chunked.extend([b"1\r\n", &[byte][..], b"\r\n"].concat());
    }
    chunked.extend(b"0\r\n\r\n");
    let answer = raw(&node, &request("transfer-encoding: chunked", &chunked), true);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let endless = [&b"100000\r\n"[..], &vec![b'x'; 1 << 20], b"\r\n"].concat().repeat(3);
    let answer = raw(&node, &request("transfer-encoding: chunked", &endless), true);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let unfinished = request("content-length: 1000", b"abc");
    for half_close in [true, false] {
        let answer = raw(&node, &unfinished, half_close);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"PRI * HT", b"POST /api", b"", b"\0\0\0\0"] {
        let answer = raw(&node, bytes, false);
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert_eq!(write(&node, body([(labels(1), i64::MIN, 1.0)])), 409);
    let extremes = body([-1, 0, 5, i64::MAX].map(|at_ms| (labels(2), at_ms, f64::NAN)));
    // With the newest sample at the end of time, the others are too old to be looked for.
    assert_eq!([write(&node, extremes.clone()), write(&node, extremes)], [200, 409]);
    assert_eq!(samples(&node).len(), 8);
    node.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn queries_that_nobody_reads_hold_up_neither_writes_nor_cuts() {
    needs_io_uring!();
    let directory = tempfile::tempdir().unwrap();
    let node = start(config(directory.path()));
    let sample = |at_ms| body([(labels(1), at_ms, 0.5)]);
    assert_eq!(write(&node, sample(1)), 200);
    let request = ReadRequest { tenants: vec![], matchers: vec![], min_ms: 0, max_ms: 9, skip_chunks: true };
    let mut unread = Vec::new();
    for queues in node.handle().queues.iter() {
        // As many as run, and as many as wait for their turn.
        for _ in 0..2 * JOBS_QUEUED {
            let (reply, pages) = flume::bounded(0);
            let budget = ReadBudget::new(1 << 20);
            let job = Job::Read(ReadJob::Select { request: request.clone(), budget, reply });
            if queues.queries.try_send(job).is_ok() {
                unread.push(pages);
            }
        }
    }
    // Each goes to the next shard.
    for at_ms in 2..6 {
        assert_eq!(write(&node, sample(at_ms)), 200);
    }
    assert_eq!(block_on(node.handle().tenants()).unwrap().len(), 1);
    drop(unread);
    assert_eq!(samples(&node).len(), 5);
}

#[test]
fn a_write_larger_than_a_frame_does_not_wait_for_itself() {
    needs_io_uring!();
    let temp = tempfile::tempdir().unwrap();
    let node = start(NodeConfig { shards: Some(1), ring_bytes: 64 << 20, ..config(temp.path()) });
    // Some 2 MB of records of new series.
    let long = "x".repeat(500);
    let batch = body((0..4000).map(|number| {
        let mut labels = labels(number);
        labels.push(("pod", long.clone()));
        (labels, 1, 1.0)
    }));
    assert_eq!(write(&node, batch), 200);
    assert_eq!(read(&node, vec![]).len(), 4000);
    node.stop(Duration::from_secs(5)).unwrap();
}
