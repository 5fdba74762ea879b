//! Exemplars and metadata by remote write 1.0, read back through the query API, before and after restarts.

use prost::Message;
use serde_json::{Value, json};

use super::support::http::{get, post_form};
use super::support::now_ms;
use super::support::query::seconds;
use super::support::server::Server;
use super::support::write::{Label, Sample, compress};

/// prometheus.WriteRequest with all that Prometheus sends in version 1.0.
#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetricMetadata>,
}

/// prometheus.TimeSeries.
#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
}

/// prometheus.Exemplar.
#[derive(Clone, PartialEq, prost::Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp_ms: i64,
}

/// prometheus.MetricMetadata.
#[derive(Clone, PartialEq, prost::Message)]
struct MetricMetadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    pairs.iter().map(|(name, value)| Label { name: bytes(name), value: bytes(value) }).collect()
}

/// A sample of a bucket with exemplars.
fn bucket(le: &str, now: i64, exemplars: &[(&str, f64, i64)]) -> TimeSeries {
    TimeSeries {
        labels: labels(&[("__name__", "latency_seconds_bucket"), ("le", le)]),
        samples: vec![Sample { value: Some(1.0), timestamp_ms: now }],
        exemplars: exemplars
            .iter()
            .map(|&(trace, value, timestamp_ms)| Exemplar {
                labels: labels(&[("trace_id", trace)]),
                value,
                timestamp_ms,
            })
            .collect(),
    }
}

fn metadata(kind: i32, family: &str, help: &str, unit: &str) -> MetricMetadata {
    MetricMetadata { kind, family: family.to_owned(), help: help.to_owned(), unit: unit.to_owned() }
}

fn send(server: &Server, series: Vec<TimeSeries>, metadata: Vec<MetricMetadata>) {
    let body = compress(&WriteRequest { series, metadata }.encode_to_vec());
    let response = server.sender().send_body(&body).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, ""));
}

/// Of each series its `le`, and of each of its exemplars trace, value and time.
fn exemplars(server: &Server, query: &str, (start_ms, end_ms): (i64, i64)) -> Value {
    let (start, end) = (seconds(start_ms), seconds(end_ms));
    let fields = [("query", query), ("start", start.as_str()), ("end", end.as_str())];
    let response = post_form(server.addresses.query, "/api/v1/query_exemplars", &fields).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(answer["status"], "success");
    let all = answer["data"].as_array().unwrap().iter();
    all.map(|series| {
        assert_eq!(series["seriesLabels"]["tenant_id"], "default-tenant", "{series}");
        let of_series = series["exemplars"].as_array().unwrap().iter();
        let of_series =
            of_series.map(|one| json!([one["labels"]["trace_id"], one["value"], one["timestamp"]]));
        json!([series["seriesLabels"]["le"], of_series.collect::<Value>()])
    })
    .collect()
}

fn metadata_of(server: &Server, query: &str) -> Value {
    let response = get(server.addresses.query, &format!("/api/v1/metadata{query}")).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(answer["status"], "success");
    answer["data"].clone()
}

#[test]
fn exemplars_and_metadata_are_read_back_and_survive_restarts() {
    let mut server = Server::start();
    // Whole seconds: no fraction is rounded on the way.
    let now = now_ms() / 1000 * 1000;
    let buckets = vec![
        bucket("0.1", now, &[("a", 0.05, now - 2000), ("b", 0.06, now - 1000)]),
        bucket("1", now, &[("c", 0.5, now - 1000)]),
    ];
    send(&server, buckets.clone(), vec![]);
    // Prometheus sends metadata in requests of its own, again and again.
    let described = vec![
        metadata(3, "latency_seconds", "How long it took.", "seconds"),
        metadata(1, "requests_total", "", ""),
    ];
    send(&server, vec![], described.clone());
    // A retry changes nothing.
    send(&server, buckets, described);
    for restart in 0..3 {
        match restart {
            1 => server.kill_and_restart(),
            2 => assert!(server.terminate_and_restart().success()),
            _ => {}
        }
        let time = |ms: i64| json!(ms / 1000);
        let all = (now - 10_000, now + 10_000);
        let first = json!([["a", "0.05", time(now - 2000)], ["b", "0.06", time(now - 1000)]]);
        let both = json!([["0.1", first], ["1", [["c", "0.5", time(now - 1000)]]]]);
        let query = "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[5m])))";
        assert_eq!(exemplars(&server, query, all), both, "after {restart} restarts");
        let early = json!([["0.1", [["a", "0.05", time(now - 2000)]]]]);
        assert_eq!(exemplars(&server, query, (now - 10_000, now - 1500)), early);
        assert_eq!(exemplars(&server, "latency_seconds_bucket{le=\"2\"}", all), json!([]));
        let latency = json!([{"type": "histogram", "help": "How long it took.", "unit": "seconds"}]);
        let requests = json!([{"type": "counter", "help": "", "unit": ""}]);
        let expected = json!({"latency_seconds": latency, "requests_total": requests});
        assert_eq!(metadata_of(&server, ""), expected, "after {restart} restarts");
        assert_eq!(metadata_of(&server, "?metric=requests_total"), json!({"requests_total": requests}));
        assert_eq!(metadata_of(&server, "?limit=1"), json!({"latency_seconds": latency}));
    }
}

