//! Histories of a whole shard: writes, reads, commits, checkpoints, the chunk log and the cutting of blocks at once,
//! crashes anywhere, recoveries, and what must be true after each.
//!
//! The code under test is that of a real shard, on simulated files. The checks are outside of it.

mod cutter;
mod extras;
mod history;
mod life;
mod loss;
mod model;
mod platform;
mod readers;
mod senders;
mod series;
mod tasks;
mod tests;
