//! Which samples a tenant's series take, as of the beginning of a batch.

use std::ops::Range;

use super::error::AppendError;

/// Lengths of time that the operator chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    /// The range of one block, and so of one chunk at most.
    pub block_ms: i64,
    /// How much older than the tenant's newest sample one may be that is not the newest of its series; 0 for not at
    /// all.
    pub out_of_order_ms: i64,
    /// How far ahead of the wall clock a sample may be; 0 for any distance.
    pub future_ms: i64,
}

impl Default for TimeWindows {
    fn default() -> TimeWindows {
        TimeWindows { block_ms: 7_200_000, out_of_order_ms: 7_200_000, future_ms: 0 }
    }
}

impl TimeWindows {
    /// The longest range of a block: spans inside of one are 32-bit numbers.
    pub const BLOCK_MS_MAX: i64 = 31 * 86_400_000;

    /// How far behind the tenant's newest sample the newest one of a series may be. Without an out-of-order window
    /// half a block, as in Prometheus: series of one tenant do not arrive in step.
    pub fn lag_ms(&self) -> i64 {
        self.out_of_order_ms.max(self.block_ms / 2)
    }
}

/// The rules for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Range of a block.
    pub window_ms: i64,
    /// No sample before it is taken.
    pub floor_ms: i64,
    /// No sample before it is taken unless it is the newest of its series; `None` when none is.
    pub late_floor_ms: Option<i64>,
    /// No sample after it is taken.
    pub ceiling_ms: i64,
}

impl Rules {
    /// The rules that follow from a tenant's newest sample and from what was cut. `now_ms` is the wall clock: a sample
    /// ahead of it does not make those of the present too old, or one wrong clock would shut out a whole tenant.
    pub fn new(windows: &TimeWindows, newest_ms: Option<i64>, frozen_ms: i64, now_ms: i64) -> Rules {
        let newest_ms = newest_ms.map(|newest_ms| newest_ms.min(now_ms));
        let behind = |by_ms: i64| {
            newest_ms.map_or(i64::MIN, |newest_ms| newest_ms.saturating_sub(by_ms)).max(frozen_ms)
        };
        Rules {
            window_ms: windows.block_ms,
            floor_ms: behind(windows.lag_ms()),
            late_floor_ms: (windows.out_of_order_ms > 0).then(|| behind(windows.out_of_order_ms)),
            ceiling_ms: match windows.future_ms {
                0 => i64::MAX,
                ahead_ms => now_ms.saturating_add(ahead_ms),
            },
        }
    }

    /// For samples that were accepted once.
    pub const fn replay(window_ms: i64) -> Rules {
        Rules { window_ms, floor_ms: i64::MIN, late_floor_ms: Some(i64::MIN), ceiling_ms: i64::MAX }
    }

    /// Why a sample outside the bounds is refused.
    #[cold]
    pub fn out_of_bounds(&self, timestamp_ms: i64) -> AppendError {
        if timestamp_ms > self.ceiling_ms {
            AppendError::TooFarAhead { timestamp_ms, newest_ms: self.ceiling_ms }
        } else {
            AppendError::TooOld { timestamp_ms, oldest_ms: self.floor_ms }
        }
    }
}

/// The window of a time: aligned to the epoch.
pub fn window_of(timestamp_ms: i64, window_ms: i64) -> Range<i64> {
    let into_ms = timestamp_ms.rem_euclid(window_ms);
    let start_ms = timestamp_ms.saturating_sub(into_ms);
    start_ms..timestamp_ms.saturating_add(window_ms - into_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_and_whole() {
        assert_eq!(window_of(7_200_000, 7_200_000), 7_200_000..14_400_000);
        assert_eq!(window_of(7_199_999, 7_200_000), 0..7_200_000);
        assert_eq!(window_of(-1, 7_200_000), -7_200_000..0);
        assert_eq!(window_of(i64::MIN, 7_200_000).start, i64::MIN);
        assert_eq!(window_of(i64::MAX, 7_200_000).end, i64::MAX);
    }

    #[test]
    fn bounds_follow_the_newest_sample_and_the_cut() {
        let windows = TimeWindows { block_ms: 100, out_of_order_ms: 10, future_ms: 5 };
        let rules = Rules::new(&windows, Some(1000), 0, 2000);
        assert_eq!((rules.floor_ms, rules.late_floor_ms, rules.ceiling_ms), (950, Some(990), 2005));
        let rules = Rules::new(&windows, Some(1 << 60), i64::MIN, 2000);
        assert_eq!((rules.floor_ms, rules.late_floor_ms), (1950, Some(1990)));
        let rules = Rules::new(&windows, Some(1000), 995, 2000);
        assert_eq!((rules.floor_ms, rules.late_floor_ms), (995, Some(995)));
        let rules = Rules::new(&TimeWindows { out_of_order_ms: 0, ..windows }, None, i64::MIN, 0);
        assert_eq!((rules.floor_ms, rules.late_floor_ms), (i64::MIN, None));
        assert!(matches!(rules.out_of_bounds(10), AppendError::TooFarAhead { .. }));
    }
}
