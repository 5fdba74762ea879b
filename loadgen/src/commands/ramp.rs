//! The command `ramp`: the highest rate that a receiver sustains.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use super::options::{CostOptions, OutputOptions, PaceOptions, RunOptions, SenderOptions, StreamOptions};
use super::run::{RunError, run};
use super::setup::setup;
use crate::measure::progress::{Progress, ProgressLine};
use crate::measure::usage::allowed_cpus;
use crate::quantity::{count, parse_duration, parse_positive_duration, parse_rate, parse_share};
use crate::report::{Report, command_line};
use crate::result::RunResult;
use crate::send::endpoint::EndpointOptions;
use crate::send::load::Mode;
use crate::send::stop::Stop;

/// Share of the offered rate that a receiver must acknowledge, while it is offered, to sustain it.
const SUSTAINED_SHARE: f64 = 0.98;

/// The warm-up of a step, if nothing else is said.
const WARMUP: Duration = Duration::from_secs(5);

/// Find the highest rate that a receiver sustains.
///
/// The rate rises from --from by --factor from step to step, over the same series, until a limit is crossed; then the
/// steps close in on the limit until it is known to --precision. A step is sustained if the receiver acknowledges
/// what it is offered, within the limits on latency, errors, and CPU. The result holds every step; `plan --calibrate`
/// reads it.
///
/// annulus-loadgen ramp --url http://127.0.0.1:19291/api/v1/receive --series 200k --receiver-pid 4711 --json r.json
///
/// Exit code: 0 if a highest sustained rate was found; 1 if no step was sustained, or if the generator was the limit
/// before the receiver; 2 if there is no result.
#[derive(Debug, Clone, Args)]
pub struct RampArgs {
    /// The receiver.
    #[command(flatten)]
    pub endpoint: EndpointOptions,
    /// What is sent.
    #[command(flatten)]
    pub stream: StreamOptions,
    /// By which kind of sender.
    #[command(flatten)]
    pub sender: SenderOptions,
    /// What the receiver spends.
    #[command(flatten)]
    pub cost: CostOptions,
    /// How the rate rises.
    #[command(flatten)]
    pub steps: StepOptions,
    /// When it is too much.
    #[command(flatten)]
    pub limits: Limits,
    /// What is written.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// The flags about the steps.
#[derive(Debug, Clone, Args)]
pub struct StepOptions {
    /// Samples per second of the first step.
    #[arg(long, value_name = "RATE", default_value = "10k", value_parser = parse_rate, help_heading = "Steps")]
    pub from: f64,
    /// The highest rate to try.
    #[arg(long, value_name = "RATE", default_value = "2M", value_parser = parse_rate, help_heading = "Steps")]
    pub to: f64,
    /// Each step offers so many times the rate of the one before.
    #[arg(long, value_name = "FACTOR", default_value = "2", value_parser = parse_rate, help_heading = "Steps")]
    pub factor: f64,
    /// How exactly the limit is to be found.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = parse_share, help_heading = "Steps")]
    pub precision: f64,
    /// Length of the measured part of each step.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_positive_duration,
          help_heading = "Steps")]
    pub duration: Duration,
    /// Time before it, which is not measured. Default: 5s; for the first step, in which all series are made, at least
    /// one interval and 10s.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Steps")]
    pub warmup: Option<Duration>,
    /// Longest wait for answers after the end of each step.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration,
          help_heading = "Steps")]
    pub drain: Duration,
    /// Rest before each step but the first, in which the receiver finishes what it has begun.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration,
          help_heading = "Steps")]
    pub pause: Duration,
}

/// The flags about limits.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Latency of the 95th percentile, from the due time.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_positive_duration,
          help_heading = "Limits")]
    pub max_p95: Duration,
    /// Latency of the 99th percentile.
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "Limits")]
    pub max_p99: Option<Duration>,
    /// Share of the samples that may be refused or lost.
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share, help_heading = "Limits")]
    pub max_errors: f64,
    /// Share of the receiver's CPUs; needs --receiver-pid or --receiver-metrics.
    #[arg(long, value_name = "SHARE", default_value = "70%", value_parser = parse_share, help_heading = "Limits")]
    pub max_receiver_cpu: f64,
    /// CPUs of the receiver. Default: those of this machine with --receiver-pid; otherwise there is no limit on CPU.
    #[arg(long, value_name = "COUNT", value_parser = parse_rate, help_heading = "Limits")]
    pub receiver_cpus: Option<f64>,
}

