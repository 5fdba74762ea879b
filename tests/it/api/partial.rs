//! A damaged local block: every query of its times says that something is missing, and none says so of other times.

use std::fs;

use serde_json::Value;

use super::super::support::http::post_form;
use super::super::support::now_ms;
use super::super::support::server::Server;
use super::super::support::write::series;

const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[test]
fn what_a_damaged_block_lacks_is_a_warning_or_an_error() {
    let mut server = Server::start();
    let now_ms = now_ms();
    server.sender().store(&[series("up", "1", &[(now_ms, 1.0)])]);
    let (min_ms, max_ms) = (now_ms - 7_200_000, now_ms - 3_600_000);
    let folder = server.data_dir().join("blocks/default-tenant").join(ULID);
    fs::create_dir_all(&folder).unwrap();
    let meta = format!(
        r#"{{"ulid":"{ULID}","minTime":{min_ms},"maxTime":{max_ms},"stats":{{"numSamples":1,"numSeries":1,"numChunks":1}},"compaction":{{"level":1,"sources":["{ULID}"]}},"version":1}}"#
    );
    fs::write(folder.join("meta.json"), meta).unwrap();
    server.terminate_and_restart();

    let ask = |path: &str, fields: &[(&str, &str)]| {
        let response = post_form(server.addresses.query, path, fields).unwrap();
        (response.status, serde_json::from_slice::<Value>(&response.body).unwrap())
    };
    let is_told = |answer: &Value| answer["warnings"][0].as_str().is_some_and(|text| text.contains(ULID));
    for _ in 0..2 {
        let inside = (max_ms / 1000 - 60).to_string();
        let (status, answer) = ask("/api/v1/query", &[("query", "up"), ("time", &inside)]);
        assert!(status == 200 && is_told(&answer), "{answer}");
        let strict = [("query", "up"), ("time", inside.as_str()), ("partial_response", "false")];
        let (status, answer) = ask("/api/v1/query", &strict);
        assert!(status == 500 && answer["errorType"] == "internal", "{answer}");
        let (status, answer) = ask("/api/v1/query", &[("query", "up")]);
        assert!(status == 200 && answer["warnings"].is_null(), "{answer}");
        let (_, answer) = ask("/api/v1/series", &[("match[]", "up")]);
        assert!(is_told(&answer) && answer["data"].as_array().unwrap().len() == 1, "{answer}");
        let (_, answer) = ask("/api/v1/labels", &[]);
        assert!(is_told(&answer), "{answer}");
    }
    server.process.terminate(std::time::Duration::from_secs(60));
    server.restart_with(&["--query.partial-response=false"]);
    let response = post_form(server.addresses.query, "/api/v1/labels", &[]).unwrap();
    assert_eq!(response.status, 500, "{}", response.text());
}
