//! What a block that is cut from the head says of itself.
//!
//! Its times are those of the window. A block of Prometheus' head begins with its first sample instead, which is within
//! the same window; the window's own bounds let a block be found again without a look into it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::CutFailure;
use super::policy::DueWindow;
use crate::block::{BlockList, BlockMeta, ThanosMeta, Ulid};

/// What Thanos calls the program that makes such blocks.
const SOURCE: &str = "receive";

/// The description of the block of a window, whose external labels are given.
pub fn describe(ulid: Ulid, window: &DueWindow, labels: BTreeMap<String, String>) -> BlockMeta {
    let thanos = ThanosMeta { version: 1, labels, source: SOURCE.to_owned(), ..ThanosMeta::default() };
    BlockMeta { thanos: Some(thanos), ..BlockMeta::from_head(ulid, window.from_ms, window.below_ms) }
}

/// The block of a window, if it is in a folder. One that was changed since, or that comes from another program with
/// other times, is not taken for it: a block too many is a nuisance, one too few is a loss.
pub fn find_finished(
    folder: &Path,
    window: &DueWindow,
    labels: &BTreeMap<String, String>,
) -> Result<Option<PathBuf>, CutFailure> {
    let list = match BlockList::open_all(folder) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CutFailure::Folder { folder: folder.to_owned(), source }),
    };
    let found = list.blocks.into_iter().find(|block| is_of_window(&block.meta, window, labels));
    Ok(found.map(|block| block.folder))
}

fn is_of_window(meta: &BlockMeta, window: &DueWindow, labels: &BTreeMap<String, String>) -> bool {
    let expected = describe(meta.ulid, window, labels.clone());
    let origin = |meta: &BlockMeta| {
        meta.thanos.as_ref().map(|thanos| (thanos.source.clone(), thanos.labels.clone(), thanos.downsample))
    };
    meta.min_ms == expected.min_ms
        && meta.max_ms == expected.max_ms
        && meta.compaction == expected.compaction
        && origin(meta) == origin(&expected)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_the_same_block_of_the_same_tenant_is_taken_for_it() {
        let window =
            DueWindow { tenant: Arc::from("a"), from_ms: 0, below_ms: 100, settled_ms: 100, is_frozen: true };
        let labels = |tenant: &str| BTreeMap::from([("tenant_id".to_owned(), tenant.to_owned())]);
        let meta = describe(Ulid::from_parts(1, 2), &window, labels("a"));
        let accepts = |change: &dyn Fn(&mut BlockMeta)| {
            let mut meta = meta.clone();
            change(&mut meta);
            is_of_window(&meta, &window, &labels("a"))
        };
        assert!(accepts(&|_| {}));
        assert!(accepts(&|meta| meta.stats.series_count = 7));
        assert!(!accepts(&|meta| meta.min_ms += 1));
        assert!(!accepts(&|meta| meta.max_ms += 1));
        assert!(!accepts(&|meta| meta.compaction.level = 2));
        assert!(!accepts(&|meta| meta.compaction.hints.push("from-out-of-order".to_owned())));
        assert!(!accepts(&|meta| meta.thanos.as_mut().unwrap().labels = labels("b")));
        assert!(!accepts(&|meta| meta.thanos.as_mut().unwrap().source = "sidecar".to_owned()));
        assert!(!accepts(&|meta| meta.thanos = None));
    }
}
