//! From a path that somebody gave to folders of blocks.

use std::fs;
use std::path::{Path, PathBuf};

use annulus::block::{BlockList, Ulid};

use crate::output::Failure;

/// A folder with blocks.
pub struct BlockFolder {
    /// Whose blocks they are, by the folder's name; `None` for a folder that was given itself.
    pub tenant: Option<String>,
    /// What is in it.
    pub list: BlockList,
}

/// The blocks at a path, those of each tenant in a folder of its own.
pub fn find(path: &Path) -> Result<Vec<BlockFolder>, Failure> {
    let root = if path.join("annulus.format").exists() { path.join("blocks") } else { path.to_owned() };
    if !root.exists() && root != path {
        // A data directory that has cut no block yet.
        return Ok(Vec::new());
    }
    let own = open(&root, None)?;
    let mut folders = Vec::new();
    for tenant in folder_names(&root)? {
        let folder = open(&root.join(&tenant), Some(tenant))?;
        if !folder.list.blocks.is_empty() || !folder.list.broken.is_empty() {
            folders.push(folder);
        }
    }
    if folders.is_empty() || !own.list.blocks.is_empty() || !own.list.broken.is_empty() {
        folders.insert(0, own);
    }
    Ok(folders)
}

/// The folders of blocks at a path, which may itself be one.
pub fn find_blocks(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if is_block(path) {
        return Ok(vec![path.to_owned()]);
    }
    let mut blocks = Vec::new();
    for folder in find(path)? {
        blocks.extend(folder.list.blocks.into_iter().map(|block| block.folder));
        blocks.extend(folder.list.broken.into_iter().map(|block| block.folder));
    }
    if blocks.is_empty() {
        return Err(Failure::about(path.display(), "there is no block here"));
    }
    Ok(blocks)
}

fn is_block(path: &Path) -> bool {
    path.join("meta.json").exists() || name(path).is_some_and(|name| name.parse::<Ulid>().is_ok())
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn open(path: &Path, tenant: Option<String>) -> Result<BlockFolder, Failure> {
    let list = BlockList::open_all(path).map_err(|error| Failure::about(path.display(), error))?;
    Ok(BlockFolder { tenant, list })
}

/// The names of the folders that are not blocks themselves, in order.
fn folder_names(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error| Failure::about(path.display(), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.path().is_dir() && name.parse::<Ulid>().is_err() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
