//! The chunk segments of a block that is being written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ChunkIn;
use super::out_file::OutFile;
use crate::block::codec::{put_uvarint, uvarint_bytes};
use crate::block::format::{
    CHUNKS_FOLDER, CHUNKS_MAGIC, CHUNKS_VERSION, CRC_BYTES, SEGMENT_HEADER_BYTES, segment_name,
};
use crate::block::meta::ThanosFile;
use crate::block::reader::ChunkPlace;

/// Appends chunks, and begins a new segment when one is full.
pub struct SegmentWriter {
    block: PathBuf,
    segment_bytes_max: u64,
    open: Option<OutFile>,
    finished: Vec<ThanosFile>,
    chunk_bytes_max: u64,
    header: Vec<u8>,
}

impl SegmentWriter {
    /// Makes the folder of the segments in the folder of a block.
    pub fn create(block: &Path, segment_bytes_max: u64) -> io::Result<SegmentWriter> {
        fs::create_dir(block.join(CHUNKS_FOLDER))?;
        Ok(SegmentWriter {
            block: block.to_owned(),
            segment_bytes_max,
            open: None,
            finished: Vec::new(),
            chunk_bytes_max: 0,
            header: Vec::new(),
        })
    }

    /// Appends a chunk and says where it is.
    pub fn append(&mut self, chunk: &ChunkIn<'_>) -> io::Result<ChunkPlace> {
        let data_bytes = chunk.bytes.len() as u64;
        let record_bytes = uvarint_bytes(data_bytes) + 1 + data_bytes + CRC_BYTES;
        if let Some(open) = self.open.take_if(|open| {
            open.position() > SEGMENT_HEADER_BYTES && open.position() + record_bytes > self.segment_bytes_max
        }) {
            self.close(open)?;
        }
        let index = self.finished.len();
        let segment = match &mut self.open {
            Some(segment) => segment,
            none => {
                let segment = none.insert(OutFile::create(&self.block.join(segment_name(index)))?);
                let mut header = [0; SEGMENT_HEADER_BYTES as usize];
                header[..4].copy_from_slice(&CHUNKS_MAGIC.to_be_bytes());
                header[4] = CHUNKS_VERSION;
                segment.write(&header)?;
                segment
            }
        };
        let position = segment.position();
        self.header.clear();
        put_uvarint(&mut self.header, data_bytes);
        self.header.push(chunk.encoding);
        segment.write(&self.header)?;
        segment.write(chunk.bytes)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[chunk.encoding]), chunk.bytes);
        segment.write(&crc.to_be_bytes())?;
        self.chunk_bytes_max = self.chunk_bytes_max.max(record_bytes);
        Ok(ChunkPlace::new(index as u32, position))
    }

    /// Makes the segments durable. Returns them, and the length of the longest chunk with all that belongs to it.
    pub fn finish(mut self) -> io::Result<(Vec<ThanosFile>, u64)> {
        if let Some(open) = self.open.take() {
            self.close(open)?;
        }
        fs::File::open(self.block.join(CHUNKS_FOLDER))?.sync_all()?;
        Ok((self.finished, self.chunk_bytes_max))
    }

    fn close(&mut self, segment: OutFile) -> io::Result<()> {
        let path = segment_name(self.finished.len());
        let size_bytes = segment.sync()?;
        self.finished.push(ThanosFile { path, size_bytes, hash: None });
        Ok(())
    }
}
