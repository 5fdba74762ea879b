//! One shard: its head, its WAL, and the batch that is being filled while the one before it is written.
//!
//! Owns:     head and WAL of one shard.
//! Touches:  its own files only.
//! Runs on:  the shard's executor; nothing here is `Send`.
//! Promises: a batch is finished with success only when all that it wrote, and all that it found stored already,
//!           is durable. After a failed commit nothing is acknowledged any more.

mod extras;
mod histograms;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::extras::METADATA_SPARE_PERCENT;
use super::apply::{LastSeries, SAMPLE_RECORD_BYTES_MAX, Target, apply, series_record_bytes_max};
use super::batch::WriteBatch;
use super::chunks::ChunksRead;
use super::outcome::{Failure, Outcome};
use super::state::{ShardState, SharedState};
use crate::head::{Head, TimeWindows};
use crate::metrics::ShardMetrics;
use crate::rt::{Native, Notify, Pace, Platform, WaitList, monotonic_now};
use crate::wal::{CommitError, Encoder, Wal, frame_bytes};
use crate::wire::{HistogramRow, Row, SeriesHasher, TenantHasher};

/// The most rows that are applied between two looks at the clock: some 100 µs. In tests a small batch takes many.
const UNIT_ROWS: usize = if cfg!(test) { 32 } else { 1024 };

/// A batch that holds this much waits for the commit before it; a little more comes in with the last unit. In tests
/// small rings see it.
const PAYLOAD_BYTES_MAX: usize = if cfg!(test) { 8 << 10 } else { 1 << 20 };

/// Chunks that wait to be written are written when they have this many bytes.
const CHUNKS_PENDING_BYTES: u64 = if cfg!(test) { 8 << 10 } else { 256 << 10 };

/// The state of one shard.
pub struct Shard<P: Platform = Native> {
    /// What it runs on.
    pub platform: P,
    /// Its number.
    pub index: usize,
    /// How many shards the node has.
    pub count: usize,
    /// Series and chunks.
    pub head: RefCell<Head>,
    /// Set when recovery is done.
    pub wal: OnceCell<Wal<P::Ring>>,
    /// Counts and gauges.
    pub metrics: ShardMetrics,
    /// Makes the keys of series.
    pub hasher: SeriesHasher,
    /// Which samples are taken, and how blocks are cut.
    pub windows: TimeWindows,
    /// Told when closed chunks wait to be written.
    pub chunks_pending: Notify,
    /// Closed chunks could not be written for lack of space.
    pub disk_full: Cell<bool>,
    /// Held by a checkpoint or a sweep: neither may see the other half done.
    pub maintenance: Maintenance,
    /// Told after each commit, and when a write found no room, for whoever watches the ring's fill.
    pub committed: Notify,
    /// A write found no room in the ring since this was last cleared.
    pub ring_was_full: Cell<bool>,
    /// Percent of the ring that metadata leaves to samples. A checkpoint is due long before, so that this is rare.
    pub metadata_spare_percent: Cell<u64>,
    /// Bytes that frames of this process took in the ring.
    pub committed_bytes: Cell<u64>,
    /// How many of them were series.
    pub committed_series_bytes: Cell<u64>,
    open: RefCell<OpenBatch>,
    work: Notify,
    room: WaitList,
    state: SharedState,
    budget: HeadBudget,
    reported_bytes: Cell<u64>,
}

/// The records of the next frame, and who waits for it.
#[derive(Default)]
struct OpenBatch {
    records: Encoder,
    waiters: Vec<Waiter>,
}

/// Lets one piece of work at a time look at or change the whole head.
#[derive(Default)]
pub struct Maintenance {
    busy: Cell<bool>,
    ended: WaitList,
}

/// The right to do so, until it is dropped.
pub struct MaintenanceTurn<'a>(&'a Maintenance);

