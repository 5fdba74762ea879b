//! `annulus-tools block inspect DIR/ULID`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use annulus::block::{BlockReader, LocalFile, sample_count};
use annulus_shards::chunk::Encoding;
use serde::Serialize;
use serde_json::Value;

use super::list::folder_bytes;
use crate::output::{Failure, Outcome, Progress, Table, bytes, duration, printable, time, write_json};

/// Series between two signs of progress.
const PROGRESS_SERIES: usize = 10_000;

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of a block.
    #[arg(value_name = "BLOCK")]
    block: PathBuf,
    /// How many entries each list has.
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What is in a block.
#[derive(Debug, Serialize)]
struct Report {
    meta: Value,
    bytes: u64,
    index_bytes: u64,
    /// The parts of the index in the order of the file.
    sections: Vec<Section>,
    label_names: u64,
    label_pairs: u64,
    values_by_label: Vec<Counted>,
    series_by_metric: Vec<Counted>,
    series_by_pair: Vec<Counted>,
    chunks_by_encoding: BTreeMap<String, Chunks>,
}

/// A part of the index.
#[derive(Debug, Serialize)]
struct Section {
    name: &'static str,
    bytes: u64,
}

/// Something with a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Counted {
    name: String,
    count: u64,
}

/// Chunks of one encoding.
#[derive(Debug, Default, Serialize)]
struct Chunks {
    chunks: u64,
    samples: u64,
    /// Without their lengths and checksums.
    bytes: u64,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let folder = &arguments.block;
    let failed = |error: annulus::block::BlockError| Failure::about(folder.display(), error);
    if !folder.join("meta.json").exists() {
        return Err(Failure::about(folder.display(), "it is not the folder of a block (no meta.json)"));
    }
    let block = BlockReader::open(folder).map_err(failed)?;
    let progress = Progress::new();
    let report = inspect(folder, &block, arguments.limit, &progress).map_err(failed)?;
    drop(progress);
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        write_json(&mut out, &report)?;
    } else {
        write_text(&mut out, &block, &report)?;
    }
    out.flush()?;
    Ok(Outcome::Whole)
}

fn inspect(
    folder: &Path,
    block: &BlockReader<LocalFile>,
    limit: usize,
    progress: &Progress,
) -> Result<Report, annulus::block::BlockError> {
    let index_bytes = std::fs::metadata(folder.join("index")).map_or(0, |metadata| metadata.len());
    let mut report = Report {
        meta: serde_json::from_slice(&block.meta().to_json()).unwrap_or_default(),
        bytes: folder_bytes(folder),
        index_bytes,
        sections: sections(block, index_bytes),
        label_names: 0,
        label_pairs: 0,
        values_by_label: Vec::new(),
        series_by_metric: Vec::new(),
        series_by_pair: Vec::new(),
        chunks_by_encoding: BTreeMap::new(),
    };
    progress.step("reading the lists of postings");
    let mut labels: BTreeMap<String, u64> = BTreeMap::new();
    let (mut metrics, mut pairs) = (Largest::new(limit), Largest::new(limit));
    block.index().each_list(|name, value, series| {
        if name.is_empty() {
            return;
        }
        match labels.get_mut(name) {
            Some(values) => *values += 1,
            None => drop(labels.insert(name.to_owned(), 1)),
        }
        let count = series.len() as u64;
        if name == "__name__" {
            metrics.add(count, || value.to_owned());
        }
        pairs.add(count, || format!("{name}={value}"));
    })?;
    report.label_names = labels.len() as u64;
    report.label_pairs = labels.values().sum();
    let mut values = Largest::new(limit);
    labels.into_iter().for_each(|(name, count)| values.add(count, || name));
    (report.values_by_label, report.series_by_metric, report.series_by_pair) = (values.0, metrics.0, pairs.0);
    count_chunks(block, &mut report, progress)?;
    Ok(report)
}

/// Each section of the index ends where the next one begins, whatever their order is.
fn sections(block: &BlockReader<LocalFile>, index_bytes: u64) -> Vec<Section> {
    let toc = block.index().toc();
    let mut begins = [
        ("symbols", toc.symbols),
        ("series", toc.series),
        ("label indices", toc.label_indices),
        ("postings", toc.postings),
        ("label offset table", toc.label_indices_table),
        ("postings offset table", toc.postings_table),
    ];
    begins.sort_by_key(|(_, begin)| *begin);
    let ends = begins.iter().skip(1).map(|(_, begin)| *begin).chain([index_bytes]);
    let sections = begins.iter().zip(ends);
    sections.map(|((name, begin), end)| Section { name, bytes: end.saturating_sub(*begin) }).collect()
}

