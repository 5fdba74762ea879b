//! Bodies that are sent while they are written: a thread writes, the connection takes, and between them are a few
//! pieces.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Pieces that are written and not sent yet.
const WAITING_MAX: usize = 4;

/// A client that takes nothing for so long has gone.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Where a body is written to. Waits while the client is slower than the writer.
pub struct Pieces {
    next: Vec<u8>,
    piece_bytes: usize,
    sender: mpsc::Sender<Bytes>,
    runtime: Handle,
}

/// A body that `write` writes on a thread that may block. When the client goes away, the writer gets an error; when the
/// writer fails, the client's connection breaks off, so that it never takes a part for the whole.
///
/// # Panics
/// Outside a tokio runtime.
pub fn stream(
    piece_bytes: usize,
    write: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Body {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let is_whole = Arc::new(AtomicBool::new(false));
    let whole = Arc::clone(&is_whole);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { next: Vec::with_capacity(piece_bytes), piece_bytes, sender, runtime };
        match write(&mut pieces).and_then(|()| pieces.send()) {
            Ok(()) => whole.store(true, Ordering::Release),
            Err(error) => tracing::debug!(%error, "an answer was not sent to its end"),
        }
    });
    let state = Some((receiver, is_whole));
    let pieces = stream::unfold(state, async |state| {
        let (mut receiver, is_whole) = state?;
        match receiver.recv().await {
            Some(piece) => Some((Ok(piece), Some((receiver, is_whole)))),
            None if is_whole.load(Ordering::Acquire) => None,
            None => Some((Err(io::Error::other("the answer broke off")), None)),
        }
    });
    // Compression asks once more after the end.
    Body::from_stream(pieces.fuse())
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = mem::take(&mut self.next).into();
        let sent = self.runtime.block_on(timeout(STALL_MAX, self.sender.send(piece)));
        self.next.reserve(self.piece_bytes);
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.next.extend_from_slice(bytes);
        if self.next.len() >= self.piece_bytes {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_arrives_as_it_was_written() {
        let mut body = stream(10, |out| (0..1_000).try_for_each(|number| write!(out, "{number};")));
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            bytes.extend(frame.unwrap().into_data().unwrap());
        }
        assert!(body.frame().await.is_none(), "the end stays the end");
        let expected: String = (0..1_000).map(|number| format!("{number};")).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_writer_is_never_far_ahead_and_stops_when_the_client_goes() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let mut body = stream(1_000, |out| {
            let mut bytes = 0u64;
            let result = loop {
                match out.write_all(&[0; 100]) {
                    Ok(()) => bytes += 100,
                    Err(error) => break error.kind(),
                }
            };
            ended.send((bytes, result)).unwrap();
            Err(result.into())
        });
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1_000);
        drop(body);
        let (bytes, result) = end.await.unwrap();
        assert_eq!(result, io::ErrorKind::BrokenPipe);
        assert!(bytes <= 1_000 * (WAITING_MAX as u64 + 3), "{bytes}");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let body = stream(10, |out| {
            out.write_all(b"begun")?;
            Err(io::ErrorKind::InvalidData.into())
        });
        assert!(body.collect().await.is_err());
        let body = stream(10, |_| panic!("planted"));
        assert!(body.collect().await.is_err());
    }
}
