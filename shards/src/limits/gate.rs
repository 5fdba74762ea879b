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

/// The width of a gate that lets everybody through.
const OPEN: usize = usize::MAX;

/// Lets so many requests through at once; how many may be changed while some are inside and others wait.
pub struct Gate {
    /// How many may be inside; [`OPEN`] is any number.
    width: AtomicUsize,
    inside: AtomicUsize,
    waiting: AtomicUsize,
    /// Tells those who wait that there may be room: a channel may be awaited on any executor.
    wake: flume::Sender<()>,
    woken: flume::Receiver<()>,
    metrics: LimitsMetrics,
}

/// The right to be worked on, until it is dropped.
pub struct GateTicket {
    gate: Arc<Gate>,
}

impl Gate {
    /// A gate through which so many may go at once; `None` is any number.
    pub fn new(concurrency_max: Option<usize>, metrics: LimitsMetrics) -> Arc<Gate> {
        let (wake, woken) = flume::bounded(WAITING_MAX);
        let (inside, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let gate = Gate { width: AtomicUsize::new(OPEN), inside, waiting, wake, woken, metrics };
        gate.resize(concurrency_max);
        Arc::new(gate)
    }

    /// Changes how many may go through at once. Those inside finish; those who wait go by the new number.
    pub fn resize(&self, concurrency_max: Option<usize>) {
        self.metrics.gate_max.set(concurrency_max.map_or(0, |count| count as i64));
        self.width.store(concurrency_max.unwrap_or(OPEN), Ordering::SeqCst);
        // Whoever is woken in vain waits on.
        for _ in 0..self.waiting.load(Ordering::SeqCst) {
            self.wake_one();
        }
    }

    /// Waits for room inside. The caller sets the time limit.
    pub async fn enter(self: &Arc<Gate>) -> Result<GateTicket, GateError> {
        self.metrics.gate_total.inc();
        if let Some(ticket) = self.try_enter() {
            return Ok(ticket);
        }
        let _waiting = Waiting::new(&self.waiting).ok_or(GateError::TooManyWait)?;
        loop {
            // After it counts as waiting: whoever leaves from here on sees it, and whoever left before has made room.
            if let Some(ticket) = self.try_enter() {
                return Ok(ticket);
            }
            // The gate itself holds a sender, so that the channel is never closed.
            let _ = self.woken.recv_async().await;
        }
    }

    fn try_enter(self: &Arc<Gate>) -> Option<GateTicket> {
        let width = self.width.load(Ordering::SeqCst);
        let enter = |inside| (inside < width).then_some(inside + 1);
        self.inside.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).ok()?;
        self.metrics.gate_in_flight.inc();
        Some(GateTicket { gate: Arc::clone(self) })
    }

    fn wake_one(&self) {
        // A full channel wakes all who wait.
        let _ = self.wake.try_send(());
    }
}

impl Drop for GateTicket {
    fn drop(&mut self) {
        let gate = &self.gate;
        gate.metrics.gate_in_flight.dec();
        let before = gate.inside.fetch_sub(1, Ordering::SeqCst);
        if before <= gate.width.load(Ordering::SeqCst) && gate.waiting.load(Ordering::SeqCst) > 0 {
            gate.wake_one();
        }
    }
}

/// Counts a request that waits, until it is dropped: also when its sender goes away.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Option<Waiting<'_>> {
        let waiting = Waiting(count);
        (count.fetch_add(1, Ordering::SeqCst) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_comes_late_waits_for_a_ticket() {
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let gate = Gate::new(Some(2), metrics.clone());
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
        let gate = Gate::new(Some(3), LimitsMetrics::register(&prometheus::Registry::new()));
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

    #[test]
    fn a_gate_that_becomes_narrower_lets_nobody_in_until_enough_have_left() {
        let gate = Gate::new(Some(3), LimitsMetrics::register(&prometheus::Registry::new()));
        let mut inside: Vec<_> = (0..3).map(|_| gate.enter().now_or_never().unwrap().unwrap()).collect();
        let mut waits = Box::pin(gate.enter());
        assert!(waits.as_mut().now_or_never().is_none());
        gate.resize(Some(1));
        for _ in 0..2 {
            assert!(waits.as_mut().now_or_never().is_none());
            inside.pop();
        }
        assert!(waits.as_mut().now_or_never().is_none(), "one is inside, as many as may be");
        inside.pop();
        assert!(waits.now_or_never().is_some());
    }

    #[test]
    fn those_who_wait_go_by_the_new_width() {
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let gate = Gate::new(Some(1), metrics.clone());
        let _first = gate.enter().now_or_never().unwrap().unwrap();
        let mut waits: Vec<_> = (0..5).map(|_| gate.enter().boxed_local()).collect();
        let mut inside = Vec::new();
        // How many wait on after each of them tried.
        let mut try_all = || {
            waits.retain_mut(|wait| match wait.as_mut().now_or_never() {
                Some(ticket) => {
                    inside.push(ticket.unwrap());
                    false
                }
                None => true,
            });
            waits.len()
        };
        assert_eq!(try_all(), 5);
        gate.resize(Some(3));
        assert_eq!((try_all(), metrics.gate_max.get()), (3, 3));
        gate.resize(None);
        assert_eq!((try_all(), metrics.gate_max.get(), metrics.gate_in_flight.get()), (0, 0, 6));
    }

    #[test]
    fn a_gate_that_is_resized_all_the_time_loses_nobody() {
        let gate = Gate::new(Some(1), LimitsMetrics::register(&prometheus::Registry::new()));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        drop(futures::executor::block_on(gate.enter()).unwrap());
                    }
                });
            }
            for width in (0..2000).map(|number| 1 + number % 4) {
                gate.resize(Some(width));
            }
        });
        let counts = (gate.inside.load(Ordering::SeqCst), gate.waiting.load(Ordering::SeqCst));
        assert_eq!(counts, (0, 0));
    }
}
