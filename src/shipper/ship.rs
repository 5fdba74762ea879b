//! One block into the bucket: chunks, then the index, then `meta.json`, which makes it visible.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::local::Pending;
use super::meta::{BlockFile, BlockMeta, META_JSON};
use super::{ShipError, ShipperConfig};
use crate::bucket::{Bucket, Depth};
use crate::rfc3339::now_ms;

const INDEX: &str = "index";
const CHUNKS: &str = "chunks";

/// How an attempt ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shipped {
    /// The block went up.
    Sent,
    /// The bucket had it already.
    Present,
    /// It has no samples, or is gone: there is nothing to send.
    Nothing,
}

/// How an attempt failed.
pub(super) enum Failure {
    /// The block itself is at fault; it will be no better next time.
    Corrupted(String),
    /// Anything else.
    Upload(ShipError),
}

impl<E: Into<ShipError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Upload(error.into())
    }
}

/// Uploads what is missing of a block. Objects that are there with the right size were sent by an earlier attempt.
pub(super) async fn ship(
    bucket: &Bucket,
    config: &ShipperConfig,
    tenant: &str,
    block: &Pending,
) -> Result<Shipped, Failure> {
    let meta = match &block.meta {
        Ok(meta) => meta,
        Err(_) if !block.folder.exists() => return Ok(Shipped::Nothing),
        Err(error) => return Err(Failure::Corrupted(error.to_string())),
    };
    if meta.ulid != block.ulid {
        return Err(Failure::Corrupted(format!("meta.json is that of block {}", meta.ulid)));
    }
    if meta.is_empty() {
        return Ok(Shipped::Nothing);
    }
    let files = match files_of(block, meta).await {
        Err(_) if !block.folder.exists() => return Ok(Shipped::Nothing),
        files => files?,
    };
    let present: HashMap<String, u64> = bucket
        .list(&block.ulid, Depth::Everything)
        .await?
        .into_iter()
        .filter_map(|entry| Some((entry.name, entry.attributes?.size_bytes)))
        .collect();
    let object = |rel_path: &str| format!("{}/{rel_path}", block.ulid);
    if present.contains_key(&object(META_JSON)) {
        return Ok(Shipped::Present);
    }
    for file in &files {
        let object = object(&file.rel_path);
        if present.get(&object) != Some(&file.size_bytes) {
            bucket.upload(&object, &block.folder.join(&file.rel_path)).await?;
        }
    }
    let labels = labels(config, tenant);
    let text = meta.for_bucket(&files, &labels, now_ms());
    bucket.put(&object(META_JSON), Bytes::from(text)).await?;
    Ok(Shipped::Sent)
}

fn labels(config: &ShipperConfig, tenant: &str) -> BTreeMap<String, String> {
    let mut labels = config.external_labels.clone();
    labels.insert(config.tenant_label.clone(), tenant.to_owned());
    labels
}

/// The files of a block in the order in which they go up.
async fn files_of(block: &Pending, meta: &BlockMeta) -> Result<Vec<BlockFile>, Failure> {
    let folder = block.folder.clone();
    let listed = spawn_blocking(move || list_files(&folder)).await;
    let files = listed
        .unwrap_or_else(|_| Err(io::Error::other("the runtime is stopping")))
        .map_err(|error| ShipError::local(&block.folder, error))?;
    let chunk_count = files.iter().filter(|file| file.rel_path != INDEX).count();
    if chunk_count == 0 || chunk_count == files.len() {
        let missing = if chunk_count == 0 { "chunks" } else { "index" };
        return Err(Failure::Corrupted(format!("it has no {missing}")));
    }
    for file in &files {
        let expected = meta.size_of(&file.rel_path);
        if file.size_bytes == 0 || expected.is_some_and(|expected| expected != file.size_bytes) {
            let BlockFile { rel_path, size_bytes } = file;
            return Err(Failure::Corrupted(format!(
                "{rel_path} has {size_bytes} bytes, which is not its size"
            )));
        }
    }
    Ok(files)
}

/// Chunk files in order of their numbers, then the index; other files, such as tombstones, stay here.
fn list_files(folder: &Path) -> io::Result<Vec<BlockFile>> {
    let mut files = Vec::new();
    let chunks = match fs::read_dir(folder.join(CHUNKS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        listing => Some(listing?),
    };
    for item in chunks.into_iter().flatten() {
        let item = item?;
        let name = item.file_name().into_string().unwrap_or_default();
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            let rel_path = format!("{CHUNKS}/{name}");
            files.push(BlockFile { rel_path, size_bytes: item.metadata()?.len() });
        }
    }
    files.sort_by(|a, b| a.rel_path.cmp(&b.rel_path));
    match fs::metadata(folder.join(INDEX)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        metadata => files.push(BlockFile { rel_path: INDEX.to_owned(), size_bytes: metadata?.len() }),
    }
    Ok(files)
}
