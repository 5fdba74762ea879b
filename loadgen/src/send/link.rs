//! A connection that is kept: opened again, after a pause, whenever it breaks.
//! Owns:     the socket, TLS, and the state of HTTP/1.1 or HTTP/2 on it.
//! Promises: one attempt to deliver takes no longer than the endpoint's timeout. A connection whose state is not
//!           known (an attempt that timed out, an answer that did not end) is never used again.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::endpoint::Endpoint;
use super::retry::parse_retry_after;
use crate::stream::Counts;

/// Pauses between attempts to connect: the first, and the longest.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// What is read of an answer to a write; a connection with a longer one is given up.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is read of a page that was asked for.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// Characters of a refusal that are kept.
const TEXT_CHARS_MAX: usize = 160;

/// What a receiver said to a write.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long to wait before the next attempt.
    pub retry_after: Option<Duration>,
    /// What it says it wrote, by the headers of remote write 2.0; `None` without any of them.
    pub written: Option<Counts>,
    /// The first line of the body, unless the status is 2xx.
    pub text: String,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// A connection, but no agreement on TLS.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The peer chose another protocol than HTTP/2.
    #[error("TLS: the receiver does not offer HTTP/2")]
    NoHttp2,
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Http(String),
    /// The answer did not come, or did not end, in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// A page that is no use: its status or its size.
    #[error("{0}")]
    Page(String),
}

impl From<hyper::Error> for Trouble {
    fn from(error: hyper::Error) -> Trouble {
        let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
        Trouble::Http(format!("{error}{cause}"))
    }
}

/// The sending half of a connection.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection to one receiver.
pub struct Link {
    endpoint: Arc<Endpoint>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sender: Option<Sender>,
    /// The pause after the last attempt to connect, if it failed, and its end.
    pause: Duration,
    connect_at: Option<Instant>,
}

impl Link {
    /// One that is not connected yet.
    pub fn new(endpoint: Arc<Endpoint>) -> Link {
        Link { endpoint, state: Mutex::default() }
    }

    /// Connects, so that the first request need not.
    pub async fn open(&self) -> Result<(), Trouble> {
        let opened = async {
            let mut state = self.state.lock().await;
            let sender = self.connect(&mut state).await?;
            state.sender = Some(sender);
            Ok(())
        };
        self.in_time(opened).await
    }

    /// One attempt to deliver a body. `retries` says how many there were before, and is told to the receiver.
    pub async fn post(&self, body: Bytes, retries: u32) -> Result<Answer, Trouble> {
        self.in_time(self.attempt(body, retries)).await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let timeout = self.endpoint.timeout;
        tokio::time::timeout(timeout, work).await.unwrap_or(Err(Trouble::TimedOut(timeout)))
    }

    async fn attempt(&self, body: Bytes, retries: u32) -> Result<Answer, Trouble> {
        match self.exchange(&body, retries).await {
            // The receiver had closed the resting connection and none of the request had gone out.
            Err(Failure::NotSent) => self.exchange(&body, retries).await.map_err(Failure::into_trouble),
            outcome => outcome.map_err(Failure::into_trouble),
        }
    }

    async fn exchange(&self, body: &Bytes, retries: u32) -> Result<Answer, Failure> {
        let mut state = self.state.lock().await;
        // Taken out, not borrowed: if this attempt is abandoned, the connection goes with it.
        let mut sender = match state.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect(&mut state).await?,
        };
        let exclusive = match &sender {
            Sender::Http1(_) => Some(state),
            Sender::Http2(shared) => {
                state.sender = Some(Sender::Http2(shared.clone()));
                drop(state);
                None
            }
        };
        let response = sender.send(self.request(body, retries)).await?;
        let answer = read_answer(response).await?;
        if let Some(mut state) = exclusive {
            state.sender = answer.1.then_some(sender);
        }
        Ok(answer.0)
    }

    fn request(&self, body: &Bytes, retries: u32) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.target.clone();
        *request.headers_mut() = self.endpoint.headers.clone();
        if self.endpoint.is_http2 {
            *request.version_mut() = Version::HTTP_2;
        }
        if retries > 0 {
            request.headers_mut().insert("retry-attempt", HeaderValue::from(retries));
        }
        request
    }

    /// Connects, not before the pause after the last failure is over.
    async fn connect(&self, state: &mut State) -> Result<Sender, Trouble> {
        if let Some(connect_at) = state.connect_at {
            tokio::time::sleep_until(connect_at).await;
        }
        match connect(&self.endpoint).await {
            Ok(sender) => {
                (state.pause, state.connect_at) = (Duration::ZERO, None);
                Ok(sender)
            }
            Err(trouble) => {
                state.pause = (state.pause * 2).clamp(RECONNECT_MIN, RECONNECT_MAX);
                state.connect_at = Some(Instant::now() + state.pause);
                Err(trouble)
            }
        }
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let sent = match self {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|_| Failure::NotSent)?;
                sender.try_send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(|_| Failure::NotSent)?;
                sender.try_send_request(request).await
            }
        };
        sent.map_err(|error: TrySendError<_>| match error.message() {
            Some(_) => Failure::NotSent,
            None => Failure::Trouble(error.into_error().into()),
        })
    }
}

