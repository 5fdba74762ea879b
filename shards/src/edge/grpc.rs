//! gRPC on the listeners of remote write: what nodes of a hashring send each other, and health checks
//! (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/health-checking.md). One unary request is one HTTP/2 request.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::Body;

use super::admission::Permit;
use super::reply::Reply;
use super::status::{Answer, WriteError};
use super::write::{InFlight, WriteHandler, discard, is_tenant_name};
use crate::core::{Held, Origin, Outcome};
use crate::peer::{Code, FRAME_HEAD_BYTES, PeerRequest, Splitter, TenantBody, Unstream, put_frame, unframe};
use crate::rt::{Pacer, monotonic_now};
use crate::wire::{Decoder, Form, Unsnappy};

/// What peers call.
const REMOTE_WRITE: &str = "/thanos.WriteableStore/RemoteWrite";

/// What load balancers and orchestrators call.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// The encodings of messages that are read here; the last one is known to nodes of annulus alone.
const ENCODINGS: &str = "identity,snappy,annulus-snappy-block";

/// HealthCheckResponse {1: status SERVING} and {1: status NOT_SERVING}.
const SERVING: [u8; 2] = [8, 1];
const NOT_SERVING: [u8; 2] = [8, 2];

/// Fields of a message that are looked at between two looks at the clock: some 50 µs.
const UNIT_FIELDS: usize = 4096;

/// Text of a snappy block between two looks at the clock.
const UNSNAPPY_UNIT_BYTES: usize = 128 << 10;

/// Tenants of one request that are written for at once.
const TENANTS_AT_ONCE: usize = 16;

/// Longer texts of errors are cut: they are headers.
const MESSAGE_BYTES_MAX: usize = 1024;

/// How a message of a peer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Stream,
    Block,
}

impl Compression {
    fn of(headers: &HeaderMap) -> Result<Compression, WriteError> {
        let Some(value) = headers.get("grpc-encoding") else { return Ok(Compression::None) };
        match value.as_bytes() {
            b"identity" => Ok(Compression::None),
            b"snappy" => Ok(Compression::Stream),
            b"annulus-snappy-block" => Ok(Compression::Block),
            other => Err(WriteError::PeerEncoding {
                encoding: String::from_utf8_lossy(&other[..other.len().min(64)]).into_owned(),
            }),
        }
    }
}

/// Whether a request is one of gRPC, by its media type.
pub fn is_grpc(head: &Parts) -> bool {
    let media_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = media_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
}

/// Answers one gRPC request; `is_ready` is what a health check is told.
pub async fn answer<B>(write: &WriteHandler, head: &Parts, body: B, is_ready: bool) -> Response<Reply>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    if head.version != Version::HTTP_2 || head.method != Method::POST {
        discard(body).await;
        let mut response = Response::new(Reply::from("gRPC is spoken over HTTP/2 with POST\n"));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    match head.uri.path() {
        REMOTE_WRITE => {
            let answer = write.handle_peer(&head.headers, body).await;
            if answer.code == Code::Ok { success(&[]) } else { failure(answer.code, &answer.text) }
        }
        // Whatever service it asks for: they stand and fall together.
        HEALTH_CHECK => {
            discard(body.as_mut()).await;
            success(if is_ready { &SERVING } else { &NOT_SERVING })
        }
        path => {
            let text = format!("this node has no method {path}");
            discard(body).await;
            failure(Code::Unimplemented, &text)
        }
    }
}

impl WriteHandler {
    /// Reads what a peer sends, writes it here and nowhere else, answers, and counts.
    async fn handle_peer<B>(&self, headers: &HeaderMap, mut body: Pin<&mut B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let began = monotonic_now();
        let in_flight = InFlight::new(self.grpc_metrics.pending.clone());
        let written = self.write_of_peer(headers, body.as_mut()).await;
        drop(in_flight);
        if written.is_err() {
            discard(body).await;
        }
        let answer = match written {
            Ok(outcome) => Answer::of_outcome(outcome, Form::RemoteWrite1),
            Err(error) => Answer::of(&error),
        };
        self.grpc_metrics.count(answer.code, (monotonic_now() - began).as_secs_f64());
        answer
    }

