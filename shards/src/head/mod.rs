//! The writable window of a shard, in memory: series, symbols, postings, chunks. Pure: no clock, no I/O.

/// The key of a series: a keyed 128-bit hash of its tenant and its label bytes (`wire::SeriesHasher`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey(pub u128);

impl SeriesKey {
    /// The shard that owns the series, of `shards`: the key's upper half, scaled, so that it is independent of
    /// the lower half that hash tables use.
    pub fn owner(self, shards: usize) -> usize {
        ((self.0 >> 64).wrapping_mul(shards as u128) >> 64) as usize
    }
}

/// Why the head refuses a sample for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Older than the newest sample of its series, and not stored already.
    #[error("out of order sample: timestamp {timestamp_ms}, the newest is {last_ms}")]
    OutOfOrder {
        /// The sample's time.
        timestamp_ms: i64,
        /// The newest sample's time.
        last_ms: i64,
    },
    /// Another value is stored for the same time.
    #[error("duplicate sample for timestamp {timestamp_ms} with another value")]
    Conflict {
        /// The sample's time.
        timestamp_ms: i64,
    },
}
