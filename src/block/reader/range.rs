//! Files of a block as the reader sees them: ranges of bytes, on a disk or in a bucket.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use crate::block::error::{BlockError, DecodeError, Fault};

/// Reads ranges of one immutable file. Calls may block.
pub trait RangeRead: Send + Sync {
    /// The size of the file.
    fn size(&self) -> u64;

    /// Exactly `length` bytes from `offset`; the caller asks only for what is inside the file.
    fn read_range(&self, offset: u64, length: u64) -> io::Result<Bytes>;
}

/// A file on a disk.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    size: u64,
}

impl LocalFile {
    /// Opens a file.
    pub fn open(path: &Path) -> io::Result<LocalFile> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(LocalFile { file, size })
    }
}

impl RangeRead for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_range(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

impl RangeRead for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_range(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let end = offset.checked_add(length).filter(|end| *end <= self.size());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(self.slice(offset as usize..end as usize))
    }
}

/// A file with the name that errors show.
#[derive(Debug)]
pub struct NamedFile<F> {
    /// The name.
    pub name: String,
    /// The file.
    pub file: F,
}

impl<F: RangeRead> NamedFile<F> {
    /// Exactly `length` bytes from `offset`, or the error that they are not there.
    pub fn read(&self, offset: u64, length: u64) -> Result<Bytes, BlockError> {
        let left = self.file.size().saturating_sub(offset);
        if length > left {
            let fault = Fault::Truncated { needed: length, left };
            return Err(DecodeError { offset, fault }.in_file(&self.name));
        }
        let io = |source| BlockError::Io { file: self.name.clone(), source };
        let bytes = self.file.read_range(offset, length).map_err(io)?;
        if bytes.len() as u64 != length {
            return Err(io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }
}

/// The first and the longest read beyond what was asked for.
const AHEAD_BYTES_MIN: u64 = 4 << 10;
const AHEAD_BYTES_MAX: u64 = 256 << 10;

/// Reads a file in larger pieces the longer the reads go forward without gaps, and in small ones otherwise.
#[derive(Debug)]
pub struct ReadAhead {
    start: u64,
    window: Bytes,
    ahead_bytes: u64,
}

impl ReadAhead {
    /// Begins anywhere.
    pub fn new() -> ReadAhead {
        ReadAhead { start: 0, window: Bytes::new(), ahead_bytes: 0 }
    }

    /// Forgets the piece of a file, because the next read is from another one.
    pub fn reset(&mut self) {
        *self = ReadAhead::new();
    }

    /// Exactly `length` bytes from `offset`.
    pub fn exact<F: RangeRead>(
        &mut self,
        file: &NamedFile<F>,
        offset: u64,
        length: u64,
    ) -> Result<&[u8], BlockError> {
        let window_end = self.start + self.window.len() as u64;
        let end = offset.checked_add(length);
        if offset < self.start || end.is_none_or(|end| end > window_end) {
            let sequential = (self.start..=window_end).contains(&offset);
            self.ahead_bytes = if sequential { self.ahead_bytes * 2 } else { 0 };
            self.ahead_bytes = self.ahead_bytes.clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
            let left = file.file.size().saturating_sub(offset);
            self.window = file.read(offset, length.max(self.ahead_bytes.min(left)))?;
            self.start = offset;
        }
        let start = (offset - self.start) as usize;
        Ok(&self.window[start..start + length as usize])
    }

    /// Up to `length` bytes from `offset`; fewer only at the end of the file.
    pub fn up_to<F: RangeRead>(
        &mut self,
        file: &NamedFile<F>,
        offset: u64,
        length: u64,
    ) -> Result<&[u8], BlockError> {
        self.exact(file, offset, length.min(file.file.size().saturating_sub(offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_ahead_give_the_bytes_of_the_file(reads in proptest::collection::vec((0u64..40_000, 0u64..9_000), 1..50)) {
            let bytes: Vec<u8> = (0..30_000u32).map(|at| (at / 7) as u8).collect();
            let file = NamedFile { name: "f".to_owned(), file: Bytes::from(bytes.clone()) };
            let mut ahead = ReadAhead::new();
            for (offset, length) in reads {
                let expected = bytes.get(offset as usize..(offset + length) as usize);
                prop_assert_eq!(ahead.exact(&file, offset, length).ok(), expected);
                let cut = &bytes[bytes.len().min(offset as usize)..bytes.len().min((offset + length) as usize)];
                prop_assert_eq!(ahead.up_to(&file, offset, length).unwrap_or_default(), cut);
            }
        }
    }

    #[test]
    fn ranges_beyond_all_numbers_are_errors() {
        let file = NamedFile { name: "f".to_owned(), file: Bytes::from_static(b"abc") };
        assert!(ReadAhead::new().exact(&file, u64::MAX, 1).is_err());
        assert!(ReadAhead::new().exact(&file, 1, u64::MAX).is_err());
        assert!(file.read(u64::MAX, 1).is_err());
    }
}
