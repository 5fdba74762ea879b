//! Whole-process tests: the real binary, real senders, and nothing but the network between them.
//!
//! Each test starts its own server on free ports with its own data directory. What a machine cannot do (a
//! missing package, no root) is left out with a line that says so; it never fails a run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod benches;
mod blocks;
mod bucket;
mod compare;
mod connections;
mod durability;
mod exemplars;
mod hostile;
mod limits;
mod mutation;
mod otlp;
mod peers;
mod prometheus;
mod proxy;
mod queries;
mod refusals;
mod remote_write_2;
mod start;
mod support;
mod times;
mod tools;
mod values;
