//! A client of the Prometheus query API: asks patiently, and takes nothing but a whole answer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer::{self, FoundSeries};
use super::windows::seconds;
use crate::send::endpoint::{Endpoint, EndpointError};

/// Where the API takes queries, below the address that is given.
const QUERY_PATH: &str = "/api/v1/query";

/// Pause before the first repetition; it doubles with each.
const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// Largest answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why a query has no answer that could be compared.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Nobody there, or the connection broke, again and again.
    #[error("{url} cannot be queried: {reason} ({attempts} attempts)")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened last.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An error instead of an answer.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// Where.
        url: String,
        /// Which HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// More than fits into memory.
    #[error("the answer to {query} is larger than {bytes_max} bytes")]
    TooLarge {
        /// The question.
        query: String,
        /// The bound.
        bytes_max: usize,
    },
    /// Something else than a complete answer.
    #[error("the answer of {url} to {query} cannot be used: {reason}")]
    Unusable {
        /// Where.
        url: String,
        /// The question.
        query: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks one query API. Clones share its connections.
#[derive(Clone)]
pub struct QueryClient(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    target: Uri,
    retries: u32,
    /// Connections that have answered and wait for the next query.
    idle: Mutex<Vec<Connection>>,
}

type Connection = SendRequest<Full<Bytes>>;

/// How one attempt failed.
enum Failure {
    /// Perhaps not the next time.
    Passing(String),
    /// The next time too.
    Lasting(QueryError),
}

impl QueryClient {
    /// Asks at the base address of a query API. A passing failure is tried again `retries` times.
    pub fn new(endpoint: Endpoint, retries: u32) -> Result<QueryClient, EndpointError> {
        // Whoever gives the whole address of the API means the same.
        let base = endpoint.target.path().trim_end_matches('/').trim_end_matches(QUERY_PATH);
        let target = format!("{base}{QUERY_PATH}");
        let target =
            target.parse().map_err(|_| EndpointError(format!("{}: has no usable path", endpoint.url)))?;
        Ok(QueryClient(Arc::new(Shared { endpoint, target, retries, idle: Mutex::default() })))
    }

    /// The answer to a range selector.
    pub async fn matrix(&self, query: &str, time_ms: i64) -> Result<Vec<FoundSeries>, QueryError> {
        self.ask(query, time_ms, "matrix").await
    }

    /// The answer to an instant selector.
    pub async fn vector(&self, query: &str, time_ms: i64) -> Result<Vec<FoundSeries>, QueryError> {
        self.ask(query, time_ms, "vector").await
    }

    async fn ask(
        &self,
        query: &str,
        time_ms: i64,
        result_type: &'static str,
    ) -> Result<Vec<FoundSeries>, QueryError> {
        let timeout = self.0.endpoint.timeout;
        let mut pause = BACKOFF_MIN;
        let mut attempts = 1;
        loop {
            let reason = match tokio::time::timeout(timeout, self.attempt(query, time_ms)).await {
                Ok(Ok(body)) => {
                    return answer::parse(&body, result_type).map_err(|reason| QueryError::Unusable {
                        url: self.url(),
                        query: query.to_owned(),
                        reason,
                    });
                }
                Ok(Err(Failure::Lasting(error))) => return Err(error),
                Ok(Err(Failure::Passing(reason))) => reason,
                Err(_) => format!("no answer within {timeout:?}"),
            };
            if attempts > self.0.retries {
                return Err(QueryError::Unreachable { url: self.url(), reason, attempts });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempts += 1;
        }
    }

    async fn attempt(&self, query: &str, time_ms: i64) -> Result<Bytes, Failure> {
        let mut connection = self.connection().await.map_err(Failure::Passing)?;
        let answer = connection
            .send_request(self.request(query, time_ms))
            .await
            .map_err(|error| Failure::Passing(format!("no answer: {error}")))?;
        let status = answer.status();
        let body = match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let query = query.to_owned();
                return Err(Failure::Lasting(QueryError::TooLarge { query, bytes_max: ANSWER_BYTES_MAX }));
            }
            Err(error) => return Err(Failure::Passing(format!("the answer broke off: {error}"))),
        };
        if status.is_success() {
            self.idle().push(connection);
            return Ok(body);
        }
        let message = answer::error_text(&body);
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::Passing(format!("{status}: {message}")));
        }
        Err(Failure::Lasting(QueryError::Refused { url: self.url(), status, message }))
    }

    fn request(&self, query: &str, time_ms: i64) -> Request<Full<Bytes>> {
        let form = Serializer::new(String::new())
            .append_pair("query", query)
            .append_pair("time", &seconds(time_ms))
            // Thanos: rather no answer than one without a store that is down.
            .append_pair("partial_response", "false")
            // VictoriaMetrics: else it evaluates half a minute before the end, to be sure that all has arrived.
            .append_pair("nocache", "1")
            .finish();
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.0.target.clone();
        *request.headers_mut() = self.0.endpoint.headers.clone();
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        request
    }

    /// A connection that waits, or a new one.
    async fn connection(&self) -> Result<Connection, String> {
        loop {
            let waiting = self.idle().pop();
            let Some(mut connection) = waiting else { break };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let Endpoint { host, port, tls, .. } = &self.0.endpoint;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
        match tls {
            None => begin(stream).await,
            Some((config, name)) => {
                let connecting = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
                begin(connecting.await.map_err(|error| format!("TLS: {error}"))?).await
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self) -> String {
        self.0.endpoint.url.clone()
    }
}

impl fmt::Debug for QueryClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers hold credentials.
        formatter.debug_tuple("QueryClient").field(&self.0.endpoint.url).finish()
    }
}

