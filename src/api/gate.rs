//! How many queries run at once, and how many may wait for their turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use prometheus::IntGauge;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind};
use super::metrics::ApiMetrics;

/// Queries past this number are refused at once rather than queued.
const WAITING_MAX: usize = 1_000;

/// Lets in at most so many queries at once.
pub struct Gate {
    slots: Semaphore,
    waiting: AtomicUsize,
}

/// One query that runs; dropped when it ends.
pub struct Pass<'a> {
    _permit: SemaphorePermit<'a>,
    in_flight: IntGauge,
}

impl Gate {
    /// A gate for `concurrent_max` queries.
    pub fn new(concurrent_max: usize, metrics: &ApiMetrics) -> Gate {
        metrics.gate_max.set(concurrent_max as i64);
        metrics.engine_queries_max.set(concurrent_max as i64);
        Gate { slots: Semaphore::new(concurrent_max), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a turn until `deadline`.
    pub async fn enter(&self, deadline: Instant, metrics: &ApiMetrics) -> Result<Pass<'_>, ApiError> {
        let started = Instant::now();
        let permit = match self.slots.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait(deadline).await?,
        };
        metrics.gate_seconds.observe(started.elapsed().as_secs_f64());
        metrics.gate_passed.inc();
        metrics.gate_in_flight.inc();
        Ok(Pass { _permit: permit, in_flight: metrics.gate_in_flight.clone() })
    }

    async fn wait(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, ApiError> {
        let _place = Place::take(&self.waiting).ok_or_else(|| {
            ApiError::new(
                ErrorKind::Unavailable,
                format!("{WAITING_MAX} queries wait for their turn, as many as are allowed"),
            )
        })?;
        match timeout_at(deadline.into(), self.slots.acquire()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(ApiError::new(ErrorKind::Timeout, "query timed out in query queue")),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

/// A place in the queue; given back also when the client goes away while it waits.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Place<'a>> {
        let place = Place(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_shards::metrics::Metrics;
    use prometheus::Registry;

    use super::*;

    #[tokio::test]
    async fn a_query_waits_for_its_turn_until_its_deadline() {
        let registry = Registry::new();
        let metrics = ApiMetrics::register(&registry, Metrics::register(&registry));
        let gate = Gate::new(1, &metrics);
        let soon = || Instant::now() + Duration::from_millis(20);
        let pass = gate.enter(soon(), &metrics).await.unwrap();
        assert_eq!((metrics.gate_max.get(), metrics.gate_in_flight.get()), (1, 1));
        let error = gate.enter(soon(), &metrics).await.err().unwrap();
        assert_eq!((error.kind, error.text.as_str()), (ErrorKind::Timeout, "query timed out in query queue"));
        drop(pass);
        assert_eq!(metrics.gate_in_flight.get(), 0);
        assert!(gate.enter(soon(), &metrics).await.is_ok());
        gate.waiting.store(WAITING_MAX, Ordering::Relaxed);
        let _running = gate.enter(soon(), &metrics).await.unwrap();
        assert_eq!(gate.enter(soon(), &metrics).await.err().unwrap().kind, ErrorKind::Unavailable);
    }
}
