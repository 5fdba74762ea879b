//! Where blocks lie: `<data directory>/blocks/<tenant>/<ULID>`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::CutFailure;
use crate::block::remove_unfinished;

/// The folder of blocks in the data directory.
const BLOCKS_FOLDER: &str = "blocks";

/// What is needed while a block is made, and never after it. No tenant's folder begins with a dot.
const SCRATCH_FOLDER: &str = ".tmp";

/// The longest name of a file that common filesystems take.
const NAME_BYTES_MAX: usize = 255;

/// What is kept of a longer name, before its checksum.
const PREFIX_BYTES: usize = 200;

/// The name of a tenant's folder. Letters, digits, `-`, `_` and most dots stay; every other byte is written as `%` and
/// two hexadecimal digits, and so are a dot in front and the one of `.tmp` at the end, so that no tenant can name a
/// folder that means something else.
///
/// A name that is too long for a folder ends in a checksum. Two tenants may then share a folder: a block says in its
/// labels whose it is.
pub fn tenant_folder(tenant: &str) -> String {
    use std::fmt::Write;
    let suffix = tenant.len().checked_sub(".tmp".len()).filter(|_| tenant.ends_with(".tmp"));
    let mut name = String::with_capacity(tenant.len());
    for (at, byte) in tenant.bytes().enumerate() {
        let is_plain = match byte {
            b'.' => at > 0 && Some(at) != suffix,
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        };
        if is_plain {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() > NAME_BYTES_MAX {
        name.truncate(PREFIX_BYTES);
        // No name that is written in full has a `%` before a `~`.
        let _ = write!(name, "%~{:08x}", crc32c::crc32c(tenant.as_bytes()));
    }
    name
}

/// The folders of all tenants' blocks.
#[derive(Debug, Clone)]
pub struct BlockFolders {
    data_dir: PathBuf,
    root: PathBuf,
}

impl BlockFolders {
    /// Those in a data directory. Nothing is looked at yet.
    pub fn new(data_dir: &Path) -> BlockFolders {
        BlockFolders { data_dir: data_dir.to_owned(), root: data_dir.join(BLOCKS_FOLDER) }
    }

    /// Makes what has to be there, and removes what a crash left of unfinished blocks. Not to be called while a block
    /// is being cut.
    ///
    /// # Errors
    /// When the folder cannot be made. One tenant's folder that cannot be tidied is passed over.
    pub fn prepare(&self) -> io::Result<()> {
        let scratch = self.scratch();
        if scratch.try_exists()? {
            fs::remove_dir_all(&scratch)?;
        }
        fs::create_dir_all(&scratch)?;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() || entry.file_name() == OsStr::new(SCRATCH_FOLDER) {
                continue;
            }
            let folder = entry.path();
            match remove_unfinished(&folder) {
                Ok(removed) => {
                    for name in removed {
                        tracing::info!(folder = %folder.display(), name, "removed an unfinished block");
                    }
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "unfinished blocks were not removed");
                }
            }
        }
        Ok(())
    }

    /// Where temporary files go.
    pub fn scratch(&self) -> PathBuf {
        self.root.join(SCRATCH_FOLDER)
    }

    /// Where the blocks of a tenant lie.
    pub fn of(&self, tenant: &str) -> PathBuf {
        self.root.join(tenant_folder(tenant))
    }

    /// Makes a tenant's folder. Durable when it returns, whoever made it: a crash may have come between that and the
    /// flush.
    pub fn make(&self, tenant: &str) -> Result<PathBuf, CutFailure> {
        let folder = self.of(tenant);
        let made = fs::create_dir_all(&folder).and_then(|()| {
            [&self.root, &self.data_dir].into_iter().try_for_each(|parent| File::open(parent)?.sync_all())
        });
        match made {
            Ok(()) => Ok(folder),
            Err(source) => Err(CutFailure::Folder { folder, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_mean_something_else_are_escaped() {
        let cases = [
            ("default-tenant", "default-tenant"),
            ("team_a.prod", "team_a.prod"),
            (".", "%2E"),
            ("..", "%2E."),
            (".tmp", "%2Etmp"),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp", "01ARZ3NDEKTSV4RRFFQ69G5FAV%2Etmp"),
            ("a%2E", "a%252E"),
            ("a/b\\c\0", "a%2Fb%5Cc%00"),
            ("ä", "%C3%A4"),
        ];
        for (tenant, folder) in cases {
            assert_eq!(tenant_folder(tenant), folder);
        }
    }

    #[test]
    fn long_names_fit_and_differ() {
        let (one, other) = ("ä".repeat(127), format!("{}o", "ä".repeat(126)));
        assert_ne!(tenant_folder(&one), tenant_folder(&other));
        assert!(tenant_folder(&one).len() <= NAME_BYTES_MAX);
        assert_eq!(tenant_folder(&"x".repeat(255)).len(), 255);
    }

    #[test]
    fn a_start_removes_what_is_unfinished_and_nothing_else() {
        let data_dir = tempfile::tempdir().unwrap();
        let folders = BlockFolders::new(data_dir.path());
        folders.prepare().unwrap();
        let folder = folders.make("a").unwrap();
        let unfinished = folder.join("01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp");
        let finished = folder.join("01ARZ3NDEKTSV4RRFFQ69G5FAV");
        for kept in [&unfinished, &finished, &folders.make("b.tmp").unwrap().join("x")] {
            fs::create_dir(kept).unwrap();
        }
        fs::write(folders.scratch().join("series.spool"), "x").unwrap();
        folders.prepare().unwrap();
        assert!(!unfinished.exists() && finished.exists() && folders.of("b.tmp").join("x").exists());
        assert_eq!(fs::read_dir(folders.scratch()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn different_tenants_have_different_folders(a in ".{1,40}", b in ".{1,40}") {
            let (one, other) = (tenant_folder(&a), tenant_folder(&b));
            prop_assert_eq!(one == other, a == b);
            prop_assert!(!one.starts_with('.') && !one.ends_with(".tmp") && !one.contains('/'));
        }
    }
}
