//! One read: the bytes that it may hold, whether anybody still waits for it, and how it wants to see the blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annulus_shards::core::ReadBudget;

use crate::source::{SourceError, View};

/// Shared by all threads that work for one read.
#[derive(Debug)]
pub(super) struct Scope {
    budget: ReadBudget,
    stopped: AtomicBool,
    view: View,
}

impl Scope {
    /// A read that may hold so many bytes.
    pub(super) fn new(bytes_max: u64, view: View) -> Scope {
        Scope::within(ReadBudget::new(bytes_max), view)
    }

    /// A read that shares what it may hold with others.
    pub(super) fn within(budget: ReadBudget, view: View) -> Scope {
        Scope { budget, stopped: AtomicBool::new(false), view }
    }

    /// How the read wants to see the blocks.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Goes on without what cannot be read, if the read may be partial.
    pub(super) fn do_without(&self, error: SourceError) -> Result<(), SourceError> {
        let Some(warnings) = &self.view.partial else { return Err(error) };
        warnings.add(error.to_string());
        Ok(())
    }

    /// Asks for room, before the bytes are there. A read that was refused once is over.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), SourceError> {
        Ok(self.budget.charge(bytes)?)
    }

    /// Gives room back.
    pub(super) fn release(&self, bytes: u64) {
        self.budget.release(bytes);
    }

    /// Whether anybody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    /// An error once nobody waits any more.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        if !self.is_waited_for() {
            return Err(SourceError::Unavailable("the read was canceled".to_owned()));
        }
        Ok(())
    }
}

/// Stops the read of a query that was dropped.
pub(super) struct StopOnDrop(pub(super) Arc<Scope>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_can_be_used_again() {
        let scope = Scope::new(10, View::default());
        scope.charge(8).unwrap();
        scope.release(6);
        scope.charge(8).unwrap();
        assert!(matches!(scope.charge(1), Err(SourceError::TooLarge { bytes_max: 10 })));
    }

    #[test]
    fn a_read_that_nobody_waits_for_is_told_so() {
        let scope = Arc::new(Scope::new(10, View::default()));
        drop(StopOnDrop(Arc::clone(&scope)));
        assert!(scope.check().is_err());
    }
}
