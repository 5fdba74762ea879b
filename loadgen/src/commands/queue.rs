//! The queues of Prometheus: its `queue_config` from flags and from a file, and what follows where neither says it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::queue_file::{QueueFile, read};
use crate::quantity::{parse_count, parse_duration, parse_positive_duration};

/// The flags about the queues. They have the names of Prometheus' `queue_config`.
#[derive(Debug, Clone, Default, Args)]
pub struct QueueOptions {
    /// YAML file with a queue_config of Prometheus, or with the remote_write entry around it. Flags override it.
    #[arg(long, value_name = "FILE", requires = "as_prometheus", help_heading = "As Prometheus")]
    pub queue_config: Option<PathBuf>,
    /// A fixed number of shards, so that runs can be repeated: --min-shards and --max-shards in one.
    #[arg(long, value_name = "COUNT", value_parser = parse_count, requires = "as_prometheus",
          conflicts_with_all = ["min_shards", "max_shards"], help_heading = "As Prometheus")]
    pub shards: Option<u64>,
    /// Shards at first, and at least [default: 1].
    #[arg(long, value_name = "COUNT", value_parser = parse_count, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub min_shards: Option<u64>,
    /// Shards at most; every 10s it is judged how many the load takes [default: 50].
    #[arg(long, value_name = "COUNT", value_parser = parse_count, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub max_shards: Option<u64>,
    /// Samples that wait for one shard [default: 10000].
    #[arg(long, value_name = "COUNT", value_parser = parse_count, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub capacity: Option<u64>,
    /// Samples of one request [default: 2000].
    #[arg(long, value_name = "COUNT", value_parser = parse_count, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub max_samples_per_send: Option<u64>,
    /// Time after which a shard sends what it has: at low rates, requests are smaller [default: 5s].
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub batch_send_deadline: Option<Duration>,
    /// Pause before the first retry; it doubles up to --max-backoff [default: 30ms].
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub min_backoff: Option<Duration>,
    /// The longest pause, unless Retry-After asks for a longer one [default: 5s].
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub max_backoff: Option<Duration>,
    /// Retry 429 as well [default: false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          requires = "as_prometheus", help_heading = "As Prometheus")]
    pub retry_on_http_429: Option<bool>,
    /// Give up samples that are older; 0 never does [default: 0].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "as_prometheus",
          help_heading = "As Prometheus")]
    pub sample_age_limit: Option<Duration>,
}

/// All that Prometheus' queues follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Shards at first, and at least.
    pub min_shards: u64,
    /// Shards at most.
    pub max_shards: u64,
    /// Samples that wait for one shard.
    pub capacity: u64,
    /// Samples of one request at most.
    pub max_samples_per_send: u64,
    /// Time after which a shard sends what it has.
    pub batch_send_deadline: Duration,
    /// Pause before the first retry.
    pub min_backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// Whether 429 is retried.
    pub retry_on_http_429: bool,
    /// Age at which samples are given up.
    pub sample_age_limit: Option<Duration>,
    /// Time between two metadata messages; `None` for none at all.
    pub metadata_interval: Option<Duration>,
}

/// What Prometheus does when its configuration says nothing.
impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig {
            min_shards: 1,
            max_shards: 50,
            capacity: 10_000,
            max_samples_per_send: 2000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: false,
            sample_age_limit: None,
            metadata_interval: Some(Duration::from_secs(60)),
        }
    }
}

