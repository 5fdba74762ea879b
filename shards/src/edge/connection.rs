//! Connections: accept, tell HTTP/1.1 from cleartext HTTP/2, serve, and drain when the node stops.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::future::{LocalBoxFuture, Shared};
use futures::io::AsyncReadExt;
use futures::{FutureExt, select_biased};
use hyper::service::service_fn;
use prometheus::{IntCounter, IntGauge};

use super::activity::{Activity, Watched};
use super::balance::Seat;
use super::router::Router;
use crate::rt::{Accepted, HyperExecutor, HyperIo, HyperTimer, Listener, Stream, WaitList};
use crate::rt::{sleep, spawn, timeout};

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// After an error such as too many open files, accepting pauses this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Memory that an HTTP/1.1 connection keeps for what it reads next: a request of 2,000 samples is read at once, and
/// thousands of connections do not take gigabytes.
const READ_BUFFER_BYTES_MAX: usize = 128 << 10;

/// Fires once, when the node stops.
pub type Stop = Shared<LocalBoxFuture<'static, ()>>;

/// The open connections of one shard.
pub struct Connections {
    seat: Seat,
    closed: WaitList,
    metrics: ConnectionMetrics,
    stop: Stop,
    /// How many there may be on all shards together.
    connections_max: usize,
    /// How long the head of a request may take to arrive.
    head_timeout: Duration,
}

/// What is counted of the connections of one shard.
pub struct ConnectionMetrics {
    /// Those that are open.
    pub open: IntGauge,
    /// Those that were one too many.
    pub refused: IntCounter,
}

impl Connections {
    /// None is open.
    pub fn new(
        seat: Seat,
        metrics: ConnectionMetrics,
        stop: Stop,
        connections_max: usize,
        head_timeout: Duration,
    ) -> Rc<Connections> {
        let closed = WaitList::default();
        Rc::new(Connections { seat, closed, metrics, stop, connections_max, head_timeout })
    }

    /// Waits until all connections have ended.
    pub async fn drained(&self) {
        self.closed.wait_until(|| self.count() == 0).await;
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.seat.open_count()
    }

    /// Serves a connection that counts as open.
    fn take_up(self: &Rc<Self>, accepted: Accepted, router: &Rc<Router>) {
        let (open, router) = (Open::new(self), Rc::clone(router));
        let stream = match accepted.take_up() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection ended before it was taken up");
                return;
            }
        };
        if self.seat.total_count() > self.connections_max {
            self.metrics.refused.inc();
            tracing::debug!("too many connections; a new one was closed");
            return;
        }
        spawn("connection", async move {
            if let Err(error) = serve(stream, &open.0, router).await {
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(open);
        });
    }
}

/// One connection that counts as open, until it is dropped.
struct Open(Rc<Connections>);

impl Open {
    fn new(connections: &Rc<Connections>) -> Open {
        connections.metrics.open.inc();
        Open(Rc::clone(connections))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.seat.give_up();
        self.0.metrics.open.dec();
        self.0.closed.wake_all();
    }
}

/// Accepts connections until the node stops.
pub async fn accept_loop(listener: Listener, connections: Rc<Connections>, router: Rc<Router>) {
    let mut stop = connections.stop.clone();
    loop {
        let accepted = select_biased! {
            () = stop => return,
            accepted = listener.accept().fuse() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                if let Some(accepted) = connections.seat.place(accepted) {
                    connections.take_up(accepted, &router);
                }
                if connections.seat.total_count() >= connections.connections_max {
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for now");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes up what other shards accepted. Once the node stops it closes them: a shard may hand one over after this one has
/// stopped.
pub async fn handed_loop(connections: Rc<Connections>, router: Rc<Router>) {
    loop {
        let accepted = connections.seat.handed().await;
        if connections.stop.peek().is_none() {
            connections.take_up(accepted, &router);
        } else {
            let open = Open::new(&connections);
            drop(accepted.take_up());
            drop(open);
        }
    }
}

async fn serve(mut stream: Stream, connections: &Connections, router: Rc<Router>) -> io::Result<()> {
    let mut stop = connections.stop.clone();
    let sniffed = select_biased! {
        () = stop => return Ok(()),
        sniffed = timeout(connections.head_timeout, sniff(&mut stream)).fuse() => sniffed,
    };
    let Some(is_http2) = sniffed.transpose()? else { return Ok(()) };
    let activity = Rc::new(Activity::new(is_http2));
    let service = {
        let activity = Rc::clone(&activity);
        service_fn(move |request| {
            let router = Rc::clone(&router);
            let activity = Rc::clone(&activity);
            async move {
                let request_open = activity.begin_request();
                let response = router.route(request).await;
                drop(request_open);
                Ok::<_, Infallible>(response)
            }
        })
    };
    let io = HyperIo(Watched { stream, activity: Rc::clone(&activity) });
    if is_http2 {
        let connection = hyper::server::conn::http2::Builder::new(HyperExecutor)
            .timer(HyperTimer)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .max_frame_size(64 << 10)
            .max_concurrent_streams(256)
            .keep_alive_interval(Duration::from_secs(60))
            .serve_connection(io, service);
        drive(connection, stop, &activity, connections.head_timeout, |connection| {
            connection.graceful_shutdown()
        })
        .await
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(None)
            .half_close(true)
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            .serve_connection(io, service);
        drive(connection, stop, &activity, connections.head_timeout, |connection| {
            connection.graceful_shutdown()
        })
        .await
    }
}

/// Runs a connection to its end; on stop, to the end of its requests; or until it is silent for too long.
async fn drive<C>(
    connection: C,
    mut stop: Stop,
    activity: &Activity,
    head_timeout: Duration,
    shut_down: impl Fn(Pin<&mut C>),
) -> io::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    let mut silent = std::pin::pin!(activity.silent(head_timeout).fuse());
    select_biased! {
        ended = connection.as_mut().fuse() => return ended.map_err(io::Error::other),
        () = stop => {}
        () = silent => return Err(io::ErrorKind::TimedOut.into()),
    }
    shut_down(connection.as_mut());
    select_biased! {
        ended = connection.fuse() => ended.map_err(io::Error::other),
        () = silent => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Reads until the bytes differ from the HTTP/2 preface or are all of it, and puts them back.
async fn sniff(stream: &mut Stream) -> io::Result<bool> {
    let mut head = Vec::with_capacity(PREFACE.len());
    loop {
        let mut buffer = [0; PREFACE.len()];
        let read = stream.read(&mut buffer[..PREFACE.len() - head.len()]).await?;
        head.extend_from_slice(&buffer[..read]);
        let is_http2 = head == PREFACE;
        if read == 0 || is_http2 || !PREFACE.starts_with(&head) {
            stream.unread(head);
            return Ok(is_http2);
        }
    }
}
