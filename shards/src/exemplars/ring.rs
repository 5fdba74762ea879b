//! The exemplars of one tenant in the order in which they came, and a chain through them for each series.
//!
//! The oldest exemplar of all is the oldest of its series too, so that it can go without a search.

use std::collections::{HashMap, VecDeque};

use super::Exemplar;
use crate::Labels;
use crate::head::SeriesKey;

/// What a series costs beside its labels: its chain, its place in the table, its number there.
const CHAIN_BYTES: usize = size_of::<Option<Chain>>() + size_of::<(SeriesKey, u32)>() + 12;

/// How far back a repeat is looked for. A sender that repeats a request repeats its last exemplars; who goes back
/// further is told that they are out of order, which stores as little.
const REPEAT_LOOKS_MAX: usize = 128;

/// The exemplars of one tenant.
#[derive(Debug)]
pub struct Ring {
    slots: VecDeque<Slot>,
    /// Number of the oldest slot; each later one has the next number.
    first: u64,
    chains: Vec<Option<Chain>>,
    vacant_chains: Vec<u32>,
    by_key: HashMap<SeriesKey, u32, ahash::RandomState>,
}

#[derive(Debug)]
struct Slot {
    exemplar: Exemplar,
    chain: u32,
    /// Number of the series' exemplar before this one, if its chain has one.
    before: u64,
}

/// The exemplars of one series.
#[derive(Debug)]
struct Chain {
    key: SeriesKey,
    labels: Labels,
    newest: u64,
    count: u32,
}

/// What an exemplar would be to a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Newer than all of its series.
    New,
    /// One that is there.
    Repeat,
    /// Neither.
    OutOfOrder,
}

impl Ring {
    /// An empty one, whose first exemplar gets the number `first`.
    pub fn new(first: u64) -> Ring {
        Ring {
            slots: VecDeque::new(),
            first,
            chains: Vec::new(),
            vacant_chains: Vec::new(),
            by_key: HashMap::default(),
        }
    }

    /// How many exemplars there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many series have any.
    pub fn series_count(&self) -> usize {
        self.by_key.len()
    }

    /// The number that the next exemplar gets.
    pub fn next_number(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// What an exemplar would be.
    pub fn standing(&self, key: SeriesKey, exemplar: &Exemplar) -> Standing {
        let Some(chain) = self.by_key.get(&key).map(|chain| self.chain(*chain)) else { return Standing::New };
        let (mut number, mut rest) = (chain.newest, (chain.count as usize).min(REPEAT_LOOKS_MAX));
        if *exemplar > self.slot(number).exemplar {
            return Standing::New;
        }
        while rest > 0 {
            let slot = self.slot(number);
            match slot.exemplar.cmp(exemplar) {
                std::cmp::Ordering::Equal => return Standing::Repeat,
                std::cmp::Ordering::Less => return Standing::OutOfOrder,
                std::cmp::Ordering::Greater => {}
            }
            (number, rest) = (slot.before, rest - 1);
        }
        Standing::OutOfOrder
    }

    /// Adds an exemplar that is new; `labels` are those of its series. Returns how many bytes it takes.
    pub fn push(&mut self, key: SeriesKey, exemplar: Exemplar, labels: impl FnOnce() -> Labels) -> u64 {
        let number = self.next_number();
        let mut bytes = slot_bytes(&exemplar);
        let (chain, before) = match self.by_key.get(&key) {
            Some(index) => {
                let index = *index;
                let chain = self.chains[index as usize].as_mut().expect("a key leads to a chain");
                chain.count += 1;
                (index, std::mem::replace(&mut chain.newest, number))
            }
            None => {
                let chain = Chain { key, labels: labels(), newest: number, count: 1 };
                bytes += chain_bytes(&chain);
                (self.add_chain(chain), number)
            }
        };
        self.slots.push_back(Slot { exemplar, chain, before });
        bytes
    }

    fn add_chain(&mut self, chain: Chain) -> u32 {
        let key = chain.key;
        let index = match self.vacant_chains.pop() {
            Some(index) => {
                self.chains[index as usize] = Some(chain);
                index
            }
            None => {
                self.chains.push(Some(chain));
                self.chains.len() as u32 - 1
            }
        };
        self.by_key.insert(key, index);
        index
    }

    /// Drops the oldest exemplar; returns how many bytes that frees.
    pub fn pop(&mut self) -> u64 {
        let Some(slot) = self.slots.pop_front() else { return 0 };
        self.first += 1;
        let mut bytes = slot_bytes(&slot.exemplar);
        let chain = self.chains[slot.chain as usize].as_mut().expect("a slot has a chain");
        chain.count -= 1;
        if chain.count == 0 {
            bytes += chain_bytes(chain);
            self.by_key.remove(&chain.key);
            self.chains[slot.chain as usize] = None;
            self.vacant_chains.push(slot.chain);
        }
        bytes
    }

    /// The exemplars from a number on, in the order in which they came, each with its number and series.
    pub fn from(&self, number: u64) -> impl Iterator<Item = (u64, SeriesKey, &Labels, &Exemplar)> {
        let skipped = number.saturating_sub(self.first).min(self.slots.len() as u64);
        (self.first + skipped..).zip(self.slots.range(skipped as usize..)).map(|(number, slot)| {
            let chain = self.chain(slot.chain);
            (number, chain.key, &chain.labels, &slot.exemplar)
        })
    }

    fn chain(&self, index: u32) -> &Chain {
        self.chains[index as usize].as_ref().expect("the chain of a slot or key is there")
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[(number - self.first) as usize]
    }
}

fn slot_bytes(exemplar: &Exemplar) -> u64 {
    (size_of::<Slot>() + exemplar.labels.size_bytes()) as u64
}

fn chain_bytes(chain: &Chain) -> u64 {
    (CHAIN_BYTES + chain.labels.size_bytes()) as u64
}
