//! When local blocks go: after their time, or when they take too much space, but never before the bucket has them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::local::{blocks, size_bytes, tenants};
use super::meta::BlockMeta;

/// The end of the name of a block that is being deleted, as Prometheus names it. It is no block any more, so that
/// a crash in the middle leaves rubbish, not half a block.
const DOOMED: &str = ".tmp-for-deletion";

/// How long and how much to keep.
#[derive(Debug, Clone)]
pub struct Retention {
    /// The directory of `<tenant>/<ULID>/`.
    pub blocks_dir: PathBuf,
    /// Blocks whose last sample is older go; 0 keeps them for ever.
    pub retention_ms: i64,
    /// The oldest blocks go while all together are larger; 0 is no bound.
    pub bytes_max: u64,
}

/// A block in the local directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBlock {
    /// Whose it was.
    pub tenant: String,
    /// Its ULID.
    pub ulid: String,
}

/// What a round did.
#[derive(Debug, Default)]
pub struct Retired {
    /// Blocks that are gone.
    pub deleted: Vec<LocalBlock>,
    /// Folders of blocks that should be gone, and of tenants that cannot be read.
    pub failed: Vec<(PathBuf, io::Error)>,
}

struct Candidate {
    block: LocalBlock,
    folder: PathBuf,
    max_time_ms: i64,
    size_bytes: u64,
}

impl Retention {
    /// One round. `may_delete` says whether a block is safe elsewhere; without a bucket all are. A block whose
    /// `meta.json` does not parse is left for somebody to look at. The thread waits for the disk meanwhile.
    pub fn apply(&self, now_ms: i64, may_delete: impl Fn(&LocalBlock) -> bool) -> io::Result<Retired> {
        let mut retired = Retired::default();
        let mut candidates = Vec::new();
        for tenant in tenants(&self.blocks_dir)? {
            let folder = self.blocks_dir.join(&tenant);
            match candidates_of(&tenant, &folder) {
                Ok(of_tenant) => candidates.extend(of_tenant),
                Err(error) => retired.failed.push((folder, error)),
            }
        }
        candidates.sort_by_key(|candidate| candidate.max_time_ms);
        let mut left_bytes: u64 = candidates.iter().map(|candidate| candidate.size_bytes).sum();
        for candidate in candidates {
            let is_old =
                self.retention_ms > 0 && candidate.max_time_ms < now_ms.saturating_sub(self.retention_ms);
            let is_too_much = self.bytes_max > 0 && left_bytes > self.bytes_max;
            if !(is_old || is_too_much) || !may_delete(&candidate.block) {
                continue;
            }
            match delete(&candidate.folder) {
                Ok(()) => {
                    left_bytes = left_bytes.saturating_sub(candidate.size_bytes);
                    retired.deleted.push(candidate.block);
                }
                Err(error) => retired.failed.push((candidate.folder, error)),
            }
        }
        Ok(retired)
    }
}

fn candidates_of(tenant: &str, tenant_folder: &Path) -> io::Result<Vec<Candidate>> {
    remove_doomed(tenant_folder)?;
    let mut candidates = Vec::new();
    for ulid in blocks(tenant_folder, &BTreeSet::new())? {
        let folder = tenant_folder.join(&ulid);
        let Ok(meta) = BlockMeta::read(&folder) else { continue };
        candidates.push(Candidate {
            block: LocalBlock { tenant: tenant.to_owned(), ulid },
            max_time_ms: meta.max_time_ms,
            size_bytes: size_bytes(&folder)?,
            folder,
        });
    }
    Ok(candidates)
}

/// Takes the name away first: whoever lists blocks sees this one whole or not at all.
fn delete(folder: &Path) -> io::Result<()> {
    let mut doomed = folder.as_os_str().to_owned();
    doomed.push(DOOMED);
    fs::rename(folder, &doomed)?;
    fs::remove_dir_all(&doomed)
}

