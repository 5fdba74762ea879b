//! The identity of a series before its labels are looked at.

/// The key of a series: a keyed 128-bit hash of its tenant and its label bytes (`wire::SeriesHasher`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey(pub u128);

impl SeriesKey {
    /// The shard that owns the series, of `shards`: the key's upper half, scaled, so that it is independent of
    /// the lower half, which hash tables use.
    #[inline]
    pub fn owner(self, shards: usize) -> usize {
        ((self.0 >> 64).wrapping_mul(shards as u128) >> 64) as usize
    }

    /// The half that hash tables use.
    #[inline]
    pub(super) fn table_hash(self) -> u64 {
        self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_share_the_keys_evenly() {
        for shards in [1, 2, 3, 7] {
            let mut counts = vec![0usize; shards];
            for number in 0..10_000u128 {
                let key = SeriesKey(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
                counts[key.owner(shards)] += 1;
            }
            assert!(counts.iter().all(|count| count.abs_diff(10_000 / shards) < 500), "{counts:?}");
        }
        assert_eq!(SeriesKey(u128::MAX).owner(7), 6);
    }
}
