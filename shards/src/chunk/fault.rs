//! What is wrong with the next bits of a chunk: a [`ChunkError`] without the place.

use super::ChunkError;

/// Why the next bits cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There are too few.
    Truncated,
    /// No encoder writes them.
    Malformed,
}

impl Fault {
    /// Adds the index of the sample, and how many the header announces.
    pub fn at(self, sample: u16, count: u16) -> ChunkError {
        match self {
            Fault::Truncated => ChunkError::Truncated { sample, count },
            Fault::Malformed => ChunkError::Malformed { sample, count },
        }
    }
}
