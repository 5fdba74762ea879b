//! Local blocks on their way to the bucket, and out of the local directory once they are there.
//!
//! Owns:     `<blocks>/<tenant>/thanos.shipper.json`, the order of uploads, the deletion of local blocks.
//! Touches:  block folders, which it only reads until their retention is over; the bucket.
//! Runs on:  tokio, one task per node.
//! Promises: `meta.json` goes up last, so that nobody sees half a block; what was uploaded completely is not sent
//!           again, whatever was killed in between; a local block stays until the bucket has it.

mod local;
mod meta;
pub mod metrics;
pub mod retention;
mod ship;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::bucket::backoff::Backoff;
use crate::bucket::{Bucket, BucketError};
use local::{Backlog, Pending, Scan, TenantBlocks};
use metrics::{ShipperMetrics, TenantMetrics};
use ship::{Failure, Shipped};

/// Tenants whose blocks go up at the same time.
const TENANTS_AT_ONCE: usize = 4;

/// What a shipper needs to know of its node.
#[derive(Debug, Clone)]
pub struct ShipperConfig {
    /// The directory of `<tenant>/<ULID>/`.
    pub blocks_dir: PathBuf,
    /// Labels of blocks whose `meta.json` names none.
    pub external_labels: BTreeMap<String, String>,
    /// The label that holds the tenant, added to `external_labels`.
    pub tenant_label: String,
}

/// Why a round of uploads did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// A file or directory of the local blocks.
    #[error("{}: {source}", path.display())]
    Local {
        /// Which one.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl ShipError {
    fn local(path: impl Into<PathBuf>, source: io::Error) -> ShipError {
        ShipError::Local { path: path.into(), source }
    }

    /// Whether the blocks of other tenants would meet the same error.
    fn concerns_all_blocks(&self) -> bool {
        matches!(self, ShipError::Bucket(error) if error.concerns_all_objects())
    }
}

/// Uploads the blocks of all tenants.
pub struct Shipper {
    bucket: Bucket,
    config: ShipperConfig,
    metrics: ShipperMetrics,
    /// Uploaded blocks that are still here, by tenant. A tenant that was not looked at has no entry.
    uploaded: Arc<Mutex<HashMap<String, BTreeSet<String>>>>,
    /// Blocks that cannot be uploaded; they are reported once.
    corrupted: Mutex<HashSet<String>>,
    /// Whether the last round failed, so that only changes are logged.
    is_failing: AtomicBool,
}

