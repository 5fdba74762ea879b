//! The metrics of requests to other nodes. Those of one peer go when no shard sends to it any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, exponential_buckets,
};

use super::add;
use crate::peer::PeerFailure;

/// Families shared by all shards.
#[derive(Clone)]
pub struct PeerFamilies {
    forward_success: IntCounter,
    forward_error: IntCounter,
    forward_delay: HistogramVec,
    up: IntGaugeVec,
    inflight_bytes: IntGaugeVec,
    inflight_requests: IntGaugeVec,
    backoff_seconds: GaugeVec,
    failures: IntCounterVec,
    /// Of how many shards each peer has handles.
    holders: Arc<Mutex<HashMap<String, usize>>>,
    /// `thanos_receive_replications_total{result="success"}`
    pub replication_success: IntCounter,
    /// `thanos_receive_replications_total{result="error"}`
    pub replication_error: IntCounter,
    /// `thanos_receive_replication_factor`
    pub replication_factor: IntGauge,
}

impl PeerFamilies {
    pub(super) fn register(registry: &Registry, forward_requests: &IntCounterVec) -> PeerFamilies {
        let gauges =
            |name: &str, help: &str| add(registry, IntGaugeVec::new(Opts::new(name, help), &["peer"]));
        let replications = Opts::new(
            "thanos_receive_replications_total",
            "Write requests that were replicated; a success is a quorum for each of its series.",
        );
        let replications = add(registry, IntCounterVec::new(replications, &["result"]));
        let delay = HistogramOpts::new(
            "thanos_receive_forward_delay_seconds",
            "Time from the decision to send a request to a peer until its connection has it.",
        );
        let buckets = exponential_buckets(0.001, 2.0, 16).expect("the buckets grow");
        let backoff = Opts::new(
            "annulus_peer_backoff_seconds",
            "How long the peer is not tried again after its last failure, of all shards together.",
        );
        let failures =
            Opts::new("annulus_peer_failures_total", "Requests that a peer did not take, by reason.");
        PeerFamilies {
            forward_success: forward_requests.with_label_values(&["success"]),
            forward_error: forward_requests.with_label_values(&["error"]),
            forward_delay: add(registry, HistogramVec::new(delay.buckets(buckets), &["worker"])),
            up: gauges(
                "annulus_peer_up",
                "Shards that found the peer there and available when they last tried.",
            ),
            inflight_bytes: gauges(
                "annulus_peer_inflight_bytes",
                "Bytes of messages on their way to the peer, before compression.",
            ),
            inflight_requests: gauges("annulus_peer_inflight_requests", "Requests on their way to the peer."),
            backoff_seconds: add(registry, GaugeVec::new(backoff, &["peer"])),
            failures: add(registry, IntCounterVec::new(failures, &["peer", "reason"])),
            holders: Arc::default(),
            replication_success: replications.with_label_values(&["success"]),
            replication_error: replications.with_label_values(&["error"]),
            replication_factor: add(
                registry,
                IntGauge::new(
                    "thanos_receive_replication_factor",
                    "How many copies of each series there are.",
                ),
            ),
        }
    }

    /// The handles of one shard for one peer.
    pub fn peer(&self, peer: &str) -> PeerMetrics {
        let mut holders = self.lock();
        *holders.entry(peer.to_owned()).or_default() += 1;
        let label = [peer];
        PeerMetrics {
            forward_success: self.forward_success.clone(),
            forward_error: self.forward_error.clone(),
            delay_seconds: self.forward_delay.with_label_values(&label),
            up: self.up.with_label_values(&label),
            inflight_bytes: self.inflight_bytes.with_label_values(&label),
            inflight_requests: self.inflight_requests.with_label_values(&label),
            backoff_seconds: self.backoff_seconds.with_label_values(&label),
            failures: PeerFailure::REASONS.map(|reason| self.failures.with_label_values(&[peer, reason])),
            peer: peer.to_owned(),
            families: self.clone(),
        }
    }

    /// Under the lock, so that a peer that comes back gets label values that stay. Taken at reloads only.
    fn give_up(&self, peer: &str) {
        let mut holders = self.lock();
        let Some(count) = holders.get_mut(peer) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        holders.remove(peer);
        let label = [peer];
        // An error means that there is nothing to remove.
        let _ = self.forward_delay.remove_label_values(&label);
        let _ = self.up.remove_label_values(&label);
        let _ = self.inflight_bytes.remove_label_values(&label);
        let _ = self.inflight_requests.remove_label_values(&label);
        let _ = self.backoff_seconds.remove_label_values(&label);
        for reason in PeerFailure::REASONS {
            let _ = self.failures.remove_label_values(&[peer, reason]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Whoever panicked while holding it left whole values.
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles of one shard for one peer.
#[expect(
    missing_docs,
    reason = "each field is the family of the same name, described where it is registered"
)]
pub struct PeerMetrics {
    pub forward_success: IntCounter,
    pub forward_error: IntCounter,
    pub delay_seconds: Histogram,
    pub up: IntGauge,
    pub inflight_bytes: IntGauge,
    pub inflight_requests: IntGauge,
    pub backoff_seconds: Gauge,
    pub failures: [IntCounter; PeerFailure::REASONS.len()],
    peer: String,
    families: PeerFamilies,
}

impl PeerMetrics {
    /// Counts what became of a request. A conflict is neither a success nor an error: the peer stored what it could.
    pub fn count(&self, result: &Result<(), PeerFailure>) {
        match result {
            Ok(()) => self.forward_success.inc(),
            Err(failure) => {
                self.failures[failure.reason_index()].inc();
                if !matches!(failure, PeerFailure::Conflict { .. }) {
                    self.forward_error.inc();
                }
            }
        }
    }
}

impl Drop for PeerMetrics {
    fn drop(&mut self) {
        self.families.give_up(&self.peer);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn a_peer_is_shown_while_any_shard_sends_to_it() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry);
        let shown = || {
            let families = registry.gather();
            let labels =
                families.iter().flat_map(|family| family.get_metric()).flat_map(|one| one.get_label());
            labels.filter(|label| label.value() == "a:1").count()
        };
        let (one, other) = (metrics.peers().peer("a:1"), metrics.peers().peer("a:1"));
        let all = 5 + PeerFailure::REASONS.len();
        assert_eq!(shown(), all);
        drop(one);
        other.up.inc();
        assert_eq!(shown(), all);
        drop(other);
        assert_eq!(shown(), 0);
        let again = metrics.peers().peer("a:1");
        assert_eq!((shown(), again.up.get()), (all, 0));
    }
}
