//! Threads for computation that has no bound which a shard could live with.
//!
//! Owns:     a few threads for the whole process, started when there is work for the first time.
//! Touches:  nothing else.
//! Runs on:  those threads; they give way to the shards as the threads of queries do.
//! Promises: what waits is taken in the order in which it came; a panic ends that work only.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use futures::channel::oneshot;

use super::executor::allowed_cpus;

/// Work that waits for a thread; whoever brings more waits.
const WAITING_MAX: usize = 64;

/// The kernel's weight is 335, that of a shard 1024.
const NICE: i32 = 5;

type Work = Box<dyn FnOnce() + Send>;

static WAITING: OnceLock<Option<flume::Sender<Work>>> = OnceLock::new();

/// How much work waits for a thread.
pub fn aside_waiting() -> usize {
    WAITING.get().and_then(Option::as_ref).map_or(0, flume::Sender::len)
}

/// Computes on one of the threads.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let gone = || io::Error::other("there is no thread for the work, or it panicked");
    let waiting = WAITING.get_or_init(start).as_ref().ok_or_else(gone)?;
    let (done, result) = oneshot::channel();
    let work = Box::new(move || {
        // Nobody may be waiting any more.
        let _ = done.send(work());
    });
    waiting.send_async(work).await.map_err(|_| gone())?;
    result.await.map_err(|_| gone())
}

/// Starts as many threads as there are processors; some suffice.
fn start() -> Option<flume::Sender<Work>> {
    let (sender, waiting) = flume::bounded::<Work>(WAITING_MAX);
    let threads = 0..processors().map_or_else(|| allowed_cpus().len(), |set| set.count() as usize);
    let started = threads.map(|number| {
        let waiting = waiting.clone();
        let run = move || {
            leave_the_shards();
            for work in waiting {
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("work aside of a shard panicked; this is a bug, and its read fails");
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("aside-{number}")).spawn(run);
        thread.inspect_err(|error| tracing::error!(%error, "a thread for reads did not start")).is_ok()
    });
    (started.filter(|is_started| *is_started).count() > 0).then_some(sender)
}

/// The processors of the process: those of its first thread, which no shard runs on.
fn processors() -> Option<rustix::thread::CpuSet> {
    rustix::thread::sched_getaffinity(Some(rustix::process::getpid())).ok()
}

/// A thread begins where the one runs that starts it, which is a shard's. What the kernel refuses costs time only.
fn leave_the_shards() {
    if let Some(processors) = processors() {
        let _ = rustix::thread::sched_setaffinity(None, &processors);
    }
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[test]
    fn work_is_done_aside_and_a_panic_ends_it_alone() {
        let own = std::thread::current().id();
        assert_ne!(block_on(aside(|| std::thread::current().id())).unwrap(), own);
        for _ in 0..2 * processors().unwrap().count() {
            assert!(block_on(aside(|| panic!("a test"))).is_err());
        }
        assert_eq!(block_on(aside(|| 7)).unwrap(), 7);
    }

    #[test]
    fn more_work_than_may_wait_is_done_in_the_end() {
        let all = (0..4 * WAITING_MAX).map(|number| aside(move || number));
        let done = block_on(futures::future::try_join_all(all)).unwrap();
        assert!(done.into_iter().eq(0..4 * WAITING_MAX));
    }

    #[test]
    fn a_thread_that_a_pinned_one_starts_may_run_anywhere() {
        let mut one = rustix::thread::CpuSet::new();
        one.set(allowed_cpus()[0]);
        let pinned = std::thread::spawn(move || {
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            let inside = std::thread::spawn(|| {
                leave_the_shards();
                allowed_cpus().len()
            });
            inside.join().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), processors().unwrap().count() as usize);
    }
}
