//! How long to wait before the next try: longer each time, and at random, so that many clients do not come back at once.

use std::time::Duration;

/// Waits that double from a first one up to a longest one.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The longest first wait.
    pub first: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row: between half of the doubled first wait and the whole of it.
    pub fn wait(&self, failures: u32) -> Duration {
        self.wait_at(failures, random_fraction())
    }

    fn wait_at(&self, failures: u32, fraction: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(0.5 + fraction / 2.0)
    }
}

/// A number from 0 to 1. Without a source of randomness the waits are merely not spread.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(1) };

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u128> = (1..=5).map(|failures| BACKOFF.wait_at(failures, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1000, 1000]);
        assert_eq!(BACKOFF.wait_at(1, 0.0).as_millis(), 100);
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_bounds(failures in any::<u32>(), fraction in 0.0..=1.0) {
            let wait = BACKOFF.wait_at(failures, fraction);
            prop_assert!(wait >= BACKOFF.first / 2 && wait <= BACKOFF.max);
        }
    }
}
