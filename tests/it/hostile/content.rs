//! The protocols of the write path: where a message is posted, what its headers say, and how it is compressed.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::support::write::compress;

/// A way to send samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Remote write 1.0.
    First,
    /// Remote write 2.0.
    Second,
    /// OTLP over HTTP.
    Otlp,
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// A snappy block.
    Snappy,
    /// A zstd frame.
    Zstd,
    /// As gzip does.
    Gzip,
}

/// All pairs that a receiver takes.
pub const KINDS: [(Protocol, Encoding); 6] = [
    (Protocol::First, Encoding::Snappy),
    (Protocol::First, Encoding::Zstd),
    (Protocol::Second, Encoding::Snappy),
    (Protocol::Second, Encoding::Zstd),
    (Protocol::Otlp, Encoding::Identity),
    (Protocol::Otlp, Encoding::Gzip),
];

/// The largest block of a zstd frame.
const ZSTD_BLOCK_BYTES_MAX: usize = 128 << 10;

impl Protocol {
    /// Where it is posted.
    pub fn path(self) -> &'static str {
        match self {
            Protocol::First | Protocol::Second => "/api/v1/receive",
            Protocol::Otlp => "/api/v1/otlp",
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Protocol::First | Protocol::Otlp => "application/x-protobuf",
            Protocol::Second => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The version that its senders name.
    pub fn version(self) -> &'static str {
        match self {
            Protocol::First => "0.1.0",
            Protocol::Second => "2.0.0",
            Protocol::Otlp => "",
        }
    }
}

impl Encoding {
    /// The value of the header.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Snappy => "snappy",
            Encoding::Zstd => "zstd",
            Encoding::Gzip => "gzip",
        }
    }

    /// The body that holds `message`.
    pub fn apply(self, message: &[u8]) -> Vec<u8> {
        match self {
            Encoding::Identity => message.to_vec(),
            Encoding::Snappy => compress(message),
            Encoding::Zstd => zstd(message),
            Encoding::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
                gzip.write_all(message).unwrap();
                gzip.finish().unwrap()
            }
        }
    }
}

/// The headers of a request as a true sender writes them.
pub fn headers(protocol: Protocol, encoding: Encoding, tenant: &str) -> Vec<(String, Vec<u8>)> {
    [
        ("Content-Type", protocol.content_type()),
        ("Content-Encoding", encoding.name()),
        ("X-Prometheus-Remote-Write-Version", protocol.version()),
        ("THANOS-TENANT", tenant),
    ]
    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
    .to_vec()
}

/// A zstd frame whose blocks hold the text as it is.
fn zstd(text: &[u8]) -> Vec<u8> {
    let mut frame = zstd_frame_head();
    let mut blocks = text.chunks(ZSTD_BLOCK_BYTES_MAX).peekable();
    if text.is_empty() {
        put_zstd_block(&mut frame, 0, ZstdBlock::Raw, true, b"");
    }
    while let Some(block) = blocks.next() {
        put_zstd_block(&mut frame, block.len(), ZstdBlock::Raw, blocks.peek().is_none(), block);
    }
    frame
}

/// A zstd frame of `bytes` zeros, four bytes for each 128 KiB.
pub fn zstd_zeros(bytes: usize) -> Vec<u8> {
    let mut frame = zstd_frame_head();
    for _ in 1..bytes.div_ceil(ZSTD_BLOCK_BYTES_MAX) {
        put_zstd_block(&mut frame, ZSTD_BLOCK_BYTES_MAX, ZstdBlock::Repeated, false, b"\0");
    }
    put_zstd_block(&mut frame, ZSTD_BLOCK_BYTES_MAX, ZstdBlock::Repeated, true, b"\0");
    frame
}

/// The magic number, and a descriptor of a window of 1 MiB without the size of the text.
fn zstd_frame_head() -> Vec<u8> {
    vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50]
}

/// The kinds of block that need no entropy coder, by their numbers.
enum ZstdBlock {
    Raw = 0,
    Repeated = 1,
}

fn put_zstd_block(frame: &mut Vec<u8>, len: usize, kind: ZstdBlock, is_last: bool, content: &[u8]) {
    let head = (len as u32) << 3 | (kind as u32) << 1 | u32::from(is_last);
    frame.extend_from_slice(&head.to_le_bytes()[..3]);
    frame.extend_from_slice(content);
}
