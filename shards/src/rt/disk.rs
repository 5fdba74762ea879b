//! What the WAL asks of a disk: block-aligned reads and durable writes of one pre-sized file, and a directory
//! of files that are written once, front to back.

use std::future::Future;
use std::io;
use std::sync::Arc;

/// Offset, length and buffer of every direct read or write are multiples of this, whatever the device says.
pub const BLOCK_BYTES: usize = 4096;

/// One file opened for direct, synchronous I/O: a write that returns is on stable storage.
pub trait DirectFile {
    /// Memory that the device can read and write, aligned to [`BLOCK_BYTES`].
    type Buffer: AsRef<[u8]> + AsMut<[u8]>;

    /// What a read brings: the device's own memory, so that nothing is copied.
    type Read: AsRef<[u8]>;

    /// The file's length in bytes; it never changes while open.
    fn size_bytes(&self) -> u64;

    /// A buffer of exactly `len` bytes (a multiple of [`BLOCK_BYTES`]); its content is undefined.
    fn allocate(&self, len: usize) -> Self::Buffer;

    /// Reads `len` bytes at `offset`, both multiples of [`BLOCK_BYTES`]. A short read is an error.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Self::Read>>;

    /// Writes the whole buffer in place at `offset`. When it returns `Ok`, the bytes survive a power cut;
    /// after an error any prefix, suffix or mixture of old and new blocks may be on the disk.
    fn write_at(&self, buffer: Self::Buffer, offset: u64) -> impl Future<Output = io::Result<()>>;

    /// Lets other tasks of the executor run, between two pieces of a long read.
    fn yield_now(&self) -> impl Future<Output = ()>;

    /// Closes the file without making the executor wait for it.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// A new file that grows block by block.
pub trait AppendFile {
    /// Memory that the device can read, aligned to [`BLOCK_BYTES`].
    type Buffer: AsRef<[u8]> + AsMut<[u8]>;

    /// A buffer of exactly `len` bytes (a multiple of [`BLOCK_BYTES`]); its content is undefined.
    fn allocate(&self, len: usize) -> Self::Buffer;

    /// Writes the whole buffer at the end. It is not durable before [`AppendFile::finish`] has returned, except in a
    /// file of [`Directory::create_log`]. After an error the next append goes to the same place.
    fn append(&mut self, buffer: Self::Buffer) -> impl Future<Output = io::Result<()>>;

    /// Makes everything durable and closes the file.
    fn finish(self) -> impl Future<Output = io::Result<()>>;
}

/// The written part of a file, for threads that may wait for the disk.
pub trait ReadAt: Send + Sync {
    /// Fills the whole buffer with the bytes at `offset`. Blocks.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The length that the file has by now, in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
}

/// The directory of one shard.
pub trait Directory {
    /// A file that is only read.
    type File: DirectFile;
    /// A file that is being written.
    type Append: AppendFile;

    /// The names of the files.
    fn list(&self) -> impl Future<Output = io::Result<Vec<String>>>;

    /// Opens a file for reading.
    fn open(&self, name: &str) -> impl Future<Output = io::Result<Self::File>>;

    /// Makes an empty file, in place of one with this name.
    fn create(&self, name: &str) -> impl Future<Output = io::Result<Self::Append>>;

    /// Makes an empty file whose appends are durable one by one, as its name is when this returns, and every removal
    /// before it. No file with the name may be there.
    fn create_log(&self, name: &str) -> impl Future<Output = io::Result<Self::Append>>;

    /// Opens a file for reading by other threads, also while it grows.
    fn reader(&self, name: &str) -> impl Future<Output = io::Result<Arc<dyn ReadAt>>>;

    /// Gives a finished file its final name, in place of a file with that name. When it returns `Ok`, the name
    /// survives a power cut.
    fn publish(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>>;

    /// Removes a file. After a power cut it may be there again, until a name was made durable.
    fn remove(&self, name: &str) -> impl Future<Output = io::Result<()>>;
}
