//! From flags to a load: checks them against each other, and works out what was left open.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::options::RunOptions;
use super::queue::QueueConfig;
use super::run::RunError;
use crate::measure::watch::Timing;
use crate::send::load::{Lanes, Mode, Plan};
use crate::send::reshard::CYCLE;
use crate::send::retry::RetryPolicy;
use crate::stream::{Stream, StreamConfig};

/// The interval that Prometheus' users know best.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(15);

/// The shortest warm-up that is not asked for.
const WARMUP_MIN: Duration = Duration::from_secs(10);

/// How long before now the samples of a closed loop begin: its time runs ahead of the clock, and receivers refuse
/// samples from the future.
const CLOSED_BEGIN_AGO: Duration = Duration::from_secs(24 * 3600);

/// Requests on one connection of HTTP/2, if nothing is said about it.
const HTTP2_STREAMS: u64 = 16;

/// More connections than this are a slip of the keyboard.
const LANES_MAX: u64 = 100_000;

/// How far the interval, in whole milliseconds, may be from the one that gives the wanted rate.
const RATE_DEVIATION_MAX: f64 = 0.01;

/// A load that can be started.
pub(super) struct Setup {
    pub stream: Stream,
    pub config: StreamConfig,
    pub plan: Plan,
    pub timing: Timing,
    /// Whether all series are made before the measured part.
    pub makes_series: bool,
    /// Samples per second that will be due.
    pub rate: f64,
}

/// Works everything out.
pub(super) fn setup(options: &RunOptions) -> Result<Setup, RunError> {
    let queue = match options.sender.as_prometheus {
        true => Some(options.sender.queue.resolve().map_err(RunError::Invalid)?),
        false => None,
    };
    let (config, stream) = stream(options, queue.as_ref())?;
    let interval = Duration::from_millis(config.interval_ms.unsigned_abs());
    let rate = stream.samples_per_round() as f64 / interval.as_secs_f64();
    let makes_series = options.sender.mode == Mode::Closed && options.pace.warmup.is_none();
    let warmup = match options.pace.warmup {
        Some(warmup) => warmup,
        None if makes_series => Duration::ZERO,
        None => interval.max(WARMUP_MIN),
    };
    let rounds = rounds(options, interval)?;
    let mut end = warmup + options.pace.duration;
    if let (Some(rounds), Mode::Open) = (rounds, options.sender.mode) {
        let of_rounds = u32::try_from(rounds).ok().and_then(|rounds| interval.checked_mul(rounds));
        end = end.min(of_rounds.unwrap_or(Duration::MAX));
    }
    if end <= warmup {
        return invalid("--samples-per-series: the load would end within the warm-up (--warmup)".to_owned());
    }
    let ends_by_time = options.sender.mode == Mode::Open || options.pace.samples_per_series.is_none();
    let timing = Timing { begin_us: micros(warmup), end_us: micros(end), ends_by_time };
    let mut plan = plan(options, queue.as_ref(), timing)?;
    if let Some(rounds) = rounds {
        plan.end_request = rounds.saturating_mul(stream.requests_per_round());
    }
    if options.sender.mode == Mode::Closed {
        // Its first requests would else wait for the generator rather than for the receiver.
        stream.prepare(plan.protocol);
    }
    Ok(Setup { stream, config, plan, timing, makes_series, rate })
}

/// How many samples each series gets at most, if that is bounded.
fn rounds(options: &RunOptions, interval: Duration) -> Result<Option<u64>, RunError> {
    let until_now = match (options.sender.mode, options.stream.begin_ago) {
        (Mode::Closed, None) => Some((CLOSED_BEGIN_AGO.as_millis() / interval.as_millis().max(1)) as u64),
        _ => None,
    };
    let rounds = [options.pace.samples_per_series, until_now].into_iter().flatten().min();
    let creation = u64::from(options.sender.mode == Mode::Closed && options.pace.warmup.is_none());
    if rounds.is_some_and(|rounds| rounds <= creation) {
        return invalid(
            "--samples-per-series: the first is not measured; give more, or --warmup 0 to measure it"
                .to_owned(),
        );
    }
    Ok(rounds)
}

