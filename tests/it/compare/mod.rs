//! The same samples in Prometheus and in annulus, and the same queries to both: hundreds that a grammar makes up, each
//! with the same answer or the same refusal.
//!
//! The hour of samples is sent twice over: as it was taken, and for annulus some of it late. A first part of the
//! queries finds all of it in the head. Then annulus is restarted and cuts blocks of ten minutes, so that the rest goes
//! over the seam between blocks, closed chunks and the open ones of the head.
//!
//! The Prometheus is Debian's 2.42, and annulus answers as 3.x does. What the two of them have to answer differently
//! is kept out:
//!
//! - Ranges that begin at the time of a sample, and subqueries that begin on the grid of their step, which 2.42
//!   includes: no sample is taken at a full second, times of evaluation end in 7 seconds, subqueries have steps of tens
//!   of seconds, and one within another is moved by an offset.
//! - Rates of counters that have just begun at about zero, or after a gap: 3.x asks first whether the range reaches
//!   far before the first sample, 2.42 first where the counter was zero. Counters here begin at a million.
//! - Sums and means of values whose large parts cancel each other: 3.x adds up with a compensation, 2.42 does not. Each
//!   expression knows what may be done with it. For the same reason nothing is divided by sums that may be -0.
//! - Standard deviations and quantiles where there is a NaN or an infinity: 2.42 gives 0 for the deviation of one value,
//!   and takes zero times the infinity next to a quantile.
//! - `predict_linear`, and functions whose arguments change with time, over a window that `@` fixes: 2.42 moves it.
//! - `timestamp` of a selector with both `@` and `offset`: Prometheus drops the offset, 3.16 too.
//! - A subquery as the whole query that has no step within its range but whose expression is fixed by `@`:
//!   Prometheus, 3.16 too, answers with a sample from after the end.
//! - `atan2`, which 2.42 takes for a comparison that is false; logarithms of numbers below 1e-308, which it gets
//!   wrong; `label_replace` of labels that are there, where series come and go: 3.x looks for equal
//!   label sets over all steps together.
//! - `holt_winters` has another name since 3.0. Functions, calculations with durations and label names that 2.42 does
//!   not know.
//! - `topk` among equal values, whose order is not defined; warnings; the words of an error.

mod answer;
mod binary;
mod data;
mod grammar;
mod metrics;
mod pick;
mod query;
mod range_calls;
mod wrong;

use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use super::support::http::{Client, get};
use super::support::process::Process;
use super::support::server::Server;
use super::support::write::{HEADERS, TimeSeries, body};
use super::support::{free_address, leave_out, wait_for, wait_until};
use answer::Answer;
use query::{Query, query};

/// The queries of every run.
const SEED: u64 = 20_261_124;
const QUERY_COUNT: u64 = 600;

/// Of them, so many of a hundred are asked before there are blocks.
const HEAD_PERCENT: u64 = 25;

/// How many differences are shown.
const SHOWN: usize = 12;

const LOOKBACK: &str = "--query.lookback-delta=1m";

/// How long a program may take to start, and annulus to cut its blocks, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(90);

/// The first windows of ten minutes, in which no sample can fall any more.
const BLOCKS: usize = 4;

/// Both sides with all samples.
struct Sides {
    annulus: Server,
    prometheus: Process,
    clients: [Client; 2],
}

impl Sides {
    fn start(home: &Path) -> Sides {
        let windows = ["--tsdb.min-block-duration=10m", "--tsdb.out-of-order.time-window=10m"];
        let more = [LOOKBACK, "--enable-feature=promql-experimental-functions"];
        let annulus = Server::start_with(&[&windows[..], &more].concat());
        let address = free_address();
        let config = home.join("prometheus.yml");
        std::fs::write(&config, "").unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.enable-remote-write-receiver", LOOKBACK]);
        let prometheus = Process::spawn("prometheus", command, home);
        wait_for("Prometheus is ready", LIMIT, || {
            get(address, "/-/ready").is_ok_and(|response| response.status == 200).then_some(())
        });
        let mut sender = annulus.sender();
        let mut clients = [Client::new(annulus.addresses.query), Client::new(address)];
        for step in data::steps(&[("replica", "a"), ("tenant_id", "default-tenant")]) {
            sender.store(&step.with_late);
            send_to_prometheus(&mut clients[1], &step.in_order);
        }
        Sides { annulus, prometheus, clients }
    }

