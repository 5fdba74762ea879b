//! Where a chunk is.

use crate::chunk::Encoding;

/// A file takes no more chunks once it has this many bytes, so that any offset fits into 32 bits.
pub const FILE_BYTES_MAX: u32 = 1 << 30;

/// Bits of a length; the encoding is above them.
const LEN_BITS: u32 = 24;

/// The place of one chunk: file, offset of its record, and length of its bytes. Small, because memory keeps one per
/// closed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkPlace {
    /// Number of the file.
    pub file: u32,
    /// Where the record begins, in bytes.
    pub offset: u32,
    len_encoding: u32,
}

impl ChunkPlace {
    /// The longest chunk, in bytes.
    pub const LEN_MAX: usize = (1 << LEN_BITS) - 1;

    /// # Panics
    /// When the chunk is longer than [`ChunkPlace::LEN_MAX`].
    pub fn new(file: u32, offset: u32, len: usize, encoding: Encoding) -> ChunkPlace {
        assert!(len <= ChunkPlace::LEN_MAX, "a chunk of {len} bytes is longer than any may be");
        ChunkPlace { file, offset, len_encoding: len as u32 | u32::from(encoding as u8) << LEN_BITS }
    }

    /// The place that a checkpoint holds; `None` if its encoding is unknown.
    pub fn from_raw(file: u32, offset: u32, len_encoding: u32) -> Option<ChunkPlace> {
        Encoding::from_byte((len_encoding >> LEN_BITS) as u8)?;
        Some(ChunkPlace { file, offset, len_encoding })
    }

    /// Length and encoding as a checkpoint holds them.
    pub fn raw_len_encoding(self) -> u32 {
        self.len_encoding
    }

    /// Length of the chunk, in bytes.
    pub fn chunk_bytes(self) -> u32 {
        self.len_encoding & ((1 << LEN_BITS) - 1)
    }

    /// How it is encoded.
    pub fn encoding(self) -> Encoding {
        Encoding::from_byte((self.len_encoding >> LEN_BITS) as u8).expect("a place is made with an encoding")
    }
}
