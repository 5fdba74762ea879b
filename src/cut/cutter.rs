//! The cutter: which window comes next, the steps of its cut, and what happens when one of them fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_shards::core::{CutError, Failure, ReadError};
use annulus_shards::head::{TimeWindows, window_of};

use super::description::{describe, find_finished};
use super::error::CutFailure;
use super::folders::BlockFolders;
use super::head::{HeadCuts, ask};
use super::losses::Losses;
use super::metrics::CutMetrics;
use super::policy::{CutPolicy, DueWindow, Now};
use super::sorter::SeriesSorter;
use super::stop::StopSignal;
use super::window::WindowCut;
use crate::block::{BlockMeta, BlockWriter, Ulid, WriterOptions};

/// Windows that are cut before the tenants are looked at again.
const ROUND_CUTS_MAX: usize = 256;

/// The pause after a first failure; it doubles with each further one in a row.
const PAUSE_MIN_MS: i64 = 30_000;
const PAUSE_MAX_MS: i64 = 300_000;

/// How often to look whether the shards have read their logs after a start.
const RECOVERY_PAUSE: Duration = Duration::from_secs(1);

/// A window whose chunks the disk did not give so often is cut without those that it does not give.
const TRIES_FOR_ALL_CHUNKS: u32 = 5;

/// What the operator and the process choose.
#[derive(Debug, Clone)]
pub struct CutConfig {
    /// The data directory; blocks go into its folder `blocks`.
    pub data_dir: PathBuf,
    /// Those of the heads.
    pub windows: TimeWindows,
    /// External labels of this process.
    pub labels: BTreeMap<String, String>,
    /// The label that holds the tenant's name. It beats an external label of that name.
    pub tenant_label: String,
    /// How often to look for due windows.
    pub interval: Duration,
    /// Memory for sorting series. The block writer takes as much again for its index.
    pub memory_bytes: usize,
}

