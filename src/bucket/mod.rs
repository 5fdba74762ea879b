//! Object storage: one bucket, on a server with S3's interface or in a directory.
//!
//! Owns:     `objstore.yml`, the connections to the server, the metrics of both.
//! Runs on:  tokio; file system calls on its blocking threads.
//! Promises: an object is seen whole or not at all; what fails for a moment is tried again within a bound; every wait
//!           ends. Memory per operation does not depend on an object's size, except for [`Bucket::get`].

pub mod backoff;
pub mod config;
mod error;
mod filesystem;
pub mod metrics;
mod name;
mod s3;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use crate::rfc3339::now_ms;
use config::{BucketConfig, Storage};
pub use error::BucketError;
use filesystem::Filesystem;
use metrics::{BucketMetrics, Operation};
use name::{check_folder, check_object};
use s3::S3;

/// What a download asks for at once.
const DOWNLOAD_PIECE_BYTES: u64 = 8 << 20;

/// One bucket. A clone is another handle to the same.
#[derive(Clone)]
pub struct Bucket {
    shared: Arc<Shared>,
}

struct Shared {
    /// The value of the label `bucket`.
    label: String,
    /// Ends in a slash, or is empty.
    prefix: String,
    backend: Backend,
    metrics: BucketMetrics,
}

enum Backend {
    S3(Box<S3>),
    Filesystem(Filesystem),
}

/// How far a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The objects and folders right inside.
    Folder,
    /// All objects below, and no folders.
    Everything,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name from the bucket's root; that of a folder ends in a slash.
    pub name: String,
    /// What is known of an object; folders have none.
    pub attributes: Option<Attributes>,
}

impl Entry {
    /// Whether this is a folder.
    pub fn is_folder(&self) -> bool {
        self.name.ends_with('/')
    }
}

/// What a bucket knows of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Its size.
    pub size_bytes: u64,
    /// When it was last written.
    pub modified_ms: i64,
}

impl Bucket {
    /// Prepares the bucket. No server is asked anything yet, so that a process starts while its storage is down.
    pub fn open(config: &BucketConfig, metrics: BucketMetrics) -> Result<Bucket, BucketError> {
        let (label, backend) = match &config.storage {
            Storage::S3(s3) => (s3.bucket.clone(), Backend::S3(Box::new(S3::open((**s3).clone())?))),
            Storage::Filesystem { directory } => {
                let files = Filesystem::open(directory)?;
                // As Thanos names such a bucket.
                (format!("fs: {}", files.root().display()), Backend::Filesystem(files))
            }
        };
        let prefix = if config.prefix.is_empty() { String::new() } else { format!("{}/", config.prefix) };
        metrics.announce(&label);
        Ok(Bucket { shared: Arc::new(Shared { label, prefix, backend, metrics }) })
    }

    /// The bucket's name, or its directory.
    pub fn label(&self) -> &str {
        &self.shared.label
    }

