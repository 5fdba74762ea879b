//! A decoded write request on the shard that accepted it: to the owners of its series, and back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures::StreamExt;
use futures::channel::oneshot;

use super::batch::{Part, WriteBatch, split_limited};
use super::extras::{Canonicalizer, Splitter};
use super::outcome::{Failure, Outcome, Reason, Refusal};
use super::shard::Shard;
use crate::edge::WriteError;
use crate::limits::{ShardLimits, TenantLimits};
use crate::mesh::Outbox;
use crate::relabel::{Rewriter, Rewritten, TenantRows, Walk};
use crate::rt::{Pacer, spawn_critical};
use crate::wire::{
    Decoder, Extras, LabelError, Row, Skimmed, TenantHasher, canonical_label_bytes, parse_labels,
};

/// Bodies whose memory is kept for the next request, per shard.
const SPARE_BODIES_MAX: usize = 16;

/// Larger bodies are given back to the allocator.
const SPARE_BODY_BYTES_MAX: usize = 4 << 20;

/// Bytes of a body that are skimmed between two looks at the clock: some 200 µs.
const UNIT_BODY_BYTES: usize = 512 << 10;

/// Memory of a row, which exists twice while rows are sorted by their owners.
const ROW_BYTES: usize = 2 * size_of::<Row>();

/// Rows that are handed to their owners between two looks at the clock: some 100 µs.
const UNIT_ROWS: usize = 8 << 10;

/// Tenants of one request that are written for at once: a queue between shards has room for more batches than that.
const TENANTS_AT_ONCE: usize = 16;

/// Accounts for the memory of a request until it is dropped.
pub trait Held: 'static {
    /// Counts more bytes.
    ///
    /// # Errors
    /// When there is no room for them.
    fn grow(&mut self, bytes: usize) -> Result<(), WriteError>;
}

/// Requests of this process itself are few and small.
impl Held for () {
    fn grow(&mut self, _: usize) -> Result<(), WriteError> {
        Ok(())
    }
}

/// What is to live as long as the memory, such as a ticket of the write gate.
impl<H: Held, T: 'static> Held for (H, T) {
    fn grow(&mut self, bytes: usize) -> Result<(), WriteError> {
        self.0.grow(bytes)
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Whoever measured: the limits of requests and the relabelling rules are for it.
    Sender,
    /// A node of the hashring, which has applied both before it passed the request on.
    Peer,
}

/// A request whose series have the keys of their canonical labels.
pub struct Keyed {
    /// What rows and extras point into.
    pub body: Vec<u8>,
    /// One per float sample.
    pub rows: Vec<Row>,
    /// Everything else.
    pub extras: Extras,
    /// Counts of all of it.
    pub skimmed: Skimmed,
}

/// Hands rows to their owners.
pub struct Dispatcher {
    shard: Rc<Shard>,
    outbox: RefCell<Outbox<WriteBatch>>,
    spare_bodies: RefCell<Vec<Vec<u8>>>,
    /// The tenant of the last request: most senders are of one tenant, and its hasher costs a hash to make.
    last_tenant: RefCell<Option<(Arc<str>, TenantHasher)>>,
    limits: ShardLimits,
    /// Where rules or a label change what is written.
    rewriter: Option<RefCell<Rewriter>>,
}

impl Dispatcher {
    /// The dispatcher of one shard.
    pub fn new(
        shard: Rc<Shard>,
        outbox: Outbox<WriteBatch>,
        limits: ShardLimits,
        rewriter: Option<Rewriter>,
    ) -> Dispatcher {
        Dispatcher {
            limits,
            rewriter: rewriter.map(RefCell::new),
            shard,
            outbox: RefCell::new(outbox),
            spare_bodies: RefCell::default(),
            last_tenant: RefCell::default(),
        }
    }

    /// The limits of tenants, as this shard sees them.
    pub fn limits(&self) -> &ShardLimits {
        &self.limits
    }

    /// Whether the tenant of a request is that of its series: otherwise a label of each names it.
    pub fn writes_for_sender(&self) -> bool {
        self.rewriter.as_ref().is_none_or(|rewriter| !rewriter.borrow().splits_tenants())
    }

