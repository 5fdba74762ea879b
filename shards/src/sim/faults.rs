//! What a disk does although it must not. Each kind has its own stream of random numbers, so that one does not shift
//! another, and is off until somebody sets its rate.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use super::random::Random;

/// How seldom each fault comes: once in so many operations, 0 for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// A write lands at another aligned place of the same file, and its own place stays as it was.
    pub misdirected_writes: u64,
    /// A write is reported as durable and is in the disk's cache only.
    pub lying_flushes: u64,
    /// A read fails, and would succeed the next time.
    pub failed_reads: u64,
}

/// How many of each came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts {
    pub misdirected_writes: u64,
    pub lying_flushes: u64,
    pub failed_reads: u64,
}

/// The faults of a file or a directory; clones are the same.
#[derive(Debug, Clone)]
pub struct Faults(Rc<State>);

#[derive(Debug)]
struct State {
    rates: Cell<FaultRates>,
    counts: Cell<FaultCounts>,
    directions: Random,
    lies: Random,
    reads: Random,
}

impl Faults {
    /// None, until there are rates.
    pub fn new(random: &Random) -> Faults {
        Faults(Rc::new(State {
            rates: Cell::default(),
            counts: Cell::default(),
            directions: random.fork(),
            lies: random.fork(),
            reads: random.fork(),
        }))
    }

    /// Sets how seldom they come from here on.
    pub fn set_rates(&self, rates: FaultRates) {
        self.0.rates.set(rates);
    }

    /// How many came.
    pub fn counts(&self) -> FaultCounts {
        self.0.counts.get()
    }

    /// The place, of those below `places`, where a write for `place` lands.
    pub(super) fn direct(&self, place: usize, places: usize) -> usize {
        let rate = self.0.rates.get().misdirected_writes;
        if rate == 0 || places < 2 || !self.0.directions.one_in(rate) {
            return place;
        }
        self.count(|counts| counts.misdirected_writes += 1);
        (place + 1 + self.0.directions.below(places as u64 - 1) as usize) % places
    }

    /// Whether a write that is reported as durable is not.
    pub(super) fn lies(&self) -> bool {
        let rate = self.0.rates.get().lying_flushes;
        let lies = rate != 0 && self.0.lies.one_in(rate);
        self.count(|counts| counts.lying_flushes += u64::from(lies));
        lies
    }

    /// Fails a read now and then.
    pub(super) fn read(&self) -> io::Result<()> {
        let rate = self.0.rates.get().failed_reads;
        if rate == 0 || !self.0.reads.one_in(rate) {
            return Ok(());
        }
        self.count(|counts| counts.failed_reads += 1);
        Err(unreadable())
    }

    fn count(&self, add: impl FnOnce(&mut FaultCounts)) {
        let mut counts = self.0.counts.get();
        add(&mut counts);
        self.0.counts.set(counts);
    }
}

/// What the system says of a block that the disk cannot read.
pub(super) fn unreadable() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}
