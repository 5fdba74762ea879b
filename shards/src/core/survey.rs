//! Looking at the files of a shard without writing, for tools: what a start would find, and what it would lose.
//!
//! It reads what [`super::recover`] reads, with the same code, from files that cannot be written. Blocks: not for an
//! executor's thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use futures::executor::block_on;

use super::recover::{Image, RecoverError, Replay, list_chunks};
use crate::chunk::{ChunkError, decode_values};
use crate::chunklog::{
    ChunkBytes, ChunkLogWriter, ChunkPlace, RECORD_HEADER_BYTES, RecordDamage, Scan, file_name,
};
use crate::head::{ExtraLimits, Head};
use crate::rt::{BLOCK_BYTES, DirectFile, Directory, ReadOnlyDirectory, ReadOnlyFile};
use crate::wal::{
    CheckpointError, Covered, InvalidReason, RingSurvey, SuperblockCopy, WalError, parse_checkpoint_name,
    read_checkpoint, superblocks, survey,
};
use crate::wire::SeriesHasher;

/// Bytes of a chunk file in memory; more than the longest record.
const PIECE_BYTES: u64 = 32 << 20;

const _: () = assert!(PIECE_BYTES > 2 * ChunkPlace::LEN_MAX as u64, "every record fits into a piece");

/// Why files cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The system refused something.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer version wrote a checkpoint, or the directory cannot be listed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The chunk files cannot be listed.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

/// What a start would make of a shard's files.
pub struct ShardSurvey {
    /// The checkpoints, newest first.
    pub checkpoints: Vec<CheckpointSurvey>,
    /// The ring, or why no start can open it.
    pub ring: Result<RingSurvey, WalError>,
    /// Samples that frames after the checkpoint bring.
    pub replayed_samples: u64,
    /// Samples of the ring that the head does not take; a bug, if there are any.
    pub refused_samples: u64,
    /// Chunk files that are needed and not there, and how many chunks of them are lost.
    pub missing_files: (Vec<u32>, u64),
    /// Series and samples.
    pub head: Head,
}

/// One checkpoint.
pub struct CheckpointSurvey {
    /// Its file.
    pub name: String,
    /// What is in it, or why it cannot be used. Older ones are only looked at if that was asked for.
    pub content: Result<CheckpointContent, InvalidReason>,
    /// Whether a start would use it.
    pub is_used: bool,
}

/// What is in a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointContent {
    /// The frames that it covers.
    pub covered: Covered,
    /// How many pages it has.
    pub pages: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// How many series it has.
    pub series: u32,
}

impl ShardSurvey {
    /// The checkpoint that a start would use.
    pub fn used_checkpoint(&self) -> Option<&CheckpointContent> {
        self.checkpoints.iter().find(|one| one.is_used).and_then(|one| one.content.as_ref().ok())
    }
}

/// Fills a head as a start does. `is_thorough` looks at checkpoints that a start would not need, too.
///
/// # Errors
/// When the directory cannot be read, or a newer version wrote it. Damage is part of the answer.
pub fn survey_shard(
    directory: &Path,
    shard: u32,
    hasher: &SeriesHasher,
    window_ms: i64,
    is_thorough: bool,
) -> Result<ShardSurvey, SurveyError> {
    let files = ReadOnlyDirectory::new(directory);
    let log = Rc::default();
    block_on(list_chunks(&files, &log))?;
    let (checkpoints, image) = survey_checkpoints(&files, directory, shard, log, is_thorough)?;
    let Image { mut head, loader, .. } = image;
    let covered = checkpoints.iter().find(|one| one.is_used).and_then(|one| one.content.as_ref().ok());
    let covered = covered.map(|content| content.covered);
    let mut replay = Replay::new(&mut head, &loader, hasher, window_ms);
    let ring = match ReadOnlyFile::open(&directory.join("wal")) {
        Ok(ring) => block_on(survey(&ring, shard, covered, |seq, payload| replay.frame(seq, payload))),
        Err(source) => Err(WalError::Io { what: "opening the WAL", source }),
    };
    let (replayed_samples, refused_samples) = (replay.samples, replay.refused_samples);
    head.finish_replay().map_err(|_| RecoverError::HeadFull)?;
    let missing = head.log().borrow().missing_files();
    let lost = if missing.is_empty() { 0 } else { head.drop_missing() };
    Ok(ShardSurvey {
        checkpoints,
        ring,
        replayed_samples,
        refused_samples,
        missing_files: (missing, lost),
        head,
    })
}

