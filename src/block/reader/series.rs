//! Series entries of an index: labels as symbol numbers, and where the chunks are.

use annulus_shards::Labels;
use annulus_shards::labels::LABEL_BYTES_MAX;
use hashbrown::HashMap;

use super::IndexReader;
use super::chunks::ChunkPlace;
use super::range::{RangeRead, ReadAhead};
use super::symbols::Symbols;
use crate::block::codec::Cursor;
use crate::block::error::{BlockError, DecodeError, Fault};
use crate::block::format::{CRC_BYTES, SERIES_ALIGN};

/// Where a series is in the index, in units of 16 bytes. Rises with the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u32);

impl SeriesRef {
    /// Where its entry is in the file.
    pub fn offset(self) -> u64 {
        u64::from(self.0) * SERIES_ALIGN
    }
}

/// What an index says about a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Where its bytes are.
    pub place: ChunkPlace,
    /// Time of its first sample.
    pub min_ms: i64,
    /// Time of its last sample.
    pub max_ms: i64,
}

/// A series as its entry has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawSeries {
    /// The symbols of the name and the value of each label.
    pub labels: Vec<(u32, u32)>,
    /// Its chunks, as they were written: in order of time, if all is well.
    pub chunks: Vec<ChunkMeta>,
}

/// A series with its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The labels.
    pub labels: Labels,
    /// Its chunks.
    pub chunks: Vec<ChunkMeta>,
}

/// The longest beginning of an entry that [`series_entry_bytes`] needs.
const LENGTH_BYTES_MAX: u64 = 10;

/// The length of a whole entry, from its beginning of up to ten bytes, which stands at `offset`.
pub fn series_entry_bytes(head: &[u8], offset: u64) -> Result<u64, DecodeError> {
    let mut cursor = Cursor::new(head, offset);
    let length = cursor.uvarint()?;
    let start = cursor.offset() - offset;
    length.checked_add(start + CRC_BYTES).ok_or_else(|| cursor.fault(Fault::Varint))
}

/// Reads one entry, which stands at `offset`.
pub fn decode_series(bytes: &[u8], offset: u64, into: &mut RawSeries) -> Result<(), DecodeError> {
    into.labels.clear();
    into.chunks.clear();
    let mut outer = Cursor::new(bytes, offset);
    let length = outer.uvarint()?;
    let mut cursor = outer.checked(length)?;
    let label_count = cursor.uvarint()?;
    for _ in 0..cursor.count("the count of labels", label_count, 2)? {
        into.labels.push((cursor.uvarint32()?, cursor.uvarint32()?));
    }
    let chunk_count = cursor.uvarint()?;
    let chunk_count = cursor.count("the count of chunks", chunk_count, 3)?;
    into.chunks.reserve(chunk_count);
    for _ in 0..chunk_count {
        let start = cursor.clone();
        let beyond = || start.fault(Fault::Order { what: "the times of a chunk" });
        let (last, min_ms) = match into.chunks.last() {
            None => (0, cursor.varint()?),
            Some(last) => {
                let min_ms = last.max_ms.checked_add_unsigned(cursor.uvarint()?);
                (last.place.number(), min_ms.ok_or_else(beyond)?)
            }
        };
        let max_ms = min_ms.checked_add_unsigned(cursor.uvarint()?).ok_or_else(beyond)?;
        let number = match into.chunks.is_empty() {
            true => cursor.uvarint()?,
            false => last.wrapping_add_signed(cursor.varint()?),
        };
        into.chunks.push(ChunkMeta { place: ChunkPlace::from_number(number), min_ms, max_ms });
    }
    if cursor.left() > 0 {
        let what = "the rest of a series entry";
        return Err(cursor.fault(Fault::Mismatch { what, found: cursor.left(), expected: 0 }));
    }
    Ok(())
}

/// Bytes of symbols that are kept; beyond, they are forgotten and read again.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Reads series of one index. It remembers the symbols that it met, and reads ahead: series are best asked for in
/// the order of their references.
pub struct SeriesReader<'a, F> {
    index: &'a IndexReader<F>,
    entries: ReadAhead,
    symbols: ReadAhead,
    texts: HashMap<u32, Box<str>, ahash::RandomState>,
    text_bytes: usize,
    raw: RawSeries,
}

