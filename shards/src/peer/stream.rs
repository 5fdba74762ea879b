//! The snappy framing format (github.com/google/snappy, framing_format.txt), which Thanos' `snappy` encoding of gRPC messages is:
//! an identifier, then chunks of at most 64 KiB of text, each with the masked CRC32C of its text.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

/// What a stream begins with, and may hold again.
pub(super) const IDENTIFIER: [u8; 10] = *b"\xff\x06\x00\x00sNaPpY";

/// The most text of a chunk.
pub(super) const CHUNK_TEXT_BYTES: usize = 64 << 10;

const COMPRESSED: u8 = 0x00;
const PLAIN: u8 = 0x01;
const IDENTIFIER_KIND: u8 = 0xff;
/// Chunks of these kinds are passed over; those between `PLAIN` and these are not.
const SKIPPABLE: u8 = 0x80;

const HEAD_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;

/// Why bytes are not a snappy stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It does not begin with its identifier.
    #[error("it does not begin as a snappy stream")]
    Identifier,
    /// It ends inside a chunk.
    #[error("it ends inside a chunk, at byte {offset}")]
    Cut {
        /// Where the chunk begins.
        offset: usize,
    },
    /// A chunk of a kind that must not be passed over.
    #[error("it has a chunk of the unknown kind {kind:#04x} at byte {offset}")]
    Kind {
        /// The kind.
        kind: u8,
        /// Where the chunk begins.
        offset: usize,
    },
    /// A chunk that does not decompress, or to more than a chunk may hold.
    #[error("the chunk at byte {offset} is damaged")]
    Chunk {
        /// Where the chunk begins.
        offset: usize,
    },
    /// The text of a chunk is not what its sender had.
    #[error("the chunk at byte {offset} does not have the checksum that it names")]
    Checksum {
        /// Where the chunk begins.
        offset: usize,
    },
    /// More text than is allowed.
    #[error("it decompresses to more than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

/// Decompresses one stream.
pub struct Unstream {
    consumed: usize,
    bytes_max: usize,
    decoder: Decoder,
}

impl Unstream {
    /// Nothing is decompressed.
    ///
    /// # Errors
    /// When the body does not begin as a stream.
    pub fn new(body: &[u8], bytes_max: usize) -> Result<Unstream, StreamError> {
        if !body.starts_with(&IDENTIFIER) {
            return Err(StreamError::Identifier);
        }
        Ok(Unstream { consumed: IDENTIFIER.len(), bytes_max, decoder: Decoder::new() })
    }

    /// Goes on for one chunk, some 100 µs at most, and appends its text. Answers whether the end was reached.
    ///
    /// # Errors
    /// When the body is damaged, or has more text than is allowed.
    pub fn run(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<bool, StreamError> {
        let offset = self.consumed;
        let rest = &body[offset..];
        if rest.is_empty() {
            return Ok(true);
        }
        let cut = StreamError::Cut { offset };
        let ([kind, length @ ..], rest) = rest.split_first_chunk::<HEAD_BYTES>().ok_or(cut)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
        let content = rest.get(..length).ok_or(cut)?;
        match *kind {
            COMPRESSED | PLAIN => {
                let (checksum, data) = content.split_first_chunk::<CHECKSUM_BYTES>().ok_or(cut)?;
                let text_before = out.len();
                self.text(*kind == COMPRESSED, data, offset, out)?;
                if masked(crc32c::crc32c(&out[text_before..])) != u32::from_le_bytes(*checksum) {
                    return Err(StreamError::Checksum { offset });
                }
            }
            IDENTIFIER_KIND if *content == IDENTIFIER[HEAD_BYTES..] => {}
            SKIPPABLE..=0xfe => {}
            kind => return Err(StreamError::Kind { kind, offset }),
        }
        self.consumed += HEAD_BYTES + length;
        Ok(self.consumed == body.len())
    }

    fn text(
        &mut self,
        is_compressed: bool,
        data: &[u8],
        offset: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let damaged = StreamError::Chunk { offset };
        let text_bytes = if is_compressed { decompress_len(data).map_err(|_| damaged)? } else { data.len() };
        if text_bytes > CHUNK_TEXT_BYTES {
            return Err(damaged);
        }
        let text_before = out.len();
        if text_bytes > self.bytes_max.saturating_sub(text_before) {
            return Err(StreamError::TooLarge { bytes_max: self.bytes_max });
        }
        if is_compressed {
            out.resize(text_before + text_bytes, 0);
            self.decoder.decompress(data, &mut out[text_before..]).map_err(|_| damaged)?;
        } else {
            out.extend_from_slice(data);
        }
        Ok(())
    }
}

/// Appends a stream of `text`. Some 60 µs of work for each 64 KiB.
pub fn put_stream(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&IDENTIFIER);
    let mut encoder = Encoder::new();
    for text in text.chunks(CHUNK_TEXT_BYTES) {
        put_chunk(out, text, &mut encoder);
    }
}

