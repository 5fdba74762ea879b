//! The flags that describe a load: what is sent, how fast, by which kind of sender, and at whose cost.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use super::queue::QueueOptions;
use crate::quantity::{parse_count, parse_duration, parse_positive_duration, parse_rate};
use crate::report::{Report, ReportError};
use crate::send::endpoint::EndpointOptions;
use crate::send::load::Mode;
use crate::stream::Protocol;

/// Everything about one load.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// The receiver.
    #[command(flatten)]
    pub endpoint: EndpointOptions,
    /// What is sent.
    #[command(flatten)]
    pub stream: StreamOptions,
    /// How fast and for how long.
    #[command(flatten)]
    pub pace: PaceOptions,
    /// By which kind of sender.
    #[command(flatten)]
    pub sender: SenderOptions,
    /// What the receiver spends.
    #[command(flatten)]
    pub cost: CostOptions,
    /// Write the fate of each request to a file, so that `verify` can read everything back later.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub ledger: Option<PathBuf>,
}

impl RunOptions {
    /// The defaults of all flags, for one receiver.
    pub fn to_url(url: &str) -> RunOptions {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            options: RunOptions,
        }
        Line::parse_from(["run", "--url", url]).options
    }
}

/// Which version of remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// prometheus.WriteRequest.
    #[value(name = "1.0")]
    V1,
    /// io.prometheus.write.v2.Request.
    #[value(name = "2.0")]
    V2,
}

impl Version {
    /// How requests are encoded.
    pub fn protocol(self) -> Protocol {
        match self {
            Version::V1 => Protocol::RemoteWrite1,
            Version::V2 => Protocol::RemoteWrite2,
        }
    }
}

/// The flags about what is sent.
#[derive(Debug, Clone, Args)]
pub struct StreamOptions {
    /// What the series look like: kube-small, kube-large, single-metric-flood, churn, or a TOML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "kube-small", help_heading = "Load")]
    pub profile: String,
    /// Change a key of the profile, such as native_histogram_share=0, exemplar_share=0.01 or mix.app=1; can be repeated.
    /// `run --help` ends with all keys.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Load")]
    pub set: Vec<String>,
    /// Active series, instead of as many as the profile has (200k, 1.5M).
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Load")]
    pub series: Option<u64>,
    /// Series, and so samples, of one request.
    #[arg(long, value_name = "COUNT", default_value = "2000", value_parser = parse_count, help_heading = "Load")]
    pub samples_per_request: u64,
    /// Equal seeds make equal series and values.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help_heading = "Load")]
    pub seed: u64,
    /// Version of remote write.
    #[arg(
        long = "remote-write",
        value_name = "VERSION",
        value_enum,
        default_value = "1.0",
        help_heading = "Load"
    )]
    pub version: Version,
    /// Let the time of the samples begin so long before now. Default: 0; for --mode closed, whose samples advance
    /// faster than the clock, 24h, and the load ends when they reach the present.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Load")]
    pub begin_ago: Option<Duration>,
}

/// The flags about how fast and how long.
#[derive(Debug, Clone, Args)]
pub struct PaceOptions {
    /// Samples per second (200k, 1.5M); the interval then is series / rate.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "Load")]
    pub rate: Option<f64>,
    /// Time between two samples of a series; 15s without --rate.
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, help_heading = "Load")]
    pub interval: Option<Duration>,
    /// Length of the measured part.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_positive_duration,
          help_heading = "Load")]
    pub duration: Duration,
    /// End after so many samples of each series, even before --duration.
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Load")]
    pub samples_per_series: Option<u64>,
    /// Time before it, which is not measured. Default: one interval, in which all series are made, but at least 10s;
    /// for --mode closed, until all series are made.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Load")]
    pub warmup: Option<Duration>,
    /// Longest wait for answers after the end.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration,
          help_heading = "Load")]
    pub drain: Duration,
}

