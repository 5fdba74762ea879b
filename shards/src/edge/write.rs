//! One remote write request: from HTTP body to answer.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::Body;
use prometheus::IntGauge;

use super::admission::{Admission, Permit};
use super::content::{Encoding, negotiate};
use super::head_stats::StatsQuery;
use super::status::{Answer, TENANT_BYTES_MAX, WriteError};
use crate::core::{Dispatcher, Held, Origin, StatsScope};
use crate::limits::{GateError, GateTicket, TenantLimits};
use crate::metrics::{CodeMetrics, GrpcMetrics, HttpMetrics};
use crate::rt::{Pacer, monotonic_now, timeout};
use crate::wire::{Decoder, Skimmed, Unsnappy, Unzstd};

/// The header that names the tenant whatever `tenant_header` says, as in Thanos Receive.
const DEFAULT_TENANT_HEADER: &str = "thanos-tenant";

/// How long the rest of a refused body is read.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a sender only announces takes at most so many times the memory of what has come: thousands of slow senders would else
/// ask for the largest body each. An honest body has come for a good part when its second piece is there.
const ANNOUNCED_TIMES_MAX: usize = 32;

/// How often it is looked at whether a body still comes.
const ARRIVAL_INTERVAL: Duration = Duration::from_secs(2);

/// The part of a body that has come, which has to come anew between two looks while memory is short. A body that comes at the
/// same rate all the time brings more for two minutes.
const ARRIVAL_PART: usize = 64;

/// Text of a snappy block between two looks at the clock: some 20 µs of work, an estimated 150 µs if all elements are short.
const UNSNAPPY_UNIT_BYTES: usize = 128 << 10;

/// What a sender may ask of one shard.
#[derive(Debug, Clone)]
pub struct EdgeLimits {
    /// Largest body as sent, in bytes.
    pub body_bytes_max: usize,
    /// Largest body after decompression, in bytes.
    pub decoded_bytes_max: usize,
    /// Open connections of all shards together from which on new ones are closed.
    pub connections_max: usize,
    /// How long the head, and then the body, of a request may take to arrive.
    pub receive_timeout: Duration,
    /// Header that names the tenant.
    pub tenant_header: String,
    /// The tenant of requests without that header.
    pub default_tenant: String,
    /// What metrics of OpenTelemetry become.
    pub otlp: crate::wire::otlp::Settings,
}

/// A body that has arrived, and what its request holds.
pub(super) struct Received {
    /// As it was sent.
    pub(super) sent: Bytes,
    pub(super) tenant_limits: Arc<TenantLimits>,
    pub(super) permit: Permit,
    pub(super) ticket: Option<GateTicket>,
}

/// Answers write requests of one shard's connections.
pub struct WriteHandler {
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) admission: Rc<Admission>,
    pub(super) limits: EdgeLimits,
    metrics: HttpMetrics,
    pub(super) otlp_metrics: HttpMetrics,
    pub(super) grpc_metrics: GrpcMetrics,
}

impl WriteHandler {
    /// The handler of one shard.
    pub fn new(
        dispatcher: Rc<Dispatcher>,
        admission: Rc<Admission>,
        limits: EdgeLimits,
        metrics: HttpMetrics,
    ) -> WriteHandler {
        let otlp_metrics = metrics.for_otlp();
        let grpc_metrics = metrics.grpc().clone();
        WriteHandler { dispatcher, admission, limits, metrics, otlp_metrics, grpc_metrics }
    }

    /// Lets go of what is at hand of tenants that did not send since the call before.
    pub fn age(&self) {
        self.metrics.age();
        self.otlp_metrics.age();
    }

