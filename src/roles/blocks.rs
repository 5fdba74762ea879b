//! The parts that make blocks and carry them away: cutter, shipper, local retention.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use annulus_shards::core::Node;
use prometheus::Registry;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use crate::bucket::config::{BucketConfig, Storage};
use crate::bucket::metrics::BucketMetrics;
use crate::bucket::{Bucket, config};
use crate::cut::{CutConfig, CutMetrics, CutThread};
use crate::flags::values::expand_variables;
use crate::flags::{BlocksSetup, BucketSetup, Setup};
use crate::local_blocks::LocalBlocks;
use crate::rfc3339::now_ms;
use crate::shipper::metrics::ShipperMetrics;
use crate::shipper::retention::Retention;
use crate::shipper::{Shipper, ShipperConfig};

/// How often to look for windows that are due.
const CUT_INTERVAL: Duration = Duration::from_secs(60);

/// Memory for sorting the series of one block, and as much for its index.
const CUT_MEMORY_BYTES: usize = 32 << 20;

/// How often to look for blocks whose time is over, unless that time is short. Each look reads every `meta.json`.
const RETENTION_INTERVAL: Duration = Duration::from_secs(300);

/// However short that time is.
const RETENTION_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How often to look for blocks that came or went by hand.
const SCAN_INTERVAL: Duration = Duration::from_secs(60);

/// How long a cut in progress may take to notice that the process stops.
const CUT_STOP_LIMIT: Duration = Duration::from_secs(2);

/// The running parts.
pub struct Blocks {
    cutter: CutThread,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// The folder of blocks in a data directory.
pub fn blocks_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("blocks")
}

/// Reads and checks what the flags say of the bucket.
///
/// # Errors
/// One line that names the flag or the file, and what is wrong.
pub fn bucket_config(setup: &BlocksSetup) -> Result<Option<BucketConfig>, String> {
    let (source, content) = match &setup.bucket {
        BucketSetup::None => return Ok(None),
        BucketSetup::Directory(directory) => {
            let storage = Storage::Filesystem { directory: directory.clone() };
            return Ok(Some(BucketConfig { storage, prefix: String::new(), warnings: Vec::new() }));
        }
        BucketSetup::Content(content) => ("--objstore.config".to_owned(), content.clone()),
        BucketSetup::File(path) => {
            let content = std::fs::read_to_string(path)
                .map_err(|error| format!("--objstore.config-file={}: {error}", path.display()))?;
            (format!("--objstore.config-file={}", path.display()), content)
        }
    };
    let content = expand_variables(&content, |name| std::env::var(name).ok());
    let parsed = content
        .map_err(|error| error.to_string())
        .and_then(|content| config::parse(&content).map_err(|error| error.to_string()));
    parsed.map(Some).map_err(|error| format!("{source}: {error}"))
}

impl Blocks {
    /// Starts cutting, uploading and deleting.
    pub fn start(
        node: &Node,
        setup: &Setup,
        bucket: Option<&BucketConfig>,
        local: &Arc<LocalBlocks>,
        runtime: &Runtime,
        registry: &Registry,
    ) -> io::Result<Blocks> {
        let data_dir = setup.node.data_dir.clone();
        let labels: BTreeMap<String, String> = setup.external_labels.iter().cloned().collect();
        let cut = CutConfig {
            data_dir: data_dir.clone(),
            windows: setup.node.windows,
            labels: labels.clone(),
            tenant_label: setup.tenant_label.clone(),
            interval: CUT_INTERVAL.min(Duration::from_millis(setup.node.windows.block_ms.unsigned_abs() / 4)),
            memory_bytes: CUT_MEMORY_BYTES,
        };
        let added = Arc::clone(local);
        let on_block = Box::new(move |path: &Path| Ok(added.add(path)?));
        let cutter = CutThread::start(cut, node.handle(), on_block, CutMetrics::register(registry))?;

        let (stop, _) = watch::channel(false);
        let mut tasks = Vec::new();
        let blocks_dir = blocks_dir(&data_dir);
        let shipper = match bucket {
            Some(config) => {
                for warning in &config.warnings {
                    tracing::warn!("objstore.yml: {warning}");
                }
                let bucket =
                    Bucket::open(config, BucketMetrics::register(registry)).map_err(io::Error::other)?;
                tracing::info!(bucket = bucket.label(), "blocks are uploaded");
                let config = ShipperConfig {
                    blocks_dir: blocks_dir.clone(),
                    external_labels: labels,
                    tenant_label: setup.tenant_label.clone(),
                };
                let shipper = Arc::new(Shipper::new(bucket, config, ShipperMetrics::register(registry)));
                let (shipping, stopped) = (Arc::clone(&shipper), until_stopped(&stop));
                let every = setup.blocks.ship_interval;
                tasks.push(runtime.spawn(async move { shipping.run(every, stopped).await }));
                Some(shipper)
            }
            None => None,
        };
        let retention = Retention {
            blocks_dir,
            retention_ms: setup.blocks.retention_ms,
            bytes_max: setup.blocks.retention_bytes,
        };
        tasks.push(runtime.spawn(scan(Arc::clone(local), until_stopped(&stop))));
        let (local, stopped) = (Arc::clone(local), until_stopped(&stop));
        tasks.push(runtime.spawn(retire(retention, shipper, local, stopped)));
        Ok(Blocks { cutter, stop, tasks })
    }

