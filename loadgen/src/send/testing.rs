//! A receiver and a stream for tests: the receiver does what it is told, the stream does what is seen at a glance.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::endpoint::EndpointOptions;
use super::load::Source;
use crate::stream::{Counts, Encoded, Protocol};

/// The flags' defaults for a receiver.
pub fn endpoint_options(url: &str) -> EndpointOptions {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: EndpointOptions,
    }
    Line::parse_from(["test", "--url", url]).options
}

/// What a test receiver saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    /// The number of the request, which is all that a body of [`Plain`] holds.
    pub request: u64,
    pub headers: HeaderMap,
    pub version: Version,
}

/// What it answers.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// Pause before the answer.
    pub after: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }
}

type Behaviour = Arc<dyn Fn(usize, &Seen) -> Reply + Send + Sync>;

/// A receiver in this process.
pub struct Receiver {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Receiver {
    /// One that answers the attempt with an index as `behaviour` says.
    pub async fn start(behaviour: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::start_tls(None, behaviour).await
    }

    pub async fn start_tls(
        tls: Option<Arc<ServerConfig>>,
        behaviour: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Receiver { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (behaviour, seen): (Behaviour, _) = (Arc::new(behaviour), Arc::clone(&receiver.seen));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (behaviour, seen, tls) = (Arc::clone(&behaviour), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, behaviour, seen).await,
                        Some(config) => {
                            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                                serve(stream, behaviour, seen).await;
                            }
                        }
                    }
                });
            }
        });
        receiver
    }

    /// One that sends these bytes to whoever has sent something, and closes.
    pub async fn start_raw(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    if stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                        let _ = stream.write_all(answer).await;
                    }
                });
            }
        });
        address
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/v1/receive", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve<S>(stream: S, behaviour: Behaviour, seen: Arc<Mutex<Vec<Seen>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (behaviour, seen) = (Arc::clone(&behaviour), Arc::clone(&seen));
        async move { Ok::<_, Infallible>(answer(request, behaviour, seen).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    behaviour: Behaviour,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let number = body.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    let entry = Seen { at: Instant::now(), request: number, headers: parts.headers, version: parts.version };
    let index = {
        let mut seen = seen.lock().unwrap();
        seen.push(entry.clone());
        seen.len() - 1
    };
    let reply = behaviour(index, &entry);
    tokio::time::sleep(reply.after).await;
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let text = if reply.status >= 300 { "no, thanks\nsecond line" } else { "" };
    response.body(Full::new(Bytes::from_static(text.as_bytes()))).unwrap()
}

/// A stream whose bodies hold only the number of the request.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    pub blocks: u64,
    /// Time between two requests.
    pub spacing_us: u64,
    /// Time that it takes to make a body.
    pub encode_time: Duration,
    /// The request that cannot be made.
    pub panics_at: Option<u64>,
    /// The request whose time cannot be told.
    pub never_due: Option<u64>,
}

/// What a receiver sees as the number of a metadata message.
pub const METADATA: u64 = u64::MAX - 1;

/// Samples of each request.
pub const SAMPLES: u64 = 10;

impl Source for Plain {
    fn requests_per_round(&self) -> u64 {
        self.blocks
    }
    fn due_us(&self, request: u64) -> u64 {
        assert!(self.never_due != Some(request), "this test wants a crash");
        request * self.spacing_us
    }
    fn metadata(&self) -> Bytes {
        Bytes::copy_from_slice(&METADATA.to_le_bytes())
    }
    fn encode(&self, request: u64, _protocol: Protocol) -> Encoded {
        assert!(self.panics_at != Some(request), "this test wants a crash");
        let begun = Instant::now();
        while begun.elapsed() < self.encode_time {
            std::hint::spin_loop();
        }
        let counts = Counts { series: SAMPLES, samples: SAMPLES, histograms: 0, exemplars: 0 };
        Encoded { body: Bytes::copy_from_slice(&request.to_le_bytes()), counts }
    }
}
