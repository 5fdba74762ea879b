//! The log in memory: which places are taken, what is not written yet, and how many chunks of each file are needed.
//! Pure: no I/O, so that appending is part of the head's decisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::place::{ChunkPlace, FILE_BYTES_MAX};
use super::read::LoggedChunk;
use super::record::{RECORD_HEADER_BYTES, put_record};
use crate::chunk::Encoding;
use crate::rt::{BLOCK_BYTES, ReadAt};

/// Windows that have a file of their own at once. A sender may name any time, and each file is open.
const WINDOWS_MAX: usize = 16;

/// Where the file of all other windows stands among the windows.
const OTHER_WINDOWS_MS: i64 = i64::MAX;

/// Such a file goes when its last chunk does, whichever window that is of; it is kept small.
const OTHER_FILE_BYTES_MAX: u32 = 64 << 20;

/// The chunks of one shard.
#[derive(Default)]
pub struct ChunkLog {
    files: BTreeMap<u32, LogFile>,
    /// The file of each window that takes chunks.
    open: BTreeMap<i64, u32>,
    next_file: u32,
    pending_bytes: u64,
}

/// One file.
struct LogFile {
    window_ms: i64,
    /// Bytes that are on the disk; a whole number of blocks.
    written: u32,
    /// Where `pending` begins: at the first record that is not on the disk as a whole, so not after `written`.
    pending_from: u32,
    /// What is not on the disk, and the beginning of the record that is there in part.
    pending: Vec<u8>,
    /// Chunks that a series refers to.
    live: u64,
    reader: Option<Arc<dyn ReadAt>>,
}

impl LogFile {
    fn empty(window_ms: i64) -> LogFile {
        LogFile { window_ms, written: 0, pending_from: 0, pending: Vec::new(), live: 0, reader: None }
    }

    /// Where the next record goes.
    fn len(&self) -> u32 {
        self.pending_from + self.pending.len() as u32
    }

    /// What is not on the disk.
    fn unwritten(&self) -> &[u8] {
        &self.pending[(self.written - self.pending_from) as usize..]
    }

    /// The content of a chunk of which not all is on the disk.
    fn pending_chunk(&self, place: ChunkPlace) -> Option<&[u8]> {
        let begin = place.offset.checked_sub(self.pending_from)? as usize + RECORD_HEADER_BYTES;
        self.pending.get(begin..begin + place.chunk_bytes() as usize)
    }

    /// Forgets the records that are on the disk as a whole.
    fn drop_written(&mut self) {
        let (from, written) = (self.pending_from as usize, self.written as usize);
        let mut at = 0;
        while from + at < written {
            let Some(header) = self.pending[at..].first_chunk::<4>() else { break };
            let next = match u32::from_le_bytes(*header) {
                0 => (from + at + 1).next_multiple_of(BLOCK_BYTES) - from,
                len => at + RECORD_HEADER_BYTES + (len as usize & ChunkPlace::LEN_MAX),
            };
            if from + next > written {
                break;
            }
            at = next;
        }
        self.pending.drain(..at);
        self.pending_from += at as u32;
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}

/// Where the content of a chunk is.
#[derive(Debug, Clone)]
pub enum Found {
    /// Not written yet: a copy.
    Memory(Bytes),
    /// In a file, to be read by whoever wants it.
    Logged(LoggedChunk),
    /// Its file is not there.
    Missing,
}

/// Where the next bytes of a file go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePosition {
    /// Number of the file.
    pub file: u32,
    /// Begin of its window.
    pub window_ms: i64,
    /// Bytes on the disk.
    pub written: u32,
}

impl ChunkLog {
    /// A log whose new files are numbered from `next_file`.
    pub fn starting_at(next_file: u32) -> ChunkLog {
        ChunkLog { next_file, ..ChunkLog::default() }
    }

    /// The number that the next file gets; every file that a checkpoint refers to is below.
    pub fn next_file(&self) -> u32 {
        self.next_file
    }

    /// Raises the number of the next file.
    pub fn raise_next_file(&mut self, next_file: u32) {
        self.next_file = self.next_file.max(next_file);
    }

    /// Adds a file that an earlier process wrote. It takes no more chunks.
    pub fn add_existing(&mut self, file: u32, window_ms: i64, size_bytes: u32, reader: Arc<dyn ReadAt>) {
        self.raise_next_file(file.saturating_add(1));
        let live = self.files.get(&file).map_or(0, |known| known.live);
        let existing = LogFile {
            written: size_bytes,
            pending_from: size_bytes,
            live,
            reader: Some(reader),
            ..LogFile::empty(window_ms)
        };
        self.files.insert(file, existing);
    }

    /// Takes a chunk of the window that begins at `window_ms`; it is readable at once.
    pub fn append(&mut self, window_ms: i64, encoding: Encoding, chunk: &[u8]) -> ChunkPlace {
        let is_new = !self.open.contains_key(&window_ms);
        let window_ms = if is_new && self.open.len() >= WINDOWS_MAX { OTHER_WINDOWS_MS } else { window_ms };
        let bytes_max = if window_ms == OTHER_WINDOWS_MS { OTHER_FILE_BYTES_MAX } else { FILE_BYTES_MAX };
        let file = match self.open.get(&window_ms) {
            Some(file) if self.len(*file) < bytes_max => *file,
            _ => self.add_file(window_ms),
        };
        let log_file = self.files.get_mut(&file).expect("an open file is among the files");
        let offset = log_file.len();
        let place = ChunkPlace::new(file, offset, chunk.len(), encoding);
        put_record(&mut log_file.pending, place, chunk);
        log_file.live += 1;
        self.pending_bytes += (RECORD_HEADER_BYTES + chunk.len()) as u64;
        place
    }

