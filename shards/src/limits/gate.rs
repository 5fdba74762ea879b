//! The write gate: how many requests of all shards are worked on at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

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

/// Lets so many requests through at once, in the order in which they come; how many may be changed while some are inside and
/// others wait.
pub struct Gate {
    state: Mutex<State>,
    metrics: LimitsMetrics,
}

/// While somebody waits and there is room inside, somebody is in [`Gate::let_in`].
struct State {
    /// How many may be inside; [`OPEN`] is any number.
    width: usize,
    inside: usize,
    /// Those who wait, the longest first; their numbers rise.
    waiting: VecDeque<(u64, oneshot::Sender<GateTicket>)>,
    next_number: u64,
}

/// The right to be worked on, until it is dropped.
pub struct GateTicket {
    gate: Arc<Gate>,
    is_held: bool,
}

/// A place in the queue, given up when it is dropped: also when the sender of a request goes away.
struct Waiting<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Gate {
    /// A gate through which so many may go at once; `None` is any number.
    pub fn new(concurrency_max: Option<usize>, metrics: LimitsMetrics) -> Arc<Gate> {
        let state = State { width: OPEN, inside: 0, waiting: VecDeque::new(), next_number: 0 };
        let gate = Arc::new(Gate { state: Mutex::new(state), metrics });
        gate.resize(concurrency_max);
        gate
    }

    /// Changes how many may go through at once. Those inside finish; those who wait go by the new number.
    pub fn resize(self: &Arc<Gate>, concurrency_max: Option<usize>) {
        self.metrics.gate_max.set(concurrency_max.map_or(0, |count| count as i64));
        self.lock().width = concurrency_max.unwrap_or(OPEN);
        self.let_in();
    }

    /// Waits for room inside, behind those who wait already. The caller sets the time limit.
    pub async fn enter(self: &Arc<Gate>) -> Result<GateTicket, GateError> {
        self.metrics.gate_total.inc();
        let (_waiting, turn) = {
            let mut state = self.lock();
            if state.waiting.is_empty() && state.inside < state.width {
                return Ok(self.ticket(&mut state));
            }
            if state.waiting.len() >= WAITING_MAX {
                return Err(GateError::TooManyWait);
            }
            let number = state.next_number;
            state.next_number += 1;
            let (ticket, turn) = oneshot::channel();
            state.waiting.push_back((number, ticket));
            (Waiting { gate: self, number }, turn)
        };
        // Who leaves the queue but by its own will has its ticket: the channel is not closed before.
        turn.await.map_err(|oneshot::Canceled| GateError::Timeout)
    }

    /// Hands what room there is to those who have waited longest.
    fn let_in(self: &Arc<Gate>) {
        loop {
            let (longest, ticket) = {
                let mut state = self.lock();
                if state.inside >= state.width {
                    return;
                }
                let Some((_, longest)) = state.waiting.pop_front() else { return };
                (longest, self.ticket(&mut state))
            };
            // Without the lock, which a ticket that nobody takes up asks for when it is dropped.
            if let Err(mut ticket) = longest.send(ticket) {
                ticket.is_held = false;
                self.leave();
            }
        }
    }

    fn ticket(self: &Arc<Gate>, state: &mut State) -> GateTicket {
        state.inside += 1;
        self.metrics.gate_in_flight.inc();
        GateTicket { gate: Arc::clone(self), is_held: true }
    }

