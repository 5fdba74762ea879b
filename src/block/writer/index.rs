//! The index of a block that is being written.
//!
//! An index begins with its symbols in order, which are only known at the end. So series are spooled with provisional
//! symbol numbers first; `finish` writes the symbols, then the series with their final numbers, and has their
//! postings sorted meanwhile.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use annulus_shards::Labels;

use super::WriteError;
use super::out_file::OutFile;
use super::sorter::{PairRecord, PairSorter, SortedPairs};
use super::symbols::{SymbolOrder, SymbolTable};
use crate::block::codec::{put_text, put_uvarint, put_varint, uvarint_bytes};
use crate::block::format::{
    INDEX_FILE, INDEX_HEADER_BYTES, INDEX_MAGIC, INDEX_VERSION, POSTINGS_ALIGN, SERIES_ALIGN,
};
use crate::block::reader::{ChunkMeta, Toc};

/// A list of postings longer than this is written before its length is known.
const LIST_BYTES_MAX: usize = 64 << 10;

/// Bytes of a copy from a spool to the index.
const COPY_BYTES: usize = 256 << 10;

/// The label pair of the list of all series: two empty texts, which are first in the order of symbols.
const ALL_SERIES: (u32, u32) = (0, 0);

/// Collects the series of a block.
pub struct IndexWriter {
    folder: PathBuf,
    symbols: SymbolTable,
    spool: OutFile,
    memory_bytes: usize,
    series_count: u64,
    record: Vec<u8>,
    chunks: Vec<u8>,
}

/// What there is to say about a finished index.
pub struct FinishedIndex {
    pub size_bytes: u64,
    /// The longest series entry with its padding.
    pub series_bytes_max: u64,
}

impl IndexWriter {
    /// Begins an index in the folder of a block.
    pub fn create(folder: &Path, memory_bytes: usize) -> io::Result<IndexWriter> {
        Ok(IndexWriter {
            folder: folder.to_owned(),
            symbols: SymbolTable::new(),
            spool: OutFile::create_spool(&folder.join("series.spool"))?,
            memory_bytes,
            series_count: 0,
            record: Vec::new(),
            chunks: Vec::new(),
        })
    }

    /// How many series there are.
    pub fn series_count(&self) -> u64 {
        self.series_count
    }

