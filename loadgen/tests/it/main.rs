//! Whole-process tests of the load generator: its real binary against real receivers, over the network.
//!
//! What a machine lacks (the binary of a receiver) is left out with a line that says so; it never fails a run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod lossy_proxy;
mod process;
mod receiver;
mod remote_write;
mod run_and_verify;
