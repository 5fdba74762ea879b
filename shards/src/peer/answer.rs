//! The answer to a request: HTTP status, headers, a message without content, trailers. None of it is believed unseen.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::failure::PeerFailure;
use super::frame::unframe;
use super::status::Code;

/// The most of an answer's body that is read. The message of an answer is empty.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// The longest text of a peer that is passed on, in bytes.
const MESSAGE_BYTES_MAX: usize = 512;

/// How servers of gRPC begin when a message is too large for them, those in Go and those on hyper.
const TOO_LARGE_TEXTS: [&str; 2] = ["larger than max", "too large"];

/// Reads an answer to its end. An error of the connection underneath is [`PeerFailure::Unreachable`].
pub(super) async fn read<B>(response: http::Response<B>) -> Result<(), PeerFailure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (head, mut body) = response.into_parts();
    check_head(head.status, &head.headers)?;
    if head.headers.contains_key("grpc-status") {
        // An answer without a message: its headers are its trailers.
        let code = status(&head.headers)?;
        let ok_without_message = || broken("it says OK and has no message");
        return outcome(code, &head.headers).and_then(|()| Err(ok_without_message()));
    }
    let (mut message, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| PeerFailure::Unreachable {
            reason: format!("the answer was cut off: {error}"),
        })?;
        match frame.into_data() {
            Ok(data) if data.len() > ANSWER_BYTES_MAX - message.len() => {
                return Err(broken("its answer is longer than any"));
            }
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let trailers = trailers.ok_or_else(|| broken("its answer has no trailers"))?;
    outcome(status(&trailers)?, &trailers)?;
    match unframe(&message) {
        // Whatever it holds: there is no field that counts.
        Ok(_) => Ok(()),
        Err(error) => Err(broken(&format!("its answer is not a message: {error}"))),
    }
}

/// Proxies answer for a peer that they cannot reach with these statuses, which gRPC gives a meaning
/// (github.com/grpc/grpc, doc/http-grpc-status-mapping.md).
fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<(), PeerFailure> {
    match status.as_u16() {
        200 => {}
        429 | 502..=504 => {
            return Err(PeerFailure::Unavailable {
                message: format!("it answers with HTTP status {status}"),
            });
        }
        _ => return Err(broken(&format!("it answers with HTTP status {status}"))),
    }
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_grpc = content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    if is_grpc { Ok(()) } else { Err(broken("its answer is not gRPC")) }
}

/// The status, which is a number without a sign.
fn status(headers: &HeaderMap) -> Result<Code, PeerFailure> {
    let text = headers.get("grpc-status").ok_or_else(|| broken("its answer has no status"))?.as_bytes();
    let is_number = !text.is_empty() && text.len() <= 3 && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    number.map(Code::of_number).ok_or_else(|| broken("the status of its answer is not a number"))
}

/// What a code means for the request.
fn outcome(code: Code, headers: &HeaderMap) -> Result<(), PeerFailure> {
    let message = headers.get("grpc-message").map_or_else(String::new, |value| decoded(value.as_bytes()));
    Err(match code {
        Code::Ok => return Ok(()),
        Code::Unavailable => PeerFailure::Unavailable { message },
        Code::AlreadyExists => PeerFailure::Conflict { message },
        Code::InvalidArgument => PeerFailure::Refused { message },
        Code::ResourceExhausted if TOO_LARGE_TEXTS.iter().any(|text| message.contains(text)) => {
            PeerFailure::Refused { message }
        }
        Code::ResourceExhausted => PeerFailure::Limited { message },
        Code::Unimplemented => PeerFailure::Unimplemented { message },
        Code::DeadlineExceeded => PeerFailure::Timeout,
        Code::Internal => PeerFailure::Broken { reason: message },
    })
}

fn broken(reason: &str) -> PeerFailure {
    PeerFailure::Broken { reason: reason.to_owned() }
}

