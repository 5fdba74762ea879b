//! Sorted runs of series in a temporary file. The file has no name any more once it is open, so that it is gone with
//! the process.
//!
//! A record is the length of its body and the body's CRC32C, both of four bytes, and the body: how many labels, each
//! name and value with its length, and the list of chunks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use annulus_shards::Labels;
use annulus_shards::labels::LABEL_BYTES_MAX;

use super::chunk_list::ChunkIter;

/// The name that the file has for a moment.
const FILE_NAME: &str = "series.spool";

const HEADER_BYTES: usize = 8;

/// Bytes that are collected for one write.
const BUFFER_BYTES: usize = 256 << 10;

/// Runs, one after the other.
pub struct Spool {
    file: io::BufWriter<File>,
    written: u64,
    runs: Vec<Range<u64>>,
    body: Vec<u8>,
}

impl Spool {
    /// An empty one, in a folder.
    pub fn create(folder: &Path) -> io::Result<Spool> {
        let path = folder.join(FILE_NAME);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        let file = io::BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Spool { file, written: 0, runs: Vec::new(), body: Vec::new() })
    }

    /// Appends a series to the run that is being written.
    pub fn write(&mut self, labels: &Labels, chunks: &[u8]) -> io::Result<()> {
        self.body.clear();
        self.body.extend_from_slice(&(labels.len() as u32).to_le_bytes());
        for (name, value) in labels.iter() {
            for text in [name, value] {
                self.body.extend_from_slice(&(text.len() as u32).to_le_bytes());
                self.body.extend_from_slice(text.as_bytes());
            }
        }
        self.body.extend_from_slice(chunks);
        let length = u32::try_from(self.body.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::FileTooLarge, "a series has more than 4 GiB of chunks")
        })?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&crc32c::crc32c(&self.body).to_le_bytes())?;
        self.file.write_all(&self.body)?;
        self.written += (HEADER_BYTES + self.body.len()) as u64;
        Ok(())
    }

    /// Ends the run that is being written.
    pub fn end_run(&mut self) {
        let start = self.runs.last().map_or(0, |run| run.end);
        self.runs.push(start..self.written);
    }

    /// Hands over what was collected, and gives the file and its runs.
    pub fn read_back(&mut self) -> io::Result<(&File, &[Range<u64>])> {
        self.file.flush()?;
        Ok((self.file.get_ref(), &self.runs))
    }
}

/// Reads one run from its beginning to its end.
pub struct RunReader {
    /// What is not read from the file yet.
    rest: Range<u64>,
    piece_bytes: usize,
    /// What is read; used up to `next`.
    piece: Vec<u8>,
    next: usize,
    /// Where the chunks of the series that was read last are in `piece`.
    chunks: Range<usize>,
}

impl RunReader {
    /// From the first series on; the file is read in pieces of `piece_bytes`.
    pub fn new(run: Range<u64>, piece_bytes: usize) -> RunReader {
        RunReader { rest: run, piece_bytes, piece: Vec::new(), next: 0, chunks: 0..0 }
    }

    /// Reads the next series, and gives its labels; `None` at the end of the run.
    pub fn next(&mut self, file: &File) -> io::Result<Option<Labels>> {
        if self.next == self.piece.len() && self.rest.is_empty() {
            return Ok(None);
        }
        self.fill(file, HEADER_BYTES)?;
        let header = &self.piece[self.next..];
        let (length, header) = header.split_first_chunk().ok_or_else(damaged)?;
        let (crc, _) = header.split_first_chunk().ok_or_else(damaged)?;
        let (length, crc) = (u32::from_le_bytes(*length) as usize, u32::from_le_bytes(*crc));
        self.next += HEADER_BYTES;
        self.fill(file, length)?;
        let body = self.next..self.next + length;
        self.next = body.end;
        let bytes = &self.piece[body.clone()];
        if crc32c::crc32c(bytes) != crc {
            return Err(damaged());
        }
        let (labels, chunks) = split_body(bytes).ok_or_else(damaged)?;
        if !ChunkIter::is_whole(chunks) {
            return Err(damaged());
        }
        self.chunks = body.end - chunks.len()..body.end;
        Ok(Some(labels))
    }

    /// The chunks of the series that was read last.
    pub fn chunks(&self) -> &[u8] {
        &self.piece[self.chunks.clone()]
    }

    /// Reads on until `needed` bytes are there.
    fn fill(&mut self, file: &File, needed: usize) -> io::Result<()> {
        let there = self.piece.len() - self.next;
        if there >= needed {
            return Ok(());
        }
        let missing = (needed - there) as u64;
        let left = self.rest.end - self.rest.start;
        if missing > left {
            return Err(damaged());
        }
        self.piece.drain(..self.next);
        self.next = 0;
        let length = left.min(missing.max(self.piece_bytes as u64));
        self.piece.resize(there + length as usize, 0);
        file.read_exact_at(&mut self.piece[there..], self.rest.start)?;
        self.rest.start += length;
        Ok(())
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a temporary file does not hold what was written to it")
}

fn split_body(body: &[u8]) -> Option<(Labels, &[u8])> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut pairs = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let name = take_text(&mut rest)?;
        pairs.push((name, take_text(&mut rest)?));
    }
    Some((Labels::from_sorted(pairs), rest))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first_chunk()?;
    let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    std::str::from_utf8(text).ok().filter(|text| text.len() <= LABEL_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_has_changed_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
        let labels = Labels::from_pairs([("a", "1"), ("b", "2")]);
        spool.write(&labels, b"").unwrap();
        spool.end_run();
        let (file, runs) = spool.read_back().unwrap();
        let run = runs[0].clone();
        assert_eq!(RunReader::new(run.clone(), 1).next(file).unwrap(), Some(labels));
        for at in run.clone() {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            RunReader::new(run.clone(), 4096).next(file).unwrap_err();
            file.write_all_at(&byte, at).unwrap();
        }
        RunReader::new(run.start..run.end - 1, 4096).next(file).unwrap_err();
    }
}