/// Appends a chunk of at most [`CHUNK_TEXT_BYTES`] of text.
pub(super) fn put_chunk(out: &mut Vec<u8>, text: &[u8], encoder: &mut Encoder) {
    let start = out.len();
    let data_start = start + HEAD_BYTES + CHECKSUM_BYTES;
    out.resize(data_start + max_compress_len(text.len()), 0);
    let compressed = encoder.compress(text, &mut out[data_start..]);
    let kind = match compressed {
        Ok(bytes) if bytes < text.len() => {
            out.truncate(data_start + bytes);
            COMPRESSED
        }
        // What does not become smaller goes as it is, which never fails.
        Ok(_) | Err(_) => {
            out.truncate(data_start);
            out.extend_from_slice(text);
            PLAIN
        }
    };
    let length = (out.len() - start - HEAD_BYTES) as u32;
    out[start..start + HEAD_BYTES].copy_from_slice(&(length << 8 | u32::from(kind)).to_le_bytes());
    let checksum = masked(crc32c::crc32c(text));
    out[start + HEAD_BYTES..data_start].copy_from_slice(&checksum.to_le_bytes());
}

/// Checksums are masked because a checksum of text that holds checksums is a poor one.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use proptest::prelude::*;

    fn read(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, StreamError> {
        let (mut step, mut out) = (Unstream::new(body, bytes_max)?, Vec::new());
        while !step.run(body, &mut out)? {}
        Ok(out)
    }

    #[test]
    fn damage_is_found() {
        let mut stream = Vec::new();
        put_stream(
            &mut stream,
            &b"a text that repeats, a text that repeats, a text that repeats".repeat(3000),
        );
        assert_eq!(read(&stream[1..], 1 << 20), Err(StreamError::Identifier));
        assert!(matches!(read(&stream[..stream.len() - 1], 1 << 20), Err(StreamError::Cut { .. })));
        assert_eq!(read(&stream, 1000), Err(StreamError::TooLarge { bytes_max: 1000 }));
        let mut other = stream.clone();
        other[14] ^= 1;
        assert_eq!(read(&other, 1 << 20), Err(StreamError::Checksum { offset: 10 }));
        other = stream.clone();
        other[10] = 0x02;
        assert_eq!(read(&other, 1 << 20), Err(StreamError::Kind { kind: 2, offset: 10 }));
        // A kind that readers pass over, with an identifier in between.
        let padded = [&stream[..10], &[0xfe, 1, 0, 0, 9], &stream[..]].concat();
        assert_eq!(read(&padded, 1 << 20), read(&stream, 1 << 20));
    }

    proptest! {
        #[test]
        fn streams_are_what_other_implementations_read_and_write(
            seed in proptest::collection::vec(any::<u8>(), 0..400), times in 0usize..900,
        ) {
            let text = seed.repeat(times);
            let mut stream = Vec::new();
            put_stream(&mut stream, &text);
            prop_assert_eq!(&read(&stream, text.len()).unwrap(), &text);
            let mut theirs = Vec::new();
            snap::read::FrameDecoder::new(&stream[..]).read_to_end(&mut theirs).unwrap();
            prop_assert_eq!(&theirs, &text);
            let mut writer = snap::write::FrameEncoder::new(Vec::new());
            writer.write_all(&text).unwrap();
            let theirs = writer.into_inner().unwrap();
            if !theirs.is_empty() {
                prop_assert_eq!(&read(&theirs, text.len()).unwrap(), &text);
            }
        }

        #[test]
        fn mutated_streams_end_in_a_result(
            at in 0usize..5000, with: u8, cut in 0usize..5000, seed in proptest::collection::vec(any::<u8>(), 1..50),
        ) {
            let text = seed.repeat(100);
            let mut stream = Vec::new();
            put_stream(&mut stream, &text);
            let at = at % stream.len();
            stream[at] = with;
            stream.truncate(stream.len() - cut % stream.len());
            if let Ok(read) = read(&stream, text.len()) {
                prop_assert!(text.starts_with(&read));
            }
        }
    }
}