/// Told of every block that is there, before the head drops what is in it: what serves queries has to know the block
/// by then. A block can be told again. An error keeps the head from dropping it.
pub type OnBlock = Box<dyn FnMut(&Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send>;

/// The time, by the system's clocks or by those of a test.
pub type Clock = Box<dyn Fn() -> Now + Send>;

/// Cuts windows one after the other.
pub struct Cutter {
    config: CutConfig,
    head: Box<dyn HeadCuts>,
    on_block: OnBlock,
    metrics: CutMetrics,
    stop: StopSignal,
    clock: Clock,
    folders: BlockFolders,
    policy: CutPolicy,
    /// Tenants whose last cut failed.
    failing: HashMap<Arc<str>, Failing>,
    /// Failures in a row that concern all tenants.
    failures: u32,
}

/// A tenant whose last cut failed.
#[derive(Debug, Clone, Copy)]
struct Failing {
    failures: u32,
    /// How many of them were chunks that the disk did not give.
    unread: u32,
    retry_ms: i64,
}

impl Cutter {
    /// Makes the folders and removes what a crash left of unfinished blocks.
    pub fn open(
        config: CutConfig,
        head: Box<dyn HeadCuts>,
        on_block: OnBlock,
        metrics: CutMetrics,
        stop: StopSignal,
        clock: Clock,
    ) -> io::Result<Cutter> {
        let folders = BlockFolders::new(&config.data_dir);
        folders.prepare()?;
        let policy = CutPolicy::new(config.windows);
        let failing = HashMap::new();
        Ok(Cutter { config, head, on_block, metrics, stop, clock, folders, policy, failing, failures: 0 })
    }

    /// Cuts what is due until it is to stop.
    pub fn run(mut self) {
        loop {
            let pause = self.round();
            if self.stop.wait(pause) {
                return;
            }
        }
    }

    /// Cuts at most one window of each tenant, and answers how long to wait for the next round: not at all as long as
    /// there may be more.
    pub fn round(&mut self) -> Duration {
        let now = (self.clock)();
        let tenants = match ask(&self.stop, self.head.tenants()) {
            Ok(tenants) => tenants,
            Err(error) => return self.fail_all(&error),
        };
        let due = self.policy.plan(&tenants, now);
        let with_due: HashSet<&str> = due.iter().map(|window| &*window.tenant).collect();
        self.failing.retain(|tenant, _| with_due.contains(&**tenant));
        self.metrics.pending_windows.set(due.len() as i64);
        let mut cuts = 0;
        for window in &due {
            let failing = self.failing.get(&window.tenant).copied();
            if failing.is_some_and(|failing| failing.retry_ms > now.uptime_ms) {
                continue;
            }
            self.policy.served(&window.tenant);
            let (failures, unread) = failing.map_or((0, 0), |failing| (failing.failures, failing.unread));
            match self.cut(window, unread) {
                Ok(()) => {
                    self.failures = 0;
                    self.failing.remove(&window.tenant);
                    self.metrics.pending_windows.dec();
                    cuts += 1;
                }
                Err(error) if error.concerns_all() => return self.fail_all(&error),
                Err(error) => {
                    let is_unread = matches!(error, CutFailure::Read(ReadError::Chunk(_)));
                    self.fail(window, failures + 1, unread + u32::from(is_unread), &error);
                }
            }
            if cuts == ROUND_CUTS_MAX {
                break;
            }
        }
        if cuts > 0 { Duration::ZERO } else { self.pause() }
    }

    /// Cuts one window. Each step can be repeated.
    fn cut(&mut self, due: &DueWindow, unread: u32) -> Result<(), CutFailure> {
        let began = Instant::now();
        // Also what is frozen: whether that is durable is known only when it has answered.
        ask(&self.stop, self.head.freeze(&due.tenant, due.below_ms))?;
        if self.is_older_left(due)? {
            // The older window is frozen as well, and comes first in the next round.
            return Ok(());
        }
        let labels = self.labels_of(&due.tenant);
        let folder = self.folders.of(&due.tenant);
        let finished = if due.is_frozen { find_finished(&folder, due, &labels)? } else { None };
        let below_ms = match finished {
            Some(block) => {
                tracing::info!(
                    tenant = &*due.tenant,
                    block = %block.display(),
                    "the block was finished before, and is only dropped from the head"
                );
                (self.on_block)(&block).map_err(CutFailure::Serve)?;
                due.below_ms
            }
            None => match self.write(due, labels, unread, began)? {
                Some(block) => {
                    (self.on_block)(&block).map_err(CutFailure::Serve)?;
                    due.below_ms
                }
                None => self.skip(due)?,
            },
        };
        match ask(&self.stop, self.head.truncate(&due.tenant, below_ms)) {
            // What was dropped stays dropped; the files are tried again by the next truncation.
            Err(CutFailure::Head(error @ CutError::Files { .. })) => {
                tracing::warn!(tenant = &*due.tenant, %error, "files of dropped chunks were not removed");
            }
            truncated => truncated?,
        }
        self.metrics.seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.last_success_seconds.set((self.clock)().wall_ms as f64 / 1000.0);
        Ok(())
    }

    /// Whether there are samples before the window. A shard may have taken one for an older window after the tenants were
    /// looked at and before the freeze, and the truncation would drop it.
    fn is_older_left(&self, due: &DueWindow) -> Result<bool, CutFailure> {
        let tenants = ask(&self.stop, self.head.tenants())?;
        let tenant = tenants.iter().find(|tenant| tenant.name == due.tenant);
        Ok(tenant.and_then(|tenant| tenant.oldest_ms).is_some_and(|oldest_ms| {
            // After a truncation the oldest time is a bound only; never before what was truncated.
            oldest_ms.max(tenant.map_or(i64::MIN, |tenant| tenant.truncated_ms)) < due.from_ms
        }))
    }

    /// Writes the block of a window, and gives its folder; `None` if there is nothing in it.
    fn write(
        &mut self,
        due: &DueWindow,
        labels: BTreeMap<String, String>,
        unread: u32,
        began: Instant,
    ) -> Result<Option<PathBuf>, CutFailure> {
        let is_last_try = unread >= TRIES_FOR_ALL_CHUNKS;
        let window = WindowCut { head: &*self.head, due, stop: &self.stop, is_last_try };
        let mut losses = Losses::new(&due.tenant);
        let sorter = SeriesSorter::new(&self.folders.scratch(), self.config.memory_bytes);
        let mut sorted = window.collect(sorter, &mut losses)?;
        let mut written = None;
        if !sorted.is_empty() {
            let folder = self.folders.make(&due.tenant)?;
            let ulid = Ulid::new((self.clock)().wall_ms).map_err(CutFailure::Name)?;
            let options =
                WriterOptions { memory_bytes: self.config.memory_bytes, ..WriterOptions::default() };
            let mut writer = BlockWriter::create(&folder, describe(ulid, due, labels), options)?;
            window.write(&mut sorted, &mut writer, &mut losses)?;
            written = writer.finish()?.map(|meta| (folder.join(ulid.to_string()), meta));
        }
        self.metrics.lost_chunks.inc_by(losses.count());
        let Some((block, meta)) = written else { return Ok(None) };
        self.metrics.blocks.inc();
        tracing::info!(
            tenant = &*due.tenant,
            block = %meta.ulid,
            from_ms = due.from_ms,
            below_ms = due.below_ms,
            series = meta.stats.series_count,
            samples = meta.stats.sample_count,
            bytes = size_bytes(&meta),
            lost_chunks = losses.count(),
            seconds = format!("{:.3}", began.elapsed().as_secs_f64()),
            "cut a block from the head"
        );
        Ok(Some(block))
    }

    /// A window without samples: finds the time up to which there are none, so that a gap of any length is one step.
    ///
    /// All of the gap is frozen before it is looked at. What is in it nevertheless is due as well.
    fn skip(&self, due: &DueWindow) -> Result<i64, CutFailure> {
        ask(&self.stop, self.head.freeze(&due.tenant, due.settled_ms))?;
        let window = WindowCut { head: &*self.head, due, stop: &self.stop, is_last_try: true };
        let next_ms = window.oldest_after()?.map_or(i64::MAX, |oldest_ms| {
            window_of(oldest_ms, self.config.windows.block_ms).start.max(due.below_ms)
        });
        Ok(next_ms.min(due.settled_ms))
    }

    fn labels_of(&self, tenant: &str) -> BTreeMap<String, String> {
        let mut labels = self.config.labels.clone();
        labels.insert(self.config.tenant_label.clone(), tenant.to_owned());
        labels
    }

    /// Notes a failure of one tenant, which is left alone for a while. The others go on.
    fn fail(&mut self, due: &DueWindow, failures: u32, unread: u32, error: &CutFailure) {
        let pause_ms = pause_ms(failures);
        self.metrics.failures.inc();
        let retry_ms = (self.clock)().uptime_ms.saturating_add(pause_ms);
        self.failing.insert(Arc::clone(&due.tenant), Failing { failures, unread, retry_ms });
        tracing::error!(
            tenant = &*due.tenant,
            from_ms = due.from_ms,
            below_ms = due.below_ms,
            failures,
            retry_seconds = pause_ms / 1000,
            %error,
            "a window was not cut; it stays in the head"
        );
    }

    /// Notes a failure that each tenant would meet, and answers how long to wait.
    fn fail_all(&mut self, error: &CutFailure) -> Duration {
        match error {
            CutFailure::Stopped => return Duration::ZERO,
            // So begins every start, and it is over soon.
            CutFailure::Head(CutError::Shard { failure: Failure::Recovering, .. }) => return RECOVERY_PAUSE,
            _ => {}
        }
        self.failures = self.failures.saturating_add(1);
        self.metrics.failures.inc();
        let pause = Duration::from_millis(pause_ms(self.failures) as u64);
        tracing::error!(
            failures = self.failures,
            retry_seconds = pause.as_secs(),
            %error,
            "windows are not cut; they stay in the head"
        );
        pause
    }

    /// How long to wait when nothing is to be done: until it is time to look again, or for a tenant to be tried again.
    fn pause(&self) -> Duration {
        let now_ms = (self.clock)().uptime_ms;
        let retries = self.failing.values().map(|failing| {
            // Never zero, which would say that there is more to cut.
            Duration::from_millis(failing.retry_ms.saturating_sub(now_ms).max(1) as u64)
        });
        retries.min().unwrap_or(Duration::MAX).min(self.config.interval)
    }
}

/// How long to wait after so many failures in a row.
fn pause_ms(failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(8);
    (PAUSE_MIN_MS << doublings).min(PAUSE_MAX_MS)
}

/// Bytes of the files of a block, but for its description, which does not know its own.
fn size_bytes(meta: &BlockMeta) -> u64 {
    meta.thanos.iter().flat_map(|thanos| &thanos.files).map(|file| file.size_bytes).sum()
}
