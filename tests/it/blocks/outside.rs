//! Blocks between annulus and a real Prometheus: one answers from our blocks, the other one sends what they are made of.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::folder::{Block, copy_of};
use super::promtool::{dump, is_there};
use super::workload::{Workload, as_sent};
use super::{assert_in_order, assert_no_losses, local_blocks, start_server, wait_for_blocks};
use crate::support::http::get;
use crate::support::process::Process;
use crate::support::query::{Matrix, QueryApi, difference};
use crate::support::{free_address, leave_out, now_ms, wait_for, wait_until};

/// Sums may be added up in another order.
const TOLERANCE: f64 = 1e-12;

/// What both have to answer alike, from a minute after the first samples on: how a rate is extrapolated where a series
/// begins depends on Prometheus' version. `$` is where the tenant is named to annulus.
const QUERIES: [&str; 36] = [
    "requests_total{$}",
    "requests_total{code=\"500\",$}",
    "requests_total{code!=\"500\",$}",
    "requests_total{instance=~\"host-1.*\",$}",
    "requests_total{instance!~\"host-[0-9]\",$}",
    "{__name__=~\"con.*|end.*\",$}",
    "odd{$}",
    "ending{$}",
    "beginning{$}",
    "flapping{$}",
    "temperature{unit=\"é°\",$}",
    "rate(requests_total{$}[40s])",
    "irate(requests_total{$}[40s])",
    "increase(requests_total{code=\"500\",$}[55s])",
    "resets(requests_total{$}[2m])",
    "changes(temperature{$}[30s])",
    "delta(temperature{$}[35s])",
    "deriv(temperature{$}[35s])",
    "predict_linear(constant{$}[30s], 60)",
    "sum(requests_total{$})",
    "sum by (code) (rate(requests_total{$}[40s]))",
    "sum without (code) (rate(requests_total{$}[40s]))",
    "avg by (code) (requests_total{$})",
    "count({$ __name__=~\".+\"})",
    "count by (__name__) ({$ __name__=~\".+\"})",
    "min by (unit) (temperature{$})",
    "max_over_time(temperature{$}[50s])",
    "min_over_time(temperature{$}[50s])",
    "avg_over_time(temperature{$}[50s])",
    "sum_over_time(flapping{$}[1m])",
    "count_over_time(odd{$}[45s])",
    "quantile_over_time(0.9, temperature{$}[50s])",
    "stddev by (code) (requests_total{$})",
    "histogram_quantile(0.7, sum by (le) (rate(latency_seconds_bucket{$}[40s])))",
    "topk(3, requests_total{code=\"500\",$})",
    "requests_total{code=\"200\",$} / ignoring (code) requests_total{code=\"500\",$} > 0.5",
];

/// A Prometheus over a database that exists, or over none, with features that have to be asked for.
pub fn start_prometheus(home: &Path, database: &Path, config: &str, features: &str) -> (Process, QueryApi) {
    let address = free_address();
    let file = home.join("prometheus.yml");
    std::fs::write(&file, config.replace("$SELF", &address.to_string())).unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", database.display()))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--enable-feature={features}"))
        .arg(format!("--web.listen-address={address}"));
    let mut process = Process::spawn("prometheus", command, home);
    wait_for("prometheus is ready", Duration::from_secs(60), || {
        assert!(process.ended().is_none(), "prometheus ended while it started");
        get(address, "/-/ready").is_ok_and(|response| response.status == 200).then_some(())
    });
    (process, QueryApi(address))
}

/// Whether the program is there; says so if it is not.
pub fn prometheus_is_there(test: &str) -> bool {
    let is_there = Command::new("prometheus").arg("--version").output().is_ok();
    if !is_there {
        leave_out(test, "prometheus is not installed");
    }
    is_there
}