impl QueueOptions {
    /// Flags first, then the file, then the defaults. An error is one line that names the flag or key.
    pub fn resolve(&self) -> Result<QueueConfig, String> {
        let file = match &self.queue_config {
            Some(path) => {
                read(path).map_err(|error| format!("--queue-config {}: {error}", path.display()))?
            }
            None => QueueFile::default(),
        };
        let default = QueueConfig::default();
        let min_shards = self.shards.or(self.min_shards).or(file.min_shards).unwrap_or(default.min_shards);
        // A least number above the usual most is meant, and it alone was said.
        let max_default = default.max_shards.max(min_shards);
        let age_limit = self.sample_age_limit.or(file.sample_age_limit).filter(|limit| !limit.is_zero());
        let config = QueueConfig {
            min_shards,
            max_shards: self.shards.or(self.max_shards).or(file.max_shards).unwrap_or(max_default),
            capacity: self.capacity.or(file.capacity).unwrap_or(default.capacity),
            max_samples_per_send: self
                .max_samples_per_send
                .or(file.max_samples_per_send)
                .unwrap_or(default.max_samples_per_send),
            batch_send_deadline: self
                .batch_send_deadline
                .or(file.batch_send_deadline)
                .unwrap_or(default.batch_send_deadline),
            min_backoff: self.min_backoff.or(file.min_backoff).unwrap_or(default.min_backoff),
            max_backoff: self.max_backoff.or(file.max_backoff).unwrap_or(default.max_backoff),
            retry_on_http_429: self
                .retry_on_http_429
                .or(file.retry_on_http_429)
                .unwrap_or(default.retry_on_http_429),
            sample_age_limit: age_limit,
            metadata_interval: file.metadata_interval.unwrap_or(default.metadata_interval),
        };
        config.check()?;
        Ok(config)
    }
}

impl QueueConfig {
    fn check(&self) -> Result<(), String> {
        if self.min_shards > self.max_shards {
            return Err(format!(
                "--min-shards: {} are more than the {} of --max-shards",
                self.min_shards, self.max_shards
            ));
        }
        if self.min_backoff > self.max_backoff {
            return Err("--min-backoff: must not be longer than --max-backoff".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: &str) -> (tempfile::TempDir, QueueOptions) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("queue.yml");
        std::fs::write(&path, file).unwrap();
        (directory, QueueOptions { queue_config: Some(path), ..QueueOptions::default() })
    }

    #[test]
    fn without_flags_and_file_it_is_prometheus_as_it_comes() {
        assert_eq!(QueueOptions::default().resolve(), Ok(QueueConfig::default()));
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_the_defaults() {
        let (_directory, mut options) =
            options("max_shards: 8\ncapacity: 500\nretry_on_http_429: true\nsample_age_limit: 1m\n");
        options.max_shards = Some(9);
        options.retry_on_http_429 = Some(false);
        let config = options.resolve().unwrap();
        assert_eq!((config.min_shards, config.max_shards, config.capacity), (1, 9, 500));
        assert_eq!((config.retry_on_http_429, config.max_samples_per_send), (false, 2000));
        assert_eq!(config.sample_age_limit, Some(Duration::from_secs(60)));
        options.sample_age_limit = Some(Duration::ZERO);
        assert_eq!(options.resolve().unwrap().sample_age_limit, None);
        options.shards = Some(3);
        let config = options.resolve().unwrap();
        assert_eq!((config.min_shards, config.max_shards), (3, 3));
    }

    #[test]
    fn bounds_that_cross_are_told() {
        let crossed = |options: QueueOptions| options.resolve().unwrap_err();
        let shards = QueueOptions { min_shards: Some(9), max_shards: Some(3), ..QueueOptions::default() };
        assert_eq!(crossed(shards), "--min-shards: 9 are more than the 3 of --max-shards");
        let pauses = QueueOptions { min_backoff: Some(Duration::from_secs(9)), ..QueueOptions::default() };
        assert!(crossed(pauses).starts_with("--min-backoff"));
        let (_directory, options) = options("min_shards: 60\n");
        assert_eq!(options.resolve().unwrap().max_shards, 60);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let (directory, options) = options("max_shard: 8\n");
        let error = options.resolve().unwrap_err();
        assert!(error.starts_with("--queue-config /") && error.contains("max_shard"), "{error}");
        drop(directory);
        assert!(options.resolve().unwrap_err().contains("No such file"));
    }
}
