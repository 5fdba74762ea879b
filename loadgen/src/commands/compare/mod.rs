//! `compare`: several receivers, one after the other, under the same stream.
//!
//! Owns:     the order of rounds, and the receivers that it starts.
//! Touches:  child processes and their temporary directories. The load itself is the `run` that it is given.
//! Promises: every receiver gets the same load; no two are measured at once; whatever was started is ended.

pub mod process;
pub mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use crate::commands::compare::process::Process;
use crate::commands::compare::target::{
    Choice, Kind, Spawn, Target, choices, parse_spawn, parse_spawn_flag, parse_target, with_flags,
};
use crate::commands::options::{
    CostOptions, OutputOptions, PaceOptions, RunOptions, SenderOptions, StreamOptions,
};
use crate::commands::run;
use crate::measure::progress::{Progress, ProgressLine};
use crate::measure::usage::filesystem;
use crate::quantity::parse_duration;
use crate::report::{Report, command_line};
use crate::result::RunResult;
use crate::send::endpoint::{AccessOptions, EndpointOptions};
use crate::send::stop::Stop;
use crate::verify::{self, QueryArgs};

/// Compare receivers, measured one after the other under the same stream.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
No two receivers are measured at once. The order is reversed in every other round, so that what the machine does \
meanwhile hits all alike. Tables show medians over rounds, and ratios to the first receiver.

Compare like with like: annulus flushes every sample to the device before it answers, Prometheus and VictoriaMetrics \
do not.

Example: compare --spawn annulus --spawn prometheus --rate 100k --duration 60s --html compare.html")]
pub struct CompareArgs {
    /// A receiver that runs: name=NAME,url=URL[,query-url=URL][,pid=PID]; can be repeated, and so can pid.
    #[arg(long = "receiver", value_name = "SPEC", value_parser = parse_target, help_heading = "Receivers")]
    receivers: Vec<Target>,
    /// A receiver to start for each round: annulus, prometheus or victoria-metrics, or KIND=PROGRAM; can be repeated.
    #[arg(long = "spawn", value_name = "KIND[=PROGRAM]", value_parser = parse_spawn, help_heading = "Receivers")]
    spawns: Vec<Spawn>,
    /// One more flag for each started receiver of a kind, such as annulus=--wal.ring-size=1GiB; can be repeated.
    #[arg(long = "spawn-flag", value_name = "KIND=FLAG", value_parser = parse_spawn_flag, help_heading = "Receivers")]
    spawn_flags: Vec<(Kind, String)>,
    /// The one that others are compared with. Default: the first --receiver, or else the first --spawn.
    #[arg(long, value_name = "NAME", help_heading = "Receivers")]
    base: Option<String>,
    /// Where started receivers keep their data: a directory on the device that you will buy. Default: the temporary
    /// directory, which may be memory.
    #[arg(long, value_name = "DIRECTORY", help_heading = "Receivers")]
    directory: Option<PathBuf>,
    /// Use HTTP/2: with prior knowledge for http://, by ALPN for https://.
    #[arg(long, help_heading = "Receivers")]
    http2: bool,
    /// Rounds of each receiver.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100),
          help_heading = "Rounds")]
    rounds: u32,
    /// Rest before each run but the first, in which the machine settles.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration, help_heading = "Rounds")]
    pause: Duration,
    /// Read everything back after each run and compare every sample, as the command `verify` does.
    #[arg(long, help_heading = "Verification")]
    verify: bool,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    access: AccessOptions,
    #[command(flatten)]
    stream: StreamOptions,
    #[command(flatten)]
    pace: PaceOptions,
    #[command(flatten)]
    sender: SenderOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The receivers; the first one is the base of the ratios.
    pub receivers: Vec<Choice>,
    /// The load of all; its receiver and whose cost is measured are those of each round.
    pub load: RunOptions,
    /// Rounds of each receiver.
    pub rounds: u32,
    /// Rest before each run but the first.
    pub pause: Duration,
    /// Where started receivers keep their data; `None` for the temporary directory.
    pub directory: Option<PathBuf>,
    /// How everything is read back, if it is.
    pub read_back: Option<QueryArgs>,
}

/// What came of a comparison.
#[derive(Debug)]
pub struct Outcome {
    /// The runs, those of the base first.
    pub runs: Vec<RunResult>,
    /// Why it ended before its last round.
    pub failure: Option<String>,
}

impl Outcome {
    /// Whether all runs are complete, everything was acknowledged, and the figures are the receivers'.
    pub fn is_good(&self, allow_bottleneck: bool) -> bool {
        let is_good = |run: &RunResult| !run.interrupted && run::is_good(run, allow_bottleneck);
        self.failure.is_none() && self.runs.iter().all(is_good)
    }
}

/// Measures all receivers in turn. `stop` ends it early, with what was measured until then.
pub async fn compare(comparison: &Comparison, stop: &Stop, progress: &(dyn Fn(&Progress) + Sync)) -> Outcome {
    rounds(comparison, stop, async |target: &Target| {
        let sent = run::send(&options(comparison, target), stop, progress).await;
        read_back(comparison, target, sent.map_err(|error| error.to_string())?).await
    })
    .await
}