#[test]
fn refused_exemplars_get_409_as_in_thanos_and_leave_the_samples_stored() {
    let server = Server::start_with(&["--tsdb.too-far-in-future.time-window=1h"]);
    let now = now_ms() / 1000 * 1000;
    send(&server, vec![bucket("1", now - 5000, &[("a", 0.5, now - 5000)])], vec![]);
    let long = "x".repeat(200);
    let sent = bucket("1", now, &[("late", 0.5, now - 6000), (&long, 0.5, now - 1000), ("b", 0.5, now)]);
    let body = compress(&WriteRequest { series: vec![sent], metadata: vec![] }.encode_to_vec());
    let response = server.sender().send_body(&body).unwrap();
    assert_eq!(response.status, 409, "{}", response.text());
    for part in
        ["1 exemplars: out of order exemplar", "1 exemplars: label length for exemplar exceeds maximum"]
    {
        assert!(response.text().contains(part), "{}", response.text());
    }
    assert_eq!(response.header("x-prometheus-remote-write-samples-written"), Some("1"));
    assert_eq!(response.header("x-prometheus-remote-write-exemplars-written"), Some("1"));
    // One that is too far ahead is left out, and its sender is not told; those of the present still have room.
    send(&server, vec![bucket("1", now + 1000, &[("ahead", 0.5, now + 7_200_000)])], vec![]);
    send(&server, vec![bucket("1", now + 2000, &[("c", 0.5, now + 1000)])], vec![]);
    let time = |ms: i64| json!(ms / 1000);
    let stored = [("a", now - 5000), ("b", now), ("c", now + 1000)];
    let stored: Value = stored.iter().map(|(trace, ms)| json!([trace, "0.5", time(*ms)])).collect();
    let all = (now - 10_000, now + 10_000_000);
    assert_eq!(exemplars(&server, "latency_seconds_bucket", all), json!([["1", stored]]));
    let count = "count_over_time(latency_seconds_bucket[1m])";
    assert_eq!(server.query().value(count, now + 3000), Some(4.0));
    let metrics = get(server.addresses.write, "/metrics").unwrap().text();
    for reason in ["out_of_order", "label_length", "too_far_in_future"] {
        let line = format!("annulus_ingest_exemplars_refused_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[test]
fn what_a_tenant_that_is_one_too_many_sends_beside_samples_is_counted() {
    let server = Server::start_with(&[
        "--receive.split-tenant-label-name=team",
        "--receive.max-tenants=1",
        "--no-self-scrape",
    ]);
    let now = now_ms();
    send(&server, vec![bucket("1", now, &[])], vec![]);
    let sent = vec![bucket("1", now, &[("a", 0.5, now), ("b", 0.5, now)])];
    let request = WriteRequest { series: sent, metadata: vec![metadata(1, "a_total", "", "")] };
    let response = server.sender().of_tenant("other").send_body(&compress(&request.encode_to_vec())).unwrap();
    assert_eq!(response.status, 429, "{}", response.text());
    let metrics = get(server.addresses.write, "/metrics").unwrap().text();
    for line in [
        r#"annulus_ingest_samples_refused_total{reason="tenant_limit"} 1"#,
        r#"annulus_ingest_exemplars_refused_total{reason="unknown_series"} 2"#,
        r#"annulus_ingest_metadata_dropped_total{reason="tenant_limit"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[test]
fn exemplars_that_are_switched_off_fail_no_request() {
    let server = Server::start_with(&["--tsdb.max-exemplars=0", "--receive.metadata-max-families=0"]);
    let now = now_ms();
    send(&server, vec![bucket("1", now, &[("a", 0.5, now)])], vec![metadata(1, "a_total", "", "")]);
    assert_eq!(exemplars(&server, "latency_seconds_bucket", (now - 1000, now + 1000)), json!([]));
    assert_eq!(metadata_of(&server, ""), json!({}));
    let metrics = get(server.addresses.write, "/metrics").unwrap().text();
    for line in [
        r#"annulus_ingest_exemplars_refused_total{reason="disabled"} 1"#,
        r#"annulus_ingest_metadata_dropped_total{reason="full"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}
