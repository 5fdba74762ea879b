//! How near the process is to the memory that it may take.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use prometheus::{IntCounter, IntGauge};

/// Part of the limit, in percent, from which on no new series are taken.
const TIGHT_PERCENT: u64 = 90;

/// What may still be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MemoryLevel {
    /// Everything.
    Ample = 0,
    /// Samples of known series.
    Tight = 1,
    /// Nothing.
    Over = 2,
}

/// The level in effect, told by whoever reads the process' memory.
#[derive(Debug)]
pub struct MemoryLimit {
    level: AtomicU8,
    bytes_max: u64,
    used_bytes: AtomicU64,
    gauge: IntGauge,
    /// Requests that were refused.
    pub refused: IntCounter,
}

impl MemoryLimit {
    /// A limit; 0 is none.
    pub fn new(bytes_max: u64, gauge: IntGauge, refused: IntCounter) -> MemoryLimit {
        let level = AtomicU8::new(MemoryLevel::Ample as u8);
        MemoryLimit { level, bytes_max, used_bytes: AtomicU64::new(0), gauge, refused }
    }

    /// The limit in bytes; 0 is none.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What the process used when it was last looked at.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Tells what the process uses; answers with the level before and the new one, if it changes.
    pub fn set_used(&self, used_bytes: u64) -> Option<(MemoryLevel, MemoryLevel)> {
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
        self.gauge.set(i64::try_from(used_bytes).unwrap_or(i64::MAX));
        let (before, after) = (self.level(), self.level_at(used_bytes));
        self.level.store(after as u8, Ordering::Relaxed);
        (before != after).then_some((before, after))
    }

    /// What might still be taken if the process used so much.
    pub fn level_at(&self, used_bytes: u64) -> MemoryLevel {
        level_of(used_bytes, self.bytes_max)
    }

    /// What may still be taken.
    pub fn level(&self) -> MemoryLevel {
        match self.level.load(Ordering::Relaxed) {
            0 => MemoryLevel::Ample,
            1 => MemoryLevel::Tight,
            _ => MemoryLevel::Over,
        }
    }
}

fn level_of(used_bytes: u64, bytes_max: u64) -> MemoryLevel {
    if bytes_max == 0 || used_bytes <= bytes_max / 100 * TIGHT_PERCENT {
        MemoryLevel::Ample
    } else if used_bytes <= bytes_max {
        MemoryLevel::Tight
    } else {
        MemoryLevel::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_series_are_given_up_before_everything_is() {
        let used = IntGauge::new("used", "bytes").unwrap();
        let refused = IntCounter::new("refused", "requests").unwrap();
        let limit = MemoryLimit::new(1000, used.clone(), refused.clone());
        assert_eq!(limit.level(), MemoryLevel::Ample);
        assert_eq!(limit.set_used(900), None);
        assert_eq!(limit.set_used(901), Some((MemoryLevel::Ample, MemoryLevel::Tight)));
        assert_eq!(limit.set_used(1000), None);
        assert_eq!(limit.set_used(1001), Some((MemoryLevel::Tight, MemoryLevel::Over)));
        assert_eq!((limit.level(), used.get()), (MemoryLevel::Over, 1001));
        assert_eq!(limit.set_used(1), Some((MemoryLevel::Over, MemoryLevel::Ample)));
        assert_eq!(MemoryLimit::new(0, used, refused).set_used(u64::MAX), None);
    }
}
