//! A file that is written from its beginning to its end, with few numbers filled in later.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::background::{FLUSH_BYTES, flush_piece};

/// Bytes that are collected for one write.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes a file in pieces of some size.
pub struct OutFile {
    file: File,
    buffer: Vec<u8>,
    /// How many bytes of the file are written.
    flushed: u64,
    /// How many of them the disk has; `None` if it does not need them.
    synced: Option<u64>,
}

impl OutFile {
    /// Makes a file that does not exist yet, to be durable in the end.
    pub fn create(path: &Path) -> io::Result<OutFile> {
        Ok(OutFile { synced: Some(0), ..OutFile::create_spool(path)? })
    }

    /// Makes a file that does not exist yet, only to be read back.
    pub fn create_spool(path: &Path) -> io::Result<OutFile> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(OutFile { file, buffer: Vec::new(), flushed: 0, synced: None })
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends zeros up to a multiple of `align`.
    pub fn pad(&mut self, align: u64) -> io::Result<()> {
        let missing = self.position().next_multiple_of(align) - self.position();
        self.buffer.resize(self.buffer.len() + missing as usize, 0);
        Ok(())
    }

    /// Replaces bytes that were appended before.
    pub fn patch(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(at + bytes.len() as u64 <= self.position(), "only what was appended can be replaced");
        if at < self.flushed {
            self.flush()?;
            return self.file.write_all_at(bytes, at);
        }
        let start = (at - self.flushed) as usize;
        self.buffer[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Hands over what was collected, and gives the file to read it back.
    pub fn read_back(&mut self) -> io::Result<&File> {
        self.flush()?;
        Ok(&self.file)
    }

    /// Makes the content durable and returns its size.
    pub fn sync(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_all()?;
        Ok(self.flushed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        if self.synced.is_some_and(|synced| self.flushed - synced >= FLUSH_BYTES) {
            flush_piece(&self.file)?;
            self.synced = Some(self.flushed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_reach_what_is_written_and_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = OutFile::create(&path).unwrap();
        file.write(b"abc").unwrap();
        file.pad(4).unwrap();
        file.patch(1, b"X").unwrap();
        file.write(&vec![b'y'; BUFFER_BYTES]).unwrap();
        file.write(b"end").unwrap();
        file.patch(0, b"A").unwrap();
        assert_eq!(file.position(), 4 + BUFFER_BYTES as u64 + 3);
        assert_eq!(file.sync().unwrap(), 4 + BUFFER_BYTES as u64 + 3);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..5], b"AXc\0y");
        assert!(bytes.ends_with(b"yend"));
    }
}
