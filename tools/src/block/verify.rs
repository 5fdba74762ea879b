//! `annulus-tools block verify DIR…`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annulus::block::{Report as Checked, verify};
use serde::Serialize;

use super::find::find_blocks;
use crate::output::{Failure, Outcome, Progress, printable, write_json};

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Blocks, or directories as `block ls` takes them.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What was found in one block.
#[derive(Debug, Serialize)]
struct Report {
    folder: String,
    is_whole: bool,
    series: u64,
    chunks: u64,
    samples: u64,
    /// How many things are wrong.
    finding_count: u64,
    /// The first of them.
    findings: Vec<String>,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut folders = Vec::new();
    for directory in &arguments.directories {
        if !directory.is_dir() {
            return Err(Failure::about(directory.display(), "it is not a directory"));
        }
        folders.append(&mut find_blocks(directory)?);
    }
    let progress = Progress::new();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut reports = Vec::new();
    for (index, folder) in folders.iter().enumerate() {
        progress.step(format_args!("block {} of {}: {}", index + 1, folders.len(), folder.display()));
        let report = report(folder.display().to_string(), &verify(folder));
        if !arguments.json {
            write_text(&mut out, &report)?;
            out.flush()?;
        }
        reports.push(report);
    }
    drop(progress);
    if arguments.json {
        write_json(&mut out, &reports)?;
        out.flush()?;
    }
    let is_whole = reports.iter().all(|report| report.is_whole);
    Ok(if is_whole { Outcome::Whole } else { Outcome::Damaged })
}

fn report(folder: String, checked: &Checked) -> Report {
    Report {
        folder,
        is_whole: checked.is_sound(),
        series: checked.counted.series_count,
        chunks: checked.counted.chunk_count,
        samples: checked.counted.sample_count,
        finding_count: checked.finding_count,
        findings: checked.findings.iter().map(ToString::to_string).collect(),
    }
}

fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { series, chunks, samples, .. } = report;
    let verdict = if report.is_whole { "whole" } else { "DAMAGED" };
    let folder = printable(&report.folder);
    writeln!(out, "{folder}  {verdict}  {series} series, {chunks} chunks, {samples} samples")?;
    for finding in &report.findings {
        writeln!(out, "  {}", printable(finding))?;
    }
    match report.finding_count - report.findings.len() as u64 {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}
