//! One OTLP request: from HTTP body to answer (opentelemetry.io/docs/specs/otlp, OTLP/HTTP with protobuf).
//!
//! Points that are refused for good do not make it an error, since senders drop the whole request on one: the answer is
//! 200 with their number. What may succeed later is an error of the table, in plain text as Prometheus answers.

use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::body::Body;

use super::admission::Permit;
use super::status::{Answer, WriteError};
use super::write::{InFlight, Received, WriteHandler, discard, observe};
use crate::core::{Held, Keyed, Outcome};
use crate::limits::TenantLimits;
use crate::rt::{Pacer, monotonic_now};
use crate::wire::otlp::{PointError, Translated, Translator, export_response};
use crate::wire::{Form, Gunzip, Skimmed};

/// Bytes that are inflated between two looks at the clock.
const INFLATE_UNIT_BYTES: usize = 64 << 10;

/// Bytes that are read and written in translation between two looks at the clock: some 200 µs.
const TRANSLATE_UNIT_BYTES: usize = 64 << 10;

/// What a sender of OTLP is told.
pub enum OtlpAnswer {
    /// An ExportMetricsServiceResponse.
    Taken(Vec<u8>),
    /// Nothing is to be taken for stored.
    Refused(Answer),
}

/// What became of a request that was read to its end.
struct Written {
    outcome: Outcome,
    skimmed: Skimmed,
    point_count: u64,
    refused_count: u64,
    first_refusal: Option<PointError>,
}

impl WriteHandler {
    /// Reads, translates, writes, answers, and counts.
    pub async fn handle_otlp<B>(&self, headers: &HeaderMap, body: B) -> OtlpAnswer
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let began = monotonic_now();
        let mut body = std::pin::pin!(body);
        let tenant = match self.tenant(headers) {
            Ok(tenant) => tenant,
            Err(error) => {
                discard(body).await;
                return OtlpAnswer::Refused(Answer::of(&error));
            }
        };
        let metrics = self.otlp_metrics.tenant(tenant);
        let inflight = InFlight::new(metrics.inflight.clone());
        let mut body_bytes = 0;
        let result = self.write_otlp(tenant, headers, body.as_mut(), &mut body_bytes).await;
        drop(inflight);
        if result.is_err() {
            discard(body).await;
        }
        let (answer, skimmed) = match result {
            Ok(written) => {
                self.otlp_metrics.otlp_refused().inc_by(written.refused_count);
                let skimmed = written.skimmed.clone();
                (answer(written), skimmed)
            }
            Err(error) => (OtlpAnswer::Refused(Answer::of(&error)), Skimmed::default()),
        };
        let code = match &answer {
            OtlpAnswer::Taken(_) => 200,
            OtlpAnswer::Refused(answer) => answer.status.as_u16(),
        };
        let seconds = (monotonic_now() - began).as_secs_f64();
        observe(&self.otlp_metrics.code(&metrics, code), seconds, body_bytes, &skimmed);
        answer
    }

    async fn write_otlp<B>(
        &self,
        tenant: &str,
        headers: &HeaderMap,
        body: Pin<&mut B>,
        body_bytes: &mut usize,
    ) -> Result<Written, WriteError>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let is_gzip = check_form(headers)?;
        let Received { sent, tenant_limits, mut permit, ticket } =
            self.receive(tenant, headers, body, body_bytes).await?;
        let bytes_max = self.limits.decoded_bytes_max;
        let request = if is_gzip {
            inflate(&sent, bytes_max, &tenant_limits, &mut permit).await?
        } else if sent.len() > bytes_max {
            return Err(WriteError::BodyTooLarge { bytes_max });
        } else {
            sent
        };
        tenant_limits.check_bytes(request.len() as u64)?;
        let translated = self.translate(tenant, &request, &mut permit).await?;
        drop(request);
        let Translated { body, rows, extras, skimmed, point_count, refused_count, first_refusal } =
            translated;
        let keyed = Keyed { body, rows, extras, skimmed };
        // A sender that hangs up does not end the work: the ticket goes with it.
        let held = (permit, ticket);
        let (skimmed, outcome) = self.dispatcher.write_keyed(tenant, keyed, held).await?;
        Ok(Written { outcome, skimmed, point_count, refused_count, first_refusal })
    }

    async fn translate(
        &self,
        tenant: &str,
        request: &[u8],
        permit: &mut Permit,
    ) -> Result<Translated, WriteError> {
        let hasher = self.dispatcher.hasher(tenant);
        let mut body = self.dispatcher.spare_body();
        body.clear();
        let (settings, bytes_max) = (&self.limits.otlp, self.limits.decoded_bytes_max);
        let mut translator = Translator::new(request, settings, &hasher, body, bytes_max);
        let (mut pacer, mut counted_bytes) = (Pacer::default(), 0);
        loop {
            let is_done = translator.run(TRANSLATE_UNIT_BYTES)?;
            let memory_bytes = translator.memory_bytes();
            permit.grow(memory_bytes - counted_bytes)?;
            counted_bytes = memory_bytes;
            if is_done {
                return Ok(translator.finish());
            }
            pacer.pace().await;
        }
    }
}

