//! Requests of every form, and both forms of answers read back.

use annulus_shards::Labels;
use annulus_shards::chunk::{Encoding, XorAppender};
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::message::{LabelMatcher, Query};
use super::*;
use crate::source::ChunkRef;

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
}

fn body(request: &ReadRequest) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}

fn request(op: i32, value: &str, accepted: &[i32]) -> ReadRequest {
    let matcher = LabelMatcher { op, name: "__name__".to_owned(), value: value.to_owned() };
    let query = Query { start_ms: i64::MIN, end_ms: 5, matchers: vec![matcher] };
    ReadRequest { queries: vec![query], accepted_response_types: accepted.to_vec() }
}

fn series(name: &str, chunks: &[&[(i64, f64)]]) -> SeriesChunks {
    let chunk = |samples: &&[(i64, f64)]| {
        let mut appender = XorAppender::default();
        samples.iter().for_each(|(time_ms, value)| appender.append(*time_ms, *value));
        let (min_ms, max_ms) = (samples[0].0, samples[samples.len() - 1].0);
        ChunkRef { min_ms, max_ms, encoding: Encoding::Xor, bytes: appender.seal().into(), replica: 0 }
    };
    let labels = Labels::from_pairs([("__name__", name), ("job", "a")]);
    SeriesChunks { labels, chunks: chunks.iter().map(chunk).collect() }
}

#[test]
fn requests_are_read() {
    let (reads, form) = decode(&body(&request(2, "up|down", &[7, 1, 0]))).unwrap();
    assert_eq!(form, Form::Chunks);
    assert_eq!((reads[0].start_ms, reads[0].end_ms), (-TIME_MS_MAX, 5));
    assert!(reads[0].matchers[0].op == MatchOp::Regex && reads[0].matchers[0].value == "up|down");
    assert_eq!(decode(&body(&request(0, "up", &[]))).unwrap().1, Form::Samples);
    assert_eq!(decode(&body(&ReadRequest::default())).unwrap().0.len(), 0);
}

#[test]
fn wrong_requests_are_refused() {
    let many = Query { matchers: vec![LabelMatcher::default(); MATCHERS_MAX + 1], ..Query::default() };
    let queries = ReadRequest { queries: vec![Query::default(); QUERIES_MAX + 1], ..ReadRequest::default() };
    let huge = {
        let mut block = Vec::new();
        prost::encoding::encode_varint(1 << 31, &mut block);
        block
    };
    for (body, reason) in [
        (body(&request(4, "up", &[])), "there is no matcher of type 4"),
        (body(&request(2, "(", &[])), "error parsing regexp: missing closing ): `(`"),
        (body(&request(0, "up", &[2])), "server does not support any of the requested response types"),
        (body(&ReadRequest { queries: vec![many], ..ReadRequest::default() }), "at most 100 queries"),
        (body(&queries), "at most 100 queries"),
        (snap::raw::Encoder::new().compress_vec(b"\xff").unwrap(), "invalid varint"),
        (huge, "says it decompresses to 2147483648 bytes"),
        (Vec::new(), ""),
    ] {
        let error = decode(&body).err().unwrap_or_else(|| panic!("{reason}"));
        assert!(error.kind == ErrorKind::BadData && error.text.contains(reason), "{error}");
    }
}

#[test]
fn samples_are_one_message_with_a_bound() {
    let found = || {
        let two = series("b", &[&[(1, 1.0), (2, -0.0)], &[(2, 9.0), (3, 3.0)]]);
        vec![(vec![series("a", &[&[(9, 9.0)]]), two], (1, 3)), (vec![], (0, 0))]
    };
    let compressed = encode_samples(found(), 3, |_| Ok(())).unwrap();
    let text = snap::raw::Decoder::new().decompress_vec(&compressed).unwrap();
    let response = ReadResponse::decode(text.as_slice()).unwrap();
    assert_eq!((response.results.len(), response.results[0].series.len()), (2, 1), "no samples, no series");
    let series = &response.results[0].series[0];
    assert_eq!(series.labels[0], message::Label { name: "__name__".to_owned(), value: "b".to_owned() });
    let read: Vec<_> =
        series.samples.iter().map(|one| (one.timestamp_ms, one.value.unwrap().to_bits())).collect();
    assert_eq!(read, [(1, 1.0f64.to_bits()), (2, (-0.0f64).to_bits()), (3, 3.0f64.to_bits())]);
    let error = encode_samples(found(), 2, |_| Ok(())).unwrap_err();
    assert_eq!((error.kind, error.text.as_str()), (ErrorKind::BadData, "exceeded sample limit (2)"));
}

