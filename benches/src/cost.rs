//! `cost`: what a receiver spends per million samples that it acknowledged and really stored.
//!
//! It is a comparison of the load generator with everything fixed that would make two results differ: the stream,
//! the connections, and a closed loop that keeps each of them busy.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use annulus_loadgen::commands::block_on;
use annulus_loadgen::commands::compare::target::{Choice, Kind, Spawn};
use annulus_loadgen::commands::compare::{Comparison, compare};
use annulus_loadgen::commands::options::RunOptions;
use annulus_loadgen::measure::progress::{Progress, ProgressLine};
use annulus_loadgen::quantity::{parse_count, parse_rate};
use annulus_loadgen::report::{Report, command_line};
use annulus_loadgen::send::load::Mode;
use annulus_loadgen::send::stop::Stop;
use annulus_loadgen::verify::QueryArgs;
use clap::{Args, ValueEnum};

/// Series of a cluster that stands still: 8 to 14 labels, 370 bytes each on the wire.
pub(crate) const PROFILE: &str = "kube-small";

/// No series comes or goes and none is a native histogram, so that every receiver does the same work.
pub(crate) const PROFILE_CHANGES: [&str; 3] =
    ["churn_per_hour=0", "counter_resets_per_hour=0", "native_histogram_share=0"];

/// Rest between two runs, in which the machine writes back what the one before left.
const PAUSE: Duration = Duration::from_secs(5);

