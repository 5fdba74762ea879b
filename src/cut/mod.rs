//! Cuts blocks from the head: one per tenant and window, once no sample that would still be taken can fall into it.
//! Owns:     the folder `blocks` of the data directory, and the order of the steps below.
//! Touches:  the shards, through [`HeadCuts`], and files.
//! Runs on:  one plain thread of its own, never on a shard.
//! Promises: a sample leaves the head only when a durable block has it; a crash between two steps loses nothing and
//!           writes nothing twice.
//!
//! | step | if the process ends after it |
//! |---|---|
//! | freeze: no shard takes a sample of the window any more, durably | the window is due at once after the next start |
//! | read the series of all shards, sort them, merge their chunks, write the block into `<ULID>.tmp` | the folder is removed at the next start |
//! | flush the block and rename it | the block is found again, and not written twice |
//! | tell whoever serves blocks | the same |
//! | truncate: the shards drop what is in the block | nothing is left to do |

mod chunk_list;
mod cutter;
mod description;
mod error;
#[cfg(test)]
mod fake;
mod folders;
mod head;
mod losses;
mod merge;
mod metrics;
mod policy;
#[cfg(test)]
mod shard_tests;
mod sorter;
mod spool;
mod stop;
#[cfg(test)]
mod tests;
mod thread;
mod window;

pub use cutter::{CutConfig, OnBlock};
pub use error::CutFailure;
pub use folders::{BlockFolders, tenant_folder};
pub use head::{CutFuture, HeadCuts, Pages};
pub use metrics::CutMetrics;
pub use policy::{CutPolicy, DueWindow, Now};
pub use thread::CutThread;
