//! `queries`: how fast a receiver answers, and at what cost, side by side over the network.
//!
//! From the outside in: [`command`] has the flags and the order of receivers, [`session`] is one receiver from its
//! start to its last answer, [`catalogue`] the questions, [`data`] the series that they ask for, [`client`] one
//! connection, [`answer`] what came back and whether two receivers agree on it, [`statistics`] and [`report`] the rest.

mod answer;
mod catalogue;
mod client;
mod command;
mod data;
mod ingest;
mod report;
mod session;
mod statistics;

pub use command::{QueriesArguments, command};
