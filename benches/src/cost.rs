//! `cost`: what a receiver spends per million samples that it acknowledged and really stored.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::receiver::{Kind, Receiver, ReceiverError};
use crate::report::{Measurement, print_report};
use crate::sender::{LaneResult, Plan, SendError, latency_histogram, send};
use crate::series::{CLUSTER, Series};
use crate::template::{STEP_MS, Template};
use crate::usage::{Usage, machine};

/// How far before now the samples begin; the run ends at the latest when their time reaches now, since some
/// receivers refuse the future.
const BEGIN_BEFORE_NOW: Duration = Duration::from_secs(24 * 3600);

/// What to measure.
#[derive(Debug, Args)]
pub struct CostArguments {
    /// A receiver; may be repeated, the first one is the base of the ratios.
    #[arg(long = "receiver", value_enum, required = true)]
    receivers: Vec<Kind>,
    /// Series, each of which gets one sample per round.
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Samples, and so series, in one request.
    #[arg(long, default_value_t = 2000)]
    samples_per_request: usize,
    /// Connections, each with its share of the series and one request at a time.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Seconds of measured load in each run.
    #[arg(long, default_value_t = 30)]
    duration: u64,
    /// Ends a run after so many rounds, even before --duration.
    #[arg(long)]
    rounds: Option<u64>,
    /// Measures the first round too, in which all series are made.
    #[arg(long)]
    with_creation: bool,
    /// Runs per receiver; the table shows medians.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where receivers keep their data while they are measured; the temporary directory by default.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The annulus to measure; by default the one that was built beside this binary.
    #[arg(long)]
    annulus_binary: Option<PathBuf>,
    /// One more flag for annulus; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    annulus_flag: Vec<String>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(String),
    /// The receiver.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// The load.
    #[error("{name}: {source}")]
    Send {
        /// Which receiver.
        name: &'static str,
        /// What happened.
        source: SendError,
    },
    /// The receiver acknowledged what it does not have.
    #[error("{name} acknowledged {sent} samples and counts {stored} as stored")]
    Lost {
        /// Which receiver.
        name: &'static str,
        /// Acknowledged.
        sent: u64,
        /// By its own count.
        stored: u64,
    },
    /// Files and `/proc`.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Measures every receiver `runs` times, in turn, so that a disturbance of the machine meets all of them.
pub fn run(arguments: &CostArguments) -> Result<(), CostError> {
    arguments.check()?;
    let directory = arguments.directory.clone().unwrap_or_else(std::env::temp_dir);
    println!("{}", machine(&directory));
    println!(
        "{} series of 12 labels, {} samples a request, {} connections, closed loop, {} s, {} runs, series creation {}",
        arguments.series,
        arguments.samples_per_request,
        arguments.connections,
        arguments.duration,
        arguments.runs,
        if arguments.with_creation { "measured" } else { "not measured" }
    );
    let mut measured: Vec<(Kind, Vec<Measurement>)> =
        arguments.receivers.iter().map(|kind| (*kind, Vec::new())).collect();
    for run in 1..=arguments.runs {
        for (kind, measurements) in &mut measured {
            let home = tempfile::Builder::new().prefix("annulus-bench-").tempdir_in(&directory)?;
            let measurement = measure(*kind, arguments, home.path())?;
            println!("run {run}: {measurement}");
            measurements.push(measurement);
        }
    }
    print_report(&measured);
    Ok(())
}

impl CostArguments {
    fn check(&self) -> Result<(), CostError> {
        let request_count = self.series.div_ceil(self.samples_per_request.max(1));
        if self.samples_per_request == 0 || self.connections == 0 || self.runs == 0 {
            return Err(CostError::Arguments("counts must be at least 1".to_owned()));
        }
        if request_count < self.connections {
            let text =
                format!("{request_count} requests a round are too few for {} connections", self.connections);
            return Err(CostError::Arguments(text));
        }
        Ok(())
    }

    fn plan(&self) -> Plan {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let rounds_max = BEGIN_BEFORE_NOW.as_millis() as u64 / STEP_MS as u64;
        Plan {
            start_ms: now_ms - BEGIN_BEFORE_NOW.as_millis() as i64,
            rounds_max: self.rounds.unwrap_or(rounds_max).min(rounds_max),
            duration: Duration::from_secs(self.duration),
            is_creation_measured: self.with_creation,
        }
    }

