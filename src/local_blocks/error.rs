//! Why a block is not served, and why a read of one has no answer.

use std::io;
use std::path::PathBuf;

use annulus_shards::labels::LABEL_BYTES_MAX;

use crate::block::BlockError;
use crate::source::SourceError;

/// Why a folder is not served as a block.
#[derive(Debug, thiserror::Error)]
pub enum LocalBlockError {
    /// It is not a whole block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The system does not let us look at it.
    #[error("{}: {source}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not where blocks are.
    #[error("{} is not the folder of a block of a tenant", folder.display())]
    Place {
        /// The folder.
        folder: PathBuf,
    },
    /// No series could have such a label.
    #[error("an external label has no name, or more than {LABEL_BYTES_MAX} bytes")]
    Label,
    /// Its samples are aggregates, which only a store of downsampled blocks can serve.
    #[error("the block is downsampled to {resolution_ms} ms; local blocks are raw")]
    Downsampled {
        /// As the block says.
        resolution_ms: i64,
    },
    /// The same block lies in two places; one is enough.
    #[error("the block is served from {} already", other.display())]
    Duplicate {
        /// The other folder.
        other: PathBuf,
    },
}

/// Why the read of a block ended early.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The block cannot be read.
    Block(BlockError),
    /// The read itself may not go on.
    Source(SourceError),
}

impl From<BlockError> for ReadFailure {
    fn from(error: BlockError) -> ReadFailure {
        ReadFailure::Block(error)
    }
}

impl From<SourceError> for ReadFailure {
    fn from(error: SourceError) -> ReadFailure {
        ReadFailure::Source(error)
    }
}

/// What a query is told: a disk that refuses may be asked again, bytes that are wrong stay so.
pub(super) fn source_error(error: &BlockError) -> SourceError {
    let text = format!("local block: {error}");
    if is_damage(error) { SourceError::Corrupt(text) } else { SourceError::Unavailable(text) }
}

/// Whether the error says something about the block, and not about the moment at which it was read.
pub(super) fn is_damage(error: &BlockError) -> bool {
    match error {
        BlockError::Io { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        }
        BlockError::Malformed { .. }
        | BlockError::Meta { .. }
        | BlockError::Size { .. }
        | BlockError::NoSegment { .. } => true,
    }
}