fn stream(options: &RunOptions, queue: Option<&QueueConfig>) -> Result<(StreamConfig, Stream), RunError> {
    let pace = &options.pace;
    let mut series = options.stream.series;
    if let (Some(rate), Some(interval)) = (pace.rate, pace.interval) {
        if series.is_some() {
            return invalid(
                "give two of --series, --rate and --interval: each two make the third".to_owned(),
            );
        }
        series = Some((rate * interval.as_secs_f64()).round().max(1.0) as u64);
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let begin_ago = match (options.stream.begin_ago, options.sender.mode) {
        (Some(ago), _) => ago,
        (None, Mode::Open) => Duration::ZERO,
        (None, Mode::Closed) => CLOSED_BEGIN_AGO,
    };
    let mut config = StreamConfig {
        profile: profile(&options.stream.profile)?,
        profile_changes: options.stream.set.clone(),
        seed: options.stream.seed,
        series,
        samples_per_request: options.stream.samples_per_request,
        begin_ms: now_ms - begin_ago.as_millis() as i64,
        interval_ms: pace.interval.unwrap_or(INTERVAL_DEFAULT).as_millis() as i64,
    };
    if config.interval_ms == 0 {
        return invalid("--interval: samples have times in whole milliseconds".to_owned());
    }
    let mut made = Stream::new(&config)?;
    if let (Some(rate), None) = (pace.rate, pace.interval) {
        config.interval_ms = interval_ms(made.samples_per_round(), rate)?;
        made = Stream::new(&config)?;
    }
    if let Some(queue) = queue {
        let rate = made.samples_per_round() as f64 * 1000.0 / config.interval_ms as f64;
        config.samples_per_request = samples_per_send(queue, rate);
        made = Stream::new(&config)?;
    }
    Ok((config, made))
}

/// A built-in profile's name, or the content of a file.
fn profile(name: &str) -> Result<String, RunError> {
    let path = Path::new(name);
    if !name.contains('/') && path.extension().is_none() {
        return Ok(name.to_owned());
    }
    std::fs::read_to_string(path).map_err(|error| RunError::Invalid(format!("--profile {name}: {error}")))
}

fn interval_ms(samples_per_round: u64, rate: f64) -> Result<i64, RunError> {
    let wanted_ms = samples_per_round as f64 * 1000.0 / rate;
    let interval_ms = wanted_ms.round();
    if interval_ms < 1.0 || (interval_ms / wanted_ms - 1.0).abs() > RATE_DEVIATION_MAX {
        // Half a millisecond is the largest error of rounding.
        let series_min = (rate * 0.0005 / RATE_DEVIATION_MAX).ceil();
        return invalid(format!(
            "--rate {rate}: {samples_per_round} series would need a sample every {wanted_ms:.3} ms, and times are \
             whole milliseconds: use --series {series_min} or more"
        ));
    }
    Ok(interval_ms as i64)
}

/// What a shard of Prometheus has collected when its batch is full, or when it may wait no longer. That of the fewest
/// shards counts: there are more of them only where batches fill in time.
fn samples_per_send(queue: &QueueConfig, rate: f64) -> u64 {
    let until_deadline = rate * queue.batch_send_deadline.as_secs_f64() / queue.min_shards as f64;
    queue.max_samples_per_send.min(until_deadline as u64).max(1)
}

fn plan(options: &RunOptions, queue: Option<&QueueConfig>, timing: Timing) -> Result<Plan, RunError> {
    let sender = &options.sender;
    if queue.is_some() && sender.mode == Mode::Closed {
        return invalid("--as-prometheus: Prometheus sends what is due, use --mode open".to_owned());
    }
    let is_http2 = options.endpoint.http2;
    let (lanes, links, retry) = match queue {
        Some(queue) => {
            let (min, max) = (
                lane_count("--min-shards", queue.min_shards)?,
                lane_count("--max-shards", queue.max_shards)?,
            );
            // As Prometheus makes its queues: at least one request fits.
            let capacity = (queue.capacity / queue.max_samples_per_send).max(1);
            let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
            let links =
                if is_http2 { lane_count("--connections", sender.connections)?.min(max) } else { max };
            (Lanes::Shards { min, max, capacity, cycle: CYCLE }, links, retry_policy(queue))
        }
        None => {
            let links = lane_count("--connections", sender.connections)?;
            let streams = if is_http2 { HTTP2_STREAMS } else { 1 };
            let in_flight = sender.max_in_flight.unwrap_or(sender.connections.saturating_mul(streams));
            let in_flight_max = lane_count("--max-in-flight", in_flight)?;
            let count = if is_http2 { in_flight_max.max(links) } else { links };
            (Lanes::Any { count, in_flight_max }, links, RetryPolicy::plain(sender.retries))
        }
    };
    let metadata_every = match sender.metadata_interval {
        Some(interval) => Some(interval).filter(|interval| !interval.is_zero()),
        None => queue.and_then(|queue| queue.metadata_interval),
    };
    // Samples may be older than their request has been due.
    let begin_ago = options.stream.begin_ago.unwrap_or_default();
    let age_limit = queue.and_then(|queue| queue.sample_age_limit);
    Ok(Plan {
        mode: sender.mode,
        protocol: options.stream.version.protocol(),
        lanes,
        links,
        retry,
        end_us: timing.end_us,
        first_request: 0,
        end_request: u64::MAX,
        age_max_us: age_limit.map(|limit| micros(limit.saturating_sub(begin_ago))),
        metadata_every,
    })
}

fn retry_policy(queue: &QueueConfig) -> RetryPolicy {
    RetryPolicy {
        retries_max: None,
        backoff_min: queue.min_backoff,
        backoff_max: queue.max_backoff,
        retry_on_http_429: queue.retry_on_http_429,
    }
}

fn lane_count(flag: &str, count: u64) -> Result<usize, RunError> {
    if !(1..=LANES_MAX).contains(&count) {
        return invalid(format!("{flag} {count}: must be from 1 to {LANES_MAX}"));
    }
    Ok(count as usize)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn invalid<T>(text: String) -> Result<T, RunError> {
    Err(RunError::Invalid(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> RunOptions {
        RunOptions::to_url("http://localhost/")
    }

    #[test]
    fn the_interval_follows_from_series_and_rate() {
        assert_eq!(interval_ms(150_000, 10_000.0).unwrap(), 15_000);
        assert_eq!(interval_ms(1_000_000, 1_500_000.0).unwrap(), 667);
        for (samples, rate) in [(1000, 1_500_000.0), (15, 10_000.0)] {
            let text = interval_ms(samples, rate).unwrap_err().to_string();
            assert!(text.starts_with("--rate") && text.contains("--series"), "{text}");
        }
    }

    #[test]
    fn a_shard_sends_what_it_has_when_its_deadline_is_over() {
        let queue = QueueConfig { min_shards: 10, ..QueueConfig::default() };
        assert_eq!(samples_per_send(&queue, 100_000.0), 2000);
        assert_eq!(samples_per_send(&queue, 1000.0), 500);
        assert_eq!(samples_per_send(&queue, 0.1), 1);
    }

    #[test]
    fn series_rate_and_interval_are_not_given_all_three() {
        let mut options = options();
        options.stream.series = Some(5);
        options.pace.rate = Some(5.0);
        options.pace.interval = Some(Duration::from_secs(1));
        let text = setup(&options).err().unwrap().to_string();
        assert!(text.contains("--series, --rate and --interval"), "{text}");
    }

    #[test]
    fn lanes_follow_from_connections_and_protocol() {
        let timing = Timing { begin_us: 0, end_us: 1, ends_by_time: true };
        let planned = |options: &RunOptions| {
            let plan = plan(options, None, timing).unwrap();
            (plan.lanes, plan.links)
        };
        let mut options = options();
        assert_eq!(planned(&options), (Lanes::Any { count: 32, in_flight_max: 32 }, 32));
        options.endpoint.http2 = true;
        options.sender.connections = 2;
        assert_eq!(planned(&options), (Lanes::Any { count: 32, in_flight_max: 32 }, 2));
        options.sender.connections = 1_000_000;
        assert!(plan(&options, None, timing).err().unwrap().to_string().starts_with("--connections"));
    }

    #[test]
    fn shards_follow_from_the_queue() {
        let timing = Timing { begin_us: 0, end_us: 1, ends_by_time: true };
        let queue = QueueConfig::default();
        let planned = |options: &RunOptions| plan(options, Some(&queue), timing);
        let shards = Lanes::Shards { min: 1, max: 50, capacity: 5, cycle: CYCLE };
        let mut options = options();
        let plain = planned(&options).unwrap();
        assert_eq!((plain.lanes, plain.links, plain.age_max_us), (shards, 50, None));
        assert_eq!(plain.metadata_every, Some(Duration::from_secs(60)));
        (options.endpoint.http2, options.sender.connections) = (true, 2);
        options.sender.metadata_interval = Some(Duration::ZERO);
        let changed = planned(&options).unwrap();
        assert_eq!((changed.lanes, changed.links, changed.metadata_every), (shards, 2, None));
        options.stream.begin_ago = Some(Duration::from_secs(20));
        let limited = QueueConfig { sample_age_limit: Some(Duration::from_secs(30)), ..queue };
        assert_eq!(plan(&options, Some(&limited), timing).unwrap().age_max_us, Some(10_000_000));
        options.sender.mode = Mode::Closed;
        assert!(planned(&options).is_err());
    }

    #[test]
    fn a_closed_loop_ends_with_the_present_or_with_its_last_sample() {
        let mut options = options();
        options.stream.series = Some(100);
        options.sender.mode = Mode::Closed;
        let rounds = |options: &RunOptions| {
            let setup = setup(options).unwrap();
            (setup.plan.end_request / setup.stream.requests_per_round(), setup.makes_series)
        };
        assert_eq!(rounds(&options), (5760, true));
        options.pace.samples_per_series = Some(10);
        assert_eq!(rounds(&options), (10, true));
        options.pace.samples_per_series = Some(1);
        let error = setup(&options).err().unwrap().to_string();
        assert!(error.starts_with("--samples-per-series"), "{error}");
        options.pace.warmup = Some(Duration::ZERO);
        assert_eq!(rounds(&options), (1, false));
        options.sender.mode = Mode::Open;
        let timing = Timing { begin_us: 0, end_us: 15_000_000, ends_by_time: true };
        assert_eq!(setup(&options).unwrap().timing, timing);
    }

    #[test]
    fn a_profile_is_a_name_or_a_file() {
        assert_eq!(profile("kube-small").unwrap(), "kube-small");
        assert!(profile("./missing.toml").unwrap_err().to_string().starts_with("--profile ./missing.toml: "));
    }
}
