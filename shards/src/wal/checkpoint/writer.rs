//! Writing one checkpoint, page by page, while the shard goes on.

use super::format::{FOOTER_MARK, HEADER_BYTES, MAGIC, VERSION, footer_crc, page_crc};
use super::{CheckpointError, Covered, PAGE_BYTES_MAX, file_name};
use crate::rt::{AppendFile, BLOCK_BYTES, Directory};

/// Bytes of one write. In tests a small checkpoint is many of them.
const PIECE_BYTES: usize = if cfg!(test) { 8 << 10 } else { 256 << 10 };

/// A checkpoint that is being written. Dropped unfinished it leaves a `.new` file, which the next one replaces or
/// removes.
pub struct Writer<D: Directory> {
    directory: D,
    file: D::Append,
    begin_seq: u64,
    end_seq: u64,
    pages: u64,
    pages_crc: u32,
    /// What is not written yet; less than [`PIECE_BYTES`] between calls.
    pending: Vec<u8>,
    bytes: u64,
}

/// A checkpoint that is durable under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// What it covers.
    pub covered: Covered,
    /// How many pages it has.
    pub pages: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

impl<D: Directory> Writer<D> {
    /// Begins a checkpoint whose pages will cover everything below `begin_seq`.
    pub async fn create(directory: D, shard: u32, begin_seq: u64) -> Result<Writer<D>, CheckpointError> {
        let file = directory
            .create(&new_name(begin_seq))
            .await
            .map_err(|source| CheckpointError::Io { what: "making a checkpoint", source })?;
        let mut pending = Vec::with_capacity(PIECE_BYTES);
        pending.extend_from_slice(&MAGIC);
        pending.extend_from_slice(&VERSION.to_le_bytes());
        pending.extend_from_slice(&shard.to_le_bytes());
        pending.extend_from_slice(&begin_seq.to_le_bytes());
        let crc = crc32c::crc32c(&pending);
        pending.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(pending.len(), HEADER_BYTES, "the header has its fixed size");
        let end_seq = begin_seq.saturating_sub(1);
        Ok(Writer { directory, file, begin_seq, end_seq, pages: 0, pages_crc: 0, pending, bytes: 0 })
    }

    /// Appends a page that includes every frame up to `seq` that concerns its series.
    ///
    /// # Panics
    /// When the page is longer than [`PAGE_BYTES_MAX`], or does not reach `begin_seq`.
    pub async fn page(&mut self, seq: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        assert!(bytes.len() <= PAGE_BYTES_MAX, "a page of {} bytes is longer than any may be", bytes.len());
        assert!(seq + 1 >= self.begin_seq, "every page covers what the checkpoint covers");
        let crc = page_crc(self.begin_seq, self.pages, seq, bytes);
        self.put(&(bytes.len() as u32).to_le_bytes()).await?;
        self.put(&crc.to_le_bytes()).await?;
        self.put(&seq.to_le_bytes()).await?;
        self.put(bytes).await?;
        self.pages_crc = crc32c::crc32c_append(self.pages_crc, &crc.to_le_bytes());
        self.pages += 1;
        self.end_seq = self.end_seq.max(seq);
        Ok(())
    }

    /// The newest frame that a page includes: what has to be durable before the checkpoint may be finished.
    pub fn end_seq(&self) -> u64 {
        self.end_seq
    }

    /// Makes the checkpoint durable, and then valid by giving it its name.
    ///
    /// # Panics
    /// When a page includes a frame above `durable_seq`.
    pub async fn finish(mut self, durable_seq: u64) -> Result<Finished, CheckpointError> {
        assert!(
            self.end_seq <= durable_seq,
            "a page includes frame {}, and only {durable_seq} is durable",
            self.end_seq
        );
        let crc = footer_crc(self.pages_crc, self.begin_seq, self.end_seq, self.pages);
        self.put(&FOOTER_MARK.to_le_bytes()).await?;
        self.put(&crc.to_le_bytes()).await?;
        self.put(&self.end_seq.to_le_bytes()).await?;
        self.put(&self.pages.to_le_bytes()).await?;
        let padded = self.pending.len().next_multiple_of(BLOCK_BYTES);
        self.pending.resize(padded, 0);
        self.write_pending().await?;

        let io = |what| move |source| CheckpointError::Io { what, source };
        self.file.finish().await.map_err(io("flushing a checkpoint"))?;
        let published = self.directory.publish(&new_name(self.begin_seq), &file_name(self.begin_seq)).await;
        published.map_err(io("naming a checkpoint"))?;
        Ok(Finished {
            covered: Covered { begin_seq: self.begin_seq, end_seq: self.end_seq },
            pages: self.pages,
            bytes: self.bytes,
        })
    }

    async fn put(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.pending.len()));
            self.pending.extend_from_slice(part);
            bytes = rest;
            if self.pending.len() == PIECE_BYTES {
                self.write_pending().await?;
            }
        }
        Ok(())
    }

    async fn write_pending(&mut self) -> Result<(), CheckpointError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut buffer = self.file.allocate(self.pending.len());
        buffer.as_mut().copy_from_slice(&self.pending);
        let written = self.file.append(buffer).await;
        written.map_err(|source| CheckpointError::Io { what: "writing a checkpoint", source })?;
        self.bytes += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

fn new_name(begin_seq: u64) -> String {
    format!("{}.new", file_name(begin_seq))
}
