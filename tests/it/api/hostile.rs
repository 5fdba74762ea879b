//! Requests that ask for too much: each is an error in Prometheus' form, and the server goes on as before.

use serde_json::Value;

use super::super::support::http::{Client, post_form};
use super::super::support::now_ms;
use super::super::support::server::Server;
use super::super::support::write::series;

/// Sends a form that must be refused with a status below 500; says how.
fn refused(server: &Server, path: &str, fields: &[(&str, &str)]) -> String {
    let response = post_form(server.addresses.query, path, fields).unwrap();
    let shown: String = format!("{path} {fields:?}").chars().take(200).collect();
    let text = response.text();
    assert!((400..500).contains(&response.status), "{shown}: {} {text}", response.status);
    let answer: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{shown}: {error}: {text}"));
    assert!(answer["status"] == "error" && text.len() < 20_000, "{shown}: {text}");
    answer["error"].as_str().unwrap().to_owned()
}

fn assert_serves(server: &Server) {
    assert_eq!(server.query().value("sum(up)", now_ms()), Some(1.0));
}

#[test]
fn queries_that_are_too_large_are_refused() {
    let server = Server::start();
    server.sender().store(&[series("up", "1", &[(now_ms(), 1.0)])]);
    for page in ["/api/v1/query", "/api/v1/format_query"] {
        assert!(refused(&server, page, &[("query", &"x".repeat(3 << 19))]).contains("more than 1048576"));
        assert!(refused(&server, page, &[("query", &"x".repeat(2 << 20))]).contains("2097152 bytes"));
    }
    for open in ["(", "-", "sum(", "x[1m:", "{", "a+(", "[", "\"", "@", "x{a=\"b\",", "on(", "\u{0}", "😀"]
    {
        refused(&server, "/api/v1/query", &[("query", &open.repeat(20_000))]);
        refused(&server, "/api/v1/parse_query", &[("query", &open.repeat(20_000))]);
    }
    refused(&server, "/api/v1/query", &[("query", &vec!["x"; 5_000].join(" + "))]);
    assert_serves(&server);
}

#[test]
fn patterns_that_explode_are_refused() {
    let server = Server::start();
    server.sender().store(&[series("up", "1", &[(now_ms(), 1.0)])]);
    for pattern in [
        ".{1000}{1000}".to_owned(),
        "(.{1000}){1000}".to_owned(),
        "((a{10}){10}){11}".to_owned(),
        "(\\\\pL{100}|\\\\pN{100}){10}".repeat(1_000),
        "(".repeat(100_000),
        "[".repeat(100_000),
        "(?:a|b".repeat(10_000),
    ] {
        let error = refused(&server, "/api/v1/query", &[("query", &format!("up{{id=~\"{pattern}\"}}"))]);
        assert!(error.contains("error parsing regexp"), "{error}");
    }
    let alternatives: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    let query = format!("sum(up{{id=~\"{}\"}})", alternatives.join("|"));
    assert_eq!(server.query().value(&query, now_ms()), Some(1.0), "a long list is no explosion");
    assert_serves(&server);
}

#[test]
fn times_that_are_no_times_are_refused() {
    let server = Server::start();
    server.sender().store(&[series("up", "1", &[(now_ms(), 1.0)])]);
    let numbers = [
        "NaN",
        "nan",
        "Inf",
        "-Inf",
        "+Inf",
        "infinity",
        "1e400",
        "0x",
        "1e",
        "--1",
        "1_000_000x",
        "\u{661}",
        "1d1d",
        "\n",
    ];
    // As times these are the first or the last one, but no query has so many steps, and nothing lasts so long.
    let far = ["1e300", "-1e300", "9223372036854775807", "-9223372036854775808", "99999999999999999999"];
    for number in numbers.into_iter().chain(far) {
        for name in ["start", "end", "step"] {
            let mut fields = [("start", "1"), ("end", "2"), ("step", "1")];
            fields.iter_mut().filter(|(other, _)| *other == name).for_each(|field| field.1 = number);
            refused(&server, "/api/v1/query_range", &[&[("query", "up")][..], &fields].concat());
        }
        for name in ["timeout", "lookback_delta"] {
            refused(&server, "/api/v1/query", &[("query", "up"), (name, number)]);
        }
        if !far.contains(&number) {
            refused(&server, "/api/v1/query", &[("query", "up"), ("time", number)]);
            refused(&server, "/api/v1/series", &[("match[]", "up"), ("start", number)]);
        }
    }
    for (start, end, step) in [
        ("0", "94608000", "1"),
        ("0", "94608000", "0.001"),
        ("-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z", "1"),
        ("0", "1", "0"),
        ("0", "1", "0.0001"),
        ("0", "1", "-1"),
    ] {
        refused(
            &server,
            "/api/v1/query_range",
            &[("query", "up"), ("start", start), ("end", end), ("step", step)],
        );
    }
    for limit in ["-1", "x", "1e3", "99999999999999999999"] {
        refused(&server, "/api/v1/query", &[("query", "up"), ("limit", limit)]);
        refused(&server, "/api/v1/labels", &[("limit", limit)]);
    }
    assert_serves(&server);
}

#[test]
fn queries_that_would_take_too_much_memory_or_time_are_errors() {
    let server = Server::start_with(&["--query.max-samples=1000", "--query.timeout=5s"]);
    let now_ms = now_ms();
    let samples: Vec<(i64, f64)> = (0..2_000).map(|at| (now_ms - at * 1_000, 1.0)).rev().collect();
    server.sender().store(&[series("many", "1", &samples), series("up", "1", &[(now_ms, 1.0)])]);
    for query in
        ["many[1h]", "max_over_time(vector(1)[100d:1s])", "sum_over_time(many[1h])", "vector(1)[300y:1ms]"]
    {
        let error = refused(&server, "/api/v1/query", &[("query", query)]);
        let is_bounded =
            ["too many samples", "duration out of range"].iter().any(|text| error.contains(text));
        assert!(is_bounded, "{query}: {error}");
    }
    assert_serves(&server);
}

#[test]
fn requests_of_odd_forms_are_answered() {
    let server = Server::start();
    server.sender().store(&[series("up", "1", &[(now_ms(), 1.0)])]);
    let mut client = Client::new(server.addresses.query);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for (method, target, headers, body, status) in [
        ("POST", "/api/v1/query", &form[..], &b"query=%ff%fe"[..], 400),
        ("POST", "/api/v1/query", &form[..], b"query=up&%&=&&a%zz=b", 200),
        ("POST", "/api/v1/query?query=up", &[("Content-Type", "text/plain")][..], b"\xff\xff", 200),
        ("GET", "/api/v1/query?query=up&query=sum(", &[][..], b"", 200),
        ("PUT", "/api/v1/query", &[][..], b"", 405),
        ("DELETE", "/api/v1/series?match[]=up", &[][..], b"", 405),
        ("GET", "/api/v1/read", &[][..], b"", 405),
        ("POST", "/api/v1/read", &[][..], b"\xff\xff\xff\xff\x7f", 400),
        ("GET", "/api/v1/label/%ff/values", &[][..], b"", 400),
        ("GET", "/api/v1/label//values", &[][..], b"", 400),
        ("GET", "/api/v1/../../etc/passwd", &[][..], b"", 404),
        ("OPTIONS", "/api/v1/query", &[("Origin", "http://x")][..], b"", 204),
    ] {
        let response = client.send(method, target, headers, body).unwrap();
        assert_eq!(response.status, status, "{method} {target}: {}", response.text());
    }
    assert_serves(&server);
}