impl Shipper {
    /// A shipper that has not looked at anything yet.
    pub fn new(bucket: Bucket, config: ShipperConfig, metrics: ShipperMetrics) -> Shipper {
        Shipper {
            bucket,
            config,
            metrics,
            uploaded: Arc::default(),
            corrupted: Mutex::default(),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Looks for blocks `every` so often, and uploads them, until `stop` is done. An upload in progress is then dropped;
    /// the next start goes on with it.
    pub async fn run(&self, every: Duration, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let backoff = backoff(every);
        let mut failures = 0;
        loop {
            let synced = tokio::select! {
                synced = self.sync() => synced,
                () = &mut stop => return,
            };
            failures = if synced.is_ok() { 0 } else { failures + 1 };
            let wait = if failures == 0 { every } else { backoff.wait(failures) };
            tokio::select! {
                () = sleep(wait) => {}
                () = &mut stop => return,
            }
        }
    }

    /// One round: looks for blocks that the bucket does not have, and uploads them. Gives the number of uploads. A
    /// failure of one block or tenant does not stop the others, unless it would be theirs too.
    pub async fn sync(&self) -> Result<usize, ShipError> {
        let synced = self.sync_all().await;
        self.log_change(&synced);
        synced
    }

    /// Whether the bucket has this block, so that the local one may go. Before the first round nothing may.
    pub fn may_delete(&self, tenant: &str, ulid: &str) -> bool {
        lock(&self.uploaded).get(tenant).is_some_and(|uploaded| uploaded.contains(ulid))
    }

    async fn sync_all(&self) -> Result<usize, ShipError> {
        let scan = self.scan().await?;
        for tenant in &scan.idle {
            self.metrics.tenant(tenant).synced(true);
        }
        let failed = scan.failed.map(|(tenant, error)| {
            self.metrics.tenant(&tenant).synced(false);
            error
        });
        let backlog = Backlog::new(&scan.tenants);
        self.metrics.set_backlog(&backlog.totals());
        let backlog = &Mutex::new(backlog);
        let outcome = &Mutex::new(Outcome { failed, uploaded_count: 0 });
        let synced = stream::iter(scan.tenants.into_iter().map(Ok::<_, ShipError>))
            .try_for_each_concurrent(TENANTS_AT_ONCE, |tenant| async move {
                let metrics = self.metrics.tenant(&tenant.tenant);
                let of_tenant = self.sync_tenant(tenant, &metrics, backlog).await;
                metrics.synced(of_tenant.failed.is_none());
                lock(outcome).add(of_tenant)
            })
            .await;
        synced?;
        let outcome = std::mem::take(&mut *lock(outcome));
        outcome.failed.map_or(Ok(outcome.uploaded_count), Err)
    }

    async fn scan(&self) -> Result<Scan, ShipError> {
        let (blocks_dir, uploaded) = (self.config.blocks_dir.clone(), Arc::clone(&self.uploaded));
        spawn_blocking(move || local::scan(&blocks_dir, &uploaded))
            .await
            .unwrap_or_else(|_| Err(ShipError::local("", io::Error::other("the runtime is stopping"))))
    }

    async fn sync_tenant(
        &self,
        tenant: TenantBlocks,
        metrics: &TenantMetrics,
        backlog: &Mutex<Backlog>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut is_changed = tenant.is_changed || tenant.uploaded.is_none();
        let mut uploaded = match tenant.uploaded {
            Some(uploaded) => uploaded,
            None => match self.ask_bucket(&tenant.pending).await {
                Ok(uploaded) => uploaded,
                Err(error) => return Outcome { failed: Some(error), ..outcome },
            },
        };
        for block in tenant.pending {
            if !uploaded.contains(&block.ulid) {
                match ship::ship(&self.bucket, &self.config, &tenant.tenant, &block).await {
                    Ok(Shipped::Nothing) => {}
                    Ok(shipped) => {
                        uploaded.insert(block.ulid.clone());
                        is_changed = true;
                        if shipped == Shipped::Sent {
                            metrics.uploads.inc();
                            outcome.uploaded_count += 1;
                        }
                    }
                    Err(Failure::Corrupted(reason)) => {
                        self.report_corrupted(&tenant.tenant, &block.ulid, &reason, metrics);
                    }
                    Err(Failure::Upload(error)) => {
                        metrics.upload_failures.inc();
                        let is_final = error.concerns_all_blocks();
                        outcome.failed.get_or_insert(error);
                        if is_final {
                            break;
                        }
                        continue;
                    }
                }
            }
            let mut backlog = lock(backlog);
            backlog.remove(&block.ulid);
            self.metrics.set_backlog(&backlog.totals());
        }
        metrics.upload_compacted_done.set(i64::from(outcome.failed.is_none()));
        // Kept also after a failure: what did go up need not be asked for again.
        if is_changed && let Err(error) = self.save(&tenant.tenant, &uploaded).await {
            outcome.failed.get_or_insert(error);
        }
        lock(&self.uploaded).insert(tenant.tenant, uploaded);
        outcome
    }

    /// The state file is lost: the bucket knows which blocks it has.
    async fn ask_bucket(&self, pending: &[Pending]) -> Result<BTreeSet<String>, ShipError> {
        let mut uploaded = BTreeSet::new();
        for block in pending {
            if self.bucket.exists(&format!("{}/{}", block.ulid, meta::META_JSON)).await? {
                uploaded.insert(block.ulid.clone());
            }
        }
        Ok(uploaded)
    }

    async fn save(&self, tenant: &str, uploaded: &BTreeSet<String>) -> Result<(), ShipError> {
        let path = self.config.blocks_dir.join(tenant).join(state::FILE_NAME);
        let (target, uploaded) = (path.clone(), uploaded.clone());
        spawn_blocking(move || state::write(&target, &uploaded))
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the runtime is stopping")))
            .map_err(|error| ShipError::local(path, error))
    }

    fn report_corrupted(&self, tenant: &str, ulid: &str, reason: &str, metrics: &TenantMetrics) {
        if lock(&self.corrupted).insert(ulid.to_owned()) {
            metrics.corrupted_blocks.inc();
            tracing::warn!(block = ulid, tenant, reason, "the block is corrupted and stays here");
        }
    }

    fn log_change(&self, synced: &Result<usize, ShipError>) {
        let was_failing = self.is_failing.swap(synced.is_err(), Ordering::Relaxed);
        let bucket = self.bucket.label();
        match (was_failing, synced) {
            (false, Err(error)) => {
                tracing::warn!(bucket, %error, "blocks cannot be uploaded; they stay here and are tried again");
            }
            (true, Ok(_)) => tracing::info!(bucket, "blocks are uploaded again"),
            _ => {}
        }
    }
}

/// Time between looks while uploads fail: from once to ten times the time between looks otherwise.
fn backoff(every: Duration) -> Backoff {
    Backoff { first: every.saturating_mul(2), max: every.saturating_mul(10) }
}

/// What came of one tenant, or of all.
#[derive(Default)]
struct Outcome {
    uploaded_count: usize,
    /// The first failure.
    failed: Option<ShipError>,
}

impl Outcome {
    /// Adds what came of a tenant; fails if the others need not be tried.
    fn add(&mut self, tenant: Outcome) -> Result<(), ShipError> {
        self.uploaded_count += tenant.uploaded_count;
        match tenant.failed {
            Some(error) if error.concerns_all_blocks() => return Err(error),
            Some(error) => {
                self.failed.get_or_insert(error);
            }
            None => {}
        }
        Ok(())
    }
}

/// A panic while a lock is held leaves counters and sets that are each still valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
