//! The same wrong request gets the same status, kind and words from annulus and from Prometheus.

use std::net::SocketAddr;

use serde_json::Value;

use super::super::support::http::{Client, post_form};
use super::super::support::server::Server;
use super::super::support::write::{HEADERS, body, series_of};
use super::super::support::{leave_out, now_ms};
use super::Prometheus;

/// What is compared of an answer.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    kind: String,
    error: String,
}

fn ask(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let response = match method {
        "POST" => post_form(address, path, fields).unwrap(),
        _ => {
            let pairs: Vec<String> = fields
                .iter()
                .map(|(name, value)| {
                    let escape = super::super::support::http::escape;
                    format!("{}={}", escape(name), escape(value))
                })
                .collect();
            Client::new(address).send("GET", &format!("{path}?{}", pairs.join("&")), &[], b"").unwrap()
        }
    };
    let text = response.text();
    let json: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path} {fields:?}: {error}: {text}"));
    let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    Answer { status: response.status, kind: field("errorType"), error: field("error") }
}

/// Requests whose whole answer is compared.
const SAME_WORDS: &[(&str, &[(&str, &str)])] = &[
    ("/api/v1/query", &[("query", "m"), ("time", "yesterday")]),
    ("/api/v1/query", &[("query", "m"), ("time", "1e400")]),
    ("/api/v1/query", &[("query", "m"), ("timeout", "soon")]),
    ("/api/v1/query", &[("query", "")]),
    ("/api/v1/query", &[("query", "sum(")]),
    ("/api/v1/query", &[("query", "rate(m)")]),
    ("/api/v1/query", &[("query", "sum(1)")]),
    ("/api/v1/query", &[("query", "1 == 1")]),
    ("/api/v1/query", &[("query", "m and 1")]),
    ("/api/v1/query", &[("query", "{}")]),
    ("/api/v1/query", &[("query", "{a=~\".*\"}")]),
    ("/api/v1/query", &[("query", "nosuch(m)")]),
    ("/api/v1/query", &[("query", "m[5m][5m]")]),
    ("/api/v1/query", &[("query", "a + on (x) group_left (x) b")]),
    ("/api/v1/query", &[("query", "floor()")]),
    ("/api/v1/query_range", &[("query", "m")]),
    ("/api/v1/query_range", &[("query", "m"), ("start", "1")]),
    ("/api/v1/query_range", &[("query", "m"), ("start", "1"), ("end", "2"), ("step", "x")]),
    ("/api/v1/query_range", &[("query", "m"), ("start", "1"), ("end", "2"), ("step", "0")]),
    ("/api/v1/query_range", &[("query", "m"), ("start", "1"), ("end", "2"), ("step", "-5")]),
    ("/api/v1/query_range", &[("query", "m"), ("start", "2"), ("end", "1"), ("step", "1")]),
    ("/api/v1/query_range", &[("query", "m"), ("start", "0"), ("end", "11001"), ("step", "1")]),
    ("/api/v1/query_range", &[("query", "m"), ("start", "0"), ("end", "94608000"), ("step", "1")]),
    ("/api/v1/series", &[]),
    ("/api/v1/series", &[("match[]", "{}")]),
    ("/api/v1/series", &[("match[]", "{a=~\".*\"}")]),
    ("/api/v1/series", &[("match[]", "m"), ("start", "x")]),
    ("/api/v1/labels", &[("match[]", "{a=\"\"}")]),
    ("/api/v1/labels", &[("end", "x")]),
    ("/api/v1/query_exemplars", &[("query", "m"), ("start", "2"), ("end", "1")]),
    ("/api/v1/query_exemplars", &[("query", "m"), ("start", "x")]),
    ("/api/v1/format_query", &[("query", "sum(")]),
];

/// Requests where Prometheus has words for its own parts, so that only status and kind are compared.
const SAME_KIND: &[(&str, &[(&str, &str)])] = &[
    ("/api/v1/query", &[("query", "m{a=~\"(\"}")]),
    ("/api/v1/query", &[("query", "m{a=~\"a**\"}")]),
    ("/api/v1/query", &[("query", "m{a=~\".{1001}\"}")]),
    ("/api/v1/query", &[("query", "m{a=~\"\\\\C\"}")]),
    ("/api/v1/query", &[("query", "1 +")]),
    ("/api/v1/query", &[("query", "foo bar")]),
    ("/api/v1/query", &[("query", "m[5x]")]),
    ("/api/v1/query", &[("query", "m{")]),
    ("/api/v1/query", &[("query", "left_side * on (job) right_side")]),
    ("/api/v1/query", &[("query", "label_replace(left_side, \"x\", \"$1\", \"job\", \"(\")")]),
    // Before version 3 the words did not name the parameter.
    ("/api/v1/query_range", &[("query", "m[5m]"), ("start", "1"), ("end", "2"), ("step", "1")]),
    ("/api/v1/query_range", &[("query", "\"a\""), ("start", "1"), ("end", "2"), ("step", "1")]),
    ("/api/v1/query_range", &[("query", "sum("), ("start", "1"), ("end", "2"), ("step", "1")]),
    ("/api/v1/series", &[("match[]", "m{")]),
    ("/api/v1/labels", &[("match[]", "sum(m)")]),
];

/// GET only.
const SAME_WORDS_GET: &[(&str, &[(&str, &str)])] = &[
    ("/api/v1/metadata", &[("limit", "x")]),
    ("/api/v1/label/job/values", &[("match[]", "{}")]),
    ("/api/v1/label/job/values", &[("start", "x")]),
];

#[test]
fn wrong_requests_are_answered_as_prometheus_answers_them() {
    let home = tempfile::tempdir().unwrap();
    let Some(prometheus) = Prometheus::start(home.path(), "") else {
        return leave_out("wrong requests side by side", "prometheus is not installed");
    };
    let server = Server::start();
    let now_ms = now_ms();
    let side = |name: &str, pod: &str| {
        series_of(&[("__name__", name), ("job", "a"), ("pod", pod)], &[(now_ms, 1.0)])
    };
    let all =
        [side("left_side", "1"), side("left_side", "2"), side("right_side", "1"), side("right_side", "2")];
    server.sender().store(&all);
    let written =
        Client::new(prometheus.address).send("POST", "/api/v1/write", &HEADERS, &body(&all)).unwrap();
    assert_eq!(written.status, 204);

    let mut differences = Vec::new();
    let mut compare = |method: &str, path: &str, fields: &[(&str, &str)], words: bool| {
        let [mut ours, mut theirs] =
            [server.addresses.query, prometheus.address].map(|address| ask(address, method, path, fields));
        assert!(theirs.status >= 400, "{path} {fields:?} is not wrong to Prometheus");
        if !words {
            assert!(!ours.error.is_empty());
            ours.error.clear();
            theirs.error.clear();
        }
        if ours != theirs {
            differences.push(format!("{method} {path} {fields:?}\n  {ours:?}\n  {theirs:?}"));
        }
    };
    for (path, fields) in SAME_WORDS {
        compare("POST", path, fields, true);
        compare("GET", path, fields, true);
    }
    for (path, fields) in SAME_KIND {
        compare("POST", path, fields, false);
    }
    for (path, fields) in SAME_WORDS_GET {
        compare("GET", path, fields, true);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