/// Why an exchange failed.
enum Failure {
    /// None of the request went out: it may be sent again without asking anyone.
    NotSent,
    Trouble(Trouble),
}

impl Failure {
    fn into_trouble(self) -> Trouble {
        match self {
            Failure::NotSent => {
                Trouble::Http("the receiver closes each connection before a request".to_owned())
            }
            Failure::Trouble(trouble) => trouble,
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::Trouble(trouble)
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Failure {
        Failure::Trouble(error.into())
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Sender, Trouble> {
    let stream =
        TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(Trouble::Connect)?;
    stream.set_nodelay(true).map_err(Trouble::Connect)?;
    let Some((config, name)) = &endpoint.tls else {
        return speak_http(endpoint, stream).await;
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name.clone(), stream).await.map_err(Trouble::Tls)?;
    if endpoint.is_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Trouble::NoHttp2);
    }
    speak_http(endpoint, stream).await
}

/// Hands the connection to a task that drives it until it closes.
async fn speak_http<S>(endpoint: &Endpoint, stream: S) -> Result<Sender, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    // How a connection ends is seen by the request that it fails, so that the tasks' results are of no use.
    if endpoint.is_http2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(Sender::Http2(sender))
    } else {
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Sender::Http1(sender))
    }
}

/// The answer, and whether its body was read to the end, so that the connection may be used again.
async fn read_answer(response: Response<Incoming>) -> Result<(Answer, bool), hyper::Error> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| parse_retry_after(text, SystemTime::now()));
    let written = written(response.headers());
    let (body, is_whole) = read_body(response.into_body(), ANSWER_BYTES_MAX).await?;
    let text = if (200..300).contains(&status) { String::new() } else { first_line(&body) };
    Ok((Answer { status, retry_after, written, text }, is_whole))
}

fn written(headers: &HeaderMap) -> Option<Counts> {
    let count = |kind: &str| {
        let value = headers.get(format!("x-prometheus-remote-write-{kind}-written"))?;
        value.to_str().ok()?.trim().parse().ok()
    };
    let (samples, histograms, exemplars) = (count("samples"), count("histograms"), count("exemplars"));
    if samples.is_none() && histograms.is_none() && exemplars.is_none() {
        return None;
    }
    Some(Counts {
        series: 0,
        samples: samples.unwrap_or(0),
        histograms: histograms.unwrap_or(0),
        exemplars: exemplars.unwrap_or(0),
    })
}

async fn read_body(mut body: Incoming, bytes_max: usize) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, true))
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * TEXT_CHARS_MAX)]);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// Reads a page, such as the metrics of a receiver, over a connection of its own.
pub async fn get_page(endpoint: &Endpoint) -> Result<String, Trouble> {
    let work = async {
        let mut sender = connect(endpoint).await?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = endpoint.target.clone();
        *request.headers_mut() = endpoint.headers.clone();
        let response = sender.send(request).await.map_err(Failure::into_trouble)?;
        let status = response.status();
        let (body, is_whole) = read_body(response.into_body(), PAGE_BYTES_MAX).await?;
        if !status.is_success() {
            return Err(Trouble::Page(format!("answered {status}")));
        }
        if !is_whole {
            return Err(Trouble::Page(format!("is longer than {PAGE_BYTES_MAX} bytes")));
        }
        String::from_utf8(body).map_err(|_| Trouble::Page("is not text".to_owned()))
    };
    let timeout = endpoint.timeout;
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(Trouble::TimedOut(timeout)))
}