/// Reads checkpoints, newest first, until one is whole; the others only in a thorough survey.
fn survey_checkpoints(
    files: &ReadOnlyDirectory,
    directory: &Path,
    shard: u32,
    log: Rc<RefCell<crate::chunklog::ChunkLog>>,
    is_thorough: bool,
) -> Result<(Vec<CheckpointSurvey>, Image), SurveyError> {
    let names = block_on(files.list());
    let names = names.map_err(|source| SurveyError::Io { path: directory.to_owned(), source })?;
    let named = names.into_iter().filter_map(|name| Some((parse_checkpoint_name(&name)?, name)));
    let mut named: Vec<(u64, String)> = named.collect();
    named.sort_unstable_by(|a, b| b.cmp(a));
    let (mut surveyed, mut used) = (Vec::new(), None);
    for (begin_seq, name) in named {
        if used.is_some() && !is_thorough {
            break;
        }
        log.borrow_mut().forget_live();
        // What an older one refers to must not count for the one that is used.
        let log = if used.is_none() { Rc::clone(&log) } else { Rc::default() };
        let mut image = Image::new(log, ExtraLimits::default());
        let read = block_on(read_checkpoint(files, shard, begin_seq, &mut image))?;
        let content = read.map(|loaded| CheckpointContent {
            covered: loaded.covered.unwrap_or(Covered { begin_seq, end_seq: begin_seq.saturating_sub(1) }),
            pages: loaded.pages,
            bytes: loaded.bytes,
            series: image.head.live_series_count(),
        });
        let is_used = used.is_none() && content.is_ok();
        if is_used {
            used = Some(image);
        }
        surveyed.push(CheckpointSurvey { name, content, is_used });
    }
    let image = used.unwrap_or_else(|| {
        log.borrow_mut().forget_live();
        Image::new(log, ExtraLimits::default())
    });
    Ok((surveyed, image))
}

/// The records of a ring's frames, whether a checkpoint covers them or not: calls `visit` for each from the tail on.
///
/// # Errors
/// When the ring cannot be read, or `visit` refuses a frame.
pub fn survey_ring<E>(
    directory: &Path,
    shard: u32,
    visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<RingSurvey, WalError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    block_on(survey(&open_ring(directory)?, shard, None, visit))
}

/// Both copies of a ring's superblock.
///
/// # Errors
/// When the ring cannot be read.
pub fn survey_superblocks(directory: &Path) -> Result<[SuperblockCopy; 2], WalError> {
    let ring = open_ring(directory)?;
    if ring.size_bytes() < 2 * BLOCK_BYTES as u64 {
        return Err(WalError::UnusableSize { found: ring.size_bytes() });
    }
    block_on(superblocks(&ring))
}

fn open_ring(directory: &Path) -> Result<ReadOnlyFile, WalError> {
    let opened = ReadOnlyFile::open(&directory.join("wal"));
    opened.map_err(|source| WalError::Io { what: "opening the WAL", source })
}

/// One file of the chunk log.
pub struct ChunkFileSurvey {
    /// Its name.
    pub name: String,
    /// Begin of its window.
    pub window_ms: i64,
    /// Length of the file.
    pub size_bytes: u64,
    /// Records that are whole, and how many samples each chunk says to have.
    pub chunks: HashMap<ChunkPlace, u16>,
    /// Places where no whole record is, and why.
    pub damaged: Vec<(u32, RecordDamage)>,
    /// Chunks whose checksum is right and whose samples cannot be read.
    pub malformed: Vec<(ChunkPlace, ChunkError)>,
}

