//! A token bucket that all shards share: one number, changed with one compare-and-swap per request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::config::SampleRate;

/// Holds the time at which the bucket would be full again, in nanoseconds.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes samples out of the bucket. More than a full bucket has may be taken when it is full, and are then owed:
    /// a sender whose requests are larger than the burst would otherwise try for ever.
    ///
    /// # Errors
    /// With the time after which a repeat will pass, if nobody else takes any.
    pub fn take(&self, samples: u64, rate: SampleRate, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let full = cost(rate.burst, rate);
        let price = cost(samples, rate);
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let missing = full_at.saturating_sub(now);
            let wait = missing.saturating_add(price.min(full)).saturating_sub(full);
            if wait > 0 {
                return Err(Duration::from_nanos(wait));
            }
            let next = full_at.max(now).saturating_add(price);
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }

    /// Puts back what was taken for samples that were not stored. The bucket never has more than its burst: a time that
    /// has passed is as good as now.
    pub fn give_back(&self, samples: u64, rate: SampleRate) {
        let price = cost(samples, rate);
        let earlier = |full_at: u64| Some(full_at.saturating_sub(price));
        // It always finds a new value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
    }

    /// Whether the bucket is full, as a new one is.
    pub fn is_full(&self, now: Duration) -> bool {
        self.0.load(Ordering::Relaxed) <= nanos(now)
    }
}

/// How long the bucket takes to get so many samples.
fn cost(samples: u64, rate: SampleRate) -> u64 {
    let nanos = u128::from(samples) * 1_000_000_000 / u128::from(rate.per_second.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: SampleRate = SampleRate { per_second: 100, burst: 1000 };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let bucket = Bucket::default();
        assert_eq!(bucket.take(600, RATE, at(0)), Ok(()));
        assert_eq!(bucket.take(600, RATE, at(0)), Err(Duration::from_secs(2)));
        assert_eq!(bucket.take(400, RATE, at(0)), Ok(()));
        assert_eq!(bucket.take(200, RATE, at(1)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(200, RATE, at(2)), Ok(()));
        // A pause fills it, but not beyond its size.
        assert_eq!(bucket.take(1000, RATE, at(1000)), Ok(()));
        assert_eq!(bucket.take(1, RATE, at(1000)), Err(Duration::from_millis(10)));
    }

    #[test]
    fn a_request_larger_than_the_bucket_passes_when_it_is_full_and_is_owed() {
        let bucket = Bucket::default();
        assert_eq!(bucket.take(3000, RATE, at(0)), Ok(()));
        assert_eq!(bucket.take(1, RATE, at(20)), Err(Duration::from_millis(10)));
        assert_eq!(bucket.take(3000, RATE, at(29)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(3000, RATE, at(30)), Ok(()));
    }

    #[test]
    fn what_is_given_back_may_be_taken_again_but_no_more_than_the_burst() {
        let bucket = Bucket::default();
        assert_eq!(bucket.take(1000, RATE, at(0)), Ok(()));
        bucket.give_back(300, RATE);
        assert_eq!(bucket.take(300, RATE, at(0)), Ok(()));
        assert_eq!(bucket.take(1, RATE, at(0)), Err(Duration::from_millis(10)));
        assert!(!bucket.is_full(at(9)) && bucket.is_full(at(10)));
        bucket.give_back(u64::MAX, RATE);
        assert_eq!(bucket.take(1000, RATE, at(0)), Ok(()));
        assert_eq!(bucket.take(1, RATE, at(0)), Err(Duration::from_millis(10)));
    }

    proptest! {
        #[test]
        fn no_more_passes_than_burst_and_rate_allow(
            takes in proptest::collection::vec((0u64..2000, 0u64..10), 1..100),
            per_second in 1u64..500, burst in 1u64..1000,
        ) {
            let rate = SampleRate { per_second, burst };
            let (bucket, mut now, mut passed, mut largest) = (Bucket::default(), 0, 0, 0);
            for (samples, pause) in takes {
                now += pause;
                if bucket.take(samples, rate, at(now)).is_ok() {
                    passed += samples;
                    largest = largest.max(samples);
                }
            }
            prop_assert!(passed <= burst.max(largest) + largest + per_second * now + 100);
        }

        #[test]
        fn no_numbers_overflow(samples: u64, per_second: u64, burst: u64, now: u64) {
            let _ = Bucket::default().take(samples, SampleRate { per_second, burst }, Duration::from_nanos(now));
            let bucket = Bucket::default();
            let _ = bucket.take(u64::MAX, SampleRate { per_second, burst }, Duration::MAX);
            let _ = bucket.take(samples, SampleRate { per_second, burst }, Duration::from_nanos(now));
        }
    }
}