/// The limit of the tenant is looked at with each step, so that what is over it is not inflated first.
async fn inflate(
    sent: &[u8],
    bytes_max: usize,
    tenant_limits: &TenantLimits,
    permit: &mut Permit,
) -> Result<Bytes, WriteError> {
    let (mut gunzip, mut request) = (Gunzip::new(sent, bytes_max), Vec::new());
    let (mut pacer, mut counted_bytes) = (Pacer::default(), 0);
    loop {
        let is_done = gunzip.run(&mut request, INFLATE_UNIT_BYTES)?;
        tenant_limits.check_bytes(request.len() as u64)?;
        permit.grow(request.capacity() - counted_bytes)?;
        counted_bytes = request.capacity();
        if is_done {
            return Ok(Bytes::from(request));
        }
        pacer.pace().await;
    }
}

fn answer(written: Written) -> OtlpAnswer {
    let Written { outcome, point_count, refused_count, first_refusal, .. } = written;
    let whole = Answer::of_outcome(outcome.clone(), Form::RemoteWrite1);
    if whole.retry_after_seconds.is_some() {
        return OtlpAnswer::Refused(whole);
    }
    // The head counts samples, of which a histogram has several.
    let rejected_points = (refused_count + outcome.refused_count()).min(point_count);
    let mut texts = Vec::new();
    if let Some(error) = first_refusal {
        texts.push(format!("{refused_count} points refused; first: {error}"));
    }
    if outcome.refused_count() > 0 {
        texts.push(whole.text);
    }
    OtlpAnswer::Taken(export_response(rejected_points, &texts.join("; ")))
}

/// Whether the body is compressed, if it is in a form that is read at all.
fn check_form(headers: &HeaderMap) -> Result<bool, WriteError> {
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let media_type = media_type.split(|byte| *byte == b';').next().unwrap_or(media_type);
    if !media_type.trim_ascii().eq_ignore_ascii_case(b"application/x-protobuf") {
        return Err(WriteError::OtlpMediaType);
    }
    match headers.get(CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes()) {
        b"" | b"identity" => Ok(false),
        b"gzip" => Ok(true),
        _ => Err(WriteError::OtlpEncoding),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use http::HeaderValue;
    use prometheus::IntGauge;

    use super::*;
    use crate::core::{Failure, Reason};
    use crate::edge::admission::Admission;
    use crate::exemplars::ExemplarReason;
    use crate::limits::{LimitsConfig, LimitsMetrics, NodeLimits, RequestLimitError, ShardLimits};

    #[test]
    fn only_protobuf_is_taken_plain_or_gzipped() {
        let check = |media_type: &'static str, encoding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            check_form(&headers)
        };
        let protobuf = "application/x-protobuf";
        for (media_type, encoding, is_gzip) in [
            (protobuf, "", false),
            (protobuf, "identity", false),
            (protobuf, "gzip", true),
            ("Application/X-Protobuf; charset=utf-8", "", false),
        ] {
            assert_eq!(check(media_type, encoding).ok(), Some(is_gzip), "{media_type} {encoding}");
        }
        for media_type in ["application/json", "", "application/x-protobuf2"] {
            assert!(matches!(check(media_type, ""), Err(WriteError::OtlpMediaType)), "{media_type}");
        }
        assert!(matches!(check(protobuf, "snappy"), Err(WriteError::OtlpEncoding)));
        assert!(matches!(check_form(&HeaderMap::new()), Err(WriteError::OtlpMediaType)));
    }

    #[test]
    fn the_limit_of_the_tenant_ends_it_in_the_first_step() {
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let config = LimitsConfig::parse("write: {default: {request: {size_bytes_limit: 1000}}}").unwrap();
        let node = NodeLimits::new(config, 0, metrics, 1);
        let tenant_limits = ShardLimits::new(Arc::clone(&node), 0).tenant("t");
        let gauge = IntGauge::new("bytes", "in progress").unwrap();
        let mut permit = Admission::new(1 << 30, gauge, Arc::clone(node.memory())).enter().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&vec![0; 8 << 20]).unwrap();
        let sent = encoder.finish().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let result = std::pin::pin!(inflate(&sent, 16 << 20, &tenant_limits, &mut permit)).poll(&mut context);
        assert!(matches!(result, Poll::Ready(Err(WriteError::Limit(RequestLimitError::Bytes { .. })))));
    }

    fn written() -> Written {
        Written {
            outcome: Outcome::default(),
            skimmed: Skimmed::default(),
            point_count: 9,
            refused_count: 0,
            first_refusal: None,
        }
    }

    #[test]
    fn refused_points_are_a_partial_success_and_failures_are_errors() {
        let taken = |written| match answer(written) {
            OtlpAnswer::Taken(message) => message,
            OtlpAnswer::Refused(answer) => panic!("{answer:?}"),
        };
        assert!(taken(written()).is_empty());
        let mut with_exemplars = written();
        with_exemplars.outcome.exemplars_refused = [1; ExemplarReason::ALL.len()];
        assert!(taken(with_exemplars).is_empty(), "exemplars are no points");
        let mut refused = Written { refused_count: 2, first_refusal: Some(PointError::NotUtf8), ..written() };
        refused.outcome.refused[Reason::OutOfOrder as usize] = 100;
        let message = taken(refused);
        assert_eq!(message[2..5], [0x08, 9, 0x12], "no more points than there were");
        let text = String::from_utf8_lossy(&message).into_owned();
        assert!(
            text.contains("2 points refused; first: a name or an attribute is not valid UTF-8"),
            "{text}"
        );
        assert!(text.contains("100 samples: out of order sample"), "{text}");
        let failed = Written { outcome: Outcome::failed(Failure::RingFull), ..written() };
        let OtlpAnswer::Refused(refused) = answer(failed) else { panic!("a failure is no success") };
        assert_eq!((refused.status.as_u16(), refused.retry_after_seconds), (503, Some(5)));
    }
}
