//! Writing the log to its files, piece by piece.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use super::log::ChunkLog;
use crate::rt::{AppendFile, Directory};

/// Bytes of one write. In tests little is many of them.
const PIECE_BYTES: usize = if cfg!(test) { 8 << 10 } else { 256 << 10 };

/// Why chunks could not be written. They stay in memory, and the next try begins where this one ended.
#[derive(Debug, thiserror::Error)]
#[error("{what} {name}: {source}")]
pub struct LogWriteError {
    /// What was being done.
    pub what: &'static str,
    /// The file.
    pub name: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl LogWriteError {
    /// Whether the disk has no space left.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Writes the chunks of a log; one task uses it.
pub struct ChunkLogWriter<D: Directory> {
    directory: D,
    open: BTreeMap<u32, D::Append>,
    /// Files that nothing needs and that could not be removed.
    unremoved: ListedFiles,
}

/// Files by number, with their windows.
pub type ListedFiles = Vec<(u32, i64)>;

impl<D: Directory> ChunkLogWriter<D> {
    /// For the files of a directory.
    pub fn new(directory: D) -> ChunkLogWriter<D> {
        ChunkLogWriter { directory, open: BTreeMap::new(), unremoved: Vec::new() }
    }

    /// The files that are there: number and window of each.
    pub async fn list(directory: &D) -> io::Result<ListedFiles> {
        let mut files: ListedFiles =
            directory.list().await?.iter().filter_map(|name| parse_file_name(name)).collect();
        files.sort_unstable();
        Ok(files)
    }

    /// Writes what is pending, as far as it fills pieces.
    pub async fn write(&mut self, log: &RefCell<ChunkLog>) -> Result<(), LogWriteError> {
        self.write_pieces(log, PIECE_BYTES).await
    }

    /// Writes everything that was appended before the call.
    pub async fn flush(&mut self, log: &RefCell<ChunkLog>) -> Result<(), LogWriteError> {
        log.borrow_mut().pad();
        self.write_pieces(log, 1).await
    }

    async fn write_pieces(&mut self, log: &RefCell<ChunkLog>, bytes_min: usize) -> Result<(), LogWriteError> {
        loop {
            let next = log.borrow().next_piece(bytes_min, PIECE_BYTES).map(|(at, bytes)| (at, bytes.len()));
            let Some((position, len)) = next else { return Ok(()) };
            let name = file_name(position.file, position.window_ms);
            let failed = |what| {
                let name = name.clone();
                move |source| LogWriteError { what, name, source }
            };
            if !self.open.contains_key(&position.file) {
                let made = self.directory.create_log(&name).await.map_err(failed("making"))?;
                // Before anything is in the file: after a failure it is made again.
                let reader = self.directory.reader(&name).await.map_err(failed("opening"))?;
                log.borrow_mut().add_reader(position.file, reader);
                self.open.insert(position.file, made);
            }
            let Some(file) = self.open.get_mut(&position.file) else { continue };
            let mut buffer = file.allocate(len);
            match log.borrow().next_piece(bytes_min, PIECE_BYTES) {
                Some((again, bytes)) if again == position && bytes.len() >= len => {
                    buffer.as_mut().copy_from_slice(&bytes[..len]);
                }
                // The file was taken out meanwhile.
                _ => continue,
            }
            file.append(buffer).await.map_err(failed("writing"))?;
            log.borrow_mut().written(position.file, len);
        }
    }

    /// Removes files that were taken out of the log, and those that could not be removed before.
    pub async fn remove(&mut self, files: &[(u32, i64)]) -> Result<(), LogWriteError> {
        let mut files = [std::mem::take(&mut self.unremoved), files.to_vec()].concat();
        let mut first_error = None;
        while let Some((file, window_ms)) = files.pop() {
            let name = file_name(file, window_ms);
            if let Some(open) = self.open.remove(&file) {
                // All that was appended is durable, and nobody wants it any more.
                let _ = open.finish().await;
            }
            match self.directory.remove(&name).await {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    self.unremoved.push((file, window_ms));
                    first_error.get_or_insert(LogWriteError { what: "removing", name, source });
                }
                _ => {}
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// The name of a file.
pub fn file_name(file: u32, window_ms: i64) -> String {
    format!("chunks-{file:010}-{window_ms}")
}

/// Number and window of a file, from its name.
pub fn parse_file_name(name: &str) -> Option<(u32, i64)> {
    let (file, window_ms) = name.strip_prefix("chunks-")?.split_once('-')?;
    let (file, window_ms) = (file.parse().ok()?, window_ms.parse().ok()?);
    (file_name(file, window_ms) == name).then_some((file, window_ms))
}
