//! All that a shard has of one peer: connections, back-off, and what is on its way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use snap::raw::Encoder;

use super::backoff::{BackOff, Pass};
use super::connection::{Connection, Route, Style};
use super::failure::PeerFailure;
use super::peers::{Compression, PeersOptions};
use super::request::ForwardRequest;
use crate::metrics::PeerMetrics;
use crate::rt::{Resolver, WaitList, monotonic_now, spawn, timeout};

/// Connections of a shard to one peer.
const CONNECTIONS_MAX: usize = 2;

/// A request whose connection is lost is sent once more, on another connection: connections end when peers restart, and what is
/// stored twice is stored once.
const SENDS_MAX: usize = 2;

/// Attempts to connect that one request waits for. More than one are needed only when a connection ends as soon as it is made.
const DIALS_MAX: usize = 3;

/// One peer.
pub(super) struct Link {
    route: Route,
    options: PeersOptions,
    resolver: Resolver,
    connections: RefCell<Vec<Rc<Connection>>>,
    dialling: Dialling,
    back_off: RefCell<BackOff>,
    inflight_requests: Cell<usize>,
    inflight_bytes: Cell<usize>,
    /// `None` before the first attempt.
    is_up: Cell<Option<bool>>,
    metrics: PeerMetrics,
}

/// The one attempt to connect that may be under way, and those who wait for its end.
#[derive(Default)]
struct Dialling {
    is_under_way: Cell<bool>,
    ended_count: Cell<u64>,
    /// Why the last attempt failed, if it did.
    failure: RefCell<Option<String>>,
    ended: WaitList,
}

impl Link {
    /// Does not connect: the first request does.
    pub fn new(address: &str, options: PeersOptions, resolver: Resolver, metrics: PeerMetrics) -> Rc<Link> {
        Rc::new(Link {
            route: Route::new(address),
            options,
            resolver,
            connections: RefCell::default(),
            dialling: Dialling::default(),
            back_off: RefCell::new(BackOff::new(options.backoff_min, options.backoff_max)),
            inflight_requests: Cell::new(0),
            inflight_bytes: Cell::new(0),
            is_up: Cell::new(None),
            metrics,
        })
    }

    /// Lets all requests through again.
    pub fn forget_failures(&self) {
        self.change_back_off(BackOff::succeed);
    }

    /// Sends a request and waits for its answer.
    pub async fn send(
        self: &Rc<Self>,
        request: &ForwardRequest,
        limit: Duration,
        encoder: &RefCell<Encoder>,
    ) -> Result<(), PeerFailure> {
        let result = self.send_within_bounds(request, limit, encoder).await;
        self.metrics.count(&result);
        result
    }

    async fn send_within_bounds(
        self: &Rc<Self>,
        request: &ForwardRequest,
        limit: Duration,
        encoder: &RefCell<Encoder>,
    ) -> Result<(), PeerFailure> {
        let _place = Place::take(self, request.series.size_bytes()).ok_or(PeerFailure::Busy)?;
        let began = monotonic_now();
        let pass = self.back_off.borrow_mut().admit(began).ok_or(PeerFailure::BackOff)?;
        let trial = Trial { link: self, pass, is_told: false };
        let sent = self.send_on_some_connection(request, limit, began, encoder);
        let result = timeout(limit, sent).await.unwrap_or(Err(PeerFailure::Timeout));
        trial.tell(&result);
        result
    }

