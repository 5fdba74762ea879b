//! How many queries run at once, and how many may wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind};
use super::metrics::ApiMetrics;

/// Queries past this number are refused at once rather than queued.
const WAITING_MAX: usize = 1_000;

/// Lets in at most so many queries at once.
pub struct Gate {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// One request that is worked on. Whoever works on it holds a clone, so that work which nobody waits for any more still
/// takes its place.
#[derive(Clone)]
pub struct Pass(#[expect(dead_code, reason = "it is held, not looked at")] Arc<Inside>);

struct Inside {
    _permit: OwnedSemaphorePermit,
    /// Where it is counted, if it is a query.
    in_flight: Option<IntGauge>,
}

impl Gate {
    /// A gate for `concurrent_max` queries.
    pub fn new(concurrent_max: usize, metrics: &ApiMetrics) -> Gate {
        metrics.gate_max.set(concurrent_max as i64);
        metrics.engine_queries_max.set(concurrent_max as i64);
        Gate { slots: Arc::new(Semaphore::new(concurrent_max)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a turn until `deadline`; for queries, which are the only ones that Thanos' metrics count.
    pub async fn enter_query(&self, deadline: Instant, metrics: &ApiMetrics) -> Result<Pass, ApiError> {
        let started = Instant::now();
        let permit = self.permit(deadline).await?;
        metrics.gate_seconds.observe(started.elapsed().as_secs_f64());
        metrics.gate_passed.inc();
        metrics.gate_in_flight.inc();
        Ok(Pass::new(permit, Some(metrics.gate_in_flight.clone())))
    }

    /// The same for all other requests.
    pub async fn enter(&self, deadline: Instant) -> Result<Pass, ApiError> {
        Ok(Pass::new(self.permit(deadline).await?, None))
    }

    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, ApiError> {
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => self.wait(deadline).await,
        }
    }

    async fn wait(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, ApiError> {
        let _place = Place::take(&self.waiting).ok_or_else(|| {
            ApiError::new(
                ErrorKind::Unavailable,
                format!("{WAITING_MAX} queries wait for their turn, as many as are allowed"),
            )
        })?;
        match timeout_at(deadline.into(), Arc::clone(&self.slots).acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(ApiError::new(ErrorKind::Timeout, "query timed out in query queue")),
        }
    }
}

impl Pass {
    fn new(permit: OwnedSemaphorePermit, in_flight: Option<IntGauge>) -> Pass {
        Pass(Arc::new(Inside { _permit: permit, in_flight }))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(in_flight) = &self.in_flight {
            in_flight.dec();
        }
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
        let pass = gate.enter_query(soon(), &metrics).await.unwrap();
        assert_eq!((metrics.gate_max.get(), metrics.gate_in_flight.get()), (1, 1));
        let error = gate.enter_query(soon(), &metrics).await.err().unwrap();
        assert_eq!((error.kind, error.text.as_str()), (ErrorKind::Timeout, "query timed out in query queue"));
        let works_on = pass.clone();
        drop(pass);
        assert!(gate.enter(soon()).await.is_err(), "its place is taken until the work is done");
        drop(works_on);
        assert_eq!(metrics.gate_in_flight.get(), 0);
        let other = gate.enter(soon()).await.unwrap();
        assert_eq!((metrics.gate_in_flight.get(), metrics.gate_passed.get()), (0, 1), "it is no query");
        assert!(gate.enter_query(soon(), &metrics).await.is_err());
        drop(other);
        assert!(gate.enter_query(soon(), &metrics).await.is_ok());
        gate.waiting.store(WAITING_MAX, Ordering::Relaxed);
        let _running = gate.enter_query(soon(), &metrics).await.unwrap();
        assert_eq!(gate.enter_query(soon(), &metrics).await.err().unwrap().kind, ErrorKind::Unavailable);
    }
}
