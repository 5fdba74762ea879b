//! `plan`: how many nodes, and of what size, a load needs.
//!
//! Owns:     the arithmetic of capacity and its coefficients.
//! Touches:  a file of results, to calibrate by. Never the network.
//! Promises: every figure is printed with the sum it comes from, and every guess is marked as one.

mod coefficients;
mod model;
mod worksheet;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::commands::plan::coefficients::{Coefficients, Source};
use crate::commands::plan::model::{ANSWER, Load, SeriesCount};
use crate::commands::plan::worksheet::Line;
use crate::quantity::{count, parse_bytes, parse_number, parse_ratio, parse_seconds};
use crate::report::table::{Table, name_value_lines};

/// Names the format of the JSON.
const FORMAT: &str = "annulus-loadgen-plan/1";

const DAY_S: f64 = 86_400.0;
/// Raw blocks are downsampled when they span this much, so they have to live longer.
const RAW_MIN_S: f64 = 40.0 * 3600.0;
/// The same for five-minute aggregates.
const OF_5M_MIN_S: f64 = 10.0 * DAY_S;
/// A sample older than this is stale to a query, and a longer interval makes gaps.
const INTERVAL_GOOD_S: f64 = 120.0;
/// With fewer series a process is mostly itself.
const SERIES_TYPICAL_MIN: u64 = 100_000;
/// Beyond this the figures describe no system that anybody runs.
const SERIES_MAX: f64 = 1e12;

/// Plan capacity: nodes, cores, memory, SSD, object storage and network for a load.
///
/// The series are either a total, or clusters x targets x metrics.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Every figure is printed with the sum it comes from. Figures marked * are built-in guesses: measure your own machine \
with `ramp --receiver-pid PID --json ramp.json`, then plan with `--calibrate ramp.json`.

Limits that are planned for: a node's CPU stays below 70 %, its memory below 80 %, p95 below 2 s.

Example: plan --clusters 12 --targets 400 --metrics 1500 --interval 30s --replication-factor 2 --growth 30%")]
pub struct PlanArgs {
    /// Clusters that send, each with --targets [default: 1]
    #[arg(long, value_parser = parse_number)]
    clusters: Option<f64>,
    /// Scraped targets in each cluster
    #[arg(long, value_parser = parse_number)]
    targets: Option<f64>,
    /// Series of each target: what one scrape returns
    #[arg(long, value_parser = parse_number)]
    metrics: Option<f64>,
    /// Active series of all senders together, instead of the three above
    #[arg(long, value_parser = parse_number)]
    series: Option<f64>,
    /// Time between two scrapes
    #[arg(long, default_value = "30s", value_parser = parse_seconds)]
    interval: f64,
    /// Copies of each sample, on different nodes
    #[arg(long, default_value_t = 2)]
    replication_factor: u32,
    /// How much the load will grow before the next purchase
    #[arg(long, visible_alias = "headroom", default_value = "30%", value_parser = parse_ratio)]
    growth: f64,
    /// Share of the active series that new ones replace in each hour: deployments, jobs, autoscaling
    #[arg(long, default_value = "2%", value_parser = parse_ratio)]
    churn: f64,
    /// How long raw samples stay in the object storage
    #[arg(long, default_value = "15d", value_parser = parse_seconds)]
    retention_raw: f64,
    /// How long five-minute aggregates stay there
    #[arg(long, default_value = "90d", value_parser = parse_seconds)]
    retention_5m: f64,
    /// How long one-hour aggregates stay there
    #[arg(long, default_value = "365d", value_parser = parse_seconds)]
    retention_1h: f64,
    /// How long a node keeps its own blocks on its SSD (--tsdb.retention)
    #[arg(long, default_value = "15d", value_parser = parse_seconds)]
    retention_local: f64,
    /// The compactor merges the copies (--deduplication.replica-label)
    #[arg(long)]
    deduplicated: bool,
    /// Cores kept for queries, of all nodes together
    #[arg(long, default_value = "2", value_parser = parse_number)]
    query_cores: f64,
    /// Cores of a node that you can buy
    #[arg(long, default_value = "8", value_parser = parse_number)]
    node_cores: f64,
    /// Memory of such a node
    #[arg(long, default_value = "32GiB", value_parser = parse_bytes)]
    node_memory: f64,
    /// Result of `ramp --json` or `run --json` on your machine, with the receiver's cost; one node, no replication
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Replaces a coefficient, may be repeated; the names stand at the end of the output
    #[arg(long, value_name = "NAME=VALUE")]
    coefficient: Vec<String>,
    /// Prints JSON instead of text
    #[arg(long)]
    json: bool,
}

