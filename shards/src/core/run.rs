//! The life of a shard on its executor: recover, serve, drain, close.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::batch::WriteBatch;
use super::checkpoint::Checkpointer;
use super::chunks::ChunkWriter;
use super::cut::{CutError, Sweeper};
use super::dispatch::{Dispatcher, Origin};
use super::handle::{CutJob, Job};
use super::node::IngestRules;
use super::outcome::Failure;
use super::read;
use super::recover::{RecoverError, recover};
use super::shard::{HeadBudget, Shard, ShardPlace};
use super::state::{ShardState, SharedState};
use super::stats;
use crate::edge::{
    Admission, Answer, ConnectionMetrics, Connections, EdgeLimits, RenderJob, Router, Seat, StatsRequest,
    WriteHandler, accept_loop, handed_loop,
};
use crate::head::{ExtraLimits, TenantState, TimeWindows};
use crate::limits::{HeadTenant, NodeLimits, ShardLimits};
use crate::mesh::{Inbox, Outbox};
use crate::metrics::{HttpMetrics, Metrics};
use crate::relabel::{NodeRules, Rewriter};
use crate::rt::{
    Listener, Native, Pacer, Platform, WaitList, aside_waiting, monotonic_now, nudge_count, sleep, spawn,
    spawn_critical, timeout,
};
use crate::wire::{Decoder, Form, SeriesHasher};
use futures::FutureExt;
use futures::channel::oneshot;

/// How often a shard shows that it turns, and tells its gauges.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// So many heartbeats after its last request, or at most twice as many, a tenant is not at hand any more.
const AGING_BEATS: u32 = 60;

/// Tenants that are looked at between two looks at the clock: some 50 µs.
const UNIT_TENANTS: usize = 256;

/// Reads at which no more of queries begin on one shard; they wait in the channel.
const READS_MAX: usize = 16;

/// Batches of other shards that wait for closed chunks to be read; more wait in the queue.
const UNREAD_BATCHES_MAX: usize = 64;

/// All that a shard is made of, to be handed to its thread.
pub struct ShardSeed {
    pub index: usize,
    pub count: usize,
    pub directory: PathBuf,
    pub ring_bytes: u64,
    pub windows: TimeWindows,
    pub extras: ExtraLimits,
    pub hasher: SeriesHasher,
    pub metrics: Metrics,
    pub state: SharedState,
    pub budget: HeadBudget,
    pub limits: EdgeLimits,
    pub inflight_bytes_max: usize,
    pub rules: IngestRules,
    pub node_limits: Arc<NodeLimits>,
    pub node_rules: Arc<NodeRules>,
    pub outbox: Outbox<WriteBatch>,
    pub inbox: Inbox<WriteBatch>,
    pub sockets: Vec<OwnedFd>,
    pub seat: Seat,
    pub queries: flume::Receiver<Job>,
    pub upkeep: flume::Receiver<Job>,
    pub control: flume::Receiver<Control>,
    pub render: flume::Sender<RenderJob>,
    pub stats: flume::Sender<StatsRequest>,
    pub failure: Arc<Mutex<Option<String>>>,
}

/// What the node tells a shard.
pub enum Control {
    /// Take no new connection, finish the requests in progress.
    Drain {
        /// How long to wait for them.
        limit: Duration,
        /// Told when it is done.
        reply: flume::Sender<Result<(), String>>,
    },
    /// Make all that was taken durable, write a checkpoint, close the files.
    Close {
        /// Told when it is done.
        reply: flume::Sender<Result<(), String>>,
    },
}

