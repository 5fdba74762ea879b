//! Checks every byte of a block that somebody could read, and what its parts say about each other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ahash::RandomState;
use annulus_shards::Labels;
use annulus_shards::chunk::{ChunkError, Encoding, decode};

use super::error::BlockError;
use super::format::{FLOAT_HISTOGRAM, FLOAT_HISTOGRAM_ST, HISTOGRAM, HISTOGRAM_ST, SERIES_ALIGN, XOR};
use super::list::{check_name, wrong_files};
use super::meta::{BlockMeta, BlockStats};
use super::reader::{
    BlockReader, ChunkBytes, ChunkMeta, ChunkReader, LocalFile, SeriesRef, read_meta, sample_count,
};

/// Findings beyond this are only counted.
const FINDINGS_MAX: usize = 100;

/// What the check of a block found.
#[derive(Debug, Default)]
pub struct Report {
    /// Its description, if it has one.
    pub meta: Option<BlockMeta>,
    /// What was counted in its series and chunks.
    pub counted: BlockStats,
    /// What is wrong; the first ones, if there are many.
    pub findings: Vec<Finding>,
    /// How many things are wrong.
    pub finding_count: u64,
}

/// One thing that is wrong with a block.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// A part of it cannot be read.
    #[error("{0}")]
    Unreadable(#[from] BlockError),
    /// Series are not in the order of their labels.
    #[error("the series {labels:?} does not come after {last:?}")]
    SeriesOrder {
        /// The series.
        labels: Labels,
        /// The one before it.
        last: Labels,
    },
    /// Between two series is something that is in no list, or they overlap.
    #[error("a series is expected at byte {expected} of the index, the next one listed is at {found}")]
    SeriesPlace {
        /// Where the next series has to be.
        expected: u64,
        /// Where it is.
        found: u64,
    },
    /// A series without chunks has no reason to be there.
    #[error("{labels:?} has no chunks")]
    NoChunks {
        /// The series.
        labels: Labels,
    },
    /// Something about one chunk.
    #[error("{labels:?}, chunk from {min_ms} to {max_ms}: {fault}")]
    Chunk {
        /// The series.
        labels: Labels,
        /// Time of its first sample, by the index.
        min_ms: i64,
        /// Time of its last sample, by the index.
        max_ms: i64,
        /// What is wrong with it.
        fault: ChunkFault,
    },
    /// The lists of postings do not name the series that have the label.
    #[error("the postings of the label {name:?} are not those of the series that have it")]
    Postings {
        /// The label's name.
        name: String,
    },
    /// The description counts something else.
    #[error("meta.json says {field} {stated}, there are {counted}")]
    Stats {
        /// The field of `stats`.
        field: &'static str,
        /// What it says.
        stated: u64,
        /// What is there.
        counted: u64,
    },
}

/// What can be wrong with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// It is not within the times of the block.
    #[error("it is outside the block")]
    Outside,
    /// It begins before the one before it has ended.
    #[error("it begins before the one before it has ended, at {last_max_ms}")]
    Overlap {
        /// Where that one ends.
        last_max_ms: i64,
    },
    /// No samples.
    #[error("it is empty")]
    Empty,
    /// An encoding that is not known.
    #[error("its encoding is {encoding}")]
    Encoding {
        /// As the files number it.
        encoding: u8,
    },
    /// Its samples cannot be decoded.
    #[error("{0}")]
    Malformed(ChunkError),
    /// Its samples have other times than the index says.
    #[error("its samples are from {first_ms} to {last_ms}")]
    Times {
        /// Time of its first sample.
        first_ms: i64,
        /// Time of its last sample.
        last_ms: i64,
    },
    /// Samples of a chunk have to be in the order of time.
    #[error("the sample at {time_ms} is not after the one before it")]
    SampleOrder {
        /// Time of the sample.
        time_ms: i64,
    },
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.finding_count == 0
    }

    fn add(&mut self, finding: impl Into<Finding>) {
        self.finding_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding.into());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlockStats { series_count, chunk_count, sample_count, .. } = &self.counted;
        writeln!(f, "{series_count} series, {chunk_count} chunks, {sample_count} samples")?;
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        match self.finding_count - self.findings.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

/// Checks the block in a folder. It reads everything once; in memory it keeps four bytes for each
/// series, and a part of the symbols.
pub fn verify(folder: &Path) -> Report {
    let mut report = Report::default();
    let meta = match read_meta(folder) {
        Ok(meta) => meta,
        Err(error) => {
            report.add(error);
            return report;
        }
    };
    if let Some(name) = folder.file_name().and_then(|name| name.to_str())
        && let Err(error) = check_name(&meta, folder, name)
    {
        report.add(error);
    }
    for error in wrong_files(&meta, folder) {
        report.add(error);
    }
    report.meta = Some(meta);
    match BlockReader::open(folder) {
        Ok(block) => {
            if let Err(error) = check_content(&mut report, &block) {
                report.add(error);
            }
        }
        Err(error) => report.add(error),
    }
    report
}

/// A sum over (label pair, series) that is the same in any order, by label name. Where the series and the lists of
/// postings give the same sums, they hold the same pairs.
#[derive(Default)]
struct PairSums {
    hasher: RandomState,
    sums: BTreeMap<String, (u64, u64)>,
}

impl PairSums {
    /// Adds series that have a label pair. Two sums that differ in sign meet at zero.
    fn add(&mut self, name: &str, value: &str, series: &[SeriesRef], sign: u64) {
        let sums = match self.sums.get_mut(name) {
            Some(sums) => sums,
            None => self.sums.entry(name.to_owned()).or_default(),
        };
        for reference in series {
            let hash = self.hasher.hash_one((name, value, reference));
            sums.0 = sums.0.wrapping_add(hash.wrapping_mul(sign));
            sums.1 = sums.1.wrapping_add(sign);
        }
    }
}