/// An input for which there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(pub String);

/// A finished plan.
#[derive(Debug)]
struct Plan {
    load: Load,
    coefficients: Coefficients,
    lines: Vec<Line>,
    notes: Vec<String>,
}

/// Prints the plan. Exit code 2 means that the input cannot be planned for.
pub fn command(args: &PlanArgs) -> ExitCode {
    match plan(args) {
        Ok(plan) => {
            let output = if args.json { plan.to_json() } else { plan.to_text() };
            // Whoever closed the standard output does not want to see more.
            let _ = io::stdout().write_all(output.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn plan(args: &PlanArgs) -> Result<Plan, PlanError> {
    let load = load(args)?;
    let mut coefficients = Coefficients::default();
    if let Some(path) = &args.calibrate {
        coefficients.calibrate(path)?;
    }
    args.coefficient.iter().try_for_each(|assignment| coefficients.give(assignment))?;
    let lines = model::plan(&load, &coefficients);
    // A node whose memory is spent before the first series could hold no number of them.
    let room = value(&lines, "series_memory_bytes_per_node");
    if room <= 0.0 {
        let reason = "--node-memory: too little, requests and queries alone take all that a node may use";
        return Err(PlanError(reason.to_owned()));
    }
    if let Some(line) = lines.iter().find(|line| !(line.value.is_finite() && line.value >= 0.0)) {
        return Err(PlanError(format!("these figures lead to no sensible {}", readable(line.name))));
    }
    let notes = notes(&load, &coefficients, &lines);
    Ok(Plan { load, coefficients, lines, notes })
}

fn load(args: &PlanArgs) -> Result<Load, PlanError> {
    let series = match (args.series, args.targets, args.metrics) {
        (Some(total), None, None) if args.clusters.is_none() => SeriesCount::Total(total),
        (None, Some(targets), Some(metrics)) => {
            SeriesCount::Product { clusters: args.clusters.unwrap_or(1.0), targets, metrics }
        }
        (Some(_), ..) => {
            return Err(refusal("--series is the total: leave out --clusters, --targets and --metrics"));
        }
        (None, ..) => {
            return Err(refusal("give --targets and --metrics (and --clusters), or the total as --series"));
        }
    };
    let total = match series {
        SeriesCount::Total(total) => total,
        SeriesCount::Product { clusters, targets, metrics } => clusters * targets * metrics,
    };
    if !(1.0..=SERIES_MAX).contains(&total) {
        return Err(PlanError(format!("{total} series: there must be at least one and at most a trillion")));
    }
    if !(0.001..=86_400.0).contains(&args.interval) {
        return Err(refusal("--interval must be between 1ms and 1d"));
    }
    if !(1..=16).contains(&args.replication_factor) {
        return Err(refusal("--replication-factor must be between 1 and 16"));
    }
    if args.growth > 100.0 || args.churn > 100.0 {
        return Err(refusal("--growth and --churn must be at most 10000%"));
    }
    if [args.retention_raw, args.retention_5m, args.retention_1h, args.retention_local].contains(&0.0) {
        return Err(refusal("a retention of 0 keeps for ever: give the time that you plan for"));
    }
    if args.retention_raw < RAW_MIN_S {
        return Err(refusal("--retention-raw must be at least 40h: blocks are downsampled only at that age"));
    }
    if args.retention_5m < OF_5M_MIN_S {
        return Err(refusal("--retention-5m must be at least 10d: blocks are downsampled only at that age"));
    }
    if !(1.0..=1024.0).contains(&args.node_cores) || args.node_cores.fract() != 0.0 {
        return Err(refusal("--node-cores must be a whole number between 1 and 1024"));
    }
    Ok(Load {
        series,
        interval_s: args.interval,
        growth: args.growth,
        churn_per_hour: args.churn,
        replication_factor: f64::from(args.replication_factor),
        raw_s: args.retention_raw,
        of_5m_s: args.retention_5m,
        of_1h_s: args.retention_1h,
        local_s: args.retention_local,
        deduplicated: args.deduplicated,
        query_cores: args.query_cores,
        node_cores: args.node_cores,
        node_memory_bytes: args.node_memory,
    })
}

fn refusal(reason: &str) -> PlanError {
    PlanError(reason.to_owned())
}

/// What a buyer should know beside the figures.
fn notes(load: &Load, coefficients: &Coefficients, lines: &[Line]) -> Vec<String> {
    let mut notes = Vec::new();
    match &coefficients.calibration {
        None => notes.push(
            "Nothing was measured on your machine: the figures marked * are guesses. p95 cannot be foreseen without a measurement."
                .to_owned(),
        ),
        Some(measured) => {
            notes.push(format!("Calibrated by {measured}."));
            if coefficients.sustained_rate.is_none() {
                notes.push("The calibration is a single run, so the highest rate of a node is not known; use a ramp.".to_owned());
            }
        }
    }
    if let Some(series) = coefficients.calibrated_series.filter(|series| *series < SERIES_TYPICAL_MIN) {
        let series = count(series as f64);
        notes.push(format!("Only {series} series were measured: memory per series then is mostly that of the bare process. Measure with as many as a node will have."));
    }
    if load.replication_factor == 1.0 {
        notes.push("With one copy, a dead node takes its samples of the last hours with it, and writes stop until it is back.".to_owned());
    }
    if load.replication_factor == 2.0 {
        notes.push(
            "With two copies one is enough to acknowledge: a node may be down without stopping writes."
                .to_owned(),
        );
    }
    if load.replication_factor > 1.0 && !load.deduplicated {
        notes.push("The object storage holds every copy until its retention ends, unless the compactor deduplicates (--deduplicated).".to_owned());
    }
    if load.interval_s > INTERVAL_GOOD_S {
        notes.push("Queries look back five minutes; with an interval above two minutes one missed scrape makes a gap.".to_owned());
    }
    if load.of_5m_s < load.raw_s || load.of_1h_s < load.of_5m_s {
        notes.push(
            "A coarser resolution goes before a finer one: it costs space and is of no use.".to_owned(),
        );
    }
    if value(lines, "nodes") <= load.replication_factor && load.replication_factor > 1.0 {
        notes.push(
            "The number of nodes follows from the number of copies alone; smaller nodes would do.".to_owned(),
        );
    }
    notes
}

fn value(lines: &[Line], name: &str) -> f64 {
    lines.iter().find(|line| line.name == name).map_or(f64::NAN, |line| line.value)
}

/// "wal_ring_bytes_per_shard" as words; the unit stands beside the figure.
fn readable(name: &str) -> String {
    name.replace("_bytes_per_second", "").replace("_bytes", "").replace('_', " ")
}

impl Plan {
    fn to_text(&self) -> String {
        let names: Vec<String> = self.lines.iter().map(|line| readable(line.name)).collect();
        let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let shown_width = self.lines.iter().map(|line| line.shown.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        let mut section = "";
        for (line, name) in self.lines.iter().zip(&names) {
            if line.section != section {
                section = line.section;
                text.push_str(&format!("{}{section}\n", if text.is_empty() { "" } else { "\n" }));
            }
            text.push_str(&format!(
                "  {name:<name_width$}  {:>shown_width$} = {}\n",
                line.shown, line.arithmetic
            ));
        }
        text.push_str("\nCoefficients\n");
        let mut table = Table::new(["name", "value", "from"]);
        for coefficient in self.coefficients.all() {
            let source = match coefficient.source {
                Source::BuiltIn => "* built-in guess",
                Source::Calibrated => "your measurement",
                Source::Given => "--coefficient",
            };
            table.push([coefficient.name.to_owned(), coefficient.shown(), source.to_owned()]);
        }
        text.push_str(&table.to_text(2));
        text.push_str("\nTo buy\n");
        let answer: Vec<(String, &str)> = ANSWER
            .iter()
            .filter_map(|name| self.lines.iter().find(|line| line.name == *name))
            .map(|line| (readable(line.name), line.shown.as_str()))
            .collect();
        text.push_str(&name_value_lines(answer.iter().map(|(name, shown)| (name.as_str(), *shown)), 2));
        text.push('\n');
        self.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
        text
    }

    fn to_json(&self) -> String {
        let answer: serde_json::Map<String, serde_json::Value> =
            ANSWER.iter().map(|name| ((*name).to_owned(), json!(value(&self.lines, name)))).collect();
        let json = json!({
            "format": FORMAT,
            "answer": answer,
            "lines": self.lines,
            "coefficients": self.coefficients.all(),
            "replication_factor": self.load.replication_factor,
            "notes": self.notes,
        });
        format!("{json:#}\n")
    }
}

#[cfg(test)]
mod tests;
