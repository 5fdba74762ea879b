//! What a process does: the wiring of its parts, from start to exit code.
//! Owns:     the runtime of the query plane, the order of starting and stopping, signals.
//! Touches:  every part once, to start it and to stop it.
//! Runs on:  the main thread.
//! Promises: a start that fails says why on one line; a stop finishes what was accepted within the grace period.

mod banner;
mod blocks;
mod process_metrics;
mod query_server;
mod rules_watch;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_shards::core::{Node, StartError};
use axum::Router;
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::interval;

use crate::api::{Api, ApiConfig};
use crate::background::{GiveWay, give_way};
use crate::duration::format_duration;
use crate::flags::{BlocksSetup, QuerySetup, Setup};
use crate::head_source::{ExternalLabels, HeadExtras, HeadSource};
use crate::local_blocks::{Joined, LocalBlockMetrics, LocalBlocks, ReaderLimits};
use crate::promql::engine::Engine;
use crate::rfc3339::now_ms;
use crate::{host, logging, self_scrape};
use banner::{Banner, authority};
use blocks::Blocks;
use query_server::QueryListener;
use rules_watch::RulesWatch;

/// Threads that read requests and write answers; evaluation has threads of its own.
const IO_THREADS_MAX: usize = 2;

/// How often the process looks whether a shard failed.
const FAILURE_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// After a failure the healthy shards get this long for a last checkpoint.
const FAILED_STOP_LIMIT: Duration = Duration::from_secs(10);

/// With fewer open files, many connections and blocks at once are a risk.
const OPEN_FILES_WANTED: u64 = 4096;

/// However little of the grace period is left, the shards get this long to finish what they accepted.
const STOP_LIMIT_MIN: Duration = Duration::from_secs(1);

