//! Executors, tasks and time of the ingest plane.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::nudge::Watch;
use futures::FutureExt;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

/// The reactor runs when a shard idles or this fires; glommio's default of 100 ms makes I/O of a busy shard crawl.
const PREEMPT_TIMER: Duration = Duration::from_millis(1);

/// Submission slots of each of the executor's rings.
const RING_DEPTH: usize = 128;

/// Memory registered with the rings, charged three times to RLIMIT_MEMLOCK. Larger buffers come from the
/// allocator, unregistered, which costs 15 % CPU per operation and is slower by a few microseconds.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// The shortest sleep that makes glommio poll its reactor; a sleep of zero returns at once.
const REACTOR_YIELD: Duration = Duration::from_micros(5);

/// A running executor; join it to learn how it ended.
pub struct Executor(JoinHandle<()>);

impl Executor {
    /// Waits for the executor's main future. An error is a panic of its thread.
    pub fn join(self) -> Result<(), String> {
        let name = self.0.thread().name().unwrap_or("executor").to_owned();
        self.0.join().map_err(|_| format!("{name} panicked"))
    }
}

/// The CPUs that this process may use; in a container not necessarily 0..n.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Starts one executor on a thread of its own, pinned to `cpu`; several may share one. Returns when it runs, or why
/// it cannot.
pub fn spawn_shard<G, F>(name: &str, cpu: usize, make: G) -> Result<Executor, String>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let (started, start) = flume::bounded(1);
    let run = move || {
        // Watched from before the first turn: a loaded machine can make that turn end before any task has run, and
        // the executor then sleeps with nothing to wake it.
        let watch = Watch::new();
        match new_executor(cpu) {
            Ok(executor) => {
                // An error in sending means that the starter has gone.
                let _ = started.send(Ok(()));
                executor.run(async move {
                    glommio::spawn_local(watch.beat()).detach();
                    make().await;
                });
            }
            Err(error) => {
                let _ = started.send(Err(error.to_string()));
            }
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    let thread = thread.map_err(|error| error.to_string())?;
    start.recv().unwrap_or_else(|_| Err("its thread panicked".to_owned()))?;
    Ok(Executor(thread))
}

/// An executor for the calling thread. Rings of executors that have ended are uncharged from RLIMIT_MEMLOCK
/// asynchronously by the kernel, so one retry.
fn new_executor(cpu: usize) -> Result<LocalExecutor, GlommioError<()>> {
    let make = || {
        LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT_TIMER)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
            .make()
    };
    make().or_else(|_| make())
}

/// Runs a task on this executor. A panic inside is caught, logged and ends this task only.
pub fn spawn(what: &'static str, future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(async move {
        if AssertUnwindSafe(future).catch_unwind().await.is_err() {
            tracing::error!(what, "a task panicked; this is a bug, and the rest of the shard goes on");
        }
    })
    .detach();
}

/// Runs a task that the shard cannot live without. A panic inside ends the process: a shard whose state may be
/// half-updated must not acknowledge anything, and the WAL has all that was.
pub fn spawn_critical(what: &'static str, future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(async move {
        if AssertUnwindSafe(future).catch_unwind().await.is_err() {
            tracing::error!(what, "a task that the shard depends on panicked; this is a bug. Aborting");
            std::process::abort();
        }
    })
    .detach();
}

/// Runs work that may wait for the disk on the executor's helper thread. A panic in it is an error: glommio's helper
/// thread would not survive it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    let caught = move || std::panic::catch_unwind(AssertUnwindSafe(work));
    let done = glommio::executor().spawn_blocking(caught).await;
    done.map_err(|_| std::io::Error::other("the work panicked; this is a bug"))
}

/// Sleeps; zero is raised to the shortest real sleep, because glommio returns from a sleep of zero at once.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration.max(REACTOR_YIELD)).await;
}

/// Lets the reactor run: I/O, timers and other tasks. To be called after each 300-500 µs of work.
pub async fn yield_to_reactor() {
    glommio::timer::sleep(REACTOR_YIELD).await;
}

/// Waits for a future for at most `limit`; `None` says that the time was up.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future.fuse());
    let mut timer = std::pin::pin!(glommio::timer::sleep(limit).fuse());
    futures::select_biased! {
        value = future => Some(value),
        () = timer => None,
    }
}

/// A clock that only goes forward, for durations.
#[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn monotonic_now() -> Instant {
    Instant::now()
}

/// The wall clock in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn unix_now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Long work that lets the reactor run every now and then; one per task.
pub struct Pacer {
    turn_began: Instant,
}

/// The longest work between two looks at the reactor. Each look costs some 40 µs, so not much shorter.
const TURN: Duration = Duration::from_micros(400);

impl Default for Pacer {
    fn default() -> Pacer {
        Pacer { turn_began: monotonic_now() }
    }
}

impl Pacer {
    /// To be called between units of work of some 100 µs; lets the reactor run when the turn was long enough.
    pub async fn pace(&mut self) {
        if monotonic_now() - self.turn_began > TURN {
            yield_to_reactor().await;
            self.turn_began = monotonic_now();
        }
    }

    /// The task has waited for something: its turn begins again.
    pub fn restart(&mut self) {
        self.turn_began = monotonic_now();
    }
}
