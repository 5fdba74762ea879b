//! What a tenant, and all tenants together, may ask of this node.
//!
//! Owns:     the limits in effect, counts of each tenant's series and samples, the write gate, the memory level.
//! Touches:  nothing else: the file and the memory of the process are read by whoever has them, who tells this module.
//! Runs on:  every shard and the threads that watch file, memory and tenants; atomics between them, a lock only when
//!           limits change or a shard meets a tenant that it has not at hand.
//! Promises: series that are known are never refused by a limit on series or labels. A known series costs nothing here.
//!           A tenant that has no series and sends nothing is forgotten within some minutes, unless a head remembers that it was
//!           cut; one of which nothing is stored, with its last request.

mod config;
mod gate;
mod memory;
mod metrics;
mod node;
mod rate;
mod table;
mod tenant;

pub use config::{LimitsConfig, LimitsConfigError, SampleRate, TenantRules};
pub use gate::{Gate, GateError, GateTicket};
pub use memory::{MemoryLevel, MemoryLimit};
pub use metrics::LimitsMetrics;
pub use node::{HeadTenant, NodeLimits, ShardLimits};
pub use tenant::{NewSeriesError, RequestLimitError, TenantLimits};
