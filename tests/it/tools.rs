//! `annulus-tools` on what the real binary wrote: after kill -9, after an orderly stop, and after a byte was flipped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::support::http::{Client, Response, get};
use super::support::server::{BINARY, Server};
use super::support::write::{HEADERS, TimeSeries, body, series_of};
use super::support::{leave_out, now_ms};

/// How long a server under test may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The tools, built on first use: cargo builds only the binaries of the package that is tested.
fn tools() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut command = Command::new(env!("CARGO"));
        command
            .args(["build", "--quiet", "--package", "annulus-tools"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(BINARY).parent().unwrap();
        command.env("CARGO_TARGET_DIR", folder.parent().unwrap());
        if folder.ends_with("release") {
            command.arg("--release");
        }
        assert!(command.status().unwrap().success(), "annulus-tools does not build");
        folder.join("annulus-tools")
    })
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(tools()).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(!stderr.contains("panicked"), "{stderr}");
    (status.code().unwrap(), stdout, stderr)
}

fn run_json(arguments: &[&str]) -> (i32, Value) {
    let (code, stdout, stderr) = run(&[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
}

/// The text of a path, for arguments.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Sends series of a tenant that must be stored.
fn store(server: &Server, tenant: &str, series: &[TimeSeries]) {
    let headers = [&HEADERS[..], &[("THANOS-TENANT", tenant)]].concat();
    let response =
        Client::new(server.addresses.write).send("POST", "/api/v1/receive", &headers, &body(series));
    let response = response.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, ""));
}

/// Series `metric{pod="0"}` and on, with one sample per second up to now.
fn scrape(metric: &str, pods: usize, samples: i64, now_ms: i64) -> Vec<TimeSeries> {
    let of = |pod: usize| {
        let samples: Vec<(i64, f64)> =
            (0..samples).map(|at| (now_ms - (samples - at) * 1000, (pod as f64) + at as f64)).collect();
        series_of(&[("__name__", metric), ("pod", &pod.to_string())], &samples)
    };
    (0..pods).map(of).collect()
}

/// Three metrics of two tenants; 70 series with 10 samples each.
fn fill(server: &Server) {
    let now_ms = now_ms();
    store(server, "team-a", &[scrape("requests", 40, 10, now_ms), scrape("errors", 10, 10, now_ms)].concat());
    store(server, "team-b", &scrape("up", 20, 10, now_ms));
}

/// Every file below a directory, with size and time of its last change.
fn files(directory: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        if metadata.is_dir() {
            found.append(&mut files(&path));
        } else {
            found.insert(path, (metadata.len(), metadata.modified().unwrap()));
        }
    }
    found
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
}

fn counts(list: &Value) -> Vec<(&str, u64)> {
    let entries = list.as_array().unwrap().iter();
    entries.map(|one| (one["name"].as_str().unwrap(), one["value"].as_u64().unwrap())).collect()
}

