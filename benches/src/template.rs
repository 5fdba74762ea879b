//! A request that is compressed once and sent many times.
//!
//! Compressing each body would cost the sender more CPU than a good receiver needs to store it, on the same
//! machine. So a body is laid out by a compressor that leaves the value and time of each sample as literals at
//! known places: the next round only writes 14 bytes per sample into the finished body.

use std::ops::Range;

use crate::series::Series;

/// The time between two samples of a series.
pub const STEP_MS: i64 = 15_000;

/// Bytes of a timestamp as a varint: fixed, so that a body keeps its length (1.1e12 ≤ milliseconds < 4.3e12).
const TIMESTAMP_BYTES: usize = 6;

/// What changes from round to round: the value, the tag of the timestamp, the timestamp.
const SAMPLE_BYTES: usize = 8 + 1 + TIMESTAMP_BYTES;

/// A whole HTTP request over a run of series.
pub struct Template {
    series: Range<usize>,
    request: Vec<u8>,
    /// Where the sample of each series is in `request`.
    samples: Vec<usize>,
}

impl Template {
    /// Lays out a request to `path` with one sample for each series.
    pub fn new(path: &str, host: &str, series: Range<usize>) -> Template {
        let (raw, samples) = encode(series.clone());
        let (body, places) = compress(&raw, &samples);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-protobuf\r\n\
             Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let samples = places.into_iter().map(|place| place + head.len()).collect();
        let request = [head.into_bytes(), body].concat();
        Template { series, request, samples }
    }

    /// The request of a round.
    pub fn at(&mut self, round: u64, timestamp_ms: i64) -> &[u8] {
        let timestamp = varint(timestamp_ms);
        for (&place, number) in self.samples.iter().zip(self.series.clone()) {
            let sample = &mut self.request[place..place + SAMPLE_BYTES];
            sample[..8].copy_from_slice(&Series(number).value(round).to_le_bytes());
            sample[9..].copy_from_slice(&timestamp);
        }
        &self.request
    }

    /// How many samples a request holds.
    pub fn sample_count(&self) -> usize {
        self.samples.len()
    }

    /// Its series.
    pub fn series(&self) -> Range<usize> {
        self.series.clone()
    }
}

fn varint(timestamp_ms: i64) -> [u8; TIMESTAMP_BYTES] {
    assert!((1 << 35..1 << 42).contains(&timestamp_ms), "the time {timestamp_ms} does not take 6 bytes");
    std::array::from_fn(|index| {
        let more = if index + 1 < TIMESTAMP_BYTES { 0x80 } else { 0 };
        (timestamp_ms >> (7 * index)) as u8 & 0x7f | more
    })
}

