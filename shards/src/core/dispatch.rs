//! A decoded write request on the shard that accepted it: to the owners of its series, and back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::batch::{WriteBatch, split};
use super::outcome::{Failure, Outcome, Reason, Refusal};
use super::shard::Shard;
use crate::mesh::Outbox;
use crate::rt::{Pacer, spawn_critical};
use crate::wire::{Row, Skimmed, TenantHasher, WireError, canonical_label_bytes, parse_labels, skim};

/// Bodies whose memory is kept for the next request, per shard.
const SPARE_BODIES_MAX: usize = 16;

/// Larger bodies are given back to the allocator.
const SPARE_BODY_BYTES_MAX: usize = 4 << 20;

/// Hands rows to their owners.
pub struct Dispatcher {
    shard: Rc<Shard>,
    outbox: RefCell<Outbox<WriteBatch>>,
    spare_bodies: RefCell<Vec<Vec<u8>>>,
    /// The tenant of the last request: most senders are of one tenant, and its hasher costs a hash to make.
    last_tenant: RefCell<Option<(Arc<str>, TenantHasher)>>,
}

impl Dispatcher {
    /// The dispatcher of one shard.
    pub fn new(shard: Rc<Shard>, outbox: Outbox<WriteBatch>) -> Dispatcher {
        Dispatcher {
            shard,
            outbox: RefCell::new(outbox),
            spare_bodies: RefCell::default(),
            last_tenant: RefCell::default(),
        }
    }

    /// Memory for a decoded body.
    pub fn spare_body(&self) -> Vec<u8> {
        self.spare_bodies.borrow_mut().pop().unwrap_or_default()
    }

    fn keep(&self, body: Vec<u8>) {
        let mut spare = self.spare_bodies.borrow_mut();
        if spare.len() < SPARE_BODIES_MAX && body.capacity() <= SPARE_BODY_BYTES_MAX {
            spare.push(body);
        }
    }

    fn tenant(&self, name: &str) -> (Arc<str>, TenantHasher) {
        let mut last = self.last_tenant.borrow_mut();
        match &*last {
            Some(found) if *found.0 == *name => found.clone(),
            _ => last.insert((Arc::from(name), self.shard.hasher.tenant(name))).clone(),
        }
    }

    /// Writes a decoded prometheus.WriteRequest. Returns when what was taken is durable.
    ///
    /// # Errors
    /// When the body is not such a request; nothing of it was taken.
    pub async fn write(&self, tenant: &str, mut body: Vec<u8>) -> Result<(Skimmed, Outcome), WireError> {
        let (tenant, hasher) = self.tenant(tenant);
        let mut pacer = Pacer::default();
        let mut rows = Vec::with_capacity(body.len() / 256);
        let skimmed = skim(&mut body, &hasher, &mut rows)?;
        pacer.pace().await;
        self.shard.metrics.samples_pending.add(rows.len() as i64);
        let pending = rows.len() as i64;
        let (mut outcome, body) = self.send(Arc::clone(&tenant), body, rows).await;
        if !outcome.rekey.is_empty() {
            let rows = std::mem::take(&mut outcome.rekey);
            let (again, _) = self.send_canonical(tenant, &hasher, &body, &rows).await;
            outcome.merge(&again);
        }
        self.shard.metrics.samples_pending.sub(pending);
        for _ in 0..skimmed.histogram_count {
            outcome.refuse(Reason::Histogram, || Refusal::Histogram);
        }
        if let Ok(body) = Arc::try_unwrap(body) {
            self.keep(body);
        }
        Ok((skimmed, outcome))
    }

    /// One batch to each owner; waits for all of them.
    async fn send(&self, tenant: Arc<str>, body: Vec<u8>, rows: Vec<Row>) -> (Outcome, Arc<Vec<u8>>) {
        let body = Arc::new(body);
        if rows.is_empty() {
            return (Outcome::default(), body);
        }
        let count = self.shard.count;
        let mut parts: Vec<Vec<Row>> = Vec::with_capacity(count);
        if count == 1 {
            parts.push(rows);
        } else {
            parts.resize_with(count, || Vec::with_capacity(rows.len() / count + rows.len() / 8 + 8));
            for row in rows {
                parts[row.key.owner(count)].push(row);
            }
        }
        let (owners, parts): (Vec<usize>, Vec<Vec<Row>>) =
            parts.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).unzip();
        let (gather, batches) = split(tenant, Arc::clone(&body), parts);
        let mut own = None;
        for (owner, batch) in owners.into_iter().zip(batches) {
            if owner == self.shard.index {
                own = Some(batch);
            } else if let Err(batch) = self.outbox.borrow_mut().try_send(owner, batch) {
                let failed = batch.rows.len() as u64;
                batch.finish(Outcome { failed, ..Outcome::failed(Failure::QueueFull) });
            }
        }
        if let Some(batch) = own {
            // A task of its own: a sender that hangs up must not take the batch away half applied.
            let shard = Rc::clone(&self.shard);
            spawn_critical("apply batch", async move { shard.write(batch).await });
        }
        (gather.wait().await, body)
    }

    /// Rows whose labels came in another encoding than the canonical one, again under their canonical keys.
    async fn send_canonical(
        &self,
        tenant: Arc<str>,
        hasher: &TenantHasher,
        body: &[u8],
        rows: &[Row],
    ) -> (Outcome, Arc<Vec<u8>>) {
        let (mut canonical_body, mut canonical_rows) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            let label_bytes = &body[row.label_offset as usize..][..row.label_len as usize];
            // The owner parsed them without an error before it gave them back.
            let Ok(labels) = parse_labels(label_bytes) else { continue };
            let canonical = canonical_label_bytes(&labels);
            canonical_rows.push(Row {
                key: hasher.key(&canonical),
                label_offset: canonical_body.len() as u32,
                label_len: canonical.len() as u32,
                ..*row
            });
            canonical_body.extend_from_slice(&canonical);
        }
        self.send(tenant, canonical_body, canonical_rows).await
    }

    /// Tells the metrics how full the queues to the other shards are.
    pub fn report_queues(&self, metrics: &crate::metrics::Metrics) {
        let outbox = self.outbox.borrow();
        for to in (0..self.shard.count).filter(|to| *to != self.shard.index) {
            metrics.queue_depth(self.shard.index, to).set(outbox.queued(to) as i64);
        }
    }
}
