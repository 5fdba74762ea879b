//! The ingest plane of annulus: one glommio executor per core, each with its own WAL ring and head.
//!
//! `ARCHITECTURE.md` at the repository's root has the map. The query plane meets this crate in one type,
//! `core::ShardHandle`; it never sees a shard's memory.

pub mod chunk;
pub mod chunklog;
pub mod core;
pub mod edge;
pub mod exemplars;
pub mod head;
pub mod labels;
pub mod limits;
pub mod matcher;
pub mod mesh;
pub mod metadata;
pub mod metrics;
pub mod peer;
pub mod relabel;
pub mod ring;
pub mod rt;
#[cfg(test)]
mod sim;
pub mod wal;
pub mod wire;

pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher};

/// One measurement of one series.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Milliseconds since the Unix epoch; negative before it.
    pub timestamp_ms: i64,
    /// The value, kept bit for bit: NaN payloads such as the stale marker carry meaning.
    pub value: f64,
}

/// The NaN by which a sender says that a series has ended (Prometheus `model/value`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the stale marker, which is told from other NaNs by its bits only.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
