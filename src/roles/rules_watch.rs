//! The thread that looks at the files of limits and rules and at the memory of the process, and tells the ingest plane.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annulus_shards::core::Node;
use annulus_shards::limits::{MemoryLevel, NodeLimits};
use annulus_shards::relabel::NodeRules;

use crate::flags::{RuleFile, RuleFiles};
use crate::host;

/// How often the memory is looked at. At some GB per second it cannot grow by more than a small machine has left
/// above the limit.
const MEMORY_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The running thread, until it is dropped.
pub struct RulesWatch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RulesWatch {
    /// Begins to look.
    pub fn start(node: &Node, mut files: RuleFiles) -> io::Result<RulesWatch> {
        let (limits, rules) = (Arc::clone(node.limits()), Arc::clone(node.relabel()));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watch = move || {
            let mut looked = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                look_at_memory(&limits);
                if looked.elapsed() >= files.look_interval {
                    looked = Instant::now();
                    files.limits.iter_mut().for_each(|file| look_at_limits(&limits, file));
                    files.relabel.iter_mut().for_each(|file| look_at_relabel(&rules, file));
                }
                std::thread::park_timeout(MEMORY_LOOK_INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("limits".to_owned()).spawn(watch)?;
        Ok(RulesWatch { stop, thread: Some(thread) })
    }
}

impl Drop for RulesWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn look_at_memory(limits: &NodeLimits) {
    let Some(used_bytes) = host::own_memory_bytes() else { return };
    let Some((before, after)) = limits.memory().set_used(used_bytes) else { return };
    let limit_bytes = limits.memory().bytes_max();
    match after {
        MemoryLevel::Over => {
            tracing::error!(used_bytes, limit_bytes, "over the memory limit: writes are answered with 503");
        }
        MemoryLevel::Tight if before == MemoryLevel::Ample => {
            tracing::warn!(used_bytes, limit_bytes, "near the memory limit: new series are refused");
        }
        MemoryLevel::Tight => {
            tracing::warn!(
                used_bytes,
                limit_bytes,
                "samples of known series are taken again, new series not yet"
            );
        }
        MemoryLevel::Ample => {
            tracing::info!(used_bytes, limit_bytes, "there is memory again: everything is taken");
        }
    }
}

fn look_at_limits(limits: &NodeLimits, file: &mut RuleFile) {
    match file.look_for_limits() {
        None => {}
        Some(Ok(config)) => {
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            limits.replace(config);
            limits.metrics().reloads.inc();
            tracing::info!("other limits are in effect");
        }
        Some(Err(reason)) => {
            limits.metrics().reload_errors.inc();
            tracing::error!(reason, "the limits file cannot be used; the limits before it stay in effect");
        }
    }
}

fn look_at_relabel(rules: &NodeRules, file: &mut RuleFile) {
    match file.look_for_relabel() {
        None => {}
        Some(Ok(other)) => {
            let count = other.len();
            rules.replace(other);
            rules.metrics().reloads.inc();
            tracing::info!(count, "other relabelling rules are in effect");
        }
        Some(Err(reason)) => {
            rules.metrics().reload_errors.inc();
            tracing::error!(
                reason,
                "the file of relabelling rules cannot be used; the rules before it stay in effect"
            );
        }
    }
}
