//! The flags, and the order of receivers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use annulus_loadgen::commands::compare::target::{Choice, Kind, Spawn, choices, parse_spawn};
use annulus_loadgen::commands::{block_on, now_ms};
use annulus_loadgen::measure::usage::{filesystem, machine};
use annulus_loadgen::quantity::{exact, parse_count, parse_duration, parse_positive_duration, parse_rate};
use annulus_loadgen::report::command_line;
use annulus_loadgen::send::stop::Stop;
use clap::Args;

use super::catalogue::Group;
use super::data::Data;
use super::ingest::Ingest;
use super::report::Report;
use super::session::{Measured, Session};

/// More is a slip of the keyboard.
const HOURS_MAX: f64 = 24.0 * 31.0;

/// VictoriaMetrics has bounds below what is asked here; the others have none, or higher ones.
const VICTORIA_METRICS_FLAGS: [&str; 5] = [
    "-search.maxQueryLen=16MiB",
    "-search.maxQueryDuration=5m",
    "-search.maxTagValues=100000000",
    "-search.maxTagValueSuffixesPerSearch=100000000",
    "-search.maxSeries=100000000",
];

/// Wall time, CPU and memory of queries.
///
/// Each receiver is started with an empty directory and gets the same series, as fast as it takes them. When every
/// sample can be queried, each question is asked once for warming up and then several times, on a connection of its
/// own. Answers of annulus and Prometheus must agree to 9 digits; of VictoriaMetrics, whose rates are defined
/// otherwise, only the number of series is shown. Ratios are to the first receiver. CPU is counted in hundredths of
/// a second: more runs give more digits.
///
/// The loads of the design, alone and while samples are written, and a million series:
///
/// annulus-benches queries --receiver annulus --receiver prometheus --receiver victoria-metrics
///
/// annulus-benches queries --receiver annulus --receiver prometheus --ingest-rate 200k
///
/// annulus-benches queries --receiver annulus --receiver prometheus --group wide
#[derive(Debug, Args)]
pub struct QueriesArguments {
    /// A receiver to start: annulus, prometheus or victoria-metrics, or KIND=PROGRAM; can be repeated, the first one
    /// is the base of the ratios.
    #[arg(long = "receiver", value_name = "KIND[=PROGRAM]", required = true, value_parser = parse_spawn)]
    receivers: Vec<Spawn>,
    /// Which questions are asked.
    #[arg(long, value_enum, default_value = "nine")]
    group: Group,
    /// Series; 20k, or 1M for the wide group.
    #[arg(long, value_parser = parse_count)]
    series: Option<u64>,
    /// Hours of data; 4, or 1 for the wide group.
    #[arg(long, value_parser = parse_hours)]
    hours: Option<f64>,
    /// Time between two samples of a series; 15s, or 2m for the wide group.
    #[arg(long, value_parser = parse_positive_duration)]
    interval: Option<Duration>,
    /// Measured runs of each question, one after the other.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Rest between load and questions. Receivers look every minute for what they can write as a block: a shorter one
    /// may measure that too.
    #[arg(long, default_value = "75s", value_parser = parse_duration)]
    rest: Duration,
    /// Ask while so many samples per second are written, to series that no question of the first group touches.
    #[arg(long, value_parser = parse_rate)]
    ingest_rate: Option<f64>,
    /// Series that these samples belong to.
    #[arg(long, default_value = "100k", value_parser = parse_count, requires = "ingest_rate")]
    ingest_series: u64,
    /// Ask again and again for at least so long while samples are written.
    #[arg(long, default_value = "30s", value_parser = parse_duration, requires = "ingest_rate")]
    ingest_duration: Duration,
    /// Where receivers keep their data; the temporary directory by default, which may be memory.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// One more flag for annulus; can be repeated.
    #[arg(long, allow_hyphen_values = true)]
    annulus_flag: Vec<String>,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn parse_hours(text: &str) -> Result<f64, String> {
    let hours: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of hours"))?;
    if !(hours > 0.0 && hours <= HOURS_MAX) {
        return Err(format!("must be above 0 and at most {HOURS_MAX}"));
    }
    Ok(hours)
}

/// Measures one receiver after the other; if one fails, those before it are shown all the same. Exit code 2 if one
/// failed, or if two that must agree do not; 1 if samples that were written beside the queries were not stored.
pub fn command(arguments: &QueriesArguments) -> ExitCode {
    block_on(None, execute(arguments))
}

async fn execute(arguments: &QueriesArguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let stop = Stop::on_signal();
    let session = arguments.session(now_ms())?;
    let mut measured: Vec<Measured> = Vec::new();
    let mut failure = None;
    for choice in choices(&[], &arguments.spawns(), None)? {
        if let Choice::Spawned { name, spawn } = choice {
            eprintln!("{name}: {} samples", exact(session.data.samples()));
            match session.with(&name, &spawn, arguments.directory.as_deref(), &stop).await {
                Ok(one) => measured.push(one),
                Err(reason) => {
                    failure = Some(reason);
                    break;
                }
            }
        }
    }
    if let (true, Some(reason)) = (measured.is_empty(), &failure) {
        return Err(reason.clone().into());
    }
    let directory = arguments.directory.clone().unwrap_or_else(std::env::temp_dir);
    let machine = format!("{}, data on {}", machine(), filesystem(&directory));
    let command = command_line(std::env::args());
    let report = Report::new(command, machine, arguments.title(&session), session.queries, &measured);
    print!("{}", report.to_text());
    if let Some(path) = &arguments.json {
        let write = || std::fs::write(path, serde_json::to_vec_pretty(&report)?);
        write().map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(reason) = failure {
        return Err(reason.into());
    }
    if !report.differences.is_empty() {
        return Err(format!("{} answers differ that must not", report.differences.len()).into());
    }
    let failed = report.receivers.iter().filter_map(|one| one.ingest.as_ref());
    let is_good = failed.map(|ingest| ingest.failed_samples).sum::<u64>() == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl QueriesArguments {
    fn session(&self, now_ms: i64) -> Result<Session, String> {
        let (series, hours, interval_s) = match self.group {
            Group::Nine => (20_000, 4.0, 15),
            Group::Wide => (1_000_000, 1.0, 120),
        };
        let interval = self.interval.unwrap_or(Duration::from_secs(interval_s));
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        let length_ms = (self.hours.unwrap_or(hours) * 3_600_000.0).round() as i64;
        if interval_ms == 0 || length_ms / interval_ms < 2 {
            return Err(
                "--interval: from 1ms to half of --hours, so that each series has two samples".to_owned()
            );
        }
        let rounds = length_ms / interval_ms;
        // Whole seconds, which every receiver keeps.
        let begin_ms = (now_ms - rounds * interval_ms).div_euclid(1000) * 1000;
        Ok(Session {
            data: Data {
                series: self.series.unwrap_or(series),
                begin_ms,
                interval_ms,
                rounds: rounds.unsigned_abs(),
                has_session: self.group == Group::Wide,
            },
            queries: self.group.queries(),
            runs: self.runs,
            rest: self.rest,
            ingest: self.ingest_rate.map(|rate| Ingest {
                rate,
                series: self.ingest_series,
                duration: self.ingest_duration,
            }),
        })
    }

    /// The receivers, with the flags of their kind.
    fn spawns(&self) -> Vec<Spawn> {
        let with_flags = |spawn: &Spawn| {
            let flags = match spawn.kind {
                Kind::Annulus => self.annulus_flag.clone(),
                Kind::Prometheus => Vec::new(),
                Kind::VictoriaMetrics => VICTORIA_METRICS_FLAGS.map(str::to_owned).to_vec(),
            };
            Spawn { flags, ..spawn.clone() }
        };
        self.receivers.iter().map(with_flags).collect()
    }

    fn title(&self, session: &Session) -> String {
        let data = &session.data;
        let ingest = match &session.ingest {
            Some(ingest) => format!(", while {} samples/s are written", exact(ingest.rate as u64)),
            None => String::new(),
        };
        format!(
            "{} series with {} samples each, one every {} s; {} runs of each query after one to warm up{ingest}",
            exact(data.series),
            exact(data.rounds),
            data.interval_ms as f64 / 1000.0,
            session.runs,
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: QueriesArguments,
    }

    fn arguments(line: &str) -> Result<QueriesArguments, clap::Error> {
        let words = ["queries", "--receiver", "annulus"].into_iter().chain(line.split_whitespace());
        Ok(Line::try_parse_from(words)?.arguments)
    }

    fn session(line: &str) -> Result<Session, String> {
        arguments(line).unwrap().session(1_800_000_000_123)
    }

    #[test]
    fn the_load_of_the_design_is_the_default() {
        let session = session("").unwrap();
        assert_eq!((session.data.series, session.data.rounds, session.queries.len()), (20_000, 960, 9));
        assert_eq!((session.data.samples(), session.data.end_ms()), (19_200_000, 1_800_000_000_000));
        assert!(session.ingest.is_none() && !session.data.has_session);
    }

    #[test]
    fn the_wide_group_has_a_million_series_and_a_label_with_as_many_values() {
        let session = session("--group wide --ingest-rate 200k").unwrap();
        assert_eq!((session.data.series, session.data.rounds, session.queries.len()), (1_000_000, 30, 4));
        assert!(session.data.has_session);
        let duration = Duration::from_secs(30);
        assert_eq!(session.ingest, Some(Ingest { rate: 200_000.0, series: 100_000, duration }));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("--hours 0", "must be above 0"),
            ("--hours NaN", "must be above 0"),
            ("--hours x", "not a number of hours"),
            ("--receiver influx", "none of annulus"),
            ("--ingest-series 5", "--ingest-rate"),
            ("--runs 0", "--runs"),
        ] {
            let error = arguments(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert!(session("--hours 0.1 --interval 10m").unwrap_err().contains("two samples"));
        assert!(session("--interval 0.1ms").unwrap_err().contains("two samples"));
    }

    #[test]
    fn flags_reach_the_receivers_of_their_kind() {
        let arguments =
            arguments("--receiver victoria-metrics --receiver prometheus --annulus-flag=--shards=1");
        let counts: Vec<usize> = arguments.unwrap().spawns().iter().map(|spawn| spawn.flags.len()).collect();
        assert_eq!(counts, [1, VICTORIA_METRICS_FLAGS.len(), 0]);
    }
}
