//! The command `run`: one load at one rate.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use super::drive::{Job, drive};
use super::options::{CostOptions, OutputOptions, RunOptions};
use super::setup::{Setup, setup};
use crate::ledger::Ledger;
use crate::measure::progress::{Progress, ProgressLine};
use crate::measure::receiver::CostSource;
use crate::report::{Report, command_line};
use crate::result::RunResult;
use crate::send::endpoint::{AccessOptions, EndpointError};
use crate::send::load::Unreachable;
use crate::send::stop::Stop;
use crate::stream::{KEYS_HELP, Stream, StreamConfig, StreamError};
use crate::verify::{self, ReadBackArgs};

/// Longest wait for a page of metrics: one is due every second.
const METRICS_TIMEOUT: Duration = Duration::from_millis(900);

/// Send a stream at one rate and measure how the receiver takes it.
///
/// The stream is what Prometheus would send from real targets. Each request is due at a fixed time, whether or not
/// the receiver has answered the ones before (--mode open), and its latency counts from that time: a receiver that
/// stalls for a second is charged for every request that it kept waiting. Requests for the same series never
/// overtake each other.
///
/// Two of --series, --rate and --interval make the third:
///
/// annulus-loadgen run --url http://127.0.0.1:19291/api/v1/receive --series 1M --rate 100k
///
/// The generator watches itself. If its own schedule slipped (5 ms at the 99th percentile), or it used, or waited
/// for, more than 90 % of its CPUs, the figures would be about the generator: they are not shown unless
/// --allow-bottleneck is given.
///
/// Ctrl-C ends the load early with a report of what was measured; a second one ends the program.
///
/// Exit code: 0 if all went well; 1 if samples were refused, lost or not sent, or if the generator was the limit;
/// 2 if there is no result.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = format!("Keys of a profile, for files and --set, with their defaults:\n{KEYS_HELP}"))]
pub struct RunArgs {
    /// The load.
    #[command(flatten)]
    pub options: RunOptions,
    /// What is written.
    #[command(flatten)]
    pub output: OutputOptions,
    /// Whether it is read back.
    #[command(flatten)]
    pub read_back: ReadBackArgs,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Flags that cannot be, alone or together; the text names them.
    #[error("{0}")]
    Invalid(String),
    /// A profile or stream that cannot be.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A flag about the receiver that cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No connection at the start.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// A bug of ours; the panic has said more.
    #[error("the generator crashed (what panicked stands above): nothing can be said about the receiver")]
    Crashed,
    /// The file of fates cannot be written. The load has been sent.
    #[error("--ledger {}: {source}", path.display())]
    Ledger {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
}

/// A load that has been sent, with what is needed to read it back.
pub struct Sent {
    /// What was measured.
    pub result: RunResult,
    /// What was sent.
    pub stream: Arc<Stream>,
    /// What became of it.
    pub ledger: Arc<Ledger>,
    /// How to make the stream again.
    pub config: StreamConfig,
}

/// Sends one load and measures it. `stop` ends it early, with a valid result of the part before.
pub async fn run(
    options: &RunOptions,
    stop: &Stop,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<RunResult, RunError> {
    Ok(send(options, stop, progress).await?.result)
}

/// The same, and keeps what `verify` needs.
pub async fn send(
    options: &RunOptions,
    stop: &Stop,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<Sent, RunError> {
    let endpoints = options.endpoint.endpoints(options.stream.version.protocol())?;
    let cost = cost_source(&options.cost, &options.endpoint.access)?;
    let Setup { stream, config, plan, timing, makes_series, rate } = setup(options)?;
    let (stream, ledger) = (Arc::new(stream), Arc::new(Ledger::new()));
    let host = format!("{}:{}", endpoints[0].host, endpoints[0].port);
    let job = Job {
        source: Arc::<Stream>::clone(&stream),
        ledger: Arc::clone(&ledger),
        endpoints,
        plan,
        timing,
        makes_series,
        drain: options.pace.drain,
        cost,
        rate,
    };
    let mut result = drive(job, stop, progress).await?;
    result.receiver = options.cost.name.clone().unwrap_or(host);
    result.url = options.endpoint.url.join(", ");
    result.profile = options.stream.profile.clone();
    if !options.stream.set.is_empty() {
        result.profile = format!("{} with {}", result.profile, options.stream.set.join(", "));
    }
    result.seed = config.seed;
    result.series = config.series.unwrap_or_else(|| stream.samples_per_round());
    if let Some(path) = &options.ledger {
        ledger.save(path, &config).map_err(|source| RunError::Ledger { path: path.clone(), source })?;
    }
    Ok(Sent { result, stream, ledger, config })
}

/// Where the receiver's costs are seen, if anywhere.
fn cost_source(options: &CostOptions, access: &AccessOptions) -> Result<Option<CostSource>, EndpointError> {
    if !options.receiver_pid.is_empty() {
        return Ok(Some(CostSource::Processes(options.receiver_pid.clone())));
    }
    if options.receiver_metrics.is_empty() {
        return Ok(None);
    }
    let endpoint = |url: &String| {
        let mut endpoint = access.endpoint("--receiver-metrics", url)?;
        endpoint.timeout = endpoint.timeout.min(METRICS_TIMEOUT);
        Ok(Arc::new(endpoint))
    };
    let endpoints = options.receiver_metrics.iter().map(endpoint).collect::<Result<_, EndpointError>>()?;
    Ok(Some(CostSource::Metrics(endpoints)))
}

/// Runs the command.
pub fn command(args: &RunArgs) -> ExitCode {
    super::block_on(args.options.sender.threads, execute(args))
}

async fn execute(args: &RunArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let stop = Stop::on_signal();
    let line = Mutex::new(ProgressLine::default());
    let show = |progress: &Progress| line.lock().unwrap_or_else(PoisonError::into_inner).show(progress);
    let begin_ms = super::now_ms();
    // A wrong flag shows before anything is sent.
    let read_back = args.read_back.options(&args.options.endpoint.access)?;
    let mut sent = send(&args.options, &stop, &show).await?;
    line.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let mut unverified = None;
    if let Some(options) = read_back {
        match verify::verify_with_progress(sent.stream, sent.ledger, &options).await {
            Ok(found) => sent.result.verification = Some(found),
            Err(error) => {
                sent.result.errors.push((format!("not verified: {error}"), 1));
                unverified = Some(error);
            }
        }
    }
    let is_good = is_good(&sent.result, args.output.allow_bottleneck);
    let report = Report::run(command_line(std::env::args()), begin_ms, sent.result);
    args.output.present(report)?;
    if let Some(error) = unverified {
        return Err(error.into());
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Whether everything was acknowledged, and is there if that was looked at, and the figures are the receiver's.
pub(super) fn is_good(result: &RunResult, allow_bottleneck: bool) -> bool {
    let lost = result.refused_samples + result.unknown_samples + result.discarded_samples;
    let is_whole = lost + result.unsent_requests == 0;
    let is_there = result.verification.as_ref().is_none_or(verify::is_clean);
    is_whole && is_there && (allow_bottleneck || result.headroom.bottleneck.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Verification;

    #[test]
    fn anything_not_acknowledged_and_a_bottleneck_are_failures() {
        let mut result = RunResult::default();
        assert!(is_good(&result, false));
        result.headroom.bottleneck = Some("late".to_owned());
        assert!(!is_good(&result, false) && is_good(&result, true));
        for spoil in [
            (|result| result.refused_samples = 1) as fn(&mut RunResult),
            |result| result.unknown_samples = 1,
            |result| result.unsent_requests = 1,
            |result| result.discarded_samples = 1,
            |result| result.verification = Some(Verification { lost: 1, ..Verification::default() }),
        ] {
            let mut result = RunResult::default();
            spoil(&mut result);
            assert!(!is_good(&result, true));
        }
    }

    #[test]
    fn costs_are_read_from_processes_or_from_metrics() {
        let options = RunOptions::to_url("http://localhost/");
        let source = |cost: &CostOptions| {
            cost_source(cost, &options.endpoint.access).map(|source| source.map(|source| source.to_string()))
        };
        assert_eq!(source(&options.cost).unwrap(), None);
        let pids = CostOptions { receiver_pid: vec![7, 8], ..CostOptions::default() };
        assert_eq!(source(&pids).unwrap().as_deref(), Some("processes 7, 8"));
        let metrics =
            |url: &str| CostOptions { receiver_metrics: vec![url.to_owned()], ..CostOptions::default() };
        assert_eq!(
            source(&metrics("http://h/metrics")).unwrap().as_deref(),
            Some("metrics of http://h/metrics")
        );
        assert!(source(&metrics("h/metrics")).unwrap_err().to_string().starts_with("--receiver-metrics"));
    }
}
