//! Limits, relabelling and tenants by label, through the real binary.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::support::http::Response;
use super::support::metrics::metric;
use super::support::server::Server;
use super::support::write::{TimeSeries, message, series, series_of};
use super::support::{now_ms, wait_for};

/// How long a changed file may take to be seen, on a machine that is busy.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// A file with a content.
fn file(directory: &TempDir, content: &str) -> PathBuf {
    let path = directory.path().join("file.yaml");
    std::fs::write(&path, content).unwrap();
    path
}

fn limited(path: &Path) -> Server {
    let flag = format!("--receive.limits-config-file={}", path.display());
    Server::start_with(&[&flag])
}

fn many(metric: &str, count: usize, samples: &[(i64, f64)]) -> Vec<TimeSeries> {
    (0..count).map(|id| series(metric, &id.to_string(), samples)).collect()
}

fn send(server: &Server, tenant: &str, series: &[TimeSeries]) -> Response {
    server.sender().of_tenant(tenant).send(series).unwrap()
}

#[track_caller]
fn assert_refused(response: &Response, status: u16, text: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert!(response.text().contains(text), "{}", response.text());
}

#[test]
fn requests_over_a_limit_get_413_and_others_pass() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = "write:\n  default:\n    request: {size_bytes_limit: 2000, series_limit: 5, samples_limit: 8}\n  \
                tenants:\n    free: {request: {size_bytes_limit: 0, series_limit: 0, samples_limit: 0}}\n";
    let server = limited(&file(&directory, yaml));
    let now = now_ms();
    let samples = [(now, 1.0), (now + 1, 2.0)];
    assert_refused(&send(&server, "t", &many("m", 6, &samples[..1])), 413, "series_limit");
    assert_refused(&send(&server, "t", &many("m", 5, &samples)), 413, "samples_limit");
    let long = "x".repeat(2500);
    let large = [series("m", &long, &samples)];
    assert!(message(&large).len() > 2000);
    // It compresses well: the size after decompression is what is over.
    assert_refused(&send(&server, "t", &large), 413, "size_bytes_limit");
    assert_eq!(send(&server, "t", &many("m", 4, &samples)).status, 200);
    assert_eq!(send(&server, "free", &many("m", 100, &samples)).status, 200);
    assert_eq!(server.query().value("count(m) by (tenant_id) < 10", now), Some(4.0));
    let hits = "thanos_receive_write_limits_hit_count{limit=\"series\",tenant=\"t\"}";
    assert_eq!(metric(server.addresses.write, hits), Some(1.0));
    let limit = "thanos_receive_write_limits{limit=\"samples\",tenant=\"\"}";
    assert_eq!(metric(server.addresses.write, limit), Some(8.0));
}

#[test]
fn at_the_series_limit_known_series_are_written_and_new_ones_get_429() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = limited(&file(&directory, "write: {default: {head_series_limit: 10}}"));
    let now = now_ms();
    assert_eq!(send(&server, "t", &many("m", 10, &[(now, 1.0)])).status, 200);
    for round in 1..3 {
        let at = now + round * 1000;
        let response = send(&server, "t", &many("m", 12, &[(at, 2.0)]));
        assert_refused(&response, 429, "2 samples: new series over the limit of their tenant");
        assert!(response.text().contains("head_series_limit"), "{}", response.text());
        assert!(response.text().contains("10 samples stored"), "{}", response.text());
        assert_eq!(response.header("retry-after"), Some("5"));
        assert_eq!(server.query().value("sum(m)", at), Some(20.0));
        // Another tenant has its own count.
        assert_eq!(send(&server, "other", &many("n", 10, &[(at, 1.0)])).status, 200);
        server.kill_and_restart();
    }
    let limited = "thanos_receive_head_series_limited_requests_total{tenant=\"t\"}";
    assert_refused(&send(&server, "t", &many("new", 1, &[(now, 1.0)])), 429, "0 samples stored");
    assert_eq!(metric(server.addresses.write, limited), Some(1.0));
}