/// The flags about the sender.
#[derive(Debug, Clone, Args)]
pub struct SenderOptions {
    /// When requests start: open at their due times, closed as soon as a connection is free.
    #[arg(long, value_enum, default_value = "open", help_heading = "Sender")]
    pub mode: Mode,
    /// Threads that send; default: one for each CPU.
    #[arg(long, value_name = "COUNT", value_parser = parse_threads, help_heading = "Sender")]
    pub threads: Option<usize>,
    /// Connections to the receiver.
    #[arg(long, value_name = "COUNT", default_value = "32", value_parser = parse_count, help_heading = "Sender")]
    pub connections: u64,
    /// Requests under way at most; those that are due meanwhile wait, and their latency counts on. HTTP/1.1 carries
    /// one on each connection, which is the default; for HTTP/2 the default is 16 on each.
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Sender")]
    pub max_in_flight: Option<u64>,
    /// Repetitions of a request that failed with a broken connection, a timeout, 429 or 5xx. Without any, each
    /// failed request counts as lost.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 0,
        conflicts_with = "as_prometheus",
        help_heading = "Sender"
    )]
    pub retries: u32,
    /// Time between two messages with the metadata of all metrics; 0 sends none. Only for remote write 1.0: 2.0 has
    /// metadata with each series. Default: 1m with --as-prometheus, as Prometheus does, otherwise 0.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Sender")]
    pub metadata_interval: Option<Duration>,
    /// Behave as Prometheus does: series have their shard, a full shard stops all, 5xx and broken connections are
    /// retried for ever, other 4xx lose the data, and the number of shards follows the load.
    #[arg(long, help_heading = "As Prometheus")]
    pub as_prometheus: bool,
    /// Its queues.
    #[command(flatten)]
    pub queue: QueueOptions,
}

/// The flags about the receiver's costs.
#[derive(Debug, Clone, Default, Args)]
pub struct CostOptions {
    /// Name of the receiver in reports; default: host and port of the URL.
    #[arg(long, value_name = "NAME", help_heading = "Receiver")]
    pub name: Option<String>,
    /// A process of the receiver on this machine, whose CPU, memory and writes are measured; can be repeated.
    #[arg(long, value_name = "PID", conflicts_with = "receiver_metrics", help_heading = "Receiver")]
    pub receiver_pid: Vec<u32>,
    /// Metrics of a receiver on another machine (process_cpu_seconds_total, process_resident_memory_bytes); can be
    /// repeated.
    #[arg(long, value_name = "URL", help_heading = "Receiver")]
    pub receiver_metrics: Vec<String>,
}

/// The flags about what is written.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputOptions {
    /// Write the result as JSON ("-" for the standard output, instead of the table).
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write the result as one HTML page.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Show figures although the generator itself was the limit.
    #[arg(long, help_heading = "Output")]
    pub allow_bottleneck: bool,
}

impl OutputOptions {
    /// Shows a report and writes the files that are wanted.
    pub fn present(&self, mut report: Report) -> Result<(), ReportError> {
        if self.allow_bottleneck {
            report.allow_bottleneck();
        }
        if self.json.as_deref() != Some(Path::new("-")) {
            // Whoever closed the standard output does not want to see it.
            let _ = std::io::stdout().write_all(report.to_text().as_bytes());
        }
        if let Some(path) = &self.html {
            report.save_html(path)?;
        }
        match &self.json {
            Some(path) => report.save_json(path),
            None => Ok(()),
        }
    }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match parse_count(text)? {
        count @ 1..=1024 => Ok(count as usize),
        _ => Err("must be from 1 to 1024".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_a_plain_sender() {
        let options = RunOptions::to_url("http://localhost/");
        assert_eq!(options.endpoint.access.timeout, Duration::from_secs(30));
        assert_eq!((options.sender.retries, options.sender.connections), (0, 32));
        assert!(!options.sender.as_prometheus && options.sender.queue.resolve().is_ok());
    }
}
