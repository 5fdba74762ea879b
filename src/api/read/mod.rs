//! `/api/v1/read`: remote read, by which a Prometheus or a Thanos sidecar reads raw samples.
//! Owns:     the protocol: what is asked, in which of its two forms the answer goes out, and its limits.
//! Touches:  the source of queries.
//! Runs on:  the tokio threads wait for the source; messages are built on a thread that may block.
//! Promises: an answer of chunks is sent while it is made, one frame at a time; one of samples has a bound.

mod message;
mod samples;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use annulus_shards::matcher::QUERY_COMPILED_BYTES_MAX;
use annulus_shards::{MatchOp, Matcher};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use prost::Message;
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind};
use super::params::{Params, TIME_MS_MAX};
use super::pieces::{self, Pieces};
use super::query::aside;
use super::room::Held;
use super::view::Seen;
use super::{Api, query::POINT_BYTES};
use crate::source::{SelectRequest, SeriesChunks, SourceError};
use message::{Chunk, ChunkedReadResponse, ChunkedSeries, ReadRequest, TimeSeries};
use samples::{Sample, readable_chunks, samples};

/// The largest request as sent, and decompressed: it holds a few matchers.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Queries of one request.
const QUERIES_MAX: usize = 100;

/// Matchers of one request.
const MATCHERS_MAX: usize = 1_000;

/// Limits of remote read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Samples of an answer that is one message.
    pub samples_max: u64,
    /// Bytes from which on a frame of a streamed answer is sent.
    pub frame_bytes: usize,
}

/// The forms that an answer can have.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    /// One message with all samples.
    Samples,
    /// Frames of chunks.
    Chunks,
}

/// What a query asks for.
struct Read {
    matchers: Vec<Matcher>,
    start_ms: i64,
    end_ms: i64,
}

/// Answers a request. Errors are plain text, as clients of this protocol expect them.
pub async fn read(State(api): State<Arc<Api>>, request: Request) -> Response {
    match answer(&api, request).await {
        Ok(response) => response,
        Err(error) => {
            // The protocol knows a request that is wrong and a server that is: 422 would be neither.
            let status = match error.kind.status() {
                StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                status => status,
            };
            (status, format!("{}\n", error.text)).into_response()
        }
    }
}

async fn answer(api: &Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let timeout = api.config.options.timeout;
    let deadline = Instant::now() + timeout;
    let params = Params::of_url(request.uri())?;
    let too_late = || ApiError::new(ErrorKind::Timeout, format!("no answer within {timeout:?}"));
    let body = timeout_at(deadline.into(), to_bytes(request.into_body(), REQUEST_BYTES_MAX)).await;
    let body = body.map_err(|_| too_late())?.map_err(|error| {
        let text =
            format!("the request did not arrive whole or is longer than {REQUEST_BYTES_MAX} bytes: {error}");
        ApiError::new(ErrorKind::TooLarge, text)
    })?;
    let pass = api.gate.enter(deadline).await?;
    let (reads, form) = aside({
        let pass = pass.clone();
        move || {
            let _pass = pass;
            decode(&body)
        }
    })
    .await??;
    // The protocol has no place for warnings: unless the client asks for it, what is missing must not look whole.
    let seen = Seen::new(api, &params, false)?;
    let mut found: Vec<(Vec<SeriesChunks>, (i64, i64))> = Vec::with_capacity(reads.len());
    let mut bytes = 0;
    for Read { matchers, start_ms, end_ms } in reads {
        let request =
            SelectRequest { matchers, min_ms: start_ms, max_ms: end_ms, skip_chunks: false, budget: None };
        let series =
            timeout_at(deadline.into(), seen.source.select(request)).await.map_err(|_| too_late())??;
        bytes += series.iter().map(held_bytes).sum::<usize>();
        let bytes_max = api.config.options.fetch_bytes_max;
        if bytes as u64 > bytes_max {
            return Err(SourceError::TooLarge { bytes_max }.into());
        }
        found.push((series, (start_ms, end_ms)));
    }
    if let Some(missing) = seen.warnings.texts().first() {
        tracing::warn!(missing, "an answer to a remote read is partial");
    }
    let mut room = api.room.take(bytes)?;
    let limits = api.config.read;
    match form {
        Form::Samples => {
            let awaited = Awaited::default();
            let is_gone = Arc::clone(&awaited.is_gone);
            let body = aside(move || {
                let _pass = pass;
                let answer = encode_samples(found, limits.samples_max, |more| {
                    if is_gone.load(Ordering::Relaxed) {
                        return Err(ApiError::new(ErrorKind::Canceled, "nobody waits for the answer"));
                    }
                    room.resize(bytes.saturating_add(more))
                })?;
                // What was read is gone; the answer stays until the client has taken it.
                room.resize(answer.len())?;
                Ok::<_, ApiError>(Bytes::from_owner(Sent { answer, _room: room }))
            });
            Ok(with_headers(Body::from(body.await??), "application/x-protobuf", Some("snappy")))
        }
        Form::Chunks => {
            let body = pieces::stream(limits.frame_bytes, move |out| {
                let _room = room;
                write_frames(out, &found, limits.frame_bytes)
            });
            let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            Ok(with_headers(body, content_type, None))
        }
    }
}