/// Runs the comparison and shows it.
///
/// Exit code 0: all rounds are done and good; 1: something was not acknowledged, the generator was the limit, or the
/// comparison was interrupted; 2: it could not be made.
pub fn command(args: &CompareArgs) -> ExitCode {
    super::block_on(args.sender.threads, execute(args))
}

async fn execute(args: &CompareArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let comparison = args.comparison()?;
    let stop = Stop::on_signal();
    let line = Mutex::new(ProgressLine::default());
    let locked = || line.lock().unwrap_or_else(PoisonError::into_inner);
    let begin_ms = super::now_ms();
    let outcome = compare(&comparison, &stop, &|progress| locked().show(progress)).await;
    locked().clear();
    let is_good = outcome.is_good(args.output.allow_bottleneck) && !stop.is_requested();
    if !outcome.runs.is_empty() {
        let report = Report::compare(command_line(std::env::args()), begin_ms, outcome.runs);
        args.output.present(report)?;
    }
    match outcome.failure {
        Some(reason) => Err(reason.into()),
        None if is_good => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(1)),
    }
}

impl CompareArgs {
    fn comparison(&self) -> Result<Comparison, String> {
        let spawned = with_flags(self.spawns.clone(), &self.spawn_flags)?;
        let receivers = choices(&self.receivers, &spawned, self.base.as_deref())?;
        let unreadable = |target: &&Target| self.verify && target.query_url.is_none();
        if let Some(target) = self.receivers.iter().find(unreadable) {
            return Err(format!("--receiver {}: --verify needs its query-url=…", target.name));
        }
        let load = RunOptions {
            endpoint: EndpointOptions { url: Vec::new(), http2: self.http2, access: self.access.clone() },
            stream: self.stream.clone(),
            pace: self.pace.clone(),
            sender: self.sender.clone(),
            cost: CostOptions::default(),
            ledger: None,
        };
        Ok(Comparison {
            receivers,
            load,
            rounds: self.rounds,
            pause: self.pause,
            directory: self.directory.clone(),
            read_back: self.verify.then(|| self.query.clone()),
        })
    }
}

/// The result of a run, with what reading back found if that is wanted.
async fn read_back(comparison: &Comparison, target: &Target, sent: run::Sent) -> Result<RunResult, String> {
    let (Some(url), Some(query)) = (&target.query_url, &comparison.read_back) else {
        return Ok(sent.result);
    };
    let mut query = query.clone();
    if let Some(kind) = target.kind {
        query.settle = query.settle.max(kind.settle());
        query.tolerance = query.tolerance.max(kind.tolerance());
    }
    let access = &comparison.load.endpoint.access;
    let endpoint = access.endpoint("query-url", url).map_err(|error| error.to_string())?;
    let options = query.options(endpoint).map_err(|error| error.to_string())?;
    let found = verify::verify_with_progress(sent.stream, sent.ledger, &options).await;
    let verification = Some(found.map_err(|error| format!("not verified: {error}"))?);
    Ok(RunResult { verification, ..sent.result })
}

/// The load of all, sent to one.
fn options(comparison: &Comparison, target: &Target) -> RunOptions {
    let load = comparison.load.clone();
    RunOptions {
        endpoint: EndpointOptions { url: vec![target.url.clone()], ..load.endpoint },
        cost: CostOptions {
            name: Some(target.name.clone()),
            receiver_pid: target.pids.clone(),
            receiver_metrics: Vec::new(),
        },
        ..load
    }
}

/// All rounds, until one fails or is interrupted; what was measured by then is kept.
async fn rounds(
    comparison: &Comparison,
    stop: &Stop,
    mut run: impl AsyncFnMut(&Target) -> Result<RunResult, String>,
) -> Outcome {
    let choices = &comparison.receivers[..];
    let mut runs: Vec<RunResult> = Vec::new();
    for (round, index) in order(choices.len(), comparison.rounds as usize) {
        let choice = &choices[index];
        if !runs.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(comparison.pause) => {}
                () = stop.requested() => {}
            }
        }
        if stop.is_requested() {
            break;
        }
        eprintln!("round {} of {}: {}", round + 1, comparison.rounds, choice.name());
        match one(comparison, choice, &mut run).await {
            Ok(result) => {
                let interrupted = result.interrupted;
                runs.push(RunResult { receiver: choice.name().to_owned(), ..result });
                if interrupted {
                    break;
                }
            }
            Err(reason) => {
                in_order_of(choices, &mut runs);
                return Outcome { runs, failure: Some(format!("{}: {reason}", choice.name())) };
            }
        }
    }
    in_order_of(choices, &mut runs);
    Outcome { runs, failure: None }
}

