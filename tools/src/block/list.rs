//! `annulus-tools block ls DIR`.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use annulus::block::BlockEntry;
use serde::Serialize;

use super::find::{BlockFolder, find};
use crate::output::{Failure, Outcome, Table, bytes, duration, printable, time, write_json};

/// What to list.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A folder of blocks, a folder of tenants' folders, or a data directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only this tenant's.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// The blocks.
#[derive(Debug, Default, Serialize)]
struct Report {
    blocks: Vec<Block>,
    broken: Vec<Broken>,
}

/// One block.
#[derive(Debug, Serialize)]
struct Block {
    ulid: String,
    tenant: Option<String>,
    folder: String,
    min_ms: i64,
    max_ms: i64,
    series: u64,
    samples: u64,
    chunks: u64,
    bytes: u64,
    level: u32,
    resolution_ms: i64,
    source: String,
}

/// A folder that is named like a block and is none.
#[derive(Debug, Serialize)]
struct Broken {
    folder: String,
    error: String,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut report = Report::default();
    for folder in find(&arguments.directory)? {
        if arguments.tenant.is_none() || arguments.tenant == folder.tenant {
            add(&mut report, folder);
        }
    }
    report.blocks.sort_by(|a, b| (&a.tenant, a.min_ms, a.max_ms).cmp(&(&b.tenant, b.min_ms, b.max_ms)));
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        write_json(&mut out, &report)?;
    } else {
        write_text(&mut out, &report)?;
    }
    out.flush()?;
    Ok(if report.broken.is_empty() { Outcome::Whole } else { Outcome::Damaged })
}

fn add(report: &mut Report, folder: BlockFolder) {
    for BlockEntry { folder: path, meta } in folder.list.blocks {
        let thanos = meta.thanos.as_ref();
        report.blocks.push(Block {
            ulid: meta.ulid.to_string(),
            tenant: folder.tenant.clone(),
            bytes: folder_bytes(&path),
            folder: path.display().to_string(),
            min_ms: meta.min_ms,
            max_ms: meta.max_ms,
            series: meta.stats.series_count,
            samples: meta.stats.sample_count,
            chunks: meta.stats.chunk_count,
            level: meta.compaction.level,
            resolution_ms: thanos.map_or(0, |thanos| thanos.downsample.resolution_ms),
            source: thanos.map_or(String::new(), |thanos| thanos.source.clone()),
        });
    }
    for broken in folder.list.broken {
        let error = broken.error.to_string();
        report.broken.push(Broken { folder: broken.folder.display().to_string(), error });
    }
}

/// Bytes of the files of a folder; what cannot be read counts as nothing.
pub fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        // Links are not followed, so there is no way around in a circle.
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut table = Table::new(&[
        "block",
        "tenant",
        "from",
        "to",
        ">length",
        ">series",
        ">samples",
        ">chunks",
        ">size",
        ">level",
        ">resolution",
        "source",
    ]);
    for block in &report.blocks {
        table.row([
            block.ulid.clone(),
            block.tenant.clone().unwrap_or_else(|| "-".to_owned()),
            time(Some(block.min_ms)),
            time(Some(block.max_ms)),
            duration(block.max_ms.saturating_sub(block.min_ms)),
            block.series.to_string(),
            block.samples.to_string(),
            block.chunks.to_string(),
            bytes(block.bytes),
            block.level.to_string(),
            if block.resolution_ms == 0 { "raw".to_owned() } else { duration(block.resolution_ms) },
            if block.source.is_empty() { "-".to_owned() } else { block.source.clone() },
        ]);
    }
    if table.is_empty() {
        writeln!(out, "no blocks")?;
    } else {
        table.write(out)?;
    }
    for broken in &report.broken {
        writeln!(out, "{}: {}", printable(&broken.folder), printable(&broken.error))?;
    }
    Ok(())
}
