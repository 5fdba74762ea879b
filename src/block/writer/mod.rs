//! Writes one block, from series that come in the order of their labels.
//! Owns:     the folder `<ULID>.tmp` until it is renamed to `<ULID>`.
//! Touches:  files only. The caller says what time it is and what the block is called.
//! Runs on:  a thread that may block.
//! Promises: a folder named `<ULID>` is a whole, durable block; memory grows with the distinct label texts alone.

mod index;
mod out_file;
mod segments;
mod sorter;
mod symbols;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use annulus_shards::Labels;

use self::index::IndexWriter;
use self::out_file::OutFile;
use self::segments::SegmentWriter;
use super::format::{AGGREGATES, FLOAT_HISTOGRAM, HISTOGRAM, INDEX_FILE, META_FILE, XOR};
use super::meta::{BlockMeta, BlockStats, IndexStats, MetaError, ThanosFile};
use super::reader::{ChunkMeta, sample_count};
use super::ulid::Ulid;

/// What follows the name of a block in the name of a folder that is not whole: ours, and those of Prometheus.
const UNFINISHED_SUFFIXES: [&str; 3] = [".tmp", ".tmp-for-creation", ".tmp-for-deletion"];

/// The longest chunk: one that fills a segment alone.
const CHUNK_BYTES_MAX: usize = 512 << 20;

/// A chunk to write.
#[derive(Debug, Clone, Copy)]
pub struct ChunkIn<'a> {
    /// Time of its first sample.
    pub min_ms: i64,
    /// Time of its last sample.
    pub max_ms: i64,
    /// Its encoding as the files number it.
    pub encoding: u8,
    /// Its bytes, without encoding and checksum.
    pub bytes: &'a [u8],
}

/// How much of what a writer may take.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// Memory for sorting postings.
    pub memory_bytes: usize,
    /// Size at which a chunk segment is full.
    pub segment_bytes_max: u64,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions { memory_bytes: 32 << 20, segment_bytes_max: 512 << 20 }
    }
}

/// Why a block is not written. Apart from [`WriteError::Io`] and [`WriteError::TooLarge`], the series is refused and
/// the block stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused something.
    #[error("writing a block: {0}")]
    Io(#[from] io::Error),
    /// The block's description is not valid.
    #[error("writing a block: {0}")]
    Meta(#[from] MetaError),
    /// Series have to come in the order of their labels, each once.
    #[error("the series {labels:?} does not come after {last:?}")]
    SeriesOrder {
        /// The series that was refused.
        labels: Labels,
        /// The one before it.
        last: Labels,
    },
    /// A series needs labels with sorted names and with values.
    #[error("the labels {labels:?} are not sorted, or one is empty")]
    Labels {
        /// The labels that were refused.
        labels: Labels,
    },
    /// Chunks of a series have to come in the order of time and must not overlap.
    #[error("{labels:?}: a chunk begins at {min_ms}, and the one before it ends at {last_max_ms}")]
    ChunkOrder {
        /// The series.
        labels: Labels,
        /// Where the refused chunk begins.
        min_ms: i64,
        /// Where the one before it ends.
        last_max_ms: i64,
    },
    /// A chunk ends before it begins, or reaches outside the block.
    #[error("{labels:?}: a chunk from {min_ms} to {max_ms} is outside the block")]
    ChunkTimes {
        /// The series.
        labels: Labels,
        /// Time of the chunk's first sample.
        min_ms: i64,
        /// Time of the chunk's last sample.
        max_ms: i64,
    },
    /// An encoding that other programs could not read, no samples, or too many bytes.
    #[error("{labels:?}: a chunk of encoding {encoding} with {bytes} bytes cannot be written")]
    Chunk {
        /// The series.
        labels: Labels,
        /// Its encoding.
        encoding: u8,
        /// Its length.
        bytes: usize,
    },
    /// The format has no room for that much.
    #[error("the block has more {what} than its format can hold")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
    },
}

/// A block that is being written. Dropped before [`BlockWriter::finish`], it leaves nothing.
pub struct BlockWriter {
    /// The folder that holds the blocks.
    parent: PathBuf,
    unfinished: Unfinished,
    meta: BlockMeta,
    segments: SegmentWriter,
    index: IndexWriter,
    last: Option<Labels>,
    stats: BlockStats,
    chunks: Vec<ChunkMeta>,
    /// A write failed half-way: what is in the files is unknown.
    failed: bool,
}

/// The folder that is removed again unless the block gets finished.
struct Unfinished {
    path: PathBuf,
    keep: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), %error, "an unfinished block was not removed");
        }
    }
}

impl BlockWriter {
    /// Begins a block in the folder `parent`. Of `meta`, counts and files are filled in at the end.
    pub fn create(parent: &Path, meta: BlockMeta, options: WriterOptions) -> Result<BlockWriter, WriteError> {
        meta.check()?;
        let name = meta.ulid.to_string();
        if parent.join(&name).try_exists()? {
            return Err(
                io::Error::new(io::ErrorKind::AlreadyExists, format!("the block {name} exists")).into()
            );
        }
        let path = parent.join(format!("{name}{}", UNFINISHED_SUFFIXES[0]));
        fs::create_dir(&path)?;
        let unfinished = Unfinished { path, keep: false };
        let segments = SegmentWriter::create(&unfinished.path, options.segment_bytes_max)?;
        let index = IndexWriter::create(&unfinished.path, options.memory_bytes)?;
        Ok(BlockWriter {
            parent: parent.to_owned(),
            unfinished,
            meta,
            segments,
            index,
            last: None,
            stats: BlockStats::default(),
            chunks: Vec::new(),
            failed: false,
        })
    }

