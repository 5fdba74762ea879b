//! What can go wrong with a ring, and what to do about it.

use std::io;

use crate::rt::BLOCK_BYTES;

/// The smallest ring file that is accepted.
pub const RING_BYTES_MIN: u64 = 16 * BLOCK_BYTES as u64;

/// Why a ring cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The system refused a read or a write.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A newer version wrote it.
    #[error(
        "the WAL has format {found}, this version of annulus reads up to {known}: start the version that wrote it, \
         or a newer one"
    )]
    Newer {
        /// The version found.
        found: u32,
        /// The newest version that is known.
        known: u32,
    },
    /// It belongs to another shard: files were moved or restored to the wrong place.
    #[error(
        "the WAL belongs to shard {found}, not to shard {shard}: put each shard's files back in its own directory"
    )]
    WrongShard {
        /// The shard it belongs to.
        found: u32,
        /// The shard that opens it.
        shard: u32,
    },
    /// It was cut or extended.
    #[error(
        "the WAL was made with {expected} bytes and has {found}: restore it, or move it away to start without it"
    )]
    WrongSize {
        /// What the superblock says.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// The file can never have been a ring.
    #[error(
        "a WAL of {found} bytes is impossible: a multiple of 4096 and at least {RING_BYTES_MIN} is needed"
    )]
    UnusableSize {
        /// What the file has.
        found: u64,
    },
    /// Neither superblock can be read, and the file is not a new one.
    #[error(
        "both superblocks of the WAL are damaged, so its frames cannot be told from old ones: restore the file, or \
         move it away to start from the checkpoint alone"
    )]
    NoSuperblock,
    /// The visitor did not accept a frame.
    #[error("WAL frame {seq}: {source}")]
    Visit {
        /// The frame.
        seq: u64,
        /// What the visitor said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a frame is not durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Frames that are still needed are in the way. A checkpoint makes room.
    #[error("the WAL is full: {needed_bytes} bytes are needed, {used_bytes} of {size_bytes} are in use")]
    Full {
        /// What the frame takes.
        needed_bytes: u64,
        /// What is in use.
        used_bytes: u64,
        /// What there is.
        size_bytes: u64,
    },
    /// It does not fit into an empty ring either.
    #[error("a WAL frame of {needed_bytes} bytes does not fit into a ring of {size_bytes}")]
    TooLarge {
        /// What the frame takes.
        needed_bytes: u64,
        /// What there is.
        size_bytes: u64,
    },
    /// The write failed. What is on the disk is unknown, so nothing is written any more.
    #[error("writing the WAL: {0}")]
    Io(#[source] io::Error),
    /// An earlier write failed or was abandoned.
    #[error("the WAL takes no more writes, because an earlier one failed")]
    Poisoned,
}

/// Why space was not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The write failed. What is on the disk is unknown, so nothing is written any more.
    #[error("writing the superblock of the WAL: {0}")]
    Io(#[source] io::Error),
    /// An earlier write failed or was abandoned.
    #[error("the WAL takes no more writes, because an earlier one failed")]
    Poisoned,
}