    /// Reads, writes, answers, and counts.
    pub async fn handle<B>(&self, headers: &HeaderMap, body: B) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let began = monotonic_now();
        let mut body = std::pin::pin!(body);
        let tenant = match self.tenant(headers) {
            Ok(tenant) => tenant,
            Err(error) => {
                discard(body).await;
                return Answer::of(&error);
            }
        };
        let metrics = self.metrics.tenant(tenant);
        let inflight = InFlight::new(metrics.inflight.clone());
        let mut body_bytes = 0;
        let result = self.write(tenant, headers, body.as_mut(), &mut body_bytes).await;
        drop(inflight);
        if result.is_err() {
            discard(body).await;
        }
        let (skimmed, answer) = result.unwrap_or_else(|error| (Skimmed::default(), Answer::of(&error)));
        let metrics = self.metrics.code(&metrics, answer.status.as_u16());
        let seconds = (monotonic_now() - began).as_secs_f64();
        metrics.seed_seconds.observe(seconds);
        observe(&metrics, seconds, body_bytes, &skimmed);
        answer
    }

    async fn write<B>(
        &self,
        tenant: &str,
        headers: &HeaderMap,
        body: Pin<&mut B>,
        body_bytes: &mut usize,
    ) -> Result<(Skimmed, Answer), WriteError>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let (form, encoding) = negotiate(headers)?;
        let Received { sent: compressed, tenant_limits, mut permit, ticket } =
            self.receive(tenant, headers, body, body_bytes).await?;
        let decoded = match encoding {
            Encoding::Snappy => {
                let (spare, bytes_max) = (self.dispatcher.spare_body(), self.limits.decoded_bytes_max);
                unsnappy(&compressed, spare, bytes_max, &tenant_limits, &mut permit).await?
            }
            Encoding::Zstd => {
                let (spare, bytes_max) = (self.dispatcher.spare_body(), self.limits.decoded_bytes_max);
                unzstd(&compressed, spare, bytes_max, &tenant_limits, &mut permit).await?
            }
        };
        tenant_limits.check_bytes(decoded.len() as u64)?;
        drop(compressed);
        let decoder = Decoder::new(form, self.limits.decoded_bytes_max);
        // A sender that hangs up does not end the work: the ticket goes with it.
        let held = (permit, ticket);
        let (skimmed, outcome) =
            self.dispatcher.write(tenant, Origin::Sender, decoded, decoder, held).await?;
        Ok((skimmed, Answer::of_outcome(outcome, form)))
    }

    /// Passes the limits on size and admission, reads the body, and passes the gate: who waits there holds a body that
    /// admission has counted, and a sender that does not send holds nobody's turn.
    pub(super) async fn receive<B>(
        &self,
        tenant: &str,
        headers: &HeaderMap,
        body: Pin<&mut B>,
        body_bytes: &mut usize,
    ) -> Result<Received, WriteError>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let limits = self.dispatcher.limits();
        if let Some(announced_bytes) = announced_bytes(headers) {
            limits.check_announced(tenant, announced_bytes as u64)?;
        }
        if self.dispatcher.writes_for_sender() {
            limits.check_room(tenant)?;
        }
        let mut permit = self.admission.enter()?;
        let sent = self.read_in_time(headers, body, &mut permit).await?;
        *body_bytes = sent.len();
        let ticket = self.gate_ticket().await?;
        let tenant_limits = self.dispatcher.limits().tenant(tenant);
        Ok(Received { sent, tenant_limits, permit, ticket })
    }

    /// Waits for the write gate, if there is one.
    async fn gate_ticket(&self) -> Result<Option<GateTicket>, WriteError> {
        let limits = self.dispatcher.limits();
        let Some(gate) = limits.gate() else { return Ok(None) };
        let began = monotonic_now();
        let entered = timeout(self.limits.receive_timeout, gate.enter()).await;
        limits.metrics().gate_seconds.observe((monotonic_now() - began).as_secs_f64());
        Ok(Some(entered.unwrap_or(Err(GateError::Timeout))?))
    }

    /// The whole body, within the time that it may take. While memory is short a body that hardly comes is given up sooner:
    /// a few senders that stop near the end of large bodies would else hold what all others need.
    pub(super) async fn read_in_time<B>(
        &self,
        headers: &HeaderMap,
        body: Pin<&mut B>,
        permit: &mut Permit,
    ) -> Result<Bytes, WriteError>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let (arrived, limit) = (Cell::new(0), self.limits.receive_timeout);
        let (mut left, mut before) = (limit, 0);
        let mut read = std::pin::pin!(self.read(headers, body, permit, &arrived));
        loop {
            let pause = left.min(ARRIVAL_INTERVAL);
            if let Some(body) = timeout(pause, read.as_mut()).await {
                return body;
            }
            left -= pause;
            if left.is_zero() {
                return Err(WriteError::BodyTimeout { limit });
            }
            if self.admission.is_short() && hardly_comes(before, arrived.get()) {
                return Err(WriteError::BodyStalled { inflight_bytes: self.admission.bytes() });
            }
            before = arrived.get();
        }
    }

    /// The whole body. Its bytes are counted as they come.
    async fn read<B>(
        &self,
        headers: &HeaderMap,
        mut body: Pin<&mut B>,
        permit: &mut Permit,
        arrived: &Cell<usize>,
    ) -> Result<Bytes, WriteError>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let bytes_max = self.limits.body_bytes_max;
        let announced = announced_bytes(headers);
        if announced.is_some_and(|bytes| bytes > bytes_max) {
            return Err(WriteError::BodyTooLarge { bytes_max });
        }
        let mut first = Bytes::new();
        let mut joined: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| WriteError::BodyBroken(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            let total = first.len().max(joined.len()) + data.len();
            if total > bytes_max {
                return Err(WriteError::BodyTooLarge { bytes_max });
            }
            permit.grow(data.len())?;
            arrived.set(total);
            // A body that comes in one piece, as most do, is not copied.
            if first.is_empty() && joined.is_empty() {
                first = data;
                continue;
            }
            if joined.is_empty() {
                let announced = announced.unwrap_or(0).min(total.saturating_mul(ANNOUNCED_TIMES_MAX));
                joined.reserve(announced.max(total));
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
        Ok(if joined.is_empty() { first } else { Bytes::from(joined) })
    }

    /// What a request for the statistics of the head is about.
    pub fn stats_query(&self, headers: &HeaderMap, parameters: &str) -> Result<StatsQuery, String> {
        let tenant = self.named_tenant(headers).map_err(|error| error.to_string())?;
        let otherwise = StatsScope::Tenant(self.limits.default_tenant.as_str().into());
        // Neither a number nor a truth value is ever escaped.
        let parameters = parameters.split('&').filter_map(|pair| pair.split_once('='));
        StatsQuery::new(tenant, otherwise, parameters)
    }

    pub(super) fn tenant<'a>(&'a self, headers: &'a HeaderMap) -> Result<&'a str, WriteError> {
        Ok(self.named_tenant(headers)?.unwrap_or(&self.limits.default_tenant))
    }

    fn named_tenant<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a str>, WriteError> {
        let named = headers.get(&self.limits.tenant_header).or_else(|| headers.get(DEFAULT_TENANT_HEADER));
        let Some(value) = named.filter(|value| !value.is_empty()) else { return Ok(None) };
        let wrong = || WriteError::Tenant { tenant: String::from_utf8_lossy(value.as_bytes()).into_owned() };
        let tenant = value.to_str().map_err(|_| wrong())?;
        if is_tenant_name(tenant) { Ok(Some(tenant)) } else { Err(wrong()) }
    }
}

