//! The ingest plane of one process: start, listen, drain, stop.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::{IntGauge, Registry};

use super::batch::WriteBatch;
use super::data_dir::{DataDir, DataDirError, SHARDS_MAX, check_direct_io};
use super::handle::{JobQueues, ShardHandle};
use super::run::{Control, ShardSeed, run_shard};
use super::shard::HeadBudget;
use super::state::{ShardState, SharedState};
use crate::edge::{EdgeLimits, RenderJob, StatsRequest, render_thread, seats, stats_thread};
use crate::head::{ExtraLimits, TimeWindows};
use crate::limits::{LimitsConfig, LimitsMetrics, NodeLimits};
use crate::mesh::mesh;
use crate::metrics::Metrics;
use crate::relabel::{NodeRules, RelabelMetrics, Rules};
use crate::rt::{BLOCK_BYTES, Executor, PreflightError, allowed_cpus, bind_all, preflight, spawn_shard};
use crate::wire::{SeriesHasher, otlp};

/// Batches that may wait for their owner, per ordered pair of shards.
const MESH_CAPACITY: usize = 64;

/// Reads that may wait, and as many in-process writes and cuts, per shard.
const JOBS_QUEUED: usize = 64;

/// The smallest ring: a series with the largest labels must fit in a third of it, or a checkpoint could not keep up.
pub const RING_BYTES_MIN: u64 = 1 << 20;

/// Clients that may wait for `/metrics` at once.
const RENDERS_QUEUED: usize = 16;

/// Clients of the ingest plane that may wait for statistics of the head at once.
const STATS_QUEUED: usize = 16;

/// How often the watchdog looks whether the shards turn.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Looks after which a shard that has not turned is reported.
const STALLED_LOOKS: u32 = 10;

/// Everything that the ingest plane needs to know.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Made when absent.
    pub data_dir: PathBuf,
    /// Executors; the CPUs that the process may use, if `None`. An existing data directory keeps its own number.
    pub shards: Option<usize>,
    /// Addresses on which each shard listens (remote write, probes, metrics).
    pub listen: Vec<SocketAddr>,
    /// Size of the WAL ring of each shard, in bytes. An existing ring keeps its size.
    pub ring_bytes: u64,
    /// Largest body as sent, in bytes.
    pub body_bytes_max: usize,
    /// Largest body after decompression, in bytes.
    pub decoded_bytes_max: usize,
    /// The most bytes of write requests in memory, all shards together.
    pub inflight_bytes_max: usize,
    /// Open connections of all shards together from which on new ones are closed; `None` is a number per shard.
    pub connections_max: Option<usize>,
    /// How long a request's head, and then its body, may take to arrive.
    pub receive_timeout: Duration,
    /// Memory that the heads of all shards may take together, in bytes, before writes are refused with 503. What they
    /// take is estimated from what they hold.
    pub head_bytes_max: u64,
    /// Which samples are taken, and how blocks are cut.
    pub windows: TimeWindows,
    /// How many exemplars are kept, and of how many families of metrics the metadata.
    pub extras: ExtraLimits,
    /// Space that is kept free on the disk of the data directory, in bytes: with less, writes are refused with 503.
    pub free_bytes_min: u64,
    /// Header that names the tenant (`THANOS-TENANT`).
    pub tenant_header: String,
    /// The tenant of requests without that header (`default-tenant`).
    pub default_tenant: String,
    /// What metrics of OpenTelemetry become.
    pub otlp: otlp::Settings,
    /// What is done to requests before they are stored.
    pub rules: IngestRules,
}

/// Open connections for each shard, unless their number is configured.
const CONNECTIONS_PER_SHARD: usize = 10_000;

/// What is done to requests before they are stored. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct IngestRules {
    /// Limits of tenants, until others are put in effect ([`Node::limits`]).
    pub limits: LimitsConfig,
    /// Memory of the process above which writes are refused, in bytes; 0 is no limit. Whoever runs the node tells what
    /// the process uses ([`Node::limits`]).
    pub memory_bytes_max: u64,
    /// Tenants that this node may know before requests for others are refused; 0 is no limit.
    pub tenants_max: usize,
    /// Relabelling rules, until others are put in effect ([`Node::relabel`]).
    pub relabel: Arc<Rules>,
    /// The label that names the tenant of a series, and is not stored.
    pub tenant_label: Option<Arc<str>>,
}

