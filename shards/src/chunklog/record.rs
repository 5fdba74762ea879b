//! The bytes of one record: length, encoding, checksum, chunk.

use super::place::ChunkPlace;
use crate::rt::BLOCK_BYTES;

/// Length (3 bytes), encoding (1 byte), CRC32C (4 bytes).
pub const RECORD_HEADER_BYTES: usize = 8;

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordDamage {
    /// The file ends inside it.
    #[error("the record is cut off")]
    Truncated,
    /// The checksum does not fit to the bytes at this place.
    #[error("the checksum is wrong")]
    Checksum,
    /// Header bytes that no version writes.
    #[error("the header is malformed")]
    Header,
    /// It is not the chunk that the place names.
    #[error("another chunk is there")]
    Other,
}

/// The checksum covers file and offset too, so that bytes of another place never pass.
fn checksum(file: u32, offset: u32, header: [u8; 4], chunk: &[u8]) -> u32 {
    let mut place = [0; 12];
    place[..4].copy_from_slice(&file.to_le_bytes());
    place[4..8].copy_from_slice(&offset.to_le_bytes());
    place[8..].copy_from_slice(&header);
    crc32c::crc32c_append(crc32c::crc32c(&place), chunk)
}

/// Appends the record of a chunk whose place is `place`.
pub fn put_record(out: &mut Vec<u8>, place: ChunkPlace, chunk: &[u8]) {
    let header = place.raw_len_encoding().to_le_bytes();
    out.extend_from_slice(&header);
    out.extend_from_slice(&checksum(place.file, place.offset, header, chunk).to_le_bytes());
    out.extend_from_slice(chunk);
}

/// The chunk of a record that begins at `bytes`' start, which is at `offset` of the file.
///
/// # Errors
/// When the bytes are not a whole record of that place.
pub fn parse_record(file: u32, offset: u32, bytes: &[u8]) -> Result<(ChunkPlace, &[u8]), RecordDamage> {
    let (header, rest) = bytes.split_first_chunk::<4>().ok_or(RecordDamage::Truncated)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(RecordDamage::Truncated)?;
    let place =
        ChunkPlace::from_raw(file, offset, u32::from_le_bytes(*header)).ok_or(RecordDamage::Header)?;
    let chunk = rest.get(..place.chunk_bytes() as usize).ok_or(RecordDamage::Truncated)?;
    if checksum(file, offset, *header, chunk) != u32::from_le_bytes(*crc) {
        return Err(RecordDamage::Checksum);
    }
    Ok((place, chunk))
}

/// The records of a part of a file, for tools. Zeros up to the next block follow where a write was padded.
pub struct Scan<'a> {
    file: u32,
    /// The bytes from `begin` on.
    bytes: &'a [u8],
    /// Where the part begins in the file.
    begin: usize,
    /// Where the next record is looked for, in the file.
    offset: usize,
}

impl<'a> Scan<'a> {
    /// Scans bytes of a file from `begin` on, where a record or padding begins.
    pub fn new(file: u32, begin: u32, bytes: &'a [u8]) -> Scan<'a> {
        Scan { file, bytes, begin: begin as usize, offset: begin as usize }
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Result<(ChunkPlace, &'a [u8]), (u32, RecordDamage)>;

    /// The next record, or where and why there is none; the scan goes on behind it.
    fn next(&mut self) -> Option<Self::Item> {
        while let Some(rest) = self.bytes.get(self.offset - self.begin..).filter(|rest| !rest.is_empty()) {
            let next_block = (self.offset + 1).next_multiple_of(BLOCK_BYTES);
            // No chunk is empty, and no encoding is 0: zeros are padding.
            if rest.iter().take(4).all(|byte| *byte == 0) {
                self.offset = next_block;
                continue;
            }
            let Ok(offset) = u32::try_from(self.offset) else { return None };
            return Some(match parse_record(self.file, offset, rest) {
                Ok((place, chunk)) => {
                    self.offset += RECORD_HEADER_BYTES + chunk.len();
                    Ok((place, chunk))
                }
                Err(damage) => {
                    let len =
                        rest.first_chunk::<4>().map_or(0, |header| u32::from_le_bytes(*header)) as usize;
                    self.offset = match damage {
                        // Most likely the length is right.
                        RecordDamage::Checksum => {
                            self.offset + RECORD_HEADER_BYTES + (len & ChunkPlace::LEN_MAX)
                        }
                        _ => next_block,
                    };
                    Err((offset, damage))
                }
            });
        }
        None
    }
}
