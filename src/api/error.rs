//! What a client of the query API is told when there is no answer: the only place where an error of the query plane
//! meets an HTTP status.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::json;
use crate::promql::parser::lacks_room;
use crate::promql::value::{ParseError, QueryError};
use crate::source::SourceError;

/// Prometheus' kinds of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong.
    BadData,
    /// The query is right, but has no value on this data.
    Execution,
    /// It took too long.
    Timeout,
    /// Nobody waits any more.
    Canceled,
    /// A fault of this process or of its data.
    Internal,
    /// May work later.
    Unavailable,
    /// No such page.
    NotFound,
    /// The page exists, for another method.
    MethodNotAllowed,
    /// A body over the limit.
    TooLarge,
}

impl ErrorKind {
    /// The name in `errorType`.
    fn name(self) -> &'static str {
        match self {
            // Prometheus has no names of its own for the last two.
            ErrorKind::BadData | ErrorKind::MethodNotAllowed | ErrorKind::TooLarge => "bad_data",
            ErrorKind::Execution => "execution",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Internal => "internal",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::NotFound => "not_found",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            ErrorKind::BadData => StatusCode::BAD_REQUEST,
            ErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::Unavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// An answer that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    /// What kind.
    pub kind: ErrorKind,
    /// The sentence for people.
    pub text: String,
}

impl ApiError {
    /// An error of any kind.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> ApiError {
        ApiError { kind, text: text.into() }
    }

    /// A parameter that is wrong, in Prometheus' words.
    pub fn parameter(name: &str, reason: impl std::fmt::Display) -> ApiError {
        ApiError::new(ErrorKind::BadData, format!("invalid parameter {name:?}: {reason}"))
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        let kind = match &error {
            QueryError::Parse(error) => parse_kind(error),
            QueryError::Parameter { .. } => ErrorKind::BadData,
            QueryError::Execution(_) | QueryError::TooManySamples => ErrorKind::Execution,
            QueryError::Timeout => ErrorKind::Timeout,
            QueryError::Canceled => ErrorKind::Canceled,
            QueryError::Source(source) => source_kind(source),
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> ApiError {
        ApiError::new(source_kind(&error), error.to_string())
    }
}

/// What an error of the parser is to a client.
pub fn parse_kind(error: &ParseError) -> ErrorKind {
    if lacks_room(error) { ErrorKind::Unavailable } else { ErrorKind::BadData }
}

fn source_kind(error: &SourceError) -> ErrorKind {
    match error {
        SourceError::Unavailable(_) => ErrorKind::Unavailable,
        SourceError::Corrupt(_) => ErrorKind::Internal,
        SourceError::TooLarge { .. } => ErrorKind::Execution,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json::error(self.kind.status(), self.kind.name(), &self.text);
        forbid_caching(&mut response);
        response
    }
}

/// A cache in between must not answer later requests with this, as Thanos asks for errors and partial answers.
pub fn forbid_caching(response: &mut Response) {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_shards::matcher::MatcherError;

    use crate::promql::ast::Span;

    #[test]
    fn every_error_has_its_row() {
        let parse =
            ParseError { message: "unexpected \")\"".into(), line: 1, column: 3, span: Span::default() };
        let no_room = ParseError { message: MatcherError::NO_ROOM.to_string(), ..parse.clone() };
        for (error, status, name) in [
            (QueryError::Parse(parse), 400, "bad_data"),
            (QueryError::Parse(no_room), 503, "unavailable"),
            (QueryError::Parameter { name: "step", reason: "zero".into() }, 400, "bad_data"),
            (QueryError::Execution("many-to-many".into()), 422, "execution"),
            (QueryError::TooManySamples, 422, "execution"),
            (QueryError::Timeout, 503, "timeout"),
            (QueryError::Canceled, 503, "canceled"),
            (QueryError::Source(SourceError::Unavailable("replay".into())), 503, "unavailable"),
            (QueryError::Source(SourceError::Corrupt("crc".into())), 500, "internal"),
            (QueryError::Source(SourceError::TooLarge { bytes_max: 1 }), 422, "execution"),
        ] {
            let error = ApiError::from(error);
            assert_eq!((error.kind.status().as_u16(), error.kind.name()), (status, name), "{error}");
        }
        assert_eq!(ErrorKind::NotFound.status().as_u16(), 404);
        assert_eq!(ErrorKind::MethodNotAllowed.status().as_u16(), 405);
        assert_eq!(ErrorKind::TooLarge.status().as_u16(), 413);
    }
}