    /// Ends all of them; what is in progress is taken up by the next start.
    pub fn stop(self, runtime: &Runtime) {
        let _ = self.stop.send(true); // Nobody listens when all have ended.
        if !self.cutter.stop(CUT_STOP_LIMIT) {
            tracing::warn!("a block is being flushed; it is not waited for");
        }
        runtime.block_on(async {
            for task in self.tasks {
                let _ = tokio::time::timeout(CUT_STOP_LIMIT, task).await;
            }
        });
    }
}

async fn until(mut stop: watch::Receiver<bool>) {
    // An error means that the sender has gone, which is the end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn until_stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + use<> {
    until(stop.subscribe())
}

/// Takes up blocks that somebody put there, and forgets those that somebody took away.
async fn scan(local: Arc<LocalBlocks>, stop: impl Future<Output = ()>) {
    let mut looks = interval(SCAN_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = &mut stop => return,
        }
        let local = Arc::clone(&local);
        match spawn_blocking(move || local.scan()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the local blocks cannot be listed"),
            Err(error) => tracing::error!(%error, "the look at the local blocks broke off"),
        }
    }
}

/// A block stays at most a quarter longer than it should.
fn retention_interval(retention_ms: i64) -> Duration {
    if retention_ms == 0 {
        return RETENTION_INTERVAL; // For ever; the bound on bytes holds nevertheless.
    }
    Duration::from_millis(retention_ms.unsigned_abs() / 4).clamp(RETENTION_INTERVAL_MIN, RETENTION_INTERVAL)
}

/// Deletes local blocks whose time is over.
async fn retire(
    retention: Retention,
    shipper: Option<Arc<Shipper>>,
    local: Arc<LocalBlocks>,
    stop: impl Future<Output = ()>,
) {
    let mut looks = interval(retention_interval(retention.retention_ms));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = &mut stop => return,
        }
        let (retention, shipper) = (retention.clone(), shipper.clone());
        let look = move || {
            retention.apply(now_ms(), |block| {
                shipper.as_ref().is_none_or(|shipper| shipper.may_delete(&block.tenant, &block.ulid))
            })
        };
        match spawn_blocking(look).await {
            Ok(Ok(retired)) => {
                for block in &retired.deleted {
                    if let Ok(ulid) = block.ulid.parse() {
                        local.remove(ulid);
                    }
                    tracing::info!(
                        block = block.ulid,
                        tenant = block.tenant,
                        "the local block's time is over"
                    );
                }
                for (path, error) in &retired.failed {
                    tracing::warn!(path = %path.display(), %error, "a block should go and cannot be deleted");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the local blocks cannot be read"),
            Err(error) => tracing::error!(%error, "the look at the local blocks broke off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_looked_at_more_often_where_it_is_short() {
        for (retention_ms, seconds) in
            [(0, 300), (1, 1), (3, 1), (20_000, 5), (1_200_000, 300), (i64::MAX, 300)]
        {
            assert_eq!(retention_interval(retention_ms).as_secs(), seconds, "{retention_ms}");
        }
    }
}