    /// Restarts annulus, which looks for windows to cut as soon as it runs.
    fn wait_for_blocks(&mut self) {
        let status = self.annulus.terminate_and_restart();
        assert_eq!(status.code(), Some(0), "{status}");
        let folder = self.annulus.data_dir().join("blocks").join("default-tenant");
        wait_until("blocks of ten minutes:", LIMIT, || {
            let blocks = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let count = blocks.filter(|block| block.path().join("meta.json").exists()).count();
            if count == BLOCKS { Ok(()) } else { Err(format!("there are {count}")) }
        });
    }

    /// What annulus answers, and what Prometheus does.
    fn ask(&mut self, query: &Query) -> [Answer; 2] {
        let texts = [query.renamed_text(), query.text.clone()];
        let mut texts = texts.iter();
        self.clients.each_mut().map(|client| {
            let fields = query.times.iter().map(|(name, value)| (*name, value.as_str()));
            let text = texts.next().unwrap();
            let fields: Vec<_> = fields.chain([("query", text.as_str())]).collect();
            Answer::of(client, query.path, &fields)
        })
    }
}

fn send_to_prometheus(client: &mut Client, series: &[TimeSeries]) {
    let response = client.send("POST", "/api/v1/write", &HEADERS, &body(series)).unwrap();
    assert_eq!(response.status, 204, "{}", response.text());
}

/// Asks `count` queries of a seed and shows the first differences.
fn compare(seed: u64, count: u64) {
    let home = tempfile::tempdir().unwrap();
    let mut sides = Sides::start(home.path());
    let (mut differences, mut error_count, mut sample_count) = (Vec::new(), 0, 0);
    for number in 0..count {
        if number == count * HEAD_PERCENT / 100 {
            sides.wait_for_blocks();
        }
        let query = query(seed, number);
        let [found, expected] = sides.ask(&query);
        error_count += u64::from(expected.is_error());
        sample_count += u64::from(expected.has_samples());
        let difference = match query.is_mutated && !found.is_error() && !expected.is_error() {
            true => None,
            false => found.difference(&expected, query.is_sorted),
        };
        if let Some(difference) = difference {
            differences.push(format!("{number}: {}\n  {:?}\n    {difference}", query.text, query.times));
        }
    }
    println!(
        "{count} queries: {sample_count} with samples, {error_count} refused, {} differ",
        differences.len()
    );
    let shown = differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        differences.is_empty(),
        "{} of {count} queries of seed {seed} differ:\n{shown}",
        differences.len()
    );
    assert!(sample_count * 10 > count * 6, "only {sample_count} of {count} answers have samples");
    assert!(error_count * 100 > count * 5, "only {error_count} of {count} queries are refused");
    assert!(!sides.prometheus.log().contains("level=error"), "{}", sides.prometheus.log());
}

fn prometheus_is_there(test: &str) -> bool {
    let is_there = Command::new("prometheus").arg("--version").output().is_ok();
    if !is_there {
        leave_out(test, "prometheus is not installed");
    }
    is_there
}

#[test]
fn generated_queries_are_answered_over_the_seam_as_prometheus_answers_them() {
    if prometheus_is_there("generated queries side by side") {
        compare(SEED, QUERY_COUNT);
    }
}

/// `ANNULUS_COMPARE_SEED` and `ANNULUS_COMPARE_COUNT` say which queries, and how many.
#[test]
#[ignore = "as long as one likes"]
fn any_number_of_generated_queries_is_answered_as_prometheus_answers_them() {
    if prometheus_is_there("generated queries side by side") {
        compare(number_of("ANNULUS_COMPARE_SEED", SEED + 1), number_of("ANNULUS_COMPARE_COUNT", 5_000));
    }
}

fn number_of<N: FromStr>(variable: &str, default: N) -> N {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
