//! The write-ahead log of one shard: a ring of frames in one pre-sized file, and the checkpoints that let it move on.
//!
//! Owns:     the ring file, the checkpoint files of the shard's directory, the durable position.
//! Touches:  its shard's disk. Never the network, never another shard.
//! Runs on:  the shard's own thread; one task commits, another writes checkpoints and releases.
//! Promises: `commit` returns once its frame is durable; recovery yields every such frame that no checkpoint
//!           covers, in order and once; a frame that is still needed is never overwritten.
//!
//! `docs/format/wal.md` and `docs/format/checkpoint.md` describe the bytes.

mod attempt;
mod checkpoint;
mod damage;
mod error;
mod frame;
mod read_ahead;
mod record;
mod recovery;
mod ring;
mod superblock;
mod survey;
mod window;

pub use checkpoint::{
    CheckpointError, Checkpoints, Covered, Finished, Invalid, InvalidReason, Loaded, PAGE_BYTES_MAX,
    PageVisitor, Writer, parse_name as parse_checkpoint_name, read_checkpoint,
};
pub use error::{CommitError, RING_BYTES_MIN, ReleaseError, WalError};
pub use frame::{BadFrame, frame_bytes};
pub use record::{
    Encoder, ExemplarRecord, MetadataRecord, RecordError, RecordVisitor, decode, histogram_record_bytes_max,
};
pub use recovery::{Damage, Recovery, Torn};
pub use ring::Wal;
pub use survey::{RingSurvey, SuperblockCopy, SuperblockFields, superblocks, survey};

#[cfg(test)]
mod on_disk;
#[cfg(test)]
mod tests;