/// The main future of a shard's executor.
pub async fn run_shard(seed: ShardSeed) {
    let ShardSeed { index, count, directory, ring_bytes, hasher, metrics: families, state, .. } = seed;
    let shard_metrics = families.shard(index);
    let inflight_bytes = shard_metrics.inflight_bytes.clone();
    let memory = Arc::clone(seed.node_limits.memory());
    let admission = Admission::new(seed.inflight_bytes_max, inflight_bytes, memory);
    let connection_metrics = ConnectionMetrics {
        open: shard_metrics.connections.clone(),
        refused: shard_metrics.connections_refused.clone(),
    };
    let place = ShardPlace { index, count };
    let rewriter = Rewriter::new(seed.node_rules, seed.rules.tenant_label, hasher.clone(), index);
    let limits = ShardLimits::new(seed.node_limits, index);
    let shard = Shard::new(Native, place, hasher, shard_metrics, state.clone(), seed.budget, seed.windows);
    let shard = Rc::new(shard);
    let dispatcher = Rc::new(Dispatcher::new(Rc::clone(&shard), seed.outbox, limits, Some(rewriter)));
    let (stop_sender, stop) = oneshot::channel::<()>();
    let stop = stop.map(|_| ()).boxed_local().shared();
    let EdgeLimits { connections_max, receive_timeout, .. } = seed.limits;
    let connections = Connections::new(seed.seat, connection_metrics, stop, connections_max, receive_timeout);
    let http_metrics = HttpMetrics::new(families.clone());
    let handler = WriteHandler::new(Rc::clone(&dispatcher), admission, seed.limits, http_metrics);
    let router = Router::new(handler, state, seed.render, seed.stats);

    let reads = Rc::<Reads>::default();
    let beat = Heartbeat {
        shard: Rc::clone(&shard),
        dispatcher: Rc::clone(&dispatcher),
        router: Rc::clone(&router),
        families,
        queries: seed.queries.clone(),
    };
    spawn_critical("heartbeat", beat.run());
    // Probes and metrics are served, and writes get a clear refusal, while the WAL is replayed.
    for socket in seed.sockets {
        spawn(
            "accept",
            accept_loop(Listener::from_socket(socket), Rc::clone(&connections), Rc::clone(&router)),
        );
    }
    spawn("handed connections", handed_loop(Rc::clone(&connections), Rc::clone(&router)));
    // They answer from the start too: who asks a shard that replays, or that cannot start, is told so at once.
    let writer = Rc::clone(&shard);
    spawn_critical("commit", async move { writer.commit_loop().await });
    spawn_critical("receive", receive_loop(Rc::clone(&shard), seed.inbox));
    let jobs = Rc::new(Jobs {
        shard: Rc::clone(&shard),
        dispatcher: Rc::clone(&dispatcher),
        reads,
        sweeper: OnceCell::new(),
    });
    spawn_critical("queries", job_loop(Rc::clone(&jobs), seed.queries, READS_MAX));
    // Whoever cuts blocks asks for one thing after the other.
    spawn_critical("upkeep", job_loop(Rc::clone(&jobs), seed.upkeep, usize::MAX));
    let (checkpointer, chunks) = match start_up(&shard, &directory, ring_bytes, seed.extras).await {
        Ok(started) => started,
        Err(error) => {
            let text = format!("shard {index} cannot start: {error}");
            if let Ok(mut failure) = seed.failure.lock() {
                failure.get_or_insert(text);
            }
            shard.set_state(ShardState::Failed);
            wait_for_close(&seed.control).await;
            return;
        }
    };
    let sweeper = Sweeper::new(Rc::clone(&shard), Rc::clone(&chunks), Rc::clone(&jobs.reads));
    assert!(jobs.sweeper.set(Rc::new(sweeper)).is_ok(), "a shard starts once");
    spawn_critical("chunk log", async move { chunks.watch().await });
    let watching = Rc::clone(&checkpointer);
    spawn_critical("checkpoint", async move { watching.watch().await });
    // Before the first write is taken, limits on series have to know what is there.
    let recovered = shard.head.borrow().tenants();
    dispatcher.limits().tell_series(recovered.into_iter().map(head_tenant));
    shard.set_state(ShardState::Serving);

    let mut stop_sender = Some(stop_sender);
    while let Ok(command) = seed.control.recv_async().await {
        match command {
            Control::Drain { limit, reply } => {
                drop(stop_sender.take());
                let drained = timeout(limit, connections.drained()).await.is_some();
                if !drained {
                    tracing::warn!(
                        shard = index,
                        connections = connections.count(),
                        "connections did not end in time; they are closed"
                    );
                }
                let _ = reply.send(Ok(()));
            }
            Control::Close { reply } => {
                let closed = close(&shard, &checkpointer).await;
                let _ = reply.send(closed);
                return;
            }
        }
    }
}

/// A shard that could not start answers commands all the same.
async fn wait_for_close(control: &flume::Receiver<Control>) {
    while let Ok(command) = control.recv_async().await {
        match command {
            Control::Drain { reply, .. } => drop(reply.send(Ok(()))),
            Control::Close { reply } => {
                let _ = reply.send(Ok(()));
                return;
            }
        }
    }
}

async fn start_up(
    shard: &Rc<Shard>,
    directory: &Path,
    ring_bytes: u64,
    extras: ExtraLimits,
) -> Result<(Rc<Checkpointer>, Rc<ChunkWriter>), RecoverError> {
    let began = monotonic_now();
    let (checkpoints, chunks) = recover(shard, directory, ring_bytes, extras).await?;
    let seconds = (monotonic_now() - began).as_secs_f64();
    shard.metrics.recovery_seconds.set(seconds);
    shard.report_size();
    shard.report_extras();
    let chunks = Rc::new(ChunkWriter::new(Rc::clone(shard), chunks));
    let checkpointer = Checkpointer::new(Rc::clone(shard), Rc::clone(&chunks), checkpoints);
    Ok((Rc::new(checkpointer), chunks))
}

