//! Wakes executors that sleep through their own events.
//!
//! A glommio executor can go to sleep although it has something to do, and then nothing wakes it: when its preempt
//! timer fires before a turn has run any task (seen at starts on a loaded machine; glommio/glommio#53), and on some
//! kernels when the completion of the poll that links its rings is left unprocessed (DataDog/glommio#547). Any signal
//! frees it: the wait ends with EINTR, which glommio treats as a wake-up. So each executor beats ten times a second,
//! and one that misses three beats gets a signal, which does no harm to one that is only busy.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use rustix::thread::{Pid, gettid};

/// How often an executor beats, and how often it is looked at.
const BEAT: Duration = Duration::from_millis(100);

/// Looks without a beat before the first signal.
const MISSED_BEATS: u32 = 3;

/// A signal that nothing else uses and whose default action is to be ignored.
const SIGNAL: i32 = signal_hook::consts::SIGURG;

static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());
static NUDGES: AtomicU64 = AtomicU64::new(0);

struct Watched {
    thread: Pid,
    beats: Arc<AtomicU64>,
    seen: u64,
    missed: u32,
}

/// Signals sent since the process began.
pub fn nudge_count() -> u64 {
    NUDGES.load(Ordering::Relaxed)
}

/// Watches the calling executor thread until dropped.
pub struct Watch {
    beats: Arc<AtomicU64>,
}

impl Watch {
    /// Begins to watch; the caller then beats.
    pub fn new() -> Watch {
        static NUDGER: Once = Once::new();
        NUDGER.call_once(start_nudger);
        let beats = Arc::new(AtomicU64::new(0));
        let watched = Watched { thread: gettid(), beats: Arc::clone(&beats), seen: 0, missed: 0 };
        with_watched(|all| all.push(watched));
        Watch { beats }
    }

    /// Beats until the executor ends.
    pub fn beat(&self) -> impl Future<Output = ()> + 'static {
        let beats = Arc::clone(&self.beats);
        async move {
            loop {
                beats.fetch_add(1, Ordering::Relaxed);
                glommio::timer::sleep(BEAT).await;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        with_watched(|all| all.retain(|watched| !Arc::ptr_eq(&watched.beats, &self.beats)));
    }
}

/// A panic while the list is held cannot leave it half changed, so a poisoned lock is as good as any.
fn with_watched<T>(work: impl FnOnce(&mut Vec<Watched>) -> T) -> T {
    work(&mut WATCHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn start_nudger() {
    if let Err(error) = signal_hook::flag::register(SIGNAL, Arc::new(AtomicBool::new(false))) {
        tracing::warn!(%error, "no signal handler: an executor that sleeps through its events is not woken");
        return;
    }
    let started = std::thread::Builder::new().name("nudger".to_owned()).spawn(|| {
        loop {
            std::thread::park_timeout(BEAT);
            with_watched(|all| all.iter_mut().for_each(Watched::look));
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no nudger: an executor that sleeps through its events is not woken");
    }
}

impl Watched {
    fn look(&mut self) {
        let beats = self.beats.load(Ordering::Relaxed);
        self.missed = if beats == self.seen { self.missed + 1 } else { 0 };
        self.seen = beats;
        if self.missed >= MISSED_BEATS {
            NUDGES.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                thread = self.thread.as_raw_nonzero().get(),
                "an executor missed its beats; nudged"
            );
            signal_thread(self.thread);
        }
    }
}

#[expect(unsafe_code, reason = "no safe wrapper sends a signal to one thread")]
fn signal_thread(thread: Pid) {
    let (process, thread) = (rustix::process::getpid(), thread.as_raw_nonzero().get());
    // SAFETY: the call takes three numbers and touches no memory. The handler for the signal is installed before
    // any thread is watched, and a thread that has ended meanwhile gives an error, which changes nothing.
    unsafe {
        libc::syscall(libc::SYS_tgkill, process.as_raw_nonzero().get(), thread, SIGNAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_misses_beats_is_signalled_and_one_that_beats_is_not() {
        let mut watched = Watched { thread: gettid(), beats: Arc::default(), seen: u64::MAX, missed: 0 };
        signal_hook::flag::register(SIGNAL, Arc::new(AtomicBool::new(false))).unwrap();
        for _ in 0..10 {
            watched.beats.fetch_add(1, Ordering::Relaxed);
            watched.look();
            assert_eq!(watched.missed, 0);
        }
        let before = nudge_count();
        for _ in 0..MISSED_BEATS {
            watched.look();
        }
        assert!(nudge_count() > before);
    }
}
