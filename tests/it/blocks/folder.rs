//! Folders of blocks as an operator sees them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// A block that is complete.
#[derive(Debug)]
pub struct Block {
    /// Its name.
    pub ulid: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The times that it covers, the second of which it does not hold itself.
    pub min_ms: i64,
    pub max_ms: i64,
    /// Its description.
    pub meta: Value,
}

impl Block {
    fn read(folder: PathBuf) -> Option<Block> {
        let ulid = folder.file_name()?.to_str().filter(|name| name.len() == 26)?.to_owned();
        // A block that goes between the listing and this is none any more.
        let meta: Value = serde_json::from_slice(&fs::read(folder.join("meta.json")).ok()?).unwrap();
        assert_eq!(meta["ulid"], *ulid, "{}", folder.display());
        let time = |name: &str| meta[name].as_i64().unwrap();
        Some(Block { ulid, min_ms: time("minTime"), max_ms: time("maxTime"), folder, meta })
    }

    /// The files with samples and series, by their names in the block.
    pub fn files(&self) -> Vec<String> {
        let segments = fs::read_dir(self.folder.join("chunks")).unwrap();
        let segments = segments.map(|item| item.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = segments.map(|name| format!("chunks/{name}")).collect();
        names.sort_unstable();
        names.push("index".to_owned());
        names
    }
}

/// The blocks in a folder, in order of time. One that is not there has none.
pub fn blocks_of(folder: &Path) -> Vec<Block> {
    let items = fs::read_dir(folder).into_iter().flatten();
    let mut blocks: Vec<Block> = items.filter_map(|item| Block::read(item.unwrap().path())).collect();
    blocks.sort_by_key(|block| block.min_ms);
    blocks
}

/// A copy of blocks that another program may treat as its own database.
pub fn copy_of(blocks: &[Block]) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    // Without it the folder is not taken for a database.
    fs::create_dir(copy.path().join("wal")).unwrap();
    for block in blocks {
        let folder = copy.path().join(&block.ulid);
        fs::create_dir_all(folder.join("chunks")).unwrap();
        for name in block.files().iter().map(String::as_str).chain(["meta.json"]) {
            fs::copy(block.folder.join(name), folder.join(name)).unwrap();
        }
    }
    copy
}
