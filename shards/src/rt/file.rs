//! A pre-sized file for direct, synchronous I/O through io_uring.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glommio::io::{DmaBuffer, DmaFile, OpenOptions, ReadResult};

use super::disk::{AppendFile, BLOCK_BYTES, DirectFile, Directory, ReadAt};
use super::executor::yield_to_reactor;

/// A file opened with O_DIRECT and O_DSYNC.
pub struct RingFile {
    file: DmaFile,
    path: PathBuf,
    size_bytes: u64,
}

/// A buffer that the device can use.
pub struct Buffer(DmaBuffer);

/// What was read, where the device has put it.
pub struct Read(ReadResult);

impl AsRef<[u8]> for Read {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

/// Makes an executor ready for direct I/O below `directory`: to be called once per executor, before any other
/// file is opened there.
///
/// glommio probes on the first open of a device whether polled I/O works by reading the file's start. On an
/// empty file the probe succeeds by mistake, and every later write of the device goes to a ring that the device
/// cannot serve (4 ms instead of 0.1 ms each). A first open of a file that has bytes gives the right answer.
pub async fn prepare_directory(directory: &Path, shard: usize) -> io::Result<()> {
    let path = directory.join(format!(".probe-{shard}"));
    std::fs::write(&path, [0u8; 2 * BLOCK_BYTES])?;
    let file = DmaFile::open(&path).await.map_err(to_io)?;
    file.close().await.map_err(to_io)
}

impl RingFile {
    /// Opens an existing file.
    pub async fn open(path: &Path) -> io::Result<RingFile> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DSYNC)
            .dma_open(path)
            .await
            .map_err(to_io)?;
        let size_bytes = file.file_size().await.map_err(to_io)?;
        Ok(RingFile { file, path: path.to_owned(), size_bytes })
    }

    /// Creates the file with `size_bytes` zeros, durably, under its final name only when complete: a crash in
    /// between leaves a `.new` file that the next start replaces.
    ///
    /// The zeros are written rather than only reserved, so that a later write in place changes no metadata of
    /// the file and its flush is a flush of the device alone.
    pub async fn create(path: &Path, size_bytes: u64) -> io::Result<RingFile> {
        const PIECE_BYTES: usize = 1 << 20;
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .dma_open(&fresh)
            .await
            .map_err(to_io)?;
        file.pre_allocate(size_bytes, false).await.map_err(to_io)?;
        let mut offset = 0;
        while offset < size_bytes {
            let len = PIECE_BYTES.min((size_bytes - offset) as usize);
            let mut buffer = file.alloc_dma_buffer(len);
            buffer.as_bytes_mut().fill(0);
            let written = file.write_at(buffer, offset).await.map_err(to_io)?;
            if written != len {
                return Err(io::Error::new(io::ErrorKind::WriteZero, "short write while the file was made"));
            }
            offset += written as u64;
        }
        file.fdatasync().await.map_err(to_io)?;
        file.close().await.map_err(to_io)?;
        std::fs::rename(&fresh, path)?;
        if let Some(directory) = path.parent() {
            std::fs::File::open(directory)?.sync_all()?;
        }
        RingFile::open(path).await
    }

    /// Where the file is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file; dropping it instead would close it on the reactor's thread.
    pub async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(to_io)
    }
}

impl DirectFile for RingFile {
    type Buffer = Buffer;
    type Read = Read;

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn allocate(&self, len: usize) -> Buffer {
        Buffer(self.file.alloc_dma_buffer(len))
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Read> {
        let read = self.file.read_at_aligned(offset, len).await.map_err(to_io)?;
        if read.len() != len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "short read"));
        }
        Ok(Read(read))
    }

    async fn write_at(&self, buffer: Buffer, offset: u64) -> io::Result<()> {
        let len = buffer.0.as_bytes().len();
        let written = self.file.write_at(buffer.0, offset).await.map_err(to_io)?;
        if written != len {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("{written} of {len} bytes written"),
            ));
        }
        Ok(())
    }

    async fn yield_now(&self) {
        yield_to_reactor().await;
    }

    async fn close(self) -> io::Result<()> {
        RingFile::close(self).await
    }
}

/// The directory of one shard, on a real disk.
#[derive(Debug, Clone)]
pub struct ShardDirectory(PathBuf);

impl ShardDirectory {
    /// Uses an existing directory.
    pub fn new(path: PathBuf) -> ShardDirectory {
        ShardDirectory(path)
    }

    /// Runs system calls that io_uring does not cover here on the helper thread.
    async fn off_the_reactor<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = self.0.clone();
        super::executor::blocking(move || work(&path)).await?
    }
}

impl Directory for ShardDirectory {
    type File = RingFile;
    type Append = GrowingFile;

    async fn list(&self) -> io::Result<Vec<String>> {
        self.off_the_reactor(|path| {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path)? {
                // A name that is not UTF-8 is none of ours.
                names.extend(entry?.file_name().into_string().ok());
            }
            Ok(names)
        })
        .await
    }

    async fn open(&self, name: &str) -> io::Result<RingFile> {
        RingFile::open(&self.0.join(name)).await
    }

    async fn create(&self, name: &str) -> io::Result<GrowingFile> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .dma_open(self.0.join(name))
            .await
            .map_err(to_io)?;
        Ok(GrowingFile { file, len: 0 })
    }

    async fn create_log(&self, name: &str) -> io::Result<GrowingFile> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_DSYNC)
            .dma_open(self.0.join(name))
            .await
            .map_err(to_io)?;
        self.off_the_reactor(|path| std::fs::File::open(path)?.sync_all()).await?;
        Ok(GrowingFile { file, len: 0 })
    }

    async fn reader(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        let name = name.to_owned();
        let file = self.off_the_reactor(move |path| SharedFile::open(&path.join(name))).await?;
        Ok(Arc::new(file))
    }

    async fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.off_the_reactor(move |path| {
            std::fs::rename(path.join(from), path.join(to))?;
            std::fs::File::open(path)?.sync_all()
        })
        .await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.off_the_reactor(move |path| std::fs::remove_file(path.join(name))).await
    }
}

/// A file for threads that may wait; it stays readable when its name is gone. What direct I/O writes once and never
/// again, the page cache may keep.
pub(super) struct SharedFile(std::fs::File);

impl SharedFile {
    /// Opens a file for reading.
    pub fn open(path: &Path) -> io::Result<SharedFile> {
        std::fs::File::open(path).map(SharedFile)
    }
}

impl ReadAt for SharedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// A file of a [`ShardDirectory`] that is being written.
pub struct GrowingFile {
    file: DmaFile,
    len: u64,
}

impl AppendFile for GrowingFile {
    type Buffer = Buffer;

    fn allocate(&self, len: usize) -> Buffer {
        Buffer(self.file.alloc_dma_buffer(len))
    }

    async fn append(&mut self, buffer: Buffer) -> io::Result<()> {
        let len = buffer.0.as_bytes().len();
        let written = self.file.write_at(buffer.0, self.len).await.map_err(to_io)?;
        if written != len {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("{written} of {len} bytes written"),
            ));
        }
        self.len += len as u64;
        Ok(())
    }

    async fn finish(self) -> io::Result<()> {
        // The close comes also after a failed flush, which is the error that counts.
        let synced = self.file.fdatasync().await.map_err(to_io);
        let closed = self.file.close().await.map_err(to_io);
        synced.and(closed)
    }
}

fn to_io(error: glommio::GlommioError<()>) -> io::Error {
    io::Error::from(error)
}
