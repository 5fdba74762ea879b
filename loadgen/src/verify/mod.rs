//! Verification: reads back through the Prometheus query API what a run sent, and compares every sample.
//! Owns:     the windows that are read, the comparison, the counts of lost, altered, duplicated and unexpected.
//! Touches:  the network (the query address only) and the ledger file of the run.
//! Runs on:  tokio; several targets at a time.
//! Promises: each sample of the run is looked at exactly once; what could not be read is an error, never "no
//!           difference"; memory is bounded by a few targets and answers, however long the stream.

pub mod answer;
mod client;
mod command;
mod compare;
mod expectation;
#[cfg(test)]
mod fake;
mod markers;
mod receiver_labels;
mod score;
mod target;
mod verifier;
mod windows;

pub use client::{QueryClient, QueryError};
pub use command::{QueryArgs, ReadBackArgs, VerifyArgs, command, is_clean, verify_with_progress};
pub use verifier::{NativeHistograms, Progress, VerifyError, VerifyOptions, verify};
