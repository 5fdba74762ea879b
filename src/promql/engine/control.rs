//! The limits of one query: its time, its cancellation, and the points that it may hold at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::promql::value::QueryError;

/// Says to the threads that evaluate a query when to stop.
#[derive(Debug)]
pub(super) struct Control {
    deadline: Option<Instant>,
    canceled: AtomicBool,
}

impl Control {
    /// A query that may run for `timeout` from this moment.
    pub(super) fn new(timeout: Duration) -> Control {
        Control { deadline: Instant::now().checked_add(timeout), canceled: AtomicBool::new(false) }
    }

    /// Asks for a stop; the threads see it before the next series.
    pub(super) fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// An error once the query should stop.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        if self.canceled.load(Ordering::Relaxed) {
            return Err(QueryError::Canceled);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }
}

/// Counts the points that a query holds.
///
/// Nodes of a plan run one after the other and only the series within a node in parallel, so whether a query
/// exceeds its budget does not depend on the number of threads: a node adds what its series yield, in any order,
/// and fails when the sum is too large.
#[derive(Debug)]
pub(super) struct Budget {
    points_max: u64,
    held: AtomicU64,
    peak: AtomicU64,
}

impl Budget {
    /// A budget of which nothing is used.
    pub(super) fn new(points_max: u64) -> Budget {
        Budget { points_max, held: AtomicU64::new(0), peak: AtomicU64::new(0) }
    }

    /// Points held.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// The most points that were held, or about to be decoded, at once.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Adds points that stay.
    pub(super) fn add(&self, points: u64) -> Result<(), QueryError> {
        let held = self.held.fetch_add(points, Ordering::Relaxed).saturating_add(points);
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.points_max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// Says what is held when a node has ended and its operands are gone.
    pub(super) fn settle(&self, points: u64) -> Result<(), QueryError> {
        self.held.store(points, Ordering::Relaxed);
        self.peak.fetch_max(points, Ordering::Relaxed);
        if points > self.points_max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// Whether one series of so many samples may be decoded beside what was held when its node began.
    pub(super) fn allow(&self, held_before: u64, samples: u64) -> Result<(), QueryError> {
        let held = held_before.saturating_add(samples);
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.points_max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_stops_when_canceled_or_late() {
        let control = Control::new(Duration::from_secs(60));
        assert!(control.check().is_ok());
        control.cancel();
        assert!(matches!(control.check(), Err(QueryError::Canceled)));
        assert!(matches!(Control::new(Duration::ZERO).check(), Err(QueryError::Timeout)));
    }

    #[test]
    fn what_a_node_released_may_be_used_again() {
        let budget = Budget::new(10);
        budget.add(8).unwrap();
        assert!(budget.allow(budget.held(), 3).is_err());
        budget.settle(2).unwrap();
        budget.add(8).unwrap();
        assert!(budget.add(1).is_err());
    }
}
