//! The process writes its own metrics into itself, as if a Prometheus had scraped and sent them.
//! Owns:     when that happens, and under which `job` and `instance`.
//! Touches:  the registry, read only, and the shards through their handle.
//! Runs on:  one task of the query plane's runtime.
//! Promises: a write that fails is logged and skipped; the next one comes at its own time.

mod encode;

use std::time::Duration;

use annulus_shards::core::{Readiness, ShardHandle};
use prometheus::Registry;
use tokio::time::{MissedTickBehavior, interval};

pub use encode::{Target, write_request};

use crate::rfc3339::now_ms;

/// Writes all metrics of `registry` every `every`, until the task is dropped.
pub async fn run(handle: ShardHandle, registry: Registry, tenant: String, target: Target, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if handle.readiness() != Readiness::Ready {
            continue;
        }
        let body = write_request(&registry.gather(), &target, now_ms());
        let answer = handle.write(&tenant, body).await;
        if !answer.status.is_success() {
            tracing::warn!(
                status = answer.status.as_u16(),
                reason = answer.text,
                "the process could not write its own metrics"
            );
        }
    }
}
