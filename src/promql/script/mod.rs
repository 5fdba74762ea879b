//! Runs test scripts in the language of Prometheus' `promqltest`.
//!
//! Owns:     the script language (`command`, `series`), the comparison of answers (`compare`), the loaded samples.
//! Touches:  an evaluator behind [`Backend`]; the product's own is [`EngineBackend`].
//! Runs on:  the thread that calls [`run`]; it blocks.
//! Promises: every `eval` is reported once: passed, failed with what differs, or skipped with the reason.

mod backend;
mod command;
mod compare;
mod histogram;
mod memory;
mod run;
mod series;
#[cfg(test)]
mod suite;
mod variants;

pub use backend::{Backend, EngineBackend};
pub use memory::MemorySource;
pub use run::{Failed, Report, Skipped, run};
