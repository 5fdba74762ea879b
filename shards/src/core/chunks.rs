//! The chunk log of a running shard: written in the background, flushed for a checkpoint, read for old samples.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::outcome::Failure;
use super::shard::Shard;
use crate::chunklog::{ChunkBytes, ChunkLogWriter, ChunkPlace, Found, LogReadError, LogWriteError, load};
use crate::head::ReadChunks;
use crate::rt::{Native, Platform, WaitList, sleep};

/// After a failed write, on a full disk for example, the next one waits this long.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Writes the closed chunks of one shard. One write at a time, whoever asks for it.
pub struct ChunkWriter<P: Platform = Native> {
    shard: Rc<Shard<P>>,
    /// Taken while it writes.
    writer: RefCell<Option<ChunkLogWriter<P::Files>>>,
    idle: WaitList,
}

impl<P: Platform> ChunkWriter<P> {
    /// For a shard that has recovered.
    pub fn new(shard: Rc<Shard<P>>, writer: ChunkLogWriter<P::Files>) -> ChunkWriter<P> {
        ChunkWriter { shard, writer: RefCell::new(Some(writer)), idle: WaitList::default() }
    }

    /// Writes chunks as they fill pieces, for as long as the executor lives. What cannot be written stays in memory,
    /// which has its own limit.
    pub async fn watch(&self) {
        loop {
            self.shard.chunks_pending.wait().await;
            loop {
                // On a full disk also what fills no piece is tried: writes are refused until it succeeds.
                let full = self.shard.disk_full.get();
                let written = if full { self.flush().await } else { self.write().await };
                let Err(error) = written else { break };
                self.report(&error);
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Writes what fills pieces.
    pub async fn write(&self) -> Result<(), LogWriteError> {
        self.with(async |writer, log| writer.write(log).await).await
    }

    /// Writes everything that was closed before the call.
    pub async fn flush(&self) -> Result<(), LogWriteError> {
        self.with(async |writer, log| writer.flush(log).await).await
    }

    /// Removes files that nothing needs any more.
    pub async fn remove(&self, files: Vec<(u32, i64)>) -> Result<(), LogWriteError> {
        self.with(async |writer, _| writer.remove(&files).await).await
    }

    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(
            &mut ChunkLogWriter<P::Files>,
            &RefCell<crate::chunklog::ChunkLog>,
        ) -> Result<T, LogWriteError>,
    ) -> Result<T, LogWriteError> {
        let mut writer = loop {
            self.idle.wait_until(|| self.writer.borrow().is_some()).await;
            if let Some(writer) = self.writer.take() {
                break writer;
            }
        };
        let log = Rc::clone(self.shard.head.borrow().log());
        let result = work(&mut writer, &log).await;
        self.writer.replace(Some(writer));
        self.idle.wake_all();
        let is_full = result.as_ref().is_err_and(LogWriteError::is_disk_full);
        if is_full && !self.shard.disk_full.replace(true) {
            self.shard.chunks_pending.notify();
        } else {
            self.shard.disk_full.set(is_full);
        }
        self.shard.metrics.chunk_log_bytes.set(log.borrow().written_bytes() as i64);
        result
    }

    fn report(&self, error: &LogWriteError) {
        self.shard.metrics.chunk_log_failures.inc();
        tracing::error!(
            shard = self.shard.index,
            %error,
            "closed chunks cannot be written; they stay in memory, and the write is tried again"
        );
    }
}

/// Chunks that were read for rows of one batch.
#[derive(Default)]
pub struct ChunksRead(HashMap<ChunkPlace, Bytes>);

impl ReadChunks for ChunksRead {
    fn get(&self, place: ChunkPlace) -> Option<&[u8]> {
        self.0.get(&place).map(|bytes| &**bytes)
    }
}

impl ChunksRead {
    /// Reads chunks. One that is damaged or missing is taken as empty: what it held is then not known to be stored.
    ///
    /// # Errors
    /// When the disk does not give one; a later try may succeed.
    pub async fn read<P: Platform>(
        &mut self,
        shard: &Shard<P>,
        places: impl Iterator<Item = ChunkPlace>,
    ) -> Result<(), Failure> {
        let mut wanted = Vec::new();
        {
            let head = shard.head.borrow();
            let log = head.log().borrow();
            for place in places {
                if self.0.contains_key(&place) {
                    continue;
                }
                self.0.insert(place, Bytes::new());
                match log.find(place) {
                    Found::Memory(bytes) => drop(self.0.insert(place, bytes)),
                    Found::Logged(logged) => wanted.push((place, ChunkBytes::Logged(logged))),
                    Found::Missing => {}
                }
            }
        }
        let reading = shard.platform.blocking(move || {
            // Neighbours are read together; one by one only to find out which of them cannot be read.
            let mut errors = Vec::new();
            if load(wanted.iter_mut().map(|(_, chunk)| chunk)).is_err() {
                errors.extend(wanted.iter_mut().filter_map(|(_, chunk)| load(std::iter::once(chunk)).err()));
            }
            (wanted, errors)
        });
        let (read, errors) = match reading.await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(shard = shard.index, %error, "closed chunks cannot be read");
                return Err(Failure::ChunkUnreadable);
            }
        };
        for error in &errors {
            shard.metrics.chunk_read_failures.inc();
            tracing::error!(shard = shard.index, %error, "a closed chunk cannot be read");
        }
        if errors.iter().any(|error| matches!(error, LogReadError::Io { .. })) {
            return Err(Failure::ChunkUnreadable);
        }
        for (place, chunk) in read {
            if let ChunkBytes::Memory(bytes) = chunk {
                self.0.insert(place, bytes);
            }
        }
        Ok(())
    }
}