/// Undoes the percent encoding of a message and cuts it. What is not encoded well stays as it is, as gRPC wants it.
fn decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len().min(MESSAGE_BYTES_MAX));
    let mut at = 0;
    while at < text.len() && out.len() < MESSAGE_BYTES_MAX {
        let digits = text[at..].get(1..3).filter(|_| text[at] == b'%');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use futures::FutureExt;
    use http::HeaderValue;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        });
        pairs.collect()
    }

    /// The answer as it would come over a connection.
    fn read_now(
        status: u16,
        head: HeaderMap,
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) -> Result<(), PeerFailure> {
        let frames = [Some(Frame::data(Bytes::copy_from_slice(body))), trailers.map(Frame::trailers)];
        let frames = futures::stream::iter(frames.into_iter().flatten().map(Ok::<_, Infallible>));
        let mut response = http::Response::new(StreamBody::new(frames));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *response.headers_mut() = head;
        read(response).now_or_never().unwrap()
    }

    fn grpc() -> HeaderMap {
        headers(&[("content-type", b"application/grpc")])
    }

    #[test]
    fn each_code_has_its_failure() {
        for (code, text, reason) in [
            ("1", "canceled", "broken"),
            ("2", "", "broken"),
            ("3", "bad replica", "refused"),
            ("4", "", "timeout"),
            ("6", "out of order", "conflict"),
            ("8", "the tenant is at its limit", "limited"),
            ("8", "grpc: received message larger than max (5 vs. 4)", "refused"),
            ("12", "unknown service", "unimplemented"),
            ("13", "", "broken"),
            ("14", "", "unavailable"),
            ("99", "", "broken"),
            ("255", "", "broken"),
        ] {
            let trailers = headers(&[("grpc-status", code.as_bytes()), ("grpc-message", text.as_bytes())]);
            let failure = read_now(200, grpc(), b"", Some(trailers.clone())).unwrap_err();
            assert_eq!(PeerFailure::REASONS[failure.reason_index()], reason, "{code}");
            let mut only_headers = trailers;
            only_headers.extend(grpc());
            assert_eq!(read_now(200, only_headers, b"", None), Err(failure), "{code}");
        }
    }

    #[test]
    fn only_a_whole_answer_says_that_a_request_was_taken() {
        let ok = || Some(headers(&[("grpc-status", b"0")]));
        assert_eq!(read_now(200, grpc(), &[0; 5], ok()), Ok(()));
        let with_suffix = headers(&[("content-type", b"application/grpc+proto")]);
        assert_eq!(read_now(200, with_suffix, &[1, 0, 0, 0, 2, 7, 7], ok()), Ok(()));
        let mut headers_say_ok = grpc();
        headers_say_ok.extend(ok().unwrap());
        let too_long = [&[0, 0, 1, 0, 0][..], &[0; 1 << 16]].concat();
        for (status, head, body, trailers) in [
            (404, grpc(), &[0; 5][..], ok()),
            (200, HeaderMap::new(), &[0; 5], ok()),
            (200, headers(&[("content-type", b"application/grpcx")]), &[0; 5], ok()),
            (200, headers(&[("content-type", b"text/html")]), &[0; 5], ok()),
            (200, grpc(), &[0; 5], None),
            (200, grpc(), &[0; 5], Some(HeaderMap::new())),
            (200, grpc(), &[0; 4], ok()),
            (200, grpc(), &[0; 6], ok()),
            (200, grpc(), &[7, 0, 0, 0, 0], ok()),
            (200, grpc(), &too_long, ok()),
            (200, headers_say_ok, b"", None),
            (200, grpc(), &[0; 5], Some(headers(&[("grpc-status", b"")]))),
            (200, grpc(), &[0; 5], Some(headers(&[("grpc-status", b"+0")]))),
            (200, grpc(), &[0; 5], Some(headers(&[("grpc-status", b"0 ")]))),
            (200, grpc(), &[0; 5], Some(headers(&[("grpc-status", b"0000")]))),
            (200, grpc(), &[0; 5], Some(headers(&[("grpc-status", b"256")]))),
        ] {
            let told = format!("{status} {head:?} {trailers:?}");
            let failure = read_now(status, head, body, trailers);
            assert!(matches!(failure, Err(PeerFailure::Broken { .. })), "{told}: {failure:?}");
        }
        let failure = read_now(503, HeaderMap::new(), b"", None);
        assert!(matches!(failure, Err(PeerFailure::Unavailable { .. })));
    }

    #[test]
    fn messages_are_decoded_and_cut() {
        assert_eq!(
            decoded("out of order%20sample%0A%C3%A9 100% %zz %2".as_bytes()),
            "out of order sample é 100% %zz %2"
        );
        assert_eq!(decoded(&[b'x'; 10_000]).len(), MESSAGE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn random_answers_end_in_a_result(
            status in 100u16..600, body in proptest::collection::vec(any::<u8>(), 0..20),
            code in "[0-9a-z ]{0,4}", text in "[ -~]{0,40}", with_type: bool, with_trailers: bool,
        ) {
            let pairs = headers(&[("grpc-status", code.as_bytes()), ("grpc-message", text.as_bytes())]);
            let mut head = if with_type { grpc() } else { HeaderMap::new() };
            if !with_trailers {
                head.extend(pairs.clone());
            }
            let result = read_now(status, head, &body, with_trailers.then_some(pairs));
            if result.is_ok() {
                prop_assert!(status == 200 && with_type && with_trailers && unframe(&body).is_ok());
                prop_assert_eq!(code.parse::<u8>(), Ok(0));
            }
        }

        #[test]
        fn random_messages_are_text(text in proptest::collection::vec(any::<u8>(), 0..1000)) {
            prop_assert!(!decoded(&text).contains(char::is_control));
        }
    }
}
