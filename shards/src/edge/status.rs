//! What a sender is told: the only place of the ingest plane where an error meets an HTTP status.
//!
//! Prometheus retries 5xx for ever and 429 when told to; it drops the data on any other 4xx. So a permanent error
//! is never 5xx, and whatever may succeed later is never 4xx. Thanos Receive's codes are kept where it has one, for
//! remote write 1.0; 2.0 has a specification that names them.

use std::time::Duration;

use http::StatusCode;

use crate::core::{Failure, Outcome, Reason};
use crate::exemplars::ExemplarReason;
use crate::limits::{GateError, RequestLimitError};
use crate::peer::{Code, FrameError, MessageError, StreamError};
use crate::relabel::RewriteError;
use crate::wire::otlp::OtlpError;
use crate::wire::{Form, GzipError, SnappyError, WireError, ZstdError};

/// Why a write request was not, or not wholly, stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another method than POST.
    #[error("write requests are sent with POST")]
    Method,
    /// A message that is not read here.
    #[error(
        "content type {content_type:?} names no message that is read here: send application/x-protobuf, with \
         ;proto=prometheus.WriteRequest for remote write 1.0, ;proto=io.prometheus.write.v2.Request for 2.0"
    )]
    MediaType {
        /// What the header said, or its beginning.
        content_type: String,
    },
    /// A compression that is not read here.
    #[error("content encoding {encoding:?} is not read here: send snappy or zstd")]
    Encoding {
        /// What the header said, or its beginning.
        encoding: String,
    },
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
    /// The body hardly came any more, while others need the memory.
    #[error("the body hardly came any more, while {inflight_bytes} bytes of write requests are in progress")]
    BodyStalled {
        /// Bytes in memory.
        inflight_bytes: usize,
    },
    /// The connection broke inside the body.
    #[error("the body ended early: {0}")]
    BodyBroken(String),
    /// Not snappy, or too much of it.
    #[error(transparent)]
    Snappy(#[from] SnappyError),
    /// Not zstd, or too much of it.
    #[error(transparent)]
    Zstd(#[from] ZstdError),
    /// Not a write request.
    #[error("the body is not a write request that this node takes: {0}")]
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
    /// Not one framed message of gRPC.
    #[error("the request of a peer is not one gRPC message: {0}")]
    Frame(#[from] FrameError),
    /// A compression of gRPC messages that is not read here.
    #[error("grpc-encoding {encoding:?} is not read here: send identity or snappy")]
    PeerEncoding {
        /// What the header said, or its beginning.
        encoding: String,
    },
    /// Not a snappy stream, or too much of it.
    #[error("the message of a peer is not a snappy stream that this node takes: {0}")]
    Stream(#[from] StreamError),
    /// Not a request of a peer.
    #[error(transparent)]
    Peer(#[from] MessageError),
    /// Too many bytes of requests are in memory already.
    #[error("{inflight_bytes} bytes of write requests are in progress, as many as are allowed")]
    Busy {
        /// Bytes in memory.
        inflight_bytes: usize,
    },
    /// The process uses more memory than it may.
    #[error("the process uses {used_bytes} bytes of memory, more than the {bytes_max} that it may")]
    Memory {
        /// What it uses.
        used_bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The write gate is full.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The request is over a limit of its tenant.
    #[error(transparent)]
    Limit(#[from] RequestLimitError),
    /// The request cannot be relabelled, or not be split by tenant.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// Some samples could not be taken for now.
    #[error("{}", failure_text(*failure))]
    Failed {
        /// Why.
        failure: Failure,
    },
    /// Some samples were refused for good; the others are stored.
    #[error("{}", refused_text(outcome, *form))]
    Refused {
        /// The counts.
        outcome: Box<Outcome>,
        /// What the sender speaks.
        form: Form,
    },
}

/// The longest tenant name in bytes.
pub const TENANT_BYTES_MAX: usize = 255;

/// However long a limit asks for, a sender comes back to look.
const RETRY_SECONDS_MAX: u32 = 60;

/// How much of a request is stored and durable, whether by this request or by an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Written {
    fn of(outcome: &Outcome) -> Written {
        Written {
            samples: outcome.written + outcome.repeated,
            histograms: outcome.histograms_written,
            exemplars: outcome.exemplars_written,
        }
    }
}

/// Status, text, when to come back, and what is stored.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The status of gRPC, which peers are told.
    pub code: Code,
    /// The body, plain text; empty on success.
    pub text: String,
    /// `Retry-After` in seconds.
    pub retry_after_seconds: Option<u32>,
    /// Given when the request reached the owners of its series.
    pub written: Option<Written>,
}

impl Answer {
    /// An empty body, with Thanos Receive's status for 1.0 and that of the specification for 2.0.
    fn success(written: Written, form: Form) -> Answer {
        let status = match form {
            Form::RemoteWrite1 => StatusCode::OK,
            Form::RemoteWrite2 => StatusCode::NO_CONTENT,
        };
        Answer {
            status,
            code: Code::Ok,
            text: String::new(),
            retry_after_seconds: None,
            written: Some(written),
        }
    }

    /// The answer to a write that meets a node which has stopped.
    pub fn stopping() -> Answer {
        Answer::of(&WriteError::Failed { failure: Failure::Stopping })
    }

    /// The table. No `_` arm: a new variant has to be placed.
    pub fn of(error: &WriteError) -> Answer {
        let (status, retry_after_seconds) = match error {
            WriteError::Method => (StatusCode::METHOD_NOT_ALLOWED, None),
            WriteError::MediaType { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            WriteError::Encoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            WriteError::Tenant { .. } => (StatusCode::BAD_REQUEST, None),
            WriteError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
            // 408 and 400 would make a sender drop what a slow or broken network kept from arriving.
            WriteError::BodyTimeout { .. } | WriteError::BodyStalled { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(1))
            }
            WriteError::BodyBroken(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            WriteError::Snappy(SnappyError::Invalid(_)) => (StatusCode::BAD_REQUEST, None),
            WriteError::Snappy(SnappyError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Zstd(ZstdError::Invalid(_)) => (StatusCode::BAD_REQUEST, None),
            WriteError::Zstd(ZstdError::NoMemory) => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
            WriteError::Zstd(ZstdError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Wire(error) | WriteError::Otlp(OtlpError::Wire(error)) => (wire_status(error), None),
            WriteError::OtlpMediaType | WriteError::OtlpEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, None)
            }
            WriteError::Gzip(GzipError::Invalid(_)) => (StatusCode::BAD_REQUEST, None),
            WriteError::Gzip(GzipError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Otlp(OtlpError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Frame(_) | WriteError::Peer(_) => (StatusCode::BAD_REQUEST, None),
            WriteError::PeerEncoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            WriteError::Stream(StreamError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Stream(_) => (StatusCode::BAD_REQUEST, None),
            WriteError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            WriteError::Memory { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
            WriteError::Gate(GateError::TooManyWait | GateError::Timeout) => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(1))
            }
            WriteError::Limit(
                RequestLimitError::Bytes { .. }
                | RequestLimitError::Series { .. }
                | RequestLimitError::Samples { .. },
            ) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            WriteError::Limit(RequestLimitError::Rate { wait, .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, Some(retry_seconds(*wait)))
            }
            // Tenants that use nothing are forgotten within minutes, and make room.
            WriteError::Limit(RequestLimitError::Tenants { .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, Some(RETRY_SECONDS_MAX))
            }
            WriteError::Rewrite(RewriteError::TooLarge { .. } | RewriteError::TooManyTenants) => {
                (StatusCode::PAYLOAD_TOO_LARGE, None)
            }
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
            WriteError::Refused { outcome, form } => refused_status(outcome, *form),
        };
        let code = match error {
            // What is refused for good is Thanos' conflict, whatever HTTP calls it: a router answers 409 for it, and 500 for
            // any other code, which its sender would repeat for ever.
            WriteError::Refused { .. }
                if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
            {
                Code::AlreadyExists
            }
            _ => code_of(status),
        };
        Answer { status, code, text: error.to_string(), retry_after_seconds, written: None }
    }

    /// The answer to a request that reached its owners: a part that may succeed later makes all of it retryable.
    pub fn of_outcome(outcome: Outcome, form: Form) -> Answer {
        let written = Written::of(&outcome);
        if let Some(failure) = outcome.failure {
            let mut answer = Answer::of(&WriteError::Failed { failure });
            answer.text = format!("{}; {}", answer.text, counts_text(&outcome));
            return Answer { written: Some(written), ..answer };
        }
        if outcome.refused_count() > 0 || told_exemplars(&outcome, form).next().is_some() {
            let refused = WriteError::Refused { outcome: Box::new(outcome), form };
            return Answer { written: Some(written), ..Answer::of(&refused) };
        }
        Answer::success(written, form)
    }
}

/// The status of gRPC beside one of HTTP.
fn code_of(status: StatusCode) -> Code {
    match status {
        // What is too large never fits; ResourceExhausted is for what may pass later.
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Code::InvalidArgument,
        StatusCode::CONFLICT => Code::AlreadyExists,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// What may succeed later comes first: a request of which a part may be sent again is one that may be. The head's
/// refusals are 409 in Thanos Receive, its head series limit is 429. It has no refusal of native histograms; the sender
/// must not retry one, so 4xx.
fn refused_status(outcome: &Outcome, form: Form) -> (StatusCode, Option<u32>) {
    let has = |reason: Reason| outcome.refused[reason as usize] > 0;
    if has(Reason::MemoryLimit) {
        (StatusCode::SERVICE_UNAVAILABLE, Some(5))
    } else if has(Reason::SeriesLimit) {
        (StatusCode::TOO_MANY_REQUESTS, Some(5))
    } else if has(Reason::TenantLimit) {
        (StatusCode::TOO_MANY_REQUESTS, Some(RETRY_SECONDS_MAX))
    } else if form == Form::RemoteWrite2 || has(Reason::InvalidHistogram) || has(Reason::Tenant) {
        // Remote write 2.0 has 400 for whatever is refused for good.
        (StatusCode::BAD_REQUEST, None)
    } else {
        (StatusCode::CONFLICT, None)
    }
}

/// Whether a sender is told that an exemplar was refused. The specification of 2.0 has no word on it: Prometheus (3.x, the
/// write handler) answers 400 for one that is out of order or cannot be read, and only logs any other refusal (too long, too
/// far in the future, an unknown series); for 1.0 it only logs all of them. Thanos Receive, whose answers 1.0 gets here, has
/// 409 for one that is out of order or too long. In either, a repeat is a success, and so is what comes while exemplars are
/// switched off; the counts of the answer say how many are stored.
fn is_told(reason: ExemplarReason, form: Form) -> bool {
    match reason {
        ExemplarReason::OutOfOrder => true,
        ExemplarReason::TooLong => form == Form::RemoteWrite1,
        ExemplarReason::InvalidLabels => form == Form::RemoteWrite2,
        ExemplarReason::Disabled | ExemplarReason::UnknownSeries | ExemplarReason::TooFarAhead => false,
    }
}

/// The refused exemplars of which the sender is told, by reason.
fn told_exemplars(outcome: &Outcome, form: Form) -> impl Iterator<Item = (u64, ExemplarReason)> {
    let counts = ExemplarReason::ALL.map(|reason| (outcome.exemplars_refused[reason as usize], reason));
    counts.into_iter().filter(move |(count, reason)| *count > 0 && is_told(*reason, form))
}

/// Whole seconds, so that a repeat does not come too early.
fn retry_seconds(wait: Duration) -> u32 {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    seconds.saturating_add(u32::from(wait.subsec_nanos() > 0)).clamp(1, RETRY_SECONDS_MAX)
}

fn wire_status(error: &WireError) -> StatusCode {
    match error {
        WireError::TooManySamples | WireError::TooManySymbols | WireError::TooLarge { .. } => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        WireError::Truncated { .. }
        | WireError::Malformed { .. }
        | WireError::WireType { .. }
        | WireError::FirstSymbol
        | WireError::OtherVersion { .. } => StatusCode::BAD_REQUEST,
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

fn refused_text(outcome: &Outcome, form: Form) -> String {
    let reasons = Reason::ALL.iter().map(|reason| (outcome.refused[*reason as usize], reason));
    let exemplars =
        told_exemplars(outcome, form).map(|(count, reason)| format!("{count} exemplars: {}", reason.text()));
    let counts: Vec<String> = reasons
        .filter(|(count, _)| *count > 0)
        .map(|(count, reason)| match reason {
            Reason::InvalidHistogram => format!("{count} histograms: {}", reason.text()),
            _ => format!("{count} samples: {}", reason.text()),
        })
        .chain(exemplars)
        .collect();
    let first =
        outcome.first_refusal.as_ref().map(|refusal| format!("; first: {refusal}")).unwrap_or_default();
    format!("{}{first}; {}", counts.join("; "), counts_text(outcome))
}

/// How much of each kind there was, apart from what was refused. Most requests have nothing but samples.
fn counts_text(outcome: &Outcome) -> String {
    let Written { samples, histograms, exemplars } = Written::of(outcome);
    let mut text = format!("{samples} samples stored");
    for (count, kind) in [(histograms, "histograms stored"), (exemplars, "exemplars stored")] {
        if count > 0 {
            text.push_str(&format!(", {count} {kind}"));
        }
    }
    if outcome.failure.is_some() && outcome.refused_count() > 0 {
        text.push_str(&format!(", {} refused for good", outcome.refused_count()));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::Refusal;
    use crate::wire::LabelError;

    fn status(error: WriteError) -> (u16, Option<u32>) {
        let answer = Answer::of(&error);
        assert!(!answer.text.is_empty());
        assert_says_when(&answer);
        (answer.status.as_u16(), answer.retry_after_seconds)
    }

    /// A sender that may come back is told when, and no other.
    #[track_caller]
    fn assert_says_when(answer: &Answer) {
        let is_retryable = matches!(answer.status.as_u16(), 429 | 503);
        assert_eq!(answer.retry_after_seconds.is_some(), is_retryable, "{answer:?}");
    }

    #[test]
    fn every_outcome_says_when_to_come_back_or_not_to() {
        let failures = [
            None,
            Some(Failure::QueueFull),
            Some(Failure::RingFull),
            Some(Failure::Poisoned),
            Some(Failure::Recovering),
            Some(Failure::Stopping),
            Some(Failure::NotStarted),
            Some(Failure::HeadFull),
            Some(Failure::HeadMemory),
            Some(Failure::DiskFull),
            Some(Failure::ChunkUnreadable),
        ];
        for form in [Form::RemoteWrite1, Form::RemoteWrite2] {
            for failure in failures {
                for (one, other) in
                    Reason::ALL.into_iter().flat_map(|one| Reason::ALL.map(|other| (one, other)))
                {
                    let mut outcome = Outcome { failure, written: 1, ..Outcome::default() };
                    outcome.refused[one as usize] = 1;
                    outcome.refused[other as usize] = 1;
                    assert_says_when(&Answer::of_outcome(outcome, form));
                }
                let outcome = Outcome { failure, written: 1, ..Outcome::default() };
                assert_says_when(&Answer::of_outcome(outcome, form));
            }
        }
        assert_says_when(&Answer::stopping());
    }

    #[test]
    fn every_error_has_its_row() {
        assert_eq!(status(WriteError::Method), (405, None));
        assert_eq!(status(WriteError::MediaType { content_type: "text/csv".into() }), (415, None));
        assert_eq!(status(WriteError::Encoding { encoding: "gzip".into() }), (415, None));
        assert_eq!(status(WriteError::Tenant { tenant: "a/b".into() }), (400, None));
        assert_eq!(status(WriteError::BodyTooLarge { bytes_max: 1 }), (413, None));
        assert_eq!(status(WriteError::BodyTimeout { limit: Duration::from_secs(1) }), (503, Some(1)));
        assert_eq!(status(WriteError::BodyStalled { inflight_bytes: 9 }), (503, Some(1)));
        assert_eq!(status(WriteError::BodyBroken("reset".into())), (503, Some(1)));
        assert_eq!(
            status(WriteError::Snappy(SnappyError::Invalid(crate::wire::BlockError::Empty))),
            (400, None)
        );
        let bomb = SnappyError::TooLarge { declared_bytes: 9, bytes_max: 1 };
        assert_eq!(status(WriteError::Snappy(bomb)), (413, None));
        assert_eq!(status(WriteError::Zstd(ZstdError::Invalid("damaged"))), (400, None));
        assert_eq!(status(WriteError::Zstd(ZstdError::NoMemory)), (503, Some(5)));
        assert_eq!(status(WriteError::Zstd(ZstdError::TooLarge { bytes_max: 1 })), (413, None));
        for (error, code) in [
            (WireError::Truncated { offset: 0 }, 400),
            (WireError::Malformed { offset: 0 }, 400),
            (WireError::WireType { field: 1, wire_type: 0, offset: 0 }, 400),
            (WireError::FirstSymbol, 400),
            (WireError::OtherVersion { field: 4 }, 400),
            (WireError::TooManySamples, 413),
            (WireError::TooManySymbols, 413),
            (WireError::TooLarge { bytes_max: 1 }, 413),
        ] {
            assert_eq!(status(WriteError::Wire(error)), (code, None), "{error:?}");
        }
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
        assert_eq!(status(WriteError::Memory { used_bytes: 2, bytes_max: 1 }), (503, Some(5)));
        assert_eq!(status(WriteError::Gate(GateError::Timeout)), (503, Some(1)));
        assert_eq!(status(WriteError::Gate(GateError::TooManyWait)), (503, Some(1)));
        let tenant: Arc<str> = "t".into();
        let limit = RequestLimitError::Bytes { tenant: Arc::clone(&tenant), bytes: 2, bytes_max: 1 };
        assert_eq!(status(WriteError::Limit(limit)), (413, None));
        let limit = RequestLimitError::Series { tenant: Arc::clone(&tenant), series: 2, series_max: 1 };
        assert_eq!(status(WriteError::Limit(limit)), (413, None));
        let limit = RequestLimitError::Samples { tenant: Arc::clone(&tenant), samples: 2, samples_max: 1 };
        assert_eq!(status(WriteError::Limit(limit)), (413, None));
        for (wait, seconds) in
            [(Duration::from_millis(1), 1), (Duration::from_millis(2001), 3), (Duration::MAX, 60)]
        {
            let limit = RequestLimitError::Rate { tenant: Arc::clone(&tenant), per_second: 1, wait };
            assert_eq!(status(WriteError::Limit(limit)), (429, Some(seconds)));
        }
        let limit = RequestLimitError::Tenants { tenant: Arc::clone(&tenant), tenants_max: 1 };
        assert_eq!(status(WriteError::Limit(limit)), (429, Some(60)));
        assert_eq!(status(WriteError::Rewrite(RewriteError::TooLarge { bytes_max: 1 })), (413, None));
        assert_eq!(status(WriteError::Rewrite(RewriteError::TooManyTenants)), (413, None));
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
            (Reason::Tenant, 400),
            (Reason::LabelLimit, 409),
            (Reason::InvalidHistogram, 400),
        ] {
            for (form, code) in [(Form::RemoteWrite1, code), (Form::RemoteWrite2, 400)] {
                let mut outcome = Outcome::default();
                outcome.refused[reason as usize] = 1;
                let refused = WriteError::Refused { outcome: Box::new(outcome), form };
                assert_eq!(status(refused), (code, None), "{reason:?} {form:?}");
            }
        }
    }

    #[test]
    fn success_has_the_status_of_the_version_and_the_exact_counts() {
        for (form, status) in [(Form::RemoteWrite1, 200), (Form::RemoteWrite2, 204)] {
            let outcome = Outcome {
                written: 2,
                repeated: 1,
                histograms_written: 4,
                exemplars_written: 5,
                ..Outcome::default()
            };
            let answer = Answer::of_outcome(outcome, form);
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, ""));
            assert_eq!(answer.written, Some(Written { samples: 3, histograms: 4, exemplars: 5 }));
        }
    }

    #[test]
    fn new_series_that_a_limit_refused_may_be_sent_again() {
        for (reason, code, seconds) in
            [(Reason::SeriesLimit, 429, 5), (Reason::MemoryLimit, 503, 5), (Reason::TenantLimit, 429, 60)]
        {
            let mut outcome = Outcome::default();
            outcome.refused[reason as usize] = 1;
            outcome.refused[Reason::InvalidHistogram as usize] = 1;
            outcome.refused[Reason::Conflict as usize] = 1;
            let answer = Answer::of_outcome(outcome, Form::RemoteWrite2);
            let found = (answer.status.as_u16(), answer.retry_after_seconds);
            assert_eq!(found, (code, Some(seconds)), "{reason:?}");
        }
    }

    #[test]
    fn one_retryable_part_makes_the_request_retryable() {
        let mut outcome = Outcome { failure: Some(Failure::QueueFull), written: 5, ..Outcome::default() };
        outcome.refused[Reason::Conflict as usize] = 3;
        let answer = Answer::of_outcome(outcome, Form::RemoteWrite2);
        assert_eq!((answer.status.as_u16(), answer.retry_after_seconds), (503, Some(1)));
        assert_eq!(answer.written.map(|written| written.samples), Some(5));
        assert!(answer.text.ends_with("; 5 samples stored, 3 refused for good"), "{}", answer.text);
    }

    #[test]
    fn a_partial_refusal_names_the_reasons_and_counts_what_is_stored() {
        let refusal = Refusal::Labels(LabelError::NoName);
        let mut outcome = Outcome::refused(Reason::InvalidLabels, 2, refusal);
        (outcome.written, outcome.histograms_written) = (7, 1);
        let answer = Answer::of_outcome(outcome, Form::RemoteWrite2);
        assert_eq!(answer.status.as_u16(), 400);
        assert_eq!(
            answer.text,
            "2 samples: invalid label set; first: a label has no name; 7 samples stored, 1 histograms stored"
        );
        assert_eq!(answer.written, Some(Written { samples: 7, histograms: 1, exemplars: 0 }));
    }

    #[test]
    fn senders_are_told_of_exemplars_as_their_version_has_it() {
        for (reason, first, second) in [
            (ExemplarReason::OutOfOrder, 409, 400),
            (ExemplarReason::TooLong, 409, 204),
            (ExemplarReason::InvalidLabels, 200, 400),
            (ExemplarReason::UnknownSeries, 200, 204),
            (ExemplarReason::TooFarAhead, 200, 204),
            (ExemplarReason::Disabled, 200, 204),
        ] {
            for (form, code) in [(Form::RemoteWrite1, first), (Form::RemoteWrite2, second)] {
                let mut outcome = Outcome { written: 2, exemplars_written: 5, ..Outcome::default() };
                outcome.exemplars_refused[reason as usize] = 3;
                let answer = Answer::of_outcome(outcome, form);
                assert_eq!(answer.status.as_u16(), code, "{reason:?} {form:?}");
                assert_eq!(answer.written, Some(Written { samples: 2, histograms: 0, exemplars: 5 }));
                let text = format!("3 exemplars: {}; 2 samples stored, 5 exemplars stored", reason.text());
                assert_eq!(answer.text, if code >= 400 { &text } else { "" });
            }
        }
    }

    #[test]
    fn a_request_that_may_be_sent_again_stays_so_whatever_exemplars_it_has() {
        let mut outcome = Outcome::default();
        outcome.exemplars_refused[ExemplarReason::OutOfOrder as usize] = 1;
        outcome.refused[Reason::SeriesLimit as usize] = 1;
        assert_eq!(Answer::of_outcome(outcome.clone(), Form::RemoteWrite1).status.as_u16(), 429);
        outcome.failure = Some(Failure::RingFull);
        assert_eq!(Answer::of_outcome(outcome, Form::RemoteWrite2).status.as_u16(), 503);
    }
}
