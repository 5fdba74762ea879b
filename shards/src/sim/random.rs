//! Random numbers of a simulation (SplitMix64: one word of state, any seed is a good one).

use std::cell::Cell;
use std::rc::Rc;

/// One stream of random numbers; clones draw from the same stream.
#[derive(Debug, Clone)]
pub struct Random(Rc<Cell<u64>>);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(Rc::new(Cell::new(seed)))
    }

    /// A stream of its own, so that more draws from one do not shift another.
    pub fn fork(&self) -> Random {
        Random::new(self.next())
    }

    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in `times`.
    pub fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