/// Why the ingest plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// io_uring cannot be used.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or an executor cannot be started.
    #[error("cannot start {what}: {reason}")]
    Thread {
        /// Which one.
        what: String,
        /// What the system said.
        reason: String,
    },
}

/// The running ingest plane.
pub struct Node {
    executors: Vec<Executor>,
    control: Vec<flume::Sender<Control>>,
    handle: ShardHandle,
    addresses: Vec<SocketAddr>,
    metrics: Metrics,
    limits: Arc<NodeLimits>,
    rules: Arc<NodeRules>,
    failure: Arc<Mutex<Option<String>>>,
    watchdog: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    _data_dir: DataDir,
}

impl Node {
    /// Opens the data directory, starts the shards, listens. Returns while the WAL is still replayed:
    /// [`ShardHandle::readiness`] tells when it is done.
    pub fn start(config: NodeConfig, registry: Registry) -> Result<Node, StartError> {
        check_config(&config)?;
        let cpus = allowed_cpus();
        let wanted = config.shards.unwrap_or(cpus.len()).clamp(1, SHARDS_MAX);
        preflight(wanted)?;
        let data_dir = DataDir::open(&config.data_dir, wanted)?;
        let count = data_dir.shards;
        if count != wanted && config.shards.is_some() {
            tracing::warn!(
                wanted,
                count,
                "the data directory was made for another number of shards, which stays; use a new directory to change it"
            );
        }
        if count > wanted {
            preflight(count)?;
        }
        check_direct_io(data_dir.path())?;

        let mut addresses = Vec::new();
        let mut sockets: Vec<Vec<OwnedFd>> = (0..count).map(|_| Vec::new()).collect();
        for address in &config.listen {
            let (bound, made) = bind_all(*address, count)
                .map_err(|source| StartError::Listen { address: *address, source })?;
            addresses.push(bound);
            for (shard, socket) in made.into_iter().enumerate() {
                sockets[shard].push(socket);
            }
        }

        let metrics = Metrics::register(&registry);
        metrics.set_queue_capacity(MESH_CAPACITY);
        let state = SharedState::new(count);
        let rules = config.rules.clone();
        let limits_metrics = LimitsMetrics::register(&registry);
        let node_limits =
            NodeLimits::new(rules.limits.clone(), rules.memory_bytes_max, limits_metrics, count);
        node_limits.set_tenants_max(rules.tenants_max);
        let node_rules = NodeRules::new(Arc::clone(&rules.relabel), RelabelMetrics::register(&registry));
        let render = start_renderer(registry)?;
        let failure: Arc<Mutex<Option<String>>> = Arc::default();
        let disk_is_low = Arc::new(AtomicBool::new(false));
        let budget = HeadBudget {
            bytes_max: config.head_bytes_max,
            used_bytes: Arc::default(),
            disk_is_low: Arc::clone(&disk_is_low),
        };
        let limits = EdgeLimits {
            body_bytes_max: config.body_bytes_max,
            decoded_bytes_max: config.decoded_bytes_max,
            connections_max: config.connections_max.unwrap_or(CONNECTIONS_PER_SHARD * count),
            receive_timeout: config.receive_timeout,
            tenant_header: config.tenant_header.clone(),
            default_tenant: config.default_tenant.clone(),
            otlp: config.otlp.clone(),
        };
        let (mut executors, mut control, mut queues) = (Vec::new(), Vec::new(), Vec::new());
        let (stats, stats_requests) = flume::bounded(STATS_QUEUED);
        let ends = mesh::<WriteBatch>(count, MESH_CAPACITY);
        let ends = ends.into_iter().zip(sockets).zip(seats(count));
        for (shard, (((outbox, inbox), sockets), seat)) in ends.enumerate() {
            let (queries, queries_of_shard) = flume::bounded(JOBS_QUEUED);
            let (upkeep, upkeep_of_shard) = flume::bounded(JOBS_QUEUED);
            let (control_in, control_out) = flume::bounded(4);
            let seed = ShardSeed {
                index: shard,
                count,
                directory: data_dir.shard_path(shard),
                ring_bytes: config.ring_bytes,
                windows: config.windows,
                extras: config.extras.within(config.head_bytes_max).of_shard(count),
                hasher: SeriesHasher::new(data_dir.secret),
                metrics: metrics.clone(),
                state: state.clone(),
                budget: budget.clone(),
                limits: limits.clone(),
                rules: rules.clone(),
                node_limits: Arc::clone(&node_limits),
                node_rules: Arc::clone(&node_rules),
                inflight_bytes_max: (config.inflight_bytes_max / count).max(1),
                outbox,
                inbox,
                sockets,
                seat,
                queries: queries_of_shard,
                upkeep: upkeep_of_shard,
                control: control_out,
                render: render.clone(),
                stats: stats.clone(),
                failure: Arc::clone(&failure),
            };
            let name = format!("shard-{shard}");
            let executor = spawn_shard(&name, cpus[shard % cpus.len()], move || run_shard(seed))
                .map_err(|reason| StartError::Thread { what: name, reason })?;
            executors.push(executor);
            control.push(control_in);
            queues.push(JobQueues { queries, upkeep });
        }
        let handle = ShardHandle::new(queues, state.clone());
        start_stats(handle.clone(), stats_requests)?;
        let disk = DiskWatch {
            path: data_dir.path().to_owned(),
            free_bytes_min: config.free_bytes_min,
            is_low: disk_is_low,
            free_bytes: metrics.disk_free_bytes.clone(),
        };
        let tenants = TenantWatch { limits: Arc::clone(&node_limits), metrics: metrics.clone() };
        let watchdog = start_watchdog(&metrics, state, count, disk, tenants)?;
        Ok(Node {
            executors,
            control,
            handle,
            addresses,
            metrics,
            limits: node_limits,
            rules: node_rules,
            failure,
            watchdog: Some(watchdog),
            _data_dir: data_dir,
        })
    }