/// The protobuf message and the ranges in it that change.
fn encode(series: Range<usize>) -> (Vec<u8>, Vec<Range<usize>>) {
    let (mut raw, mut samples) = (Vec::new(), Vec::new());
    for number in series {
        let mut content = Vec::new();
        for (name, value) in Series(number).labels() {
            content.push(0x0a);
            put_varint(&mut content, name.len() + value.len() + 4);
            for (tag, text) in [(0x0a, name), (0x12, &value)] {
                content.extend([tag, text.len() as u8]);
                content.extend(text.as_bytes());
            }
        }
        content.extend([0x12, 1 + SAMPLE_BYTES as u8, 0x09]);
        raw.push(0x0a);
        put_varint(&mut raw, content.len() + SAMPLE_BYTES);
        raw.extend(content);
        samples.push(raw.len()..raw.len() + SAMPLE_BYTES);
        raw.extend([0; 8]);
        raw.push(0x10);
        raw.extend(varint(1 << 40));
    }
    (raw, samples)
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An earlier place in the text, and where the stretch around it ends that a copy may read.
#[derive(Clone, Copy, Default)]
struct Place {
    start: usize,
    end: usize,
}

const TABLE_BITS: u32 = 14;

/// A snappy block in which the ranges of `kept` are literals that no copy reads; also gives their places.
fn compress(raw: &[u8], kept: &[Range<usize>]) -> (Vec<u8>, Vec<usize>) {
    let mut out = Vec::new();
    put_varint(&mut out, raw.len());
    let mut table = vec![Place::default(); 1 << TABLE_BITS];
    let mut places = Vec::new();
    let mut start = 0;
    for range in kept {
        compress_stretch(raw, start..range.start, &mut table, &mut out);
        put_literal(&raw[range.clone()], &mut out);
        places.push(out.len() - range.len());
        start = range.end;
    }
    compress_stretch(raw, start..raw.len(), &mut table, &mut out);
    (out, places)
}

fn compress_stretch(raw: &[u8], stretch: Range<usize>, table: &mut [Place], out: &mut Vec<u8>) {
    let (mut literal_start, mut at) = (stretch.start, stretch.start);
    while at + 4 <= stretch.end {
        let found = remember(raw, at, stretch.end, table);
        let is_near = at - found.start <= usize::from(u16::MAX);
        let same = |length: &usize| raw[found.start + length] == raw[at + length];
        let length_max = (stretch.end - at).min(found.end - found.start);
        let length = if is_near { (0..length_max).take_while(same).count() } else { 0 };
        if length < 4 {
            at += 1;
            continue;
        }
        put_literal(&raw[literal_start..at], out);
        put_copy(at - found.start, length, out);
        for position in at + 1..(at + length).min(stretch.end - 3) {
            remember(raw, position, stretch.end, table);
        }
        at += length;
        literal_start = at;
    }
    put_literal(&raw[literal_start..stretch.end], out);
}

/// Puts a place into the table and returns the one that was there.
fn remember(raw: &[u8], at: usize, end: usize, table: &mut [Place]) -> Place {
    let word = u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let slot = (word.wrapping_mul(0x1e35_a7bd) >> (32 - TABLE_BITS)) as usize;
    std::mem::replace(&mut table[slot], Place { start: at, end })
}

fn put_literal(bytes: &[u8], out: &mut Vec<u8>) {
    // A longer literal would need a length in bytes of its own; two short ones cost the same.
    for piece in bytes.chunks(60) {
        out.push((piece.len() as u8 - 1) << 2);
        out.extend(piece);
    }
}

fn put_copy(offset: usize, mut length: usize, out: &mut Vec<u8>) {
    while length > 0 {
        let piece = length.min(64);
        if (4..12).contains(&piece) && offset < 2048 {
            out.push(1 | (piece as u8 - 4) << 2 | ((offset >> 8) as u8) << 5);
            out.push(offset as u8);
        } else {
            out.push(2 | (piece as u8 - 1) << 2);
            out.extend((offset as u16).to_le_bytes());
        }
        length -= piece;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_770_000_000_000;

    fn body(request: &[u8]) -> Vec<u8> {
        let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        snap::raw::Decoder::new().decompress_vec(&request[end..]).unwrap()
    }

    #[test]
    fn a_request_of_any_round_decodes_to_the_message_of_that_round() {
        let mut template = Template::new("/", "host", 300..2300);
        for round in [0, 1, 7] {
            let timestamp_ms = NOW_MS + round as i64 * STEP_MS;
            let (mut expected, samples) = encode(300..2300);
            for (range, number) in samples.into_iter().zip(300..) {
                let mut sample = Series(number).value(round).to_le_bytes().to_vec();
                sample.push(0x10);
                sample.extend(varint(timestamp_ms));
                expected[range].copy_from_slice(&sample);
            }
            assert!(body(template.at(round, timestamp_ms)) == expected, "round {round}");
        }
    }

    #[test]
    fn requests_have_the_size_that_senders_give_them() {
        let mut template = Template::new("/", "host", 0..2000);
        let raw = body(template.at(3, NOW_MS));
        let raw_bytes_per_series = raw.len() / 2000;
        assert!((360..380).contains(&raw_bytes_per_series), "{raw_bytes_per_series} bytes a series");
        let plain = snap::raw::Encoder::new().compress_vec(&raw).unwrap();
        let ratio = template.request.len() as f64 / plain.len() as f64;
        assert!((0.9..1.25).contains(&ratio), "{} instead of {} bytes", template.request.len(), plain.len());
    }

    #[test]
    fn text_without_repeats_survives() {
        let raw: Vec<u8> =
            (0..1000u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        let (packed, _) = compress(&raw, &[]);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&packed).unwrap(), raw);
    }

    #[test]
    fn runs_of_one_byte_survive() {
        let raw = vec![7; 5000];
        let (packed, places) = compress(&raw, &[10..25, 4000..4015]);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&packed).unwrap(), raw);
        assert_eq!(places.len(), 2);
    }
}
