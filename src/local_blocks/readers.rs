//! The blocks whose files are open: those that were read last, as many as may be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use prometheus::{IntCounter, IntGauge};

use super::block::LocalBlock;
use crate::block::{BlockError, BlockReader, LocalFile, Ulid};

/// A block that is open.
pub(super) type Reader = BlockReader<LocalFile>;

/// What an open block takes beside its tables.
const READER_BYTES_MIN: u64 = 8 << 10;

/// An open block keeps the places of one of 32 symbols and values, which take about this part of what is in the file,
/// and less where texts are long.
const TABLE_PART: u64 = 6;

/// How many blocks stay open between reads.
#[derive(Debug, Clone, Copy)]
pub struct ReaderLimits {
    /// Blocks. Each takes a file descriptor for its index and one for each chunk segment, of which most blocks have one.
    pub count_max: usize,
    /// Their memory, as it is estimated from their files.
    pub bytes_max: u64,
}

impl Default for ReaderLimits {
    fn default() -> ReaderLimits {
        ReaderLimits { count_max: 256, bytes_max: 64 << 20 }
    }
}

/// Opens blocks when they are read, and keeps them open while there is room. A block that has to make room stays open
/// for those who read it at that moment.
pub(super) struct OpenReaders {
    limits: ReaderLimits,
    open: Mutex<Open>,
    open_count: IntGauge,
    opened: IntCounter,
}

#[derive(Default)]
struct Open {
    readers: HashMap<Ulid, Kept>,
    bytes: u64,
    /// Counts uses; the block with the lowest one was not read for the longest time.
    uses: u64,
}

struct Kept {
    reader: Arc<Reader>,
    bytes: u64,
    last_use: u64,
}

impl OpenReaders {
    /// None is open. The gauge shows how many are, the counter how often one was opened.
    pub(super) fn new(limits: ReaderLimits, open_count: IntGauge, opened: IntCounter) -> OpenReaders {
        OpenReaders { limits, open: Mutex::default(), open_count, opened }
    }

    /// The files of a block. Blocks the thread while they are opened, by whoever came first.
    pub(super) fn get(&self, block: &LocalBlock) -> Result<Arc<Reader>, BlockError> {
        if let Some(reader) = self.kept(block.ulid) {
            return Ok(reader);
        }
        let _opening = block.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = self.kept(block.ulid) {
            return Ok(reader);
        }
        let reader = Arc::new(BlockReader::open(&block.folder)?);
        self.opened.inc();
        self.keep(block, Arc::clone(&reader));
        Ok(reader)
    }

    /// Closes a block, once nobody reads it any more. One that was marked as removed before is not kept again.
    pub(super) fn forget(&self, ulid: Ulid) {
        let mut open = self.lock();
        let kept = open.remove(ulid);
        self.open_count.set(open.readers.len() as i64);
        drop(open);
        // Closing files takes a moment, in which nobody has to wait for the lock.
        drop(kept);
    }

    fn kept(&self, ulid: Ulid) -> Option<Arc<Reader>> {
        let mut open = self.lock();
        open.uses += 1;
        let last_use = open.uses;
        let kept = open.readers.get_mut(&ulid)?;
        kept.last_use = last_use;
        Some(Arc::clone(&kept.reader))
    }

    fn keep(&self, block: &LocalBlock, reader: Arc<Reader>) {
        let bytes = reader_bytes(&reader, block.index_bytes);
        let mut evicted = Vec::new();
        let mut open = self.lock();
        if block.is_removed() || bytes > self.limits.bytes_max || self.limits.count_max == 0 {
            return;
        }
        while open.readers.len() >= self.limits.count_max || open.bytes + bytes > self.limits.bytes_max {
            let oldest = open.readers.iter().min_by_key(|(_, kept)| kept.last_use).map(|(ulid, _)| *ulid);
            let Some(oldest) = oldest else { break };
            evicted.extend(open.remove(oldest));
        }
        open.uses += 1;
        let last_use = open.uses;
        open.bytes += bytes;
        open.readers.insert(block.ulid, Kept { reader, bytes, last_use });
        self.open_count.set(open.readers.len() as i64);
        drop(open);
        drop(evicted);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn remove(&mut self, ulid: Ulid) -> Option<Kept> {
        let kept = self.readers.remove(&ulid)?;
        self.bytes -= kept.bytes;
        Some(kept)
    }
}

fn reader_bytes(reader: &Reader, index_bytes: u64) -> u64 {
    let toc = reader.index().toc();
    let symbols = toc.series.saturating_sub(toc.symbols);
    let label_pairs = index_bytes.saturating_sub(toc.postings_table);
    READER_BYTES_MIN + (symbols + label_pairs) / TABLE_PART
}
