//! Closed chunks of one shard, outside of memory: files that only grow, each with chunks of one time window.
//!
//! Owns:     the chunk files of the shard's directory, and the chunks that are not yet written to them.
//! Touches:  its shard's disk. Never the network, never another shard.
//! Runs on:  the shard's own thread; one task writes. Written chunks are read by whoever holds a [`LoggedChunk`].
//! Promises: a place never changes its content; a file is removed only when no chunk in it is needed any more.
//!
//! A checkpoint refers to chunks by their places, so it is finished only when they are written. What was appended
//! after it comes again from the WAL, into new files: no file is ever written to by two processes.
//! `docs/format/chunklog.md` has the bytes.

mod log;
mod place;
mod read;
mod record;
mod writer;

pub use log::{ChunkLog, FilePosition, Found};
pub use place::{ChunkPlace, FILE_BYTES_MAX};
pub use read::{ChunkBytes, LogReadError, LoggedChunk, load};
pub use record::{RECORD_HEADER_BYTES, RecordDamage, Scan, parse_record};
pub use writer::{ChunkLogWriter, ListedFiles, LogWriteError, file_name, parse_file_name};

#[cfg(test)]
mod tests;
