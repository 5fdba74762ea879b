//! One life of a shard: recovery, then everything at once, until it ends or the crash comes.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::disk::delay;
use super::super::{Random, SimDirectory, SimDisk};
use super::cutter::cut_on;
use super::model::Model;
use super::platform::{Files, Frames, Simulated, WatchedRing};
use super::readers::{ALWAYS, Answer, read, read_on};
use super::senders::{Senders, send};
use super::series::TENANTS;
use super::tasks::Tasks;
use crate::chunklog::parse_file_name;
use crate::core::parts::{
    Checkpointer, ChunkWriter, HeadBudget, Reads, RecoverError, Recovered, Report, Shard, ShardPlace,
    Sweeper, close, forget_tenants, recover_files,
};
use crate::core::{ShardState, SharedState};
use crate::head::{AppendError, ExtraLimits, TimeWindows};
use crate::metrics::Metrics;
use crate::wal::WalError;
use crate::wire::SeriesHasher;

const SHARD: u32 = 0;

/// A bug that is planted, to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A checkpoint is finished while the chunks that it refers to are not flushed.
    ChunksNotFlushed,
    /// Chunk files are removed before the record that says that they may be is durable.
    FilesBeforeBounds,
    /// The numbers of series that were dropped are given out again at once.
    NumbersAtOnce,
    /// A window is read for its block before it is durable that it takes no more samples.
    FreezeNotDurable,
}

/// What lasts from one life to the next.
pub struct World {
    pub disk: SimDisk,
    pub directory: SimDirectory,
    pub frames: Rc<Frames>,
    pub model: Rc<Model>,
    pub senders: Rc<Senders>,
    pub windows: TimeWindows,
    /// The wall clock.
    pub now_ms: i64,
    pub bug: Option<Bug>,
    pub choices: Random,
}

/// What the tasks of one life share.
pub struct Life {
    pub shard: Rc<Shard<Simulated>>,
    pub chunks: Rc<ChunkWriter<Simulated>>,
    pub checkpointer: Checkpointer<Simulated>,
    pub sweeper: Sweeper<Simulated>,
    pub reads: Rc<Reads>,
    pub hasher: SeriesHasher,
    pub model: Rc<Model>,
    pub senders: Rc<Senders>,
    pub bug: Option<Bug>,
    pub plan: Plan,
    /// After each cut.
    pub sizes: RefCell<Vec<Size>>,
    pub choices: Random,
}

/// What a shard takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Memory of the head, by its own count.
    pub head_bytes: u64,
    /// Numbers of series, used and vacant.
    pub numbers: u32,
    /// Of chunks.
    pub files: usize,
}

/// How much happens in one life.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub senders: u64,
    /// Requests of each sender.
    pub requests: u64,
    pub reads: u64,
    pub cuts: u64,
    /// Senders wait while the shard has more chunk files.
    pub files_max: usize,
}

impl Life {
    /// Notes what the shard takes.
    pub fn measure(&self) {
        let head = self.shard.head.borrow();
        let (head_bytes, numbers) = (head.size_bytes(), head.series_count());
        let files = head.log().borrow().file_count();
        self.sizes.borrow_mut().push(Size { head_bytes, numbers, files });
    }
}