    /// The hasher of a tenant's series.
    pub fn hasher(&self, tenant: &str) -> TenantHasher {
        self.tenant(tenant).1
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

    /// Writes a decompressed request of the decoder's form. Returns when what was taken is durable.
    ///
    /// A sender that hangs up does not end the work, whose memory is in use until the shards are done; `held`, which
    /// accounts for it, is dropped with it.
    ///
    /// # Errors
    /// When the body is not such a request, or takes more memory than there is; nothing of it was taken.
    pub async fn write(
        self: &Rc<Self>,
        tenant: &str,
        origin: Origin,
        mut body: Vec<u8>,
        mut decoder: Decoder,
        mut held: impl Held,
    ) -> Result<(Skimmed, Outcome), WriteError> {
        let (tenant, hasher) = self.tenant(tenant);
        let mut pacer = Pacer::default();
        let mut rows = Vec::with_capacity(body.len() / decoder.bytes_per_row());
        let mut held_bytes = rows.capacity() * ROW_BYTES;
        held.grow(held_bytes)?;
        loop {
            let is_done = decoder.run(&body, &hasher, &mut rows, UNIT_BODY_BYTES)?;
            let bytes = rows.capacity() * ROW_BYTES + decoder.memory_bytes();
            // What takes memory only grows until the end.
            held.grow(bytes - held_bytes)?;
            held_bytes = bytes;
            if is_done {
                break;
            }
            pacer.pace().await;
        }
        let (skimmed, mut extras) = decoder.finish(&mut body);
        if !extras.is_empty() {
            let (mut walk, bytes_before) = (Canonicalizer::default(), body.len());
            while !walk.run(&mut rows, &mut extras, &mut body, &hasher) {
                pacer.pace().await;
            }
            held.grow(body.len() - bytes_before + walk.memory_bytes())?;
        }
        let keyed = Keyed { body, rows, extras, skimmed };
        match origin {
            Origin::Sender => self.deliver(tenant, hasher, keyed, held, pacer).await,
            Origin::Peer => Ok(self.deliver_as_is(tenant, hasher, keyed, held).await),
        }
    }

    /// Writes a request whose series have their keys, by [`Dispatcher::hasher`]. Otherwise as `write`.
    pub async fn write_keyed(
        self: &Rc<Self>,
        tenant: &str,
        keyed: Keyed,
        held: impl Held,
    ) -> Result<(Skimmed, Outcome), WriteError> {
        let (tenant, hasher) = self.tenant(tenant);
        self.deliver(tenant, hasher, keyed, held, Pacer::default()).await
    }

    async fn deliver(
        self: &Rc<Self>,
        tenant: Arc<str>,
        hasher: TenantHasher,
        keyed: Keyed,
        mut held: impl Held,
        mut pacer: Pacer,
    ) -> Result<(Skimmed, Outcome), WriteError> {
        let Keyed { mut body, rows, extras, mut skimmed } = keyed;
        let limits = self.limits.tenant(&tenant);
        limits.check_counts(skimmed.series_count, skimmed.sample_count)?;
        let rows = TenantRows { tenant, hasher, rows, extras };
        let rewritten = self.rewrite(rows, &mut body, &mut held, &mut pacer).await?;
        let taken = skimmed.sample_count + skimmed.histogram_count + skimmed.exemplar_count;
        limits.take_samples(taken, || self.limits.now())?;
        let give_back = move |outcome: &Outcome| limits.give_back_samples(outcome.failed.min(taken));
        let outcome = self.finish(rewritten, body, &mut skimmed, (held, give_back)).await;
        Ok((skimmed, outcome))
    }

    async fn deliver_as_is(
        self: &Rc<Self>,
        tenant: Arc<str>,
        hasher: TenantHasher,
        keyed: Keyed,
        held: impl Held,
    ) -> (Skimmed, Outcome) {
        let Keyed { body, rows, extras, mut skimmed } = keyed;
        let rewritten = Rewritten::same(TenantRows { tenant, hasher, rows, extras });
        let outcome = self.finish(rewritten, body, &mut skimmed, (held, |_: &Outcome| {})).await;
        (skimmed, outcome)
    }

    /// Writes the rows in a task of its own, so that a sender that hangs up ends nothing; then what is held goes.
    async fn finish(
        self: &Rc<Self>,
        rewritten: Rewritten,
        body: Vec<u8>,
        skimmed: &mut Skimmed,
        (held, done): (impl Held, impl FnOnce(&Outcome) + 'static),
    ) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let dispatcher = Rc::clone(self);
        spawn_critical("write", async move {
            let outcome = dispatcher.write_rows(rewritten, body).await;
            done(&outcome);
            drop(held);
            // An error in sending means that the sender of the request has gone.
            let _ = reply.send(outcome);
        });
        let mut outcome = outcome.await.unwrap_or_else(|_| Outcome::failed(Failure::Stopping));
        if let Some(error) = skimmed.first_refusal.take() {
            let refused =
                Outcome::refused(Reason::InvalidLabels, skimmed.refused_count, Refusal::Labels(error));
            self.shard.metrics.refused[Reason::InvalidLabels as usize].inc_by(skimmed.refused_count);
            outcome.merge(&refused);
        }
        outcome
    }

    /// Relabels the rows and parts them by tenant, if the node does that; what labels grow by is counted.
    async fn rewrite(
        &self,
        rows: TenantRows,
        body: &mut Vec<u8>,
        held: &mut impl Held,
        pacer: &mut Pacer,
    ) -> Result<Rewritten, WriteError> {
        let rewriter = self.rewriter.as_ref().filter(|rewriter| rewriter.borrow_mut().begin());
        let Some(rewriter) = rewriter else { return Ok(Rewritten::same(rows)) };
        let mut walk = Walk::new(rows, body.len());
        loop {
            let bytes_before = body.len();
            let is_done = rewriter.borrow_mut().run(&mut walk, body)?;
            held.grow(body.len() - bytes_before)?;
            if is_done {
                return Ok(walk.finish());
            }
            pacer.pace().await;
        }
    }

    async fn write_rows(&self, rewritten: Rewritten, body: Vec<u8>) -> Outcome {
        let mut outcome = self.refuse_left_out(&rewritten);
        let pending = rewritten.parts.iter().map(|part| part.rows.len() as i64).sum();
        self.shard.metrics.samples_pending.add(pending);
        let body = Arc::new(body);
        let parts = rewritten.parts.into_iter().map(|part| self.write_part(part, &body));
        let mut parts = futures::stream::iter(parts).buffer_unordered(TENANTS_AT_ONCE);
        while let Some(part) = parts.next().await {
            outcome.merge(&part);
        }
        drop(parts);
        self.shard.metrics.samples_pending.sub(pending);
        if let Ok(body) = Arc::try_unwrap(body) {
            self.keep(body);
        }
        outcome
    }

    /// What relabelling gave to nobody, though no rule says so.
    fn refuse_left_out(&self, rewritten: &Rewritten) -> Outcome {
        let mut outcome = Outcome::default();
        let mut refuse = |reason: Reason, count: u64, refusal: Refusal| {
            self.shard.metrics.refused[reason as usize].inc_by(count);
            outcome.merge(&Outcome::refused(reason, count, refusal));
        };
        if rewritten.too_long > 0 {
            refuse(Reason::InvalidLabels, rewritten.too_long, Refusal::Labels(LabelError::TooLarge));
        }
        if let Some((count, tenant)) = &rewritten.bad_tenant {
            refuse(Reason::Tenant, *count, Refusal::Tenant { tenant: Arc::clone(tenant) });
        }
        outcome
    }

    /// The rows of one tenant.
    async fn write_part(&self, part: TenantRows, body: &Arc<Vec<u8>>) -> Outcome {
        let TenantRows { tenant, hasher, rows, extras } = part;
        let limits = self.limits.tenant(&tenant);
        let was_stored = limits.is_stored();
        let to = Writer { tenant: &tenant, limits: &limits, hasher: &hasher };
        let mut outcome = self.send(&to, Arc::clone(body), rows, extras).await;
        if !outcome.rekey.is_empty() {
            let rows = std::mem::take(&mut outcome.rekey);
            let again = self.send_canonical(&to, body, &rows).await;
            outcome.merge(&again);
        }
        if outcome.refused[Reason::SeriesLimit as usize] > 0 {
            limits.count_series_limited();
        }
        if outcome.refused[Reason::TenantLimit as usize] > 0 {
            limits.count_refused();
        }
        if !was_stored {
            // If something of it is stored from here on, it stays at hand.
            self.limits.tenant(&tenant);
        }
        outcome
    }

    /// One batch to each owner; waits for all of them.
    async fn send(&self, to: &Writer<'_>, body: Arc<Vec<u8>>, rows: Vec<Row>, extras: Extras) -> Outcome {
        if rows.is_empty() && extras.is_empty() {
            return Outcome::default();
        }
        let (count, mut pacer) = (self.shard.count, Pacer::default());
        let mut parts: Vec<Vec<Row>> = Vec::with_capacity(count);
        if count == 1 {
            parts.push(rows);
        } else {
            parts.resize_with(count, || Vec::with_capacity(rows.len() / count + rows.len() / 8 + 8));
            for rows in rows.chunks(UNIT_ROWS) {
                for row in rows {
                    parts[row.key.owner(count)].push(*row);
                }
                pacer.pace().await;
            }
            drop(rows);
        }
        let mut extra_parts = Vec::new();
        if !extras.is_empty() {
            let mut split = Splitter::new(extras, count);
            while !split.run(&body, to.hasher) {
                pacer.pace().await;
            }
            extra_parts = split.finish();
        }
        extra_parts.resize_with(count, Extras::default);
        let extra_parts = extra_parts.into_iter().map(|part| (!part.is_empty()).then(|| Box::new(part)));
        let parts = parts.into_iter().zip(extra_parts);
        let (owners, parts): (Vec<usize>, Vec<Part>) =
            parts.enumerate().filter(|(_, (rows, extras))| !rows.is_empty() || extras.is_some()).unzip();
        let limits = Some(Arc::clone(to.limits));
        let (gather, batches) = split_limited(Arc::clone(to.tenant), limits, body, parts);
        let mut own = None;
        for (owner, batch) in owners.into_iter().zip(batches) {
            if owner == self.shard.index {
                own = Some(batch);
            } else if let Err(batch) = self.outbox.borrow_mut().try_send(owner, batch) {
                let failed = batch.item_count() as u64;
                self.shard.metrics.forward_error.inc();
                batch.finish(Outcome { failed, ..Outcome::failed(Failure::QueueFull) });
            }
        }
        if let Some(batch) = own {
            self.shard.write(batch).await;
        }
        gather.wait().await
    }

    /// Rows whose labels came in another encoding than the canonical one, again under their canonical keys.
    async fn send_canonical(&self, to: &Writer<'_>, body: &[u8], rows: &[Row]) -> Outcome {
        let (mut canonical, mut pacer) = (Canonical::default(), Pacer::default());
        for row in rows {
            canonical.add(to.hasher, body, row);
            pacer.pace().await;
        }
        self.send(to, Arc::new(canonical.body), canonical.rows, Extras::default()).await
    }

    /// Tells the metrics how full the queues to the other shards are.
    pub fn report_queues(&self, metrics: &crate::metrics::Metrics) {
        let outbox = self.outbox.borrow();
        for to in (0..self.shard.count).filter(|to| *to != self.shard.index) {
            metrics.queue_depth(self.shard.index, to).set(outbox.queued(to) as i64);
        }
    }
}

/// For whom rows are written.
struct Writer<'a> {
    tenant: &'a Arc<str>,
    limits: &'a Arc<TenantLimits>,
    hasher: &'a TenantHasher,
}