fn count_chunks(
    block: &BlockReader<LocalFile>,
    report: &mut Report,
    progress: &Progress,
) -> Result<(), annulus::block::BlockError> {
    let all = block.index().all_series()?;
    let (mut series_reader, mut chunk_reader) = (block.index().series_reader(), block.chunk_reader());
    let mut by_number: BTreeMap<u8, Chunks> = BTreeMap::new();
    for (index, reference) in all.iter().enumerate() {
        if index % PROGRESS_SERIES == 0 {
            progress.step(format_args!("reading chunks: series {index} of {}", all.len()));
        }
        for chunk in series_reader.read(*reference)?.chunks {
            let read = chunk_reader.read(chunk.place)?;
            let chunks = by_number.entry(read.encoding).or_default();
            chunks.chunks += 1;
            chunks.samples += u64::from(sample_count(read.encoding, read.bytes).unwrap_or(0));
            chunks.bytes += read.bytes.len() as u64;
        }
    }
    let named = by_number.into_iter().map(|(encoding, chunks)| (encoding_name(encoding), chunks));
    report.chunks_by_encoding = named.collect();
    Ok(())
}

fn encoding_name(encoding: u8) -> String {
    match Encoding::from_byte(encoding) {
        Some(Encoding::Xor) => "XOR".to_owned(),
        Some(Encoding::Histogram) => "histogram".to_owned(),
        Some(Encoding::FloatHistogram) => "float histogram".to_owned(),
        Some(Encoding::Xor2) => "XOR2".to_owned(),
        Some(Encoding::HistogramSt) => "histogram with start times".to_owned(),
        Some(Encoding::FloatHistogramSt) => "float histogram with start times".to_owned(),
        None if encoding == 0xff => "aggregates".to_owned(),
        None => format!("unknown ({encoding})"),
    }
}

/// The largest counts, the largest first, and equal ones in the order in which they came.
struct Largest(Vec<Counted>, usize);

impl Largest {
    fn new(limit: usize) -> Largest {
        Largest(Vec::new(), limit)
    }

    fn add(&mut self, count: u64, name: impl FnOnce() -> String) {
        let at = self.0.partition_point(|other| other.count >= count);
        if at < self.1 {
            self.0.insert(at, Counted { name: name(), count });
            self.0.truncate(self.1);
        }
    }
}

fn write_text(out: &mut impl Write, block: &BlockReader<LocalFile>, report: &Report) -> io::Result<()> {
    let meta = block.meta();
    writeln!(out, "block        {}", meta.ulid)?;
    let length = duration(meta.max_ms.saturating_sub(meta.min_ms));
    writeln!(out, "times        {} to {} ({length})", time(Some(meta.min_ms)), time(Some(meta.max_ms)))?;
    writeln!(out, "size         {}, of which index {}", bytes(report.bytes), bytes(report.index_bytes))?;
    let (stats, compaction) = (&meta.stats, &meta.compaction);
    writeln!(
        out,
        "content      {} series, {} chunks, {} samples",
        stats.series_count, stats.chunk_count, stats.sample_count
    )?;
    writeln!(out, "compaction   level {}, of {} blocks", compaction.level, compaction.sources.len())?;
    if let Some(thanos) = &meta.thanos {
        let labels: Vec<String> =
            thanos.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let resolution = match thanos.downsample.resolution_ms {
            0 => "raw".to_owned(),
            ms => duration(ms),
        };
        writeln!(
            out,
            "thanos       {}, {resolution}, {{{}}}",
            printable(&thanos.source),
            printable(&labels.join(", "))
        )?;
    }
    writeln!(out, "labels       {} names, {} pairs", report.label_names, report.label_pairs)?;
    writeln!(out)?;
    let mut table = Table::new(&["section of the index", ">bytes"]);
    report
        .sections
        .iter()
        .for_each(|section| table.row([section.name.to_owned(), section.bytes.to_string()]));
    table.write(out)?;
    writeln!(out)?;
    let mut table =
        Table::new(&["chunks", ">count", ">samples", ">bytes", ">samples/chunk", ">bytes/sample"]);
    for (name, chunks) in &report.chunks_by_encoding {
        let per = |amount: u64, of: u64| format!("{:.2}", amount as f64 / of.max(1) as f64);
        table.row([
            name.clone(),
            chunks.chunks.to_string(),
            chunks.samples.to_string(),
            chunks.bytes.to_string(),
            per(chunks.samples, chunks.chunks),
            per(chunks.bytes, chunks.samples),
        ]);
    }
    table.write(out)?;
    for (heading, unit, counts) in [
        ("label", ">values", &report.values_by_label),
        ("metric", ">series", &report.series_by_metric),
        ("label pair", ">series", &report.series_by_pair),
    ] {
        writeln!(out)?;
        let mut table = Table::new(&[heading, unit]);
        counts.iter().for_each(|counted| table.row([counted.name.clone(), counted.count.to_string()]));
        table.write(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_kept_in_order() {
        let mut largest = Largest::new(3);
        for (count, name) in [(2, "a"), (5, "b"), (2, "c"), (1, "d"), (9, "e")] {
            largest.add(count, || name.to_owned());
        }
        let kept: Vec<(u64, &str)> =
            largest.0.iter().map(|counted| (counted.count, counted.name.as_str())).collect();
        assert_eq!(kept, [(9, "e"), (5, "b"), (2, "a")]);
        let mut none = Largest::new(0);
        none.add(1, || panic!("no name is made for what is not kept"));
    }
}