async fn one(
    comparison: &Comparison,
    choice: &Choice,
    run: &mut impl AsyncFnMut(&Target) -> Result<RunResult, String>,
) -> Result<RunResult, String> {
    match choice {
        Choice::Running(target) => run(target).await,
        Choice::Spawned { name, spawn } => {
            let process = Process::start(name, spawn, comparison.directory.as_deref()).await?;
            let result = run(process.target()).await;
            process.stop().await;
            let directory = comparison.directory.clone().unwrap_or_else(std::env::temp_dir);
            let on_its_disk = |result: RunResult| {
                let machine = format!("{}, data on {}", result.machine, filesystem(&directory));
                RunResult { machine, ..result }
            };
            result.map(on_its_disk)
        }
    }
}

/// Pairs of round and receiver. Every other round goes backwards: whatever drifts meanwhile, be it the clock speed or
/// the fill of a disk, then favours nobody.
fn order(receivers: usize, rounds: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rounds).flat_map(move |round| {
        (0..receivers).map(move |place| (round, if round % 2 == 0 { place } else { receivers - 1 - place }))
    })
}

/// Puts the base's runs first, because the first receiver in a report is the base of its ratios.
fn in_order_of(choices: &[Choice], runs: &mut [RunResult]) {
    runs.sort_by_key(|run| choices.iter().position(|choice| choice.name() == run.receiver));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn args(line: &str) -> CompareArgs {
        Cli::parse_from(std::iter::once("compare").chain(line.split_whitespace())).args
    }

    /// Compares with a fake run that notes its targets.
    fn compared(
        line: &str,
        fake: impl Fn(usize, &Target) -> Result<RunResult, String>,
    ) -> (Vec<String>, Outcome) {
        let comparison = args(line).comparison().unwrap();
        let mut asked = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let stop = Stop::on_signal();
            rounds(&comparison, &stop, async |target: &Target| {
                asked.push(target.name.clone());
                fake(asked.len(), target)
            })
            .await
        });
        (asked, outcome)
    }

    const TWO: &str = "--receiver name=a,url=http://h:1 --receiver name=b,url=http://h:2 --pause 0";

    #[test]
    fn rounds_alternate_their_order() {
        let (asked, outcome) = compared(&format!("{TWO} --rounds 2"), |_, _| Ok(RunResult::default()));
        assert_eq!(asked, ["a", "b", "b", "a"]);
        assert!(outcome.failure.is_none());
        let receivers: Vec<&str> = outcome.runs.iter().map(|run| run.receiver.as_str()).collect();
        assert_eq!(receivers, ["a", "a", "b", "b"]);
    }

    #[test]
    fn every_receiver_gets_the_same_load_and_its_own_url() {
        let args = args(&format!("{TWO} --rate 7k --seed 3"));
        let comparison = args.comparison().unwrap();
        let [a, b] = [0, 1].map(|index| options(&comparison, &args.receivers[index]));
        assert_eq!(
            (a.endpoint.url, b.endpoint.url),
            (vec!["http://h:1".to_owned()], vec!["http://h:2".to_owned()])
        );
        assert_eq!((a.pace.rate, a.stream.seed), (b.pace.rate, b.stream.seed));
        assert_eq!((a.pace.rate, b.cost.name.as_deref()), (Some(7000.0), Some("b")));
    }

    #[test]
    fn the_base_comes_first_in_the_report() {
        let (asked, outcome) = compared(&format!("{TWO} --base b --rounds 1"), |_, target| {
            Ok(RunResult {
                achieved_rate: 1.0,
                p99_ms: if target.name == "a" { 6.0 } else { 3.0 },
                ..RunResult::default()
            })
        });
        assert_eq!(asked, ["b", "a"]);
        let report = Report::compare(String::new(), 0, outcome.runs);
        assert_eq!(report.comparison[1].figures["p99_ms"].ratio, Some(2.0));
    }

    #[test]
    fn an_interruption_ends_the_comparison_and_keeps_what_was_measured() {
        let (asked, outcome) = compared(&format!("{TWO} --rounds 3"), |number, _| {
            Ok(RunResult { interrupted: number == 3, ..RunResult::default() })
        });
        assert_eq!((asked.len(), outcome.runs.len()), (3, 3));
        assert!(outcome.failure.is_none());
    }

    #[test]
    fn a_failure_names_its_receiver_and_keeps_what_was_measured() {
        let (_, outcome) = compared(&format!("{TWO} --rounds 3"), |number, _| match number {
            2 => Err("connection refused".to_owned()),
            _ => Ok(RunResult::default()),
        });
        assert_eq!(outcome.runs.len(), 1);
        assert_eq!(outcome.failure.as_deref(), Some("b: connection refused"));
    }

    #[test]
    fn a_receiver_that_does_not_start_is_a_failure() {
        let (asked, outcome) = compared("--spawn prometheus=/nonexistent/x", |_, _| Ok(RunResult::default()));
        assert!(asked.is_empty() && outcome.failure.unwrap().contains("No such file"));
    }

    #[test]
    fn every_receiver_has_every_place_equally_often_in_two_rounds() {
        let places: Vec<usize> = order(3, 2).map(|(_, index)| index).collect();
        assert_eq!(places, [0, 1, 2, 2, 1, 0]);
    }
}