/// Says to the thread that makes an answer when the client has gone: its future is dropped then.
#[derive(Default)]
struct Awaited {
    is_gone: Arc<AtomicBool>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

/// An answer that is being sent, with the memory that is set aside for it.
struct Sent {
    answer: Vec<u8>,
    _room: Held,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

fn with_headers(body: Body, content_type: &'static str, encoding: Option<&'static str>) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

fn held_bytes(series: &SeriesChunks) -> usize {
    series.labels.size_bytes()
        + series.chunks.iter().map(|chunk| chunk.bytes.len() + POINT_BYTES).sum::<usize>()
}

/// The queries of a request, and the form in which the client likes the answer best.
fn decode(body: &[u8]) -> Result<(Vec<Read>, Form), ApiError> {
    let wrong = |text: String| ApiError::new(ErrorKind::BadData, text);
    let declared = snap::raw::decompress_len(body).map_err(|error| wrong(error.to_string()))?;
    // A byte of a snappy block yields at most 64/3 bytes of text: a small body must not ask for much memory.
    if declared > REQUEST_BYTES_MAX.min(body.len().saturating_mul(22)) {
        return Err(wrong(format!("the body says it decompresses to {declared} bytes")));
    }
    let text = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| wrong(error.to_string()))?;
    let request = ReadRequest::decode(text.as_slice()).map_err(|error| wrong(error.to_string()))?;
    let matchers = request.queries.iter().map(|query| query.matchers.len()).sum::<usize>();
    if request.queries.len() > QUERIES_MAX || matchers > MATCHERS_MAX {
        let text = format!("a request has at most {QUERIES_MAX} queries with {MATCHERS_MAX} matchers");
        return Err(wrong(text));
    }
    let form = form(&request.accepted_response_types)?;
    let mut compiled_bytes = 0;
    let queries = request.queries.into_iter().map(|query| {
        let matchers = query.matchers.into_iter().map(|matcher| {
            let op = match matcher.op {
                0 => MatchOp::Equal,
                1 => MatchOp::NotEqual,
                2 => MatchOp::Regex,
                3 => MatchOp::NotRegex,
                other => return Err(wrong(format!("there is no matcher of type {other}"))),
            };
            let matcher = Matcher::new(op, matcher.name, matcher.value).map_err(|error| {
                let kind = if error.is_temporary() { ErrorKind::Unavailable } else { ErrorKind::BadData };
                ApiError::new(kind, error.to_string())
            })?;
            compiled_bytes += matcher.compiled_bytes();
            if compiled_bytes > QUERY_COMPILED_BYTES_MAX {
                return Err(wrong("the regular expressions take too much memory together".to_owned()));
            }
            Ok(matcher)
        });
        let matchers = matchers.collect::<Result<Vec<_>, _>>()?;
        let time = |time_ms: i64| time_ms.clamp(-TIME_MS_MAX, TIME_MS_MAX);
        Ok(Read { matchers, start_ms: time(query.start_ms), end_ms: time(query.end_ms) })
    });
    Ok((queries.collect::<Result<Vec<_>, ApiError>>()?, form))
}

/// The first form of the client's list that there is.
fn form(accepted: &[i32]) -> Result<Form, ApiError> {
    if accepted.is_empty() {
        return Ok(Form::Samples);
    }
    let known = accepted.iter().find_map(|number| match number {
        0 => Some(Form::Samples),
        1 => Some(Form::Chunks),
        _ => None,
    });
    known.ok_or_else(|| {
        let text = format!("server does not support any of the requested response types: {accepted:?}");
        ApiError::new(ErrorKind::BadData, text)
    })
}

/// One message, compressed. Before memory is taken, `go_on` is asked with what there is of it; a series is decoded,
/// encoded and gone before the next one.
fn encode_samples(
    found: Vec<(Vec<SeriesChunks>, (i64, i64))>,
    samples_max: u64,
    mut go_on: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Vec<u8>, ApiError> {
    let mut left = samples_max;
    let mut text = Vec::new();
    for (series, times) in found {
        let mut result = Vec::new();
        for one in series {
            let encoded_bytes = text.len() + result.len();
            // They become a message, which is about as large, and that becomes bytes.
            let go_on = |bytes: usize| go_on(encoded_bytes.saturating_add(bytes.saturating_mul(3)));
            let found = samples(&one.chunks, times, go_on)?;
            if found.is_empty() {
                continue;
            }
            left = left.checked_sub(found.len() as u64).ok_or_else(|| {
                ApiError::new(ErrorKind::BadData, format!("exceeded sample limit ({samples_max})"))
            })?;
            message::push_series(&time_series(&one, found), &mut result);
        }
        go_on(text.len() + 2 * result.len())?;
        message::push_result(&result, &mut text);
    }
    go_on(text.len() + snap::raw::max_compress_len(text.len()))?;
    snap::raw::Encoder::new()
        .compress_vec(&text)
        .map_err(|error| ApiError::new(ErrorKind::Execution, format!("the answer is too large: {error}")))
}

fn time_series(series: &SeriesChunks, found: Vec<(i64, Sample)>) -> TimeSeries {
    let mut message = TimeSeries { labels: message::labels(&series.labels), ..TimeSeries::default() };
    for (timestamp_ms, sample) in found {
        match sample {
            Sample::Float(value) => {
                message.samples.push(message::Sample { value: Some(value), timestamp_ms });
            }
            Sample::Histogram(histogram) => {
                message.histograms.push(message::integer_histogram(timestamp_ms, &histogram));
            }
            Sample::FloatHistogram(histogram) => {
                message.histograms.push(message::float_histogram(timestamp_ms, &histogram));
            }
        }
    }
    message
}

/// A frame for every few chunks of a series. One chunk always goes out, however large it is.
fn write_frames(
    out: &mut Pieces,
    found: &[(Vec<SeriesChunks>, (i64, i64))],
    frame_bytes: usize,
) -> io::Result<()> {
    for (query, (series, _)) in found.iter().enumerate() {
        let query_index = i64::try_from(query).unwrap_or(i64::MAX);
        for one in series {
            let chunks = readable_chunks(&one.chunks).map_err(io::Error::other)?;
            let labels = message::labels(&one.labels);
            let labels_bytes = one.labels.size_bytes();
            let mut rest = chunks.as_slice();
            while !rest.is_empty() {
                let mut bytes = labels_bytes;
                let fitting = rest.iter().take_while(|chunk| {
                    bytes += chunk.bytes.len() + POINT_BYTES;
                    bytes <= frame_bytes
                });
                let (now, later) = rest.split_at(fitting.count().max(1));
                rest = later;
                let chunks = now.iter().map(|chunk| Chunk {
                    min_ms: chunk.min_ms,
                    max_ms: chunk.max_ms,
                    encoding: chunk.encoding as i32,
                    bytes: chunk.bytes.clone(),
                });
                let series = ChunkedSeries { labels: labels.clone(), chunks: chunks.collect() };
                write_frame(out, &ChunkedReadResponse { series: vec![series], query_index })?;
            }
        }
    }
    Ok(())
}

/// Length, checksum, message.
fn write_frame(out: &mut impl Write, message: &ChunkedReadResponse) -> io::Result<()> {
    let bytes = message.encode_to_vec();
    let mut head = Vec::with_capacity(16);
    prost::encoding::encode_varint(bytes.len() as u64, &mut head);
    head.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    out.write_all(&head)?;
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests;
