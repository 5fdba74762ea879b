//! What a sender is told: the only place of the ingest plane where an error meets an HTTP status.
//!
//! Prometheus retries 5xx for ever and 429 when told to; it drops the data on any other 4xx. So a permanent error
//! is never 5xx, and whatever may succeed later is never 4xx. Thanos Receive's codes are kept where it has one.

use std::time::Duration;

use http::StatusCode;

use crate::core::{Failure, Outcome, Reason};
use crate::wire::otlp::OtlpError;
use crate::wire::{GzipError, SnappyError, WireError};

/// Why a write request was not, or not wholly, stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another method than POST.
    #[error("write requests are sent with POST")]
    Method,
    /// A remote write version or media type that this version does not read.
    #[error(
        "remote write 2.0 is not supported by this version: send 1.0 (prometheus.yml: remote_write: \
         protobuf_message: prometheus.WriteRequest)"
    )]
    MediaType,
    /// A tenant name that cannot be one.
    #[error(
        "{tenant:?} is not a tenant name: it must not be empty, longer than {TENANT_BYTES_MAX} bytes, or hold a /"
    )]
    Tenant {
        /// What the header said.
        tenant: String,
    },
    /// A body over the limit.
    #[error("the body has more than {bytes_max} bytes")]
    BodyTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The sender stopped sending.
    #[error("the body did not arrive within {seconds} seconds", seconds = limit.as_secs())]
    BodyTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The connection broke inside the body.
    #[error("the body ended early: {0}")]
    BodyBroken(String),
    /// Not snappy, or too much of it.
    #[error(transparent)]
    Snappy(#[from] SnappyError),
    /// Not a write request.
    #[error("the body is not a prometheus.WriteRequest that this node takes: {0}")]
    Wire(#[from] WireError),
    /// OTLP in another form than protobuf.
    #[error("OTLP is taken as protobuf (Content-Type: application/x-protobuf) only")]
    OtlpMediaType,
    /// OTLP compressed in a way that this version does not read.
    #[error("OTLP is taken with Content-Encoding gzip or identity only")]
    OtlpEncoding,
    /// Not gzip, or too much of it.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// Not an OTLP request, or one that becomes too large.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// Too many bytes of requests are in memory already.
    #[error("{inflight_bytes} bytes of write requests are in progress, as many as are allowed")]
    Busy {
        /// Bytes in memory.
        inflight_bytes: usize,
    },
    /// Some samples could not be taken for now.
    #[error("{}", failure_text(*failure))]
    Failed {
        /// Why.
        failure: Failure,
    },
    /// Some samples were refused for good; the others are stored.
    #[error("{}", refused_text(outcome))]
    Refused {
        /// The counts.
        outcome: Box<Outcome>,
    },
}

/// The longest tenant name in bytes.
pub const TENANT_BYTES_MAX: usize = 255;

/// Status, text and when to come back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body, plain text; empty on success.
    pub text: String,
    /// `Retry-After` in seconds.
    pub retry_after_seconds: Option<u32>,
}

impl Answer {
    /// 200 with an empty body, as Thanos Receive answers.
    pub fn success() -> Answer {
        Answer { status: StatusCode::OK, text: String::new(), retry_after_seconds: None }
    }

    /// The answer to a write that meets a node which has stopped.
    pub fn stopping() -> Answer {
        Answer::of(&WriteError::Failed { failure: Failure::Stopping })
    }

