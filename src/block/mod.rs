//! Prometheus v2 blocks, written and read here: the immutable unit of samples on disk and in the bucket.
//!
//! `docs/format/block.md` has the bytes. A block is a folder: `meta.json`, `index`, `chunks/000001` and on.

mod codec;
mod error;
mod list;
mod meta;
mod reader;
mod ulid;
mod verify;
mod writer;

#[cfg(test)]
mod promtool_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use error::{BlockError, DecodeError, Fault};
pub use list::{BlockEntry, BlockList, BrokenBlock};
pub use meta::{
    BlockMeta, BlockOrigin, BlockStats, Compaction, Downsample, FileHash, IndexStats, MetaError, ThanosFile,
    ThanosMeta,
};
pub use reader::{
    BlockReader, ChunkBytes, ChunkMeta, ChunkPlace, ChunkReader, IndexReader, LocalFile, NamedFile,
    OffsetEntries, OffsetEntry, PostingsOffsets, RangeRead, RawSeries, Series, SeriesReader, SeriesRef,
    Symbols, Toc, check_index_header, check_segment_header, chunk_record_bytes, decode_chunk,
    decode_postings, decode_series, parse_toc, sample_count, series_entry_bytes,
};
pub use ulid::{Ulid, UlidError};
pub use verify::{ChunkFault, Finding, Report, verify};
pub use writer::{BlockWriter, ChunkIn, WriteError, WriterOptions, remove_unfinished};

/// The names of the parts of a block and the numbers that its files begin with.
mod format {
    pub const META_FILE: &str = "meta.json";
    pub const INDEX_FILE: &str = "index";
    pub const CHUNKS_FOLDER: &str = "chunks";

    pub const INDEX_MAGIC: u32 = 0xBAAA_D700;
    pub const INDEX_VERSION: u8 = 2;
    /// Magic and version.
    pub const INDEX_HEADER_BYTES: u64 = 5;
    /// Six offsets and a checksum.
    pub const TOC_BYTES: u64 = 6 * 8 + 4;
    /// A reference to a series is its offset divided by this, so that four bytes reach 64 GiB.
    pub const SERIES_ALIGN: u64 = 16;
    pub const POSTINGS_ALIGN: u64 = 4;
    pub const CRC_BYTES: u64 = 4;

    pub const CHUNKS_MAGIC: u32 = 0x85BD_40DD;
    pub const CHUNKS_VERSION: u8 = 1;
    /// Magic, version and padding.
    pub const SEGMENT_HEADER_BYTES: u64 = 8;

    /// Chunk encodings as numbered on disk.
    pub const XOR: u8 = 1;
    pub const HISTOGRAM: u8 = 2;
    pub const FLOAT_HISTOGRAM: u8 = 3;
    pub const XOR2: u8 = 4;
    pub const HISTOGRAM_ST: u8 = 5;
    pub const FLOAT_HISTOGRAM_ST: u8 = 6;
    /// Thanos' five aggregates of a downsampled chunk.
    pub const AGGREGATES: u8 = 0xff;

    /// The name of a chunk segment, by its index from 0.
    pub fn segment_name(index: usize) -> String {
        format!("{CHUNKS_FOLDER}/{:06}", index + 1)
    }
}