#[test]
fn what_a_killed_process_left_is_read_and_not_touched() {
    let mut server = Server::start();
    fill(&server);
    server.process.kill();
    let data_dir = server.data_dir();
    let before = files(&data_dir);

    let (code, verified) = run_json(&["wal", "verify", text(&data_dir)]);
    assert_eq!(code, 0, "{verified}");
    let sum = |field: &str| -> u64 {
        verified.as_array().unwrap().iter().map(|shard| shard["summary"][field].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("series"), sum("samples")), (70, 700));

    let (code, inspected) = run_json(&["wal", "inspect", text(&data_dir), "--frames"]);
    let shards = inspected.as_array().unwrap();
    assert_eq!((code, shards.len()), (0, 2));
    let tenants = |tenant: &str| -> u64 {
        shards.iter().map(|shard| shard["samples_by_tenant"][tenant].as_u64().unwrap_or(0)).sum()
    };
    assert_eq!((tenants("team-a"), tenants("team-b")), (500, 200));
    for shard in shards {
        let frames = shard["frames"].as_array().unwrap();
        assert_eq!(frames.len() as u64, shard["frame_count"].as_u64().unwrap());
        let samples: u64 = frames.iter().map(|frame| frame["records"]["samples"].as_u64().unwrap()).sum();
        assert_eq!(samples, shard["records"]["samples"].as_u64().unwrap());
    }
    let (code, records, _) = run(&["wal", "inspect", text(&data_dir.join("shard-0")), "--records", "--json"]);
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count() as u64;
    assert_eq!((code, of_kind("sample")), (0, shards[0]["records"]["samples"].as_u64().unwrap()));
    assert_eq!(of_kind("series"), shards[0]["records"]["series"].as_u64().unwrap());

    let (code, head) = run_json(&["head", "stats", "--data-dir", text(&data_dir)]);
    assert_eq!((code, &head["total"]["headStats"]["numSeries"]), (0, &70.into()));
    assert_eq!(head["total"]["headStats"]["numSamples"], 700);
    assert_eq!(head["tenants"][0]["tenant"], "team-a");
    assert_eq!(
        counts(&head["total"]["seriesCountByMetricName"]),
        [("requests", 40), ("up", 20), ("errors", 10)]
    );
    let (_, one) =
        run_json(&["head", "stats", "--data-dir", text(&data_dir), "--tenant=team-b", "--limit=1"]);
    assert_eq!(counts(&one["tenants"][0]["labelValueCountByLabelName"]), [("pod", 20)]);
    for (command, expected) in [
        (&["wal", "inspect"][..], "team-a"),
        (&["wal", "verify"], "a start would lose: nothing"),
        (&["head", "stats", "--data-dir"], "team-a"),
    ] {
        let (code, stdout, stderr) = run(&[command, &[text(&data_dir)]].concat());
        assert!(code == 0 && stdout.contains(expected) && stderr.is_empty(), "{stdout}{stderr}");
    }
    assert_eq!(files(&data_dir), before);
    server.restart();
    assert_eq!(server.query().value("count({pod!=\"\"})", now_ms()), Some(70.0));
}

#[test]
fn a_flipped_byte_in_the_log_is_told_as_the_start_tells_it() {
    let mut server = Server::start_with(&["--shards=1"]);
    for _ in 0..5 {
        fill(&server);
    }
    server.process.kill();
    let data_dir = server.data_dir();
    let (_, inspected) = run_json(&["wal", "inspect", text(&data_dir), "--frames"]);
    let frames = inspected[0]["frames"].as_array().unwrap().clone();
    let (hit, last) = (&frames[frames.len() - 3], &frames[frames.len() - 1]);
    flip(&data_dir.join("shard-0/wal"), hit["offset"].as_u64().unwrap() + 100);
    let (first_seq, last_seq) = (hit["seq"].as_u64().unwrap(), last["seq"].as_u64().unwrap());

    let (code, verified) = run_json(&["wal", "verify", text(&data_dir)]);
    assert_eq!(code, 1);
    assert_eq!(verified[0]["loss"]["frames"], serde_json::json!([[first_seq, last_seq]]));
    let damage = verified[0]["damage"][0].as_str().unwrap();
    assert!(damage.contains("the checksum of the frame's payload does not match"), "{damage}");
    let (code, stdout, _) = run(&["wal", "verify", text(&data_dir)]);
    let expected = format!("a start would lose: the samples of frames {first_seq} to {last_seq}");
    assert!(code == 1 && stdout.contains(&expected), "{stdout}");

    server.restart();
    let log = server.process.log();
    assert!(log.contains(&format!("first_lost_seq={first_seq} last_lost_seq={last_seq}")), "{log}");
}

