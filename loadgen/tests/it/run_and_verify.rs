//! What the receiver acknowledged is there; and where it is not, verification says so, to the sample.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use annulus_loadgen::report::Report;
use annulus_loadgen::result::{RunResult, Verification};
use tempfile::TempDir;

use super::lossy_proxy::LossyProxy;
use super::process::{Process, free_address};
use super::receiver::{Kind, Receiver};

/// Pods that come and go, with stale markers, and counters that begin again.
const PROFILE: &str = "
series = 3000
churn_per_hour = 600.0
counter_resets_per_hour = 300.0
";

/// How long a run and its verification may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A run of the load generator.
struct Run {
    /// Before its directory, which holds the log that a failed test shows.
    process: Process,
    home: TempDir,
}

impl Run {
    /// Begins to send 3,000 samples a second to `url`, and to verify them at `query_url` if there is one.
    fn start(url: &str, query_url: Option<&str>, seconds: u32, flags: &[&str]) -> Run {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).display().to_string();
        std::fs::write(path("profile.toml"), PROFILE).unwrap();
        let mut command = loadgen();
        command.args(["run", "--url", url, "--profile", &path("profile.toml")]);
        command.args(["--interval", "1s", "--warmup", "0", "--duration", &format!("{seconds}s")]);
        command.args(["--samples-per-request", "100", "--connections", "4", "--allow-bottleneck"]);
        command.args(["--ledger", &path("ledger"), "--json", &path("result.json")]);
        if let Some(query_url) = query_url {
            command.args(["--verify", "--query-url", query_url]);
        }
        command.args(flags);
        let process = Process::spawn(command, &home.path().join("loadgen.log"));
        Run { process, home }
    }

    /// Its exit code and its result.
    fn end(&mut self) -> (Option<i32>, RunResult) {
        let status = self.process.wait(PATIENCE);
        let text = std::fs::read_to_string(self.home.path().join("result.json")).unwrap();
        let report: Report = serde_json::from_str(&text).unwrap();
        (status.code(), report.runs.into_iter().next().unwrap())
    }

    /// Verifies what it sent in another process; gives the exit code and the result.
    fn verify(&self, query_url: &str, flags: &[&str]) -> (Option<i32>, Verification) {
        let json = self.home.path().join("verification.json");
        let mut command = loadgen();
        command.arg("verify").arg("--ledger").arg(self.home.path().join("ledger"));
        command.args(["--query-url", query_url, "--json"]).arg(&json).args(flags);
        let mut process = Process::spawn(command, &self.home.path().join("verify.log"));
        let status = process.wait(PATIENCE);
        let text =
            std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {}", process.log()));
        (status.code(), serde_json::from_str(&text).unwrap())
    }
}

fn loadgen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_annulus-loadgen"))
}

fn differences(found: &Verification) -> [u64; 4] {
    [found.lost, found.altered, found.duplicated, found.unexpected]
}

fn annulus(test: &str) -> Option<Receiver> {
    let kind = Kind::annulus();
    if kind.is_none() {
        eprintln!("left out: {test}: no annulus binary (ANNULUS_BINARY, or built beside this one)");
    }
    kind.map(Receiver::start)
}