impl<'a, F: RangeRead> SeriesReader<'a, F> {
    pub(super) fn new(index: &'a IndexReader<F>) -> SeriesReader<'a, F> {
        SeriesReader {
            index,
            entries: ReadAhead::new(),
            symbols: ReadAhead::new(),
            texts: HashMap::default(),
            text_bytes: 0,
            raw: RawSeries::default(),
        }
    }

    /// The labels of a series, and where its chunks are.
    pub fn read(&mut self, series: SeriesRef) -> Result<Series, BlockError> {
        self.read_sized(series).map(|(series, _)| series)
    }

    /// The same, with the length of its entry.
    pub(in crate::block) fn read_sized(&mut self, series: SeriesRef) -> Result<(Series, u64), BlockError> {
        let index = self.index;
        let (file, offset) = (&index.file, series.offset());
        let in_file = |error: DecodeError| error.in_file(&file.name);
        let head = self.entries.up_to(file, offset, LENGTH_BYTES_MAX)?;
        let length = series_entry_bytes(head, offset).map_err(in_file)?;
        let bytes = self.entries.exact(file, offset, length)?;
        decode_series(bytes, offset, &mut self.raw).map_err(in_file)?;
        if self.text_bytes > TEXT_BYTES_MAX {
            self.texts.clear();
            self.text_bytes = 0;
        }
        for (name, value) in &self.raw.labels {
            for number in [*name, *value] {
                if !self.texts.contains_key(&number) {
                    let text = index.symbol(&mut self.symbols, number, offset)?;
                    self.text_bytes += text.len() + size_of::<(u32, Box<str>)>();
                    self.texts.insert(number, text);
                }
            }
        }
        // Symbols are in order, so sorted names have rising numbers.
        if !self.raw.labels.is_sorted_by(|a, b| a.0 < b.0) {
            let fault = Fault::Order { what: "the labels of a series" };
            return Err(in_file(DecodeError { offset, fault }));
        }
        let text = |number: &u32| &*self.texts[number];
        let labels = Labels::from_sorted(self.raw.labels.iter().map(|(n, v)| (text(n), text(v))));
        Ok((Series { labels, chunks: std::mem::take(&mut self.raw.chunks) }, length))
    }
}

impl<F: RangeRead> IndexReader<F> {
    /// The text of a symbol that the series at `series_offset` names.
    fn symbol(&self, ahead: &mut ReadAhead, number: u32, series_offset: u64) -> Result<Box<str>, BlockError> {
        let in_file = |error: DecodeError| error.in_file(&self.file.name);
        let Some(range) = self.symbols.range(number) else {
            let (what, limit) = ("the number of a symbol", self.symbols.count().into());
            let fault = Fault::Limit { what, found: number.into(), limit };
            return Err(in_file(DecodeError { offset: series_offset, fault }));
        };
        let bytes = ahead.exact(&self.file, range.start, range.end - range.start)?;
        let text = Symbols::find(number, bytes, range.start).map_err(in_file)?;
        if text.len() > LABEL_BYTES_MAX {
            let (what, found) = ("the length of a label", text.len() as u64);
            let fault = Fault::Limit { what, found, limit: LABEL_BYTES_MAX as u64 };
            return Err(in_file(DecodeError { offset: range.start, fault }));
        }
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_read_as_the_format_says() {
        // Two labels, two chunks; the second one begins 5 ms after the first one ends and 200 bytes further on.
        let content = [2, 1, 2, 3, 4, 2, 19, 10, 8, 5, 7, 0x90, 3];
        let mut bytes = vec![content.len() as u8];
        bytes.extend(content);
        bytes.extend(crc32c::crc32c(&content).to_be_bytes());
        assert_eq!(series_entry_bytes(&bytes, 0), Ok(bytes.len() as u64));
        let mut series = RawSeries::default();
        decode_series(&bytes, 0, &mut series).unwrap();
        assert_eq!(series.labels, [(1, 2), (3, 4)]);
        let chunk =
            |number, min_ms, max_ms| ChunkMeta { place: ChunkPlace::from_number(number), min_ms, max_ms };
        assert_eq!(series.chunks, [chunk(8, -10, 0), chunk(208, 5, 12)]);
    }

    proptest! {
        #[test]
        fn any_content_ends_in_a_result(content in proptest::collection::vec(prop_oneof![0u8..6, any::<u8>()], 0..60)) {
            let mut bytes = vec![content.len() as u8];
            bytes.extend(&content);
            bytes.extend(crc32c::crc32c(&content).to_be_bytes());
            let _ = decode_series(&bytes, 0, &mut RawSeries::default());
            let _ = decode_series(&content, u64::MAX, &mut RawSeries::default());
            let _ = series_entry_bytes(&content, 0);
        }
    }
}