    /// The requests of each connection, dealt out in turn.
    fn lanes(&self, receiver: &Receiver) -> Vec<Vec<Template>> {
        let mut lanes: Vec<Vec<Template>> = (0..self.connections).map(|_| Vec::new()).collect();
        let host = receiver.write.to_string();
        for (index, start) in (0..self.series).step_by(self.samples_per_request).enumerate() {
            let series: Range<usize> = start..(start + self.samples_per_request).min(self.series);
            let template = Template::new(receiver.kind.write_path(), &host, series);
            lanes[index % self.connections].push(template);
        }
        lanes
    }
}

fn measure(kind: Kind, arguments: &CostArguments, home: &std::path::Path) -> Result<Measurement, CostError> {
    let (binary, flags) = match kind {
        Kind::Annulus => (arguments.annulus_binary.as_deref(), &arguments.annulus_flag[..]),
        Kind::Prometheus | Kind::VictoriaMetrics => (None, &[][..]),
    };
    let receiver = Receiver::start(kind, binary, home, flags)?;
    let lanes = arguments.lanes(&receiver);
    let plan = arguments.plan();
    let stored_before = receiver.stored_samples()?;
    let at_start = || (Usage::of(receiver.pid()), Usage::of_self(), Instant::now());
    let ((before, sender_before, started), results) = send(receiver.write, lanes, plan, at_start)
        .map_err(|source| CostError::Send { name: kind.name(), source })?;
    let elapsed = started.elapsed();
    let (after, sender_after) = (Usage::of(receiver.pid())?, Usage::of_self()?);
    let (before, sender_before) = (before?, sender_before?);

    verify(&receiver, plan, &results, stored_before)?;
    let mut latency_us = latency_histogram();
    for result in &results {
        latency_us += &result.latency_us;
    }
    let samples: u64 = results.iter().map(|result| result.samples).sum();
    let millions = (samples as f64 / 1e6).max(f64::MIN_POSITIVE);
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(Measurement {
        kind,
        samples_per_second: samples as f64 / elapsed.as_secs_f64(),
        cpu_seconds_per_million: (after.cpu_seconds - before.cpu_seconds) / millions,
        sender_cpu_seconds_per_million: (sender_after.cpu_seconds - sender_before.cpu_seconds) / millions,
        resident_mebibytes: mebibytes(after.resident_bytes),
        resident_peak_mebibytes: mebibytes(after.resident_peak_bytes),
        written_bytes_per_sample: (after.written_bytes - before.written_bytes) as f64 / samples.max(1) as f64,
        latency_p50_ms: latency_us.value_at_quantile(0.5) as f64 / 1000.0,
        latency_p99_ms: latency_us.value_at_quantile(0.99) as f64 / 1000.0,
        retries: results.iter().map(|result| result.retries).sum(),
    })
}

/// Every acknowledged sample is counted, every series is there, and single series have each of their rounds.
fn verify(
    receiver: &Receiver,
    plan: Plan,
    results: &[LaneResult],
    stored_before: u64,
) -> Result<(), CostError> {
    let rounds = || results.iter().flat_map(|result| &result.rounds);
    let sent: u64 = rounds().map(|(template, rounds)| template.sample_count() as u64 * rounds).sum();
    let stored = receiver.stored_samples()? - stored_before;
    if stored < sent {
        return Err(CostError::Lost { name: receiver.kind.name(), sent, stored });
    }
    let Some(rounds_max) = rounds().map(|(_, rounds)| *rounds).max().filter(|rounds| *rounds > 0) else {
        return Ok(());
    };
    let end_ms = plan.timestamp_ms(rounds_max - 1);
    let series_count: usize =
        rounds().filter(|(_, rounds)| *rounds > 0).map(|(template, _)| template.sample_count()).sum();
    receiver.expect(&format!("count({{cluster=\"{CLUSTER}\"}})"), end_ms, series_count as f64)?;
    for result in results {
        for (template, rounds) in result.rounds.iter().filter(|(_, rounds)| *rounds > 0).take(1) {
            let series = Series(template.series().start);
            let window_seconds = rounds_max as i64 * STEP_MS / 1000 + 60;
            let query = format!("count_over_time({}[{window_seconds}s])", series.selector());
            receiver.expect(&query, end_ms, *rounds as f64)?;
            let last_ms = plan.timestamp_ms(rounds - 1);
            receiver.expect(&series.selector(), last_ms, series.value(rounds - 1))?;
        }
    }
    Ok(())
}
