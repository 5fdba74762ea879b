//! Reading written chunks, on any thread: the reader holds the file open, so that its removal does not matter.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::place::ChunkPlace;
use super::record::{RECORD_HEADER_BYTES, RecordDamage, parse_record};
use crate::rt::ReadAt;

/// Chunks that lie closer together than this are read at once.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// The longest read.
const READ_BYTES_MAX: u64 = 1 << 20;

/// A chunk in a file.
#[derive(Clone)]
pub struct LoggedChunk {
    pub(super) reader: Arc<dyn ReadAt>,
    pub(super) place: ChunkPlace,
}

impl std::fmt::Debug for LoggedChunk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(formatter)
    }
}

impl LoggedChunk {
    /// Where it is.
    pub fn place(&self) -> ChunkPlace {
        self.place
    }
}

/// The bytes of a chunk, or where they are.
#[derive(Debug, Clone)]
pub enum ChunkBytes {
    /// In memory.
    Memory(Bytes),
    /// In the chunk log.
    Logged(LoggedChunk),
}

impl ChunkBytes {
    /// Length of the chunk, in bytes.
    pub fn len(&self) -> usize {
        match self {
            ChunkBytes::Memory(bytes) => bytes.len(),
            ChunkBytes::Logged(logged) => logged.place.chunk_bytes() as usize,
        }
    }

    /// The chunk, if it is in memory.
    pub fn loaded(&self) -> Option<&Bytes> {
        match self {
            ChunkBytes::Memory(bytes) => Some(bytes),
            ChunkBytes::Logged(_) => None,
        }
    }

    /// Whether it has no bytes; no chunk of a head is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a chunk of the log cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogReadError {
    /// The disk failed.
    #[error("chunk file {file}, offset {offset}: {reason}")]
    Io {
        /// Number of the file.
        file: u32,
        /// Where.
        offset: u64,
        /// What the system said.
        reason: String,
    },
    /// What is there is not the chunk.
    #[error("chunk file {file}, offset {offset}: {damage}")]
    Damaged {
        /// Number of the file.
        file: u32,
        /// Where.
        offset: u32,
        /// How it shows.
        damage: RecordDamage,
    },
}

/// Brings logged chunks into memory. Neighbours in a file are read together, whoever they belong to. Blocks.
///
/// # Errors
/// On the first chunk that cannot be read; those before it are in memory.
pub fn load<'a>(chunks: impl Iterator<Item = &'a mut ChunkBytes>) -> Result<(), LogReadError> {
    let mut logged: Vec<(LoggedChunk, &'a mut ChunkBytes)> = chunks
        .filter_map(|chunk| match chunk {
            ChunkBytes::Logged(logged) => Some((logged.clone(), chunk)),
            ChunkBytes::Memory(_) => None,
        })
        .collect();
    logged.sort_unstable_by_key(|(logged, _)| (file_identity(logged), logged.place));
    let mut rest = logged.as_mut_slice();
    while !rest.is_empty() {
        let (run, after) = rest.split_at_mut(run_len(rest));
        read_run(run)?;
        rest = after;
    }
    Ok(())
}

/// Shards number their files alike: the reader tells them apart.
fn file_identity(logged: &LoggedChunk) -> usize {
    Arc::as_ptr(&logged.reader).cast::<()>() as usize
}

fn begin(logged: &LoggedChunk) -> u64 {
    u64::from(logged.place.offset)
}

fn end(logged: &LoggedChunk) -> u64 {
    begin(logged) + (RECORD_HEADER_BYTES as u64) + u64::from(logged.place.chunk_bytes())
}

/// How many chunks from the first one on are read at once.
fn run_len(sorted: &[(LoggedChunk, &mut ChunkBytes)]) -> usize {
    let (first, _) = &sorted[0];
    let mut reach = end(first);
    let mut joins = |logged: &LoggedChunk| {
        let joins = file_identity(logged) == file_identity(first)
            && begin(logged) <= reach + GAP_BYTES_MAX
            && end(logged) - begin(first) <= READ_BYTES_MAX;
        reach = reach.max(end(logged));
        joins
    };
    1 + sorted[1..].iter().take_while(|(logged, _)| joins(logged)).count()
}

fn read_run(run: &mut [(LoggedChunk, &mut ChunkBytes)]) -> Result<(), LogReadError> {
    let Some((first, _)) = run.first() else { return Ok(()) };
    let (file, from) = (first.place.file, begin(first));
    let to = run.iter().map(|(logged, _)| end(logged)).max().unwrap_or(from);
    let read = first.reader.read_at(from, (to - from) as usize);
    let read =
        read.map_err(|error: io::Error| LogReadError::Io { file, offset: from, reason: error.to_string() })?;
    let read = Bytes::from(read);
    for (logged, target) in run {
        let place = logged.place;
        let begin = (u64::from(place.offset) - from) as usize;
        let damaged = |damage| LogReadError::Damaged { file, offset: place.offset, damage };
        let record = read.get(begin..).ok_or_else(|| damaged(RecordDamage::Truncated))?;
        let (found, _) = parse_record(file, place.offset, record).map_err(damaged)?;
        if found != place {
            return Err(damaged(RecordDamage::Other));
        }
        let begin = begin + RECORD_HEADER_BYTES;
        **target = ChunkBytes::Memory(read.slice(begin..begin + place.chunk_bytes() as usize));
    }
    Ok(())
}