#[test]
fn a_prometheus_on_a_copy_of_the_blocks_answers_as_annulus_does() {
    if !prometheus_is_there("a_prometheus_on_a_copy_of_the_blocks_answers_as_annulus_does") {
        return;
    }
    let server = start_server(&[]);
    let workloads = ["team-a", "team-b"].map(|tenant| Workload::new(tenant, 12, 160));
    for workload in &workloads {
        workload.send(server.addresses.write, 0..workload.step_count());
    }
    let workload = &workloads[0];
    let copy = copy_of(&wait_for_blocks(&server, workload.tenant, workload.end_ms()));
    let home = tempfile::tempdir().unwrap();
    let (process, prometheus) = start_prometheus(home.path(), copy.path(), "", "");

    let at = |step| workload.between_steps_ms(step);
    let mut answers = 0;
    for query in QUERIES {
        let tenant = format!("tenant_id=\"{}\",", workload.tenant);
        let (central, local) = (query.replace('$', &tenant), query.replace('$', ""));
        let mut compare = |when: &str, ask: &dyn Fn(QueryApi, &str) -> Matrix| {
            let (found, expected) = (as_sent(ask(server.query(), &central)), ask(prometheus, &local));
            answers += usize::from(!expected.is_empty());
            assert_eq!(difference(&found, &expected, TOLERANCE), None, "{query} {when}");
        };
        for step in [63, 101, 140] {
            compare("at one time", &|api, query| api.instant(query, at(step)));
        }
        compare("over a range", &|api, query| api.range(query, at(65), at(149), "7"));
    }
    assert!(answers > 3 * QUERIES.len(), "only {answers} answers have series");
    let log = process.log();
    assert!(!log.contains("level=error") && !log.contains("verlapping"), "{log}");
}

const SELF_SCRAPE: &str = r#"
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["$SELF"]}]
remote_write:
  - url: http://$ANNULUS/api/v1/receive
    queue_config: {batch_send_deadline: 1s}
"#;

#[test]
fn blocks_are_made_of_what_a_prometheus_sends() {
    let test = "blocks_are_made_of_what_a_prometheus_sends";
    if !prometheus_is_there(test) || !is_there(test) {
        return;
    }
    // Its shards do not send in step, and the machine may be busy.
    let server = start_server(&["--tsdb.min-block-duration=10s", "--tsdb.out-of-order.time-window=10s"]);
    let home = tempfile::tempdir().unwrap();
    let config = SELF_SCRAPE.replace("$ANNULUS", &server.addresses.write.to_string());
    let (_process, prometheus) = start_prometheus(home.path(), &home.path().join("data"), &config, "");

    let blocks = wait_for("whole windows are cut", Duration::from_secs(90), || {
        let blocks = local_blocks(&server, "default-tenant");
        (blocks.len() >= 3).then_some(blocks)
    });
    assert_in_order(&blocks);
    assert_holds_what_was_scraped(&blocks, prometheus);

    // Between two scrapes; half a second is enough for either of them to have been sent.
    let scrapes = prometheus.instant("up[1m]", now_ms());
    let scraped_ms = scrapes.values().next().unwrap()[0].0;
    let moment = |time_ms: i64| time_ms - (time_ms - scraped_ms).rem_euclid(1000) + 500;
    let end_ms = moment(now_ms() - 2000);
    for query in [
        "up{job=\"prometheus\"}",
        "count({job=\"prometheus\"})",
        "sum by (handler) (rate(prometheus_http_requests_total{handler=\"/metrics\"}[20s]))",
        "max_over_time(go_goroutines[25s])",
        "sum(increase(prometheus_tsdb_head_samples_appended_total[20s]))",
    ] {
        wait_until(&format!("{query} is answered alike:"), Duration::from_secs(20), || {
            let found = as_sent(server.query().range(query, end_ms - 6_000, end_ms, "2"));
            let expected = prometheus.range(query, end_ms - 6_000, end_ms, "2");
            assert!(!expected.is_empty(), "{query}");
            difference(&found, &expected, TOLERANCE).map_or(Ok(()), Err)
        });
    }
    assert_no_losses(&server);
}

/// All that the sender has of the time of the blocks, and nothing else. A marker of an end looks like any NaN in a dump,
/// and is not seen by queries.
fn assert_holds_what_was_scraped(blocks: &[Block], prometheus: QueryApi) {
    let (begin_ms, end_ms) = (blocks[0].min_ms, blocks.last().unwrap().max_ms);
    let of_blocks = |matrix: Matrix| -> Matrix {
        let keep =
            |&(time_ms, value): &(i64, f64)| time_ms >= begin_ms && time_ms < end_ms && !value.is_nan();
        let kept =
            matrix.into_iter().map(|(labels, samples)| (labels, samples.into_iter().filter(keep).collect()));
        kept.filter(|(_, samples): &(_, Vec<_>)| !samples.is_empty()).collect()
    };
    let expected = of_blocks(prometheus.instant("{__name__=~\".+\"}[5m]", end_ms));
    assert!(expected.len() > 300, "{} series", expected.len());
    let found = of_blocks(dump(copy_of(blocks).path()));
    assert_eq!(difference(&found, &expected, 0.0), None);
}