/// From the start to the end, unless the crash comes first. Answers whether the shard came to serve.
pub async fn live(world: &World, plan: Plan) -> Option<Rc<Life>> {
    let life = recover(world, plan).await?;
    let mut tasks = Tasks::new(world.choices.fork());
    let committer = Rc::clone(&life.shard);
    tasks.add_endless(async move { committer.commit_loop().await });
    tasks.add_endless(write_chunks(Rc::clone(&life)));
    tasks.add_endless(make_checkpoints(Rc::clone(&life)));
    tasks.add_endless(forget_silent(Rc::clone(&life)));
    tasks.add_endless(free_space(world.directory.clone(), world.choices.fork()));
    for _ in 0..plan.senders {
        tasks.add(send(Rc::clone(&life), plan.requests));
    }
    for _ in 0..2 {
        tasks.add(read_on(Rc::clone(&life), plan.reads));
    }
    tasks.add(cut_on(Rc::clone(&life), plan.cuts));
    tasks.run().await;
    // Nothing but a sweep leaves the head in between, and it has ended.
    if let Err(fault) = life.shard.head.borrow().audit() {
        life.model.violate(format!("after a life: {fault}"));
    }
    if world.choices.one_in(2) {
        tasks.add(end(Rc::clone(&life)));
        // Not all who write and cut know that it ends.
        if world.choices.one_in(2) {
            tasks.add(send(Rc::clone(&life), 4));
            tasks.add(cut_on(Rc::clone(&life), 2));
        }
        tasks.run().await;
    }
    Some(life)
}

/// Recovers, and compares what is there with the model.
async fn recover(world: &World, plan: Plan) -> Option<Rc<Life>> {
    let model = &world.model;
    model.met("starts", 1);
    let hasher = SeriesHasher::new([7; 16]);
    let files = Files::new(world.directory.clone(), world.bug != Some(Bug::ChunksNotFlushed));
    let ring = WatchedRing::new(world.disk.clone(), Rc::clone(&world.frames));
    let limits = ExtraLimits::default();
    let recovered = match recover_files(files, ring, SHARD, &hasher, world.windows.block_ms, limits).await {
        Ok(recovered) => recovered,
        Err(RecoverError::Wal(WalError::Io { .. })) => {
            model.met("failed starts", 1);
            return None;
        }
        Err(error) => {
            model.violate(format!("recovery: {error}"));
            return None;
        }
    };
    let Recovered { head, wal, checkpoints, chunks, report } = recovered;
    check_report(model, &report);
    world.frames.recovered(wal.next_seq());
    let state = SharedState::new(1);
    state.set(0, ShardState::Serving);
    let shard = Rc::new(Shard::new(
        Simulated::new(world.choices.fork(), world.now_ms),
        ShardPlace { index: SHARD as usize, count: 1 },
        hasher.clone(),
        Metrics::register(&prometheus::Registry::new()).shard(0),
        state,
        HeadBudget { bytes_max: u64::MAX, used_bytes: Default::default(), disk_is_low: Default::default() },
        world.windows,
    ));
    *shard.head.borrow_mut() = head;
    assert!(shard.wal.set(wal).is_ok(), "a shard recovers once");
    let chunks = Rc::new(ChunkWriter::new(Rc::clone(&shard), chunks));
    let reads = Rc::new(Reads::default());
    let life = Rc::new(Life {
        checkpointer: Checkpointer::new(Rc::clone(&shard), Rc::clone(&chunks), checkpoints),
        sweeper: Sweeper::new(Rc::clone(&shard), Rc::clone(&chunks), Rc::clone(&reads)),
        shard,
        chunks,
        reads,
        hasher,
        model: Rc::clone(model),
        senders: Rc::clone(&world.senders),
        bug: world.bug,
        plan,
        sizes: RefCell::default(),
        choices: world.choices.fork(),
    });
    check_recovered(world, &life, &report).await;
    Some(life)
}

/// What a recovery says has to be known, and only that.
fn check_report(model: &Model, report: &Report) {
    model.met("recoveries", 1);
    model.met("frames replayed", report.ring.frames);
    model.met("torn frames", u64::from(report.ring.torn.is_some()));
    model.met("recoveries from a checkpoint", u64::from(report.checkpoint.is_some()));
    for invalid in &report.invalid {
        model.met("invalid checkpoints", 1);
        if !model.losses.is_rotten_checkpoint(&invalid.name) {
            model.violate(format!("a finished checkpoint is invalid: {invalid:?}"));
        }
    }
    let (missing, count) = &report.missing_files;
    model.met("chunks missing", *count);
    if let Some(file) = missing.iter().find(|file| !model.losses.is_taken(**file)) {
        model.violate(format!("chunk file {file} is missing, with {count} chunks of {missing:?}"));
    }
    // A sample that went with a chunk file makes room for another value at its time, and a replay from before that finds
    // both in the log.
    let is_second_value = matches!(report.first_refusal, Some(AppendError::Conflict { .. }));
    let is_explained = report.refused_samples == 0 || (is_second_value && model.losses.has_taken());
    if !report.ring.missing.is_empty() || !report.ring.damage.is_empty() || !is_explained {
        model.violate(format!("a recovery reports a loss: {report:?}"));
    }
}

