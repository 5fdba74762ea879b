//! The metadata messages of remote write 1.0: beside the samples, on a connection of their own, once in an interval.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::link::Link;
use super::load::Shared;
use super::retry::{Attempt, Next, Retrier};
use crate::ledger::Fate;

/// Sends the same message again and again, the first time when the first interval is over, as Prometheus does.
pub(super) async fn keep_sending(shared: Arc<Shared>, link: Link, message: Bytes, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let is_acknowledged = deliver(&shared, &link, &message).await;
        shared.recorder.metadata(is_acknowledged);
    }
}

async fn deliver(shared: &Shared, link: &Link, message: &Bytes) -> bool {
    let mut retrier = Retrier::new(shared.plan.retry);
    loop {
        let attempt = match link.post(message.clone(), retrier.retries()).await {
            Ok(answer) => {
                if !(200..300).contains(&answer.status) {
                    shared.recorder.error(format!("metadata: answered {}: {}", answer.status, answer.text));
                }
                Attempt::Answered { status: answer.status, retry_after: answer.retry_after }
            }
            Err(trouble) => {
                shared.recorder.error(format!("metadata: {trouble}"));
                Attempt::NoAnswer
            }
        };
        match retrier.next(attempt) {
            Next::Done(fate) => return fate == Fate::Acknowledged,
            Next::Retry(pause) => tokio::time::sleep(pause).await,
        }
    }
}
