//! The thread that cuts.

use std::convert::Infallible;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use flume::Receiver;

use super::cutter::{CutConfig, Cutter, OnBlock};
use super::head::HeadCuts;
use super::metrics::CutMetrics;
use super::policy::Now;
use super::stop::{Stopper, stop_pair};
use crate::background::{GiveWay, give_way};
use crate::rfc3339::now_ms;

/// The running cutter. It ends when this is dropped.
#[derive(Debug)]
pub struct CutThread {
    stopper: Stopper,
    /// Disconnected when the thread has ended.
    ended: Receiver<Infallible>,
}

impl CutThread {
    /// Prepares the folders and begins to cut. Not while another one runs on the same data directory.
    ///
    /// # Errors
    /// When the folders cannot be made, or the thread.
    pub fn start(
        config: CutConfig,
        head: impl HeadCuts + 'static,
        on_block: OnBlock,
        metrics: CutMetrics,
    ) -> io::Result<CutThread> {
        let (stopper, stop) = stop_pair();
        let (alive, ended) = flume::bounded::<Infallible>(0);
        let began = Instant::now();
        let clock = move || Now {
            wall_ms: now_ms(),
            uptime_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
        };
        let cutter = Cutter::open(config, Box::new(head), on_block, metrics, stop, Box::new(clock))?;
        thread::Builder::new().name("annulus-cut".to_owned()).spawn(move || {
            let _alive = alive;
            give_way(GiveWay::Blocks);
            cutter.run();
        })?;
        Ok(CutThread { stopper, ended })
    }

    /// Ends the cutter, and answers whether it has ended in time. A cut is abandoned between two pages of series, and
    /// its window is cut after the next start. Only the flush of a block that is complete cannot be broken off: the
    /// process may end regardless, and the block is then found finished or removed as unfinished.
    pub fn stop(self, patience: Duration) -> bool {
        drop(self.stopper);
        self.ended.recv_timeout(patience) == Err(flume::RecvTimeoutError::Disconnected)
    }
}
