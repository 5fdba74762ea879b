//! Blocks from the first sample to the bucket: what was sent is in the head, in a local block or in both, and every
//! query, every tool and every other Prometheus reads the same from them.
//!
//! The servers cut windows of four seconds, so that minutes of samples become dozens of blocks.

mod cuts;
mod disk;
mod exporter;
mod folder;
mod outside;
mod promtool;
mod retention;
mod sender;
mod upload;
mod workload;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::metrics::metric;
use super::support::server::Server;
use super::support::wait_until;
use folder::{Block, blocks_of};
use workload::Workload;

/// The length of a window, and how late a sample may be.
const WINDOW_MS: i64 = 4_000;

/// Windows so short, as flags.
const SHORT_WINDOWS: [&str; 2] = ["--tsdb.min-block-duration=4s", "--tsdb.out-of-order.time-window=4s"];

/// The cutter looks every second, and waits for four before it takes a tenant for idle; the rest is for a busy machine.
const CUT_LIMIT: Duration = Duration::from_secs(90);

/// A server with short windows and further flags.
fn start_server(extra: &[&str]) -> Server {
    Server::start_with(&[&SHORT_WINDOWS[..], extra].concat())
}

/// The local blocks of a tenant, in order of time.
fn local_blocks(server: &Server, tenant: &str) -> Vec<Block> {
    blocks_of(&server.data_dir().join("blocks").join(tenant))
}

/// Waits until the local blocks of a tenant reach up to `below_ms`, and gives them.
fn wait_for_blocks(server: &Server, tenant: &str, below_ms: i64) -> Vec<Block> {
    wait_until(&format!("blocks of {tenant} up to {below_ms}:"), CUT_LIMIT, || {
        let blocks = local_blocks(server, tenant);
        let end_ms = blocks.last().map(|block| block.max_ms);
        if end_ms >= Some(below_ms) { Ok(blocks) } else { Err(format!("they end at {end_ms:?}")) }
    })
}

/// Blocks of the head follow each other and do not overlap.
fn assert_in_order(blocks: &[Block]) {
    for pair in blocks.windows(2) {
        assert!(pair[0].max_ms <= pair[1].min_ms, "{pair:?} overlap");
    }
}

/// Asserts that a tenant's samples are all there, each of them once.
fn assert_all_is_there(server: &Server, workload: &Workload) {
    let found = workload.ask(server.query());
    workload.check(&found, workload.step_count(), workload.step_count()).unwrap();
}

/// No part has lost or given up anything.
fn assert_no_losses(server: &Server) {
    for name in ["annulus_cut_lost_chunks_total", "annulus_cut_failures_total", "annulus_local_blocks_broken"]
    {
        assert_eq!(metric(server.addresses.write, name), Some(0.0), "{name}");
    }
}

/// Set when it goes, so that threads that wait for it end even if a test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
