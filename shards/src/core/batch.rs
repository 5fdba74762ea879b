//! One write request on its way through the shards: the part of each owner, and where the parts come together.
//!
//! A request is decoded by the shard that accepted it. Each shard that owns some of its series gets one
//! [`WriteBatch`]: rows, and a shared reference to the decoded body (for the labels of series it has not seen).
//! Its [`Outcome`] goes into a slot of its own; the last one wakes the waiting request. No lock, no queue back.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use futures::task::AtomicWaker;

use super::outcome::{Failure, Outcome};
use crate::limits::{NewSeriesError, TenantLimits};
use crate::wire::{Extras, Row};

/// The rows of one request that one shard owns.
pub struct WriteBatch {
    shared: Arc<Shared>,
    /// Index of this batch's slot among the request's outcomes.
    slot: usize,
    /// In the order of the request.
    pub rows: Vec<Row>,
    /// What there is beside float samples, if anything.
    pub extras: Option<Box<Extras>>,
    finished: bool,
}

/// What one owner gets of a request.
pub type Part = (Vec<Row>, Option<Box<Extras>>);

struct Shared {
    tenant: Arc<str>,
    limits: Option<Arc<TenantLimits>>,
    body: Arc<Vec<u8>>,
    outcomes: Box<[OnceLock<Outcome>]>,
    remaining: AtomicUsize,
    waker: AtomicWaker,
}

/// The waiting side of a request.
pub struct Gather(Arc<Shared>);

/// Splits a request into batches, one per element of `parts` (no element may be empty of meaning: a shard that
/// owns nothing gets no batch).
pub fn split(tenant: Arc<str>, body: Arc<Vec<u8>>, parts: Vec<Part>) -> (Gather, Vec<WriteBatch>) {
    split_limited(tenant, None, body, parts)
}

/// The same for a tenant with limits on new series.
pub fn split_limited(
    tenant: Arc<str>,
    limits: Option<Arc<TenantLimits>>,
    body: Arc<Vec<u8>>,
    parts: Vec<Part>,
) -> (Gather, Vec<WriteBatch>) {
    let shared = Arc::new(Shared {
        tenant,
        limits,
        body,
        outcomes: parts.iter().map(|_| OnceLock::new()).collect(),
        remaining: AtomicUsize::new(parts.len()),
        waker: AtomicWaker::new(),
    });
    let batches = parts
        .into_iter()
        .enumerate()
        .map(|(slot, (rows, extras))| WriteBatch {
            shared: Arc::clone(&shared),
            slot,
            rows,
            extras,
            finished: false,
        })
        .collect();
    (Gather(shared), batches)
}

impl WriteBatch {
    /// The tenant that the request writes for.
    pub fn tenant(&self) -> &str {
        &self.shared.tenant
    }

    /// Decides on a series that a shard does not know.
    pub fn begin_series(&self, labels: &[(&str, &str)], shard: usize) -> Result<(), NewSeriesError> {
        self.shared.limits.as_ref().map_or(Ok(()), |limits| limits.begin_series(labels, shard))
    }

    /// Whether metadata of the tenant may be kept: if it is new, it takes a place among the tenants.
    pub fn may_store(&self) -> bool {
        self.shared.limits.as_ref().is_none_or(|limits| limits.may_store())
    }

    /// Takes back that a series may begin, because the head has no number for it.
    pub fn end_series(&self, shard: usize) {
        if let Some(limits) = &self.shared.limits {
            limits.end_series(shard);
        }
    }

    /// The decoded body that the rows point into.
    pub fn body(&self) -> &[u8] {
        &self.shared.body
    }

    /// How many samples and exemplars it has, of any kind.
    pub fn item_count(&self) -> usize {
        let extras = self.extras.as_ref();
        self.rows.len() + extras.map_or(0, |extras| extras.histograms.len() + extras.exemplars.len())
    }

    /// The label fields of a row's series.
    pub fn label_bytes(&self, row: &Row) -> &[u8] {
        &self.shared.body[row.label_offset as usize..][..row.label_len as usize]
    }

    /// Reports what became of the rows.
    pub fn finish(mut self, outcome: Outcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        self.finished = true;
        let first = self.shared.outcomes[self.slot].set(outcome).is_ok();
        assert!(first, "a batch was finished twice");
        // Release: the outcome is written before the count falls; the waiter reads it after an Acquire load.
        if self.shared.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.waker.wake();
        }
    }
}

impl Drop for WriteBatch {
    /// A batch that is dropped unfinished (a shard that stops) fails its request; it must never hang it.
    fn drop(&mut self) {
        if !self.finished {
            self.report(Outcome::failed(Failure::Stopping));
        }
    }
}

impl Gather {
    /// Waits until each batch is finished, and returns the sum of their outcomes.
    pub async fn wait(self) -> Outcome {
        poll_fn(|context| {
            self.0.waker.register(context.waker());
            if self.0.remaining.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let mut total = Outcome::default();
        for slot in &self.0.outcomes {
            total.merge(slot.get().expect("the count says that each slot is filled"));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn parts(count: usize) -> Vec<Part> {
        (0..count).map(|_| (Vec::new(), None)).collect()
    }

    #[test]
    fn the_request_waits_for_every_batch() {
        let (gather, mut batches) = split("t".into(), Arc::default(), parts(2));
        let mut wait = Box::pin(gather.wait());
        batches.remove(0).finish(Outcome { written: 2, ..Outcome::default() });
        assert!(wait.as_mut().now_or_never().is_none());
        batches.remove(0).finish(Outcome { written: 3, ..Outcome::default() });
        assert_eq!(wait.now_or_never().unwrap().written, 5);
    }

    #[test]
    fn a_dropped_batch_fails_its_request() {
        let (gather, batches) = split("t".into(), Arc::default(), parts(1));
        drop(batches);
        assert_eq!(gather.wait().now_or_never().unwrap().failure, Some(Failure::Stopping));
    }

    #[test]
    fn batches_may_finish_on_other_threads() {
        for _ in 0..200 {
            let (gather, batches) = split("t".into(), Arc::default(), parts(3));
            let threads: Vec<_> = batches
                .into_iter()
                .map(|batch| {
                    std::thread::spawn(|| batch.finish(Outcome { written: 1, ..Outcome::default() }))
                })
                .collect();
            assert_eq!(futures::executor::block_on(gather.wait()).written, 3);
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }
}
