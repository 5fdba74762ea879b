//! A directory on a simulated disk.
//!
//! A file is durable once it is finished, a name once it is published. After a crash a name whose change was under
//! way is the old or the new one, an unfinished file is torn or gone, and a removed one may be back.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::disk::{SimDisk, delay};
use super::faults::{Faults, unreadable};
use super::random::Random;
use crate::rt::{AppendFile, BLOCK_BYTES, Directory, ReadAt};

/// The directory; clones are the same directory.
#[derive(Clone)]
pub struct SimDirectory(Rc<State>);

struct State {
    random: Random,
    names: RefCell<BTreeMap<String, Content>>,
    /// Removed files that a power cut may bring back.
    removed: RefCell<BTreeMap<String, Content>>,
    /// A change of a name that is under way: from, to.
    renaming: RefCell<Option<(String, String)>>,
    /// How many more bytes can be appended.
    space_left: Cell<u64>,
    /// Files that cannot be opened until they are replaced.
    unreadable: RefCell<BTreeSet<String>>,
    faults: Faults,
}

#[derive(Clone)]
struct Content {
    bytes: Arc<Mutex<Vec<u8>>>,
    finished: Rc<Cell<bool>>,
    /// Every append is durable.
    is_log: bool,
}

/// A file that is being written.
pub struct SimAppend {
    directory: SimDirectory,
    content: Content,
}

impl SimDirectory {
    /// An empty directory.
    pub fn new(random: Random) -> SimDirectory {
        SimDirectory(Rc::new(State {
            faults: Faults::new(&random),
            random,
            names: RefCell::default(),
            removed: RefCell::default(),
            renaming: RefCell::default(),
            space_left: Cell::new(u64::MAX),
            unreadable: RefCell::default(),
        }))
    }

    /// What reads of its files do although they must not.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Limits what can still be appended to files.
    pub fn limit_space(&self, bytes: u64) {
        self.0.space_left.set(bytes);
    }

    /// The content of a file.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.0.names.borrow().get(name).map(|content| content.bytes.lock().unwrap().clone())
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.0.names.borrow().keys().cloned().collect()
    }

    /// Puts a finished file there.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let content =
            Content { bytes: Arc::new(Mutex::new(bytes)), finished: Rc::new(Cell::new(true)), is_log: false };
        self.0.names.borrow_mut().insert(name.to_owned(), content);
    }

    /// Takes a file away for good.
    pub fn delete(&self, name: &str) {
        self.0.names.borrow_mut().remove(name);
    }

    /// Changes one byte of a file; `at` wraps around its length.
    pub fn flip(&self, name: &str, at: usize, flip: u8) {
        let names = self.0.names.borrow();
        let Some(content) = names.get(name) else { return };
        let mut bytes = content.bytes.lock().unwrap();
        if let Some(at) = at.checked_rem(bytes.len()) {
            bytes[at] ^= flip;
        }
    }

    /// Changes a run of bytes of a file, as far as it has them.
    pub fn rot(&self, name: &str, at: usize, run: &[u8]) {
        let names = self.0.names.borrow();
        let Some(content) = names.get(name) else { return };
        let mut bytes = content.bytes.lock().unwrap();
        bytes.iter_mut().skip(at).zip(run).for_each(|(byte, new)| *byte = *new);
    }

    /// Makes a file unreadable until it is replaced.
    pub fn spoil(&self, name: &str) {
        self.0.unreadable.borrow_mut().insert(name.to_owned());
    }

    /// Makes all files readable again: the fault has passed.
    pub fn heal(&self) {
        self.0.unreadable.borrow_mut().clear();
    }

    /// The process dies; the machine goes on.
    pub fn kill(&self) {
        if let Some((from, to)) = self.0.renaming.take()
            && self.0.random.one_in(2)
        {
            self.0.rename(&from, &to);
        }
    }

    /// The power is gone.
    pub fn cut_power(&self) {
        self.kill();
        for (name, content) in self.0.removed.take() {
            if self.0.random.one_in(2) {
                self.0.names.borrow_mut().entry(name).or_insert(content);
            }
        }
        let random = &self.0.random;
        self.0.names.borrow_mut().retain(|_, content| {
            if content.finished.get() || content.is_log {
                return true;
            }
            let mut bytes = content.bytes.lock().unwrap();
            let blocks = bytes.len() / BLOCK_BYTES;
            bytes.truncate(random.below(blocks as u64 + 1) as usize * BLOCK_BYTES);
            for block in bytes.chunks_mut(BLOCK_BYTES) {
                if random.one_in(3) {
                    block.fill(0);
                }
            }
            random.one_in(2)
        });
    }
}

