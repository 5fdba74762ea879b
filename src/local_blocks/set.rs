//! The list of local blocks: what is served, what is broken, and how both follow the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::block::LocalBlock;
use super::error::{LocalBlockError, ReadFailure, is_damage, source_error};
use super::folders::{BlockFolder, find};
use super::metrics::{LocalBlockMetrics, TenantSums};
use super::readers::{OpenReaders, Reader, ReaderLimits};
use super::scope::Scope;
use crate::block::{BlockMeta, BlockReader, Ulid};
use crate::head_source::ExternalLabels;
use crate::source::{SourceError, View};

/// The local blocks of all tenants.
pub struct LocalBlocks {
    root: PathBuf,
    own_labels: ExternalLabels,
    readers: OpenReaders,
    metrics: LocalBlockMetrics,
    /// Held while the list is brought in line with the disk: a block that is added while the folders are listed would
    /// be taken for one that is gone.
    changing: Mutex<()>,
    list: RwLock<List>,
}

#[derive(Default)]
struct List {
    tenants: BTreeMap<Arc<str>, BTreeMap<Ulid, Arc<LocalBlock>>>,
    /// What is not served, and why.
    broken: BTreeMap<PathBuf, Broken>,
}

/// A folder that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Broken {
    reason: String,
    /// The times whose samples are missing because of that, the second exclusive; all, where not even that is known.
    missing: Option<(i64, i64)>,
}

/// The times of a block that does not say them.
const ALL_TIMES: (i64, i64) = (i64::MIN, i64::MAX);

/// What a look at the disk changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ScanReport {
    /// Blocks that are new.
    pub added: usize,
    /// Blocks that are gone.
    pub removed: usize,
    /// Folders that are not served.
    pub broken: usize,
}

impl LocalBlocks {
    /// Lists the blocks in `<root>/<tenant>/<ULID>`; files are opened when they are read. A broken block is passed
    /// over. `own_labels` are those of this process: they say which labels are hidden, and label blocks that name none.
    /// Blocks the thread.
    ///
    /// # Errors
    /// When `root` cannot be listed. That it is not there is no error.
    pub fn open(
        root: &Path,
        own_labels: ExternalLabels,
        limits: ReaderLimits,
        metrics: LocalBlockMetrics,
    ) -> io::Result<LocalBlocks> {
        metrics.open_max.set(i64::try_from(limits.count_max).unwrap_or(i64::MAX));
        let readers = OpenReaders::new(limits, metrics.open.clone(), metrics.opened.clone());
        let blocks = LocalBlocks {
            root: root.to_owned(),
            own_labels,
            readers,
            metrics,
            changing: Mutex::default(),
            list: RwLock::default(),
        };
        blocks.scan()?;
        Ok(blocks)
    }

    /// Serves a block that was finished. When it returns, every read that begins sees the block: only then may the
    /// head drop what is in it. Adding a block again changes nothing.
    ///
    /// # Errors
    /// When the folder cannot be served; what is in it is then missing from queries.
    pub fn add(&self, folder: &Path) -> Result<(), LocalBlockError> {
        let place = BlockFolder::of(folder);
        let mut place = place.ok_or_else(|| LocalBlockError::Place { folder: folder.to_owned() })?;
        // As a scan writes it: otherwise it would take the block for another one.
        place.path = self.root.join(&place.tenant_folder).join(place.ulid.to_string());
        let _changing = self.lock_changes();
        if self.read_list().find(place.ulid).is_some_and(|known| known.folder == place.path) {
            return Ok(());
        }
        let opened = LocalBlock::open(&place, &self.own_labels);
        let added = opened.and_then(|block| self.insert(block));
        if let Err(error) = &added {
            self.report_broken(place.path, error);
        }
        added
    }

    /// Serves a block no longer; whether it was served. Reads that have opened it go on. Call it when the folder has
    /// lost its name: while a block is there, the next scan finds it again.
    pub fn remove(&self, ulid: Ulid) -> bool {
        let _changing = self.lock_changes();
        self.take_out(ulid)
    }

