//! A bucket that is a directory: for tests, for one machine, and for shared file systems.
//!
//! Owns:     every file below its directory, except what others put there.
//! Promises: an object appears whole or not at all, and is on stable storage when a write returns; no name leads out
//!           of the directory.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::error::BucketError;
use super::{Attributes, Depth, Entry};
use crate::background::copy_in_pieces;

/// Where objects are written before they get their names. It lies inside the directory, because a file can only be
/// renamed within one file system; it is no object itself.
const STAGING: &str = ".annulus-tmp";

/// A staged file this old belongs to a process that is gone.
const STAGING_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often a write makes its folder again when somebody removes it, empty, in the meantime.
const FOLDER_TRIES_MAX: u32 = 8;

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct Filesystem {
    root: PathBuf,
}

impl Filesystem {
    /// Makes the directory if it is missing.
    pub(super) fn open(directory: &Path) -> Result<Filesystem, BucketError> {
        let staging = directory.join(STAGING);
        fs::create_dir_all(&staging).map_err(|error| BucketError::io(&staging, error))?;
        remove_stale(&staging);
        let root = std::path::absolute(directory).map_err(|error| BucketError::io(directory, error))?;
        Ok(Filesystem { root })
    }

    /// The directory, as an absolute path.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// What a folder holds, in no order; a folder that is not there holds nothing.
    pub(super) async fn list(&self, folder: &str, depth: Depth) -> Result<Vec<Entry>, BucketError> {
        let (this, folder) = (self.clone(), folder.to_owned());
        blocking(&self.root, move || {
            let mut entries = Vec::new();
            this.list_into(&folder, depth, &mut entries)?;
            Ok(entries)
        })
        .await
    }

    pub(super) async fn get(&self, name: &str) -> Result<Bytes, BucketError> {
        let (this, name) = (self.clone(), name.to_owned());
        blocking(&self.root, move || {
            let (mut file, size) = this.open_object(&name)?;
            let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            file.read_to_end(&mut content).map_err(|error| BucketError::io(&this.path(&name), error))?;
            Ok(Bytes::from(content))
        })
        .await
    }

    /// At most `length` bytes; fewer where the object ends.
    pub(super) async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, BucketError> {
        let (this, name) = (self.clone(), name.to_owned());
        blocking(&self.root, move || {
            let (file, size) = this.open_object(&name)?;
            if offset >= size {
                return Err(BucketError::Range { name, offset });
            }
            let path = this.path(&name);
            let length = usize::try_from(length.min(size - offset))
                .map_err(|_| BucketError::io(&path, io::ErrorKind::OutOfMemory.into()))?;
            let mut content = vec![0; length];
            file.read_exact_at(&mut content, offset).map_err(|error| BucketError::io(&path, error))?;
            Ok(Bytes::from(content))
        })
        .await
    }

    pub(super) async fn attributes(&self, name: &str) -> Result<Attributes, BucketError> {
        let (this, name) = (self.clone(), name.to_owned());
        blocking(&self.root, move || {
            let path = this.path(&name);
            let metadata = fs::metadata(&path).map_err(|error| missing_or_io(&name, &path, error))?;
            if !metadata.is_file() {
                return Err(BucketError::NotFound { name });
            }
            Ok(attributes_of(&metadata))
        })
        .await
    }

    /// Copies a local file; gives its size.
    pub(super) async fn upload(&self, name: &str, local: &Path) -> Result<u64, BucketError> {
        let (this, name, local) = (self.clone(), name.to_owned(), local.to_owned());
        blocking(&self.root, move || {
            let mut source = File::open(&local).map_err(|error| BucketError::io(&local, error))?;
            this.write(&name, |staged| {
                source.seek(SeekFrom::Start(0))?;
                copy_in_pieces(&mut source, staged)
            })
        })
        .await
    }

    pub(super) async fn put(&self, name: &str, content: Bytes) -> Result<u64, BucketError> {
        let (this, name) = (self.clone(), name.to_owned());
        blocking(&self.root, move || {
            this.write(&name, |staged| {
                staged.write_all(&content)?;
                Ok(content.len() as u64)
            })
        })
        .await
    }

    /// Removes an object, then the folders that it leaves empty. One that is not there is removed already.
    pub(super) async fn delete(&self, name: &str) -> Result<(), BucketError> {
        let (this, name) = (self.clone(), name.to_owned());
        blocking(&self.root, move || {
            let path = this.path(&name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(missing_or_io(&name, &path, error));
                }
                _ => {}
            }
            let mut folder = path.parent();
            while let Some(inside) = folder.filter(|folder| *folder != this.root) {
                // Fails, as it should, where something is left.
                if fs::remove_dir(inside).is_err() {
                    break;
                }
                folder = inside.parent();
            }
            if let Some(left) = folder {
                sync_directory(left)?;
            }
            Ok(())
        })
        .await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn open_object(&self, name: &str) -> Result<(File, u64), BucketError> {
        let path = self.path(name);
        let file = File::open(&path).map_err(|error| missing_or_io(name, &path, error))?;
        let metadata = file.metadata().map_err(|error| BucketError::io(&path, error))?;
        if !metadata.is_file() {
            return Err(BucketError::NotFound { name: name.to_owned() });
        }
        Ok((file, metadata.len()))
    }

