//! What the WAL asks of a disk: block-aligned reads and durable writes of one pre-sized file.

use std::future::Future;
use std::io;

/// Offset, length and buffer of every direct read or write are multiples of this, whatever the device says.
pub const BLOCK_BYTES: usize = 4096;

/// One file opened for direct, synchronous I/O: a write that returns is on stable storage.
pub trait DirectFile {
    /// Memory that the device can read and write, aligned to [`BLOCK_BYTES`].
    type Buffer: AsRef<[u8]> + AsMut<[u8]>;

    /// The file's length in bytes; it never changes while open.
    fn size_bytes(&self) -> u64;

    /// A buffer of exactly `len` bytes (a multiple of [`BLOCK_BYTES`]); its content is undefined.
    fn allocate(&self, len: usize) -> Self::Buffer;

    /// Reads `len` bytes at `offset`, both multiples of [`BLOCK_BYTES`]. A short read is an error.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Self::Buffer>>;

    /// Writes the whole buffer in place at `offset`. When it returns `Ok`, the bytes survive a power cut;
    /// after an error any prefix, suffix or mixture of old and new blocks may be on the disk.
    fn write_at(&self, buffer: Self::Buffer, offset: u64) -> impl Future<Output = io::Result<()>>;
}
