//! Prometheus' chunk encodings.

mod bits;
mod xor;

pub use xor::{XorAppender, decode_xor};

/// How the bytes of a chunk are encoded (Prometheus `tsdb/chunkenc`); the number is the byte on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Gorilla-style floats.
    Xor = 1,
}

/// Why bytes are not a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The chunk ends before its last sample.
    #[error("the chunk ends inside sample {sample} of {count}")]
    Truncated {
        /// Index of the sample that is cut.
        sample: u16,
        /// How many the header announces.
        count: u16,
    },
    /// Bits that no encoder writes.
    #[error("the chunk is malformed at sample {sample} of {count}")]
    Malformed {
        /// Index of the sample.
        sample: u16,
        /// How many the header announces.
        count: u16,
    },
}

/// Calls `each` with the time and value of every sample of a chunk, in order of time.
///
/// # Errors
/// When the bytes are not a whole chunk; `each` was then called for the samples before the damage.
pub fn decode(encoding: Encoding, bytes: &[u8], each: impl FnMut(i64, f64)) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor => decode_xor(bytes, each),
    }
}