fn remove_doomed(tenant_folder: &Path) -> io::Result<()> {
    for item in fs::read_dir(tenant_folder)? {
        let item = item?;
        if item.file_name().to_str().is_some_and(|name| name.ends_with(DOOMED)) {
            fs::remove_dir_all(item.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn block(home: &Path, tenant: &str, ulid: &str, max_time_ms: i64, chunk_bytes: usize) {
        let folder = home.join(tenant).join(ulid);
        fs::create_dir_all(folder.join("chunks")).unwrap();
        fs::write(folder.join("chunks/000001"), vec![0; chunk_bytes]).unwrap();
        let meta = format!(r#"{{"version":1,"ulid":"{ulid}","minTime":0,"maxTime":{max_time_ms}}}"#);
        fs::write(folder.join("meta.json"), meta).unwrap();
    }

    const ULIDS: [&str; 3] =
        ["01HXYZ00000000000000000001", "01HXYZ00000000000000000002", "01HXYZ00000000000000000003"];

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (index, ulid) in ULIDS.iter().enumerate() {
            let tenant = if index == 1 { "b" } else { "a" };
            block(home.path(), tenant, ulid, (index as i64 + 1) * HOUR_MS, 1000);
        }
        home
    }

    fn deleted(
        home: &Path,
        hours: i64,
        bytes_max: u64,
        may_delete: impl Fn(&LocalBlock) -> bool,
    ) -> Vec<String> {
        let retention = Retention { blocks_dir: home.to_owned(), retention_ms: hours * HOUR_MS, bytes_max };
        let retired = retention.apply(4 * HOUR_MS, may_delete).unwrap();
        assert!(retired.failed.is_empty(), "{retired:?}");
        for block in &retired.deleted {
            assert!(!home.join(&block.tenant).join(&block.ulid).exists());
        }
        retired.deleted.into_iter().map(|block| block.ulid).collect()
    }

    #[test]
    fn blocks_go_when_their_last_sample_is_too_old() {
        let home = home();
        assert!(deleted(home.path(), 3, 0, |_| true).is_empty());
        assert_eq!(deleted(home.path(), 2, 0, |_| true), ULIDS[..1]);
        assert_eq!(deleted(home.path(), 1, 0, |_| true), ULIDS[1..2]);
    }

    #[test]
    fn zero_keeps_everything_for_ever() {
        assert!(deleted(home().path(), 0, 0, |_| true).is_empty());
    }

    #[test]
    fn the_oldest_blocks_go_while_all_are_too_large() {
        let home = home();
        assert_eq!(deleted(home.path(), 0, 2500, |_| true), ULIDS[..1]);
        assert_eq!(deleted(home.path(), 0, 1, |_| true), ULIDS[1..]);
    }

    #[test]
    fn a_block_that_is_nowhere_else_stays() {
        let home = home();
        assert_eq!(deleted(home.path(), 1, 0, |block| block.ulid == ULIDS[1]), ULIDS[1..2]);
        assert_eq!(deleted(home.path(), 0, 1, |block| block.ulid == ULIDS[2]), ULIDS[2..]);
        assert!(home.path().join("a").join(ULIDS[0]).exists());
    }

    #[test]
    fn rubbish_of_a_crash_is_removed_and_odd_blocks_are_left() {
        let home = home();
        let rubbish = home.path().join("a").join(format!("{}{DOOMED}", ULIDS[1]));
        fs::create_dir_all(rubbish.join("chunks")).unwrap();
        fs::write(home.path().join("a").join(ULIDS[0]).join("meta.json"), "{").unwrap();
        assert!(deleted(home.path(), 2, 0, |_| true).is_empty());
        assert!(!rubbish.exists() && home.path().join("a").join(ULIDS[0]).exists());
        let nowhere = Retention { blocks_dir: home.path().join("none"), retention_ms: 1, bytes_max: 1 };
        assert!(nowhere.apply(0, |_| true).unwrap().deleted.is_empty());
    }
}
