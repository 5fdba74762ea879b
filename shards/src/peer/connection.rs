//! One HTTP/2 connection to a peer, and what is known of whoever is at its other end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http2::{Builder, SendRequest};
use snap::raw::Encoder;

use super::answer;
use super::block::BLOCK_ENCODING;
use super::encode::{Encoding, encode};
use super::failure::PeerFailure;
use super::request::{ForwardRequest, MessageForm};
use crate::rt::{HyperExecutor, HyperIo, HyperTimer, Resolver, Stream};
use crate::rt::{monotonic_now, spawn, timeout};

/// How long the name and a connection may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried, one after the other.
const ADDRESSES_MAX: usize = 3;

/// As Thanos' client does. Pings are sent while an answer is awaited only: servers of gRPC close connections that ping more.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_LIMIT: Duration = Duration::from_secs(5);

/// Answers are short: a peer that sends more is to be stopped early.
const ANSWER_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Streams that were given up and whose late frames are still told from nonsense.
const RESET_STREAMS_MAX: usize = 256;

/// Requests on one connection before a second one is made, if the peer allows as many.
const STREAMS_MAX: usize = 100;

/// Requests in a row that got no answer in time before the connection counts as dead: the other end may have gone without
/// a word.
const TIMEOUTS_MAX: u32 = 3;

const METHOD_PATH: &str = "/thanos.WriteableStore/RemoteWrite";

/// Where a peer is and how its requests are made.
pub(super) struct Route {
    pub address: Rc<str>,
    pub uri: Uri,
}

impl Route {
    pub fn new(address: &str) -> Route {
        let uri = Uri::builder().scheme("http").authority(address).path_and_query(METHOD_PATH).build();
        // What cannot stand in a URI has no address either, which connecting will say.
        let uri = uri.unwrap_or_else(|_| Uri::from_static("http://peer/thanos.WriteableStore/RemoteWrite"));
        Route { address: address.into(), uri }
    }
}

/// How a request is made of what shall be stored.
pub(super) struct Style<'a> {
    pub form: MessageForm,
    pub encoder: &'a RefCell<Encoder>,
    /// Called when the request is handed over.
    pub on_sent: &'a dyn Fn(),
}

/// A connection and the encodings that its other end takes: a peer that is replaced by another version is on another one.
pub(super) struct Connection {
    sender: SendRequest<Pieces>,
    open_streams: Cell<usize>,
    /// As the peer allows.
    streams_max: Rc<Cell<usize>>,
    timeouts: Cell<u32>,
    encodings: Cell<Encodings>,
}

#[derive(Clone, Copy)]
struct Encodings {
    takes_stream: bool,
    /// `None` until an answer names it.
    takes_block: Option<bool>,
}

impl Encodings {
    fn best(self, request: &ForwardRequest) -> Encoding {
        match self {
            Encodings { takes_block: Some(true), .. } if request.block.is_some() => Encoding::Block,
            Encodings { takes_stream: true, .. } => Encoding::Stream,
            Encodings { .. } => Encoding::Identity,
        }
    }

    /// Without an encoding that was refused.
    fn without(self, encoding: Encoding) -> Encodings {
        match encoding {
            Encoding::Block => Encodings { takes_block: Some(false), ..self },
            Encoding::Stream => Encodings { takes_stream: false, ..self },
            Encoding::Identity => self,
        }
    }
}

impl Connection {
    /// Connects to the first address of a peer that lets it. Nothing is known of the other end yet.
    pub async fn open(
        route: &Route,
        resolver: &Resolver,
        is_compressed: bool,
    ) -> Result<Rc<Connection>, String> {
        let stream = timeout(CONNECT_LIMIT, connect(&route.address, resolver)).await;
        let stream = stream.unwrap_or_else(|| Err("no connection in time".to_owned()))?;
        let handshake = Builder::new(HyperExecutor)
            .timer(HyperTimer)
            .initial_stream_window_size(ANSWER_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_LIMIT)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .handshake(HyperIo(stream));
        let (sender, connection) = handshake.await.map_err(|error| error.to_string())?;
        let streams_max = Rc::new(Cell::new(STREAMS_MAX));
        let (address, peer_streams_max) = (Rc::clone(&route.address), Rc::clone(&streams_max));
        spawn("peer connection", async move {
            let mut connection = std::pin::pin!(connection);
            let ended = poll_fn(|context| {
                let polled = connection.as_mut().poll(context);
                peer_streams_max.set(connection.current_max_send_streams().clamp(1, STREAMS_MAX));
                polled
            });
            match ended.await {
                Ok(()) => tracing::debug!(peer = &*address, "a connection to a peer has ended"),
                Err(error) => tracing::debug!(peer = &*address, %error, "a connection to a peer broke"),
            }
        });
        Ok(Rc::new(Connection {
            sender,
            open_streams: Cell::new(0),
            streams_max,
            timeouts: Cell::new(0),
            encodings: Cell::new(match is_compressed {
                true => Encodings { takes_stream: true, takes_block: None },
                false => Encodings { takes_stream: false, takes_block: Some(false) },
            }),
        }))
    }

