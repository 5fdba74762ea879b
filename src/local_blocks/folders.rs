//! The folders that look like blocks: `<blocks>/<tenant>/<ULID>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::block::Ulid;

/// A folder that is named like a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockFolder {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The name of the folder above.
    pub(super) tenant_folder: String,
    /// Its own name.
    pub(super) ulid: Ulid,
}

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The blocks of all tenants.
    pub(super) blocks: Vec<BlockFolder>,
    /// The folders of tenants that cannot be listed, and why.
    pub(super) unreadable: Vec<(PathBuf, io::Error)>,
}

impl BlockFolder {
    /// The folder at a path, by its name.
    pub(super) fn of(path: &Path) -> Option<BlockFolder> {
        let ulid = path.file_name()?.to_str()?.parse().ok()?;
        let tenant_folder = path.parent()?.file_name()?.to_str()?.to_owned();
        Some(BlockFolder { path: path.to_owned(), tenant_folder, ulid })
    }
}

/// Lists the folders of all tenants. No folder at all holds no blocks.
///
/// # Errors
/// When the folder above all tenants cannot be listed.
pub(super) fn find(root: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let tenants = match fs::read_dir(root) {
        Ok(tenants) => tenants,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in tenants {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if is_hidden || !entry.file_type()?.is_dir() {
            continue;
        }
        let folder = entry.path();
        match blocks_of(&folder) {
            Ok(blocks) => found.blocks.extend(blocks),
            Err(error) => found.unreadable.push((folder, error)),
        }
    }
    // The order of a folder's entries is anyone's guess; which of two equal blocks is served should not be.
    found.blocks.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn blocks_of(tenant_folder: &Path) -> io::Result<Vec<BlockFolder>> {
    let mut blocks = Vec::new();
    for entry in fs::read_dir(tenant_folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            blocks.extend(BlockFolder::of(&entry.path()));
        }
    }
    Ok(blocks)
}