#[test]
fn memory_is_asked_for_before_samples_take_it() {
    // A constant value costs a few bits as a chunk and a hundred times as much as a sample.
    let values: Vec<(i64, f64)> = (0..60_000).map(|time_ms| (time_ms, 1.0)).collect();
    let found = || vec![(vec![series("a", &[&values]), series("b", &[&values])], (0, i64::MAX))];
    let (mut most, mut asked) = (0, 0);
    let answer = encode_samples(found(), 200_000, |bytes| {
        (most, asked) = (most.max(bytes), asked + 1);
        Ok(())
    });
    assert!(answer.is_ok() && most > 60_000 * size_of::<(i64, Sample)>() && asked > 4, "{most} {asked}");
    let answer = encode_samples(found(), 200_000, |bytes| match bytes {
        0..2_000_000 => Ok(()),
        _ => Err(ApiError::new(ErrorKind::Canceled, "nobody waits")),
    });
    assert_eq!(answer.unwrap_err().kind, ErrorKind::Canceled);
}

#[tokio::test]
async fn chunks_are_frames_with_a_checksum_and_a_size() {
    let samples: Vec<(i64, f64)> =
        (0..50).map(|time_ms| (time_ms, f64::from(time_ms as i32).sin())).collect();
    let parts: Vec<&[(i64, f64)]> = samples.chunks(10).collect();
    let found = vec![(vec![], (0, 0)), (vec![series("a", &parts), series("b", &parts[..1])], (0, 100))];
    let frame_bytes = 300;
    let body = pieces::stream(64, move |out| write_frames(out, &found, frame_bytes));
    let bytes = body.collect().await.unwrap().to_bytes();
    let (mut rest, mut read) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (checksum, after) = rest.split_at(4);
        let (message, after) = after.split_at(length);
        assert_eq!(checksum, crc32c::crc32c(message).to_be_bytes());
        assert!(length <= frame_bytes + 64, "{length}");
        let message = ChunkedReadResponse::decode(message).unwrap();
        assert_eq!((message.query_index, message.series.len()), (1, 1));
        read.push((message.series[0].labels[0].value.clone(), message.series[0].chunks.clone()));
        rest = after;
    }
    assert!(read.len() > 2, "one frame would be too large");
    let of_a: Vec<_> = read.iter().filter(|(name, _)| name == "a").flat_map(|(_, chunks)| chunks).collect();
    assert_eq!(of_a.iter().map(|chunk| chunk.min_ms).collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
    let back = of_a.iter().map(|chunk| ChunkRef {
        min_ms: chunk.min_ms,
        max_ms: chunk.max_ms,
        encoding: Encoding::from_byte(u8::try_from(chunk.encoding).unwrap()).unwrap(),
        bytes: chunk.bytes.clone(),
        replica: 0,
    });
    let back =
        super::samples::<SourceError>(&back.collect::<Vec<_>>(), (i64::MIN, i64::MAX), |_| Ok(())).unwrap();
    assert_eq!(
        back,
        samples.into_iter().map(|(time_ms, value)| (time_ms, Sample::Float(value))).collect::<Vec<_>>()
    );
    assert_eq!(read.last().unwrap().0, "b");
}

proptest! {
    #[test]
    fn no_bytes_make_reading_a_request_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode(&bytes);
        let _ = decode(&snap::raw::Encoder::new().compress_vec(&bytes).unwrap());
    }

    #[test]
    fn a_request_with_any_byte_changed_is_read_or_refused(at in 0usize..64, bit in 0u8..8) {
        let mut text = request(2, "up|down.*", &[1]).encode_to_vec();
        let at = at % text.len();
        text[at] ^= 1 << bit;
        let _ = decode(&snap::raw::Encoder::new().compress_vec(&text).unwrap());
    }
}