#[test]
fn a_changed_file_takes_effect_and_a_wrong_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "write: {default: {request: {series_limit: 2}}}");
    let server = limited(&path);
    let now = now_ms();
    assert_eq!(send(&server, "t", &many("m", 3, &[(now, 1.0)])).status, 413);
    file(&directory, "write: {default: {request: {series_limit: 3}}}");
    wait_for("the other limit is in effect", RELOAD_LIMIT, || {
        (send(&server, "t", &many("m", 3, &[(now, 1.0)])).status == 200).then_some(())
    });
    file(&directory, "write: {default: {request: {serie_limit: 100}}}");
    let value = |name| metric(server.addresses.write, name);
    wait_for("the mistake is counted", RELOAD_LIMIT, || {
        (value("thanos_receive_limits_config_reload_err_total") == Some(1.0)).then_some(())
    });
    assert_eq!(value("thanos_receive_limits_config_reload_total"), Some(1.0));
    assert_eq!(send(&server, "t", &many("m", 4, &[(now, 1.0)])).status, 413);
    assert!(server.process.log().contains("serie_limit"));
}

#[test]
fn a_tenant_that_sends_too_fast_gets_429_until_its_bucket_fills() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = "write: {tenants: {t: {annulus: {samples_per_second: 1, samples_burst: 100}}}}";
    let server = limited(&file(&directory, yaml));
    let now = now_ms();
    assert_eq!(send(&server, "t", &many("m", 100, &[(now, 1.0)])).status, 200);
    let response = send(&server, "t", &many("m", 100, &[(now + 1, 1.0)]));
    assert_refused(&response, 429, "samples_per_second");
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(send(&server, "u", &many("m", 200, &[(now, 1.0)])).status, 200);
}

#[test]
fn labels_over_a_limit_are_refused_alone() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = "write: {default: {annulus: {labels_per_series: 3, label_value_bytes: 10}}}";
    let server = limited(&file(&directory, yaml));
    let now = now_ms();
    let batch = [
        series("m", "1", &[(now, 1.0)]),
        series("m", "12345678901", &[(now, 1.0)]),
        series_of(&[("__name__", "m"), ("a", "1"), ("b", "1"), ("c", "1")], &[(now, 1.0)]),
    ];
    let response = send(&server, "t", &batch);
    assert_refused(&response, 409, "2 samples: labels over a limit");
    assert!(response.text().contains("1 samples stored"), "{}", response.text());
    assert_eq!(server.query().value("count(m)", now), Some(1.0));
}

#[test]
fn a_process_over_its_memory_limit_refuses_writes_and_answers_queries() {
    let server = Server::start_with(&["--receive.memory-limit=1MiB"]);
    let now = now_ms();
    // The memory is looked at four times a second.
    let response = wait_for("the limit holds", RELOAD_LIMIT, || {
        let response = send(&server, "t", &many("m", 1, &[(now, 1.0)]));
        (response.status == 503).then_some(response)
    });
    assert!(response.text().contains("of memory") && response.header("retry-after").is_some());
    assert!(metric(server.addresses.write, "annulus_memory_refused_requests_total") >= Some(1.0));
    assert_eq!(metric(server.addresses.write, "annulus_memory_limit_bytes"), Some(1_048_576.0));
    server.query().instant("m", now);
}

#[test]
fn requests_wait_at_the_gate_and_all_pass() {
    let server = Server::start_with(&["--receive.limits-config={write: {global: {max_concurrency: 1}}}"]);
    let now = now_ms();
    std::thread::scope(|scope| {
        for metric in ["a", "b", "c", "d"] {
            let mut sender = server.sender();
            scope.spawn(move || {
                for round in 0..20 {
                    sender.store(&many(metric, 50, &[(now + round, 1.0)]));
                }
            });
        }
    });
    let gate = "thanos_receive_write_request_concurrent_gate_write_requests";
    let value = |name| metric(server.addresses.write, &format!("{gate}_{name}"));
    assert_eq!((value("max"), value("total"), value("in_flight")), (Some(1.0), Some(80.0), Some(0.0)));
}

