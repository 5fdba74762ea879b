//! Mutations: of a message before it is compressed, of the compressed body, and of the headers around it.

use super::super::support::random::Random;
use super::connection::Request;
use super::content::{Encoding, KINDS, Protocol, headers};
use super::message::{Content, Field, encode, put_varint};
use super::requests::message;

/// Numbers at which sizes, times and references tend to break.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
    1 << 40,
];

/// Bit patterns of doubles: a stale marker, NaNs, infinities, zeros, subnormal, largest.
const DOUBLES: [u64; 8] = [
    0x7ff0_0000_0000_0002,
    0x7ff8_0000_0000_0001,
    0xffff_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x8000_0000_0000_0000,
    1,
    0x7fef_ffff_ffff_ffff,
];

/// Texts that are no UTF-8, separators of other programs, or no label in Prometheus.
const TEXTS: [&[u8]; 10] = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff",
    b"\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"__name__",
    b"tenant_id",
    b"\xf0\x9f\x92\xa5",
];

/// Longer than any label may be.
const LONG_TEXT_BYTES: usize = 70_000;

/// Tenants that a header is mutated into; without a bound the test would make as many as it has requests.
const TENANTS: usize = 300;

/// A request that is wrong somewhere, or is by chance right.
pub fn request(random: &mut Random, tenant: &str, now_ms: i64) -> Request {
    let (protocol, encoding) = KINDS[random.below(KINDS.len())];
    let mut fields = message(protocol, random, now_ms);
    let level = random.below(10);
    if level < 6 {
        for _ in 0..=random.below(2) {
            mutate_fields(random, &mut fields);
        }
    }
    let mut text = encode(&fields);
    if matches!(level, 5 | 6) {
        mutate_bytes(random, &mut text);
    }
    let mut body = encoding.apply(&text);
    if matches!(level, 7 | 8) {
        mutate_bytes(random, &mut body);
    }
    let mut request = Request {
        path: protocol.path(),
        headers: headers(protocol, encoding, tenant),
        body,
        announced_bytes: None,
    };
    if level == 9 {
        mutate_headers(random, &mut request, protocol, encoding);
    }
    request
}

/// Changes one field somewhere in the tree.
fn mutate_fields(random: &mut Random, fields: &mut Vec<Field>) {
    if fields.is_empty() {
        return;
    }
    let at = random.below(fields.len());
    if random.below(4) > 0
        && let Content::Message(inner) = &mut fields[at].content
    {
        return mutate_fields(random, inner);
    }
    let other = random.below(fields.len());
    match random.below(10) {
        0 => drop(fields.remove(at)),
        1 => {
            let copies = 1 + random.below(3);
            let copy = fields[at].clone();
            fields.splice(at..at, std::iter::repeat_n(copy, copies));
        }
        2 => fields.swap(at, other),
        3 => fields[at].number = random.below(20) as u64,
        4 => fields[at].content = Content::Raw(random.below(8) as u8, random_bytes(random, 12)),
        5 => lie_about_length(random, &mut fields[at]),
        6 => fields[at].content = fields[other].content.clone(),
        7 => fields.reverse(),
        _ => mutate_content(random, &mut fields[at].content),
    }
}

/// The length before the content is another than the content's.
fn lie_about_length(random: &mut Random, field: &mut Field) {
    let content = match &field.content {
        Content::Bytes(bytes) => bytes.clone(),
        Content::Message(fields) => encode(fields),
        _ => random_bytes(random, 12),
    };
    let mut bytes = Vec::new();
    let close_by = (content.len() as u64).wrapping_add(random.below(9) as u64).wrapping_sub(4);
    put_varint(&mut bytes, if random.below(2) == 0 { close_by } else { any_number(random) });
    bytes.extend_from_slice(&content);
    field.content = Content::Raw(2, bytes);
}

fn mutate_content(random: &mut Random, content: &mut Content) {
    match content {
        Content::Varint(value) => *value = any_number(random),
        Content::Fixed64(value) => {
            *value = match random.below(3) {
                0 => DOUBLES[random.below(DOUBLES.len())],
                1 => any_number(random),
                _ => *value ^ 1 << random.below(64),
            }
        }
        Content::Bytes(bytes) => mutate_text(random, bytes),
        Content::Packed(values) => mutate_numbers(random, values),
        Content::Message(fields) => match random.below(3) {
            0 => fields.clear(),
            1 => {
                let inner = std::mem::take(fields);
                *fields = (0..50).fold(inner, |inner, _| {
                    vec![Field { number: 1 + random.below(5) as u64, content: Content::Message(inner) }]
                });
            }
            _ => *fields = fields.iter().cycle().take(fields.len() * 20).cloned().collect(),
        },
        Content::Raw(_, bytes) => mutate_bytes(random, bytes),
    }
}