    async fn write_of_peer<B>(&self, headers: &HeaderMap, body: Pin<&mut B>) -> Result<Outcome, WriteError>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let compression = Compression::of(headers)?;
        let mut permit = self.admission.enter()?;
        let sent = self.read_in_time(headers, body, &mut permit).await?;
        let message = self.message(&sent, compression, &mut permit).await?;
        drop(sent);
        let (mut splitter, mut pacer) = (Splitter::default(), Pacer::default());
        while !splitter.run(&message, UNIT_FIELDS)? {
            pacer.pace().await;
        }
        permit.grow(splitter.copied_bytes())?;
        let PeerRequest { replica: _, parts } = splitter.finish(message)?;
        for part in &parts {
            if !part.tenant.is_empty() && !is_tenant_name(&part.tenant) {
                return Err(WriteError::Tenant { tenant: part.tenant.clone() });
            }
        }
        let permit = SharedPermit(Rc::new(RefCell::new(permit)));
        let parts = parts.into_iter().map(|part| self.write_part_of_peer(part, permit.clone()));
        let mut parts = futures::stream::iter(parts).buffer_unordered(TENANTS_AT_ONCE);
        let (mut outcome, mut first_error) = (Outcome::default(), None);
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => outcome.merge(&part),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(outcome), Err)
    }

    async fn write_part_of_peer(&self, part: TenantBody, held: SharedPermit) -> Result<Outcome, WriteError> {
        let TenantBody { tenant, body } = part;
        let tenant = if tenant.is_empty() { &self.limits.default_tenant } else { &tenant };
        let decoder = Decoder::new(Form::RemoteWrite1, self.limits.decoded_bytes_max);
        Ok(self.dispatcher.write(tenant, Origin::Peer, body, decoder, held).await?.1)
    }

    /// The decompressed message of a request.
    async fn message(
        &self,
        sent: &[u8],
        compression: Compression,
        permit: &mut Permit,
    ) -> Result<Vec<u8>, WriteError> {
        let (is_compressed, message) = unframe(sent)?;
        let (mut decoded, bytes_max) = (self.dispatcher.spare_body(), self.limits.decoded_bytes_max);
        let mut pacer = Pacer::default();
        decoded.clear();
        match compression {
            _ if !is_compressed => {
                permit.grow(message.len())?;
                decoded.extend_from_slice(message);
            }
            Compression::None => return Err(WriteError::PeerEncoding { encoding: "none".to_owned() }),
            Compression::Stream => {
                let mut step = Unstream::new(message, bytes_max)?;
                loop {
                    let bytes_before = decoded.capacity();
                    let is_done = step.run(message, &mut decoded)?;
                    permit.grow(decoded.capacity().saturating_sub(bytes_before))?;
                    if is_done {
                        break;
                    }
                    pacer.pace().await;
                }
            }
            Compression::Block => {
                let mut step = Unsnappy::new(message, bytes_max)?;
                permit.grow(step.declared_bytes())?;
                while !step.run(message, &mut decoded, UNSNAPPY_UNIT_BYTES)? {
                    pacer.pace().await;
                }
            }
        }
        Ok(decoded)
    }
}

/// The memory of one request whose parts are written at once.
#[derive(Clone)]
struct SharedPermit(Rc<RefCell<Permit>>);

impl Held for SharedPermit {
    fn grow(&mut self, bytes: usize) -> Result<(), WriteError> {
        self.0.borrow_mut().grow(bytes)
    }
}

fn success(message: &[u8]) -> Response<Reply> {
    let mut framed = Vec::with_capacity(FRAME_HEAD_BYTES + message.len());
    put_frame(&mut framed, false, |out| out.extend_from_slice(message));
    let trailers = HeaderMap::from_iter([grpc_status(Code::Ok)]);
    let mut response = Response::new(Reply::with_trailers(framed.into(), trailers));
    say_what_is_spoken(response.headers_mut());
    response
}

/// An answer of trailers only: they are the headers of an answer without a body.
fn failure(code: Code, text: &str) -> Response<Reply> {
    let mut response = Response::new(Reply::default());
    let headers = response.headers_mut();
    say_what_is_spoken(headers);
    headers.extend([grpc_status(code)]);
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(text)) {
        headers.insert("grpc-message", message);
    }
    response
}

fn grpc_status(code: Code) -> (http::HeaderName, HeaderValue) {
    (http::HeaderName::from_static("grpc-status"), HeaderValue::from(code as u16))
}

fn say_what_is_spoken(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static(ENCODINGS));
}

/// A status message as the protocol wants it: printable ASCII, anything else and the percent sign in hexadecimal.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if encoded.len() >= MESSAGE_BYTES_MAX {
            break;
        }
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte as char),
            _ => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    encoded.push(
                        char::from_digit(u32::from(digit), 16)
                            .map_or('0', |digit| digit.to_ascii_uppercase()),
                    );
                }
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_errors_are_printable() {
        assert_eq!(percent_encoded("a 100% \"é\"\n"), "a 100%25 \"%C3%A9\"%0A");
        assert!(percent_encoded(&"é".repeat(10_000)).len() <= MESSAGE_BYTES_MAX + 2);
    }

    #[test]
    fn grpc_is_told_by_its_media_type() {
        for (media_type, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; x=y", true),
            ("application/grpc-web", false),
            ("application/x-protobuf", false),
        ] {
            let request = http::Request::builder().header(CONTENT_TYPE, media_type).body(()).unwrap();
            assert_eq!(is_grpc(&request.into_parts().0), is, "{media_type}");
        }
        assert!(!is_grpc(&http::Request::new(()).into_parts().0));
    }
}
