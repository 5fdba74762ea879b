//! Why a window is not cut.

use std::io;
use std::path::PathBuf;

use annulus_shards::core::{CutError, ReadError};

use crate::block::WriteError;

/// Why a window is not cut. It stays in the head, and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum CutFailure {
    /// A shard does not do its part.
    #[error(transparent)]
    Head(#[from] CutError),
    /// A shard does not give its series.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The series cannot be sorted.
    #[error("sorting series: {0}")]
    Sort(#[source] io::Error),
    /// The block cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A folder cannot be made, listed or flushed.
    #[error("folder {}: {source}", folder.display())]
    Folder {
        /// Which one.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gives no random numbers for the name of the block.
    #[error("naming a block: {0}")]
    Name(#[source] io::Error),
    /// The block is written, and cannot be served.
    #[error("opening the new block: {0}")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process ends.
    #[error("the process ends")]
    Stopped,
}

impl CutFailure {
    /// Whether the next tenant would meet the same.
    pub fn concerns_all(&self) -> bool {
        let is_full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            CutFailure::Head(_) | CutFailure::Read(ReadError::Unavailable { .. }) | CutFailure::Stopped => {
                true
            }
            CutFailure::Read(ReadError::TooLarge { .. } | ReadError::Chunk(_)) => false,
            CutFailure::Write(WriteError::Io(error))
            | CutFailure::Sort(error)
            | CutFailure::Folder { source: error, .. }
            | CutFailure::Name(error) => is_full(error),
            CutFailure::Write(_) | CutFailure::Serve(_) => false,
        }
    }
}
