//! What the server says: content within a bound, and errors as values.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::bucket::error::BucketError;

/// No listing and no error is longer than this.
pub(super) const XML_BYTES_MAX: u64 = 16 << 20;

/// The body of an error answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "Error", rename_all = "PascalCase")]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// An answer that was received completely.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Receives an answer. `wait_max` bounds the wait for the next bytes, `bytes_max` the body.
    pub(super) async fn receive(
        name: &str,
        mut response: reqwest::Response,
        wait_max: Duration,
        bytes_max: u64,
    ) -> Result<Answer, BucketError> {
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        // An error may be longer than the few bytes that were asked for.
        let bytes_max = if status.is_success() { bytes_max } else { XML_BYTES_MAX };
        let announced = response.content_length().unwrap_or(0);
        let mut body = BytesMut::with_capacity(usize::try_from(announced.min(bytes_max)).unwrap_or(0));
        loop {
            let chunk = timeout(wait_max, response.chunk())
                .await
                .map_err(|_| BucketError::Stalled { name: name.to_owned(), waited: wait_max })?
                .map_err(|error| transport(name, error))?;
            let Some(chunk) = chunk else { break };
            if (body.len() + chunk.len()) as u64 > bytes_max {
                let reason = format!("it is longer than {bytes_max} bytes");
                return Err(BucketError::Answer { name: name.to_owned(), reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }

    /// The answer, unless its status is that of an error.
    pub(super) fn success(self, name: &str) -> Result<Answer, BucketError> {
        if self.status.is_success() { Ok(self) } else { Err(self.to_error(name, self.status)) }
    }

    /// The answer to a request that takes long: S3 may begin to answer with 200 and report an error in the body.
    pub(super) fn success_in_body(self, name: &str) -> Result<Answer, BucketError> {
        let answer = self.success(name)?;
        if answer.error().is_some() {
            return Err(answer.to_error(name, StatusCode::INTERNAL_SERVER_ERROR));
        }
        Ok(answer)
    }

    fn to_error(&self, name: &str, status: StatusCode) -> BucketError {
        let ErrorBody { code, message } = self.error().unwrap_or_default();
        let name = name.to_owned();
        match status {
            // A bucket that is missing is a mistake, not an object that may come.
            StatusCode::NOT_FOUND if code != "NoSuchBucket" => BucketError::NotFound { name },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let reason = if code.is_empty() { status.to_string() } else { format!("{code}: {message}") };
                BucketError::AccessDenied { name, reason }
            }
            status => BucketError::Status { name, status: status.as_u16(), code, message },
        }
    }

    /// The body as a document.
    pub(super) fn xml<T: DeserializeOwned>(&self, name: &str) -> Result<T, BucketError> {
        let wrong = |reason: String| BucketError::Answer { name: name.to_owned(), reason };
        let text = std::str::from_utf8(&self.body).map_err(|error| wrong(error.to_string()))?;
        quick_xml::de::from_str(text).map_err(|error| wrong(error.to_string()))
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn error(&self) -> Option<ErrorBody> {
        let text = std::str::from_utf8(&self.body).ok()?;
        // quick-xml does not compare the name of a document's root with that of the type.
        let root = text.trim_start_matches('\u{feff}').trim_start();
        let root = root
            .strip_prefix("<?xml")
            .map_or(root, |rest| rest.split_once("?>").map_or("", |(_, rest)| rest));
        if !root.trim_start().starts_with("<Error") {
            return None;
        }
        quick_xml::de::from_str(text).ok()
    }
}

/// An error of the HTTP client, without its URL: that of an upload holds a signature.
pub(super) fn transport(name: &str, error: reqwest::Error) -> BucketError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    BucketError::Transport { name: name.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Result<Answer, BucketError> {
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::from_static(body.as_bytes());
        Answer { status, headers: http::HeaderMap::new(), body }.success_in_body("x")
    }

    const DENIED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SignatureDoesNotMatch</Code><Message>The key is wrong.</Message><Resource>/b/x</Resource></Error>"#;

    #[test]
    fn errors_are_told_apart_by_status_and_code() {
        assert!(answer(200, "<ListBucketResult/>").is_ok());
        assert!(answer(404, "").unwrap_err().is_not_found());
        let missing_bucket = answer(404, "<Error><Code>NoSuchBucket</Code></Error>").unwrap_err();
        assert!(!missing_bucket.is_not_found() && !missing_bucket.is_retryable());
        let denied = answer(403, DENIED).unwrap_err();
        assert!(
            denied.is_access_denied()
                && denied.to_string().contains("SignatureDoesNotMatch: The key is wrong.")
        );
        assert!(answer(503, "<html>busy</html>").unwrap_err().is_retryable());
        assert!(answer(429, "").unwrap_err().is_retryable());
        assert!(!answer(501, "").unwrap_err().is_retryable());
    }

    #[test]
    fn an_error_inside_a_success_is_an_error() {
        let error = answer(200, "<Error><Code>InternalError</Code><Message>m</Message></Error>").unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
}
