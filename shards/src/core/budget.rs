//! What the reads of one query may hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::handle::ReadError;

/// Bytes that reads share, however many run at once. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct ReadBudget {
    bytes_max: u64,
    held_bytes: Arc<AtomicU64>,
}

impl ReadBudget {
    /// A budget of which nothing is used.
    pub fn new(bytes_max: u64) -> ReadBudget {
        ReadBudget { bytes_max, held_bytes: Arc::default() }
    }

    /// Asks for room. A query that was refused once is over.
    pub fn charge(&self, bytes: u64) -> Result<(), ReadError> {
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > self.bytes_max {
            return Err(ReadError::TooLarge { bytes_max: self.bytes_max });
        }
        Ok(())
    }

    /// Gives room back.
    pub fn release(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_is_held() {
        let (budget, other) = {
            let one = ReadBudget::new(10);
            (one.clone(), one)
        };
        budget.charge(6).unwrap();
        assert!(matches!(other.charge(5), Err(ReadError::TooLarge { bytes_max: 10 })));
        other.release(5);
        other.charge(4).unwrap();
    }
}
