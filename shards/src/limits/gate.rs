//! The write gate: how many requests of all shards are worked on at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::metrics::LimitsMetrics;

/// More requests than this do not wait: each holds a connection and a task.
const WAITING_MAX: usize = 10_000;

/// Why a request does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// Too many wait already.
    #[error("{WAITING_MAX} write requests wait for their turn (max_concurrency)")]
    TooManyWait,
    /// Its turn did not come in time.
    #[error("the request waited too long for its turn (max_concurrency)")]
    Timeout,
}

/// Tickets that go round: a channel of them is a semaphore that may be awaited on any executor.
pub struct Gate {
    give: flume::Sender<()>,
    take: flume::Receiver<()>,
    waiting: AtomicUsize,
    concurrency_max: usize,
    metrics: LimitsMetrics,
}

/// The right to be worked on, until it is dropped.
pub struct GateTicket {
    gate: Arc<Gate>,
}

impl Gate {
    /// A gate through which so many may go at once.
    pub fn new(concurrency_max: usize, metrics: LimitsMetrics) -> Arc<Gate> {
        let (give, take) = flume::bounded(concurrency_max);
        for _ in 0..concurrency_max {
            give.try_send(()).expect("the channel has room for all tickets");
        }
        metrics.gate_max.set(concurrency_max as i64);
        Arc::new(Gate { give, take, waiting: AtomicUsize::new(0), concurrency_max, metrics })
    }

    /// How many may go through at once.
    pub fn concurrency_max(&self) -> usize {
        self.concurrency_max
    }

    /// Waits for a ticket. The caller sets the time limit.
    pub async fn enter(self: &Arc<Gate>) -> Result<GateTicket, GateError> {
        self.metrics.gate_total.inc();
        if self.take.try_recv().is_err() {
            let _waiting = Waiting::new(&self.waiting).ok_or(GateError::TooManyWait)?;
            // The gate itself holds a sender, so that the channel is never closed.
            let _ = self.take.recv_async().await;
        }
        self.metrics.gate_in_flight.inc();
        Ok(GateTicket { gate: Arc::clone(self) })
    }
}

impl Drop for GateTicket {
    fn drop(&mut self) {
        self.gate.metrics.gate_in_flight.dec();
        // There are never more tickets than the channel has room for.
        let _ = self.gate.give.try_send(());
    }
}

/// Counts a request that waits, until it is dropped: also when its sender goes away.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Option<Waiting<'_>> {
        let waiting = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_comes_late_waits_for_a_ticket() {
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let gate = Gate::new(2, metrics.clone());
        let first = gate.enter().now_or_never().unwrap().unwrap();
        let _second = gate.enter().now_or_never().unwrap().unwrap();
        let mut third = Box::pin(gate.enter());
        assert!(third.as_mut().now_or_never().is_none());
        let mut gone = Box::pin(gate.enter());
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 1);
        drop(first);
        let third = third.now_or_never().unwrap().unwrap();
        assert!(gate.enter().now_or_never().is_none());
        assert_eq!((metrics.gate_in_flight.get(), metrics.gate_total.get()), (2, 5));
        drop(third);
        assert!(gate.enter().now_or_never().is_some());
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn threads_share_the_tickets() {
        let gate = Gate::new(3, LimitsMetrics::register(&prometheus::Registry::new()));
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let ticket = futures::executor::block_on(gate.enter()).unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(ticket);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
    }
}
