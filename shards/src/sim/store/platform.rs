//! What a simulated shard stands on: disks that crash, pauses that the seed chooses.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::super::disk::delay;
use super::super::{Random, SimDirectory, SimDisk};
use crate::rt::{BLOCK_BYTES, DirectFile, Directory, Pace, Platform, ReadAt};

/// The platform of one life of a shard.
pub struct Simulated {
    random: Random,
    now_ms: i64,
}

impl Simulated {
    /// With a wall clock that stands still.
    pub fn new(random: Random, now_ms: i64) -> Simulated {
        Simulated { random, now_ms }
    }
}

impl Platform for Simulated {
    type Ring = WatchedRing;
    type Files = Files;
    type Pace = Pauses;

    fn pacer(&self) -> Pauses {
        Pauses(self.random.fork())
    }

    fn unix_now_ms(&self) -> i64 {
        self.now_ms
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        delay(&self.random).await;
        Ok(work())
    }

    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        for _ in 0..self.random.below(10) {
            delay(&self.random).await;
        }
        Ok(work())
    }
}

/// Ends a turn at every other opportunity, and now and then for long, as a reader does that takes its pages slowly.
pub struct Pauses(Random);

impl Pace for Pauses {
    async fn pace(&mut self) {
        let delays = match self.0.below(30) {
            0 => self.0.below(300),
            1..15 => 1,
            _ => 0,
        };
        for _ in 0..delays {
            delay(&self.0).await;
        }
    }

    fn restart(&mut self) {}
}

/// What the ring holds that must not be overwritten: frames that were acknowledged to the WAL, by sequence number.
#[derive(Default)]
pub struct Frames {
    durable: RefCell<BTreeMap<u64, Range<u64>>>,
    under_way: RefCell<BTreeMap<u64, Range<u64>>>,
    overwritten: Cell<Option<u64>>,
}

impl Frames {
    /// A recovery has found the frames below a number, and nothing else.
    pub fn recovered(&self, next_seq: u64) {
        let mut durable = self.durable.borrow_mut();
        durable.append(&mut self.under_way.borrow_mut());
        durable.retain(|seq, _| *seq < next_seq);
    }

    /// A frame that was overwritten although a recovery would need it.
    pub fn overwritten(&self) -> Option<u64> {
        self.overwritten.get()
    }
}

/// The ring's disk. It looks at each write: the format by hand, because a reader of the same code would share its
/// mistakes.
pub struct WatchedRing {
    disk: SimDisk,
    frames: Rc<Frames>,
}

impl WatchedRing {
    pub fn new(disk: SimDisk, frames: Rc<Frames>) -> WatchedRing {
        WatchedRing { disk, frames }
    }

    /// The oldest frame that a recovery would need, by the older of both superblocks.
    fn tail_seq(&self) -> u64 {
        let number = |copies: &[u8], at: usize| u64::from_le_bytes(copies[at..at + 8].try_into().unwrap());
        let tails = |copies: &[u8]| number(copies, 40).min(number(copies, BLOCK_BYTES + 40));
        self.disk.with_bytes_at(0, 2 * BLOCK_BYTES, tails)
    }
}

impl DirectFile for WatchedRing {
    type Buffer = Vec<u8>;
    type Read = Vec<u8>;

    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn allocate(&self, len: usize) -> Vec<u8> {
        self.disk.allocate(len)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read_at(offset, len).await
    }

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> io::Result<()> {
        if !buffer.starts_with(b"AnWF") {
            return self.disk.write_at(buffer, offset).await;
        }
        let seq = u64::from_le_bytes(buffer[8..16].try_into().unwrap());
        let range = offset..offset + buffer.len() as u64;
        let tail_seq = self.tail_seq();
        for (other, needed) in self.frames.durable.borrow().range(tail_seq..) {
            if *other != seq && needed.start < range.end && range.start < needed.end {
                self.frames.overwritten.set(Some(*other));
            }
        }
        self.frames.under_way.borrow_mut().insert(seq, range.clone());
        self.disk.write_at(buffer, offset).await?;
        self.frames.under_way.borrow_mut().remove(&seq);
        self.frames.durable.borrow_mut().insert(seq, range);
        Ok(())
    }

    async fn yield_now(&self) {
        self.disk.yield_now().await;
    }

    async fn close(self) -> io::Result<()> {
        self.disk.close().await
    }
}

/// The shard's directory. With a planted bug its chunk files are not flushed.
#[derive(Clone)]
pub struct Files {
    directory: SimDirectory,
    flushes_chunks: bool,
}

impl Files {
    pub fn new(directory: SimDirectory, flushes_chunks: bool) -> Files {
        Files { directory, flushes_chunks }
    }
}

impl Directory for Files {
    type File = SimDisk;
    type Append = <SimDirectory as Directory>::Append;

    async fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list().await
    }

    async fn open(&self, name: &str) -> io::Result<SimDisk> {
        self.directory.open(name).await
    }

    async fn create(&self, name: &str) -> io::Result<Self::Append> {
        self.directory.create(name).await
    }

    async fn create_log(&self, name: &str) -> io::Result<Self::Append> {
        if self.flushes_chunks {
            self.directory.create_log(name).await
        } else {
            self.directory.create(name).await
        }
    }

    async fn reader(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        self.directory.reader(name).await
    }

    async fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.publish(from, to).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name).await
    }
}
