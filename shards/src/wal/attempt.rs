//! Writes of which only one may be under way, and what becomes of the log when one of them does not succeed.

use std::cell::Cell;

use crate::rt::WaitList;

/// Lets one writer in at a time.
#[derive(Default)]
pub(super) struct Gate {
    busy: Cell<bool>,
    waiting: WaitList,
}

impl Gate {
    /// Whether a writer is inside.
    pub fn is_busy(&self) -> bool {
        self.busy.get()
    }
}

/// One writer inside its gate. Unless it succeeds, also when its future is dropped, the log is poisoned: the write may
/// still reach the disk, or have reached it in part.
pub(super) struct Attempt<'a> {
    gate: &'a Gate,
    poisoned: &'a Cell<bool>,
    succeeded: bool,
}

impl<'a> Attempt<'a> {
    /// For a writer that never meets another.
    ///
    /// # Panics
    /// When it does.
    pub fn start(gate: &'a Gate, poisoned: &'a Cell<bool>) -> Attempt<'a> {
        assert!(!gate.busy.replace(true), "one task commits, one frame at a time");
        Attempt { gate, poisoned, succeeded: false }
    }

    /// Waits for the writer inside. The log may be poisoned afterwards.
    pub async fn in_turn(gate: &'a Gate, poisoned: &'a Cell<bool>) -> Attempt<'a> {
        gate.waiting.wait_until(|| !gate.busy.get()).await;
        Attempt::start(gate, poisoned)
    }

    /// Ends it well.
    pub fn succeed(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.succeeded {
            self.poisoned.set(true);
        }
        self.gate.busy.set(false);
        self.gate.waiting.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn the_second_writer_waits_and_hears_of_the_first_ones_failure() {
        let (gate, poisoned) = (Gate::default(), Cell::new(false));
        let first = Attempt::in_turn(&gate, &poisoned).now_or_never().expect("nobody is inside");
        let mut second = Box::pin(Attempt::in_turn(&gate, &poisoned));
        assert!(second.as_mut().now_or_never().is_none());
        first.succeed();
        assert!(!poisoned.get());
        let second = second.now_or_never().expect("the first one is out");
        let mut third = Box::pin(Attempt::in_turn(&gate, &poisoned));
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.now_or_never().is_some() && poisoned.get());
    }
}
