//! What a write request says that its body is: the message and how it is compressed.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::status::WriteError;
use crate::wire::Form;

/// The version header of remote write.
const VERSION_HEADER: &str = "x-prometheus-remote-write-version";

/// The media type of both versions.
const MEDIA_TYPE: &str = "application/x-protobuf";

/// The longest part of a header that is quoted in an answer, in characters.
const QUOTED_CHARS_MAX: usize = 100;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A snappy block.
    Snappy,
    /// Zstd frames.
    Zstd,
}

/// Reads the headers.
///
/// # Errors
/// When they name a message or a compression that is not read here.
pub fn negotiate(headers: &HeaderMap) -> Result<(Form, Encoding), WriteError> {
    Ok((form(headers)?, encoding(headers)?))
}

/// The parameter `proto` of the media type decides. Thanos Receive takes whatever another media type names for 1.0, and
/// so does this, unless the sender says that it speaks 2.0 or names its message.
fn form(headers: &HeaderMap) -> Result<Form, WriteError> {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let content_type = String::from_utf8_lossy(content_type);
    let refuse = || WriteError::MediaType { content_type: quoted(&content_type) };
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((&content_type, ""));
    if !media_type.trim().eq_ignore_ascii_case(MEDIA_TYPE) {
        let is_version_2 =
            headers.get(VERSION_HEADER).is_some_and(|version| version.as_bytes().starts_with(b"2."));
        let names_version_2 = content_type.contains("write.v2.Request");
        return if is_version_2 || names_version_2 { Err(refuse()) } else { Ok(Form::RemoteWrite1) };
    }
    for parameter in parameters.split(';') {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("proto") {
            continue;
        }
        return match value.trim().trim_matches('"') {
            "prometheus.WriteRequest" => Ok(Form::RemoteWrite1),
            "io.prometheus.write.v2.Request" => Ok(Form::RemoteWrite2),
            _ => Err(refuse()),
        };
    }
    Ok(Form::RemoteWrite1)
}

/// Senders of 1.0 that name no compression mean snappy: the version has no other.
fn encoding(headers: &HeaderMap) -> Result<Encoding, WriteError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Snappy) };
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "snappy" => Ok(Encoding::Snappy),
        "zstd" => Ok(Encoding::Zstd),
        _ => Err(WriteError::Encoding { encoding: quoted(&text) }),
    }
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_content_type_names_the_message() {
        let of = |content_type| form(&headers(&[("content-type", content_type)]));
        for first in [
            "application/x-protobuf",
            "application/x-protobuf;proto=prometheus.WriteRequest",
            "Application/X-Protobuf; charset=utf-8; Proto=\"prometheus.WriteRequest\"",
        ] {
            assert!(matches!(of(first), Ok(Form::RemoteWrite1)), "{first}");
        }
        for second in [
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "application/x-protobuf; proto=\"io.prometheus.write.v2.Request\"",
        ] {
            assert!(matches!(of(second), Ok(Form::RemoteWrite2)), "{second}");
        }
        for other in [
            "application/x-protobuf;proto=io.prometheus.write.v3.Request",
            "application/x-protobuf;proto=",
            "text/plain;proto=io.prometheus.write.v2.Request",
        ] {
            let Err(WriteError::MediaType { content_type }) = of(other) else { panic!("{other}") };
            assert_eq!(content_type, other);
        }
    }

    #[test]
    fn what_names_no_message_is_1_0_unless_it_says_2_0() {
        for accepted in [
            &[][..],
            &[("content-type", "text/plain"), (VERSION_HEADER, "0.1.0")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[("content-type", "application/x-protobuf"), (VERSION_HEADER, "2.0.0")],
        ] {
            assert!(matches!(form(&headers(accepted)), Ok(Form::RemoteWrite1)), "{accepted:?}");
        }
        for refused in
            [&[(VERSION_HEADER, "2.0.0")][..], &[("content-type", "text/plain"), (VERSION_HEADER, "2.1.0")]]
        {
            assert!(matches!(form(&headers(refused)), Err(WriteError::MediaType { .. })), "{refused:?}");
        }
    }

    #[test]
    fn the_content_encoding_is_snappy_or_zstd() {
        let of = |value| encoding(&headers(&[("content-encoding", value)]));
        assert!(matches!(encoding(&headers(&[])), Ok(Encoding::Snappy)));
        assert!(matches!(of("Snappy"), Ok(Encoding::Snappy)));
        assert!(matches!(of("zstd"), Ok(Encoding::Zstd)));
        for other in ["gzip", "snappy, zstd", "identity"] {
            assert!(matches!(of(other), Err(WriteError::Encoding { .. })), "{other}");
        }
        let long = http::HeaderValue::from_str(&"x".repeat(1000)).unwrap();
        let mut headers = headers(&[]);
        headers.insert(CONTENT_ENCODING, long);
        let Err(WriteError::Encoding { encoding }) = encoding(&headers) else { panic!("it was taken") };
        assert_eq!(encoding.len(), QUOTED_CHARS_MAX);
    }
}