    fn len(&self, file: u32) -> u32 {
        self.files.get(&file).map_or(0, LogFile::len)
    }

    fn add_file(&mut self, window_ms: i64) -> u32 {
        let file = self.next_file;
        // 2^32 files of one chunk each would outlast any disk.
        self.next_file = file.checked_add(1).expect("the numbers of chunk files are used up");
        self.files.insert(file, LogFile::empty(window_ms));
        self.open.insert(window_ms, file);
        file
    }

    /// Forgets which chunks are needed, before another checkpoint is tried.
    pub fn forget_live(&mut self) {
        self.files.retain(|_, file| file.reader.is_some());
        self.files.values_mut().for_each(|file| file.live = 0);
    }

    /// Files that series refer to and that are not there.
    pub fn missing_files(&self) -> Vec<u32> {
        let missing = self.files.iter().filter(|(number, file)| file.live > 0 && !self.has_file(**number));
        missing.map(|(number, _)| *number).collect()
    }

    /// Counts a chunk that a checkpoint refers to.
    pub fn retain(&mut self, place: ChunkPlace) {
        self.files.entry(place.file).or_insert_with(|| LogFile::empty(0)).live += 1;
    }

    /// A series does not refer to a chunk any more.
    pub fn release(&mut self, place: ChunkPlace) {
        if let Some(file) = self.files.get_mut(&place.file) {
            assert!(file.live > 0, "more chunks of file {} were released than it has", place.file);
            file.live -= 1;
        }
    }

    /// Where the content of a chunk is.
    pub fn find(&self, place: ChunkPlace) -> Found {
        let Some(file) = self.files.get(&place.file) else { return Found::Missing };
        if let Some(chunk) = file.pending_chunk(place) {
            return Found::Memory(Bytes::copy_from_slice(chunk));
        }
        match &file.reader {
            Some(reader) => Found::Logged(LoggedChunk { reader: Arc::clone(reader), place }),
            None => Found::Missing,
        }
    }

    /// The content of a chunk that is not written yet.
    pub fn pending(&self, place: ChunkPlace) -> Option<&[u8]> {
        self.files.get(&place.file)?.pending_chunk(place)
    }

    /// Whether a chunk's file is there.
    pub fn has_file(&self, file: u32) -> bool {
        self.files.get(&file).is_some_and(|file| file.reader.is_some() || !file.pending.is_empty())
    }

    /// Bytes that are not written yet.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Bytes of all files on the disk.
    pub fn written_bytes(&self) -> u64 {
        self.files.values().map(|file| u64::from(file.written)).sum()
    }

    /// How many chunks series refer to.
    pub fn live_count(&self) -> u64 {
        self.files.values().map(|file| file.live).sum()
    }

    /// How many files there are.
    #[cfg(test)]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// The next piece to write, of a file that has at least `bytes_min` pending: whole blocks, at most `bytes_max`.
    pub(super) fn next_piece(&self, bytes_min: usize, bytes_max: usize) -> Option<(FilePosition, &[u8])> {
        let bytes_min = bytes_min.max(BLOCK_BYTES);
        let (number, file) = self.files.iter().find(|(_, file)| file.unwritten().len() >= bytes_min)?;
        let unwritten = file.unwritten();
        let len = unwritten.len().min(bytes_max) / BLOCK_BYTES * BLOCK_BYTES;
        let position = FilePosition { file: *number, window_ms: file.window_ms, written: file.written };
        Some((position, &unwritten[..len]))
    }

    /// Says who reads a file's written part.
    pub(super) fn add_reader(&mut self, file: u32, reader: Arc<dyn ReadAt>) {
        if let Some(log_file) = self.files.get_mut(&file) {
            log_file.reader = Some(reader);
        }
    }

    /// Says that the next `len` bytes of a file are on the disk.
    pub(super) fn written(&mut self, file: u32, len: usize) {
        let Some(log_file) = self.files.get_mut(&file) else { return };
        log_file.written += len as u32;
        log_file.drop_written();
        self.pending_bytes = self.pending_bytes.saturating_sub(len as u64);
    }

    /// Fills the last block of every file that has chunks pending, so that all of them can be written.
    pub(super) fn pad(&mut self) {
        for file in self.files.values_mut() {
            let mut more = file.unwritten().len().next_multiple_of(BLOCK_BYTES) - file.unwritten().len();
            // Padding is told from a record by its first four bytes.
            if (1..4).contains(&more) {
                more += BLOCK_BYTES;
            }
            self.pending_bytes += more as u64;
            file.pending.resize(file.pending.len() + more, 0);
        }
    }

    /// Takes out the files that no series needs: those that `is_over` says take no more chunks, and those of earlier
    /// processes. Their numbers are returned, for removal.
    pub fn take_unneeded(&mut self, is_over: impl Fn(i64) -> bool) -> Vec<(u32, i64)> {
        let open = &self.open;
        let unneeded: Vec<(u32, i64)> = self
            .files
            .iter()
            .filter(|(number, file)| {
                let is_open = open.get(&file.window_ms) == Some(number);
                file.live == 0 && (!is_open || is_over(file.window_ms))
            })
            .map(|(number, file)| (*number, file.window_ms))
            .collect();
        for (number, _) in &unneeded {
            if let Some(file) = self.files.remove(number) {
                self.pending_bytes = self.pending_bytes.saturating_sub(file.unwritten().len() as u64);
                if self.open.get(&file.window_ms) == Some(number) {
                    self.open.remove(&file.window_ms);
                }
            }
        }
        unneeded
    }
}
