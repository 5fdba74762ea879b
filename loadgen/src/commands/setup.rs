//! From flags to a load: checks them against each other, and works out what was left open.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::options::{RunOptions, SenderOptions};
use super::run::RunError;
use crate::measure::watch::Timing;
use crate::send::load::{Lanes, Mode, Plan};
use crate::send::retry::RetryPolicy;
use crate::stream::{Stream, StreamConfig};

/// The interval that Prometheus' users know best.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(15);

/// The shortest warm-up that is not asked for.
const WARMUP_MIN: Duration = Duration::from_secs(10);

/// How long before now the samples of a closed loop begin: its time runs ahead of the clock, and receivers refuse
/// samples from the future.
const CLOSED_BEGIN_AGO: Duration = Duration::from_secs(3600);

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
    /// Samples per second that will be due.
    pub rate: f64,
}

/// Works everything out.
pub(super) fn setup(options: &RunOptions) -> Result<Setup, RunError> {
    let (config, stream) = stream(options)?;
    let interval = Duration::from_millis(config.interval_ms.unsigned_abs());
    let rate = stream.samples_per_round() as f64 / interval.as_secs_f64();
    let warmup = options.pace.warmup.unwrap_or_else(|| interval.max(WARMUP_MIN));
    let timing = Timing { begin_us: micros(warmup), end_us: micros(warmup + options.pace.duration) };
    let plan = plan(options, &config, timing)?;
    Ok(Setup { stream, config, plan, timing, rate })
}

fn stream(options: &RunOptions) -> Result<(StreamConfig, Stream), RunError> {
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
    if options.sender.as_prometheus {
        let rate = made.samples_per_round() as f64 * 1000.0 / config.interval_ms as f64;
        config.samples_per_request = samples_per_send(&options.sender, rate);
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

/// What a shard of Prometheus has collected when its batch is full, or when it may wait no longer.
fn samples_per_send(sender: &SenderOptions, rate: f64) -> u64 {
    let until_deadline = rate * sender.batch_send_deadline.as_secs_f64() / sender.shards as f64;
    sender.max_samples_per_send.min(until_deadline as u64).max(1)
}

fn plan(options: &RunOptions, config: &StreamConfig, timing: Timing) -> Result<Plan, RunError> {
    let sender = &options.sender;
    if sender.as_prometheus && sender.mode == Mode::Closed {
        return invalid("--as-prometheus: Prometheus sends what is due, use --mode open".to_owned());
    }
    if sender.min_backoff > sender.max_backoff {
        return invalid("--min-backoff: must not be longer than --max-backoff".to_owned());
    }
    let is_http2 = options.endpoint.http2;
    let (lanes, links, retry) = if sender.as_prometheus {
        let retry = RetryPolicy {
            retries_max: None,
            backoff_min: sender.min_backoff,
            backoff_max: sender.max_backoff,
            retry_on_http_429: sender.retry_on_http_429,
        };
        // As Prometheus makes its queues: at least one request fits.
        let capacity = (sender.capacity / sender.max_samples_per_send).max(1);
        let count = lane_count("--shards", sender.shards)?;
        let links =
            if is_http2 { lane_count("--connections", sender.connections)?.min(count) } else { count };
        (Lanes::Shards { count, capacity: usize::try_from(capacity).unwrap_or(usize::MAX) }, links, retry)
    } else {
        let links = lane_count("--connections", sender.connections)?;
        let streams = if is_http2 { HTTP2_STREAMS } else { 1 };
        let in_flight = sender.max_in_flight.unwrap_or(sender.connections.saturating_mul(streams));
        let in_flight_max = lane_count("--max-in-flight", in_flight)?;
        let count = if is_http2 { in_flight_max.max(links) } else { links };
        (Lanes::Any { count, in_flight_max }, links, RetryPolicy::plain(sender.retries))
    };
    debug_assert!(config.interval_ms > 0, "the configuration was checked");
    Ok(Plan {
        mode: sender.mode,
        protocol: options.stream.version.protocol(),
        lanes,
        links,
        retry,
        end_us: timing.end_us,
    })
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
        let sender = options().sender;
        assert_eq!(samples_per_send(&sender, 100_000.0), 2000);
        assert_eq!(samples_per_send(&sender, 1000.0), 500);
        assert_eq!(samples_per_send(&sender, 0.1), 1);
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
        let timing = Timing { begin_us: 0, end_us: 1 };
        let config = StreamConfig {
            profile: String::new(),
            seed: 1,
            series: None,
            samples_per_request: 1,
            begin_ms: 0,
            interval_ms: 1,
        };
        let planned = |options: &RunOptions| {
            let plan = plan(options, &config, timing).unwrap();
            (plan.lanes, plan.links)
        };
        let mut options = options();
        assert_eq!(planned(&options), (Lanes::Any { count: 32, in_flight_max: 32 }, 32));
        options.endpoint.http2 = true;
        options.sender.connections = 2;
        assert_eq!(planned(&options), (Lanes::Any { count: 32, in_flight_max: 32 }, 2));
        options.sender.as_prometheus = true;
        assert_eq!(planned(&options), (Lanes::Shards { count: 10, capacity: 5 }, 2));
        options.endpoint.http2 = false;
        assert_eq!(planned(&options), (Lanes::Shards { count: 10, capacity: 5 }, 10));
        options.sender.mode = Mode::Closed;
        assert!(plan(&options, &config, timing).is_err());
        options.sender.as_prometheus = false;
        options.sender.connections = 1_000_000;
        assert!(plan(&options, &config, timing).err().unwrap().to_string().starts_with("--connections"));
    }

    #[test]
    fn a_profile_is_a_name_or_a_file() {
        assert_eq!(profile("kube-small").unwrap(), "kube-small");
        assert!(profile("./missing.toml").unwrap_err().to_string().starts_with("--profile ./missing.toml: "));
    }
}