impl Limits {
    /// Which limits a step has crossed, in words.
    pub fn crossed(&self, result: &RunResult) -> Vec<String> {
        let mut crossed = Vec::new();
        for (name, latency_ms, max) in
            [("p95", result.p95_ms, Some(self.max_p95)), ("p99", result.p99_ms, self.max_p99)]
        {
            let max_ms = max.map_or(f64::INFINITY, |max| max.as_secs_f64() * 1000.0);
            if latency_ms > max_ms {
                crossed.push(format!("{name} of {latency_ms:.0} ms is above {max_ms:.0} ms"));
            }
        }
        let lost = result.refused_samples + result.unknown_samples + result.discarded_samples;
        let share = lost as f64 / result.sent_samples.max(1) as f64;
        if share > self.max_errors {
            crossed.push(format!("{:.3} % of the samples were refused or lost", share * 100.0));
        }
        if result.unsent_requests > 0 {
            crossed.push(format!("{} requests found no free connection", result.unsent_requests));
        }
        if result.achieved_rate < result.offered_rate * SUSTAINED_SHARE {
            crossed.push(format!(
                "{} of {} samples/s were acknowledged",
                count(result.achieved_rate),
                count(result.offered_rate)
            ));
        }
        if let (Some(cost), Some(cpus)) = (&result.cost, self.receiver_cpus) {
            let share = cost.cpu_s / result.duration_s.max(f64::MIN_POSITIVE) / cpus;
            if share > self.max_receiver_cpu {
                crossed.push(format!(
                    "the receiver used {:.0} % of its CPUs, more than {:.0} %",
                    share * 100.0,
                    self.max_receiver_cpu * 100.0
                ));
            }
        }
        crossed
    }
}

/// The way to the highest sustained rate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Search {
    from: f64,
    to: f64,
    factor: f64,
    precision: f64,
    /// The highest rate that was sustained, and the lowest that was not.
    sustained: Option<f64>,
    too_much: Option<f64>,
}

impl Search {
    /// The rate to try, while there is something to find out.
    fn next(&self) -> Option<f64> {
        match (self.sustained, self.too_much) {
            (None, None) => Some(self.from),
            (None, Some(_)) => None,
            (Some(sustained), None) => (sustained < self.to).then(|| (sustained * self.factor).min(self.to)),
            (Some(sustained), Some(too_much)) => {
                (too_much > sustained * (1.0 + self.precision)).then(|| (sustained * too_much).sqrt())
            }
        }
    }

    fn learn(&mut self, rate: f64, is_sustained: bool) {
        if is_sustained { self.sustained = Some(rate) } else { self.too_much = Some(rate) }
    }
}

/// A whole ramp.
#[derive(Debug, Clone)]
pub struct Ramp {
    /// One result for each step, in order of time.
    pub steps: Vec<RunResult>,
    /// The step with the highest sustained rate.
    pub highest_sustained: Option<usize>,
    /// Why it does not go higher.
    pub ended_by: Option<String>,
    /// The generator was the limit before the receiver.
    pub is_generator_limit: bool,
}