#[test]
fn rules_change_what_is_stored_and_dropped_series_count_as_taken() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = "
- source_labels: [__name__]
  regex: go_.*
  action: drop
- source_labels: [id]
  regex: pod-(.*)
  target_label: id
  replacement: ${1}-$1
- target_label: cluster
  replacement: eu
";
    let flag = format!("--receive.relabel-config-file={}", file(&directory, yaml).display());
    let server = Server::start_with(&[&flag]);
    let now = now_ms();
    for round in 0..3 {
        let at = now + round * 1000;
        let samples = [(at, 1.0), (at + 1, 2.0)];
        server.sender().store(&[
            series("m", "pod-7", &samples),
            series("go_gc", "1", &samples),
            series("m", "x", &samples),
        ]);
        assert_eq!(server.query().value("count({cluster=\"eu\"})", at), Some(2.0));
        assert_eq!(server.query().value("m{id=\"7-7\"}", at + 1), Some(2.0));
        assert!(server.query().instant("go_gc", at + 1).is_empty());
    }
    let value = |name| metric(server.addresses.write, name);
    assert_eq!(value("annulus_relabel_samples_dropped_total"), Some(6.0));
}

#[test]
fn changed_rules_take_effect_and_wrong_ones_do_not() {
    let directory = tempfile::tempdir().unwrap();
    // No rule at the start: there is something to do only later.
    let flag = format!("--receive.relabel-config-file={}", file(&directory, "").display());
    let server = Server::start_with(&[&flag]);
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now, 1.0)])]);
    file(&directory, "[{target_label: cluster, replacement: eu}]");
    wait_for("the rules are in effect", RELOAD_LIMIT, || {
        server.sender().store(&[series("m", "1", &[(now, 1.0)])]);
        (server.query().value("count(m{cluster=\"eu\"})", now) == Some(1.0)).then_some(())
    });
    file(&directory, "[{target_label: cluster, replacement: us, acton: replace}]");
    let value = |name| metric(server.addresses.write, name);
    wait_for("the mistake is counted", RELOAD_LIMIT, || {
        (value("annulus_relabel_config_reload_err_total") == Some(1.0)).then_some(())
    });
    assert_eq!(value("annulus_relabel_config_reload_total"), Some(1.0));
    assert!(server.process.log().contains("acton"));
    server.sender().store(&[series("m", "2", &[(now, 1.0)])]);
    assert_eq!(server.query().value("count(m{cluster=\"eu\"})", now), Some(2.0));
}

#[test]
fn a_label_names_the_tenant_of_each_series() {
    let server = Server::start_with(&["--receive.split-tenant-label-name=team"]);
    let now = now_ms();
    let of_team = |team: &str| series_of(&[("__name__", "m"), ("team", team)], &[(now, 1.0)]);
    let teams: Vec<String> = (0..200).map(|number| format!("team-{number}")).collect();
    let mut batch: Vec<_> = teams.iter().map(|team| of_team(team)).collect();
    batch.push(series("m", "1", &[(now, 1.0)]));
    assert_eq!(send(&server, "header", &batch).status, 200);
    assert_eq!(server.query().value("count(count(m) by (tenant_id))", now), Some(201.0));
    assert_eq!(server.query().value("m{tenant_id=\"team-7\", team=\"\"}", now), Some(1.0));
    assert_eq!(server.query().value("m{tenant_id=\"header\", id=\"1\"}", now), Some(1.0));
    let response = send(&server, "header", &[of_team("a/b"), of_team("new")]);
    assert_refused(&response, 400, "1 samples: invalid tenant");
    assert!(response.text().contains("\"a/b\""), "{}", response.text());
    assert_eq!(server.query().value("m{tenant_id=\"new\"}", now), Some(1.0));
}

