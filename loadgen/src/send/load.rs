//! A whole load: a schedule that waits for nobody, and the lanes that carry what it makes due.
//! Owns:     the lanes' tasks, the thread that keeps the schedule, the lock around [`Dispatch`].
//! Runs on:  tokio, but for the schedule: a thread of its own wakes up within some 60 µs of the due time, where
//!           tokio's timers may take a whole millisecond longer.
//! Promises: every request that was due is offered, however late; none is skipped because others are slow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::dispatch::{AnyLane, Dispatch, Shards, Start};
use super::endpoint::Endpoint;
use super::lane::Lane;
use super::link::Link;
use super::metadata;
use super::reshard::Resharder;
use super::retry::RetryPolicy;
use super::stop::Stop;
use crate::ledger::Ledger;
use crate::measure::recorder::Recorder;
use crate::stream::{Encoded, Protocol, Stream};

/// Longest sleep of the schedule, after which it looks whether it should stop.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// Connections that are being opened at once: more would overrun a listener's backlog.
const OPENING_MAX: usize = 64;

/// How long a load that was asked to stop waits for answers to what it had sent.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How often an ending load looks whether everything has been answered.
const DRAIN_POLL: Duration = Duration::from_millis(2);

/// Where requests come from. Tests have one of their own.
pub trait Source: Send + Sync {
    /// Requests of one round; those of one block are this far apart.
    fn requests_per_round(&self) -> u64;
    /// When a request is due, in microseconds after the first.
    fn due_us(&self, request: u64) -> u64;
    /// Its body.
    fn encode(&self, request: u64, protocol: Protocol) -> Encoded;
    /// The body of a metadata message of remote write 1.0.
    fn metadata(&self) -> Bytes {
        Bytes::new()
    }
}

impl Source for Stream {
    fn requests_per_round(&self) -> u64 {
        Stream::requests_per_round(self)
    }
    fn due_us(&self, request: u64) -> u64 {
        Stream::due_us(self, request)
    }
    fn encode(&self, request: u64, protocol: Protocol) -> Encoded {
        Stream::encode(self, request, protocol)
    }
    fn metadata(&self) -> Bytes {
        Stream::metadata(self)
    }
}

/// When requests start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// At their due times, whether or not earlier ones were answered; latency counts from the due time.
    Open,
    /// As soon as a connection is free: finds what the receiver can take at most; latency counts from sending.
    Closed,
}

/// How requests are spread over lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// Any lane that is free.
    Any {
        /// How many.
        count: usize,
        /// How many may be busy.
        in_flight_max: usize,
    },
    /// Prometheus' shards.
    Shards {
        /// How many at least, and at first.
        min: usize,
        /// How many at most.
        max: usize,
        /// Requests that wait for one of them.
        capacity: usize,
        /// Time between two judgements of how many it takes.
        cycle: Duration,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// When requests start.
    pub mode: Mode,
    /// How they are encoded.
    pub protocol: Protocol,
    /// Who carries them.
    pub lanes: Lanes,
    /// Connections, which lanes share evenly.
    pub links: usize,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
    /// When the schedule ends, in microseconds.
    pub end_us: u64,
    /// The first request.
    pub first_request: u64,
    /// The schedule ends before this request, even before its time.
    pub end_request: u64,
    /// Requests that are due for longer are not sent (any more), in microseconds.
    pub age_max_us: Option<u64>,
    /// Time between two metadata messages, which only remote write 1.0 has.
    pub metadata_every: Option<Duration>,
}

/// No connection to the receiver.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct Unreachable {
    /// Which receiver.
    pub url: String,
    /// Why.
    pub reason: String,
}

/// The time of a load: microseconds since it began.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Microseconds since the load began.
    pub fn now_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// What lanes and the schedule share.
pub(super) struct Shared {
    pub plan: Plan,
    pub clock: Clock,
    pub source: Arc<dyn Source>,
    pub ledger: Arc<Ledger>,
    pub recorder: Arc<Recorder>,
    lanes: Vec<UnboundedSender<Start>>,
    desk: Mutex<Desk>,
    /// No more requests will be offered.
    is_over: AtomicBool,
    /// Tells that everything a closed loop had to send has met its fate.
    end: Notify,
}

struct Desk {
    dispatch: Dispatch,
    /// `None` where the number of lanes is fixed.
    resharder: Option<Resharder>,
    /// The next request of a closed loop.
    next: u64,
}

/// A load under way. It ends when this is dropped.
pub struct Load {
    shared: Arc<Shared>,
    lanes: JoinSet<()>,
    schedule: Option<thread::JoinHandle<()>>,
    has_crashed: bool,
    stop: Stop,
}

