//! One pre-sized file on a simulated disk.
//!
//! A write takes effect when it completes. At a crash, each sector of a write in flight holds the old or the new
//! bytes. After a crash of the process alone the new ones may be in the disk's cache only: they can be read, and
//! a later power cut may still take them away, unless they were written again since.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

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
        SimDisk(Rc::new(State {
            random,
            durable: RefCell::new(bytes),
            cached: RefCell::default(),
            in_flight: RefCell::default(),
            next_id: Cell::new(0),
            writes_left: Cell::new(None),
        }))
    }

    /// What a power cut would leave, without the writes in flight.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.durable.borrow().clone()
    }

    /// What the disk has at a place.
    pub fn with_bytes_at<T>(&self, offset: usize, len: usize, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.0.durable.borrow()[offset..offset + len])
    }

    /// Changes one byte on the medium.
    pub fn flip(&self, at: usize, flip: u8) {
        self.0.durable.borrow_mut()[at] ^= flip;
    }

    /// Makes every write after the next `count` fail.
    pub fn fail_writes_after(&self, count: Option<u64>) {
        self.0.writes_left.set(count);
    }

    /// The process dies; the machine goes on.
    pub fn kill(&self) {
        let mut cached = self.0.cached.borrow_mut();
        for (_, (offset, bytes)) in std::mem::take(&mut *self.0.in_flight.borrow_mut()) {
            for sector in self.0.torn_sectors(bytes.len()) {
                let place = offset / SECTOR_BYTES + sector;
                cached.insert(place, bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES].to_vec());
            }
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
        let sectors =
            if failed { self.0.torn_sectors(bytes.len()) } else { (0..bytes.len() / SECTOR_BYTES).collect() };
        for sector in sectors {
            let place = offset / SECTOR_BYTES + sector;
            self.0.cached.borrow_mut().remove(&place);
            self.0.durable.borrow_mut()[place * SECTOR_BYTES..][..SECTOR_BYTES]
                .copy_from_slice(&bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES]);
        }
        if failed {
            return Err(io::Error::other("simulated failure of a write"));
        }
        Ok(())
    }

    /// Waits a random number of polls.
    async fn delay(&self) {
        delay(&self.0.random).await;
    }
}

impl State {
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
        let begin = offset as usize;
        let mut bytes = self.0.durable.borrow()[begin..begin + len].to_vec();
        let places = begin / SECTOR_BYTES..(begin + len) / SECTOR_BYTES;
        for (place, sector) in self.0.cached.borrow().range(places) {
            bytes[place * SECTOR_BYTES - begin..][..SECTOR_BYTES].copy_from_slice(sector);
        }
        Ok(bytes)
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