    /// Whether requests can still be sent.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed() && self.timeouts.get() < TIMEOUTS_MAX
    }

    /// Requests that wait for their answers.
    pub fn open_streams(&self) -> usize {
        self.open_streams.get()
    }

    /// Whether the peer takes no more requests on this connection at once.
    pub fn is_full(&self) -> bool {
        self.open_streams.get() >= self.streams_max.get()
    }

    /// Sends a request and waits for its answer; once more for each encoding that the peer turns out not to take. When this is dropped before, the
    /// stream is reset.
    pub async fn send(
        &self,
        request: &ForwardRequest,
        uri: &Uri,
        limit: Duration,
        style: &Style<'_>,
    ) -> Result<(), PeerFailure> {
        let mut open = OpenStream::new(self, limit);
        loop {
            let wanted = self.encodings.get().best(request);
            let encoded = encode(request, style.form, wanted, style.encoder).await;
            let (encoding, pieces) =
                encoded.map_err(|error| PeerFailure::Refused { message: error.to_string() })?;
            (style.on_sent)();
            let result = self.exchange(http_request(uri, encoding, limit, pieces), encoding).await;
            open.is_answered = true;
            match encoding.name() {
                Some(name) if is_about_encoding(&result, name) => {
                    tracing::info!(encoding = name, "a peer does not take an encoding: it gets another one");
                    self.encodings.set(self.encodings.get().without(encoding));
                }
                _ => return result,
            }
        }
    }

    async fn exchange(&self, request: Request<Pieces>, encoding: Encoding) -> Result<(), PeerFailure> {
        let response = self.sender.clone().try_send_request(request).await;
        let response = response.map_err(|error| PeerFailure::Unreachable {
            reason: format!("the connection was lost: {}", with_causes(error.error())),
        })?;
        self.timeouts.set(0);
        self.learn(response.headers(), encoding);
        answer::read(response).await
    }

    fn learn(&self, headers: &HeaderMap, used: Encoding) {
        let encodings = self.encodings.get();
        if encodings.takes_block.is_none() && used != Encoding::Block {
            let takes_block = names_block(headers).then_some(true);
            self.encodings.set(Encodings { takes_block, ..encodings });
        }
    }
}

/// One request on a connection. One that waited for most of its time and has no answer speaks against the connection; one that
/// was given up for other reasons does not.
struct OpenStream<'a> {
    connection: &'a Connection,
    patience: Duration,
    began: Instant,
    is_answered: bool,
}

impl OpenStream<'_> {
    fn new(connection: &Connection, limit: Duration) -> OpenStream<'_> {
        connection.open_streams.set(connection.open_streams.get() + 1);
        OpenStream { connection, patience: limit / 2, began: monotonic_now(), is_answered: false }
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        let connection = self.connection;
        connection.open_streams.set(connection.open_streams.get() - 1);
        if !self.is_answered && monotonic_now() - self.began >= self.patience {
            connection.timeouts.set(connection.timeouts.get().saturating_add(1));
        }
    }
}

async fn connect(address: &str, resolver: &Resolver) -> Result<Stream, String> {
    let addresses = resolver.resolve(address).await.map_err(|error| error.to_string())?;
    let tried: Vec<SocketAddr> = addresses.iter().copied().take(ADDRESSES_MAX).collect();
    let limit = CONNECT_LIMIT / tried.len().max(1) as u32;
    let mut reason = String::new();
    for address in tried {
        match Stream::connect(address, limit).await {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = format!("{address}: {error}"),
        }
    }
    Err(reason)
}

fn http_request(uri: &Uri, encoding: Encoding, limit: Duration, pieces: Vec<Bytes>) -> Request<Pieces> {
    let mut request = Request::new(Pieces::new(pieces));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers
        .insert(header::USER_AGENT, HeaderValue::from_static(concat!("annulus/", env!("CARGO_PKG_VERSION"))));
    if let Some(name) = encoding.name() {
        headers.insert("grpc-encoding", HeaderValue::from_static(name));
    }
    // At most eight digits, in a unit that lets them be enough.
    let text = match limit.as_millis() {
        millis @ 0..100_000_000 => format!("{millis}m"),
        millis => format!("{}S", (millis / 1000).min(99_999_999)),
    };
    let value = HeaderValue::from_str(&text).expect("digits and a letter are a header's value");
    headers.insert("grpc-timeout", value);
    request
}

/// Whether the request was refused for its encoding. Servers in Go and on hyper name it, as gRPC wants; those in C say that they
/// cannot read the header.
fn is_about_encoding(result: &Result<(), PeerFailure>, name: &str) -> bool {
    match result {
        Err(PeerFailure::Unimplemented { message }) => message.contains(name),
        Err(PeerFailure::Broken { reason }) => reason.contains("grpc-encoding"),
        _ => false,
    }
}

fn names_block(headers: &HeaderMap) -> bool {
    let values = headers.get_all("grpc-accept-encoding").iter();
    let mut names = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.any(|name| name.trim() == BLOCK_ENCODING)
}

/// hyper says what went wrong in an error's causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A request's body in pieces.
pub(super) struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn new(pieces: Vec<Bytes>) -> Pieces {
        Pieces(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_of_blocks_is_used_only_when_it_is_named() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-accept-encoding"),
                HeaderValue::from_static(value),
            )])
        };
        assert!(names_block(&headers("identity, annulus-snappy-block,snappy")));
        assert!(!names_block(&headers("snappy,annulus-snappy-block2")) && !names_block(&HeaderMap::new()));
    }

    #[test]
    fn a_deadline_has_at_most_eight_digits() {
        for (limit, text) in [
            (Duration::ZERO, "0m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_millis(100_000_000), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            let request = http_request(&Route::new("a:1").uri, Encoding::Stream, limit, Vec::new());
            assert_eq!(request.headers()["grpc-timeout"], text);
        }
    }

    #[test]
    fn any_address_makes_a_request() {
        assert_eq!(Route::new("a.example:10901").uri.authority().unwrap(), "a.example:10901");
        for address in ["", "a b", "ä:1", "a/b:1", "::1", "[", "@"] {
            assert_eq!(Route::new(address).uri.path(), METHOD_PATH, "{address}");
        }
    }
}