    /// Adds a series with its chunks; one without chunks is left out.
    pub fn append(&mut self, labels: &Labels, chunks: &[ChunkIn<'_>]) -> Result<(), WriteError> {
        self.check_labels(labels)?;
        let stats = self.check_chunks(labels, chunks)?;
        if self.failed {
            return Err(after_failure());
        }
        if chunks.is_empty() {
            return Ok(());
        }
        self.failed = true;
        self.chunks.clear();
        for chunk in chunks {
            let place = self.segments.append(chunk)?;
            self.chunks.push(ChunkMeta { place, min_ms: chunk.min_ms, max_ms: chunk.max_ms });
        }
        self.index.append(labels, &self.chunks)?;
        self.stats = stats;
        self.last = Some(labels.clone());
        self.failed = false;
        Ok(())
    }

    /// Finishes the block and makes it durable. `None` if it has no series: then there is no block.
    pub fn finish(self) -> Result<Option<BlockMeta>, WriteError> {
        if self.failed {
            return Err(after_failure());
        }
        let BlockWriter { parent, mut unfinished, mut meta, segments, index, stats, .. } = self;
        if index.series_count() == 0 {
            return Ok(None);
        }
        meta.stats = BlockStats { series_count: index.series_count(), ..stats };
        let (mut files, chunk_bytes_max) = segments.finish()?;
        let index = index.finish()?;
        if let Some(thanos) = &mut meta.thanos {
            let (size_bytes, hash) = (index.size_bytes, None);
            files.push(ThanosFile { path: INDEX_FILE.to_owned(), size_bytes, hash });
            files.push(ThanosFile { path: META_FILE.to_owned(), size_bytes: 0, hash: None });
            thanos.files = files;
            thanos.index_stats = IndexStats { series_bytes_max: index.series_bytes_max, chunk_bytes_max };
        }
        let mut file = OutFile::create(&unfinished.path.join(META_FILE))?;
        file.write(&meta.to_json())?;
        file.sync()?;
        File::open(&unfinished.path)?.sync_all()?;
        fs::rename(&unfinished.path, parent.join(meta.ulid.to_string()))?;
        unfinished.keep = true;
        File::open(&parent)?.sync_all()?;
        Ok(Some(meta))
    }

    fn check_labels(&self, labels: &Labels) -> Result<(), WriteError> {
        let mut last_name = "";
        for (name, value) in labels.iter() {
            if name <= last_name || value.is_empty() {
                return Err(WriteError::Labels { labels: labels.clone() });
            }
            last_name = name;
        }
        if labels.is_empty() {
            return Err(WriteError::Labels { labels: labels.clone() });
        }
        match &self.last {
            Some(last) if labels <= last => {
                Err(WriteError::SeriesOrder { labels: labels.clone(), last: last.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Checks the chunks of a series; returns the counts of the block with them.
    fn check_chunks(&self, labels: &Labels, chunks: &[ChunkIn<'_>]) -> Result<BlockStats, WriteError> {
        let mut stats = self.stats.clone();
        let mut last_max_ms = None;
        for &ChunkIn { min_ms, max_ms, encoding, bytes } in chunks {
            let labels = || labels.clone();
            if max_ms < min_ms || min_ms < self.meta.min_ms || max_ms >= self.meta.max_ms {
                return Err(WriteError::ChunkTimes { labels: labels(), min_ms, max_ms });
            }
            if let Some(last_max_ms) = last_max_ms
                && min_ms <= last_max_ms
            {
                return Err(WriteError::ChunkOrder { labels: labels(), min_ms, last_max_ms });
            }
            last_max_ms = Some(max_ms);
            let writable = matches!(encoding, XOR | HISTOGRAM | FLOAT_HISTOGRAM | AGGREGATES)
                && bytes.len() <= CHUNK_BYTES_MAX;
            let samples = sample_count(encoding, bytes).filter(|samples| writable && *samples > 0);
            let Some(samples) = samples.map(u64::from) else {
                return Err(WriteError::Chunk { labels: labels(), encoding, bytes: bytes.len() });
            };
            stats.chunk_count += 1;
            stats.sample_count += samples;
            match encoding {
                HISTOGRAM | FLOAT_HISTOGRAM => stats.histogram_sample_count += samples,
                _ => stats.float_sample_count += samples,
            }
        }
        Ok(stats)
    }
}

fn after_failure() -> WriteError {
    io::Error::other("an earlier write of this block failed").into()
}

/// Removes what unfinished blocks a crash left in a folder of blocks, and returns their names. Not to be called while
/// a block is being written there.
pub fn remove_unfinished(parent: &Path) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && is_unfinished(name)
            && entry.file_type()?.is_dir()
        {
            fs::remove_dir_all(entry.path())?;
            removed.push(name.to_owned());
        }
    }
    removed.sort_unstable();
    Ok(removed)
}

fn is_unfinished(name: &str) -> bool {
    let block = UNFINISHED_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
    block.is_some_and(|block| block.parse::<Ulid>().is_ok())
}