impl Maintenance {
    /// Waits for the turn.
    pub async fn turn(&self) -> MaintenanceTurn<'_> {
        while self.busy.get() {
            self.ended.wait_until(|| !self.busy.get()).await;
        }
        self.busy.set(true);
        MaintenanceTurn(self)
    }

    /// The turn, if nobody has it.
    pub fn try_turn(&self) -> Option<MaintenanceTurn<'_>> {
        // A turn that is made and dropped would end that of another.
        if self.busy.replace(true) { None } else { Some(MaintenanceTurn(self)) }
    }
}

impl Drop for MaintenanceTurn<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.ended.wake_all();
    }
}

struct Waiter {
    batch: Option<WriteBatch>,
    outcome: Outcome,
    flushed: Option<Rc<Cell<bool>>>,
}

/// A batch of which some samples wait for closed chunks to be read.
pub struct UnreadBatch {
    batch: WriteBatch,
    outcome: Outcome,
    run: Run,
}

/// What goes from one run of a batch to the next.
struct Run {
    hasher: TenantHasher,
    last: LastSeries,
}

/// How much memory the heads of all shards may take together.
#[derive(Clone)]
pub struct HeadBudget {
    /// The limit.
    pub bytes_max: u64,
    /// What all shards hold, as each last reported it.
    pub used_bytes: Arc<AtomicU64>,
    /// The disk has less space left than the node keeps free.
    pub disk_is_low: Arc<AtomicBool>,
}

/// Which shard of a node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardPlace {
    /// Its number.
    pub index: usize,
    /// How many shards the node has.
    pub count: usize,
}

impl<P: Platform> Shard<P> {
    /// A shard that has not recovered yet.
    pub fn new(
        platform: P,
        place: ShardPlace,
        hasher: SeriesHasher,
        metrics: ShardMetrics,
        state: SharedState,
        budget: HeadBudget,
        windows: TimeWindows,
    ) -> Shard<P> {
        let ShardPlace { index, count } = place;
        Shard {
            platform,
            index,
            count,
            head: RefCell::default(),
            wal: OnceCell::new(),
            metrics,
            hasher,
            windows,
            chunks_pending: Notify::default(),
            disk_full: Cell::new(false),
            maintenance: Maintenance::default(),
            committed: Notify::default(),
            ring_was_full: Cell::new(false),
            metadata_spare_percent: Cell::new(METADATA_SPARE_PERCENT),
            open: RefCell::default(),
            committed_bytes: Cell::new(0),
            committed_series_bytes: Cell::new(0),
            work: Notify::default(),
            room: WaitList::default(),
            state,
            budget,
            reported_bytes: Cell::new(0),
        }
    }

    /// Where the shard is in its life.
    pub fn state(&self) -> ShardState {
        self.state.get(self.index)
    }

    /// Whether all shards of the node take writes.
    pub fn all_serve(&self) -> bool {
        self.state.all().all(|state| state == ShardState::Serving)
    }

    /// Moves the shard to another part of its life.
    pub fn set_state(&self, state: ShardState) {
        self.state.set(self.index, state);
    }

    fn refusal(&self) -> Option<Failure> {
        match self.state() {
            ShardState::Recovering => Some(Failure::Recovering),
            ShardState::Serving => {
                if self.disk_full.get() || self.budget.disk_is_low.load(Ordering::Relaxed) {
                    return Some(Failure::DiskFull);
                }
                let used_bytes = self.budget.used_bytes.load(Ordering::Relaxed);
                (used_bytes > self.budget.bytes_max).then_some(Failure::HeadMemory)
            }
            ShardState::Poisoned => Some(Failure::Poisoned),
            ShardState::Stopping => Some(Failure::Stopping),
            ShardState::Failed => Some(Failure::NotStarted),
        }
    }

    /// Applies a batch; its request learns the outcome when it is durable. Returns when the batch is applied.
    pub async fn write(&self, batch: WriteBatch) {
        if let Some(unread) = self.write_ready(batch).await {
            self.write_unread(unread).await;
        }
    }

