//! One pre-sized file on a simulated disk.
//!
//! A write takes effect when it completes. At a crash, each sector of a write in flight holds the old or the new
//! bytes. After a crash of the process alone the new ones may be in the disk's cache only: they can be read, and
//! a later power cut may still take them away, unless they were written again since.
//!
//! Beyond that it does what no disk should, if it is told to: see [`Faults`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use super::faults::{Faults, unreadable};
use super::random::Random;
use crate::rt::{BLOCK_BYTES, DirectFile};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// The file; clones are the same file.
#[derive(Clone)]
pub struct SimDisk(Rc<State>);

struct State {
    random: Random,
    /// What survives a power cut.
    durable: RefCell<Vec<u8>>,
    /// Sectors of the disk's cache that differ.
    cached: RefCell<BTreeMap<usize, Vec<u8>>>,
    in_flight: RefCell<BTreeMap<u64, (usize, Vec<u8>)>>,
    /// Blocks that cannot be read before they are written again.
    unreadable: RefCell<BTreeSet<usize>>,
    faults: Faults,
    next_id: Cell<u64>,
    /// How many more writes succeed; `None` for all.
    writes_left: Cell<Option<u64>>,
}

impl SimDisk {
    /// A file of zeros.
    pub fn new(random: Random, size_bytes: usize) -> SimDisk {
        SimDisk::with_bytes(random, vec![0; size_bytes])
    }

    /// A file with this content.
    pub fn with_bytes(random: Random, bytes: Vec<u8>) -> SimDisk {
        let faults = Faults::new(&random);
        SimDisk::with_faults(random, faults, bytes)
    }

    /// A file that shares its faults with others.
    pub(super) fn with_faults(random: Random, faults: Faults, bytes: Vec<u8>) -> SimDisk {
        SimDisk(Rc::new(State {
            random,
            faults,
            unreadable: RefCell::default(),
            durable: RefCell::new(bytes),
            cached: RefCell::default(),
            in_flight: RefCell::default(),
            next_id: Cell::new(0),
            writes_left: Cell::new(None),
        }))
    }

    /// What it does although it must not.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Whether it has ever lied or written to a wrong place.
    pub fn deceives(&self) -> bool {
        let counts = self.0.faults.counts();
        counts.misdirected_writes + counts.lying_flushes > 0
    }

