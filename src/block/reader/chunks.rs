//! Chunks in the segments of a block.

use super::range::{NamedFile, RangeRead, ReadAhead};
use crate::block::codec::Cursor;
use crate::block::error::{BlockError, DecodeError, Fault};
use crate::block::format::{
    AGGREGATES, CHUNKS_FOLDER, CHUNKS_MAGIC, CHUNKS_VERSION, CRC_BYTES, FLOAT_HISTOGRAM, FLOAT_HISTOGRAM_ST,
    HISTOGRAM, HISTOGRAM_ST, SEGMENT_HEADER_BYTES, XOR, XOR2,
};

/// Where a chunk is: the index of its segment, from 0, and its offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkPlace(u64);

impl ChunkPlace {
    /// A place in a segment; segments are cut long before an offset exceeds four bytes.
    pub fn new(segment: u32, offset: u64) -> ChunkPlace {
        let offset = u32::try_from(offset).expect("a chunk begins within the first 4 GiB of its segment");
        ChunkPlace(u64::from(segment) << 32 | u64::from(offset))
    }

    /// As the index writes it.
    pub fn from_number(number: u64) -> ChunkPlace {
        ChunkPlace(number)
    }

    /// As the index writes it.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The index of the segment, from 0.
    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Where the chunk begins there.
    pub fn offset(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }
}

/// A chunk as it is in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBytes<'a> {
    /// Its encoding as the files number it.
    pub encoding: u8,
    /// Its bytes, without encoding and checksum.
    pub bytes: &'a [u8],
}

/// The longest beginning of a chunk that [`chunk_record_bytes`] needs.
const LENGTH_BYTES_MAX: u64 = 10;

/// Checks the first eight bytes of a segment.
pub fn check_segment_header(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes, 0);
    let start = cursor.clone();
    let found = cursor.be32()?;
    if found != CHUNKS_MAGIC {
        return Err(start.fault(Fault::Magic { found, expected: CHUNKS_MAGIC }));
    }
    let start = cursor.clone();
    match cursor.u8()? {
        CHUNKS_VERSION => cursor.take(SEGMENT_HEADER_BYTES - 5).map(|_| ()),
        found => Err(start.fault(Fault::Version { found, expected: CHUNKS_VERSION })),
    }
}

/// The length of a chunk with all that belongs to it, from its beginning of up to ten bytes, which stands at `offset`.
pub fn chunk_record_bytes(head: &[u8], offset: u64) -> Result<u64, DecodeError> {
    let mut cursor = Cursor::new(head, offset);
    let length = cursor.uvarint()?;
    let start = cursor.offset() - offset;
    length.checked_add(start + 1 + CRC_BYTES).ok_or_else(|| cursor.fault(Fault::Varint))
}

/// Reads one chunk, which stands at `offset` of its segment.
pub fn decode_chunk(bytes: &[u8], offset: u64) -> Result<ChunkBytes<'_>, DecodeError> {
    let mut outer = Cursor::new(bytes, offset);
    let length = outer.uvarint()?;
    let length = length.checked_add(1).ok_or_else(|| outer.fault(Fault::Varint))?;
    let mut cursor = outer.checked(length)?;
    let encoding = cursor.u8()?;
    Ok(ChunkBytes { encoding, bytes: cursor.rest() })
}

/// How many samples a chunk has by its header; of aggregates, how many each of them has. `None` if the encoding is
/// unknown or there is no header.
pub fn sample_count(encoding: u8, bytes: &[u8]) -> Option<u16> {
    let header = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    match encoding {
        XOR | HISTOGRAM | FLOAT_HISTOGRAM | XOR2 => header(bytes),
        // The two highest bits are the counter reset hint.
        HISTOGRAM_ST | FLOAT_HISTOGRAM_ST => header(bytes).map(|count| count & ST_COUNT_MASK),
        AGGREGATES => {
            let mut cursor = Cursor::new(bytes, 0);
            let length = cursor.uvarint().ok()?;
            let encoding = cursor.u8().ok()?;
            // The first of them counts samples, so it is there and made of floats.
            let count = cursor.take(length).ok()?;
            (encoding == XOR).then(|| header(count))?
        }
        _ => None,
    }
}

/// The bits of the header that count samples in the histogram encodings with start times.
const ST_COUNT_MASK: u16 = 0x3fff;

/// Reads chunks of one block, ahead of the questions: chunks are best asked for in the order of their places.
pub struct ChunkReader<'a, F> {
    segments: &'a [NamedFile<F>],
    folder: String,
    segment: u32,
    ahead: ReadAhead,
}

impl<'a, F: RangeRead> ChunkReader<'a, F> {
    pub(super) fn new(segments: &'a [NamedFile<F>], block: &str) -> ChunkReader<'a, F> {
        let folder = format!("{block}/{CHUNKS_FOLDER}");
        ChunkReader { segments, folder, segment: 0, ahead: ReadAhead::new() }
    }

    /// A chunk; its bytes last until the next call.
    pub fn read(&mut self, place: ChunkPlace) -> Result<ChunkBytes<'_>, BlockError> {
        let (segment, offset) = (place.segment(), place.offset());
        let segments = self.segments;
        let Some(file) = segments.get(segment as usize) else {
            let (file, count) = (self.folder.clone(), segments.len());
            return Err(BlockError::NoSegment { file, segment, count });
        };
        if self.segment != segment {
            self.ahead.reset();
            self.segment = segment;
        }
        let in_file = |error: DecodeError| error.in_file(&file.name);
        let head = self.ahead.up_to(file, offset, LENGTH_BYTES_MAX)?;
        let length = chunk_record_bytes(head, offset).map_err(in_file)?;
        let bytes = self.ahead.exact(file, offset, length)?;
        decode_chunk(bytes, offset).map_err(in_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn samples_are_counted_for_every_encoding() {
        assert_eq!(sample_count(XOR, &[1, 2, 9]), Some(0x102));
        assert_eq!(sample_count(HISTOGRAM_ST, &[0xc0, 7]), Some(7));
        assert_eq!(sample_count(AGGREGATES, &[3, XOR, 0, 5, 1, 0]), Some(5));
        assert_eq!(sample_count(AGGREGATES, &[0, 0, 0]), None);
        assert_eq!(sample_count(XOR, &[1]), None);
        assert_eq!(sample_count(9, &[1, 2]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..40), encoding: u8) {
            let _ = decode_chunk(&bytes, 0);
            let _ = chunk_record_bytes(&bytes, u64::MAX - 20);
            let _ = check_segment_header(&bytes);
            let _ = sample_count(encoding, &bytes);
            let _ = sample_count(AGGREGATES, &bytes);
        }
    }
}
