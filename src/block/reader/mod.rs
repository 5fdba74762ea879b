//! Reads one block, wherever its bytes are.
//! Owns:     of the index, the places of every 32nd symbol and of every 32nd value of a label. Nothing else stays in
//!           memory.
//! Touches:  its files, through [`RangeRead`].
//! Runs on:  a thread that may block; readers share nothing that changes, so there can be many at a time.
//! Promises: bytes that are not a block give an error with file and offset, never a panic, and never an allocation
//!           out of proportion to the file.

mod chunks;
mod offsets;
mod pattern;
mod postings;
mod range;
mod select;
mod series;
mod symbols;
mod toc;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

pub use chunks::{
    ChunkBytes, ChunkPlace, ChunkReader, check_segment_header, chunk_record_bytes, decode_chunk, sample_count,
};
pub use offsets::{OffsetEntries, OffsetEntry, PostingsOffsets};
pub use postings::decode_postings;
pub use range::{LocalFile, NamedFile, RangeRead};
pub use series::{ChunkMeta, RawSeries, Series, SeriesReader, SeriesRef, decode_series, series_entry_bytes};
pub use symbols::Symbols;
pub use toc::{Toc, check_index_header, parse_toc};

use super::error::{BlockError, DecodeError};
use super::format::{
    CHUNKS_FOLDER, INDEX_FILE, INDEX_HEADER_BYTES, META_FILE, SEGMENT_HEADER_BYTES, TOC_BYTES, segment_name,
};
use super::meta::{BlockMeta, MetaError};

/// One block, open for reading.
#[derive(Debug)]
pub struct BlockReader<F> {
    meta: BlockMeta,
    index: IndexReader<F>,
    segments: Vec<NamedFile<F>>,
}

impl BlockReader<LocalFile> {
    /// Opens the block in a folder.
    pub fn open(folder: &Path) -> Result<BlockReader<LocalFile>, BlockError> {
        let meta = read_meta(folder)?;
        let index = open_local(folder, &meta, INDEX_FILE)?;
        let segments = open_segments(folder, &meta)?;
        BlockReader::new(meta, index, segments)
    }
}

impl<F: RangeRead> BlockReader<F> {
    /// Opens a block from its files; segments come in the order of their numbers.
    pub fn new(
        meta: BlockMeta,
        index: NamedFile<F>,
        segments: Vec<NamedFile<F>>,
    ) -> Result<BlockReader<F>, BlockError> {
        for segment in &segments {
            let header = segment.read(0, SEGMENT_HEADER_BYTES)?;
            check_segment_header(&header).map_err(|error| error.in_file(&segment.name))?;
        }
        Ok(BlockReader { meta, index: IndexReader::open(index)?, segments })
    }

    /// Its description.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Its index.
    pub fn index(&self) -> &IndexReader<F> {
        &self.index
    }

    /// A reader of its chunks.
    pub fn chunk_reader(&self) -> ChunkReader<'_, F> {
        ChunkReader::new(&self.segments, &self.meta.ulid.to_string())
    }
}

/// The index of a block.
#[derive(Debug)]
pub struct IndexReader<F> {
    file: NamedFile<F>,
    toc: Toc,
    symbols: Symbols,
    offsets: PostingsOffsets,
}

impl<F: RangeRead> IndexReader<F> {
    /// Opens an index: reads its symbols and its postings offset table once, and checks them.
    pub fn open(file: NamedFile<F>) -> Result<IndexReader<F>, BlockError> {
        let toc = read_toc(&file)?;
        let in_file = |error: DecodeError| error.in_file(&file.name);
        let section = file.read(toc.symbols, toc.series - toc.symbols)?;
        let symbols = Symbols::parse(&section, toc.symbols).map_err(in_file)?;
        let table_end = file.file.size() - TOC_BYTES;
        let section = file.read(toc.postings_table, table_end - toc.postings_table)?;
        let lists = toc.postings..toc.postings_table;
        let offsets = PostingsOffsets::parse(&section, toc.postings_table, lists).map_err(in_file)?;
        Ok(IndexReader { file, toc, symbols, offsets })
    }

    /// Where its sections are.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The file, for messages.
    pub fn file_name(&self) -> &str {
        &self.file.name
    }

    /// A reader of its series.
    pub fn series_reader(&self) -> SeriesReader<'_, F> {
        SeriesReader::new(self)
    }
}

/// Checks that a file looks like a whole index, by its two ends.
pub(super) fn read_toc<F: RangeRead>(file: &NamedFile<F>) -> Result<Toc, BlockError> {
    let in_file = |error: DecodeError| error.in_file(&file.name);
    let header = file.read(0, INDEX_HEADER_BYTES)?;
    check_index_header(&header).map_err(in_file)?;
    let size = file.file.size();
    let toc = file.read(size.saturating_sub(TOC_BYTES), TOC_BYTES)?;
    parse_toc(&toc, size).map_err(in_file)
}

/// Reads the description of the block in a folder.
pub(super) fn read_meta(folder: &Path) -> Result<BlockMeta, BlockError> {
    let path = folder.join(META_FILE);
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    let file = fs::File::open(&path);
    file.and_then(|file| file.take(BlockMeta::BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| BlockError::Io { file: name(), source })?;
    let limit = BlockMeta::BYTES_MAX;
    let parsed = match bytes.len() as u64 {
        found if found > limit => Err(MetaError::TooLarge { found, limit }),
        _ => BlockMeta::parse(&bytes),
    };
    parsed.map_err(|source| BlockError::Meta { file: name(), source })
}

/// Opens a file of the block in a folder.
pub(super) fn open_local(
    folder: &Path,
    meta: &BlockMeta,
    path: &str,
) -> Result<NamedFile<LocalFile>, BlockError> {
    let name = format!("{}/{path}", meta.ulid);
    match LocalFile::open(&folder.join(path)) {
        Ok(file) => Ok(NamedFile { name, file }),
        Err(source) => Err(BlockError::Io { file: name, source }),
    }
}

/// Opens all chunk segments. A number that is missing is an error: the ones after it would be taken for others.
pub(super) fn open_segments(
    folder: &Path,
    meta: &BlockMeta,
) -> Result<Vec<NamedFile<LocalFile>>, BlockError> {
    let name = format!("{}/{CHUNKS_FOLDER}", meta.ulid);
    let io = |source| BlockError::Io { file: name.clone(), source };
    let is_segment = |entry: &io::Result<fs::DirEntry>| {
        entry
            .as_ref()
            .is_ok_and(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
    };
    let count = fs::read_dir(folder.join(CHUNKS_FOLDER)).map_err(io)?.filter(is_segment).count();
    (0..count).map(|index| open_local(folder, meta, &segment_name(index))).collect()
}
