//! One load, from its first connection to its last answer, and the figures that come of it.

use std::sync::Arc;
use std::time::Duration;

use super::run::RunError;
use crate::ledger::Ledger;
use crate::measure::headroom::{Observed, judge};
use crate::measure::progress::Progress;
use crate::measure::receiver::{CostMeter, CostSource};
use crate::measure::recorder::{Record, Recorder};
use crate::measure::usage::{allowed_cpus, machine};
use crate::measure::watch::{Timing, Watched, watch, watch_creation};
use crate::result::{RunResult, Second, ShardCounts};
use crate::send::endpoint::Endpoint;
use crate::send::load::{Load, Mode, Plan, Source};
use crate::send::stop::Stop;

/// A measured part shorter than this says nothing about the rate.
const JUDGED_SECONDS_MIN: f64 = 1.0;

/// What to drive.
pub(super) struct Job {
    pub source: Arc<dyn Source>,
    pub ledger: Arc<Ledger>,
    pub endpoints: Vec<Endpoint>,
    pub plan: Plan,
    pub timing: Timing,
    /// Whether all series are made before the measured part, however long that takes. For closed loops.
    pub makes_series: bool,
    pub drain: Duration,
    pub cost: Option<CostSource>,
    /// Samples per second that will be due.
    pub rate: f64,
}

/// Drives it; the result names neither the receiver nor the stream, which are not known here.
pub(super) async fn drive(
    job: Job,
    stop: &Stop,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<RunResult, RunError> {
    let Job { source, ledger, endpoints, mut plan, timing, makes_series, drain, cost, rate } = job;
    let mut meter = cost.map(CostMeter::new);
    if let Some(meter) = &mut meter {
        // A wrong pid or URL shows before anything is sent.
        meter.begin().await.map_err(RunError::Invalid)?;
    }
    let recorder = Arc::new(Recorder::new());
    if makes_series {
        let round = Plan { end_us: u64::MAX, end_request: source.requests_per_round(), ..plan };
        let (source, ledger) = (Arc::clone(&source), Arc::clone(&ledger));
        let mut load = Load::start(round, endpoints.clone(), source, ledger, Arc::clone(&recorder)).await?;
        let is_made = watch_creation(&mut load, &recorder, stop, progress).await;
        load.drain(drain, stop).await;
        if load.has_crashed() {
            return Err(RunError::Crashed);
        }
        // Whoever does not want to wait for the series gets an empty measured part.
        plan.first_request = if is_made { round.end_request } else { plan.end_request };
        if let Some(meter) = &mut meter {
            meter.begin_or_note().await;
        }
    }
    recorder.measure(timing.begin_us, timing.end_us);
    let mut load = Load::start(plan, endpoints, Arc::clone(&source), ledger, Arc::clone(&recorder)).await?;
    let mut watched = watch(&mut load, &recorder, timing, meter.as_mut(), stop, progress).await;
    let cost = match meter {
        Some(meter) => Some(meter.end(watched.acknowledged_samples).await),
        None => None,
    };
    let unsent = load.drain(drain, stop).await;
    if load.has_crashed() {
        return Err(RunError::Crashed);
    }
    watched.is_interrupted |= stop.is_requested();
    let request_samples = samples_per_request(&*source, rate);
    for request in unsent {
        recorder.drop_unsent(source.due_us(request), request_samples);
    }
    let record = recorder.record();
    let mut result = figures(&record, &watched);
    result.is_closed_loop = plan.mode == Mode::Closed;
    let rate_wanted = (plan.mode == Mode::Open && watched.measured_s >= JUDGED_SECONDS_MIN).then_some(rate);
    result.headroom = judge(Observed {
        lag_p99_ms: record.lag_us.value_at_quantile(0.99) as f64 / 1000.0,
        cpu_s: watched.generator_cpu_s,
        cpu_wait_s: watched.generator_cpu_wait_s,
        wall_s: watched.measured_s,
        cpus: usable_cpus(),
        is_closed_loop: result.is_closed_loop,
        rate_wanted,
        rate_offered: result.offered_rate,
    });
    match cost {
        Some(Ok(cost)) => result.cost = Some(cost),
        Some(Err(error)) => result.errors.push((format!("the receiver's cost is not known: {error}"), 1)),
        None => {}
    }
    Ok(result)
}

fn figures(record: &Record, watched: &Watched) -> RunResult {
    let totals = record.totals;
    let per_second =
        |samples: u64| if watched.measured_s > 0.0 { samples as f64 / watched.measured_s } else { 0.0 };
    let mut errors = record.errors.clone();
    if totals.unsent_requests > 0 {
        errors.push((
            "due, but never sent: no connection became free in time".to_owned(),
            totals.unsent_requests,
        ));
    }
    if totals.discarded_samples > 0 {
        let reason = "samples not sent: older than the sample age limit".to_owned();
        errors.push((reason, totals.discarded_samples));
    }
    RunResult {
        machine: machine(),
        offered_rate: per_second(totals.offered_samples_measured),
        achieved_rate: per_second(totals.acknowledged_samples_measured),
        duration_s: watched.measured_s,
        sent_samples: totals.sent_samples,
        acknowledged_samples: totals.acknowledged_samples,
        acknowledged_histograms: totals.acknowledged_histograms,
        acknowledged_exemplars: totals.acknowledged_exemplars,
        metadata_messages: totals.metadata_messages,
        refused_samples: totals.refused_samples,
        refused_histograms: totals.refused_histograms,
        discarded_samples: totals.discarded_samples,
        unknown_samples: totals.unknown_samples(),
        unsent_requests: totals.unsent_requests,
        retries: totals.retries,
        shards: shard_counts(&record.seconds),
        errors,
        latency: record.curve(),
        p50_ms: record.latency_ms(50.0),
        p95_ms: record.latency_ms(95.0),
        p99_ms: record.latency_ms(99.0),
        max_ms: record.latency_ms(100.0),
        waited_p99_ms: record.waited_us.value_at_quantile(0.99) as f64 / 1000.0,
        body_bytes: totals.body_bytes,
        seconds: record.seconds.clone(),
        interrupted: watched.is_interrupted,
        ..RunResult::default()
    }
}

fn shard_counts(seconds: &[Second]) -> Option<ShardCounts> {
    let counts = || seconds.iter().filter_map(|second| second.shards);
    Some(ShardCounts { least: counts().min()?, most: counts().max()?, last: counts().next_back()? })
}

/// On average, for requests that were never encoded: from the time between two of them.
fn samples_per_request(source: &dyn Source, rate: f64) -> u64 {
    let round_us = source.due_us(source.requests_per_round()) - source.due_us(0);
    (rate * round_us as f64 / 1e6 / source.requests_per_round() as f64).round() as u64
}

/// CPUs that the load can use: those of the process, or the threads of the runtime if they are fewer.
fn usable_cpus() -> usize {
    allowed_cpus().min(tokio::runtime::Handle::current().metrics().num_workers())
}

#[cfg(test)]
mod tests;
