//! The value of a series at a moment: a few multiplications on hashes, no state.
//!
//! A counter is `rate * (age + jitter)` with a jitter below one round, so it never falls while its container lives
//! and needs nothing but the age. The observations of a histogram go round its buckets in a fixed cycle of 64: so
//! each bucket, each difference of two buckets and the count grow together, for classic and native ones alike.

use super::mix::{mix, under};

/// The bits that Prometheus sends once when a series has ended.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Observations after which the buckets of a histogram have all got their share.
pub(super) const CYCLE: u64 = 64;

/// What the value of one series follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Role {
    Counter,
    ByteCounter,
    TickCounter,
    NanoCounter,
    Whole,
    Bytes,
    Ratio,
    Constant(f64),
    Time,
    /// The cumulative bucket that takes the first `share` observations of each cycle.
    Bucket {
        share: u64,
    },
    HistogramSum,
    HistogramCount,
    /// A native histogram: not a number.
    Native,
}

/// When a series is looked at, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The hash of the series; the parts of one classic histogram share it.
    pub(super) hash: u64,
    /// Rounds since the counters of its container began.
    pub(super) age: u64,
    /// The round.
    pub(super) round: u64,
}

/// The value of a series that holds numbers; 0 for a native histogram.
pub(super) fn value(role: Role, moment: Moment) -> f64 {
    let Moment { hash, round, .. } = moment;
    match role {
        Role::Counter | Role::HistogramCount => events(moment) as f64,
        Role::ByteCounter => events(moment) as f64 * (64 + (hash >> 53)) as f64,
        Role::TickCounter => events(moment) as f64 / 100.0,
        Role::NanoCounter => events(moment) as f64 * (1_000_003 + (hash >> 44)) as f64 / 1e9,
        Role::Whole => {
            let held = if is_still(hash) { 0 } else { round >> (hash >> 8 & 7) };
            (under(hash, held) & ((2 << (hash >> 16 & 7)) - 1)) as f64
        }
        Role::Bytes => (pages(moment) * 4096) as f64,
        Role::Ratio => {
            let drawn = under(hash, round);
            if hash & 1 == 0 {
                (drawn >> 11) as f64 / (1u64 << 53) as f64
            } else {
                (drawn % 1000) as f64 / 1000.0
            }
        }
        Role::Constant(value) => value,
        Role::Time => (1_700_000_000 + (hash >> 40)) as f64,
        Role::Bucket { share } => observed(events(moment), share) as f64,
        Role::HistogramSum => sum(hash, events(moment)),
        Role::Native => 0.0,
    }
}

/// Whether a series has the same value as long as its pod lives.
pub(super) fn is_fixed(role: Role, hash: u64) -> bool {
    match role {
        Role::Constant(_) | Role::Time => true,
        Role::Whole => is_still(hash),
        Role::Counter | Role::ByteCounter | Role::TickCounter | Role::NanoCounter => is_idle(hash),
        Role::Bucket { .. } | Role::HistogramSum | Role::HistogramCount => is_idle(hash),
        Role::Bytes | Role::Ratio | Role::Native => false,
    }
}

/// About a third of a cluster's counters stand still.
fn is_idle(hash: u64) -> bool {
    hash & 0xff < 85
}

/// More than a third of its small gauges do.
fn is_still(hash: u64) -> bool {
    hash & 7 < 3
}

/// Events since the container began: monotone in age, below 2^40 for ages below 2^28.
pub(super) fn events(moment: Moment) -> u64 {
    let Moment { hash, age, round } = moment;
    if is_idle(hash) {
        return hash >> 60;
    }
    // From an event every sixteen rounds to two thousand a round, in units of 2^-16.
    let octave = 1 << (12 + (hash >> 8) % 15);
    let rate = octave + (hash >> 16 & (octave - 1));
    let jitter = under(hash, round) & 0xffff;
    let steps = u128::from(age) << 16 | u128::from(jitter);
    ((u128::from(rate) * steps) >> 32) as u64
}

/// How many of `count` observations fell into the first `share` places of a cycle.
pub(super) fn observed(count: u64, share: u64) -> u64 {
    count / CYCLE * share + (count % CYCLE).min(share)
}

/// The sum of so many observations.
pub(super) fn sum(hash: u64, count: u64) -> f64 {
    // The low bits make the mean a number with a full mantissa, as measured seconds have it.
    count as f64 * (0.004 + (mix(hash) >> 11) as f64 / (1u64 << 55) as f64)
}

/// Memory in pages: straight lines between drawn points sixteen rounds apart, with noise.
fn pages(moment: Moment) -> u64 {
    let Moment { hash, round, .. } = moment;
    let (point, step) = (round / 16, round % 16);
    let height = |point| under(hash, point) >> 54;
    let line = height(point) * (16 - step) + height(point + 1) * step;
    (hash >> 50) + line + (under(!hash, round) & 0xf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64, round: u64) -> Moment {
        Moment { hash: mix(number), age: round, round: round + 77 }
    }

    #[test]
    fn counters_never_fall_and_most_of_them_grow() {
        for role in
            [Role::Counter, Role::ByteCounter, Role::TickCounter, Role::NanoCounter, Role::HistogramSum]
        {
            let mut growing = 0;
            for number in 0..300 {
                let values: Vec<f64> = (0..200).map(|round| value(role, at(number, round))).collect();
                assert!(values.is_sorted(), "series {number} of {role:?} falls: {values:?}");
                growing += usize::from(values[0] < values[199]);
            }
            assert!((150..260).contains(&growing), "{growing} of 300 grow for {role:?}");
        }
    }

    #[test]
    fn buckets_and_their_differences_grow_together_up_to_the_count() {
        for number in 0..100 {
            let mut before = vec![0; 65];
            for round in 0..100 {
                let count = events(at(number, round));
                let after: Vec<u64> = (0..=CYCLE).map(|share| observed(count, share)).collect();
                assert_eq!((after[0], after[64]), (0, count));
                for share in 1..=64 {
                    let (grown, below) = (after[share] - before[share], after[share - 1] - before[share - 1]);
                    assert!(grown >= below, "bucket {share} of series {number} in round {round}");
                }
                before = after;
            }
        }
    }

    #[test]
    fn gauges_stay_in_their_ranges() {
        for number in 0..200 {
            for round in 0..50 {
                let ratio = value(Role::Ratio, at(number, round));
                assert!((0.0..1.0).contains(&ratio));
                let whole = value(Role::Whole, at(number, round));
                assert!(whole.fract() == 0.0 && (0.0..256.0).contains(&whole));
                let bytes = value(Role::Bytes, at(number, round));
                assert!(bytes % 4096.0 == 0.0 && (0.0..2e8).contains(&bytes));
            }
        }
    }

    #[test]
    fn fixed_series_are_exactly_those_whose_value_stays() {
        let roles = [
            Role::Counter,
            Role::ByteCounter,
            Role::Whole,
            Role::Bytes,
            Role::Ratio,
            Role::Time,
            Role::HistogramSum,
        ];
        for role in roles {
            for number in 0..200 {
                let first = value(role, at(number, 0)).to_bits();
                let stays = (0..2000).all(|round| value(role, at(number, round)).to_bits() == first);
                assert_eq!(is_fixed(role, mix(number)), stays, "series {number} of {role:?}");
            }
        }
    }

    #[test]
    fn a_value_survives_ages_of_centuries() {
        let moment = Moment { hash: u64::MAX, age: u64::MAX, round: u64::MAX };
        assert!(events(moment) > 0);
    }
}