/// Rows under the keys of their canonical labels.
#[derive(Default)]
struct Canonical {
    body: Vec<u8>,
    rows: Vec<Row>,
    /// Where the labels of the row before were, and that row. A series may have many rows, and its labels are taken
    /// over once: the body stays smaller than the request.
    last: Option<(u32, Row)>,
}

impl Canonical {
    fn add(&mut self, hasher: &TenantHasher, body: &[u8], row: &Row) {
        let canonical = match self.last {
            Some((label_offset, canonical)) if label_offset == row.label_offset => canonical,
            _ => {
                let label_bytes = &body[row.label_offset as usize..][..row.label_len as usize];
                // The owner parsed them without an error before it gave them back.
                let Ok(labels) = parse_labels(label_bytes) else { return };
                let label_bytes = canonical_label_bytes(&labels);
                let key = hasher.key(&label_bytes);
                let (label_offset, label_len) = (self.body.len() as u32, label_bytes.len() as u32);
                self.body.extend_from_slice(&label_bytes);
                let canonical = Row { key, label_offset, label_len, ..*row };
                self.last = Some((row.label_offset, canonical));
                canonical
            }
        };
        self.rows.push(Row { timestamp_ms: row.timestamp_ms, value: row.value, ..canonical });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::shard::HeadBudget;
    use crate::core::shard::ShardPlace;
    use crate::core::state::SharedState;
    use crate::head::TimeWindows;
    use crate::limits::{LimitsConfig, LimitsMetrics, NodeLimits};
    use crate::metrics::Metrics;
    use crate::rt::Native;
    use crate::rt::{allowed_cpus, preflight, sleep, spawn, spawn_shard, timeout};
    use crate::wire::{Form, SeriesHasher};

    #[test]
    fn labels_in_another_encoding_are_taken_over_once_per_series() {
        let hasher = SeriesHasher::new([1; 16]).tenant("t");
        let labels = canonical_label_bytes(&[("__name__", "up")]);
        // An unknown field in each label makes the encoding another one.
        let mut body = [&labels[..], &[0x18, 1]].concat();
        body[1] += 2;
        let len = body.len() as u32;
        body.extend_from_within(..);
        let mut canonical = Canonical::default();
        for number in 0..2000u32 {
            let label_offset = number / 1000 * len;
            let (key, timestamp_ms) = (hasher.key(&body[..len as usize]), i64::from(number));
            let row = Row { key, label_offset, label_len: len, timestamp_ms, value: 0.5 };
            canonical.add(&hasher, &body, &row);
        }
        assert_eq!(canonical.body, labels.repeat(2));
        for (row, timestamp_ms) in canonical.rows.iter().zip(0..2000) {
            assert_eq!((row.key, row.timestamp_ms, row.value), (hasher.key(&labels), timestamp_ms, 0.5));
            assert_eq!(canonical.body[row.label_offset as usize..][..row.label_len as usize], labels);
        }
        assert_eq!(canonical.rows.len(), 2000);
    }

    struct Counted(#[expect(dead_code, reason = "its drop is what counts")] Rc<()>);

    impl Held for Counted {
        fn grow(&mut self, _: usize) -> Result<(), WriteError> {
            Ok(())
        }
    }

    /// That of a shard which recovers: it takes nothing.
    fn dispatcher(limits: LimitsConfig) -> Rc<Dispatcher> {
        let metrics = Metrics::register(&prometheus::Registry::new());
        let budget =
            HeadBudget { bytes_max: 1 << 20, used_bytes: Arc::default(), disk_is_low: Arc::default() };
        let hasher = SeriesHasher::new([1; 16]);
        let shard = Rc::new(Shard::new(
            Native,
            ShardPlace { index: 0, count: 1 },
            hasher,
            metrics.shard(0),
            SharedState::new(1),
            budget,
            TimeWindows::default(),
        ));
        let (outbox, _) = crate::mesh::mesh(1, 1).remove(0);
        let limits_metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let limits = ShardLimits::new(NodeLimits::new(limits, 0, limits_metrics, 1), 0);
        Rc::new(Dispatcher::new(shard, outbox, limits, None))
    }

    /// A request of one sample.
    fn body() -> Vec<u8> {
        let mut body = vec![0x0a, 0];
        body.extend(canonical_label_bytes(&[("__name__", "up")]));
        body.extend([0x12, 0]);
        body[1] = body.len() as u8 - 2;
        body
    }

    #[test]
    fn samples_that_failed_do_not_count_towards_the_rate() {
        if let Err(error) = preflight(1) {
            eprintln!("left out: {error}");
            return;
        }
        let run = || async {
            let limits = "write: {default: {annulus: {samples_per_second: 1, samples_burst: 1}}}";
            let dispatcher = dispatcher(LimitsConfig::parse(limits).unwrap());
            let shard = Rc::clone(&dispatcher.shard);
            spawn("commit", async move { shard.commit_loop().await });
            for _ in 0..5 {
                let decoder = Decoder::new(Form::RemoteWrite1, 100);
                let (_, outcome) = dispatcher.write("t", Origin::Sender, body(), decoder, ()).await.unwrap();
                assert_eq!((outcome.failed, outcome.failure), (1, Some(Failure::Recovering)));
            }
        };
        spawn_shard("test", allowed_cpus()[0], run).unwrap().join().unwrap();
    }

    #[test]
    fn a_request_whose_sender_has_gone_is_counted_until_it_is_done() {
        if let Err(error) = preflight(1) {
            eprintln!("left out: {error}");
            return;
        }
        let run = || async {
            let dispatcher = dispatcher(LimitsConfig::default());
            let shard = Rc::clone(&dispatcher.shard);
            let pending = shard.metrics.samples_pending.clone();
            let body = body();
            let held = Rc::new(());
            let decoder = Decoder::new(Form::RemoteWrite1, body.len());
            let write = dispatcher.write("t", Origin::Sender, body, decoder, Counted(Rc::clone(&held)));
            // Nothing commits yet, so the request waits until its sender loses patience.
            assert!(timeout(Duration::from_millis(20), write).await.is_none());
            assert_eq!((pending.get(), Rc::strong_count(&held)), (1, 2));
            spawn("commit", async move { shard.commit_loop().await });
            sleep(Duration::from_millis(200)).await;
            assert_eq!((pending.get(), Rc::strong_count(&held)), (0, 1));
        };
        spawn_shard("test", allowed_cpus()[0], run).unwrap().join().unwrap();
    }
}
