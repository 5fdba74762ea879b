//! The blocks in a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{BlockError, DecodeError};
use super::format::{CHUNKS_FOLDER, INDEX_FILE, META_FILE, SEGMENT_HEADER_BYTES};
use super::meta::{BlockMeta, MetaError};
use super::reader::{check_segment_header, open_local, open_segments, read_meta, read_toc};
use super::ulid::Ulid;

/// A block that looks whole.
#[derive(Debug, Clone)]
pub struct BlockEntry {
    /// Its folder.
    pub folder: PathBuf,
    /// Its description.
    pub meta: BlockMeta,
}

impl BlockEntry {
    /// Looks at one folder, which has the name of a block: reads its description, and the ends of its files.
    ///
    /// # Errors
    /// When the folder does not hold that block, or not all of it.
    pub fn open(folder: &Path, ulid: Ulid) -> Result<BlockEntry, BlockError> {
        open(folder, ulid).map(|meta| BlockEntry { folder: folder.to_owned(), meta })
    }
}

/// A folder with the name of a block that is none.
#[derive(Debug)]
pub struct BrokenBlock {
    /// The folder.
    pub folder: PathBuf,
    /// What is wrong.
    pub error: BlockError,
}

/// The blocks in a folder.
#[derive(Debug, Default)]
pub struct BlockList {
    /// Those that look whole, by time.
    pub blocks: Vec<BlockEntry>,
    /// Those that do not; they are passed over.
    pub broken: Vec<BrokenBlock>,
}

impl BlockList {
    /// Looks at every folder that is named like a block: reads its description, and the ends of its files. Unfinished
    /// blocks have other names and are not seen.
    ///
    /// # Errors
    /// When the folder itself cannot be listed.
    pub fn open_all(parent: &Path) -> io::Result<BlockList> {
        let mut list = BlockList::default();
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(ulid) = name.to_str().and_then(|name| name.parse::<Ulid>().ok()) else { continue };
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let folder = entry.path();
            match BlockEntry::open(&folder, ulid) {
                Ok(block) => list.blocks.push(block),
                Err(error) => list.broken.push(BrokenBlock { folder, error }),
            }
        }
        list.blocks.sort_by_key(|block| (block.meta.min_ms, block.meta.max_ms, block.meta.ulid));
        list.broken.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(list)
    }
}

fn open(folder: &Path, ulid: Ulid) -> Result<BlockMeta, BlockError> {
    let meta = read_meta(folder)?;
    check_name(&meta, folder, &ulid.to_string())?;
    if let Some(error) = wrong_files(&meta, folder).next() {
        return Err(error);
    }
    read_toc(&open_local(folder, &meta, INDEX_FILE)?)?;
    let segments = open_segments(folder, &meta)?;
    if segments.is_empty() && meta.stats.chunk_count > 0 {
        let file = format!("{ulid}/{CHUNKS_FOLDER}");
        return Err(BlockError::NoSegment { file, segment: 0, count: 0 });
    }
    for segment in segments {
        let header = segment.read(0, SEGMENT_HEADER_BYTES)?;
        check_segment_header(&header).map_err(|error: DecodeError| error.in_file(&segment.name))?;
    }
    Ok(meta)
}

/// Checks that a block is what its folder is called.
pub fn check_name(meta: &BlockMeta, folder: &Path, name: &str) -> Result<(), BlockError> {
    let found = meta.ulid.to_string();
    if found == name {
        return Ok(());
    }
    let file = folder.join(META_FILE).display().to_string();
    Err(BlockError::Meta { file, source: MetaError::Name { found, expected: name.to_owned() } })
}

/// The files that the description lists and that are not there, or have another size.
pub fn wrong_files<'a>(meta: &'a BlockMeta, folder: &'a Path) -> impl Iterator<Item = BlockError> + 'a {
    let files = meta.thanos.iter().flat_map(|thanos| &thanos.files);
    files.filter_map(|file| {
        let found = fs::metadata(folder.join(&file.path)).ok().map(|found| found.len());
        let stated = file.size_bytes;
        // A size of 0 was not noted: `meta.json` cannot know its own.
        let right = found.is_some() && (stated == 0 || found == Some(stated));
        (!right).then(|| BlockError::Size { file: format!("{}/{}", meta.ulid, file.path), stated, found })
    })
}