#[test]
fn a_node_with_all_tenants_that_it_may_have_refuses_new_ones_and_stores_for_known_ones() {
    let server = Server::start_with(&[
        "--receive.split-tenant-label-name=team",
        "--receive.max-tenants=3",
        "--no-self-scrape",
    ]);
    let now = now_ms();
    let of_team = |team: &str, at| series_of(&[("__name__", "m"), ("team", team)], &[(at, 1.0)]);
    // The sender is none of them as long as nothing is stored for it.
    assert_eq!(send(&server, "t", &[of_team("a", now), of_team("b", now)]).status, 200);
    assert_eq!(metric(server.addresses.write, "annulus_tenants"), Some(2.0));
    assert_eq!(send(&server, "t", &[series("m", "1", &[(now, 1.0)])]).status, 200);
    let batch = [of_team("a", now + 1), of_team("c", now + 1), series("m", "1", &[(now + 1, 1.0)])];
    let response = send(&server, "t", &batch);
    assert_refused(
        &response,
        429,
        "1 samples: new tenant over the limit of this node; first: tenant \"c\" is new",
    );
    assert!(response.text().contains("--receive.max-tenants)"), "{}", response.text());
    assert!(response.text().contains("2 samples stored"), "{}", response.text());
    assert_eq!(send(&server, "u", &[of_team("a", now + 2)]).status, 200, "whoever sends for a known one");
    assert_eq!(response.header("retry-after"), Some("60"));
    let response = send(&server, "u", &[series("m", "1", &[(now, 1.0)])]);
    assert_refused(&response, 429, "--receive.max-tenants");
    assert_eq!(response.header("retry-after"), Some("60"));
    assert_eq!(send(&server, "b", &[series("m", "1", &[(now, 1.0)])]).status, 200);
    let value = |name| metric(server.addresses.write, name);
    assert_eq!((value("annulus_tenants"), value("annulus_tenants_limit")), (Some(3.0), Some(3.0)));
    assert_eq!(value("annulus_tenants_refused_total"), Some(2.0));
}

#[test]
fn names_that_store_nothing_crowd_nobody_out() {
    let server = Server::start_with(&["--receive.max-tenants=3", "--no-self-scrape"]);
    let now = now_ms();
    let nothing = [series("m", "1", &[])];
    for number in 0..20 {
        assert_eq!(send(&server, &format!("made-up-{number}"), &nothing).status, 200);
    }
    let value = |name| metric(server.addresses.write, name);
    assert_eq!((value("annulus_tenants"), value("annulus_tenants_refused_total")), (Some(0.0), Some(0.0)));
    for tenant in ["a", "b", "c"] {
        assert_eq!(send(&server, tenant, &[series("m", "1", &[(now, 1.0)])]).status, 200);
    }
    assert_refused(&send(&server, "d", &nothing), 429, "--receive.max-tenants");
    assert_eq!((value("annulus_tenants"), value("annulus_tenants_refused_total")), (Some(3.0), Some(1.0)));
}

#[test]
fn ten_thousand_tenants_take_little_memory_each() {
    const TENANTS: usize = 10_000;
    let server = Server::start_with(&["--receive.split-tenant-label-name=team", "--no-self-scrape"]);
    let now = now_ms();
    let resident = || metric(server.addresses.write, "process_resident_memory_bytes").unwrap();
    let series_of_team =
        |team: usize| series_of(&[("__name__", "m"), ("team", &format!("team-{team}"))], &[(now, 1.0)]);
    send(&server, "t", &[series_of_team(0)]);
    let before = resident();
    let teams: Vec<usize> = (0..TENANTS).collect();
    for teams in teams.chunks(500) {
        let batch: Vec<_> = teams.iter().map(|team| series_of_team(*team)).collect();
        assert_eq!(send(&server, "t", &batch).status, 200);
    }
    assert_eq!(metric(server.addresses.write, "annulus_tenants"), Some(TENANTS as f64));
    println!("{} bytes per tenant with one series", ((resident() - before) / TENANTS as f64) as i64);
}
