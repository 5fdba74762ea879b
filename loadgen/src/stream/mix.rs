//! The stream's only source of chance: hashes of numbers that name what is asked for.

/// Spreads a number over all 64 bits (the finisher of SplitMix64). A bijection.
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The hash of a number under a hash: different numbers of one parent never collide.
pub(super) fn under(parent: u64, number: u64) -> u64 {
    mix(parent ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

/// An event that happens with a given probability, drawn from a hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    threshold: u64,
}

impl Chance {
    /// `share` is between 0 and 1.
    pub(super) fn new(share: f64) -> Chance {
        Chance { threshold: (share * (1u64 << 32) as f64) as u64 }
    }

    pub(super) fn is_never(self) -> bool {
        self.threshold == 0
    }

    pub(super) fn happens(self, hash: u64) -> bool {
        hash >> 32 < self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_happens_as_often_as_it_says() {
        for share in [0.0, 0.01, 0.5, 1.0] {
            let count = (0..100_000).filter(|&number| Chance::new(share).happens(mix(number))).count();
            assert!((count as f64 / 100_000.0 - share).abs() < 0.005, "{count} of 100000 for {share}");
        }
    }
}