    async fn send_on_some_connection(
        self: &Rc<Self>,
        request: &ForwardRequest,
        limit: Duration,
        began: Instant,
        encoder: &RefCell<Encoder>,
    ) -> Result<(), PeerFailure> {
        let is_sent = Cell::new(false);
        let on_sent = || {
            if !is_sent.replace(true) {
                self.metrics.delay_seconds.observe((monotonic_now() - began).as_secs_f64());
            }
        };
        let style = Style { form: self.options.form, encoder, on_sent: &on_sent };
        let mut sends = 0;
        loop {
            let connection = self.connection().await?;
            sends += 1;
            let result = connection.send(request, &self.route.uri, limit, &style).await;
            if !matches!(result, Err(PeerFailure::Unreachable { .. })) {
                return result;
            }
            self.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, &connection));
            if sends == SENDS_MAX {
                return result;
            }
        }
    }

    /// An open connection, or one that is made for this.
    async fn connection(self: &Rc<Self>) -> Result<Rc<Connection>, PeerFailure> {
        for _ in 0..DIALS_MAX {
            // Before an attempt is begun: a new task runs at once, and this one may end before it waits for anything.
            let ended_count = self.dialling.ended_count.get();
            if let Some(connection) = self.emptiest_connection() {
                return Ok(connection);
            }
            self.dialling.ended.wait_until(|| self.dialling.ended_count.get() != ended_count).await;
            if let Some(reason) = &*self.dialling.failure.borrow() {
                return Err(PeerFailure::Unreachable { reason: reason.clone() });
            }
        }
        self.emptiest_connection().ok_or_else(|| PeerFailure::Unreachable {
            reason: "its connections end as soon as they are made".to_owned(),
        })
    }

    /// The open connection with the fewest requests. Another one is made meanwhile if that is full, or if there is none.
    fn emptiest_connection(self: &Rc<Self>) -> Option<Rc<Connection>> {
        let (found, open_count) = {
            let mut connections = self.connections.borrow_mut();
            connections.retain(|connection| connection.is_open());
            let found = connections.iter().min_by_key(|connection| connection.open_streams());
            (found.cloned(), connections.len())
        };
        let is_full = found.as_ref().is_none_or(|found| found.is_full());
        if is_full && open_count < CONNECTIONS_MAX {
            self.dial();
        }
        found
    }

    /// Connects in a task of its own: those who wait for it may give up before.
    fn dial(self: &Rc<Self>) {
        if self.dialling.is_under_way.replace(true) {
            return;
        }
        let link = Rc::clone(self);
        spawn("connect to a peer", async move {
            let ending = DiallingEnd(&link);
            let is_compressed = link.options.compression == Compression::Snappy;
            let made = Connection::open(&link.route, &link.resolver, is_compressed).await;
            let failure = match made {
                Ok(connection) => {
                    link.connections.borrow_mut().push(connection);
                    None
                }
                Err(reason) => {
                    tracing::debug!(peer = &*link.route.address, reason, "a peer cannot be reached");
                    // With a connection left, requests tell how the peer is.
                    if link.connections.borrow().is_empty() {
                        link.set_up(false);
                        let now = monotonic_now();
                        link.change_back_off(|back_off| back_off.fail_now(now, random()));
                    }
                    Some(reason)
                }
            };
            *link.dialling.failure.borrow_mut() = failure;
            drop(ending);
        });
    }

    fn set_up(&self, is_up: bool) {
        let before = self.is_up.replace(Some(is_up));
        if before != Some(is_up) {
            match is_up {
                true => tracing::info!(peer = &*self.route.address, "a peer answers"),
                false => tracing::warn!(peer = &*self.route.address, "a peer is not available"),
            }
        }
        self.metrics.up.add(i64::from(is_up) - i64::from(before == Some(true)));
    }

    fn change_back_off(&self, change: impl FnOnce(&mut BackOff)) {
        let mut back_off = self.back_off.borrow_mut();
        let before = back_off.wait();
        change(&mut back_off);
        if back_off.wait() != before {
            self.metrics.backoff_seconds.add(back_off.wait().as_secs_f64() - before.as_secs_f64());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.metrics.up.sub(i64::from(self.is_up.get() == Some(true)));
        self.forget_failures();
    }
}

/// Ends an attempt to connect, also when it panics.
struct DiallingEnd<'a>(&'a Link);

impl Drop for DiallingEnd<'_> {
    fn drop(&mut self) {
        let dialling = &self.0.dialling;
        dialling.is_under_way.set(false);
        dialling.ended_count.set(dialling.ended_count.get() + 1);
        dialling.ended.wake_all();
    }
}

/// Room among what is on its way to a peer, until it is dropped.
struct Place<'a> {
    link: &'a Link,
    bytes: usize,
}

impl Place<'_> {
    /// A request larger than the bound has room when it is the only one.
    fn take(link: &Link, bytes: usize) -> Option<Place<'_>> {
        let (requests, inflight_bytes) = (link.inflight_requests.get(), link.inflight_bytes.get());
        let has_bytes =
            requests == 0 || inflight_bytes.saturating_add(bytes) <= link.options.inflight_bytes_max;
        if requests >= link.options.inflight_requests_max || !has_bytes {
            return None;
        }
        link.inflight_requests.set(requests + 1);
        link.inflight_bytes.set(inflight_bytes + bytes);
        link.metrics.inflight_requests.inc();
        link.metrics.inflight_bytes.add(bytes as i64);
        Some(Place { link, bytes })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let link = self.link;
        link.inflight_requests.set(link.inflight_requests.get() - 1);
        link.inflight_bytes.set(link.inflight_bytes.get() - self.bytes);
        link.metrics.inflight_requests.dec();
        link.metrics.inflight_bytes.sub(self.bytes as i64);
    }
}

/// A request that the back-off let through. When it is given up, another one may find out how the peer is.
struct Trial<'a> {
    link: &'a Link,
    pass: Pass,
    is_told: bool,
}

impl Trial<'_> {
    fn tell(mut self, result: &Result<(), PeerFailure>) {
        let is_peer_up = result.as_ref().map_or_else(PeerFailure::is_peer_up, |()| Some(true));
        let Some(is_peer_up) = is_peer_up else { return };
        self.is_told = true;
        self.link.set_up(is_peer_up);
        let (pass, now) = (self.pass, monotonic_now());
        self.link.change_back_off(|back_off| match is_peer_up {
            true => back_off.succeed(),
            false => back_off.fail(pass, now, random()),
        });
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.link.back_off.borrow_mut().abandon(self.pass, monotonic_now());
        }
    }
}

/// Without a source of it, waits are not spread.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}
