//! Reading written chunks, on any thread: the reader holds the file open, so that its removal does not matter.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::place::ChunkPlace;
use super::record::{RECORD_HEADER_BYTES, RecordDamage, parse_record};
use crate::rt::ReadAt;

/// Chunks that lie closer together than this are read at once.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// The longest read of more than one chunk: what was read is still in the core's cache when its chunks are copied.
const READ_BYTES_MAX: u64 = 256 << 10;

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

    /// The same, of a chunk that is needed no more.
    pub fn into_loaded(self) -> Option<Bytes> {
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

/// A logged chunk that is wanted, and where its bytes go.
struct Wanted<'a> {
    /// Shards number their files alike: the reader tells them apart.
    file_identity: usize,
    place: ChunkPlace,
    target: &'a mut ChunkBytes,
}

impl Wanted<'_> {
    fn begin(&self) -> u64 {
        u64::from(self.place.offset)
    }

    fn end(&self) -> u64 {
        self.begin() + (RECORD_HEADER_BYTES as u64) + u64::from(self.place.chunk_bytes())
    }
}

/// Brings logged chunks into memory. Neighbours in a file are read together, whoever they belong to, and what lies
/// between them is not kept. Blocks.
///
/// # Errors
/// On the first chunk that cannot be read; those before it may be in memory or not.
pub fn load<'a>(chunks: impl Iterator<Item = &'a mut ChunkBytes>) -> Result<(), LogReadError> {
    let mut wanted: Vec<Wanted<'a>> = chunks
        .filter_map(|target| match target {
            ChunkBytes::Logged(LoggedChunk { reader, place }) => {
                let file_identity = Arc::as_ptr(reader).cast::<()>() as usize;
                Some(Wanted { file_identity, place: *place, target })
            }
            ChunkBytes::Memory(_) => None,
        })
        .collect();
    wanted.sort_unstable_by_key(|one| (one.file_identity, one.place));
    let (mut rest, mut scratch) = (wanted.as_mut_slice(), Vec::new());
    while !rest.is_empty() {
        let (run, after) = rest.split_at_mut(run_len(rest));
        read_run(run, &mut scratch)?;
        rest = after;
    }
    Ok(())
}

/// How many chunks from the first one on are read at once.
fn run_len(sorted: &[Wanted<'_>]) -> usize {
    let first = &sorted[0];
    let mut reach = first.end();
    let mut joins = |one: &Wanted<'_>| {
        let joins = one.file_identity == first.file_identity
            && one.begin() <= reach + GAP_BYTES_MAX
            && one.end() - first.begin() <= READ_BYTES_MAX;
        reach = reach.max(one.end());
        joins
    };
    1 + sorted[1..].iter().take_while(|one| joins(one)).count()
}

/// Reads a run into the scratch memory, and copies its chunks next to each other.
fn read_run(run: &mut [Wanted<'_>], scratch: &mut Vec<u8>) -> Result<(), LogReadError> {
    let Some(Wanted { place, target: ChunkBytes::Logged(first), .. }) = run.first() else { return Ok(()) };
    let (file, from) = (place.file, u64::from(place.offset));
    let to = run.iter().map(Wanted::end).max().unwrap_or(from);
    let len = (to - from) as usize;
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    let read = &mut scratch[..len];
    let failed = |error: io::Error| LogReadError::Io { file, offset: from, reason: error.to_string() };
    first.reader.read_at(from, read).map_err(failed)?;
    let mut kept = Vec::with_capacity(run.iter().map(|one| one.place.chunk_bytes() as usize).sum());
    for one in &*run {
        let damaged = |damage| LogReadError::Damaged { file, offset: one.place.offset, damage };
        let record =
            read.get((one.begin() - from) as usize..).ok_or_else(|| damaged(RecordDamage::Truncated))?;
        let (found, chunk) = parse_record(file, one.place.offset, record).map_err(damaged)?;
        if found != one.place {
            return Err(damaged(RecordDamage::Other));
        }
        kept.extend_from_slice(chunk);
    }
    let mut kept = Bytes::from(kept);
    for one in run {
        *one.target = ChunkBytes::Memory(kept.split_to(one.place.chunk_bytes() as usize));
    }
    Ok(())
}
