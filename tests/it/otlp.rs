//! Metrics of OpenTelemetry: what is posted can be queried under the names that Prometheus gives it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::support::http::{Client, Response, get};
use super::support::now_ms;
use super::support::otlp::{Answer, Histogram, Histograms, Metric, Numbers, body, counter, number, time_ns};
use super::support::server::Server;

const PATH: &str = "/api/v1/otlp/v1/metrics";
const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const SERVICE: [(&str, &str); 4] = [
    ("service.namespace", "shop"),
    ("service.name", "api"),
    ("service.instance.id", "api-1"),
    ("host.name", "h1"),
];

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    Client::new(server.addresses.write).send("POST", path, headers, body).unwrap()
}

fn store(server: &Server, metrics: Vec<Metric>) -> Answer {
    let response = post(server, PATH, &[PROTOBUF], &body(&SERVICE, metrics));
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/x-protobuf"));
    Answer::decode(&*response.body).unwrap()
}

#[test]
fn gauges_counters_and_histograms_are_queried_as_prometheus_names_them() {
    let server = Server::start_with(&["--receive.otlp-promote-resource-attributes=host.name"]);
    let now = now_ms();
    let gauge = Some(Numbers { points: vec![number(now, 0.25)], ..Numbers::default() });
    let point = Histogram {
        time_ns: time_ns(now),
        count: 6,
        sum: Some(4.5),
        counts: vec![1, 2, 3],
        bounds: vec![0.5, 10.0],
    };
    let histogram = Some(Histograms { points: vec![point], temporality: 2 });
    let answer = store(
        &server,
        vec![
            Metric { name: "cpu.usage".into(), unit: "1".into(), gauge, ..Metric::default() },
            counter("http.requests", now, 7.0),
            Metric { name: "latency".into(), unit: "s".into(), histogram, ..Metric::default() },
        ],
    );
    assert_eq!(answer, Answer::default(), "everything was taken");
    let who = r#"job="shop/api",instance="api-1",host_name="h1""#;
    for (query, expected) in [
        (format!(r#"cpu_usage_ratio{{http_method="GET",{who}}}"#), 0.25),
        (format!(r#"http_requests_total{{http_method="GET",{who}}}"#), 7.0),
        (format!(r#"latency_seconds_bucket{{le="0.5",{who}}}"#), 1.0),
        (format!(r#"latency_seconds_bucket{{le="10",{who}}}"#), 3.0),
        (format!(r#"latency_seconds_bucket{{le="+Inf",{who}}}"#), 6.0),
        (format!("latency_seconds_sum{{{who}}}"), 4.5),
        (format!("latency_seconds_count{{{who}}}"), 6.0),
        (format!("target_info{{{who}}}"), 1.0),
        ("histogram_quantile(0.5, latency_seconds_bucket)".to_owned(), 10.0),
    ] {
        assert_eq!(server.query().value(&query, now), Some(expected), "{query}");
    }
}

#[test]
fn every_path_takes_otlp_plain_and_gzipped() {
    let server = Server::start();
    let now = now_ms();
    let mut number = 0;
    for path in ["/api/v1/otlp", PATH, "/v1/metrics"] {
        for is_gzip in [false, true] {
            number += 1;
            let plain = body(&SERVICE, vec![counter(&format!("c{number}"), now, 1.0)]);
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&plain).unwrap();
            let response = if is_gzip {
                post(&server, path, &[PROTOBUF, ("Content-Encoding", "gzip")], &gzip.finish().unwrap())
            } else {
                post(&server, path, &[PROTOBUF], &plain)
            };
            assert_eq!((response.status, response.body.len()), (200, 0), "{path}: {}", response.text());
        }
    }
    assert_eq!(server.query().value(r#"count({__name__=~"c[0-9]_total"})"#, now), Some(6.0));
    let metrics = get(server.addresses.write, "/metrics").unwrap().text();
    assert!(metrics.contains(r#"http_requests_total{code="200",handler="otlp""#), "{metrics}");
}

#[test]
fn points_that_cannot_be_taken_are_a_partial_success() {
    let server = Server::start_with(&["--tsdb.out-of-order.time-window=0s"]);
    let now = now_ms();
    let mut delta = counter("d", now, 1.0);
    delta.sum.as_mut().unwrap().temporality = 1;
    let partial = store(&server, vec![delta, counter("c", now, 2.0)]).partial.unwrap();
    assert_eq!(partial.rejected_points, 1);
    assert!(partial.error.contains("aggregation temporality"), "{}", partial.error);
    assert_eq!(server.query().value("c_total", now), Some(2.0));
    let partial =
        store(&server, vec![counter("c", now - 5000, 1.0), counter("e", now, 3.0)]).partial.unwrap();
    assert_eq!(partial.rejected_points, 1);
    assert!(partial.error.contains("out of order sample"), "{}", partial.error);
    assert_eq!(server.query().value("e_total", now), Some(3.0));
}

#[test]
fn what_is_not_otlp_is_refused_and_the_server_lives() {
    let server = Server::start();
    let now = now_ms();
    let whole = body(&SERVICE, vec![counter("c", now, 1.0)]);
    let gzip = ("Content-Encoding", "gzip");
    for (headers, body, status) in [
        (&[("Content-Type", "application/json")][..], &b"{}"[..], 415),
        (&[][..], &whole, 415),
        (&[PROTOBUF, ("Content-Encoding", "snappy")], &whole, 415),
        (&[PROTOBUF, gzip], &whole, 400),
        (&[PROTOBUF], &whole[..whole.len() - 1], 400),
        (&[PROTOBUF], b"\x0b\x0c", 400),
    ] {
        let response = post(&server, PATH, headers, body);
        assert_eq!(response.status, status, "{headers:?}: {}", response.text());
        assert!(!response.text().is_empty());
    }
    assert_eq!(get(server.addresses.write, PATH).unwrap().status, 405);
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&vec![0; 80 << 20]).unwrap();
    let response = post(&server, PATH, &[PROTOBUF, gzip], &bomb.finish().unwrap());
    assert_eq!(response.status, 413, "{}", response.text());
    store(&server, vec![counter("c", now, 1.0)]);
    assert_eq!(server.query().value("c_total", now), Some(1.0));
}
