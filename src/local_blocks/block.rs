//! One local block, as the list has it: what is needed to know whether a read concerns it. Its files stay closed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use annulus_shards::Matcher;
use annulus_shards::labels::LABEL_BYTES_MAX;

use super::error::LocalBlockError;
use super::folders::BlockFolder;
use crate::block::{BlockEntry, BlockMeta, Ulid};
use crate::head_source::ExternalLabels;
use crate::source::View;

/// A block that looks whole.
#[derive(Debug)]
pub(super) struct LocalBlock {
    pub(super) ulid: Ulid,
    pub(super) folder: PathBuf,
    /// No sample is older.
    pub(super) min_ms: i64,
    /// Every sample is older than this.
    pub(super) max_ms: i64,
    /// What its files take.
    pub(super) size_bytes: u64,
    /// What its index takes of that.
    pub(super) index_bytes: u64,
    /// Whose samples they are.
    pub(super) tenant: Arc<str>,
    labels: ExternalLabels,
    removed: AtomicBool,
    /// Held while its files are opened, so that they are opened once.
    pub(super) opening: Mutex<()>,
}

impl LocalBlock {
    /// Looks at a folder. The labels are those that the block names; one that names none, as Prometheus writes it,
    /// gets those of this process, and its folder says whose it is: so it is labelled when it is uploaded, too.
    pub(super) fn open(
        place: &BlockFolder,
        own_labels: &ExternalLabels,
    ) -> Result<LocalBlock, LocalBlockError> {
        let BlockEntry { folder, meta } = BlockEntry::open(&place.path, place.ulid)?;
        let io = |source| LocalBlockError::Io { folder: folder.clone(), source };
        let size_bytes = size_bytes(&folder).map_err(io)?;
        let index_bytes = fs::metadata(folder.join("index")).map_err(io)?.len();
        let BlockMeta { ulid, min_ms, max_ms, thanos, .. } = meta;
        let thanos = thanos.unwrap_or_default();
        if thanos.downsample.resolution_ms != 0 {
            let resolution_ms = thanos.downsample.resolution_ms;
            return Err(LocalBlockError::Downsampled { resolution_ms });
        }
        let is_label = |(name, value): (&String, &String)| {
            !name.is_empty() && name.len().max(value.len()) <= LABEL_BYTES_MAX
        };
        if !thanos.labels.iter().all(is_label) {
            return Err(LocalBlockError::Label);
        }
        let named = own_labels.tenant_label().and_then(|label| thanos.labels.get(label));
        let tenant = Arc::from(named.unwrap_or(&place.tenant_folder).as_str());
        let labels = match thanos.labels.is_empty() {
            true => own_labels.clone(),
            false => own_labels.of_block(thanos.labels),
        };
        let (removed, opening) = (AtomicBool::new(false), Mutex::new(()));
        Ok(LocalBlock {
            ulid,
            folder,
            min_ms,
            max_ms,
            size_bytes,
            index_bytes,
            tenant,
            labels,
            removed,
            opening,
        })
    }

    /// Whether samples of these times, both inclusive, can be in it.
    pub(super) fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        self.min_ms <= max_ms && self.max_ms > min_ms
    }

    /// The final labels of its series, as a read wants to see them.
    pub(super) fn labels(&self, view: &View) -> ExternalLabels {
        match &view.hidden_labels {
            Some(hidden) => self.labels.hiding(Arc::clone(hidden)),
            None => self.labels.clone(),
        }
    }

    /// The conditions that its index has to answer; nothing, if its external labels rule all its series out.
    pub(super) fn own_matchers(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        let request = self.labels.read_request(matchers.to_vec(), (self.min_ms, self.max_ms), true)?;
        let is_wanted = request.tenants.iter().all(|matcher| matcher.matches(&self.tenant));
        is_wanted.then_some(request.matchers)
    }

    /// The value that an external label gives to all its series.
    pub(super) fn external_value(&self, name: &str) -> Option<&str> {
        self.labels.value(name, &self.tenant)
    }

    /// The names of the labels that all its series get.
    pub(super) fn external_names(&self) -> impl Iterator<Item = &str> {
        self.labels.names()
    }

    /// Says that it is no longer in the list.
    pub(super) fn mark_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Whether it left the list.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Whether it was taken away while somebody was about to read it.
    pub(super) fn is_gone(&self) -> bool {
        self.is_removed() || matches!(self.folder.try_exists(), Ok(false))
    }
}

fn size_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
