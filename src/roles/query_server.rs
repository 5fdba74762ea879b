//! The listener of the query API, from binding to the last answer.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use annulus_shards::rt::retry_at_start;
use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections that are open at once, as in Prometheus; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;

/// A connection on which no request arrives for this long is closed, as in Prometheus.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// When the process has no file descriptor left, it must not spin until there is one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address that nobody is answered on yet.
pub struct QueryListener {
    listener: TcpListener,
    address: SocketAddr,
    read_timeout: Duration,
}

impl QueryListener {
    /// Binds the address; the error says what to do.
    pub fn bind(address: SocketAddr) -> Result<QueryListener, String> {
        let is_in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let bound = retry_at_start(|| TcpListener::bind(address), is_in_use).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(QueryListener { listener, address, read_timeout: READ_TIMEOUT })
        });
        bound.map_err(|error| {
            let cure = match error.kind() {
                io::ErrorKind::AddrInUse => ": stop the process that listens there, or give another address",
                _ => "",
            };
            format!("cannot listen on {address} (--query.http-address): {error}{cure}")
        })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is done, then finishes the requests in progress.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = GracefulShutdown::new();
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.read_timeout);
        let limit = self.read_timeout;
        let mut stop = pin!(stop);
        loop {
            let (stream, slot) = tokio::select! {
                accepted = accept(&listener, &slots) => accepted,
                () = &mut stop => break,
            };
            // Answers leave in several writes; none may wait for the acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            let first = Arc::new(Notify::new());
            let service = TowerToHyperService::new(noting_requests(&router, &first));
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                tokio::select! {
                    ended = connection => if let Err(error) = ended {
                        tracing::debug!(error, "a connection to the query API ended");
                    },
                    () = no_request(&first, limit) => {
                        tracing::debug!("a connection to the query API sent no request");
                    }
                }
                drop(slot);
            });
        }
        drop(listener);
        connections.shutdown().await;
        Ok(())
    }
}

/// The router, which tells of each request before it answers.
fn noting_requests(router: &Router, first: &Arc<Notify>) -> Router {
    let first = Arc::clone(first);
    router.clone().layer(map_request(move |request: Request| {
        first.notify_one();
        std::future::ready(request)
    }))
}

/// Ends when no request has come within the limit; never, once one has. Until the first bytes have shown which
/// protocol it is, no protocol's own timeout runs.
async fn no_request(first: &Notify, limit: Duration) {
    if timeout(limit, first.notified()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &tokio::net::TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "the query API cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_port_in_use_is_explained() {
        let first = QueryListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = QueryListener::bind(first.address()).err().unwrap();
        assert!(error.contains("--query.http-address") && error.contains("give another address"), "{error}");
    }

    #[tokio::test]
    async fn requests_in_progress_are_finished_after_the_signal_to_stop() {
        let (arrived, arrives) = oneshot::channel::<()>();
        let (stop, stopped) = oneshot::channel::<()>();
        let arrived = std::sync::Mutex::new(Some(arrived));
        let slow = move || {
            if let Some(arrived) = arrived.lock().unwrap().take() {
                let _ = arrived.send(());
            }
            async {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                "done"
            }
        };
        let slow = std::sync::Arc::new(slow);
        let router = Router::new().route("/slow", get(move || slow()));
        let listener = QueryListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address();
        let server = tokio::spawn(listener.serve(router, async {
            let _ = stopped.await;
        }));
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        arrives.await.unwrap();
        stop.send(()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        server.await.unwrap().unwrap();
    }
    #[tokio::test]
    async fn a_connection_without_a_request_is_closed() {
        let mut listener = QueryListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.read_timeout = Duration::from_millis(100);
        let address = listener.address();
        let late = || async {
            sleep(Duration::from_millis(300)).await;
            "late"
        };
        let router = Router::new().route("/late", get(late));
        let server = tokio::spawn(listener.serve(router, std::future::pending()));
        for start in ["", "PRI * HT", "GET / HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            client.write_all(start.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer));
            assert!(closed.await.is_ok(), "{start:?}");
        }
        // An answer may take longer than that.
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /late HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("late"), "{answer}");
        server.abort();
    }
}