impl State {
    fn rename(&self, from: &str, to: &str) {
        let mut names = self.names.borrow_mut();
        if let Some(content) = names.remove(from) {
            names.insert(to.to_owned(), content);
        }
        self.unreadable.borrow_mut().remove(to);
    }
}

impl Directory for SimDirectory {
    type File = SimDisk;
    type Append = SimAppend;

    async fn list(&self) -> io::Result<Vec<String>> {
        delay(&self.0.random).await;
        Ok(self.names())
    }

    async fn open(&self, name: &str) -> io::Result<SimDisk> {
        delay(&self.0.random).await;
        let bytes = self.bytes(name).ok_or(io::ErrorKind::NotFound)?;
        if self.0.unreadable.borrow().contains(name) {
            return Err(unreadable());
        }
        Ok(SimDisk::with_faults(self.0.random.fork(), self.0.faults.clone(), bytes))
    }

    async fn create(&self, name: &str) -> io::Result<SimAppend> {
        delay(&self.0.random).await;
        let content = Content { bytes: Arc::default(), finished: Rc::default(), is_log: false };
        self.0.names.borrow_mut().insert(name.to_owned(), content.clone());
        self.0.unreadable.borrow_mut().remove(name);
        Ok(SimAppend { directory: self.clone(), content })
    }

    async fn create_log(&self, name: &str) -> io::Result<SimAppend> {
        delay(&self.0.random).await;
        let content = Content { bytes: Arc::default(), finished: Rc::default(), is_log: true };
        self.0.names.borrow_mut().insert(name.to_owned(), content.clone());
        // As in `publish`.
        self.0.removed.take();
        Ok(SimAppend { directory: self.clone(), content })
    }

    async fn reader(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        delay(&self.0.random).await;
        let names = self.0.names.borrow();
        let content = names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimReader(Arc::clone(&content.bytes))))
    }

    async fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        *self.0.renaming.borrow_mut() = Some((from.to_owned(), to.to_owned()));
        delay(&self.0.random).await;
        self.0.renaming.take();
        self.0.rename(from, to);
        // The directory is flushed, and with it every earlier removal.
        self.0.removed.take();
        Ok(())
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        delay(&self.0.random).await;
        let content = self.0.names.borrow_mut().remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.0.removed.borrow_mut().insert(name.to_owned(), content);
        Ok(())
    }
}

/// Reads a file as it is now.
struct SimReader(Arc<Mutex<Vec<u8>>>);

impl ReadAt for SimReader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
}

impl AppendFile for SimAppend {
    type Buffer = Vec<u8>;

    fn allocate(&self, len: usize) -> Vec<u8> {
        vec![0xa5; len]
    }

    async fn append(&mut self, buffer: Vec<u8>) -> io::Result<()> {
        assert!(buffer.len().is_multiple_of(BLOCK_BYTES), "aligned");
        let state = &self.directory.0;
        delay(&state.random).await;
        let Some(left) = state.space_left.get().checked_sub(buffer.len() as u64) else {
            return Err(io::ErrorKind::StorageFull.into());
        };
        state.space_left.set(left);
        self.content.bytes.lock().unwrap().extend_from_slice(&buffer);
        Ok(())
    }

    async fn finish(self) -> io::Result<()> {
        delay(&self.directory.0.random).await;
        self.content.finished.set(true);
        Ok(())
    }
}
