//! The two ends of an index: its header, and the table of contents.

use crate::block::codec::Cursor;
use crate::block::error::{DecodeError, Fault};
use crate::block::format::{CRC_BYTES, INDEX_HEADER_BYTES, INDEX_MAGIC, INDEX_VERSION, TOC_BYTES};

/// Where the sections of an index begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Toc {
    /// The symbols.
    pub symbols: u64,
    /// The series.
    pub series: u64,
    /// The values of each label, which nobody reads.
    pub label_indices: u64,
    /// Where those are; in newer files nothing is there, and the postings end here.
    pub label_indices_table: u64,
    /// The lists of postings.
    pub postings: u64,
    /// Where each list is.
    pub postings_table: u64,
}

impl Toc {
    /// The bytes at the end of the index.
    pub fn to_bytes(&self) -> [u8; TOC_BYTES as usize] {
        let mut bytes = [0; TOC_BYTES as usize];
        let fields = [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_indices_table,
            self.postings,
            self.postings_table,
        ];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        let crc_at = (TOC_BYTES - CRC_BYTES) as usize;
        let crc = crc32c::crc32c(&bytes[..crc_at]);
        bytes[crc_at..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

/// Checks the first five bytes of an index.
pub fn check_index_header(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes, 0);
    let start = cursor.clone();
    let found = cursor.be32()?;
    if found != INDEX_MAGIC {
        return Err(start.fault(Fault::Magic { found, expected: INDEX_MAGIC }));
    }
    let start = cursor.clone();
    match cursor.u8()? {
        INDEX_VERSION => Ok(()),
        1 => Err(start.fault(Fault::IndexVersion1)),
        found => Err(start.fault(Fault::Version { found, expected: INDEX_VERSION })),
    }
}

/// Reads the last 52 bytes of an index of `index_bytes`, and checks that its sections can be where it says.
pub fn parse_toc(bytes: &[u8], index_bytes: u64) -> Result<Toc, DecodeError> {
    let mut outer = Cursor::new(bytes, index_bytes.saturating_sub(TOC_BYTES));
    let mut cursor = outer.checked(TOC_BYTES - CRC_BYTES)?;
    let start = cursor.clone();
    let toc = Toc {
        symbols: cursor.be64()?,
        series: cursor.be64()?,
        label_indices: cursor.be64()?,
        label_indices_table: cursor.be64()?,
        postings: cursor.be64()?,
        postings_table: cursor.be64()?,
    };
    let in_order = INDEX_HEADER_BYTES <= toc.symbols
        && toc.symbols < toc.series
        && toc.series <= toc.postings
        && toc.postings <= toc.postings_table;
    if !in_order {
        return Err(start.fault(Fault::Order { what: "the sections of the index" }));
    }
    let limit = index_bytes.saturating_sub(TOC_BYTES);
    if toc.postings_table > limit {
        let what = "the offset of a section";
        return Err(start.fault(Fault::Limit { what, found: toc.postings_table, limit }));
    }
    Ok(toc)
}
