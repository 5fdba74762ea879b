//! From a path that somebody gave to the directories of shards.

use std::fs;
use std::path::{Path, PathBuf};

use annulus_shards::core::{DataDir, survey_superblocks};
use annulus_shards::wal::SuperblockCopy;
use annulus_shards::wire::SeriesHasher;

use crate::output::Failure;

/// The directory of one shard.
pub struct ShardDir {
    /// Where it is.
    pub path: PathBuf,
    /// Which shard.
    pub shard: u32,
}

/// What was found at a path.
pub struct Found {
    /// The data directory, if the path is one or a shard's is inside one.
    pub data_dir: Option<PathBuf>,
    /// The shards to look at.
    pub shards: Vec<ShardDir>,
    /// How series keys are made there.
    pub hasher: SeriesHasher,
}

impl Found {
    /// Finds the shards of a data directory, or the one whose directory was given.
    pub fn open(path: &Path) -> Result<Found, Failure> {
        let metadata = fs::metadata(path).map_err(|error| Failure::about(path.display(), error))?;
        if !metadata.is_dir() {
            return Err(Failure::about(path.display(), "it is a file; give its directory"));
        }
        if is_data_dir(path) {
            let (count, secret) = DataDir::look(path).map_err(|error| Failure::Text(error.to_string()))?;
            let shards = (0..count as u32)
                .map(|shard| ShardDir { path: path.join(format!("shard-{shard}")), shard })
                .collect();
            return Ok(Found { data_dir: Some(path.to_owned()), shards, hasher: SeriesHasher::new(secret) });
        }
        if !path.join("wal").exists() {
            return Err(Failure::about(
                path.display(),
                "it is neither a data directory (no annulus.format) nor a shard's (no wal)",
            ));
        }
        let absolute = fs::canonicalize(path).map_err(|error| Failure::about(path.display(), error))?;
        let parent = absolute.parent().filter(|parent| is_data_dir(parent)).map(Path::to_owned);
        // Without the directory's secret the keys differ from those of checkpoints, which nobody here looks at.
        let secret =
            parent.as_deref().and_then(|parent| DataDir::look(parent).ok()).map_or([0; 16], |found| found.1);
        let named = absolute.file_name().and_then(|name| name.to_str()?.strip_prefix("shard-")?.parse().ok());
        let shard = named.or_else(|| stated_shard(path)).unwrap_or(0);
        let shards = vec![ShardDir { path: path.to_owned(), shard }];
        Ok(Found { data_dir: parent, shards, hasher: SeriesHasher::new(secret) })
    }

    /// Whether a process works in it.
    pub fn is_in_use(&self) -> bool {
        self.data_dir.as_deref().is_some_and(DataDir::is_in_use)
    }

    /// Fails while a process works in it: what it writes meanwhile would look like damage.
    pub fn refuse_in_use(&self) -> Result<(), Failure> {
        match &self.data_dir {
            Some(path) if DataDir::is_in_use(path) => Err(Failure::about(
                path.display(),
                "annulus is using it, and what it writes meanwhile would look like damage; stop it first, or look at a \
                 copy of the directory",
            )),
            _ => Ok(()),
        }
    }
}

fn is_data_dir(path: &Path) -> bool {
    path.join("annulus.format").exists()
}

/// The shard that the ring itself names.
fn stated_shard(path: &Path) -> Option<u32> {
    survey_superblocks(path).ok()?.into_iter().find_map(|copy| match copy {
        SuperblockCopy::Whole(fields) => Some(fields.shard),
        SuperblockCopy::Newer(_) | SuperblockCopy::Unreadable => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(path: &Path) -> String {
        match Found::open(path).map(drop) {
            Err(Failure::Text(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn data_directories_and_shards_are_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        assert!(failure(&temp.path().join("none")).contains("No such file"));
        assert!(failure(temp.path()).contains("neither a data directory"));
        let data = temp.path().join("data");
        let opened = DataDir::open(&data, 3).unwrap();
        let found = Found::open(&data).unwrap();
        assert_eq!(found.shards.iter().map(|shard| shard.shard).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(found.is_in_use() && found.refuse_in_use().is_err());
        std::fs::write(data.join("shard-2/wal"), "").unwrap();
        let one = Found::open(&data.join("shard-2")).unwrap();
        assert_eq!((one.shards.len(), one.shards[0].shard, one.is_in_use()), (1, 2, true));
        drop(opened);
        assert!(found.refuse_in_use().is_ok());
        assert!(failure(&data.join("annulus.format")).contains("give its directory"));
        std::fs::write(data.join("annulus.format"), "version=7\n").unwrap();
        assert!(failure(&data).contains("newer one"));
    }
}
