//! Files and directories that can only be read: for tools, which look into the files of a process that has stopped.
//!
//! Plain reads, so that no runtime is needed: every future is ready at once. Whatever would write is an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{AppendFile, DirectFile, Directory, ReadAt};
use super::file::SharedFile;

/// A file that is only read.
#[derive(Debug)]
pub struct ReadOnlyFile {
    file: File,
    size_bytes: u64,
}

impl ReadOnlyFile {
    /// Opens a file.
    pub fn open(path: &Path) -> io::Result<ReadOnlyFile> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(ReadOnlyFile { file, size_bytes })
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it was opened for reading only"))
}

impl DirectFile for ReadOnlyFile {
    type Buffer = Vec<u8>;
    type Read = Vec<u8>;

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn allocate(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    async fn write_at(&self, _buffer: Vec<u8>, _offset: u64) -> io::Result<()> {
        read_only()
    }

    async fn yield_now(&self) {}

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory whose files are only read.
#[derive(Debug, Clone)]
pub struct ReadOnlyDirectory(PathBuf);

impl ReadOnlyDirectory {
    /// Uses an existing directory.
    pub fn new(path: &Path) -> ReadOnlyDirectory {
        ReadOnlyDirectory(path.to_owned())
    }
}

impl Directory for ReadOnlyDirectory {
    type File = ReadOnlyFile;
    type Append = NoFile;

    async fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    async fn open(&self, name: &str) -> io::Result<ReadOnlyFile> {
        ReadOnlyFile::open(&self.0.join(name))
    }

    async fn create(&self, _name: &str) -> io::Result<NoFile> {
        read_only()
    }

    async fn create_log(&self, _name: &str) -> io::Result<NoFile> {
        read_only()
    }

    async fn reader(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(SharedFile::open(&self.0.join(name))?))
    }

    async fn publish(&self, _from: &str, _to: &str) -> io::Result<()> {
        read_only()
    }

    async fn remove(&self, _name: &str) -> io::Result<()> {
        read_only()
    }
}

/// The file that a [`ReadOnlyDirectory`] never makes.
pub enum NoFile {}

impl AppendFile for NoFile {
    type Buffer = Vec<u8>;

    fn allocate(&self, _len: usize) -> Vec<u8> {
        match *self {}
    }

    async fn append(&mut self, _buffer: Vec<u8>) -> io::Result<()> {
        match *self {}
    }

    async fn finish(self) -> io::Result<()> {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn what_would_write_is_an_error_and_leaves_the_files_as_they_are() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("wal"), [7; 8192]).unwrap();
        let directory = ReadOnlyDirectory::new(temp.path());
        let file = block_on(directory.open("wal")).unwrap();
        assert_eq!(block_on(file.read_at(4096, 4096)).unwrap(), [7; 4096]);
        assert_eq!(block_on(file.read_at(4096, 8192)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let buffer = file.allocate(4096);
        assert!(block_on(file.write_at(buffer, 0)).is_err());
        assert!(block_on(directory.create("new")).is_err() && block_on(directory.create_log("new")).is_err());
        assert!(block_on(directory.publish("wal", "new")).is_err());
        assert!(block_on(directory.remove("wal")).is_err());
        assert_eq!(block_on(directory.list()).unwrap(), ["wal"]);
        assert_eq!(block_on(directory.reader("wal")).unwrap().size_bytes().unwrap(), 8192);
    }
}