    /// Applies what can be decided from memory, and returns the batch if old samples are left whose chunks have to be
    /// read first: other batches need not wait for that.
    pub async fn write_ready(&self, batch: WriteBatch) -> Option<UnreadBatch> {
        let mut outcome = Outcome::default();
        let mut run = Run { hasher: self.hasher.tenant(batch.tenant()), last: LastSeries::default() };
        let mut pacer = self.platform.pacer();
        let read = ChunksRead::default();
        let mut applied =
            self.write_rows(&batch, &batch.rows, &mut run, &read, &mut outcome, &mut pacer).await;
        let histograms = batch.extras.as_ref().map_or(&[][..], |extras| &extras.histograms);
        match applied {
            Ok(()) => {
                applied = self
                    .write_histograms(&batch, histograms, &mut run, &read, &mut outcome, &mut pacer)
                    .await;
            }
            Err(_) => outcome.failed += histograms.len() as u64,
        }
        let applied = self.write_extras(&batch, applied, &mut outcome, &mut pacer).await;
        if applied.is_ok() && outcome.has_unread() {
            return Some(UnreadBatch { batch, outcome, run });
        }
        self.hand_over(batch, outcome, applied);
        None
    }

    /// Reads the chunks that a batch's old samples need, and applies these.
    pub async fn write_unread(&self, unread: UnreadBatch) {
        let UnreadBatch { batch, mut outcome, mut run } = unread;
        let mut read = ChunksRead::default();
        let mut pacer = self.platform.pacer();
        let mut applied = Ok(());
        while applied.is_ok() && outcome.has_unread() {
            let (rows, places): (Vec<Row>, Vec<_>) = std::mem::take(&mut outcome.unread).into_iter().unzip();
            let (histograms, histogram_places): (Vec<HistogramRow>, Vec<_>) =
                std::mem::take(&mut outcome.unread_histograms).into_iter().unzip();
            applied = read.read(self, places.into_iter().chain(histogram_places)).await;
            pacer.restart();
            match applied {
                Ok(()) => {
                    applied = self.write_rows(&batch, &rows, &mut run, &read, &mut outcome, &mut pacer).await;
                }
                Err(_) => outcome.failed += rows.len() as u64,
            }
            match applied {
                Ok(()) => {
                    applied = self
                        .write_histograms(&batch, &histograms, &mut run, &read, &mut outcome, &mut pacer)
                        .await;
                }
                Err(_) => outcome.failed += histograms.len() as u64,
            }
        }
        self.hand_over(batch, outcome, applied);
    }

    /// Lets a batch wait for the commit that makes it durable.
    fn hand_over(&self, batch: WriteBatch, mut outcome: Outcome, applied: Result<(), Failure>) {
        if let Err(failure) = applied {
            if failure == Failure::RingFull {
                self.ring_was_full.set(true);
                self.committed.notify();
            }
            outcome.failed += std::mem::take(&mut outcome.unread).len() as u64;
            outcome.failed += std::mem::take(&mut outcome.unread_histograms).len() as u64;
            outcome.failure = Some(failure);
        }
        self.report_size();
        self.open.borrow_mut().waiters.push(Waiter { batch: Some(batch), outcome, flushed: None });
        self.work.notify();
    }

    /// Applies rows of a batch. On a failure, the rows that were not looked at are counted as failed.
    async fn write_rows(
        &self,
        batch: &WriteBatch,
        all: &[Row],
        run: &mut Run,
        read: &ChunksRead,
        outcome: &mut Outcome,
        pacer: &mut P::Pace,
    ) -> Result<(), Failure> {
        let mut done = 0;
        while done < all.len() {
            if self.open.borrow().records.len() >= PAYLOAD_BYTES_MAX {
                // Nobody who waits for this frame may have told the committer of it yet.
                self.work.notify();
                self.room.wait_until(|| self.open.borrow().records.len() < PAYLOAD_BYTES_MAX).await;
                pacer.restart();
            }
            let rows = &all[done..all.len().min(done + UNIT_ROWS)];
            let applied = match self.refusal() {
                None => self.apply(batch, rows, run, read, outcome),
                Some(failure) => {
                    outcome.failed += rows.len() as u64;
                    Err(failure)
                }
            };
            match applied {
                Ok(count) => done += count,
                Err(failure) => {
                    outcome.failed += (all.len() - done - rows.len()) as u64;
                    return Err(failure);
                }
            }
            pacer.pace().await;
        }
        Ok(())
    }