    fn list_into(&self, folder: &str, depth: Depth, entries: &mut Vec<Entry>) -> Result<(), BucketError> {
        let path = self.path(folder);
        let listing = match fs::read_dir(&path) {
            Ok(listing) => listing,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(BucketError::io(&path, error)),
        };
        for item in listing {
            let item = item.map_err(|error| BucketError::io(&path, error))?;
            // A name that is not UTF-8 is not one of ours.
            let Ok(file_name) = item.file_name().into_string() else { continue };
            if folder.is_empty() && file_name == STAGING {
                continue;
            }
            let name = if folder.is_empty() { file_name } else { format!("{folder}/{file_name}") };
            let metadata = match item.metadata() {
                Ok(metadata) => metadata,
                // Deleted since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(BucketError::io(&item.path(), error)),
            };
            match (metadata.is_dir(), depth) {
                // A folder without objects is none; it is on its way in or out.
                (true, Depth::Folder) if is_empty(&item.path()) => {}
                (true, Depth::Folder) => entries.push(Entry { name: format!("{name}/"), attributes: None }),
                (true, Depth::Everything) => self.list_into(&name, depth, entries)?,
                (false, _) => entries.push(Entry { name, attributes: Some(attributes_of(&metadata)) }),
            }
        }
        Ok(())
    }

    /// Stages what `fill` writes, then gives it its name.
    fn write(&self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<u64>) -> Result<u64, BucketError> {
        if name.split('/').next() == Some(STAGING) {
            return Err(BucketError::Name {
                name: name.to_owned(),
                reason: "it lies among unfinished writes",
            });
        }
        let staged_path = self.root.join(STAGING).join(staged_name());
        let written = self.stage(&staged_path, fill).and_then(|size| {
            self.publish(&staged_path, name)?;
            Ok(size)
        });
        if written.is_err() {
            let _ = fs::remove_file(&staged_path);
        }
        written
    }

    fn stage(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut File) -> io::Result<u64>,
    ) -> Result<u64, BucketError> {
        let filled = File::create_new(path).and_then(|mut file| {
            let size = fill(&mut file)?;
            file.sync_all()?;
            Ok(size)
        });
        filled.map_err(|error| BucketError::io(path, error))
    }

    fn publish(&self, staged: &Path, name: &str) -> Result<(), BucketError> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        for tries in 1.. {
            fs::create_dir_all(folder).map_err(|error| BucketError::io(folder, error))?;
            match fs::rename(staged, &path) {
                Ok(()) => break,
                // Somebody deleted the folder's last object between these two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < FOLDER_TRIES_MAX => {}
                Err(error) => return Err(BucketError::io(&path, error)),
            }
        }
        // The entry of a new folder is as much a part of the object's name as its own.
        for inside in folder.ancestors().take_while(|ancestor| ancestor.starts_with(&self.root)) {
            sync_directory(inside)?;
        }
        Ok(())
    }
}

/// Runs file system calls where they may block.
async fn blocking<T: Send + 'static>(
    root: &Path,
    work: impl FnOnce() -> Result<T, BucketError> + Send + 'static,
) -> Result<T, BucketError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(BucketError::io(root, io::Error::other("the runtime is stopping"))),
    }
}

fn missing_or_io(name: &str, path: &Path, error: io::Error) -> BucketError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            BucketError::NotFound { name: name.to_owned() }
        }
        io::ErrorKind::PermissionDenied => {
            BucketError::AccessDenied { name: name.to_owned(), reason: error.to_string() }
        }
        _ => BucketError::io(path, error),
    }
}

fn attributes_of(metadata: &fs::Metadata) -> Attributes {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Attributes {
        size_bytes: metadata.len(),
        modified_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut listing| listing.next().is_none())
}

/// Another process, or another machine, may write into the same directory.
fn staged_name() -> String {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let count = WRITES.fetch_add(1, Ordering::Relaxed);
    let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    format!("{random:016x}-{count}")
}

fn remove_stale(staging: &Path) {
    let Ok(listing) = fs::read_dir(staging) else { return };
    for item in listing.flatten() {
        let modified = item.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_some_and(|age| age > STAGING_AGE_MAX) {
            let _ = fs::remove_file(item.path());
        }
    }
}

fn sync_directory(path: &Path) -> Result<(), BucketError> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        // Deleted by somebody else, together with what was to be made durable.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BucketError::io(path, error)),
        _ => Ok(()),
    }
}
