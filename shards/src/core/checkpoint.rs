//! Checkpoints of a shard: when one is due, how it is made beside the writes, and what it frees.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::chunks::ChunkWriter;
use super::shard::Shard;
use super::state::ShardState;
use crate::chunklog::LogWriteError;
use crate::head::{Head, ImageWriter};
use crate::rt::{Directory, Native, Pace, Platform, WaitList, monotonic_now, sleep};
use crate::wal::{CheckpointError, Checkpoints, ReleaseError, Wal, Writer};

/// After a failed checkpoint, on a full disk for example, the next one waits this long.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// However small the head is, a checkpoint waits for so much of the log: some tenths of a second of replay.
const SINCE_BYTES_MIN: u64 = 16 << 20;

/// Why a checkpoint failed. The ring keeps what it would have covered.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointingError {
    /// Its file could not be written.
    #[error("checkpoint: {0}")]
    Write(#[from] CheckpointError),
    /// The ring's tail could not be moved.
    #[error("checkpoint: {0}")]
    Release(#[from] ReleaseError),
    /// Closed chunks, which it refers to, could not be written.
    #[error("checkpoint: {0}")]
    Chunks(#[from] LogWriteError),
    /// A commit failed meanwhile, so what the pages have may not be durable.
    #[error("checkpoint: the WAL takes no more writes")]
    Poisoned,
}

/// Makes the checkpoints of one shard, one at a time.
pub struct Checkpointer<P: Platform = Native> {
    shard: Rc<Shard<P>>,
    chunks: Rc<ChunkWriter<P>>,
    /// Taken while one is made.
    checkpoints: RefCell<Option<Checkpoints<P::Files>>>,
    idle: WaitList,
    /// Bytes of the ring's history when the last checkpoint began, counted over all commits.
    committed_bytes_then: Cell<u64>,
    /// How many of them were series.
    series_bytes_then: Cell<u64>,
    /// Size of the last checkpoint, or of the one that the start loaded.
    last_bytes: Cell<u64>,
}

impl<P: Platform> Checkpointer<P> {
    /// For a shard that has recovered.
    pub fn new(
        shard: Rc<Shard<P>>,
        chunks: Rc<ChunkWriter<P>>,
        checkpoints: Checkpoints<P::Files>,
    ) -> Checkpointer<P> {
        Checkpointer {
            shard,
            chunks,
            checkpoints: RefCell::new(Some(checkpoints)),
            idle: WaitList::default(),
            committed_bytes_then: Cell::new(0),
            series_bytes_then: Cell::new(0),
            last_bytes: Cell::new(0),
        }
    }

    /// Makes a checkpoint whenever a third as much was written to the log as the last one had: a restart then replays in
    /// about the time in which it loads the checkpoint, and checkpoints write three times what the log does. Series count
    /// half: replay takes clearly less time for them than for as many bytes of samples. At the latest when a third of the
    /// ring was written: with the two that are kept, two thirds of the ring are in use at most, and a third is left for
    /// writes while one is made. Also when a write found no room, as frames that are large beside a small ring may.
    pub async fn watch(&self) {
        loop {
            self.shard.committed.wait().await;
            if !self.is_due() {
                continue;
            }
            if let Err(error) = self.make().await {
                self.shard.metrics.checkpoint_failures.inc();
                tracing::error!(shard = self.shard.index, %error, "a checkpoint failed; the WAL keeps what it has");
                sleep(RETRY_PAUSE).await;
                // It is still due, also when nothing more is written.
                self.shard.committed.notify();
            }
        }
    }

    /// Whether it is time for one.
    pub fn is_due(&self) -> bool {
        let Some(wal) = self.shard.wal.get() else { return false };
        let since = self.shard.committed_bytes.get() - self.committed_bytes_then.get();
        let starved = self.shard.ring_was_full.take() && wal.used_bytes() > 0;
        let series_since = self.shard.committed_series_bytes.get() - self.series_bytes_then.get();
        let is_long = since - series_since / 2 > (self.last_bytes.get() / 3).max(SINCE_BYTES_MIN);
        let is_due = starved || is_long || since > wal.size_bytes() / 3;
        self.shard.state() == ShardState::Serving && is_due
    }

    /// The checkpoint of an orderly end. It is left out when nothing was written since the last one.
    pub async fn last(&self) -> Result<(), CheckpointingError> {
        // One that is under way has to end before the ring does.
        self.idle.wait_until(|| self.checkpoints.borrow().is_some()).await;
        if self.shard.committed_bytes.get() == self.committed_bytes_then.get() {
            return Ok(());
        }
        self.make().await
    }

    /// Makes one.
    pub async fn make(&self) -> Result<(), CheckpointingError> {
        let Some(wal) = self.shard.wal.get() else { return Err(CheckpointingError::Poisoned) };
        // The last one may be asked for while another is made.
        self.idle.wait_until(|| self.checkpoints.borrow().is_some()).await;
        let Some(mut checkpoints) = self.checkpoints.take() else { return Err(CheckpointingError::Poisoned) };
        let result = self.make_with(wal, &mut checkpoints).await;
        self.checkpoints.replace(Some(checkpoints));
        self.idle.wake_all();
        result
    }

    async fn make_with(
        &self,
        wal: &Wal<P::Ring>,
        checkpoints: &mut Checkpoints<P::Files>,
    ) -> Result<(), CheckpointingError> {
        let shard = &self.shard;
        let _turn = shard.maintenance.turn().await;
        let began = monotonic_now();
        let (committed_bytes, series_bytes) =
            (shard.committed_bytes.get(), shard.committed_series_bytes.get());
        // What frames below this one brought is in the head: records join a frame after the head took them.
        let begin_seq = wal.next_seq();
        let mut file = checkpoints.create(begin_seq).await?;
        let mut pacer = shard.platform.pacer();
        // The page may have a part of the frame that is being filled; see `ImageLoader::page`.
        let seq = || wal.next_seq() - u64::from(shard.open_is_empty());
        let series = write_image(&shard.head, &mut file, seq, async || pacer.pace().await).await?;
        self.chunks.flush().await?;
        shard.flush().await;
        if shard.state() == ShardState::Poisoned {
            return Err(CheckpointingError::Poisoned);
        }
        let finished = file.finish(wal.durable_seq()).await?;
        if let Some(below_seq) = checkpoints.keep(&finished).await? {
            wal.release(below_seq).await?;
        }
        self.last_bytes.set(finished.bytes);
        self.committed_bytes_then.set(committed_bytes);
        self.series_bytes_then.set(series_bytes);
        let seconds = (monotonic_now() - began).as_secs_f64();
        shard.metrics.checkpoint_seconds.observe(seconds);
        shard.metrics.ring_used_bytes.set(wal.used_bytes() as i64);
        tracing::info!(
            shard = shard.index,
            series,
            bytes = finished.bytes,
            seconds = format!("{seconds:.3}"),
            ring_used_bytes = wal.used_bytes(),
            "checkpoint"
        );
        Ok(())
    }
}

/// Writes the pages of a head's image, and returns how many series it has. What the pages refer to in the chunk log is
/// not on the disk yet when this returns.
pub async fn write_image<D: Directory>(
    head: &RefCell<Head>,
    file: &mut Writer<D>,
    seq: impl Fn() -> u64,
    mut pace: impl AsyncFnMut(),
) -> Result<u32, CheckpointError> {
    let imaged = Imaged::begin(head);
    let (mut image, mut page) = (ImageWriter::default(), Vec::new());
    while image.page(&imaged.0.borrow(), &mut page) {
        file.page(seq(), &page).await?;
        pace().await;
    }
    Ok(image.series_done())
}

/// A head of which an image is made, until this is dropped.
struct Imaged<'a>(&'a RefCell<Head>);

impl<'a> Imaged<'a> {
    fn begin(head: &'a RefCell<Head>) -> Imaged<'a> {
        head.borrow_mut().set_imaged(true);
        Imaged(head)
    }
}

impl Drop for Imaged<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().set_imaged(false);
    }
}