#[test]
fn a_running_process_keeps_verify_away_and_answers_itself() {
    let server = Server::start();
    // An empty receiver answers too.
    let empty = |response: Response| serde_json::from_str::<Value>(&response.text()).unwrap();
    let page = "/api/v1/status/tsdb";
    let response = get(server.addresses.write, page).unwrap();
    assert_eq!((response.status, empty(response)["data"].clone()), (200, serde_json::json!([])));
    let response = get(server.addresses.query, page).unwrap();
    assert_eq!((response.status, &empty(response)["data"]["headStats"]["numSeries"]), (200, &0.into()));

    fill(&server);
    let data_dir = server.data_dir();
    for refused in [&["wal", "verify"][..], &["head", "stats", "--data-dir"]] {
        let (code, _, stderr) = run(&[refused, &[text(&data_dir)]].concat());
        assert!(code == 2 && stderr.contains("annulus is using it"), "{stderr}");
    }
    let (code, _, stderr) = run(&["wal", "inspect", text(&data_dir)]);
    assert!(code == 0 && stderr.contains("warning: annulus is using this directory"), "{stderr}");

    let query = format!("http://{}", server.addresses.query);
    let (code, head) = run_json(&["head", "stats", "--url", &query, "--limit=2"]);
    assert_eq!((code, &head["total"]["headStats"]["numSeries"]), (0, &70.into()));
    // Three metrics, and pods 0 to 39.
    assert_eq!(head["total"]["headStats"]["numLabelPairs"], 43);
    assert_eq!(counts(&head["total"]["seriesCountByMetricName"]), [("requests", 40), ("up", 20)]);
    assert_eq!(
        counts(&head["total"]["seriesCountByLabelValuePair"]),
        [("__name__=requests", 40), ("__name__=up", 20)]
    );
    assert_eq!(counts(&head["total"]["labelValueCountByLabelName"]), [("pod", 40), ("__name__", 3)]);
    let tenants: Vec<(&str, u64)> = head["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["tenant"].as_str().unwrap(), one["headStats"]["numSeries"].as_u64().unwrap()))
        .collect();
    assert_eq!(tenants, [("team-a", 50), ("team-b", 20)]);
    let write = format!("http://{}/", server.addresses.write);
    let (_, one) = run_json(&["head", "stats", "--url", &write, "--tenant=team-b"]);
    assert_eq!(counts(&one["tenants"][0]["memoryInBytesByLabelName"]), [("__name__", 40), ("pod", 30)]);
    let (code, _, stderr) = run(&["head", "stats", "--url", "http://127.0.0.1:1"]);
    assert!(code == 2 && stderr.contains("refused"), "{stderr}");

    let both = Client::new(server.addresses.write)
        .send("GET", "/api/v1/status/tsdb?all_tenants=true", &[("THANOS-TENANT", "team-a")], b"")
        .unwrap();
    assert_eq!((both.status, both.text().contains("bad_data")), (400, true));
}

#[test]
fn checkpoints_and_chunk_files_are_checked() {
    let mut server = Server::start_with(&["--shards=1"]);
    store(&server, "team-a", &scrape("requests", 30, 500, now_ms()));
    server.process.terminate(STOP_LIMIT);
    let data_dir = server.data_dir();
    let shard = data_dir.join("shard-0");
    let (code, verified) = run_json(&["wal", "verify", text(&shard)]);
    assert_eq!((code, &verified[0]["summary"]["samples"]), (0, &15_000.into()), "{verified}");
    assert!(verified[0]["summary"]["chunks"].as_u64().unwrap() >= 30 * 4);

    let names = |prefix: &str| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(&shard).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
        paths.sort();
        paths
    };
    let chunk_file = names("chunks-").remove(0);
    flip(&chunk_file, 30);
    let (code, verified) = run_json(&["wal", "verify", text(&shard)]);
    assert_eq!((code, &verified[0]["loss"]["chunks"]), (1, &1.into()), "{verified}");
    assert_eq!(verified[0]["loss"]["series"], 1);
    let damage = verified[0]["damage"][0].as_str().unwrap();
    assert!(damage.starts_with(chunk_file.file_name().unwrap().to_str().unwrap()), "{damage}");
    flip(&chunk_file, 30);

    let checkpoint = names("checkpoint-").pop().unwrap();
    flip(&checkpoint, 100);
    let (code, verified) = run_json(&["wal", "verify", text(&shard)]);
    assert_eq!(code, 1);
    let damage = verified[0]["damage"][0].as_str().unwrap();
    assert!(damage.contains("checkpoint-") && damage.contains("page 0 is damaged"), "{damage}");
    flip(&checkpoint, 100);

    fs::rename(&chunk_file, data_dir.join("away")).unwrap();
    let (code, verified) = run_json(&["wal", "verify", text(&shard)]);
    assert!(code == 1 && verified[0]["loss"]["chunks"].as_u64().unwrap() > 0, "{verified}");
    fs::rename(data_dir.join("away"), &chunk_file).unwrap();
    assert_eq!(run(&["wal", "verify", text(&shard)]).0, 0);
}

