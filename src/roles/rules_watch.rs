//! The thread that looks at the files of limits and rules and at the memory of the process, and tells the ingest plane.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annulus_shards::core::Node;
use annulus_shards::limits::{MemoryLevel, NodeLimits};
use annulus_shards::relabel::NodeRules;
use annulus_shards::rt::trim_heap;

use crate::flags::{RuleFile, RuleFiles};
use crate::host;

/// How often the memory is looked at. At some GB per second it cannot grow by more than a small machine has left
/// above the limit.
const MEMORY_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Allocations wait while memory is taken back from the allocator, so that is not done more often.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// Nor so often when there was little to take back: less than this part of the limit.
const VAIN_TRIM_INTERVAL: Duration = Duration::from_secs(60);
const TRIM_PART: u64 = 20;

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
            let (mut memory, mut looked) = (MemoryWatch::default(), Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                memory.look(&limits);
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

/// Looks at the memory of the process, and takes back what the allocator keeps before anything is refused.
#[derive(Default)]
struct MemoryWatch {
    /// When it may try to take something back again.
    next_trim: Option<Instant>,
    /// Whether writes were refused when it last tried.
    was_over: bool,
}

impl MemoryWatch {
    fn look(&mut self, limits: &NodeLimits) {
        let Some(mut used_bytes) = host::own_memory_bytes() else { return };
        let now = Instant::now();
        let level = limits.memory().level_at(used_bytes);
        let (is_short, is_over) = (level != MemoryLevel::Ample, level == MemoryLevel::Over);
        // Before writes are refused it is tried, however vain the last attempt was.
        let may_trim = self.next_trim.is_none_or(|next_trim| now >= next_trim) || is_over && !self.was_over;
        if is_short && may_trim {
            self.was_over = is_over;
            trim_heap();
            let before_bytes = used_bytes;
            used_bytes = host::own_memory_bytes().unwrap_or(before_bytes);
            let freed_bytes = before_bytes.saturating_sub(used_bytes);
            let is_worth_it = freed_bytes > limits.memory().bytes_max() / TRIM_PART;
            self.next_trim = Some(now + if is_worth_it { TRIM_INTERVAL } else { VAIN_TRIM_INTERVAL });
            tracing::info!(before_bytes, used_bytes, "took back what the allocator kept");
        }
        if let Some((before, after)) = limits.memory().set_used(used_bytes) {
            log_level(limits, used_bytes, before, after);
        }
    }
}

fn log_level(limits: &NodeLimits, used_bytes: u64, before: MemoryLevel, after: MemoryLevel) {
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

#[cfg(test)]
mod tests {
    use annulus_shards::limits::{LimitsConfig, LimitsMetrics};

    use super::*;

    #[test]
    fn memory_that_the_allocator_keeps_refuses_nobody() {
        let blocks: Vec<Vec<u8>> = (0..300_000).map(|number| vec![1; 1000 + number % 7]).collect();
        // Some blocks stay between those that go: the allocator gives nothing back by itself.
        let (kept, freed): (Vec<_>, Vec<_>) =
            blocks.into_iter().enumerate().partition(|(number, _)| number % 100 == 0);
        drop(freed);
        let used_bytes = host::own_memory_bytes().unwrap();
        let metrics = LimitsMetrics::register(&prometheus::Registry::new());
        let limits = NodeLimits::new(LimitsConfig::default(), used_bytes - (50 << 20), metrics, 1);
        assert_eq!(limits.memory().level_at(used_bytes), MemoryLevel::Over);
        MemoryWatch::default().look(&limits);
        // Other tests take and free memory meanwhile.
        assert!(
            limits.memory().used_bytes() + (100 << 20) < used_bytes,
            "{} of {used_bytes}",
            limits.memory().used_bytes()
        );
        drop(kept);
    }
}
