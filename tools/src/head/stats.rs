//! `annulus-tools head stats`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{fetch, offline};
use crate::output::{Failure, Outcome, Progress, Table, printable, time, write_json};

/// Of whom, and how much.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    from: From,
    /// How many entries each list has.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only this tenant's.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Where the figures are.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct From {
    /// The address of a running process, http://host:9090 for example.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The data directory, or a shard's, of a process that does not run.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What is in memory.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Everything of the tenants asked for.
    pub total: Option<Stats>,
    /// Each tenant, the one with most series first.
    pub tenants: Vec<Stats>,
}

/// The figures of one tenant, or of all together, with the names that Prometheus uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How much there is.
    pub head_stats: HeadStats,
    /// Series of each metric.
    pub series_count_by_metric_name: Vec<Count>,
    /// Values of each label.
    pub label_value_count_by_label_name: Vec<Count>,
    /// Bytes of each label's values.
    pub memory_in_bytes_by_label_name: Vec<Count>,
    /// Series of each label pair.
    pub series_count_by_label_value_pair: Vec<Count>,
}

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeadStats {
    /// Series.
    pub num_series: u64,
    /// Label pairs.
    pub num_label_pairs: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// Time of the oldest sample.
    pub min_time: i64,
    /// Time of the newest sample.
    pub max_time: i64,
    /// Samples; a running process does not count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_samples: Option<u64>,
}

/// Something with a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How often.
    pub value: u64,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let (tenant, limit) = (arguments.tenant.as_deref(), arguments.limit as usize);
    let progress = Progress::new();
    let mut report = match (&arguments.from.url, &arguments.from.data_dir) {
        (Some(url), _) => fetch::report(url, tenant, limit, &progress)?,
        (None, Some(data_dir)) => offline::report(data_dir, tenant, limit, &progress)?,
        (None, None) => return Err(Failure::Text("give --url or --data-dir".to_owned())),
    };
    drop(progress);
    report.tenants.sort_by(|a, b| {
        b.head_stats.num_series.cmp(&a.head_stats.num_series).then_with(|| a.tenant.cmp(&b.tenant))
    });
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        write_json(&mut out, &report)?;
    } else {
        write_text(&mut out, &report)?;
    }
    out.flush()?;
    Ok(Outcome::Whole)
}

fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut table = Table::new(&["tenant", ">series", ">label pairs", ">chunks", ">samples", "from", "to"]);
    let total = report.total.as_ref().map(|total| ("(all)", total));
    let rows =
        report.tenants.iter().map(|stats| (stats.tenant.as_deref().unwrap_or("-"), stats)).chain(total);
    for (tenant, Stats { head_stats: head, .. }) in rows {
        // An empty head says that its oldest sample comes after its newest.
        let times =
            (head.min_time <= head.max_time && head.num_series > 0).then_some((head.min_time, head.max_time));
        table.row([
            tenant.to_owned(),
            head.num_series.to_string(),
            head.num_label_pairs.to_string(),
            head.chunk_count.to_string(),
            head.num_samples.map_or("-".to_owned(), |samples| samples.to_string()),
            time(times.map(|times| times.0)),
            time(times.map(|times| times.1)),
        ]);
    }
    table.write(out)?;
    let Some(lists) = report.total.as_ref().or(report.tenants.first()) else { return Ok(()) };
    for (heading, unit, counts) in [
        ("metric", ">series", &lists.series_count_by_metric_name),
        ("label", ">values", &lists.label_value_count_by_label_name),
        ("label pair", ">series", &lists.series_count_by_label_value_pair),
        ("label", ">bytes", &lists.memory_in_bytes_by_label_name),
    ] {
        writeln!(out)?;
        let mut table = Table::new(&[heading, unit]);
        for count in counts {
            table.row([printable(&count.name), count.value.to_string()]);
        }
        table.write(out)?;
    }
    Ok(())
}