#[test]
fn everything_that_was_sent_to_annulus_is_there() {
    let Some(receiver) = annulus("everything_that_was_sent_to_annulus_is_there") else { return };
    let mut run = Run::start(&receiver.write_url(), Some(&receiver.query_url()), 6, &[]);
    let (code, result) = run.end();
    let found = result.verification.unwrap();
    assert_eq!((code, differences(&found)), (Some(0), [0; 4]), "{found:?}");
    assert_eq!(
        found.samples_checked,
        result.acknowledged_samples + result.acknowledged_histograms,
        "{found:?}"
    );
    assert!(found.series_checked > 3000 && found.samples_checked >= 18_000, "{found:?}");
    assert!(found.notes.iter().any(|note| note.contains(r#"replica="a""#)), "{found:?}");

    let (code, again) = run.verify(&receiver.query_url(), &[]);
    assert_eq!((code, &again), (Some(0), &found));
}

#[test]
fn what_was_acknowledged_outlives_a_kill_of_annulus() {
    let Some(mut receiver) = annulus("what_was_acknowledged_outlives_a_kill_of_annulus") else { return };
    let (write, query) = (receiver.write_url(), receiver.query_url());
    let mut run = Run::start(&write, Some(&query), 7, &["--retries", "20"]);
    receiver.wait_until_it_stored(6_000);
    receiver.kill_and_restart();
    let (code, result) = run.end();
    let found = result.verification.unwrap();
    assert_eq!((code, differences(&found)), (Some(0), [0; 4]), "{found:?}");
    assert!(result.retries > 0, "the kill was not noticed");
    assert!(found.samples_checked >= 21_000, "{found:?}");
}

#[test]
fn requests_that_a_proxy_threw_away_are_missed_to_the_sample() {
    let Some(receiver) = annulus("requests_that_a_proxy_threw_away_are_missed_to_the_sample") else { return };
    let proxy = LossyProxy::start(receiver.write, 100);
    let url = format!("http://{}{}", proxy.address, receiver.write_path());
    let mut run = Run::start(&url, Some(&receiver.query_url()), 6, &[]);
    let (code, result) = run.end();
    let found = result.verification.unwrap();
    let dropped = proxy.dropped_samples();
    assert!(dropped > 0);
    assert_eq!((code, differences(&found)), (Some(1), [dropped, 0, 0, 0]), "{found:?}");
    assert_eq!(found.examples.len(), 20);
    assert!(found.examples[0].starts_with("lost: "), "{found:?}");
}

#[test]
fn exemplars_and_metadata_take_nothing_from_the_samples() {
    let Some(receiver) = annulus("exemplars_and_metadata_take_nothing_from_the_samples") else { return };
    let flags = ["--as-prometheus", "--metadata-interval", "1s", "--set", "exemplar_share=0.1"];
    let mut run = Run::start(&receiver.write_url(), Some(&receiver.query_url()), 5, &flags);
    let (code, result) = run.end();
    let found = result.verification.unwrap();
    assert_eq!((code, differences(&found)), (Some(0), [0; 4]), "{found:?}");
    assert!(result.acknowledged_exemplars > 500 && result.metadata_messages > 0, "{:?}", result.errors);
    assert_eq!(result.shards.map(|shards| shards.least), Some(1));
}

#[test]
fn a_comparison_starts_its_receiver_and_reads_back_what_it_kept() {
    let Some(Kind::Annulus(binary)) = Kind::annulus() else {
        eprintln!(
            "left out: a_comparison_starts_its_receiver_and_reads_back_what_it_kept: no annulus binary"
        );
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let json = home.path().join("result.json");
    let mut command = loadgen();
    command.args([
        "compare",
        "--spawn",
        &format!("annulus={}", binary.display()),
        "--rounds",
        "1",
        "--verify",
    ]);
    command.args(["--set", "native_histogram_share=0", "--series", "2k", "--samples-per-request", "200"]);
    command.args([
        "--mode",
        "closed",
        "--samples-per-series",
        "20",
        "--allow-bottleneck",
        "--verify-targets",
        "3",
    ]);
    command.arg("--json").arg(&json).arg("--directory").arg(home.path());
    let mut process = Process::spawn(command, &home.path().join("compare.log"));
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
    let report: Report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((report.runs.len(), report.comparison[0].rounds), (1, 1));
    let (run, found) = (&report.runs[0], report.runs[0].verification.as_ref().unwrap());
    assert_eq!((run.acknowledged_samples, differences(found)), (40_000, [0; 4]), "{found:?}");
    assert!(found.samples_checked > 1000 && run.cost.is_some(), "{found:?}");
}

#[test]
fn prometheus_is_verified_too() {
    verify_installed(Kind::Prometheus, "prometheus", &[]);
}

#[test]
fn victoria_metrics_is_verified_within_its_rounding() {
    // It shows new series some time after it has taken them, and rounds to twelve digits.
    verify_installed(Kind::VictoriaMetrics, "victoria-metrics", &["--settle", "30s", "--tolerance", "1e-11"]);
}

fn verify_installed(kind: Kind, program: &str, flags: &[&str]) {
    let Some(kind) = kind.installed(program) else {
        eprintln!("left out: {program} is not installed");
        return;
    };
    let receiver = Receiver::start(kind);
    let mut run = Run::start(&receiver.write_url(), None, 5, &[]);
    assert_eq!(run.end().0, Some(0));
    let (code, found) = run.verify(&receiver.query_url(), flags);
    assert_eq!((code, differences(&found)), (Some(0), [0; 4]), "{found:?}");
    assert!(found.samples_checked >= 15_000, "{found:?}");
}

#[test]
fn without_a_result_the_exit_code_is_2_and_the_error_one_line() {
    let home = tempfile::tempdir().unwrap();
    let fails = |ledger: &Path, query: SocketAddr| {
        let mut command = loadgen();
        command.arg("verify").arg("--ledger").arg(ledger).args(["--query-url", &format!("http://{query}")]);
        let output = command.args(["--query-retries", "0"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let missing = home.path().join("missing");
    assert!(fails(&missing, free_address()).contains("--ledger"));
    let damaged = home.path().join("damaged");
    std::fs::write(&damaged, "not a ledger").unwrap();
    assert!(fails(&damaged, free_address()).contains("--ledger"));
}
