//! Why the head refuses something.

/// Why the head refuses a sample for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Older than the newest sample of its series, not stored already, and no out-of-order window is configured.
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
    /// Before what the tenant's head still takes.
    #[error("too old sample: timestamp {timestamp_ms}, the oldest that is taken is {oldest_ms}")]
    TooOld {
        /// The sample's time.
        timestamp_ms: i64,
        /// The oldest time that is taken.
        oldest_ms: i64,
    },
    /// A histogram whose spans, buckets and bounds do not fit each other.
    #[error("malformed histogram for timestamp {timestamp_ms}")]
    Shape {
        /// The sample's time.
        timestamp_ms: i64,
    },
    /// Further ahead of the clock than allowed.
    #[error(
        "sample too far in the future: timestamp {timestamp_ms}, the newest that is taken is {newest_ms}"
    )]
    TooFarAhead {
        /// The sample's time.
        timestamp_ms: i64,
        /// The newest time that is taken.
        newest_ms: i64,
    },
}

/// The head cannot number another series, symbol or label pair (32 bits each).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head has as many series, symbols or label pairs as it can number")]
pub struct HeadFull;

/// Why a page of a checkpoint is not an image of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The page ends early, or a number in it makes no sense.
    #[error("the page is malformed at byte {offset}")]
    Malformed {
        /// Where.
        offset: usize,
    },
    /// A symbol, pair or series that the pages before did not define.
    #[error("the page at byte {offset} refers to something that no page before it defines")]
    Undefined {
        /// Where.
        offset: usize,
    },
}
