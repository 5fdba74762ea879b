//! The blocks on this node's disk as a source of series, and the one stream over them and the head.
//! Owns:     the list of local blocks, and the files of those that are open.
//! Touches:  block folders, which it only reads.
//! Runs on:  rayon's threads for everything that reads a block; the task that asks waits.
//! Promises: a block counts from the moment it is added, a broken one never stops the others, and a read of blocks
//!           holds no more bytes than its budget. Between head and block no sample is missed, and none comes twice.

mod aside;
mod block;
mod chunk_copies;
mod error;
mod folders;
mod joined;
mod merge;
mod metrics;
mod readers;
mod scope;
mod select;
mod set;
mod source;
mod texts;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod seam_tests;
#[cfg(test)]
mod tests;

pub use error::LocalBlockError;
pub use joined::Joined;
pub use metrics::LocalBlockMetrics;
pub use readers::ReaderLimits;
pub use set::{LocalBlocks, ScanReport};
pub use source::BlockSource;