    /// Adds a series that comes after all others.
    pub fn append(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<(), WriteError> {
        self.record.clear();
        put_uvarint(&mut self.record, labels.len() as u64);
        for (name, value) in labels.iter() {
            for text in [name, value] {
                let number = self.symbols.intern(text).ok_or(WriteError::TooLarge { what: "symbols" })?;
                put_uvarint(&mut self.record, number.into());
            }
        }
        // Nothing in the chunks depends on symbols: they are spooled as they will be in the index.
        self.chunks.clear();
        encode_chunks(&mut self.chunks, chunks);
        put_uvarint(&mut self.record, self.chunks.len() as u64);
        self.spool.write(&self.record)?;
        self.spool.write(&self.chunks)?;
        self.series_count += 1;
        Ok(())
    }

    /// Writes the index and makes it durable.
    pub fn finish(mut self) -> Result<FinishedIndex, WriteError> {
        let mut index = OutFile::create(&self.folder.join(INDEX_FILE))?;
        index.write(&INDEX_MAGIC.to_be_bytes())?;
        index.write(&[INDEX_VERSION])?;
        let order = self.symbols.order();
        write_symbols(&mut index, &self.symbols, &order)?;

        let series = index.position();
        let mut sorter = PairSorter::new(self.folder.join("pairs.spool"), self.memory_bytes);
        let series_bytes_max = self.write_series(&mut index, &order, &mut sorter)?;

        // Label indices, which nobody reads, would be here; their offsets stay in the table of contents.
        let label_indices = index.position();
        index.pad(POSTINGS_ALIGN)?;
        let postings = index.position();
        let mut offsets = OffsetTable::create(&self.folder.join("offsets.spool"))?;
        write_postings(&mut index, sorter.finish()?, &self.symbols, &order, &mut offsets)?;

        let postings_table = index.position();
        offsets.copy_into(&mut index)?;
        let toc = Toc {
            symbols: INDEX_HEADER_BYTES,
            series,
            label_indices,
            label_indices_table: postings_table,
            postings,
            postings_table,
        };
        index.write(&toc.to_bytes())?;
        for spool in ["series.spool", "pairs.spool", "offsets.spool"] {
            match fs::remove_file(self.folder.join(spool)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(FinishedIndex { size_bytes: index.sync()?, series_bytes_max })
    }

    fn write_series(
        &mut self,
        index: &mut OutFile,
        order: &SymbolOrder,
        sorter: &mut PairSorter,
    ) -> Result<u64, WriteError> {
        let mut spool = SpoolReader::open(self.spool.read_back()?)?;
        let (mut bytes_max, mut content, mut head) = (0, Vec::new(), Vec::new());
        for _ in 0..self.series_count {
            index.pad(SERIES_ALIGN)?;
            let start = index.position();
            let series = u32::try_from(start / SERIES_ALIGN)
                .map_err(|_| WriteError::TooLarge { what: "bytes of series in the index" })?;
            sorter.push(PairRecord { name: ALL_SERIES.0, value: ALL_SERIES.1, series })?;
            content.clear();
            let label_count = spool.uvarint()?;
            put_uvarint(&mut content, label_count);
            for _ in 0..label_count {
                let name = order.ranks[spool.uvarint()? as usize];
                let value = order.ranks[spool.uvarint()? as usize];
                put_uvarint(&mut content, name.into());
                put_uvarint(&mut content, value.into());
                sorter.push(PairRecord { name, value, series })?;
            }
            let chunk_bytes = spool.uvarint()?;
            spool.append_to(&mut content, chunk_bytes)?;
            head.clear();
            put_uvarint(&mut head, content.len() as u64);
            index.write(&head)?;
            index.write(&content)?;
            index.write(&crc32c::crc32c(&content).to_be_bytes())?;
            bytes_max = bytes_max.max((index.position() - start).next_multiple_of(SERIES_ALIGN));
        }
        Ok(bytes_max)
    }
}

/// Chunks of a series: their count, then each one relative to the one before it.
fn encode_chunks(out: &mut Vec<u8>, chunks: &[ChunkMeta]) {
    put_uvarint(out, chunks.len() as u64);
    let mut last: Option<&ChunkMeta> = None;
    for chunk in chunks {
        match last {
            None => put_varint(out, chunk.min_ms),
            Some(last) => put_uvarint(out, chunk.min_ms.abs_diff(last.max_ms)),
        }
        put_uvarint(out, chunk.max_ms.abs_diff(chunk.min_ms));
        match last {
            None => put_uvarint(out, chunk.place.number()),
            Some(last) => {
                put_varint(out, chunk.place.number().wrapping_sub(last.place.number()) as i64);
            }
        }
        last = Some(chunk);
    }
}

fn write_symbols(index: &mut OutFile, symbols: &SymbolTable, order: &SymbolOrder) -> Result<(), WriteError> {
    let text_bytes = |number: &u32| {
        let length = symbols.text(*number).len() as u64;
        uvarint_bytes(length) + length
    };
    let length = 4 + order.sorted.iter().map(text_bytes).sum::<u64>();
    let length = u32::try_from(length).map_err(|_| WriteError::TooLarge { what: "bytes of symbols" })?;
    index.write(&length.to_be_bytes())?;
    let count = symbols.count().to_be_bytes();
    index.write(&count)?;
    let (mut crc, mut entry) = (crc32c::crc32c(&count), Vec::new());
    for number in &order.sorted {
        entry.clear();
        put_text(&mut entry, symbols.text(*number));
        crc = crc32c::crc32c_append(crc, &entry);
        index.write(&entry)?;
    }
    Ok(index.write(&crc.to_be_bytes())?)
}

fn write_postings(
    index: &mut OutFile,
    mut pairs: SortedPairs,
    symbols: &SymbolTable,
    order: &SymbolOrder,
    offsets: &mut OffsetTable,
) -> Result<(), WriteError> {
    let mut list = PostingsList::default();
    let mut open = None;
    while let Some(record) = pairs.next()? {
        let pair = (record.name, record.value);
        if open != Some(pair) {
            list.end(index)?;
            open = Some(pair);
            index.pad(POSTINGS_ALIGN)?;
            let text = |rank: u32| symbols.text(order.sorted[rank as usize]);
            offsets.push(text(pair.0), text(pair.1), index.position())?;
        }
        list.push(index, record.series)?;
    }
    list.end(index)
}

/// One list of postings. Its length and count stand before it, so a short one is collected, and for a long one they
/// are filled in afterwards.
#[derive(Default)]
struct PostingsList {
    bytes: Vec<u8>,
    count: u64,
    /// Where the list begins in the file and the checksum of what is written of it, once it is long.
    written: Option<(u64, u32)>,
}

impl PostingsList {
    fn push(&mut self, index: &mut OutFile, series: u32) -> io::Result<()> {
        self.bytes.extend_from_slice(&series.to_be_bytes());
        self.count += 1;
        if self.bytes.len() < LIST_BYTES_MAX {
            return Ok(());
        }
        if self.written.is_none() {
            self.written = Some((index.position(), 0));
            index.write(&[0; 8])?;
        }
        self.write_collected(index)
    }

    fn write_collected(&mut self, index: &mut OutFile) -> io::Result<()> {
        if let Some((_, crc)) = &mut self.written {
            *crc = crc32c::crc32c_append(*crc, &self.bytes);
        }
        index.write(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }

    fn end(&mut self, index: &mut OutFile) -> Result<(), WriteError> {
        if self.count == 0 {
            return Ok(());
        }
        let too_large = WriteError::TooLarge { what: "bytes of a list of postings" };
        let length = u32::try_from(4 + 4 * self.count).map_err(|_| too_large)?;
        let count = ((length - 4) / 4).to_be_bytes();
        let mut head = [0; 8];
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4..].copy_from_slice(&count);
        let crc_of_count = crc32c::crc32c(&count);
        let crc = if self.written.is_some() {
            self.write_collected(index)?;
            let (start, crc) = self.written.take().expect("it was there a moment ago");
            index.patch(start, &head)?;
            crc32c::crc32c_combine(crc_of_count, crc, length as usize - 4)
        } else {
            index.write(&head)?;
            index.write(&self.bytes)?;
            crc32c::crc32c_append(crc_of_count, &self.bytes)
        };
        self.bytes.clear();
        self.count = 0;
        Ok(index.write(&crc.to_be_bytes())?)
    }
}

/// The postings offset table, which is made along with the lists and stands after them.
struct OffsetTable {
    spool: OutFile,
    count: u32,
    entry: Vec<u8>,
}

impl OffsetTable {
    fn create(path: &Path) -> io::Result<OffsetTable> {
        Ok(OffsetTable { spool: OutFile::create_spool(path)?, count: 0, entry: Vec::new() })
    }

    fn push(&mut self, name: &str, value: &str, offset: u64) -> Result<(), WriteError> {
        self.entry.clear();
        // An entry has two keys, says the first number.
        put_uvarint(&mut self.entry, 2);
        put_text(&mut self.entry, name);
        put_text(&mut self.entry, value);
        put_uvarint(&mut self.entry, offset);
        self.spool.write(&self.entry)?;
        self.count = self.count.checked_add(1).ok_or(WriteError::TooLarge { what: "label pairs" })?;
        Ok(())
    }

    fn copy_into(mut self, index: &mut OutFile) -> Result<(), WriteError> {
        let length = u32::try_from(4 + self.spool.position())
            .map_err(|_| WriteError::TooLarge { what: "bytes of label pairs" })?;
        index.write(&length.to_be_bytes())?;
        let count = self.count.to_be_bytes();
        index.write(&count)?;
        let mut crc = crc32c::crc32c(&count);
        let mut left = self.spool.position();
        let mut file = self.spool.read_back()?;
        file.seek(SeekFrom::Start(0))?;
        let mut piece = vec![0; COPY_BYTES];
        while left > 0 {
            let length = left.min(COPY_BYTES as u64) as usize;
            file.read_exact(&mut piece[..length])?;
            crc = crc32c::crc32c_append(crc, &piece[..length]);
            index.write(&piece[..length])?;
            left -= length as u64;
        }
        Ok(index.write(&crc.to_be_bytes())?)
    }
}

/// Reads the spooled series back.
struct SpoolReader<'a> {
    file: BufReader<&'a File>,
}

impl<'a> SpoolReader<'a> {
    fn open(mut file: &'a File) -> io::Result<SpoolReader<'a>> {
        file.seek(SeekFrom::Start(0))?;
        Ok(SpoolReader { file: BufReader::with_capacity(COPY_BYTES, file) })
    }

    fn uvarint(&mut self) -> io::Result<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the spool of series has changed"));
            }
        }
    }

    fn append_to(&mut self, out: &mut Vec<u8>, length: u64) -> io::Result<()> {
        let copied = (&mut self.file).take(length).read_to_end(out)? as u64;
        if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
