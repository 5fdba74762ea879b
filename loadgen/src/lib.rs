//! The load generator of annulus: a realistic stream, an open loop, verification, capacity planning.
//!
//! It speaks only the network, so it drives any receiver of Prometheus remote write.

pub mod cli;
pub mod commands;
pub mod ledger;
pub mod measure;
pub mod quantity;
pub mod report;
pub mod result;
pub mod send;
pub mod stream;
pub mod verify;
