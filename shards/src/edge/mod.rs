//! The edge: connections, HTTP, limits, probes, and the one table from errors to statuses.
//!
//! Owns:     the connections that one shard serves.
//! Touches:  the shard's dispatcher; never a head or a WAL.
//! Runs on:  the shard's executor.
//! Promises: every request gets an answer or a closed connection within its time limits, and memory for requests
//!           in progress stays below its limit.

mod activity;
mod admission;
mod balance;
mod connection;
mod content;
mod grpc;
mod head_stats;
mod otlp;
mod render;
mod reply;
mod router;
mod status;
mod write;

pub use admission::Admission;
pub use balance::{Seat, seats};
pub use connection::{ConnectionMetrics, Connections, accept_loop, handed_loop};
pub use head_stats::{StatsAnswer, StatsQuery, StatsRequest, stats_thread};
pub use render::{RenderJob, render_thread};
pub use router::Router;
pub use status::{Answer, TENANT_BYTES_MAX, WriteError, Written};
pub(crate) use write::is_tenant_name;
pub use write::{EdgeLimits, WriteHandler};