/// Why a process cannot start; one line with the cure.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("{0}")]
    Listen(String),
    #[error(transparent)]
    Ingest(#[from] StartError),
    #[error("{0}")]
    Bucket(String),
    #[error("the file of running queries (--query.active-query-path): {0}")]
    ActiveQueries(io::Error),
    #[error("blocks: {0}")]
    Blocks(io::Error),
    #[error("cannot start threads: {0}")]
    Threads(#[from] io::Error),
}

/// Why a running process ends.
enum End {
    Signal(&'static str),
    Failed(String),
}

/// Starts the process, waits for its end, stops it.
pub fn run(setup: Setup) -> ExitCode {
    logging::start(setup.log);
    for warning in &setup.warnings {
        tracing::warn!("{warning}");
    }
    match start_and_wait(setup) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "annulus: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_and_wait(setup: Setup) -> Result<ExitCode, RunError> {
    let started_ms = now_ms();
    if let Some(files) = host::raise_open_files().filter(|files| *files < OPEN_FILES_WANTED) {
        tracing::warn!(files, wanted = OPEN_FILES_WANTED, "few files may be open at once; raise `ulimit -n`");
    }
    let registry = Registry::new();
    process_metrics::register(&registry, started_ms);
    let bucket = blocks::bucket_config(&setup.blocks).map_err(RunError::Bucket)?;
    // Before the data directory is touched: a port in use must not cost a replay.
    let listener = match &setup.query {
        Some(query) => Some(QueryListener::bind(query.address).map_err(RunError::Listen)?),
        None => None,
    };
    let runtime = io_runtime()?;
    // Before the node starts, so that a signal during its start is not lost.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let node = Node::start(setup.node.clone(), registry.clone())?;
    let rules_watch = RulesWatch::start(&node, setup.rule_files.clone())?;
    let write_address = real_address(&node, &setup, setup.write_address);
    let query_address = listener.as_ref().map(QueryListener::address);
    let host = host::name();
    let banner = Banner { write: write_address, ingest: node.addresses(), query: query_address, host: &host };
    let _ = io::stdout().write_all(banner.text().as_bytes()); // Nobody has to read it.

    start_sorters(setup.query.as_ref());
    let labels = external_labels(&setup);
    let local = open_local_blocks(&setup, labels.clone(), &registry).map_err(RunError::Blocks)?;
    let blocks = Blocks::start(&node, &setup, bucket.as_ref(), &local, &runtime, &registry);
    let blocks = blocks.map_err(RunError::Blocks)?;

    let (stop_queries, queries_stopped) = oneshot::channel::<()>();
    let queries = match (&setup.query, listener) {
        (Some(query), Some(listener)) => {
            let router = query_router(&node, query, &setup, (labels, &local), &registry, started_ms);
            let router = router.map_err(RunError::ActiveQueries)?;
            let stop = async {
                let _ = queries_stopped.await;
            };
            Some(runtime.spawn(listener.serve(router, stop)))
        }
        _ => None,
    };
    let scrape = setup.self_scrape.map(|every| {
        let instance = authority(query_address.unwrap_or(write_address), &host);
        let target = self_scrape::Target { job: "annulus".to_owned(), instance };
        let tenant = setup.node.default_tenant.clone();
        runtime.spawn(self_scrape::run(node.handle(), registry.clone(), tenant, target, every))
    });

    let end = runtime.block_on(wait_for_end(&mut signals, &node));
    let deadline = Instant::now() + setup.grace_period;
    runtime.spawn(exit_at_the_next(signals));
    if let Some(scrape) = scrape {
        scrape.abort();
    }
    let _ = stop_queries.send(()); // Nobody listens in roles without queries.
    let limit = match &end {
        End::Signal(name) => {
            tracing::info!(signal = name, "stopping");
            if let Some(queries) = queries {
                runtime.block_on(finish_queries(queries, deadline));
            }
            deadline.saturating_duration_since(Instant::now()).max(STOP_LIMIT_MIN)
        }
        End::Failed(reason) => {
            tracing::error!(reason, "a shard cannot start; the process ends");
            FAILED_STOP_LIMIT
        }
    };
    blocks.stop(&runtime);
    drop(rules_watch);
    let stopped = node.stop(limit);
    // Queries that outlived the grace period must not hold up the exit.
    runtime.shutdown_background();
    Ok(match (end, stopped) {
        (End::Signal(_), Ok(())) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        (End::Signal(_), Err(reason)) => {
            tracing::error!(reason, "the ingest plane did not stop cleanly");
            ExitCode::FAILURE
        }
        (End::Failed(_), _) => ExitCode::FAILURE,
    })
}

fn io_runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(host::cpus().min(IO_THREADS_MAX))
        .thread_name("query-io")
        .enable_all()
        .build()
}

/// The address that `configured` became; another one only where port 0 asked for any.
fn real_address(node: &Node, setup: &Setup, configured: SocketAddr) -> SocketAddr {
    let index = setup.node.listen.iter().position(|address| *address == configured);
    index.and_then(|index| node.addresses().get(index)).copied().unwrap_or(configured)
}

/// Threads for opening blocks, and for labelling and sorting large answers.
fn start_sorters(query: Option<&QuerySetup>) {
    // Fails only if a pool exists already, which then serves.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(query.map_or(1, |query| query.threads))
        .thread_name(|index| format!("query-sort-{index}"))
        .start_handler(|_| give_way(GiveWay::Query))
        .build_global();
}

fn external_labels(setup: &Setup) -> ExternalLabels {
    let replica_labels = setup.query.as_ref().map(|query| query.replica_labels.clone());
    ExternalLabels::new(
        setup.external_labels.clone(),
        setup.tenant_label.clone(),
        replica_labels.unwrap_or_default(),
    )
}

fn open_local_blocks(
    setup: &Setup,
    labels: ExternalLabels,
    registry: &Registry,
) -> io::Result<Arc<LocalBlocks>> {
    let directory = blocks::blocks_dir(&setup.node.data_dir);
    std::fs::create_dir_all(&directory)?;
    let metrics = LocalBlockMetrics::register(registry);
    LocalBlocks::open(&directory, labels, ReaderLimits::default(), metrics).map(Arc::new)
}

fn query_router(
    node: &Node,
    query: &QuerySetup,
    setup: &Setup,
    (labels, local): (ExternalLabels, &Arc<LocalBlocks>),
    registry: &Registry,
    started_ms: i64,
) -> io::Result<Router> {
    let extras = HeadExtras::new(Arc::new(node.handle()), labels.clone(), query.select_bytes_max);
    let head = HeadSource::new(Arc::new(node.handle()), labels, query.select_bytes_max);
    let source = Joined::new(Arc::new(head), Arc::clone(local), query.select_bytes_max);
    let config = ApiConfig {
        options: query.options.clone(),
        default_step_ms: query.default_step_ms,
        concurrent_max: query.concurrent_max,
        partial_response: query.partial_response,
        read: query.read,
        slow_query: query.slow_query,
        flags: setup.flags.clone(),
        external_labels: setup.external_labels.clone(),
        retention: retention_text(&setup.blocks),
        started_ms,
    };
    let handle = node.handle();
    let readiness = Arc::new(move || handle.readiness());
    let engine = Arc::new(Engine::new(query.threads).with_queries_max(query.concurrent_max));
    let api = Api::new(engine, Arc::new(source), config, registry.clone(), node.metrics().clone(), readiness)
        .with_head(Arc::new(node.handle()))
        .with_extras(Arc::new(extras))
        .with_active_queries(&query.active_query_dir)?;
    Ok(api.router())
}

/// How long blocks stay local, as Prometheus writes it.
fn retention_text(blocks: &BlocksSetup) -> String {
    let time = (blocks.retention_ms > 0).then(|| format_duration(blocks.retention_ms));
    let bytes = (blocks.retention_bytes > 0).then(|| format!("{}B", blocks.retention_bytes));
    [time, bytes].into_iter().flatten().collect::<Vec<_>>().join(" or ")
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn wait_for_end(signals: &mut Signals, node: &Node) -> End {
    let mut looks = interval(FAILURE_LOOK_INTERVAL);
    loop {
        tokio::select! {
            name = signals.next() => return End::Signal(name),
            _ = looks.tick() => {
                if let Some(reason) = node.failed() {
                    return End::Failed(reason);
                }
            }
        }
    }
}

/// Someone who asks twice does not want to wait.
async fn exit_at_the_next(mut signals: Signals) {
    let name = signals.next().await;
    tracing::warn!(signal = name, "a second signal: the process ends at once");
    std::process::exit(1);
}

async fn finish_queries(queries: tokio::task::JoinHandle<io::Result<()>>, deadline: Instant) {
    match tokio::time::timeout_at(deadline.into(), queries).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::error!(%error, "the query server failed"),
        Ok(Err(error)) => tracing::error!(%error, "the query server failed"),
        Err(_) => tracing::warn!("queries that did not end within the grace period are cut off"),
    }
}
