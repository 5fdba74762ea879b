//! One shard: its head, its WAL, and the batch that is being filled while the one before it is written.
//!
//! Owns:     head and WAL of one shard.
//! Touches:  its own files only.
//! Runs on:  the shard's executor; nothing here is `Send`.
//! Promises: a batch is finished with success only when all that it wrote, and all that it found stored already,
//!           is durable. After a failed commit nothing is acknowledged any more.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::apply::{LastSeries, SAMPLE_RECORD_BYTES_MAX, Target, apply, series_record_bytes_max};
use super::batch::WriteBatch;
use super::outcome::{Failure, Outcome};
use super::state::{ShardState, SharedState};
use crate::head::Head;
use crate::metrics::ShardMetrics;
use crate::rt::{Notify, Pacer, RingFile, WaitList, monotonic_now};
use crate::wal::{CommitError, Encoder, Wal, frame_bytes};
use crate::wire::SeriesHasher;

/// The most rows that are applied between two looks at the clock: some 100 µs.
const UNIT_ROWS: usize = 1024;

/// A batch that holds this much waits for the commit before it; a little more comes in with the last unit.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The state of one shard.
pub struct Shard {
    /// Its number.
    pub index: usize,
    /// How many shards the node has.
    pub count: usize,
    /// Series and chunks.
    pub head: RefCell<Head>,
    /// Set when recovery is done.
    pub wal: OnceCell<Wal<RingFile>>,
    /// Counts and gauges.
    pub metrics: ShardMetrics,
    /// Makes the keys of series.
    pub hasher: SeriesHasher,
    /// Told after each commit, and when a write found no room, for whoever watches the ring's fill.
    pub committed: Notify,
    /// A write found no room in the ring since this was last cleared.
    pub ring_was_full: Cell<bool>,
    /// Bytes that frames of this process took in the ring.
    pub committed_bytes: Cell<u64>,
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

struct Waiter {
    batch: Option<WriteBatch>,
    outcome: Outcome,
    flushed: Option<Rc<Cell<bool>>>,
}

/// How much memory the heads of all shards may take together.
#[derive(Clone)]
pub struct HeadBudget {
    /// The limit.
    pub bytes_max: u64,
    /// What all shards hold, as each last reported it.
    pub used_bytes: Arc<AtomicU64>,
}

impl Shard {
    /// A shard that has not recovered yet.
    pub fn new(
        index: usize,
        count: usize,
        hasher: SeriesHasher,
        metrics: ShardMetrics,
        state: SharedState,
        budget: HeadBudget,
    ) -> Shard {
        Shard {
            index,
            count,
            head: RefCell::default(),
            wal: OnceCell::new(),
            metrics,
            hasher,
            committed: Notify::default(),
            ring_was_full: Cell::new(false),
            open: RefCell::default(),
            committed_bytes: Cell::new(0),
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

    /// Moves the shard to another part of its life.
    pub fn set_state(&self, state: ShardState) {
        self.state.set(self.index, state);
    }

    fn refusal(&self) -> Option<Failure> {
        match self.state() {
            ShardState::Recovering => Some(Failure::Recovering),
            ShardState::Serving => {
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
        let mut outcome = Outcome::default();
        let (mut done, mut last) = (0, LastSeries::default());
        let hasher = self.hasher.tenant(batch.tenant());
        let mut pacer = Pacer::default();
        while done < batch.rows.len() {
            if self.open.borrow().records.len() >= PAYLOAD_BYTES_MAX {
                // Nobody who waits for this frame may have told the committer of it yet.
                self.work.notify();
                self.room.wait_until(|| self.open.borrow().records.len() < PAYLOAD_BYTES_MAX).await;
                pacer.restart();
            }
            let rows = &batch.rows[done..batch.rows.len().min(done + UNIT_ROWS)];
            let applied = match self.refusal() {
                None => self.apply(&batch, rows, &hasher, &mut last, &mut outcome),
                Some(failure) => {
                    outcome.failed += rows.len() as u64;
                    Err(failure)
                }
            };
            match applied {
                Ok(count) => done += count,
                Err(failure) => {
                    if failure == Failure::RingFull {
                        self.ring_was_full.set(true);
                        self.committed.notify();
                    }
                    outcome.failure = Some(failure);
                    outcome.failed += (batch.rows.len() - done - rows.len()) as u64;
                    break;
                }
            }
            pacer.pace().await;
        }
        self.report_size();
        self.open.borrow_mut().waiters.push(Waiter { batch: Some(batch), outcome, flushed: None });
        self.work.notify();
    }

    fn apply(
        &self,
        batch: &WriteBatch,
        rows: &[crate::wire::Row],
        hasher: &crate::wire::TenantHasher,
        last: &mut LastSeries,
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
        let mut target =
            Target { head, records, hasher, shard: self.index, shard_count: self.count, has_room };
        apply(&mut target, batch, rows, last, outcome)
    }

    /// Tells the metrics and the other shards how large this head is.
    pub fn report_size(&self) {
        let head = self.head.borrow();
        let size_bytes = head.size_bytes();
        let before = self.reported_bytes.replace(size_bytes);
        self.budget.used_bytes.fetch_add(size_bytes - before, Ordering::Relaxed);
        self.metrics.head_bytes.set(size_bytes as i64);
        self.metrics.chunk_bytes.set(head.chunk_bytes() as i64);
        self.metrics.series.set(i64::from(head.series_count()));
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
            let failed = outcome.failed + outcome.written + outcome.repeated;
            outcome = Outcome { failed, ..Outcome::failed(Failure::Poisoned) };
        }
        let metrics = &self.metrics;
        metrics.written.inc_by(outcome.written);
        metrics.repeated.inc_by(outcome.repeated);
        for (counter, count) in metrics.refused.iter().zip(outcome.refused) {
            counter.inc_by(count);
        }
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