    fn leave(&self) {
        self.lock().inside -= 1;
        self.metrics.gate_in_flight.dec();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under it panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GateTicket {
    fn drop(&mut self) {
        if self.is_held {
            self.gate.leave();
            self.gate.let_in();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        // Otherwise its turn has come, and a ticket that it did not take up goes to the next one.
        if let Ok(place) = state.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            let gone = state.waiting.remove(place);
            drop(state);
            drop(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use futures::future::LocalBoxFuture;
    use proptest::prelude::*;

    use super::*;

    fn gate(width: usize) -> Arc<Gate> {
        Gate::new(Some(width), LimitsMetrics::register(&prometheus::Registry::new()))
    }

    /// How many are inside, and how many wait.
    fn counts(gate: &Gate) -> (usize, usize) {
        let state = gate.lock();
        (state.inside, state.waiting.len())
    }

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
        assert_eq!(counts(&gate), (2, 1));
        drop(first);
        let third = third.now_or_never().unwrap().unwrap();
        assert!(gate.enter().now_or_never().is_none());
        assert_eq!((metrics.gate_in_flight.get(), metrics.gate_total.get()), (2, 5));
        drop(third);
        assert!(gate.enter().now_or_never().is_some());
        assert_eq!(counts(&gate), (1, 0));
    }

    #[test]
    fn threads_share_the_tickets() {
        let gate = gate(3);
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
        let gate = gate(3);
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
        let gate = gate(1);
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
        assert_eq!(counts(&gate), (0, 0));
    }

    #[test]
    fn who_comes_late_does_not_overtake_who_waits() {
        let gate = gate(1);
        let first = gate.enter().now_or_never().unwrap().unwrap();
        let mut second = Box::pin(gate.enter());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        // The room is that of the second, though it was not polled since.
        let mut third = Box::pin(gate.enter());
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.now_or_never().is_some(), "who does not take it up passes it on");
    }

    #[test]
    fn no_more_than_may_wait_do() {
        let gate = gate(1);
        let _inside = gate.enter().now_or_never().unwrap().unwrap();
        let mut waits: Vec<_> = (0..WAITING_MAX).map(|_| gate.enter().boxed_local()).collect();
        assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        assert_eq!(gate.enter().now_or_never().unwrap().err(), Some(GateError::TooManyWait));
        drop(waits);
        assert_eq!(counts(&gate), (1, 0));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Come,
        Leave(usize),
        GiveUp(usize),
        Resize(Option<usize>),
    }

    fn acts() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => Just(Act::Come),
            2 => any::<usize>().prop_map(Act::Leave),
            1 => any::<usize>().prop_map(Act::GiveUp),
            1 => proptest::option::weighted(0.9, 1usize..4).prop_map(Act::Resize),
        ]
    }

    proptest! {
        #[test]
        fn everybody_gets_in_by_the_order_of_coming(
            acts in proptest::collection::vec(acts(), 1..200),
            polls_at_once: bool,
        ) {
            let gate = gate(2);
            let (mut width, mut next) = (2, 0u32);
            let (mut inside, mut waiting) = (Vec::<u32>::new(), VecDeque::<u32>::new());
            let mut tickets: Vec<(u32, GateTicket)> = Vec::new();
            let mut waits: Vec<(u32, LocalBoxFuture<'_, Result<GateTicket, GateError>>)> = Vec::new();
            let acts = acts.into_iter().chain([Act::Resize(None)]);
            for act in acts {
                match act {
                    Act::Come => {
                        let mut wait = gate.enter().boxed_local();
                        match wait.as_mut().now_or_never() {
                            Some(ticket) => tickets.push((next, ticket.unwrap())),
                            None => waits.push((next, wait)),
                        }
                        waiting.push_back(next);
                        next += 1;
                    }
                    Act::Leave(at) if !tickets.is_empty() => {
                        let (number, ticket) = tickets.remove(at % tickets.len());
                        drop(ticket);
                        inside.retain(|other| *other != number);
                    }
                    Act::GiveUp(at) if !waits.is_empty() => {
                        let (number, wait) = waits.remove(at % waits.len());
                        drop(wait);
                        inside.retain(|other| *other != number);
                        waiting.retain(|other| *other != number);
                    }
                    Act::Resize(to) => {
                        gate.resize(to);
                        width = to.unwrap_or(usize::MAX);
                    }
                    Act::Leave(_) | Act::GiveUp(_) => {}
                }
                while inside.len() < width && let Some(longest) = waiting.pop_front() {
                    inside.push(longest);
                }
                prop_assert_eq!(counts(&gate), (inside.len(), waiting.len()));
                if polls_at_once || width == usize::MAX {
                    let mut still = Vec::new();
                    for (number, mut wait) in waits {
                        match wait.as_mut().now_or_never() {
                            Some(ticket) => tickets.push((number, ticket.unwrap())),
                            None => still.push((number, wait)),
                        }
                    }
                    waits = still;
                    let mut got: Vec<u32> = tickets.iter().map(|(number, _)| *number).collect();
                    got.sort_unstable();
                    inside.sort_unstable();
                    prop_assert_eq!(&got, &inside);
                }
            }
            prop_assert!(waits.is_empty(), "an open gate leaves nobody waiting");
            drop(tickets);
            prop_assert_eq!(counts(&gate), (0, 0));
        }
    }

    #[test]
    fn threads_that_give_up_lose_nobody_else_the_turn() {
        let gate = gate(1);
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let gate = &gate;
                scope.spawn(move || {
                    for number in 0..300 {
                        let mut wait = Box::pin(gate.enter());
                        if (number + thread) % 3 == 0 {
                            // Polled once, perhaps in the queue, and given up.
                            drop(wait.as_mut().now_or_never());
                        } else {
                            drop(futures::executor::block_on(wait).unwrap());
                        }
                    }
                });
            }
        });
        assert_eq!(counts(&gate), (0, 0));
    }
}
