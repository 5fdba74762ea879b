//! Chunks that cannot be in a block.

use std::fmt::Display;

use annulus_shards::Labels;

/// Lost chunks of one window that get a line in the log each.
const LOGGED_MAX: u64 = 10;

/// Counts the chunks that a window loses.
#[derive(Debug)]
pub struct Losses<'a> {
    tenant: &'a str,
    chunks: u64,
}

impl Losses<'_> {
    /// None so far.
    pub fn new(tenant: &str) -> Losses<'_> {
        Losses { tenant, chunks: 0 }
    }

    /// Notes chunks of a series that begin at `min_ms`.
    pub fn add(&mut self, labels: &Labels, min_ms: i64, chunks: usize, error: &dyn Display) {
        if self.chunks < LOGGED_MAX {
            tracing::error!(
                tenant = self.tenant,
                series = ?labels,
                from_ms = min_ms,
                chunks,
                %error,
                "cannot be used, and is left out of the block"
            );
        }
        self.chunks += chunks as u64;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.chunks
    }
}
