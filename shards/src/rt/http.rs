//! What hyper needs of a runtime: I/O, spawn, timers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use hyper::rt::ReadBufCursor;
use send_wrapper::SendWrapper;

use super::executor::{monotonic_now, sleep, spawn};

/// A byte stream in hyper's terms.
pub struct HyperIo<S>(pub S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for HyperIo<S> {
    #[expect(
        unsafe_code,
        reason = "hyper hands out uninitialised memory; a copy of each body would be the price"
    )]
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: our streams only write into the slice (recv or a copy), never read it, and the `n` first bytes
        // are initialised when they return `n`.
        let slice = unsafe {
            let memory = cursor.as_mut();
            std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), memory.len())
        };
        let n = ready!(Pin::new(&mut self.0).poll_read(context, slice))?.min(slice.len());
        // SAFETY: see above.
        unsafe { cursor.advance(n) };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for HyperIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}

/// Spawns hyper's tasks on the shard's executor.
#[derive(Clone, Copy, Debug)]
pub struct HyperExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for HyperExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        spawn("http2 stream", async move {
            future.await;
        });
    }
}

/// Timers of the shard's executor.
#[derive(Clone, Copy, Debug)]
pub struct HyperTimer;

struct Sleep(SendWrapper<LocalBoxFuture<'static, ()>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(SendWrapper::new(Box::pin(sleep(duration)))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(monotonic_now()))
    }
}