/// Ends a run that is to end by its samples.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// CPU, memory, bytes written and latency of ingestion.
///
/// Closed loop: each connection has one request under way at all times. Latency counts from sending; annulus flushes
/// before it answers, the others do not. The generator shares the machine with the receiver: its CPU stands in the
/// table, and where it was itself the limit, no figure is shown. After each run some targets are read back, sample by sample, so that nobody
/// is fast by forgetting. Tables show medians over runs, and ratios to the first receiver.
///
/// The two loads of the design:
///
/// annulus-benches cost --receiver annulus --receiver prometheus
///
/// annulus-benches cost --receiver annulus --series 1M --samples-per-series 10 --with-creation
#[derive(Debug, Args)]
pub struct CostArguments {
    /// A receiver; can be repeated, the first one is the base of the ratios.
    #[arg(long = "receiver", value_enum, required = true)]
    receivers: Vec<Receiver>,
    /// Series, each of which gets one sample per round.
    #[arg(long, default_value = "100k", value_parser = parse_count)]
    series: u64,
    /// Samples, and so series, in one request.
    #[arg(long, default_value_t = 2000)]
    samples_per_request: u64,
    /// Connections, with one request at a time on each.
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Seconds of measured load in each run.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Ends a run after so many samples of each series, however long that takes.
    #[arg(long, alias = "rounds", value_parser = parse_count)]
    samples_per_series: Option<u64>,
    /// Measures the first samples too, with which all series are made.
    #[arg(long)]
    with_creation: bool,
    /// An open loop instead: so many samples per second, due by a schedule from which latency counts.
    #[arg(long, value_parser = parse_rate)]
    rate: Option<f64>,
    /// Runs per receiver; tables show medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Targets that are read back after each run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    verify_targets: u64,
    /// Where receivers keep their data while they are measured; the temporary directory by default.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The annulus to measure; by default the one that was built beside this binary.
    #[arg(long)]
    annulus_binary: Option<PathBuf>,
    /// One more flag for annulus; can be repeated.
    #[arg(long, allow_hyphen_values = true)]
    annulus_flag: Vec<String>,
    /// Show figures although the generator itself was the limit.
    #[arg(long)]
    allow_bottleneck: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as one HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A receiver that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Receiver {
    /// `annulus all` of this workspace; it alone flushes before each answer.
    Annulus,
    /// Prometheus with --web.enable-remote-write-receiver.
    Prometheus,
    /// Single-node VictoriaMetrics.
    VictoriaMetrics,
}

impl Receiver {
    fn kind(self) -> Kind {
        match self {
            Receiver::Annulus => Kind::Annulus,
            Receiver::Prometheus => Kind::Prometheus,
            Receiver::VictoriaMetrics => Kind::VictoriaMetrics,
        }
    }
}

/// Measures every receiver `runs` times, in turn, so that a disturbance of the machine meets all of them.
pub fn command(arguments: &CostArguments) -> ExitCode {
    block_on(None, execute(arguments))
}

async fn execute(arguments: &CostArguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let stop = Stop::on_signal();
    let begin_ms = annulus_loadgen::commands::now_ms();
    let line = Mutex::new(ProgressLine::default());
    let locked = || line.lock().unwrap_or_else(PoisonError::into_inner);
    let show = |progress: &Progress| locked().show(progress);
    let outcome = compare(&arguments.comparison(), &stop, &show).await;
    locked().clear();
    let is_good = outcome.is_good(arguments.allow_bottleneck) && !stop.is_requested();
    let mut report = Report::compare(command_line(std::env::args()), begin_ms, outcome.runs);
    if arguments.allow_bottleneck {
        report.allow_bottleneck();
    }
    println!("{}", arguments.title());
    std::io::stdout().write_all(report.to_text().as_bytes())?;
    if let Some(path) = &arguments.json {
        report.save_json(path)?;
    }
    if let Some(path) = &arguments.html {
        report.save_html(path)?;
    }
    match outcome.failure {
        Some(reason) => Err(reason.into()),
        None if is_good => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

impl CostArguments {
    /// What the report itself does not say.
    fn title(&self) -> String {
        format!(
            "{} samples a request, {} connections, {} runs, series creation {}",
            self.samples_per_request,
            self.connections,
            self.runs,
            if self.with_creation { "measured" } else { "not measured" }
        )
    }

    fn comparison(&self) -> Comparison {
        // Flags are replaced one by one, so that everything else is what `annulus-loadgen` does by itself.
        let mut load = RunOptions::to_url("http://replaced/");
        load.stream.profile = PROFILE.to_owned();
        load.stream.set = PROFILE_CHANGES.map(str::to_owned).to_vec();
        load.stream.series = Some(self.series);
        load.stream.samples_per_request = self.samples_per_request;
        load.sender.mode = if self.rate.is_some() { Mode::Open } else { Mode::Closed };
        load.sender.connections = self.connections;
        // A receiver that is at its limit says so with 503: that is what a bench at saturation finds.
        load.sender.retries = 1000;
        load.pace.rate = self.rate;
        load.pace.samples_per_series = self.samples_per_series;
        load.pace.duration = match self.samples_per_series {
            Some(_) => DURATION_MAX,
            None => Duration::from_secs(self.duration),
        };
        load.pace.warmup = self.with_creation.then_some(Duration::ZERO);
        let query = QueryArgs { verify_targets: Some(self.verify_targets), ..QueryArgs::default() };
        Comparison {
            receivers: self.receivers.iter().map(|receiver| self.choice(*receiver)).collect(),
            load,
            rounds: self.runs,
            pause: PAUSE,
            directory: self.directory.clone(),
            read_back: Some(query),
        }
    }

    fn choice(&self, receiver: Receiver) -> Choice {
        let kind = receiver.kind();
        let (binary, flags) = match kind {
            Kind::Annulus => (self.annulus_binary.clone(), self.annulus_flag.clone()),
            Kind::Prometheus | Kind::VictoriaMetrics => (None, Vec::new()),
        };
        Choice::Spawned { name: kind.name().to_owned(), spawn: Spawn { kind, binary, flags } }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: CostArguments,
    }

    fn comparison(line: &str) -> Comparison {
        let words = ["cost", "--receiver", "annulus"].into_iter().chain(line.split_whitespace());
        Line::parse_from(words).arguments.comparison()
    }

    #[test]
    fn the_two_loads_of_the_design_are_a_flag_or_two_away() {
        let first = comparison("").load;
        assert_eq!((first.stream.series, first.stream.samples_per_request), (Some(100_000), 2000));
        assert_eq!((first.sender.connections, first.sender.mode), (4, Mode::Closed));
        assert_eq!((first.pace.warmup, first.pace.duration), (None, Duration::from_secs(30)));
        let second = comparison("--series 1M --rounds 10 --with-creation").load;
        assert_eq!((second.stream.series, second.pace.samples_per_series), (Some(1_000_000), Some(10)));
        assert_eq!((second.pace.warmup, second.pace.duration), (Some(Duration::ZERO), DURATION_MAX));
    }

    #[test]
    fn flags_are_for_annulus_alone() {
        let choices = comparison("--receiver prometheus --annulus-flag=--shards=1").receivers;
        let flags = |choice: &Choice| match choice {
            Choice::Spawned { spawn, .. } => spawn.flags.len(),
            Choice::Running(_) => 0,
        };
        assert_eq!(choices.iter().map(flags).collect::<Vec<_>>(), [1, 0]);
    }
}