async fn check_recovered(world: &World, life: &Life, report: &Report) {
    let model = &life.model;
    if let Err(fault) = life.shard.head.borrow().audit() {
        model.violate(format!("after a recovery: {fault}"));
    }
    let empty = life.shard.head.borrow().empty_count();
    if empty > 0 && !model.losses.has_taken() {
        model.violate(format!("after a recovery {empty} series have no samples"));
    }
    let mut all = Answer::default();
    for tenant in 0..TENANTS.len() {
        let Answer { mut shown, mut files } = read(life, tenant, Vec::new(), ALWAYS).await;
        all.shown.append(&mut shown);
        all.files.append(&mut files);
    }
    let states = life.sweeper.tenants();
    model.recovered(&states, &all.shown, &report.missing_files.0);
    for name in world.directory.names() {
        if parse_file_name(&name).is_some_and(|(file, _)| !all.files.contains(&file)) {
            model.violate(format!("nothing needs {name}, and it is still there"));
        }
    }
}

/// Writes closed chunks: whole pieces, and sometimes all.
async fn write_chunks(life: Rc<Life>) {
    loop {
        for _ in 0..life.choices.below(20) {
            delay(&life.choices).await;
        }
        let written =
            if life.choices.one_in(4) { life.chunks.flush().await } else { life.chunks.write().await };
        life.model.met("failed writes of chunks", u64::from(written.is_err()));
    }
}

async fn make_checkpoints(life: Rc<Life>) {
    loop {
        for _ in 0..life.choices.below(20) {
            delay(&life.choices).await;
        }
        let is_serving = life.shard.state() == ShardState::Serving;
        if life.checkpointer.is_due() || is_serving && life.choices.one_in(6) {
            let what = match life.checkpointer.make().await {
                Ok(()) => "checkpoints",
                Err(_) => "failed checkpoints",
            };
            life.model.met(what, 1);
        }
    }
}

/// Forgets tenants, as a shard does once a second. Each of them may have nothing at some time, because its first series could
/// not begin: it is forgotten, and comes back with its first samples.
async fn forget_silent(life: Rc<Life>) {
    loop {
        for _ in 0..=life.choices.below(20) {
            delay(&life.choices).await;
        }
        let tenant = TENANTS[life.choices.below(TENANTS.len() as u64) as usize];
        {
            let mut head = life.shard.head.borrow_mut();
            head.take_changed_tenants(usize::MAX);
            if life.choices.one_in(2) {
                // The least that makes a tenant known.
                head.set_bounds(tenant, i64::MIN, i64::MIN).expect("there are few tenants");
                continue;
            }
        }
        let forgotten = forget_tenants(&life.shard, |_| life.choices.one_in(2));
        life.model.met("tenants forgotten", forgotten as u64);
    }
}

/// Somebody makes room on a full disk, after a while.
async fn free_space(directory: SimDirectory, choices: Random) {
    loop {
        for _ in 0..choices.below(300) {
            delay(&choices).await;
        }
        directory.limit_space(u64::MAX);
    }
}

/// As a shard ends when it is told to.
async fn end(life: Rc<Life>) {
    // On a full disk, or a ring that fails, the end is not an orderly one.
    let closed = close(&life.shard, &life.checkpointer).await;
    life.model.met("orderly ends", u64::from(closed.is_ok()));
}
