//! The course of a load: warm-up, measured part, seconds that go by, and whoever wants it to end early.

use std::time::Duration;

use super::progress::{Phase, Progress};
use super::receiver::CostMeter;
use super::recorder::{Recorder, SecondUsage, Totals};
use super::usage::{own_cpu, own_cpu_wait};
use crate::send::load::{Clock, Load};
use crate::send::stop::Stop;

const SECOND_US: u64 = 1_000_000;

/// When a load is measured, in microseconds of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// End of the warm-up.
    pub begin_us: u64,
    /// End of the schedule.
    pub end_us: u64,
    /// Whether this end is expected to be reached: a closed loop may run out of requests before.
    pub ends_by_time: bool,
}

/// How the measured part went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    /// Ended before its time.
    pub is_interrupted: bool,
    /// How long the measured part was, in seconds.
    pub measured_s: f64,
    /// CPU that the generator used in it, in seconds.
    pub generator_cpu_s: f64,
    /// Time that its threads waited in it for a CPU, in seconds.
    pub generator_cpu_wait_s: f64,
    /// Samples acknowledged in it.
    pub acknowledged_samples: u64,
}

/// Follows a closed loop that makes the series, until it has made all; says whether it did.
pub async fn watch_creation(
    load: &mut Load,
    recorder: &Recorder,
    stop: &Stop,
    progress: &(dyn Fn(&Progress) + Sync),
) -> bool {
    loop {
        let is_done = tokio::select! {
            () = load.ended() => Some(true),
            () = stop.requested() => Some(false),
            () = tokio::time::sleep(Duration::from_micros(SECOND_US)) => None,
        };
        if load.has_crashed() {
            return false;
        }
        if let Some(is_done) = is_done {
            return is_done;
        }
        let elapsed = Duration::from_micros(load.clock().now_us());
        show(recorder, load, Phase::WarmUp, elapsed, 1.0, None, progress);
    }
}

/// Shows what happened in the last `step_s` seconds, and gives the counts so far.
fn show(
    recorder: &Recorder,
    load: &Load,
    phase: Phase,
    elapsed: Duration,
    step_s: f64,
    total: Option<Duration>,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Totals {
    let (totals, errors, recent) = recorder.look();
    progress(&Progress {
        phase,
        elapsed,
        total,
        rate: recent.acknowledged_samples as f64 / step_s,
        p50_ms: recent.p50_ms,
        p99_ms: recent.p99_ms,
        errors,
        retries: totals.retries,
        shards: load.shards(),
    });
    totals
}

/// Follows a load to the end of its schedule, or to the wish to stop.
pub async fn watch(
    load: &mut Load,
    recorder: &Recorder,
    timing: Timing,
    mut meter: Option<&mut CostMeter>,
    stop: &Stop,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Watched {
    let clock = load.clock();
    let mut watched = Watched::default();
    // What happened before is not of its first second.
    recorder.look();
    let (mut cpu_begin, mut wait_begin) = (own_cpu(), own_cpu_wait());
    let mut cpu_before = cpu_begin;
    let mut at_us = 0;
    let mut has_ended = false;
    while at_us < timing.end_us && !watched.is_interrupted && !has_ended && !load.has_crashed() {
        let before_us = at_us;
        at_us = next_look(at_us, timing);
        tokio::select! {
            () = sleep_until(clock, at_us) => {}
            () = stop.requested() => watched.is_interrupted = true,
            () = load.ended() => has_ended = true,
        }
        let is_cut = watched.is_interrupted || has_ended;
        let is_measured = before_us >= timing.begin_us;
        let cpu = own_cpu();
        if is_measured {
            let step = match meter.as_deref_mut() {
                Some(meter) => meter.step().await,
                None => None,
            };
            let usage = SecondUsage {
                receiver_cpu_s: step.map(|step| step.cpu_s),
                receiver_rss_bytes: step.map(|step| step.rss_bytes),
                generator_cpu_s: (cpu - cpu_before).as_secs_f64(),
                shards: load.shards(),
            };
            recorder.usage(((before_us - timing.begin_us) / SECOND_US) as usize, usage);
        }
        cpu_before = cpu;
        let end_us = if is_cut { clock.now_us().min(at_us) } else { at_us };
        let step_s = (end_us.saturating_sub(before_us)).max(1) as f64 / SECOND_US as f64;
        let phase = if is_measured { Phase::Measuring } else { Phase::WarmUp };
        let total = timing.ends_by_time.then(|| Duration::from_micros(timing.end_us));
        let totals = show(recorder, load, phase, Duration::from_micros(end_us), step_s, total, progress);
        if !is_cut && at_us == timing.begin_us {
            (cpu_begin, wait_begin) = (cpu, own_cpu_wait());
            if let Some(meter) = meter.as_deref_mut() {
                meter.begin_or_note().await;
            }
        }
        watched.measured_s = end_us.saturating_sub(timing.begin_us) as f64 / SECOND_US as f64;
        watched.generator_cpu_s = (cpu - cpu_begin).as_secs_f64();
        // Threads that have ended take their waiting with them.
        watched.generator_cpu_wait_s = own_cpu_wait().saturating_sub(wait_begin).as_secs_f64();
        watched.acknowledged_samples = totals.acknowledged_samples_measured;
    }
    watched
}

/// The ends of seconds, counted from the begin of the load in the warm-up and from its end afterwards.
fn next_look(at_us: u64, timing: Timing) -> u64 {
    let phase_end_us = if at_us < timing.begin_us { timing.begin_us } else { timing.end_us };
    (at_us + SECOND_US).min(phase_end_us)
}

async fn sleep_until(clock: Clock, at_us: u64) {
    tokio::time::sleep(Duration::from_micros(at_us.saturating_sub(clock.now_us()))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_a_second_apart_and_never_across_the_end_of_the_warm_up() {
        let timing = Timing { begin_us: 1_500_000, end_us: 3_200_000, ends_by_time: true };
        let mut looks = vec![0];
        while looks[looks.len() - 1] < timing.end_us {
            looks.push(next_look(looks[looks.len() - 1], timing));
        }
        assert_eq!(looks, [0, 1_000_000, 1_500_000, 2_500_000, 3_200_000]);
    }
}