/// The declared length is held against all limits first.
async fn unsnappy(
    compressed: &[u8],
    mut decoded: Vec<u8>,
    bytes_max: usize,
    tenant_limits: &TenantLimits,
    permit: &mut Permit,
) -> Result<Vec<u8>, WriteError> {
    let mut step = Unsnappy::new(compressed, bytes_max)?;
    tenant_limits.check_bytes(step.declared_bytes() as u64)?;
    permit.grow(step.declared_bytes())?;
    decoded.clear();
    let mut pacer = Pacer::default();
    while !step.run(compressed, &mut decoded, UNSNAPPY_UNIT_BYTES)? {
        pacer.pace().await;
    }
    Ok(decoded)
}

/// Memory is counted as it is taken, and that of the decoder until the request ends: it is small. The limit of the tenant is
/// looked at with each step, so that what is over it is not decompressed first.
async fn unzstd(
    compressed: &[u8],
    mut decoded: Vec<u8>,
    bytes_max: usize,
    tenant_limits: &TenantLimits,
    permit: &mut Permit,
) -> Result<Vec<u8>, WriteError> {
    let mut step = Unzstd::new(compressed, bytes_max)?;
    decoded.clear();
    let (mut pacer, mut held_bytes) = (Pacer::default(), 0);
    loop {
        let is_done = step.run(compressed, &mut decoded)?;
        tenant_limits.check_bytes(decoded.len() as u64)?;
        let bytes = (decoded.capacity() + step.memory_bytes()).max(held_bytes);
        permit.grow(bytes - held_bytes)?;
        held_bytes = bytes;
        if is_done {
            return Ok(decoded);
        }
        pacer.pace().await;
    }
}

