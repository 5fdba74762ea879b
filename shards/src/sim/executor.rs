//! Runs a task step by step, so that a crash can come between any two.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::random::Random;

/// More steps than any history needs: a hang ends as a failure.
const STEPS_MAX: u64 = 200_000;

/// Polls a task until it is done, or `steps` times; `None` says that the crash came first.
///
/// A task that waits is polled again, woken or not: no order of wake-ups is assumed.
pub fn run<T>(mut task: Pin<&mut impl Future<Output = T>>, steps: Option<u64>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..steps.unwrap_or(STEPS_MAX) {
        if let Poll::Ready(value) = task.as_mut().poll(&mut context) {
            return Some(value);
        }
    }
    assert!(steps.is_some(), "the task hangs");
    None
}

/// Runs a task to its end.
pub fn run_to_end<T>(task: impl Future<Output = T>) -> T {
    run(std::pin::pin!(task), None).expect("a run without a crash ends with the task")
}

/// Runs two tasks, one random step of one of them at a time.
pub async fn interleave(random: &Random, first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (mut first_done, mut second_done) = (false, false);
    poll_fn(|context| {
        if !first_done && (second_done || random.one_in(2)) {
            first_done = first.as_mut().poll(context).is_ready();
        } else if !second_done {
            second_done = second.as_mut().poll(context).is_ready();
        }
        if first_done && second_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