    /// What a folder holds, in order of names; the empty name is the whole bucket, and a folder that is not there holds
    /// nothing. Memory grows with the number of entries.
    pub async fn list(&self, folder: &str, depth: Depth) -> Result<Vec<Entry>, BucketError> {
        let folder = check_folder(folder)?;
        let full = format!("{}{folder}", self.shared.prefix);
        let full = full.trim_end_matches('/');
        let started = Instant::now();
        let listed = match &self.shared.backend {
            Backend::S3(s3) => s3.list(full, depth).await,
            Backend::Filesystem(files) => files.list(full, depth).await,
        };
        self.observe(Operation::Iter, started, &listed);
        let mut entries = listed?;
        for entry in &mut entries {
            if let Some(bare) = entry.name.strip_prefix(&self.shared.prefix) {
                entry.name = bare.to_owned();
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// A whole object in memory: for metadata, not for chunks.
    pub async fn get(&self, name: &str) -> Result<Bytes, BucketError> {
        let full = self.full_name(name)?;
        let started = Instant::now();
        let content = match &self.shared.backend {
            Backend::S3(s3) => s3.get(&full).await,
            Backend::Filesystem(files) => files.get(&full).await,
        };
        self.observe_read(Operation::Get, started, &content);
        content
    }

    /// At most `length` bytes from `offset` on; fewer where the object ends. A range past the end is an error.
    pub async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, BucketError> {
        let full = self.full_name(name)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let started = Instant::now();
        let content = match &self.shared.backend {
            Backend::S3(s3) => s3.get_range(&full, offset, length).await,
            Backend::Filesystem(files) => files.get_range(&full, offset, length).await,
        };
        self.observe_read(Operation::GetRange, started, &content);
        content
    }

    /// Copies an object into a new local file, piece by piece; gives its size. A failure leaves no file.
    pub async fn download(&self, name: &str, local: &Path) -> Result<u64, BucketError> {
        let size = self.attributes(name).await?.size_bytes;
        let io = |error| BucketError::io(local, error);
        let mut file = tokio::fs::File::create_new(local).await.map_err(io)?;
        let copied = async {
            let mut offset = 0;
            while offset < size {
                let piece = self.get_range(name, offset, DOWNLOAD_PIECE_BYTES.min(size - offset)).await?;
                file.write_all(&piece).await.map_err(io)?;
                offset += piece.len() as u64;
            }
            file.sync_all().await.map_err(io)
        };
        let copied = copied.await;
        if copied.is_err() {
            let _ = tokio::fs::remove_file(local).await;
        }
        copied.map(|()| size)
    }

    /// Whether an object is there.
    pub async fn exists(&self, name: &str) -> Result<bool, BucketError> {
        let full = self.full_name(name)?;
        let started = Instant::now();
        let attributes = self.backend_attributes(&full).await;
        self.observe(Operation::Exists, started, &attributes);
        match attributes {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The size and age of an object.
    pub async fn attributes(&self, name: &str) -> Result<Attributes, BucketError> {
        let full = self.full_name(name)?;
        let started = Instant::now();
        let attributes = self.backend_attributes(&full).await;
        self.observe(Operation::Attributes, started, &attributes);
        attributes
    }

    /// Writes a local file as an object.
    pub async fn upload(&self, name: &str, local: &Path) -> Result<(), BucketError> {
        let full = self.full_name(name)?;
        let started = Instant::now();
        let written = match &self.shared.backend {
            Backend::S3(s3) => s3.upload(&full, local).await,
            Backend::Filesystem(files) => files.upload(&full, local).await,
        };
        self.observe_upload(started, written)
    }

    /// Writes an object from memory.
    pub async fn put(&self, name: &str, content: Bytes) -> Result<(), BucketError> {
        let full = self.full_name(name)?;
        let started = Instant::now();
        let written = match &self.shared.backend {
            Backend::S3(s3) => s3.put(&full, content).await,
            Backend::Filesystem(files) => files.put(&full, content).await,
        };
        self.observe_upload(started, written)
    }

    /// Removes an object. One that is not there is removed already.
    pub async fn delete(&self, name: &str) -> Result<(), BucketError> {
        let full = self.full_name(name)?;
        let started = Instant::now();
        let deleted = match &self.shared.backend {
            Backend::S3(s3) => s3.delete(&full).await,
            Backend::Filesystem(files) => files.delete(&full).await,
        };
        self.observe(Operation::Delete, started, &deleted);
        deleted
    }

    fn full_name(&self, name: &str) -> Result<String, BucketError> {
        check_object(name)?;
        let full = format!("{}{name}", self.shared.prefix);
        check_object(&full)?;
        Ok(full)
    }

    async fn backend_attributes(&self, full: &str) -> Result<Attributes, BucketError> {
        match &self.shared.backend {
            Backend::S3(s3) => s3.attributes(full).await,
            Backend::Filesystem(files) => files.attributes(full).await,
        }
    }

    fn observe<T>(&self, operation: Operation, started: Instant, result: &Result<T, BucketError>) {
        self.shared.metrics.observe(&self.shared.label, operation, started, result);
    }

    fn observe_read(&self, operation: Operation, started: Instant, content: &Result<Bytes, BucketError>) {
        self.observe(operation, started, content);
        if let Ok(content) = content {
            self.shared.metrics.fetched(&self.shared.label, operation, content.len() as u64);
        }
    }

    fn observe_upload(&self, started: Instant, written: Result<u64, BucketError>) -> Result<(), BucketError> {
        self.observe(Operation::Upload, started, &written);
        self.shared.metrics.uploaded(&self.shared.label, written?, now_ms());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