async fn receive_loop(shard: Rc<Shard>, mut inbox: Inbox<WriteBatch>) {
    let waiting = Rc::new(UnreadBatches::default());
    loop {
        let batch = inbox.receive().await;
        let Some(unread) = shard.write_ready(batch).await else { continue };
        // What waits for the disk must not hold up the batches behind it; a bound all the same.
        waiting.ended.wait_until(|| waiting.running.get() < UNREAD_BATCHES_MAX).await;
        waiting.running.set(waiting.running.get() + 1);
        let (shard, waiting) = (Rc::clone(&shard), Rc::clone(&waiting));
        spawn_critical("old samples", async move {
            shard.write_unread(unread).await;
            waiting.running.set(waiting.running.get() - 1);
            waiting.ended.wake_all();
        });
    }
}

/// Batches that wait for closed chunks.
#[derive(Default)]
struct UnreadBatches {
    running: Cell<usize>,
    ended: WaitList,
}

/// What jobs work with.
struct Jobs {
    shard: Rc<Shard>,
    dispatcher: Rc<Dispatcher>,
    reads: Rc<Reads>,
    /// Set when recovery is done.
    sweeper: OnceCell<Rc<Sweeper>>,
}

/// Starts jobs as they come; reads and counts only while fewer than `reads_max` run.
async fn job_loop(own: Rc<Jobs>, jobs: flume::Receiver<Job>, reads_max: usize) {
    let reads = Rc::clone(&own.reads);
    while let Ok(job) = jobs.recv_async().await {
        match job {
            Job::Read(job) => {
                reads.ended.wait_until(|| reads.running.get() < reads_max).await;
                let running = RunningRead::new(&reads);
                let shard = Rc::clone(&own.shard);
                spawn("read", async move {
                    read::run(shard, job).await;
                    drop(running);
                });
            }
            Job::Write { tenant, body, reply } => {
                let dispatcher = Rc::clone(&own.dispatcher);
                spawn("in-process write", async move {
                    let decoder = Decoder::new(Form::RemoteWrite1, body.len());
                    let answer = match dispatcher.write(&tenant, Origin::Sender, body, decoder, ()).await {
                        Ok((_, outcome)) => Answer::of_outcome(outcome, Form::RemoteWrite1),
                        Err(error) => Answer::of(&error),
                    };
                    let _ = reply.send(answer);
                });
            }
            Job::Stats(job) => {
                reads.ended.wait_until(|| reads.running.get() < reads_max).await;
                let running = RunningRead::new(&reads);
                let shard = Rc::clone(&own.shard);
                spawn("count", async move {
                    stats::run(shard, job).await;
                    drop(running);
                });
            }
            Job::Cut(job) => {
                let own = Rc::clone(&own);
                spawn("cut", async move { cut(&own, job).await });
            }
        }
    }
}

async fn cut(own: &Jobs, job: CutJob) {
    let shard = own.shard.index;
    let recovering = || CutError::Shard { shard, failure: Failure::Recovering };
    let sweeper = own.sweeper.get().ok_or_else(recovering);
    // An error in sending means that the asker has gone.
    match job {
        CutJob::Tenants { reply } => drop(reply.send(sweeper.map(|sweeper| sweeper.tenants()))),
        CutJob::Freeze { tenant, frozen_ms, reply } => {
            let done = match sweeper {
                Ok(sweeper) => sweeper.freeze(&tenant, frozen_ms).await,
                Err(error) => Err(error),
            };
            let _ = reply.send(done);
        }
        CutJob::Truncate { tenant, below_ms, reply } => {
            let done = match sweeper {
                Ok(sweeper) => sweeper.truncate(&tenant, below_ms).await,
                Err(error) => Err(error),
            };
            let _ = reply.send(done);
        }
    }
}

/// How many reads run, and since when.
#[derive(Default)]
pub struct Reads {
    running: Cell<usize>,
    ended: WaitList,
    epoch: Cell<u64>,
    /// Reads that run, by the epoch in which they began.
    by_epoch: RefCell<BTreeMap<u64, usize>>,
}

impl Reads {
    /// The epoch in which the oldest read that runs began.
    pub fn oldest_epoch(&self) -> Option<u64> {
        self.by_epoch.borrow().keys().next().copied()
    }

    /// Begins another epoch; returns the one that has ended.
    pub fn next_epoch(&self) -> u64 {
        self.epoch.replace(self.epoch.get() + 1)
    }
}