    fn apply(
        &self,
        batch: &WriteBatch,
        rows: &[Row],
        run: &mut Run,
        read: &ChunksRead,
        outcome: &mut Outcome,
    ) -> Result<usize, Failure> {
        let wal = self.wal.get().ok_or(Failure::Recovering)?;
        let head = &mut *self.head.borrow_mut();
        let records = &mut self.open.borrow_mut().records;
        // As if every series were new: only near a full ring is the room asked for row by row.
        let label_bytes: usize = rows.iter().map(|row| row.label_len as usize).sum();
        let row_bytes = SAMPLE_RECORD_BYTES_MAX + series_record_bytes_max(batch.tenant(), 0);
        let fits = |payload_bytes| wal.fits(payload_bytes);
        let is_ample = wal.fits(records.len() + label_bytes + rows.len() * row_bytes);
        let has_room: Option<&dyn Fn(usize) -> bool> = if is_ample { None } else { Some(&fits) };
        let rules = head.rules(&self.windows, batch.tenant(), self.platform.unix_now_ms());
        let written = outcome.written;
        let mut target = Target {
            head,
            records,
            hasher: &run.hasher,
            shard: self.index,
            shard_count: self.count,
            rules,
            read,
            taken_ms: (i64::MAX, i64::MIN),
            has_room,
        };
        let applied = apply(&mut target, batch, rows, &mut run.last, outcome);
        let (oldest_ms, newest_ms) = target.taken_ms;
        if outcome.written > written {
            head.note(batch.tenant(), outcome.written - written, oldest_ms, newest_ms);
        }
        self.notify_of_pending_chunks(head);
        applied
    }

    fn notify_of_pending_chunks(&self, head: &Head) {
        if head.log().borrow().pending_bytes() >= CHUNKS_PENDING_BYTES {
            self.chunks_pending.notify();
        }
    }

    /// Writes down the bounds of a tenant's times, and returns when they are durable.
    pub async fn set_bounds(&self, tenant: &str, frozen_ms: i64, truncated_ms: i64) -> Result<(), Failure> {
        let wal = self.wal.get().ok_or(Failure::Recovering)?;
        match self.state() {
            ShardState::Serving => {}
            ShardState::Stopping => return Err(Failure::Stopping),
            ShardState::Recovering => return Err(Failure::Recovering),
            ShardState::Poisoned => return Err(Failure::Poisoned),
            ShardState::Failed => return Err(Failure::NotStarted),
        }
        {
            let records = &mut self.open.borrow_mut().records;
            if !wal.fits(records.len() + series_record_bytes_max(tenant, 0)) {
                self.ring_was_full.set(true);
                self.committed.notify();
                return Err(Failure::RingFull);
            }
            let set = self.head.borrow_mut().set_bounds(tenant, frozen_ms, truncated_ms);
            set.map_err(|_| Failure::HeadFull)?;
            records.bounds(tenant, frozen_ms, truncated_ms);
        }
        self.flush().await;
        if self.state() == ShardState::Poisoned { Err(Failure::Poisoned) } else { Ok(()) }
    }

    /// Tells the metrics and the other shards how large this head is.
    pub fn report_size(&self) {
        let head = self.head.borrow();
        let size_bytes = head.size_bytes() + head.extras().size_bytes();
        let before = self.reported_bytes.replace(size_bytes);
        // Wraps where the head has shrunk, as the sum does.
        self.budget.used_bytes.fetch_add(size_bytes.wrapping_sub(before), Ordering::Relaxed);
        self.metrics.head_bytes.set(size_bytes as i64);
        self.metrics.chunk_bytes.set(head.sample_bytes() as i64);
        self.metrics.series.set(i64::from(head.live_series_count()));
    }

