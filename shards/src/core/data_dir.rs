//! The data directory: who uses it, in which format, how many shards, and the secret of its series keys.
//!
//! Layout: `lock` (flock of the process that uses it), `annulus.format` (text lines: version, shards,
//! secret), `shard-N/` with the WAL ring and the checkpoints of each shard.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The format that this version writes.
const FORMAT_VERSION: u32 = 3;

const FORMAT_FILE: &str = "annulus.format";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made, read or written.
    #[error("data directory {path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process works in it.
    #[error("data directory {path} is in use by another process (it holds {path}/lock)", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error(
        "data directory {path} has format {found}, this version of annulus reads up to {FORMAT_VERSION}: start the \
         version that wrote it, or a newer one",
        path = path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// It was written by a version that nobody was given.
    #[error(
        "data directory {path} has format {found}, of a development version; this version reads format \
         {FORMAT_VERSION} only: start with an empty directory",
        path = path.display()
    )]
    Older {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The format file is damaged.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// An opened data directory; the lock is held while this lives.
pub struct DataDir {
    path: PathBuf,
    /// How many shards its files are made for.
    pub shards: usize,
    /// The secret of series keys. It stays with the directory: a series must find its shard after a restart.
    pub secret: [u8; 16],
    _lock: File,
}

impl DataDir {
    /// Opens a directory, or makes it for `shards` shards.
    pub fn open(path: &Path, shards: usize) -> Result<DataDir, DataDirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(at(path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        // The kernel closes the files of a killed process that used io_uring some time after the process has gone.
        let locked = crate::rt::retry_at_start(
            || flock(&lock, FlockOperation::NonBlockingLockExclusive),
            |error| *error == rustix::io::Errno::WOULDBLOCK,
        );
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataDirError::InUse { path: path.to_owned() }),
            Err(error) => return Err(at(&lock_path)(error.into())),
        }
        let format_path = path.join(FORMAT_FILE);
        let format = match fs::read_to_string(&format_path) {
            Ok(text) => Format::parse(&text, path, &format_path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let format = Format { shards, secret: random_secret().map_err(at(&format_path))? };
                format.write(&format_path).map_err(at(&format_path))?;
                format
            }
            Err(error) => return Err(at(&format_path)(error)),
        };
        for shard in 0..format.shards {
            let directory = shard_path(path, shard);
            fs::create_dir_all(&directory).map_err(at(&directory))?;
        }
        Ok(DataDir { path: path.to_owned(), shards: format.shards, secret: format.secret, _lock: lock })
    }

    /// Number of shards and secret of a directory, which is left as it is.
    ///
    /// # Errors
    /// When it is no data directory, or one of a newer version.
    pub fn look(path: &Path) -> Result<(usize, [u8; 16]), DataDirError> {
        let format_path = path.join(FORMAT_FILE);
        let text = fs::read_to_string(&format_path)
            .map_err(|source| DataDirError::Io { path: format_path.clone(), source })?;
        let format = Format::parse(&text, path, &format_path)?;
        Ok((format.shards, format.secret))
    }

    /// Whether a process works in a directory; one may begin to at any time. Waits for some seconds for the kernel to
    /// close the files of a killed one.
    pub fn is_in_use(path: &Path) -> bool {
        let Ok(lock) = File::open(path.join("lock")) else { return false };
        // It is let go of at once: a process that starts meanwhile tries again.
        let locked = crate::rt::retry_at_start(
            || flock(&lock, FlockOperation::NonBlockingLockShared),
            |error| *error == rustix::io::Errno::WOULDBLOCK,
        );
        locked == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Where the files of one shard are.
    pub fn shard_path(&self, shard: usize) -> PathBuf {
        shard_path(&self.path, shard)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn shard_path(path: &Path, shard: usize) -> PathBuf {
    path.join(format!("shard-{shard}"))
}

fn random_secret() -> io::Result<[u8; 16]> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    Ok(secret)
}

struct Format {
    shards: usize,
    secret: [u8; 16],
}

impl Format {
    fn parse(text: &str, directory: &Path, path: &Path) -> Result<Format, DataDirError> {
        let damaged =
            |reason: &str| DataDirError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| damaged(&format!("no line {name}=")))
        };
        let version: u32 = field("version")?.parse().map_err(|_| damaged("the version is not a number"))?;
        if version > FORMAT_VERSION {
            return Err(DataDirError::Newer { path: directory.to_owned(), found: version });
        }
        if version < FORMAT_VERSION {
            return Err(DataDirError::Older { path: directory.to_owned(), found: version });
        }
        let shards = field("shards")?.parse().map_err(|_| damaged("the number of shards is not a number"))?;
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(damaged("the number of shards is out of bounds"));
        }
        let secret =
            u128::from_str_radix(field("secret")?, 16).map_err(|_| damaged("the secret is not hex"))?;
        Ok(Format { shards, secret: secret.to_be_bytes() })
    }

    /// Written under another name, flushed, then renamed: after a crash the file is whole or absent.
    fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        let secret = u128::from_be_bytes(self.secret);
        writeln!(file, "version={FORMAT_VERSION}\nshards={}\nsecret={secret:032x}", self.shards)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// The most shards of one node.
pub const SHARDS_MAX: usize = 256;

/// Whether a filesystem takes direct I/O, found by trying: the WAL needs it to know what is on the disk.
pub fn check_direct_io(directory: &Path) -> Result<(), DataDirError> {
    let path = directory.join(".direct-io-check");
    let fail = |source| DataDirError::Io { path: path.clone(), source };
    fs::write(&path, [0u8; 4096]).map_err(fail)?;
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let result = opened.and_then(|mut file| file.read(&mut []).map(drop));
    let _ = fs::remove_file(&path);
    result.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOTSUP) => fail(io::Error::new(
            io::ErrorKind::Unsupported,
            "this filesystem has no direct I/O (O_DIRECT); put the data directory on ext4 or XFS",
        )),
        _ => fail(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_shards_and_its_secret() {
        let temp = tempfile::tempdir().unwrap();
        let first = DataDir::open(&temp.path().join("a/b"), 3).unwrap();
        let secret = first.secret;
        drop(first);
        let again = DataDir::open(&temp.path().join("a/b"), 8).unwrap();
        assert_eq!((again.shards, again.secret), (3, secret));
        assert!(again.shard_path(2).is_dir());
    }

    #[test]
    fn two_processes_cannot_share_it() {
        let temp = tempfile::tempdir().unwrap();
        let _first = DataDir::open(temp.path(), 1).unwrap();
        assert!(matches!(DataDir::open(temp.path(), 1), Err(DataDirError::InUse { .. })));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let format = temp.path().join(FORMAT_FILE);
        fs::write(&format, "version=99\nshards=1\nsecret=0").unwrap();
        assert!(matches!(DataDir::open(temp.path(), 1), Err(DataDirError::Newer { found: 99, .. })));
        fs::write(&format, "version=1\nshards=1\nsecret=0").unwrap();
        assert!(matches!(DataDir::open(temp.path(), 1), Err(DataDirError::Older { found: 1, .. })));
        for text in ["", "version=3\n", "version=3\nshards=0\nsecret=00", "version=3\nshards=2\nsecret=xyz"] {
            fs::write(&format, text).unwrap();
            assert!(matches!(DataDir::open(temp.path(), 1), Err(DataDirError::Damaged { .. })), "{text:?}");
        }
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(DataDir::open(&file.join("x"), 1), Err(DataDirError::Io { .. })));
    }
}