/// Counts one read until it is dropped, also by a panic.
pub struct RunningRead {
    reads: Rc<Reads>,
    epoch: u64,
}

impl RunningRead {
    /// Counts one more.
    pub fn new(reads: &Rc<Reads>) -> RunningRead {
        reads.running.set(reads.running.get() + 1);
        let epoch = reads.epoch.get();
        *reads.by_epoch.borrow_mut().entry(epoch).or_default() += 1;
        RunningRead { reads: Rc::clone(reads), epoch }
    }
}

impl Drop for RunningRead {
    fn drop(&mut self) {
        let reads = &self.reads;
        reads.running.set(reads.running.get() - 1);
        let mut by_epoch = reads.by_epoch.borrow_mut();
        if let Some(count) = by_epoch.get_mut(&self.epoch) {
            *count -= 1;
            if *count == 0 {
                by_epoch.remove(&self.epoch);
            }
        }
        drop(by_epoch);
        reads.ended.wake_all();
    }
}

/// What a shard does once a second.
struct Heartbeat {
    shard: Rc<Shard>,
    dispatcher: Rc<Dispatcher>,
    router: Rc<Router>,
    families: Metrics,
    queries: flume::Receiver<Job>,
}

impl Heartbeat {
    async fn run(self) {
        let mut beats_to_aging = AGING_BEATS;
        let mut has_aged = false;
        loop {
            self.shard.metrics.turns.inc();
            self.dispatcher.report_queues(&self.families);
            self.shard.report_extras();
            self.shard.metrics.queries_queued.set(self.queries.len() as i64);
            self.families.set_nudges(nudge_count());
            self.families.set_aside_waiting(aside_waiting());
            self.tell_series().await;
            let limits = self.dispatcher.limits();
            forget_tenants(&self.shard, |tenant| !has_aged || limits.knows(tenant));
            beats_to_aging -= 1;
            if beats_to_aging == 0 {
                beats_to_aging = AGING_BEATS;
                // A tenant without series may have had no time to send since the start.
                has_aged = self.shard.all_serve();
                self.age().await;
            }
            sleep(HEARTBEAT).await;
        }
    }

    /// Tells how many series there are of the tenants of which there are more or fewer than a second ago.
    async fn tell_series(&self) {
        let mut pacer = Pacer::default();
        loop {
            let changed = self.shard.head.borrow_mut().take_changed_tenants(UNIT_TENANTS);
            if changed.is_empty() {
                return;
            }
            self.dispatcher.limits().tell_series(changed.into_iter().map(head_tenant));
            pacer.pace().await;
        }
    }

    /// Lets go of what is at hand of tenants that do not send.
    async fn age(&self) {
        self.router.age();
        let mut pacer = Pacer::default();
        self.dispatcher.limits().age();
        while self.dispatcher.limits().drop_gone(UNIT_TENANTS) {
            pacer.pace().await;
        }
    }
}

/// Forgets some tenants of which there is nothing to remember, and metadata of some that no shard knows: families have
/// other owners than series. Neither an image nor a sweep may be under way: they know tenants by number. A read does so too, but
/// only those that have series, and these do not lose them without a cut. Answers how many tenants the head has forgotten.
pub fn forget_tenants<P: Platform>(shard: &Shard<P>, is_known: impl Fn(&str) -> bool) -> usize {
    if shard.state() != ShardState::Serving {
        return 0;
    }
    let Some(_turn) = shard.maintenance.try_turn() else { return 0 };
    let mut head = shard.head.borrow_mut();
    head.extras_mut().metadata.forget_unknown(UNIT_TENANTS, is_known);
    head.forget_blank_tenants(UNIT_TENANTS)
}

/// What limits have to know of a tenant.
fn head_tenant(state: TenantState) -> HeadTenant {
    let was_cut = state.was_cut();
    HeadTenant { name: state.name, series: state.series, was_cut }
}

/// Makes all that was taken durable, in a checkpoint too, and ends the ring.
pub async fn close<P: Platform>(shard: &Shard<P>, checkpointer: &Checkpointer<P>) -> Result<(), String> {
    // Nothing joins the frame that is being filled from here on: no write is under way when the ring ends.
    if shard.state() == ShardState::Serving {
        shard.set_state(ShardState::Stopping);
    }
    shard.flush().await;
    if shard.state() != ShardState::Poisoned {
        let failed = |error: String| format!("shard {}: {error}", shard.index);
        checkpointer.last().await.map_err(|error| failed(error.to_string()))?;
        if let Some(wal) = shard.wal.get() {
            wal.retire().await.map_err(|error| failed(error.to_string()))?;
        }
    }
    Ok(())
}