    /// What a power cut would leave, without the writes in flight.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.durable.borrow().clone()
    }

    /// What the disk has at a place.
    pub fn with_bytes_at<T>(&self, offset: usize, len: usize, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.0.durable.borrow()[offset..offset + len])
    }

    /// What a read would bring, from the medium and the disk's cache.
    pub fn readable(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = self.0.durable.borrow()[offset..offset + len].to_vec();
        let places = offset / SECTOR_BYTES..(offset + len) / SECTOR_BYTES;
        for (place, sector) in self.0.cached.borrow().range(places) {
            bytes[place * SECTOR_BYTES - offset..][..SECTOR_BYTES].copy_from_slice(sector);
        }
        bytes
    }

    /// Changes one byte on the medium.
    pub fn flip(&self, at: usize, flip: u8) {
        self.0.durable.borrow_mut()[at] ^= flip;
    }

    /// Changes a run of bytes on the medium.
    pub fn rot(&self, at: usize, bytes: &[u8]) {
        self.0.durable.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes the block around a byte unreadable until it is written again.
    pub fn spoil(&self, at: usize) {
        self.0.unreadable.borrow_mut().insert(at / BLOCK_BYTES);
    }

    /// Makes all blocks readable again: the fault has passed.
    pub fn heal(&self) {
        self.0.unreadable.borrow_mut().clear();
    }

    /// Makes every write after the next `count` fail.
    pub fn fail_writes_after(&self, count: Option<u64>) {
        self.0.writes_left.set(count);
    }

    /// The process dies; the machine goes on.
    pub fn kill(&self) {
        for (_, (offset, bytes)) in std::mem::take(&mut *self.0.in_flight.borrow_mut()) {
            self.0.cache(offset, &bytes, self.0.torn_sectors(bytes.len()));
        }
    }

    /// The power is gone.
    pub fn cut_power(&self) {
        self.kill();
        for (place, bytes) in std::mem::take(&mut *self.0.cached.borrow_mut()) {
            if self.0.random.one_in(2) {
                self.0.durable.borrow_mut()[place * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(&bytes);
            }
        }
    }

    /// Starts a write that completes at some later step, whether or not anybody waits for it.
    pub fn start_write(&self, offset: u64, bytes: Vec<u8>) -> u64 {
        assert!(
            offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.len().is_multiple_of(BLOCK_BYTES),
            "aligned"
        );
        assert!(offset as usize + bytes.len() <= self.0.durable.borrow().len(), "inside the file");
        let id = self.0.next_id.replace(self.0.next_id.get() + 1);
        self.0.in_flight.borrow_mut().insert(id, (offset as usize, bytes));
        id
    }

    /// Ends a write that [`SimDisk::start_write`] began.
    pub fn complete(&self, id: u64) -> io::Result<()> {
        // A crash has ended the write already, and nobody sees this result.
        let Some((offset, bytes)) = self.0.in_flight.borrow_mut().remove(&id) else { return Ok(()) };
        let failed = match self.0.writes_left.get() {
            Some(0) => true,
            left => {
                self.0.writes_left.set(left.map(|left| left - 1));
                false
            }
        };
        if failed {
            self.0.store(offset, &bytes, self.0.torn_sectors(bytes.len()));
            return Err(io::Error::other("simulated failure of a write"));
        }
        let places = (self.0.durable.borrow().len() - bytes.len()) / BLOCK_BYTES + 1;
        let offset = self.0.faults.direct(offset / BLOCK_BYTES, places) * BLOCK_BYTES;
        let sectors = (0..bytes.len() / SECTOR_BYTES).collect();
        if self.0.faults.lies() {
            self.0.cache(offset, &bytes, sectors);
        } else {
            self.0.store(offset, &bytes, sectors);
        }
        Ok(())
    }

    /// Waits a random number of polls.
    async fn delay(&self) {
        delay(&self.0.random).await;
    }
}

impl State {
    /// Brings sectors of a write to the medium.
    fn store(&self, offset: usize, bytes: &[u8], sectors: Vec<usize>) {
        for sector in sectors {
            let place = offset / SECTOR_BYTES + sector;
            self.cached.borrow_mut().remove(&place);
            self.durable.borrow_mut()[place * SECTOR_BYTES..][..SECTOR_BYTES]
                .copy_from_slice(&bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES]);
        }
        self.unreadable.borrow_mut().retain(|block| !written(offset, bytes).contains(block));
    }

    /// Brings sectors of a write into the disk's cache.
    fn cache(&self, offset: usize, bytes: &[u8], sectors: Vec<usize>) {
        for sector in sectors {
            let place = offset / SECTOR_BYTES + sector;
            let sector = &bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES];
            self.cached.borrow_mut().insert(place, sector.to_vec());
        }
        self.unreadable.borrow_mut().retain(|block| !written(offset, bytes).contains(block));
    }

    /// Which sectors of an interrupted write have reached the disk: none, all, a prefix, a suffix or any mixture.
    fn torn_sectors(&self, len: usize) -> Vec<usize> {
        let count = len / SECTOR_BYTES;
        let random = &self.random;
        let cut = random.below(count as u64 + 1) as usize;
        match random.below(5) {
            0 => Vec::new(),
            1 => (0..count).collect(),
            2 => (0..cut).collect(),
            3 => (cut..count).collect(),
            _ => (0..count).filter(|_| random.one_in(2)).collect(),
        }
    }
}

/// The blocks of a write.
fn written(offset: usize, bytes: &[u8]) -> std::ops::Range<usize> {
    offset / BLOCK_BYTES..(offset + bytes.len()) / BLOCK_BYTES
}