    /// Reads and writes of other threads.
    pub fn handle(&self) -> ShardHandle {
        self.handle.clone()
    }

    /// The addresses listened on, in the order of [`NodeConfig::listen`], with real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The families that the query plane counts its requests in too.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Limits, to be changed, and to be told what memory the process uses.
    pub fn limits(&self) -> &Arc<NodeLimits> {
        &self.limits
    }

    /// Relabelling rules, to be changed.
    pub fn relabel(&self) -> &Arc<NodeRules> {
        &self.rules
    }

    /// Why a shard could not start, if one could not. A node with such a shard never becomes ready.
    pub fn failed(&self) -> Option<String> {
        self.failure.lock().ok().and_then(|failure| failure.clone())
    }

    /// Stops accepting, finishes the requests in progress (waiting at most `limit` for them), makes a last
    /// checkpoint, and joins the shards. Blocks.
    ///
    /// # Errors
    /// When a shard could not end in order; what was acknowledged is in its WAL all the same.
    pub fn stop(mut self, limit: Duration) -> Result<(), String> {
        // All shards finish their requests before any stops: each owns series of the others' requests.
        self.all(|reply| Control::Drain { limit, reply });
        let mut problems: Vec<String> =
            self.all(|reply| Control::Close { reply }).into_iter().filter_map(Result::err).collect();
        self.control.clear();
        if let Some((stop, thread)) = self.watchdog.take() {
            stop.store(true, Ordering::Relaxed);
            thread.thread().unpark();
            if thread.join().is_err() {
                problems.push("the watchdog panicked".to_owned());
            }
        }
        for executor in self.executors.drain(..) {
            problems.extend(executor.join().err());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Sends one command to all shards at once and waits for all answers.
    fn all(&self, make: impl Fn(flume::Sender<Result<(), String>>) -> Control) -> Vec<Result<(), String>> {
        let answers: Vec<_> = self
            .control
            .iter()
            .map(|control| {
                let (reply, answer) = flume::bounded(1);
                control.send(make(reply)).map(|()| answer)
            })
            .collect();
        let gone = || Err("a shard ended before it was told to".to_owned());
        answers
            .into_iter()
            .map(|sent| match sent {
                Ok(answer) => answer.recv().unwrap_or_else(|_| gone()),
                Err(_) => gone(),
            })
            .collect()
    }
}

fn check_config(config: &NodeConfig) -> Result<(), StartError> {
    let wrong = |text: String| Err(StartError::Config(text));
    if config.ring_bytes < RING_BYTES_MIN || !config.ring_bytes.is_multiple_of(BLOCK_BYTES as u64) {
        return wrong(format!(
            "a WAL ring of {} bytes is impossible: it takes a multiple of 4096, at least {RING_BYTES_MIN}",
            config.ring_bytes
        ));
    }
    // Positions in a body are 32-bit numbers, and labels gathered at its end may double it.
    if config.decoded_bytes_max > 1 << 30 {
        return wrong(format!("bodies of {} bytes are impossible: at most 1 GiB", config.decoded_bytes_max));
    }
    if config.shards == Some(0) || config.shards.is_some_and(|shards| shards > SHARDS_MAX) {
        return wrong(format!("the number of shards must be between 1 and {SHARDS_MAX}"));
    }
    let TimeWindows { block_ms, out_of_order_ms, future_ms } = config.windows;
    if !(1_000..=TimeWindows::BLOCK_MS_MAX).contains(&block_ms) {
        return wrong(format!("blocks of {block_ms} ms are impossible: one second to 31 days"));
    }
    if out_of_order_ms < 0 || future_ms < 0 {
        return wrong("a window of time cannot be negative".to_owned());
    }
    if !crate::edge::is_tenant_name(&config.default_tenant) {
        return wrong(format!("{:?} is not a tenant name", config.default_tenant));
    }
    if http::HeaderName::from_bytes(config.tenant_header.as_bytes()).is_err() {
        return wrong(format!("{:?} is not the name of an HTTP header", config.tenant_header));
    }
    Ok(())
}

fn start_renderer(registry: Registry) -> Result<flume::Sender<RenderJob>, StartError> {
    let (sender, receiver) = flume::bounded(RENDERS_QUEUED);
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || render_thread(registry, receiver))
        .map_err(|error| StartError::Thread {
        what: "the metrics thread".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(sender)
}

fn start_stats(handle: ShardHandle, requests: flume::Receiver<StatsRequest>) -> Result<(), StartError> {
    let thread = std::thread::Builder::new().name("head stats".to_owned());
    let started = thread.spawn(move || stats_thread(handle, requests));
    started.map(drop).map_err(|error| StartError::Thread {
        what: "the thread of head statistics".to_owned(),
        reason: error.to_string(),
    })
}

/// Notices a disk that is nearly full, before a write fails.
struct DiskWatch {
    path: PathBuf,
    free_bytes_min: u64,
    is_low: Arc<AtomicBool>,
    free_bytes: IntGauge,
}

impl DiskWatch {
    fn look(&self) {
        let Ok(stat) = rustix::fs::statvfs(&self.path) else { return };
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        self.free_bytes.set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
        let is_low = free_bytes < self.free_bytes_min;
        if is_low == self.is_low.swap(is_low, Ordering::Relaxed) {
            return;
        }
        if is_low {
            tracing::error!(
                free_bytes,
                free_bytes_min = self.free_bytes_min,
                "the disk is nearly full: writes are refused with 503 until there is space again"
            );
        } else {
            tracing::info!(free_bytes, "the disk has space again: writes are taken");
        }
    }
}

/// Forgets tenants that use nothing, on a thread that has no requests to answer.
struct TenantWatch {
    limits: Arc<NodeLimits>,
    metrics: Metrics,
}

impl TenantWatch {
    fn look(&self) {
        self.limits.forget_unused();
        self.metrics.forget_unused_tenants();
    }
}

/// Notices a shard whose executor does not turn: blocked in a system call, or in a loop.
fn start_watchdog(
    metrics: &Metrics,
    state: SharedState,
    count: usize,
    disk: DiskWatch,
    tenants: TenantWatch,
) -> Result<(Arc<AtomicBool>, JoinHandle<()>), StartError> {
    let turns: Vec<_> = (0..count).map(|shard| metrics.shard(shard).turns).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let watch = move || {
        let mut seen: Vec<(u64, u32)> = vec![(0, 0); count];
        while !stopped.load(Ordering::Relaxed) {
            disk.look();
            tenants.look();
            std::thread::park_timeout(WATCH_INTERVAL);
            for (shard, (last, stalled)) in seen.iter_mut().enumerate() {
                let turned = turns[shard].get();
                *stalled = if turned == *last { *stalled + 1 } else { 0 };
                *last = turned;
                if *stalled == STALLED_LOOKS && state.get(shard) != ShardState::Failed {
                    tracing::error!(shard, "this shard has not turned for {STALLED_LOOKS} seconds");
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
    let thread = thread
        .map_err(|error| StartError::Thread { what: "the watchdog".to_owned(), reason: error.to_string() })?;
    Ok((stop, thread))
}

#[cfg(test)]
mod tests;
