//! The bench of queries, once through and small: it must not rot between the days on which somebody measures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::support::leave_out;
use super::support::server::BINARY;

/// The bench, built on first use: cargo builds only the binaries of the package that is tested.
fn bench() -> PathBuf {
    let folder = Path::new(BINARY).parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--package", "annulus-benches"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("CARGO_TARGET_DIR", folder.parent().unwrap());
    if folder.ends_with("release") {
        command.arg("--release");
    }
    assert!(command.status().unwrap().success(), "annulus-benches does not build");
    folder.join("annulus-benches")
}

/// Runs `queries` over 200 series and ten minutes, and gives the JSON that it wrote.
fn queries(receivers: &[&str], extra: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let (data, json) = (directory.path().join("data"), directory.path().join("result.json"));
    fs::create_dir(&data).unwrap();
    let mut command = Command::new(bench());
    command.arg("queries").args(receivers.iter().flat_map(|receiver| ["--receiver", receiver]));
    command.args(["--series", "200", "--hours", "0.17", "--runs", "2", "--rest", "0"]);
    command.args(["--annulus-flag=--wal.ring-size=16MiB", "--annulus-flag=--shards=2"]).args(extra);
    command.arg("--directory").arg(&data).arg("--json").arg(&json);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("query p99"), "{stdout}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "a receiver left its data behind");
    serde_json::from_slice(&fs::read(&json).unwrap()).unwrap()
}

#[test]
fn the_nine_queries_are_measured_and_answered_as_by_prometheus() {
    let annulus = format!("annulus={BINARY}");
    let mut receivers = vec![annulus.as_str()];
    match Command::new("prometheus").arg("--version").output() {
        Ok(_) => receivers.push("prometheus"),
        Err(_) => leave_out("the second half of the bench of queries", "prometheus is not installed"),
    }
    let result = queries(&receivers, &[]);
    assert_eq!(result["receivers"].as_array().unwrap().len(), receivers.len());
    assert_eq!(result["differences"], Value::Array(Vec::new()));
    for receiver in result["receivers"].as_array().unwrap() {
        let asked = receiver["queries"].as_array().unwrap();
        assert_eq!(asked.len(), 9);
        for query in asked {
            assert!(query["answer_series"].as_u64().unwrap() > 0, "{query}");
            assert!(query["median_ms"].as_f64().unwrap() > 0.0, "{query}");
        }
    }
}

#[test]
fn the_wide_queries_are_measured() {
    let result = queries(&[&format!("annulus={BINARY}")], &["--group", "wide", "--interval", "15s"]);
    let asked = result["receivers"][0]["queries"].as_array().unwrap();
    let counts: Vec<u64> = asked.iter().map(|query| query["answer_series"].as_u64().unwrap()).collect();
    assert_eq!(counts, [8, 1, 200, 8]);
}