/// Stays pending for a random number of polls.
pub(super) async fn delay(random: &Random) {
    poll_fn(|context| {
        if random.one_in(2) {
            return Poll::Ready(());
        }
        // A collection of futures polls only those that were woken.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl DirectFile for SimDisk {
    type Buffer = Vec<u8>;
    type Read = Vec<u8>;

    fn size_bytes(&self) -> u64 {
        self.0.durable.borrow().len() as u64
    }

    fn allocate(&self, len: usize) -> Vec<u8> {
        // Undefined content, so that padding that is not written shows.
        vec![0xa5; len]
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64) && len.is_multiple_of(BLOCK_BYTES), "aligned");
        self.delay().await;
        self.0.faults.read()?;
        let begin = offset as usize;
        let blocks = begin / BLOCK_BYTES..(begin + len) / BLOCK_BYTES;
        if self.0.unreadable.borrow().range(blocks).next().is_some() {
            return Err(unreadable());
        }
        Ok(self.readable(begin, len))
    }

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        let id = self.start_write(offset, buffer);
        self.delay().await;
        self.complete(id)
    }

    async fn yield_now(&self) {
        self.delay().await;
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{FaultRates, run_to_end};
    use std::collections::BTreeSet;

    #[test]
    fn writes_in_flight_survive_a_power_cut_or_not_each_for_itself_and_in_any_order() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let disk = SimDisk::new(Random::new(seed), 2 * BLOCK_BYTES);
            disk.start_write(0, vec![1; BLOCK_BYTES]);
            disk.start_write(BLOCK_BYTES as u64, vec![2; BLOCK_BYTES]);
            disk.cut_power();
            let bytes = disk.bytes();
            outcomes.insert((bytes[0], bytes[BLOCK_BYTES]));
        }
        assert_eq!(outcomes, BTreeSet::from([(0, 0), (0, 2), (1, 0), (1, 2)]));
    }

    #[test]
    fn a_misdirected_write_lands_whole_and_elsewhere() {
        let disk = SimDisk::new(Random::new(1), 8 * BLOCK_BYTES);
        disk.faults().set_rates(FaultRates { misdirected_writes: 1, ..FaultRates::default() });
        run_to_end(disk.write_at(vec![1; 2 * BLOCK_BYTES], 0)).unwrap();
        let landed = disk.bytes().iter().position(|byte| *byte == 1).unwrap();
        assert!(landed > 0 && landed.is_multiple_of(BLOCK_BYTES));
        assert_eq!(disk.bytes().iter().filter(|byte| **byte == 1).count(), 2 * BLOCK_BYTES);
        assert_eq!(disk.faults().counts().misdirected_writes, 1);
    }

    #[test]
    fn a_lying_flush_is_read_back_until_the_power_is_cut() {
        let disk = SimDisk::new(Random::new(1), 4 * BLOCK_BYTES);
        disk.faults().set_rates(FaultRates { lying_flushes: 1, ..FaultRates::default() });
        run_to_end(disk.write_at(vec![1; 4 * BLOCK_BYTES], 0)).unwrap();
        disk.kill();
        assert_eq!(run_to_end(disk.read_at(0, 4 * BLOCK_BYTES)).unwrap(), vec![1; 4 * BLOCK_BYTES]);
        disk.cut_power();
        assert!(run_to_end(disk.read_at(0, 4 * BLOCK_BYTES)).unwrap().contains(&0));
    }

    #[test]
    fn a_spoiled_block_is_unreadable_until_it_is_written_or_the_fault_passes() {
        let disk = SimDisk::new(Random::new(1), 4 * BLOCK_BYTES);
        let read = || run_to_end(disk.read_at(0, 2 * BLOCK_BYTES));
        disk.spoil(BLOCK_BYTES + 5);
        assert_eq!(read().unwrap_err().raw_os_error(), Some(libc::EIO));
        run_to_end(disk.write_at(vec![1; BLOCK_BYTES], BLOCK_BYTES as u64)).unwrap();
        assert_eq!(read().unwrap()[BLOCK_BYTES], 1);
        disk.spoil(0);
        assert!(read().is_err());
        disk.heal();
        disk.faults().set_rates(FaultRates { failed_reads: 2, ..FaultRates::default() });
        let failed = (0..100).filter(|_| read().is_err()).count();
        assert_eq!(failed as u64, disk.faults().counts().failed_reads);
        assert!((30..70).contains(&failed));
    }
}