impl Load {
    /// Connects to the receivers and begins.
    pub async fn start(
        plan: Plan,
        endpoints: Vec<Endpoint>,
        source: Arc<dyn Source>,
        ledger: Arc<Ledger>,
        recorder: Arc<Recorder>,
    ) -> Result<Load, Unreachable> {
        let blocks = source.requests_per_round();
        let (count, dispatch, resharder) = match plan.lanes {
            Lanes::Any { count, in_flight_max } => {
                (count, Dispatch::AnyLane(AnyLane::new(blocks, count, in_flight_max)), None)
            }
            Lanes::Shards { min, max, capacity, cycle } => {
                let resharder = (min < max).then(|| Resharder::new(min, max, cycle));
                (max, Dispatch::Shards(Shards::new(blocks, min, capacity)), resharder)
            }
        };
        let metadata_link = Link::new(Arc::new(endpoints[0].clone()));
        // Shards that do not exist yet connect when they first send.
        let open_count = dispatch.shards().unwrap_or(count).min(plan.links);
        let links = open_links(plan.links, open_count, endpoints).await?;
        let (lanes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded_channel()).unzip();
        let shared = Arc::new(Shared {
            plan,
            clock: Clock(Instant::now()),
            source,
            ledger,
            recorder,
            lanes,
            desk: Mutex::new(Desk { dispatch, resharder, next: plan.first_request }),
            is_over: AtomicBool::new(false),
            end: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let link = Arc::clone(&links[index % links.len()]);
            tasks.spawn(Lane { shared: Arc::clone(&shared), link, inbox }.run());
        }
        if let (Some(every), Protocol::RemoteWrite1) = (plan.metadata_every, plan.protocol) {
            let message = shared.source.metadata();
            tasks.spawn(metadata::keep_sending(Arc::clone(&shared), metadata_link, message, every));
        }
        let mut load =
            Load { shared, lanes: tasks, schedule: None, has_crashed: false, stop: Stop::default() };
        match plan.mode {
            Mode::Open => load.schedule = Some(load.keep_schedule()),
            Mode::Closed => load.shared.feed(),
        }
        Ok(load)
    }

    /// The time since it began.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Prometheus' shards at this moment; `None` for lanes that are no shards.
    pub fn shards(&self) -> Option<usize> {
        self.shared.desk().dispatch.shards()
    }

    /// Waits until a closed loop has sent all that it has to send; an open one ends by the clock alone.
    pub async fn ended(&self) {
        if self.shared.plan.mode == Mode::Open {
            return std::future::pending().await;
        }
        while !self.shared.is_idle() {
            self.shared.end.notified().await;
        }
    }

    /// Ends the schedule; what is due already goes on.
    fn end_schedule(&self) {
        self.stop.request();
        if self.shared.plan.mode == Mode::Closed {
            self.shared.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Gives up requests that wait for a lane, and says which.
    fn forget_waiting(&self) -> Vec<u64> {
        let forgotten = self.shared.desk().dispatch.forget_waiting();
        // The one request that waits in a closed loop was never due.
        if self.shared.plan.mode == Mode::Closed { Vec::new() } else { forgotten }
    }

    /// Whether a lane or the schedule has crashed: requests would wait for ever, and no figure could be trusted.
    pub fn has_crashed(&mut self) -> bool {
        // Lanes end on their own only with the load.
        self.has_crashed |= self.lanes.try_join_next().is_some();
        let is_finished = self.schedule.as_ref().is_some_and(thread::JoinHandle::is_finished);
        self.has_crashed |= is_finished && !self.shared.is_over.load(Ordering::Acquire);
        self.has_crashed
    }

    /// Waits until everything that was due has met its fate, or until the time is over; then ends all lanes.
    /// Who asks it to stop gets the answers of a few more seconds, and nothing new is sent. Requests still under
    /// way stay unknown in the ledger. Says which were due and never sent.
    pub async fn drain(&mut self, patience: Duration, stop: &Stop) -> Vec<u64> {
        let mut deadline = Instant::now() + patience;
        let mut unsent = Vec::new();
        let mut is_stopping = false;
        while !self.shared.is_idle() && !self.has_crashed() && Instant::now() < deadline {
            if stop.is_requested() && !is_stopping {
                is_stopping = true;
                self.end_schedule();
                unsent = self.forget_waiting();
                deadline = deadline.min(Instant::now() + STOP_PATIENCE);
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
        self.end_schedule();
        unsent.extend(self.forget_waiting());
        self.lanes.shutdown().await;
        unsent
    }

    fn keep_schedule(&self) -> thread::JoinHandle<()> {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        // It ends with the schedule, at the latest `SLEEP_MAX` after it is stopped.
        thread::spawn(move || {
            let plan = shared.plan;
            let mut cycle_end_us = cycle_us(plan.lanes);
            for request in plan.first_request..plan.end_request {
                let due_us = shared.source.due_us(request);
                if due_us >= plan.end_us || !sleep_until(&shared, &stop, due_us, &mut cycle_end_us) {
                    break;
                }
                shared.offer(request, due_us);
            }
            shared.is_over.store(true, Ordering::Release);
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end_schedule();
    }
}

/// Length of a cycle of resharding; where there is none, no load is as long as one.
fn cycle_us(lanes: Lanes) -> u64 {
    match lanes {
        Lanes::Shards { cycle, .. } => u64::try_from(cycle.as_micros()).unwrap_or(u64::MAX),
        Lanes::Any { .. } => u64::MAX,
    }
}

/// Sleeps until the load's clock reaches a time; `false` if the schedule was stopped before. Judges the number of
/// shards whenever a cycle is over.
fn sleep_until(shared: &Shared, stop: &Stop, due_us: u64, cycle_end_us: &mut u64) -> bool {
    loop {
        if stop.is_requested() {
            return false;
        }
        let now_us = shared.clock.now_us();
        if now_us >= *cycle_end_us {
            *cycle_end_us = now_us.saturating_add(cycle_us(shared.plan.lanes));
            shared.judge_shards(now_us);
        }
        if now_us >= due_us {
            return true;
        }
        thread::sleep(Duration::from_micros(due_us - now_us).min(SLEEP_MAX));
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, start: Start) {
        // A lane that is gone has been shut down: the load is over.
        let _ = self.lanes[start.lane].send(start);
    }

    fn offer(&self, request: u64, due_us: u64) {
        let start = {
            let mut desk = self.desk();
            if let Some(resharder) = &mut desk.resharder {
                resharder.arrive(due_us);
            }
            desk.dispatch.offer(request, due_us)
        };
        if let Some(start) = start {
            self.begin(start);
        }
    }

    /// Called by a lane that is done with a request, which it began to send at `begun_us`, if it sent it at all.
    pub fn finish(&self, start: Start, begun_us: Option<u64>) {
        let now_us = self.clock.now_us();
        let starts = {
            let mut desk = self.desk();
            if let Some(resharder) = &mut desk.resharder {
                let due_us = self.source.due_us(start.request);
                match begun_us {
                    Some(begun_us) => {
                        let took = Duration::from_micros(now_us.saturating_sub(begun_us));
                        resharder.finish(due_us, took, now_us);
                    }
                    None => resharder.discard(due_us),
                }
            }
            desk.dispatch.finish(start.lane, start.request, now_us)
        };
        starts.into_iter().for_each(|start| self.begin(start));
        if self.plan.mode == Mode::Closed {
            self.feed();
            if self.is_idle() {
                self.end.notify_one();
            }
        }
    }

    /// Called by a lane that pauses before it sends again.
    pub fn hold_resharding(&self, pause: Duration) {
        let now_us = self.clock.now_us();
        if let Some(resharder) = &mut self.desk().resharder {
            resharder.hold(pause, now_us);
        }
    }

    fn judge_shards(&self, now_us: u64) {
        let Desk { dispatch, resharder, .. } = &mut *self.desk();
        let is_busy = dispatch.is_resharding();
        if let Some(count) = resharder.as_mut().and_then(|resharder| resharder.judge(now_us, is_busy)) {
            dispatch.reshard(count);
        }
    }

    /// Gives each resting lane of a closed loop a request.
    fn feed(&self) {
        let now_us = self.clock.now_us();
        if now_us >= self.plan.end_us {
            self.is_over.store(true, Ordering::Release);
        }
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        let mut desk = self.desk();
        while desk.dispatch.waiting() == 0 {
            if desk.next >= self.plan.end_request {
                self.is_over.store(true, Ordering::Release);
                break;
            }
            let request = desk.next;
            desk.next += 1;
            let Some(start) = desk.dispatch.offer(request, now_us) else { break };
            self.begin(start);
        }
    }

    fn is_idle(&self) -> bool {
        if !self.is_over.load(Ordering::Acquire) {
            return false;
        }
        let desk = self.desk();
        let waiting = if self.plan.mode == Mode::Closed { 0 } else { desk.dispatch.waiting() };
        desk.dispatch.in_flight() == 0 && waiting == 0
    }
}

/// Makes all connections, spread over the endpoints, and opens the first `open_count` of them.
async fn open_links(
    count: usize,
    open_count: usize,
    endpoints: Vec<Endpoint>,
) -> Result<Vec<Arc<Link>>, Unreachable> {
    assert!(count > 0 && !endpoints.is_empty(), "a load has connections and a receiver");
    let endpoints: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
    let permits = Arc::new(Semaphore::new(OPENING_MAX));
    let mut opening = JoinSet::new();
    let mut links = Vec::with_capacity(count);
    for index in 0..count {
        let endpoint = Arc::clone(&endpoints[index % endpoints.len()]);
        let link = Arc::new(Link::new(Arc::clone(&endpoint)));
        links.push(Arc::clone(&link));
        if index >= open_count {
            continue;
        }
        let permits = Arc::clone(&permits);
        opening.spawn(async move {
            // The semaphore is never closed; without a permit the connection would merely open earlier.
            let _permit = permits.acquire().await;
            let unreachable = |error: super::link::Trouble| Unreachable {
                url: endpoint.url.clone(),
                reason: error.to_string(),
            };
            link.open().await.map_err(unreachable)
        });
    }
    while let Some(opened) = opening.join_next().await {
        // A task that panicked opened nothing; its link connects when it is needed.
        opened.unwrap_or(Ok(()))?;
    }
    Ok(links)
}
