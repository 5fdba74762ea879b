//! Queries that cannot be answered get Prometheus' error JSON, whatever they are.

use serde_json::Value;

use super::support::http::{Client, get, post_form};
use super::support::now_ms;
use super::support::server::Server;
use super::support::write::series;

/// Asserts the status and Prometheus' error type.
fn assert_error(server: &Server, path: &str, fields: &[(&str, &str)], status: u16, error_type: &str) {
    let response = post_form(server.addresses.query, path, fields).unwrap();
    let shown: String = format!("{path} {fields:?}").chars().take(200).collect();
    assert_eq!(response.status, status, "{shown}: {}", response.text());
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(answer["status"], "error", "{shown}");
    assert_eq!(answer["errorType"], error_type, "{shown}");
    assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
}

#[test]
fn bad_queries_get_400_with_the_error_as_json() {
    let server = Server::start();
    for query in ["", "sum(", "m{", "m[5x]", "1 +", "foo bar", "rate(m)", "m{a=~\"(\"}", "nosuch(m)", "{}"] {
        assert_error(&server, "/api/v1/query", &[("query", query)], 400, "bad_data");
    }
}

#[test]
fn bad_parameters_get_400_with_the_error_as_json() {
    let server = Server::start();
    assert_error(&server, "/api/v1/query", &[("query", "m"), ("time", "yesterday")], 400, "bad_data");
    assert_error(&server, "/api/v1/query", &[("query", "m"), ("timeout", "soon")], 400, "bad_data");
    for (start, end, step) in [
        ("", "1", "1"),
        ("1", "x", "1"),
        ("1", "2", "0"),
        ("1", "2", "-1"),
        ("2", "1", "1"),
        ("1", "2", "NaN"),
        ("0", "100000", "1"),
        ("-9e300", "9e300", "1"),
    ] {
        let fields = [("query", "m"), ("start", start), ("end", end), ("step", step)];
        assert_error(&server, "/api/v1/query_range", &fields, 400, "bad_data");
    }
    assert_error(&server, "/api/v1/series", &[("match[]", "{")], 400, "bad_data");
    assert_error(&server, "/api/v1/series", &[], 400, "bad_data");
}

#[test]
fn huge_and_deep_queries_end_in_an_error_and_the_server_lives() {
    let server = Server::start();
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let signs = format!("{}1", "-".repeat(100_000));
    let sums = format!("{}m{}", "sum(".repeat(50_000), ")".repeat(50_000));
    let huge = format!("m{{a=\"{}\"}}", "x".repeat(12 << 20));
    for query in [deep, signs, sums, huge] {
        // A connection cut off by a limit of the server is an answer as well.
        if let Ok(response) = post_form(server.addresses.query, "/api/v1/query", &[("query", &query)]) {
            assert!(response.status < 500, "{} bytes: {}", query.len(), response.status);
        }
        let now = now_ms();
        assert_eq!(server.query().value("vector(1 + 1)", now), Some(2.0));
    }
}

#[test]
fn unknown_paths_and_methods_are_told_so() {
    let server = Server::start();
    assert_eq!(get(server.addresses.query, "/api/v1/nosuch").unwrap().status, 404);
    let mut client = Client::new(server.addresses.query);
    assert_eq!(client.send("DELETE", "/api/v1/query", &[], b"").unwrap().status, 405);
}

#[test]
fn labels_values_and_series_are_listed() {
    let server = Server::start();
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now, 1.0)]), series("n", "2", &[(now, 1.0)])]);
    let data = |target: &str| {
        let response = get(server.addresses.query, target).unwrap();
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(answer["status"], "success", "{target}");
        answer["data"].clone()
    };
    assert_eq!(data("/api/v1/label/__name__/values"), serde_json::json!(["m", "n"]));
    assert_eq!(data("/api/v1/label/id/values?match[]=n"), serde_json::json!(["2"]));
    let names = data("/api/v1/labels");
    for name in ["__name__", "id", "replica"] {
        assert!(names.as_array().unwrap().contains(&Value::from(name)), "{name} is not in {names}");
    }
    let series = data("/api/v1/series?match[]=m");
    assert_eq!(series.as_array().unwrap().len(), 1);
    assert_eq!(series[0]["id"], "1");
    assert!(data("/api/v1/status/buildinfo")["version"].is_string());
}

#[test]
fn every_listener_answers_probes_and_metrics() {
    let server = Server::start();
    let addresses = server.addresses;
    for address in [addresses.write, addresses.query, addresses.grpc] {
        for path in ["/-/healthy", "/-/ready", "/metrics"] {
            let response = get(address, path).unwrap();
            assert_eq!(response.status, 200, "{path} on {address}");
        }
        let metrics = get(address, "/metrics").unwrap().text();
        assert!(metrics.contains("annulus_wal_ring_size_bytes"), "{address} shows other metrics");
    }
}