#[test]
fn wrong_usage_and_wrong_paths_are_exit_code_2() {
    let temp = tempfile::tempdir().unwrap();
    let empty = text(temp.path());
    for arguments in [
        &["wal", "verify", empty][..],
        &["wal", "inspect", "/nowhere"],
        &["block", "verify", empty],
        &["block", "inspect", empty],
        &["block", "ls", "/nowhere"],
        &["head", "stats"],
        &["head", "stats", "--data-dir", empty, "--limit=0"],
        &["wal", "verify"],
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert!(
            code == 2 && stdout.is_empty() && !stderr.is_empty(),
            "{arguments:?}: {code} {stdout}{stderr}"
        );
    }
    assert_eq!(run(&["block", "ls", empty]), (0, "no blocks\n".to_owned(), String::new()));
    assert!(run(&["wal", "verify", "--help"]).1.contains("Exit codes"));
}

/// A block that Prometheus' own tool made: 50 series with 100 samples each.
fn make_block(parent: &Path) -> PathBuf {
    let mut openmetrics = String::from("# TYPE requests gauge\n");
    for pod in 0..50 {
        for at in 0..100 {
            openmetrics.push_str(&format!("requests{{pod=\"{pod}\"}} {at} {}\n", 1_700_000_000 + at * 15));
        }
    }
    openmetrics.push_str("# EOF\n");
    let input = parent.join("input");
    fs::write(&input, openmetrics).unwrap();
    let mut command = Command::new("promtool");
    command.args([
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        text(&input),
        text(&parent.join("blocks/team-x")),
    ]);
    assert!(command.output().unwrap().status.success());
    let folder = fs::read_dir(parent.join("blocks/team-x")).unwrap().next().unwrap().unwrap();
    folder.path()
}

#[test]
fn a_block_of_prometheus_is_listed_inspected_and_verified() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return leave_out("tools on a block of Prometheus", "promtool is not installed");
    }
    let temp = tempfile::tempdir().unwrap();
    let block = make_block(temp.path());
    let blocks = temp.path().join("blocks");
    let (code, listed) = run_json(&["block", "ls", text(&blocks)]);
    let listed = &listed["blocks"][0];
    assert_eq!((code, &listed["tenant"], &listed["samples"]), (0, &"team-x".into(), &5000.into()));
    let (code, inspected) = run_json(&["block", "inspect", text(&block)]);
    assert_eq!((code, &inspected["label_pairs"]), (0, &51.into()));
    assert_eq!(inspected["chunks_by_encoding"]["XOR"]["samples"], 5000);
    assert_eq!(inspected["series_by_metric"][0]["count"], 50);
    let sections: u64 = inspected["sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|section| section["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(sections + 5, inspected["index_bytes"].as_u64().unwrap());
    let (code, stdout, _) = run(&["block", "inspect", text(&block)]);
    assert!(code == 0 && stdout.contains("requests") && stdout.contains("bytes/sample"), "{stdout}");
    assert_eq!(run(&["block", "verify", text(&blocks)]).0, 0);
    flip(&block.join("chunks/000001"), 200);
    let (code, verified) = run_json(&["block", "verify", text(&block)]);
    assert_eq!((code, &verified[0]["is_whole"]), (1, &false.into()));
    assert!(verified[0]["findings"][0].as_str().unwrap().contains("chunks/000001"), "{verified}");
    fs::remove_file(block.join("index")).unwrap();
    let (code, listed) = run_json(&["block", "ls", text(&blocks)]);
    assert_eq!((code, listed["broken"].as_array().unwrap().len()), (1, 1), "{listed}");
    assert_eq!(run(&["block", "inspect", text(&block)]).0, 2);
}