/// Raises the rate step by step.
pub async fn ramp(
    args: &RampArgs,
    stop: &Stop,
    progress: &(dyn Fn(&Progress) + Sync),
    on_step: &(dyn Fn(f64, &RunResult, &[String]) + Sync),
) -> Result<Ramp, RunError> {
    let StepOptions { from, to, factor, precision, .. } = args.steps;
    check(args)?;
    let (first_warmup, later_warmup) = warmups(args)?;
    let mut limits = args.limits.clone();
    if limits.receiver_cpus.is_none() && !args.cost.receiver_pid.is_empty() {
        limits.receiver_cpus = Some(allowed_cpus() as f64);
    }
    let mut search = Search { from, to, factor, precision, sustained: None, too_much: None };
    let mut ramp =
        Ramp { steps: Vec::new(), highest_sustained: None, ended_by: None, is_generator_limit: false };
    while let Some(rate) = search.next() {
        let warmup = if ramp.steps.is_empty() { first_warmup } else { later_warmup };
        if !ramp.steps.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(args.steps.pause) => {}
                () = stop.requested() => {}
            }
        }
        if stop.is_requested() {
            ramp.ended_by = Some("interrupted".to_owned());
            break;
        }
        let result = run(&step(args, rate, Some(warmup)), stop, progress).await?;
        let crossed = limits.crossed(&result);
        on_step(rate, &result, &crossed);
        let bottleneck = result.headroom.bottleneck.clone().filter(|_| !args.output.allow_bottleneck);
        let is_interrupted = result.interrupted;
        ramp.steps.push(result);
        if is_interrupted {
            ramp.ended_by = Some("interrupted".to_owned());
            break;
        }
        // Nothing is learnt from it, not even that it was too much: the lateness may be all the generator's own.
        if let Some(bottleneck) = bottleneck {
            ramp.ended_by = Some(format!("the generator was the limit at {}: {bottleneck}", count(rate)));
            ramp.is_generator_limit = true;
            break;
        }
        search.learn(rate, crossed.is_empty());
        if crossed.is_empty() {
            ramp.highest_sustained = Some(ramp.steps.len() - 1);
        } else {
            ramp.ended_by = Some(format!("at {} samples/s: {}", count(rate), crossed.join("; ")));
        }
    }
    if ramp.ended_by.is_none() {
        ramp.ended_by = Some(format!("the highest rate to try, {}, was sustained", count(to)));
    }
    Ok(ramp)
}

fn check(args: &RampArgs) -> Result<(), RunError> {
    let invalid = |text: &str| Err(RunError::Invalid(text.to_owned()));
    if args.steps.factor <= 1.0 {
        return invalid("--factor: must be above 1, so that the rate rises");
    }
    if args.steps.from > args.steps.to {
        return invalid("--from: must not be above --to");
    }
    if args.steps.precision < 0.001 {
        return invalid("--precision: must be at least 0.1%");
    }
    if args.sender.mode == Mode::Closed {
        return invalid("--mode: a ramp offers rates, which a closed loop has none of");
    }
    // The highest rate is the one whose interval may be too short.
    setup(&step(args, args.steps.to, None))?;
    Ok(())
}

/// The warm-ups of the first step and of later ones. Whatever was asked for, the first step must not measure how
/// series are made; `run` knows how long that takes.
fn warmups(args: &RampArgs) -> Result<(Duration, Duration), RunError> {
    let wanted = args.steps.warmup.unwrap_or(WARMUP);
    let creation = setup(&step(args, args.steps.from, None))?.timing.begin_us;
    Ok((wanted.max(Duration::from_micros(creation)), wanted))
}

fn step(args: &RampArgs, rate: f64, warmup: Option<Duration>) -> RunOptions {
    RunOptions {
        endpoint: args.endpoint.clone(),
        stream: args.stream.clone(),
        pace: PaceOptions {
            rate: Some(rate),
            interval: None,
            duration: args.steps.duration,
            samples_per_series: None,
            warmup,
            drain: args.steps.drain,
        },
        sender: args.sender.clone(),
        cost: args.cost.clone(),
        ledger: None,
    }
}

/// Runs the command.
pub fn command(args: &RampArgs) -> ExitCode {
    super::block_on(args.sender.threads, execute(args))
}

