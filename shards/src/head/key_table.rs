//! From keys to the numbers of series.
//!
//! Linear probing over slots of eight bytes: 32 bits of the key's hash and the number. A look-up waits for one line of
//! memory, where a table with control bytes waits for two, and growing looks at no series. The upper bits of a hash are
//! its place, so a table of twice the size is written from its beginning to its end.

use super::prefetch::prefetch;

/// Hash in the upper half, number plus one in the lower; 0 is empty.
type Slot = u64;

const EMPTY: Slot = 0;

/// The smallest table has two to this power of slots.
const BITS_MIN: u32 = 4;

/// Which number each key has. The keys themselves are where the caller has them.
#[derive(Debug)]
pub struct KeyTable {
    slots: Vec<Slot>,
    bits: u32,
    len: usize,
}

impl Default for KeyTable {
    fn default() -> KeyTable {
        KeyTable { slots: vec![EMPTY; 1 << BITS_MIN], bits: BITS_MIN, len: 0 }
    }
}

#[inline]
fn slot_of(hash: u64, number: u32) -> Slot {
    (hash & !u64::from(u32::MAX)) | u64::from(number + 1)
}

#[inline]
fn number_of(slot: Slot) -> u32 {
    slot as u32 - 1
}

impl KeyTable {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where the search for a hash begins.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> (64 - self.bits)) as usize
    }

    /// Begins to bring the slot where a search begins into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch(&self.slots[self.home(hash)]);
    }

    /// The first number whose hash has the same upper half, if there is one: nearly always the right one.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// The number that has this hash and is the one.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it).map(|at| number_of(self.slots[at]))
    }

    #[inline]
    fn position(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        // There is always an empty slot.
        while self.slots[at] != EMPTY {
            if self.slots[at] >> 32 == hash >> 32 && is_it(number_of(self.slots[at])) {
                return Some(at);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    /// Adds a number, below `u32::MAX`, that is not in the table.
    pub fn insert(&mut self, hash: u64, number: u32) {
        if self.len >= self.slots.len() / 4 * 3 {
            self.grow();
        }
        self.place(slot_of(hash, number));
        self.len += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot);
        while self.slots[at] != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.bits += 1;
        self.slots = vec![EMPTY; 1 << self.bits];
        for slot in old.into_iter().filter(|slot| *slot != EMPTY) {
            self.place(slot);
        }
    }

    /// Removes a number, and answers whether it was there.
    pub fn remove(&mut self, hash: u64, number: u32) -> bool {
        let Some(mut hole) = self.position(hash, |other| other == number) else { return false };
        self.len -= 1;
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            self.slots[hole] = EMPTY;
            // What a search would not find behind the hole any more moves into it.
            loop {
                at = (at + 1) & mask;
                if self.slots[at] == EMPTY {
                    return true;
                }
                let way = at.wrapping_sub(self.home(self.slots[at])) & mask;
                if way >= at.wrapping_sub(hole) & mask {
                    break;
                }
            }
            self.slots[hole] = self.slots[at];
            hole = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_is_a_map(steps in prop::collection::vec((0u32..300, any::<bool>(), 0u64..4), 0..2000)) {
            let (mut table, mut model) = (KeyTable::default(), BTreeMap::new());
            for (number, is_removal, spread) in steps {
                // Few upper halves: long probes, which wrap around the end.
                let hash = (u64::MAX << 60 >> (spread * 8)) ^ (u64::from(number % 7) << 33);
                match model.get(&number).copied() {
                    Some(known) if is_removal => {
                        prop_assert!(table.remove(known, number));
                        prop_assert!(!table.remove(known, number));
                        model.remove(&number);
                    }
                    None if !is_removal => {
                        table.insert(hash, number);
                        model.insert(number, hash);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for (number, hash) in &model {
                prop_assert_eq!(table.find(*hash, |other| other == *number), Some(*number));
                prop_assert!(table.candidate(*hash).is_some());
            }
            for number in 300..320 {
                prop_assert_eq!(table.find(u64::from(number) << 40, |other| other == number), None);
            }
        }
    }

    #[test]
    fn a_million_numbers_are_found() {
        let mut table = KeyTable::default();
        let hash = |number: u32| u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..1_000_000).for_each(|number| table.insert(hash(number), number));
        assert!((0..1_000_000).all(|number| table.candidate(hash(number)).is_some()));
        assert!(
            (0..1_000_000).all(|number| table.find(hash(number), |other| other == number) == Some(number))
        );
        assert!((0..1_000_000).step_by(2).all(|number| table.remove(hash(number), number)));
        let found = |number: u32| table.find(hash(number), |other| other == number).is_some();
        assert!((0..1_000_000).all(|number| found(number) == (number % 2 == 1)));
    }
}