    /// The table. No `_` arm: a new variant has to be placed.
    pub fn of(error: &WriteError) -> Answer {
        let (status, retry_after_seconds) = match error {
            WriteError::Method => (StatusCode::METHOD_NOT_ALLOWED, None),
            WriteError::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            WriteError::Tenant { .. } => (StatusCode::BAD_REQUEST, None),
            WriteError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
            // 408 and 400 would make a sender drop what a slow or broken network kept from arriving.
            WriteError::BodyTimeout { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            WriteError::BodyBroken(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            WriteError::Snappy(SnappyError::Invalid(_)) => (StatusCode::BAD_REQUEST, None),
            WriteError::Snappy(SnappyError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Wire(error) | WriteError::Otlp(OtlpError::Wire(error)) => (wire_status(error), None),
            WriteError::OtlpMediaType | WriteError::OtlpEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, None)
            }
            WriteError::Gzip(GzipError::Invalid(_)) => (StatusCode::BAD_REQUEST, None),
            WriteError::Gzip(GzipError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Otlp(OtlpError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            WriteError::Failed { failure } => (
                StatusCode::SERVICE_UNAVAILABLE,
                Some(match failure {
                    Failure::QueueFull => 1,
                    Failure::RingFull | Failure::ChunkUnreadable => 5,
                    Failure::Recovering => 2,
                    Failure::Stopping => 1,
                    Failure::NotStarted => 30,
                    Failure::Poisoned => 30,
                    Failure::HeadFull | Failure::HeadMemory | Failure::DiskFull => 30,
                }),
            ),
            // The head's refusals are 409 in Thanos Receive. It has no native-histogram refusal; the sender
            // must not retry one, so 4xx.
            WriteError::Refused { outcome } if outcome.refused[Reason::Histogram as usize] > 0 => {
                (StatusCode::BAD_REQUEST, None)
            }
            WriteError::Refused { .. } => (StatusCode::CONFLICT, None),
        };
        Answer { status, text: error.to_string(), retry_after_seconds }
    }

    /// The answer to a request that reached its owners: a part that may succeed later makes all of it retryable.
    pub fn of_outcome(outcome: Outcome) -> Answer {
        if let Some(failure) = outcome.failure {
            return Answer::of(&WriteError::Failed { failure });
        }
        if outcome.refused_count() > 0 {
            return Answer::of(&WriteError::Refused { outcome: Box::new(outcome) });
        }
        Answer::success()
    }
}

fn wire_status(error: &WireError) -> StatusCode {
    match error {
        WireError::TooManySamples => StatusCode::PAYLOAD_TOO_LARGE,
        WireError::Truncated { .. } | WireError::Malformed { .. } | WireError::WireType { .. } => {
            StatusCode::BAD_REQUEST
        }
    }
}

fn failure_text(failure: Failure) -> &'static str {
    match failure {
        Failure::QueueFull => "the queue to the shard that owns some of the series is full",
        Failure::RingFull => "the write-ahead log is full until the next checkpoint",
        Failure::Poisoned => {
            "a write to the write-ahead log failed; this node takes no more writes until it is restarted"
        }
        Failure::Recovering => "the node replays its write-ahead log",
        Failure::Stopping => "the node is stopping",
        Failure::NotStarted => "a shard of this node could not start; its log says why",
        Failure::HeadFull => "the head has as many series as it can number",
        Failure::ChunkUnreadable => {
            "the disk does not give a chunk that old samples have to be compared with"
        }
        Failure::DiskFull => "the disk has less free space than this node keeps",
        Failure::HeadMemory => "the samples and series in memory have reached their limit",
    }
}

fn refused_text(outcome: &Outcome) -> String {
    let counts: Vec<String> = Reason::ALL
        .iter()
        .filter(|reason| outcome.refused[**reason as usize] > 0)
        .map(|reason| format!("{} samples: {}", outcome.refused[*reason as usize], reason.text()))
        .collect();
    let first =
        outcome.first_refusal.as_ref().map(|refusal| format!("; first: {refusal}")).unwrap_or_default();
    format!("{}{first}; {} samples stored", counts.join("; "), outcome.written + outcome.repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: WriteError) -> (u16, Option<u32>) {
        let answer = Answer::of(&error);
        assert!(!answer.text.is_empty());
        (answer.status.as_u16(), answer.retry_after_seconds)
    }

    #[test]
    fn every_error_has_its_row() {
        assert_eq!(status(WriteError::Method), (405, None));
        assert_eq!(status(WriteError::MediaType), (415, None));
        assert_eq!(status(WriteError::Tenant { tenant: "a/b".into() }), (400, None));
        assert_eq!(status(WriteError::BodyTooLarge { bytes_max: 1 }), (413, None));
        assert_eq!(status(WriteError::BodyTimeout { limit: Duration::from_secs(1) }), (503, Some(1)));
        assert_eq!(status(WriteError::BodyBroken("reset".into())), (503, Some(1)));
        assert_eq!(status(WriteError::Snappy(SnappyError::Invalid(snap::Error::Empty))), (400, None));
        let bomb = SnappyError::TooLarge { declared_bytes: 9, bytes_max: 1 };
        assert_eq!(status(WriteError::Snappy(bomb)), (413, None));
        assert_eq!(status(WriteError::Wire(WireError::Truncated { offset: 0 })), (400, None));
        assert_eq!(status(WriteError::Wire(WireError::TooManySamples)), (413, None));
        assert_eq!(status(WriteError::OtlpMediaType), (415, None));
        assert_eq!(status(WriteError::OtlpEncoding), (415, None));
        let broken = std::io::Error::other("broken");
        assert_eq!(status(WriteError::Gzip(GzipError::Invalid(broken))), (400, None));
        assert_eq!(status(WriteError::Gzip(GzipError::TooLarge { bytes_max: 1 })), (413, None));
        assert_eq!(status(WriteError::Otlp(WireError::Malformed { offset: 0 }.into())), (400, None));
        assert_eq!(status(WriteError::Otlp(WireError::TooManySamples.into())), (413, None));
        assert_eq!(status(WriteError::Otlp(OtlpError::TooLarge { bytes_max: 1 })), (413, None));
        assert_eq!(status(WriteError::Busy { inflight_bytes: 1 }), (503, Some(1)));
        for (failure, seconds) in [
            (Failure::QueueFull, 1),
            (Failure::RingFull, 5),
            (Failure::Recovering, 2),
            (Failure::Stopping, 1),
            (Failure::NotStarted, 30),
            (Failure::Poisoned, 30),
            (Failure::HeadFull, 30),
            (Failure::HeadMemory, 30),
            (Failure::DiskFull, 30),
            (Failure::ChunkUnreadable, 5),
        ] {
            assert_eq!(status(WriteError::Failed { failure }), (503, Some(seconds)), "{failure:?}");
        }
        for (reason, code) in [
            (Reason::OutOfOrder, 409),
            (Reason::Conflict, 409),
            (Reason::TooOld, 409),
            (Reason::TooFarAhead, 409),
            (Reason::InvalidLabels, 409),
            (Reason::Histogram, 400),
        ] {
            let mut outcome = Outcome::default();
            outcome.refused[reason as usize] = 1;
            assert_eq!(
                status(WriteError::Refused { outcome: Box::new(outcome) }),
                (code, None),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn one_retryable_part_makes_the_request_retryable() {
        let mut outcome = Outcome { failure: Some(Failure::QueueFull), written: 5, ..Outcome::default() };
        outcome.refused[Reason::Conflict as usize] = 3;
        assert_eq!(Answer::of_outcome(outcome).status.as_u16(), 503);
    }
}