async fn execute(args: &RampArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let stop = Stop::on_signal();
    let line = Mutex::new(ProgressLine::default());
    let locked = || line.lock().unwrap_or_else(PoisonError::into_inner);
    let on_step = |rate: f64, result: &RunResult, crossed: &[String]| {
        locked().clear();
        let verdict = match &result.headroom.bottleneck {
            Some(bottleneck) => bottleneck.clone(),
            None if crossed.is_empty() => "sustained".to_owned(),
            None => crossed.join("; "),
        };
        eprintln!("{:>8} samples/s: p99 {:.1} ms, {verdict}", count(rate), result.p99_ms);
    };
    let begin_ms = super::now_ms();
    let ramp = ramp(args, &stop, &|progress| locked().show(progress), &on_step).await?;
    locked().clear();
    let is_good = ramp.highest_sustained.is_some() && !ramp.is_generator_limit;
    let report = Report::ramp(
        command_line(std::env::args()),
        begin_ms,
        ramp.steps,
        ramp.highest_sustained,
        ramp.ended_by,
    );
    args.output.present(report)?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::ReceiverCost;

    fn found(capacity: f64, from: f64, to: f64) -> (Vec<f64>, Option<f64>) {
        let mut search = Search { from, to, factor: 2.0, precision: 0.05, sustained: None, too_much: None };
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.learn(rate, rate <= capacity);
            assert!(tried.len() < 50, "the search does not end: {tried:?}");
        }
        (tried, search.sustained)
    }

    #[test]
    fn the_search_closes_in_on_the_capacity() {
        for capacity in [10_000.0, 123_456.0, 777_777.0, 1_999_999.0] {
            let (tried, found) = found(capacity, 10_000.0, 5_000_000.0);
            let found = found.unwrap();
            assert!(found <= capacity && found * 1.05 >= capacity, "{found} of {capacity}, tried {tried:?}");
        }
    }

    #[test]
    fn the_search_ends_at_the_highest_rate_and_below_the_first() {
        assert_eq!(found(f64::INFINITY, 10.0, 50.0), (vec![10.0, 20.0, 40.0, 50.0], Some(50.0)));
        assert_eq!(found(5.0, 10.0, 50.0), (vec![10.0], None));
    }

    fn limits() -> Limits {
        Limits {
            max_p95: Duration::from_secs(2),
            max_p99: Some(Duration::from_secs(3)),
            max_errors: 0.01,
            max_receiver_cpu: 0.7,
            receiver_cpus: Some(2.0),
        }
    }

    #[test]
    fn only_the_first_step_takes_as_long_as_series_need_to_be_made() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RampArgs,
        }
        let args = |line: &str| {
            let words = ["ramp", "--url", "http://h/"].into_iter().chain(line.split_whitespace());
            <Line as clap::Parser>::parse_from(words).args
        };
        let seconds = |line: &str| {
            let (first, later) = warmups(&args(line)).unwrap();
            (first.as_secs(), later.as_secs())
        };
        assert_eq!(seconds("--series 1k"), (10, 5));
        assert_eq!(seconds("--series 200k --from 10k --warmup 3s"), (20, 3));
        assert_eq!(seconds("--series 200k --from 10k --warmup 40s"), (40, 40));
    }

    #[test]
    fn each_limit_is_told_when_it_is_crossed() {
        let fine = RunResult {
            offered_rate: 100.0,
            achieved_rate: 99.0,
            duration_s: 10.0,
            sent_samples: 1000,
            refused_samples: 10,
            p95_ms: 2000.0,
            p99_ms: 3000.0,
            cost: Some(ReceiverCost { cpu_s: 14.0, ..ReceiverCost::default() }),
            ..RunResult::default()
        };
        assert_eq!(limits().crossed(&fine), Vec::<String>::new());
        let spoilt = |spoil: fn(&mut RunResult)| {
            let mut result = fine.clone();
            spoil(&mut result);
            limits().crossed(&result).join("; ")
        };
        assert_eq!(spoilt(|result| result.p95_ms = 2001.0), "p95 of 2001 ms is above 2000 ms");
        assert_eq!(spoilt(|result| result.p99_ms = 3001.0), "p99 of 3001 ms is above 3000 ms");
        assert_eq!(
            spoilt(|result| result.unknown_samples = 1),
            "1.100 % of the samples were refused or lost"
        );
        assert_eq!(spoilt(|result| result.unsent_requests = 4), "4 requests found no free connection");
        assert_eq!(spoilt(|result| result.achieved_rate = 90.0), "90 of 100 samples/s were acknowledged");
        let hot = spoilt(|result| result.cost.as_mut().unwrap().cpu_s = 15.0);
        assert_eq!(hot, "the receiver used 75 % of its CPUs, more than 70 %");
    }
}
