//! What lies in the directory of local blocks: `<tenant>/<ULID>/`, each block with its `meta.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::meta::{BlockMeta, META_JSON, MetaError};
use super::{ShipError, lock, state};

/// The length of a ULID as text.
const ULID_CHARS: usize = 26;

/// The characters of a ULID: no I, L, O and U.
const ULID_ALPHABET: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The blocks of one tenant.
pub(super) struct TenantBlocks {
    pub tenant: String,
    /// Blocks known to be in the bucket that are still here; `None` if nobody knows.
    pub uploaded: Option<BTreeSet<String>>,
    /// Whether the state file says something else.
    pub is_changed: bool,
    /// The other blocks, oldest first.
    pub pending: Vec<Pending>,
}

/// A block that the bucket may not have.
pub(super) struct Pending {
    pub ulid: String,
    pub folder: PathBuf,
    pub meta: Result<BlockMeta, MetaError>,
    pub size_bytes: u64,
}

impl Pending {
    fn min_time_ms(&self) -> i64 {
        self.meta.as_ref().map_or(i64::MAX, |meta| meta.min_time_ms)
    }
}

/// What a look at the directory found.
#[derive(Default)]
pub(super) struct Scan {
    /// Tenants with something to do.
    pub tenants: Vec<TenantBlocks>,
    /// Tenants whose blocks are all in the bucket.
    pub idle: Vec<String>,
    /// The first tenant whose folder cannot be read, and why.
    pub failed: Option<(String, ShipError)>,
}

/// Reads the directory; `known` are the uploaded blocks of tenants that were looked at before. Only blocks that may
/// have to go up are read.
pub(super) fn scan(
    blocks_dir: &Path,
    known: &Mutex<HashMap<String, BTreeSet<String>>>,
) -> Result<Scan, ShipError> {
    let names = tenants(blocks_dir).map_err(|error| ShipError::local(blocks_dir, error))?;
    lock(known).retain(|tenant, _| names.binary_search(tenant).is_ok());
    let mut scan = Scan::default();
    for tenant in names {
        let folder = blocks_dir.join(&tenant);
        let remembered = lock(known).get(&tenant).cloned();
        let present = match blocks(&folder, remembered.as_ref().unwrap_or(&BTreeSet::new())) {
            Ok(present) => present,
            Err(error) => {
                scan.failed.get_or_insert((tenant, ShipError::local(folder, error)));
                continue;
            }
        };
        if remembered.as_ref() == Some(&present) {
            scan.idle.push(tenant);
            continue;
        }
        // A file that does not parse is as good as none: the bucket is asked.
        let written = remembered.or_else(|| state::read(&folder.join(state::FILE_NAME)));
        let uploaded = written.as_ref().map(|uploaded| uploaded & &present);
        let mut pending: Vec<Pending> = present
            .iter()
            .filter(|ulid| uploaded.as_ref().is_none_or(|uploaded| !uploaded.contains(*ulid)))
            .filter_map(|ulid| pending(&folder, ulid))
            .collect();
        pending.sort_by(|a, b| (a.min_time_ms(), &a.ulid).cmp(&(b.min_time_ms(), &b.ulid)));
        scan.tenants.push(TenantBlocks { tenant, is_changed: uploaded != written, uploaded, pending });
    }
    Ok(scan)
}

/// Names of tenants that have a folder, in order. Not theirs: hidden folders, and the one that ext4 makes.
pub(super) fn tenants(blocks_dir: &Path) -> io::Result<Vec<String>> {
    let mut tenants = folders(blocks_dir)?;
    tenants.retain(|name| !name.starts_with('.') && name != "lost+found");
    tenants.sort_unstable();
    Ok(tenants)
}

/// Blocks of one tenant. A folder without `meta.json` is not a block yet; those that are known are not looked into.
pub(super) fn blocks(tenant_folder: &Path, known: &BTreeSet<String>) -> io::Result<BTreeSet<String>> {
    let names = folders(tenant_folder)?;
    let is_complete = |name: &str| tenant_folder.join(name).join(META_JSON).is_file();
    Ok(names
        .into_iter()
        .filter(|name| is_ulid(name) && (known.contains(name) || is_complete(name)))
        .collect())
}

/// All bytes below a folder.
pub(super) fn size_bytes(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for item in fs::read_dir(folder)? {
        let item = item?;
        let metadata = item.metadata()?;
        total += if metadata.is_dir() { size_bytes(&item.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// Whether a name is a ULID; the folders of unfinished and of doomed blocks have longer ones.
fn is_ulid(name: &str) -> bool {
    name.len() == ULID_CHARS && name.bytes().all(|byte| ULID_ALPHABET.contains(&byte))
}

fn pending(tenant_folder: &Path, ulid: &str) -> Option<Pending> {
    let folder = tenant_folder.join(ulid);
    let meta = BlockMeta::read(&folder);
    // A block that vanishes while it is looked at was deleted by its retention.
    let size_bytes = size_bytes(&folder).ok()?;
    Some(Pending { ulid: ulid.to_owned(), folder, meta, size_bytes })
}

/// Names of the folders inside a folder; of none if it does not exist.
fn folders(path: &Path) -> io::Result<Vec<String>> {
    let listing = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut names = Vec::new();
    for item in listing {
        let item = item?;
        let kind = item.file_type()?;
        let is_folder = kind.is_dir() || kind.is_symlink() && item.path().is_dir();
        if let (true, Ok(name)) = (is_folder, item.file_name().into_string()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Blocks that still have to go up.
pub(super) struct Backlog {
    /// By ULID: bytes, and the time of the first sample.
    blocks: BTreeMap<String, (u64, i64)>,
}

/// The backlog in numbers.
pub(super) struct BacklogTotals {
    pub block_count: usize,
    pub size_bytes: u64,
    /// `None` without a backlog.
    pub oldest_ms: Option<i64>,
}

impl Backlog {
    pub(super) fn new(tenants: &[TenantBlocks]) -> Backlog {
        let pending = tenants.iter().flat_map(|tenant| &tenant.pending);
        let blocks = pending.filter_map(|block| {
            let meta = block.meta.as_ref().ok().filter(|meta| !meta.is_empty())?;
            Some((block.ulid.clone(), (block.size_bytes, meta.min_time_ms)))
        });
        Backlog { blocks: blocks.collect() }
    }

    pub(super) fn remove(&mut self, ulid: &str) {
        self.blocks.remove(ulid);
    }

    pub(super) fn totals(&self) -> BacklogTotals {
        BacklogTotals {
            block_count: self.blocks.len(),
            size_bytes: self.blocks.values().map(|(size_bytes, _)| size_bytes).sum(),
            oldest_ms: self.blocks.values().map(|(_, min_time_ms)| *min_time_ms).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ulids_are_blocks() {
        assert!(is_ulid("01HXYZ00000000000000000000"));
        for name in [
            "",
            "01HXYZ0000000000000000000",
            "01HXYZ00000000000000000000.tmp",
            "01hxyz00000000000000000000",
            "01HXYZU0000000000000000000",
        ] {
            assert!(!is_ulid(name), "{name}");
        }
    }
}