const PLUS: u64 = 1;
const MINUS: u64 = u64::MAX;

fn check_content(report: &mut Report, block: &BlockReader<LocalFile>) -> Result<(), BlockError> {
    let mut sums = PairSums::default();
    let all = block.index().all_series()?;
    check_series(report, block, &all, &mut sums);
    let lists = block.index().each_list(|name, value, series| {
        if !(name.is_empty() && value.is_empty()) {
            sums.add(name, value, series, MINUS);
        }
    });
    let whole = lists.is_ok();
    if let Err(error) = lists {
        report.add(error);
    }
    for (name, sum) in sums.sums {
        if whole && sum != (0, 0) {
            report.add(Finding::Postings { name });
        }
    }
    check_stats(report, &block.meta().stats);
    Ok(())
}

fn check_series(report: &mut Report, block: &BlockReader<LocalFile>, all: &[SeriesRef], sums: &mut PairSums) {
    let mut reader = block.index().series_reader();
    let mut chunks = block.chunk_reader();
    let mut last: Option<Labels> = None;
    let mut expected = Some(block.index().toc().series.next_multiple_of(SERIES_ALIGN));
    for reference in all {
        if let Some(expected) = expected
            && expected != reference.offset()
        {
            report.add(Finding::SeriesPlace { expected, found: reference.offset() });
        }
        let (series, length) = match reader.read_sized(*reference) {
            Ok(read) => read,
            Err(error) => {
                report.add(error);
                expected = None;
                continue;
            }
        };
        expected = Some((reference.offset() + length).next_multiple_of(SERIES_ALIGN));
        report.counted.series_count += 1;
        for (name, value) in series.labels.iter() {
            sums.add(name, value, &[*reference], PLUS);
        }
        if let Some(last) = last.as_ref().filter(|last| series.labels <= **last) {
            report.add(Finding::SeriesOrder { labels: series.labels.clone(), last: last.clone() });
        }
        if series.chunks.is_empty() {
            report.add(Finding::NoChunks { labels: series.labels.clone() });
        }
        let mut last_max_ms = None;
        for chunk in &series.chunks {
            check_chunk(report, block.meta(), &mut chunks, &series.labels, chunk, last_max_ms);
            last_max_ms = Some(chunk.max_ms);
        }
        last = Some(series.labels);
    }
}

fn check_chunk(
    report: &mut Report,
    meta: &BlockMeta,
    reader: &mut ChunkReader<'_, LocalFile>,
    labels: &Labels,
    chunk: &ChunkMeta,
    last_max_ms: Option<i64>,
) {
    let ChunkMeta { place, min_ms, max_ms } = *chunk;
    let wrong = |report: &mut Report, fault| {
        report.add(Finding::Chunk { labels: labels.clone(), min_ms, max_ms, fault });
    };
    report.counted.chunk_count += 1;
    if min_ms < meta.min_ms || max_ms >= meta.max_ms {
        wrong(report, ChunkFault::Outside);
    }
    if let Some(last_max_ms) = last_max_ms.filter(|last_max_ms| min_ms <= *last_max_ms) {
        wrong(report, ChunkFault::Overlap { last_max_ms });
    }
    let ChunkBytes { encoding, bytes } = match reader.read(place) {
        Ok(read) => read,
        Err(error) => return report.add(error),
    };
    let count = match sample_count(encoding, bytes) {
        None => return wrong(report, ChunkFault::Encoding { encoding }),
        Some(0) => return wrong(report, ChunkFault::Empty),
        Some(count) => u64::from(count),
    };
    report.counted.sample_count += count;
    match encoding {
        HISTOGRAM | FLOAT_HISTOGRAM | HISTOGRAM_ST | FLOAT_HISTOGRAM_ST => {
            report.counted.histogram_sample_count += count;
        }
        _ => report.counted.float_sample_count += count,
    }
    if encoding == XOR
        && let Err(fault) = check_samples(bytes, min_ms, max_ms)
    {
        wrong(report, fault);
    }
}

fn check_samples(bytes: &[u8], min_ms: i64, max_ms: i64) -> Result<(), ChunkFault> {
    let (mut first, mut last, mut late) = (None, None, None);
    decode(Encoding::Xor, bytes, |time_ms, _| {
        first = first.or(Some(time_ms));
        if last.is_some_and(|last| time_ms <= last) {
            late = late.or(Some(time_ms));
        }
        last = Some(time_ms);
    })
    .map_err(ChunkFault::Malformed)?;
    let (Some(first_ms), Some(last_ms)) = (first, last) else { return Err(ChunkFault::Empty) };
    match late {
        Some(time_ms) => Err(ChunkFault::SampleOrder { time_ms }),
        None if (first_ms, last_ms) != (min_ms, max_ms) => Err(ChunkFault::Times { first_ms, last_ms }),
        None => Ok(()),
    }
}

fn check_stats(report: &mut Report, stated: &BlockStats) {
    let counted = report.counted.clone();
    let kinds = [
        ("numFloatSamples", stated.float_sample_count, counted.float_sample_count),
        ("numHistogramSamples", stated.histogram_sample_count, counted.histogram_sample_count),
    ];
    // Older writers do not tell samples apart.
    let kinds = kinds.into_iter().filter(|(_, stated, _)| *stated > 0);
    let all = [
        ("numSeries", stated.series_count, counted.series_count),
        ("numChunks", stated.chunk_count, counted.chunk_count),
        ("numSamples", stated.sample_count, counted.sample_count),
    ];
    for (field, stated, counted) in all.into_iter().chain(kinds) {
        if stated != counted {
            report.add(Finding::Stats { field, stated, counted });
        }
    }
}
