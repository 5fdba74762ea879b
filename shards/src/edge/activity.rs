//! What a connection is doing, so that one on which nothing comes is closed: soon in the middle of a request's head,
//! late between two requests. (A body has a time limit of its own; hyper's limit for heads counts the time
//! between requests too.)

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::io::{AsyncRead, AsyncWrite};

use crate::rt::{Stream, monotonic_now, sleep};

/// Kept-alive connections may idle this long; Go's clients close after 90 s, Prometheus after 5 min.
const IDLE_TIMEOUT: Duration = Duration::from_secs(310);

/// The state of one connection.
pub struct Activity {
    /// On HTTP/2 bytes come between requests too (pings), so only the first head has a limit.
    is_http2: bool,
    requests: Cell<u32>,
    /// When the first byte came since the last request, if one has.
    head_began: Cell<Option<Instant>>,
    idle_since: Cell<Instant>,
}

/// A request in progress, until it is dropped.
pub struct OpenRequest(Rc<Activity>);

impl Activity {
    /// A connection on which the first bytes of a head have come.
    pub fn new(is_http2: bool) -> Activity {
        let now = monotonic_now();
        Activity {
            is_http2,
            requests: Cell::new(0),
            head_began: Cell::new(Some(now)),
            idle_since: Cell::new(now),
        }
    }

    /// The head of a request has come.
    pub fn begin_request(self: &Rc<Activity>) -> OpenRequest {
        self.requests.set(self.requests.get() + 1);
        self.head_began.set(None);
        OpenRequest(Rc::clone(self))
    }

    /// Ends when the connection has been silent for too long. It looks once in `head_timeout`, so that a silent
    /// connection costs a timer now and then; the limits are kept to within that.
    pub async fn silent(&self, head_timeout: Duration) {
        loop {
            sleep(head_timeout).await;
            let now = monotonic_now();
            let head_is_late = self.head_began.get().is_some_and(|began| now - began >= head_timeout);
            let is_idle = now - self.idle_since.get() >= IDLE_TIMEOUT;
            if self.requests.get() == 0 && (head_is_late || is_idle) {
                return;
            }
        }
    }

    fn bytes_came(&self) {
        if !self.is_http2 && self.requests.get() == 0 && self.head_began.get().is_none() {
            self.head_began.set(Some(monotonic_now()));
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.idle_since.set(monotonic_now());
    }
}

/// A stream that tells when bytes come.
pub struct Watched {
    /// The connection.
    pub stream: Stream,
    /// Told.
    pub activity: Rc<Activity>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        if read > 0 {
            this.activity.bytes_came();
        }
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(context)
    }
}