    /// Compares the list with the disk: finds blocks that came or went by hand, and tries broken ones again. Blocks the
    /// thread.
    ///
    /// # Errors
    /// When the folder of all tenants cannot be listed. One tenant's folder that cannot is passed over, and its blocks
    /// stay.
    pub fn scan(&self) -> io::Result<ScanReport> {
        let _changing = self.lock_changes();
        self.metrics.reloads.inc();
        let found = find(&self.root).inspect_err(|_| self.metrics.reload_failures.inc())?;
        for (folder, error) in &found.unreadable {
            self.metrics.reload_failures.inc();
            tracing::error!(folder = %folder.display(), %error, "local blocks cannot be listed");
        }
        if found.unreadable.is_empty() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.metrics.last_reload_seconds.set(now.as_secs_f64());
        }
        let is_listed =
            |folder: &Path| !found.unreadable.iter().any(|(tenant, _)| folder.starts_with(tenant));
        let there: HashSet<&Path> = found.blocks.iter().map(|place| place.path.as_path()).collect();
        let is_there = |folder: &Path| there.contains(folder) || !is_listed(folder);

        let mut report = ScanReport::default();
        let (known, was_broken) = {
            let list = self.read_list();
            (list.folders(), list.broken.keys().cloned().collect::<HashSet<_>>())
        };
        for (folder, ulid) in &known {
            if !is_there(folder) {
                report.removed += usize::from(self.take_out(*ulid));
            }
        }
        self.forget_broken(|folder| !is_there(folder));
        let new = found.blocks.par_iter().filter(|place| !known.contains_key(&place.path));
        let opened: Vec<_> = new.map(|place| (place, self.look(place, &was_broken))).collect();
        for (place, opened) in opened {
            match opened.and_then(|block| self.insert(block)) {
                Ok(()) => report.added += 1,
                Err(error) => self.report_broken(place.path.clone(), &error),
            }
        }
        report.broken = self.read_list().broken.len();
        if report.added + report.removed > 0 {
            let ScanReport { added, removed, broken } = report;
            tracing::info!(added, removed, broken, "the local blocks on the disk changed");
        }
        Ok(report)
    }

    /// The blocks that can have samples of these times, both inclusive, in order of time.
    pub(super) fn covering(&self, min_ms: i64, max_ms: i64) -> Vec<Arc<LocalBlock>> {
        let mut found: Vec<Arc<LocalBlock>> = {
            let list = self.read_list();
            let all = list.tenants.values().flat_map(BTreeMap::values);
            all.filter(|block| block.overlaps(min_ms, max_ms)).cloned().collect()
        };
        found.sort_by_key(|block| (block.min_ms, block.max_ms, block.ulid));
        found
    }

    /// Tells a read of these times, both inclusive, what is missing because blocks are set aside. An error, unless the
    /// read may be partial.
    pub(super) fn tell_missing(
        &self,
        (min_ms, max_ms): (i64, i64),
        scope: &Scope,
    ) -> Result<(), SourceError> {
        let list = self.read_list();
        for (folder, broken) in &list.broken {
            if broken.missing.is_some_and(|(from_ms, until_ms)| from_ms <= max_ms && until_ms > min_ms) {
                let folder = folder.display();
                let text = format!("local block {folder} is not served: {}", broken.reason);
                scope.do_without(SourceError::Corrupt(text))?;
            }
        }
        Ok(())
    }

    /// Whether a read does not see this label.
    pub(super) fn is_hidden(&self, name: &str, view: &View) -> bool {
        match &view.hidden_labels {
            Some(hidden) => hidden.iter().any(|other| other == name),
            None => self.own_labels.is_replica(name),
        }
    }

    /// What `read` makes of a block; nothing, if the block was taken away before it was read to its end: then the query
    /// could as well have begun a moment later. A block that turns out broken when it is opened is set aside. What
    /// cannot be read fails the query, or is told to one that may be partial.
    pub(super) fn read<T>(
        &self,
        block: &LocalBlock,
        scope: &Scope,
        read: impl FnOnce(&Reader) -> Result<T, ReadFailure>,
    ) -> Result<Option<T>, SourceError> {
        let reader = match self.readers.get(block) {
            Ok(reader) => reader,
            Err(_) if block.is_gone() => return Ok(None),
            Err(error) => {
                if is_damage(&error) {
                    self.take_out(block.ulid);
                    let missing = Some((block.min_ms, block.max_ms));
                    self.set_aside(block.folder.clone(), Broken { reason: error.to_string(), missing });
                }
                return scope.do_without(source_error(&error)).map(|()| None);
            }
        };
        let unreadable = match read(&reader) {
            Ok(read) => return Ok(Some(read)),
            Err(ReadFailure::Block(_)) if block.is_gone() => return Ok(None),
            Err(ReadFailure::Block(error)) => source_error(&error),
            Err(ReadFailure::Source(error @ SourceError::Corrupt(_))) => error,
            Err(ReadFailure::Source(error)) => return Err(error),
        };
        scope.do_without(unreadable).map(|()| None)
    }

    /// Looks at a folder that is not served. One that was broken is read closely: it may have looked whole before.
    fn look(
        &self,
        place: &BlockFolder,
        was_broken: &HashSet<PathBuf>,
    ) -> Result<LocalBlock, LocalBlockError> {
        let block = LocalBlock::open(place, &self.own_labels)?;
        if was_broken.contains(&place.path) {
            BlockReader::open(&place.path)?;
        }
        Ok(block)
    }

    fn insert(&self, block: LocalBlock) -> Result<(), LocalBlockError> {
        let (tenant, folder) = (Arc::clone(&block.tenant), block.folder.clone());
        let mut list = self.write_list();
        if let Some(other) = list.find(block.ulid) {
            return Err(LocalBlockError::Duplicate { other: other.folder.clone() });
        }
        list.tenants.entry(Arc::clone(&tenant)).or_default().insert(block.ulid, Arc::new(block));
        list.broken.remove(&folder);
        self.show(&list, &tenant);
        Ok(())
    }

    fn take_out(&self, ulid: Ulid) -> bool {
        let mut list = self.write_list();
        let Some(block) = list.find(ulid).cloned() else { return false };
        block.mark_removed();
        if let Some(blocks) = list.tenants.get_mut(&block.tenant) {
            blocks.remove(&ulid);
            if blocks.is_empty() {
                list.tenants.remove(&block.tenant);
            }
        }
        self.show(&list, &block.tenant);
        drop(list);
        self.readers.forget(ulid);
        true
    }

    fn report_broken(&self, folder: PathBuf, error: &LocalBlockError) {
        let missing = match error {
            LocalBlockError::Block(_) | LocalBlockError::Io { .. } | LocalBlockError::Label => {
                // One that was served before said its times then.
                let known = self.read_list().broken.get(&folder).and_then(|broken| broken.missing);
                Some(known.or_else(|| times(&folder)).unwrap_or(ALL_TIMES))
            }
            LocalBlockError::Place { .. }
            | LocalBlockError::Downsampled { .. }
            | LocalBlockError::Duplicate { .. } => None,
        };
        self.set_aside(folder, Broken { reason: error.to_string(), missing });
    }

    fn set_aside(&self, folder: PathBuf, broken: Broken) {
        let mut list = self.write_list();
        if list.broken.get(&folder) != Some(&broken) {
            let reason = &broken.reason;
            tracing::error!(folder = %folder.display(), reason, "a local block cannot be served");
            list.broken.insert(folder, broken);
        }
        self.metrics.broken.set(list.broken.len() as i64);
    }

    fn forget_broken(&self, is_gone: impl Fn(&Path) -> bool) {
        let mut list = self.write_list();
        list.broken.retain(|folder, _| !is_gone(folder));
        self.metrics.broken.set(list.broken.len() as i64);
    }

    fn show(&self, list: &List, tenant: &str) {
        self.metrics.show(tenant, list.tenants.get(tenant).and_then(sums));
        self.metrics.broken.set(list.broken.len() as i64);
    }

    fn lock_changes(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_list(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_list(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn find(&self, ulid: Ulid) -> Option<&Arc<LocalBlock>> {
        self.tenants.values().find_map(|blocks| blocks.get(&ulid))
    }

    fn folders(&self) -> HashMap<PathBuf, Ulid> {
        let all = self.tenants.values().flat_map(BTreeMap::values);
        all.map(|block| (block.folder.clone(), block.ulid)).collect()
    }
}

/// The times of a block that is not whole, if it still says them.
fn times(folder: &Path) -> Option<(i64, i64)> {
    let path = folder.join("meta.json");
    if fs::metadata(&path).ok()?.len() > BlockMeta::BYTES_MAX {
        return None;
    }
    let meta = BlockMeta::parse(&fs::read(path).ok()?).ok()?;
    Some((meta.min_ms, meta.max_ms))
}

fn sums(blocks: &BTreeMap<Ulid, Arc<LocalBlock>>) -> Option<TenantSums> {
    let lowest_ms = blocks.values().map(|block| block.min_ms).min()?;
    let bytes = blocks.values().map(|block| block.size_bytes).sum();
    Some(TenantSums { count: blocks.len(), bytes, lowest_ms })
}