    /// Tells the metrics what the head has beside series and samples.
    pub fn report_extras(&self) {
        self.metrics.extras.report(&self.head.borrow().extras());
    }

    /// Waits until all that is in the head is durable. Returns at once on a poisoned shard.
    pub async fn flush(&self) {
        let flushed = Rc::new(Cell::new(false));
        let waiter = Waiter { batch: None, outcome: Outcome::default(), flushed: Some(Rc::clone(&flushed)) };
        self.open.borrow_mut().waiters.push(waiter);
        self.work.notify();
        self.room.wait_until(|| flushed.get()).await;
    }

    /// Writes one frame after another, for as long as the executor lives: what came together while one was being
    /// written is the next.
    pub async fn commit_loop(&self) {
        let mut spare = OpenBatch::default();
        loop {
            self.work.wait().await;
            loop {
                let mut batch = self.open.replace(std::mem::take(&mut spare));
                if batch.records.is_empty() && batch.waiters.is_empty() {
                    spare = batch;
                    break;
                }
                let durable = self.commit(&batch.records).await;
                for waiter in batch.waiters.drain(..) {
                    self.finish(waiter, durable);
                }
                batch.records.clear();
                spare = batch;
                self.room.wake_all();
                self.committed.notify();
            }
        }
    }

    async fn commit(&self, records: &Encoder) -> bool {
        if self.state() == ShardState::Poisoned {
            return false;
        }
        let Some(wal) = self.wal.get() else { return records.is_empty() };
        if records.is_empty() {
            return true;
        }
        let began = monotonic_now();
        match wal.commit(records.bytes()).await {
            Ok(_) => {
                self.metrics.commit_seconds.observe((monotonic_now() - began).as_secs_f64());
                self.metrics.commit_bytes.observe(records.len() as f64);
                self.metrics.ring_used_bytes.set(wal.used_bytes() as i64);
                self.committed_bytes.set(self.committed_bytes.get() + frame_bytes(records.len()));
                let series_bytes = self.committed_series_bytes.get() + records.series_bytes() as u64;
                self.committed_series_bytes.set(series_bytes);
                true
            }
            Err(error) => {
                self.poison(&error);
                false
            }
        }
    }

    /// The head has samples that the WAL lacks: a repeat of one could no longer be told from a durable one.
    fn poison(&self, error: &CommitError) {
        self.metrics.commit_failures.inc();
        self.set_state(ShardState::Poisoned);
        tracing::error!(
            shard = self.index,
            %error,
            "a write to the WAL failed; this shard refuses writes until the process is restarted, reads go on"
        );
    }

    fn finish(&self, waiter: Waiter, durable: bool) {
        if let Some(flushed) = waiter.flushed {
            flushed.set(true);
        }
        let Some(batch) = waiter.batch else { return };
        let mut outcome = waiter.outcome;
        if !durable {
            let stored = outcome.written + outcome.repeated;
            let failed = outcome.failed + stored + outcome.histograms_written + outcome.exemplars_written;
            outcome = Outcome { failed, ..Outcome::failed(Failure::Poisoned) };
        }
        let metrics = &self.metrics;
        metrics.written.inc_by(outcome.written);
        metrics.repeated.inc_by(outcome.repeated);
        metrics.histograms.inc_by(outcome.histograms_written);
        for (counter, count) in metrics.refused.iter().zip(outcome.refused) {
            counter.inc_by(count);
        }
        metrics.extras.exemplars_written.inc_by(outcome.exemplars_written);
        metrics.extras.count_refused(&outcome.exemplars_refused);
        if outcome.failure.is_some() {
            metrics.forward_error.inc()
        } else {
            metrics.forward_success.inc()
        }
        batch.finish(outcome);
    }

    /// Whether the frame that is being filled has no records yet.
    pub fn open_is_empty(&self) -> bool {
        self.open.borrow().records.is_empty()
    }
}