fn mutate_text(random: &mut Random, bytes: &mut Vec<u8>) {
    let text = TEXTS[random.below(TEXTS.len())];
    let at = random.below(bytes.len() + 1);
    match random.below(6) {
        0 => *bytes = text.to_vec(),
        1 | 2 => drop(bytes.splice(at..at, text.iter().copied())),
        3 => bytes.truncate(at),
        4 => *bytes = random_bytes(random, 40),
        _ => bytes.resize(if random.below(20) == 0 { LONG_TEXT_BYTES } else { 300 }, b'x'),
    }
}

/// References, deltas and counts: one out of range, an odd number of them, pairs in another order.
fn mutate_numbers(random: &mut Random, values: &mut Vec<u64>) {
    let at = random.below(values.len().max(1));
    match random.below(6) {
        0 if !values.is_empty() => values[at] = any_number(random),
        1 if !values.is_empty() => values[at] = random.below(40) as u64,
        2 if !values.is_empty() => drop(values.remove(at)),
        3 => values.reverse(),
        4 => values.rotate_left(at),
        _ => *values = values.iter().copied().cycle().take(values.len() * 100).collect(),
    }
}

/// Flips, cuts, doubles or inserts, with no regard for what the bytes mean.
fn mutate_bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(2) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = bytes.len().min(at + 1 + random.below(100));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let mut huge = Vec::new();
                put_varint(&mut huge, any_number(random));
                bytes.splice(at..at, huge);
            }
            5 => {
                let end = bytes.len().min(at + 1 + random.below(20));
                bytes.drain(at..end);
            }
            _ => *bytes = random_bytes(random, 300),
        }
    }
}

fn mutate_headers(random: &mut Random, request: &mut Request, protocol: Protocol, encoding: Encoding) {
    let at = random.below(request.headers.len());
    match random.below(8) {
        0 => drop(request.headers.remove(at)),
        1 => {
            // The body is of another kind than the headers say.
            let (other, compression) = KINDS[random.below(KINDS.len())];
            let tenant = request.headers.pop();
            request.headers = headers(other, compression, "");
            request.headers.pop();
            request.headers.extend(tenant);
        }
        2 => {
            let twice = request.headers[at].clone();
            request.headers.push(twice);
        }
        3 => request.headers[at].1 = header_value(random, at),
        4 => request.headers.push(("X-Filler".to_owned(), vec![b'x'; 1 + random.below(20_000)])),
        5 => {
            let length = request.body.len() as u64;
            request.announced_bytes = Some(match random.below(4) {
                0 => length + 1 + random.below(1000) as u64,
                1 => length / 2,
                2 => any_number(random),
                _ => 0,
            });
        }
        6 => {
            let tenant = format!("tenant-{}", random.below(TENANTS));
            request.headers.retain(|(name, _)| name != "THANOS-TENANT");
            request.headers.push(("THANOS-TENANT".to_owned(), tenant.into_bytes()));
        }
        // Compressed twice, and announced as once or as both.
        _ => {
            request.body = encoding.apply(&request.body);
            if random.below(2) == 0 {
                let name = encoding.name();
                request.headers = headers(protocol, encoding, "twice");
                request.headers[1].1 = format!("{name}, {name}").into_bytes();
            }
        }
    }
}

/// Another value for the header at this place of `headers`.
fn header_value(random: &mut Random, at: usize) -> Vec<u8> {
    let values: &[&[u8]] = match at {
        0 => &[
            b"",
            b"text/plain",
            b"application/json",
            b"application/x-protobuf;proto=",
            b"application/x-protobuf;proto=io.prometheus.write.v3.Request",
            b"application/x-protobuf;;;;=;proto=\"prometheus.WriteRequest",
            b"application/x-protobuf\xff",
        ],
        1 => {
            &[b"", b"gzip", b"identity", b"snappy", b"zstd", b"br", b"snappy\xff", b"SNAPPY", b"zstd, snappy"]
        }
        2 => &[b"", b"0", b"1.0.0", b"2.0.0", b"2.", b"3.0.0", b"\xff", b"18446744073709551616"],
        _ => &[b"", b"a/b", b"..", b".", b"\xff\xfe", b"a b", b"__other__", &[b't'; 300], b"{}=\"\\"],
    };
    let value = values[random.below(values.len())];
    match random.below(4) {
        // Neither end of line, which would be another header.
        0 => random_bytes(random, 30).into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect(),
        _ => value.to_vec(),
    }
}

fn any_number(random: &mut Random) -> u64 {
    match random.below(3) {
        0 => random.next() >> random.below(64),
        _ => NUMBERS[random.below(NUMBERS.len())],
    }
}

fn random_bytes(random: &mut Random, len_max: usize) -> Vec<u8> {
    let len = random.below(len_max + 1);
    random.bytes(len)
}