/// Whether what came between two looks is too little for what is there.
fn hardly_comes(before: usize, arrived: usize) -> bool {
    arrived - before <= before / ARRIVAL_PART
}

/// What a request says of its size.
fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Counts a request that was answered.
pub(super) fn observe(metrics: &CodeMetrics, seconds: f64, body_bytes: usize, skimmed: &Skimmed) {
    metrics.requests.inc();
    metrics.seconds.observe(seconds);
    metrics.request_bytes.observe(body_bytes as f64);
    metrics.timeseries.observe(skimmed.series_count as f64);
    metrics.samples.observe((skimmed.sample_count + skimmed.histogram_count + skimmed.refused_count) as f64);
}

/// Counts a request until it is dropped, also when its sender goes away.
pub(super) struct InFlight(IntGauge);

impl InFlight {
    pub(super) fn new(gauge: IntGauge) -> InFlight {
        gauge.inc();
        InFlight(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Reads a body to its end, or for a while, and keeps nothing of it. A connection that is closed while its sender
/// still sends is reset, and the answer with it: the sender would then take a refusal for a broken network, and
/// try again for ever.
pub(super) async fn discard<B: Body>(mut body: Pin<&mut B>) {
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(DISCARD_TIMEOUT, read).await;
}

/// Thanos Receive takes a tenant's name for a path, and so only what is its own base name.
pub(crate) fn is_tenant_name(tenant: &str) -> bool {
    !tenant.is_empty() && tenant.len() <= TENANT_BYTES_MAX && !tenant.contains('/')
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use http::HeaderValue;
    use http_body_util::Full;

    use super::*;
    use crate::core::SharedState;
    use crate::core::parts::{HeadBudget, Shard, ShardPlace};
    use crate::head::TimeWindows;
    use crate::limits::{LimitsConfig, LimitsMetrics, NodeLimits, RequestLimitError, ShardLimits};
    use crate::metrics::Metrics;
    use crate::rt::{Native, allowed_cpus, preflight, sleep, spawn, spawn_shard};
    use crate::wire::{SeriesHasher, canonical_label_bytes};

    #[test]
    fn a_request_whose_sender_has_gone_keeps_its_ticket_until_it_is_done() {
        if let Err(error) = preflight(1) {
            eprintln!("left out: {error}");
            return;
        }
        let run = || async {
            let metrics = Metrics::register(&prometheus::Registry::new());
            let shard = Rc::new(Shard::new(
                Native,
                ShardPlace { index: 0, count: 1 },
                SeriesHasher::new([1; 16]),
                metrics.shard(0),
                SharedState::new(1),
                HeadBudget { bytes_max: 1 << 20, used_bytes: Arc::default(), disk_is_low: Arc::default() },
                TimeWindows::default(),
            ));
            let (outbox, _) = crate::mesh::mesh(1, 1).remove(0);
            let config = LimitsConfig::parse("write: {global: {max_concurrency: 1}}").unwrap();
            let limits_metrics = LimitsMetrics::register(&prometheus::Registry::new());
            let node = NodeLimits::new(config, 0, limits_metrics.clone(), 1);
            let memory = Arc::clone(node.memory());
            let limits = ShardLimits::new(node, 0);
            let dispatcher = Rc::new(Dispatcher::new(Rc::clone(&shard), outbox, limits, None));
            let gauge = IntGauge::new("bytes", "in progress").unwrap();
            let limits = EdgeLimits {
                body_bytes_max: 1 << 20,
                decoded_bytes_max: 1 << 20,
                connections_max: 10,
                receive_timeout: Duration::from_secs(1),
                tenant_header: "tenant".to_owned(),
                default_tenant: "t".to_owned(),
                otlp: crate::wire::otlp::Settings::default(),
            };
            let admission = Admission::new(1 << 20, gauge, memory);
            let handler = WriteHandler::new(dispatcher, admission, limits, HttpMetrics::new(metrics));
            let mut body = vec![0x0a, 0];
            body.extend(canonical_label_bytes(&[("__name__", "up")]));
            body.extend([0x12, 0]);
            body[1] = body.len() as u8 - 2;
            let body = Bytes::from(snap::raw::Encoder::new().compress_vec(&body).unwrap());
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(http::header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            // Nothing commits yet, so the request waits until its sender loses patience.
            let write = handler.handle(&headers, Full::new(body));
            assert!(timeout(Duration::from_millis(20), write).await.is_none());
            assert_eq!(limits_metrics.gate_in_flight.get(), 1);
            spawn("commit", async move { shard.commit_loop().await });
            sleep(Duration::from_millis(200)).await;
            assert_eq!(limits_metrics.gate_in_flight.get(), 0);
        };
        spawn_shard("test", allowed_cpus()[0], run).unwrap().join().unwrap();
    }

    #[test]
    fn the_limit_of_the_tenant_ends_it_in_the_first_step() {
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let config = LimitsConfig::parse("write: {default: {request: {size_bytes_limit: 1000}}}").unwrap();
        let node = NodeLimits::new(config, 0, metrics, 1);
        let tenant_limits = ShardLimits::new(Arc::clone(&node), 0).tenant("t");
        let gauge = IntGauge::new("bytes", "in progress").unwrap();
        let mut permit = Admission::new(1 << 30, gauge, Arc::clone(node.memory())).enter().unwrap();
        let text = vec![0; 8 << 20];
        let mut sent = Vec::with_capacity(zstd_safe::compress_bound(text.len()));
        zstd_safe::compress(&mut sent, &text, 3).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let result = std::pin::pin!(unzstd(&sent, Vec::new(), 16 << 20, &tenant_limits, &mut permit))
            .poll(&mut context);
        assert!(matches!(result, Poll::Ready(Err(WriteError::Limit(RequestLimitError::Bytes { .. })))));
    }

    #[test]
    fn a_body_that_stopped_hardly_comes_and_one_at_a_steady_rate_does() {
        assert!(hardly_comes(0, 0) && hardly_comes(1, 1) && hardly_comes(31 << 20, (31 << 20) + 1000));
        for per_look in [1, 1000, 1 << 20] {
            assert!((0..ARRIVAL_PART).all(|look| !hardly_comes(look * per_look, (look + 1) * per_look)));
        }
    }

    #[test]
    fn tenants_are_base_names() {
        assert!(is_tenant_name("team-a") && is_tenant_name(".."));
        assert!(!is_tenant_name("") && !is_tenant_name("a/b") && !is_tenant_name(&"x".repeat(256)));
    }
}
