//! What a query cost, beside what Prometheus counts for the same query over the same samples.

use std::net::SocketAddr;

use serde_json::Value;

use super::super::support::http::{Client, post_form};
use super::super::support::query::seconds;
use super::super::support::server::Server;
use super::super::support::write::{HEADERS, body, series};
use super::super::support::{leave_out, now_ms};
use super::Prometheus;

fn stats(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Value {
    let fields = [fields, &[("stats", "all")]].concat();
    let response = post_form(address, path, &fields).unwrap();
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(response.status, 200, "{fields:?}: {answer}");
    answer["data"]["stats"].clone()
}

#[test]
fn samples_are_counted_as_prometheus_counts_them() {
    let home = tempfile::tempdir().unwrap();
    let Some(prometheus) = Prometheus::start(home.path(), "") else {
        return leave_out("statistics of queries side by side", "prometheus is not installed");
    };
    let server = Server::start();
    // Samples on whole seconds and steps between them: there every version of Prometheus selects the same of a range.
    let end_ms = now_ms() / 1000 * 1000 - 500;
    let samples: Vec<(i64, f64)> = (0..600).map(|at| (end_ms - 599_500 + at * 1000, at as f64)).collect();
    let all: Vec<_> = (0..7).map(|id| series("counted", &id.to_string(), &samples)).collect();
    server.sender().store(&all);
    let written =
        Client::new(prometheus.address).send("POST", "/api/v1/write", &HEADERS, &body(&all)).unwrap();
    assert_eq!(written.status, 204);

    let (start, end) = (seconds(end_ms - 300_000), seconds(end_ms));
    for query in [
        "counted",
        "sum(counted)",
        "rate(counted[1m])",
        "sum by (id) (max_over_time(counted[30s] offset 1m)) + counted",
    ] {
        for (path, fields) in [
            ("/api/v1/query", vec![("query", query), ("time", end.as_str())]),
            ("/api/v1/query_range", vec![("query", query), ("start", &start), ("end", &end), ("step", "15")]),
        ] {
            let [ours, theirs] =
                [server.addresses.query, prometheus.address].map(|address| stats(address, path, &fields));
            let total = |stats: &Value| stats["samples"]["totalQueryableSamples"].as_u64().unwrap();
            assert_eq!(total(&ours), total(&theirs), "{path} {query}: {ours}");
            let steps = ours["samples"]["totalQueryableSamplesPerStep"].as_array().unwrap();
            assert_eq!(steps.len(), if path.ends_with("range") { 21 } else { 1 });
            assert_eq!(steps.iter().map(|step| step[1].as_u64().unwrap()).sum::<u64>(), total(&ours));
            assert!(ours["samples"]["peakSamples"].as_u64().unwrap() > 0);
            for name in theirs["timings"].as_object().unwrap().keys() {
                assert!(ours["timings"][name].is_number(), "{name} in {ours}");
            }
        }
    }
}