async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection, String> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Its errors come to light in the requests that it carries.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::super::fake::{FakeReceiver, Fault, client};
    use super::*;
    use crate::send::testing::{Receiver, Reply, endpoint_options};

    #[tokio::test]
    async fn passing_failures_are_tried_again_a_few_times() {
        let receiver = FakeReceiver::start(vec![]).await;
        for fault in [Fault::Status(503), Fault::Status(429), Fault::Truncated] {
            receiver.plant(fault, 2);
            assert_eq!(client(&receiver, 2).matrix("{target=\"0\"}[5ms]", 0).await.unwrap(), [], "{fault:?}");
            receiver.plant(fault, 2);
            let error = client(&receiver, 1).matrix("{target=\"0\"}[5ms]", 0).await.unwrap_err();
            assert!(matches!(error, QueryError::Unreachable { attempts: 2, .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn lasting_failures_are_errors_at_once() {
        let receiver = FakeReceiver::start(vec![]).await;
        for (fault, part) in [
            (Fault::Status(404), "404"),
            (Fault::Status(422), "planted"),
            (Fault::Garbage, "not an answer of a Prometheus query API"),
            (Fault::Partial, "may be incomplete: one store is down"),
        ] {
            receiver.plant(fault, 1);
            let error = client(&receiver, 5).vector("{target=\"0\"}", 0).await.unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    #[tokio::test]
    async fn a_receiver_that_is_not_there_is_an_error_after_the_retries() {
        let receiver = FakeReceiver::start(vec![]).await;
        let client = client(&receiver, 1);
        receiver.stop().await;
        let error = client.vector("up", 0).await.unwrap_err();
        assert!(matches!(error, QueryError::Unreachable { attempts: 2, .. }), "{error}");
    }

    #[test]
    fn the_base_address_may_have_a_path_or_be_that_of_the_api() {
        let access = endpoint_options("http://x/").access;
        for (url, target) in [
            ("http://h:9090", "/api/v1/query"),
            ("http://h:9090/", "/api/v1/query"),
            ("http://h/select/0/prometheus/", "/select/0/prometheus/api/v1/query"),
            ("http://h/api/v1/query", "/api/v1/query"),
        ] {
            let client = QueryClient::new(access.endpoint("--query-url", url).unwrap(), 0).unwrap();
            assert_eq!(client.0.target, target, "{url}");
        }
    }

    #[tokio::test]
    async fn queries_go_over_tls_with_credentials_and_tenant() {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["receiver.test".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into(),
            )
            .unwrap();
        let receiver = Receiver::start_tls(Some(Arc::new(config)), |_, _| Reply::status(403)).await;
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, cert.pem()).unwrap();

        let mut access = endpoint_options("http://x/").access;
        access.tls.ca_file = Some(ca_file);
        access.tls.server_name = Some("receiver.test".to_owned());
        access.basic_auth = Some("user:pass".to_owned());
        access.tenant = Some("team-a".to_owned());
        let endpoint = access.endpoint("--query-url", &format!("https://{}", receiver.address)).unwrap();
        let error = QueryClient::new(endpoint, 0).unwrap().vector("up", 0).await.unwrap_err();
        assert!(matches!(error, QueryError::Refused { status: StatusCode::FORBIDDEN, .. }), "{error}");
        let headers = &receiver.seen()[0].headers;
        assert_eq!(headers["authorization"], "Basic dXNlcjpwYXNz");
        assert_eq!(headers["thanos-tenant"], "team-a");
    }
}