/// Reads every file of a shard's chunk log, and hands them to `each` one by one. `is_thorough` decodes each chunk.
///
/// # Errors
/// When a file cannot be read.
pub fn survey_chunks(
    directory: &Path,
    is_thorough: bool,
    mut each: impl FnMut(ChunkFileSurvey),
) -> Result<(), SurveyError> {
    let io = |path: PathBuf| move |source| SurveyError::Io { path, source };
    let files = ReadOnlyDirectory::new(directory);
    let listed = block_on(ChunkLogWriter::list(&files)).map_err(io(directory.to_owned()))?;
    for (file, window_ms) in listed {
        let name = file_name(file, window_ms);
        let path = directory.join(&name);
        let opened = ReadOnlyFile::open(&path).map_err(io(path.clone()))?;
        let mut surveyed = ChunkFileSurvey {
            name,
            window_ms,
            size_bytes: opened.size_bytes(),
            chunks: HashMap::new(),
            damaged: Vec::new(),
            malformed: Vec::new(),
        };
        survey_file(&opened, file, is_thorough, &mut surveyed).map_err(io(path))?;
        each(surveyed);
    }
    Ok(())
}

fn survey_file(
    opened: &ReadOnlyFile,
    file: u32,
    is_thorough: bool,
    surveyed: &mut ChunkFileSurvey,
) -> io::Result<()> {
    // A place cannot say more.
    let size_bytes = opened.size_bytes().min(u64::from(u32::MAX));
    let mut begin = 0u64;
    while begin < size_bytes {
        let len = PIECE_BYTES.min(size_bytes - begin);
        let piece = block_on(opened.read_at(begin, len as usize))?;
        let (end, is_last) = (begin + len, begin + len == size_bytes);
        let mut next = end;
        for record in Scan::new(file, begin as u32, &piece) {
            match record {
                Ok((place, chunk)) => {
                    let samples = chunk.first_chunk::<2>().map_or(0, |count| u16::from_be_bytes(*count));
                    surveyed.chunks.insert(place, samples);
                    if is_thorough && let Err(error) = decode_values(place.encoding(), chunk, |_, _| {}) {
                        surveyed.malformed.push((place, error));
                    }
                    // A header that is cut off could be taken for padding.
                    let after = u64::from(place.offset) + (RECORD_HEADER_BYTES + chunk.len()) as u64;
                    if !is_last && after + RECORD_HEADER_BYTES as u64 > end {
                        next = after;
                        break;
                    }
                }
                // It goes on in the next piece, which begins with it.
                Err((offset, RecordDamage::Truncated)) if !is_last && u64::from(offset) > begin => {
                    next = u64::from(offset);
                    break;
                }
                Err((offset, damage)) => surveyed.damaged.push((offset, damage)),
            }
        }
        begin = next;
    }
    Ok(())
}

/// What a head has of one tenant, read to the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantContent {
    /// How many series.
    pub series: u64,
    /// Samples that can be read.
    pub samples: u64,
    /// Chunks that a series refers to and whose record is not whole.
    pub lost_chunks: u64,
    /// Series that have such a chunk.
    pub damaged_series: u64,
}

/// Counts the samples of each tenant. `chunks` are the whole records of the chunk log; one that was added later, or
/// that is malformed, is left out of them by the caller.
pub fn survey_content(head: &Head, chunks: &HashMap<ChunkPlace, u16>) -> BTreeMap<Arc<str>, TenantContent> {
    let mut by_tenant: BTreeMap<Arc<str>, TenantContent> = BTreeMap::new();
    for number in 0..head.series_count() {
        let Some(tenant) = head.tenant_of(number) else { continue };
        let tenant: Arc<str> =
            by_tenant.get_key_value(tenant).map_or_else(|| tenant.into(), |(known, _)| Arc::clone(known));
        let content = by_tenant.entry(Arc::clone(&tenant)).or_default();
        content.series += 1;
        let Some(series) = head.read(&tenant, number, i64::MIN, i64::MAX, false) else { continue };
        let lost_before = content.lost_chunks;
        for chunk in &series.chunks {
            let samples = match &chunk.bytes {
                ChunkBytes::Memory(bytes) => bytes.first_chunk::<2>().map(|count| u16::from_be_bytes(*count)),
                ChunkBytes::Logged(logged) => chunks.get(&logged.place()).copied(),
            };
            match samples {
                Some(samples) => content.samples += u64::from(samples),
                None => content.lost_chunks += 1,
            }
        }
        content.damaged_series += u64::from(content.lost_chunks > lost_before);
    }
    by_tenant
}

#[cfg(test)]
mod tests;
