//! What a tenant, and all tenants together, may ask of this node.
//!
//! Owns:     the limits in effect, counts of each tenant's series and samples, the write gate, the memory level.
//! Touches:  nothing else: the file and the memory of the process are read by whoever has them, who tells this module.
//! Runs on:  every shard and the thread that watches file and memory; atomics between them, a lock only when
//!           limits change or a tenant is met for the first time.
//! Promises: series that are known are never refused by a limit on series or labels. A known series costs nothing here.

mod config;
mod gate;
mod memory;
mod metrics;
mod node;
mod rate;
mod tenant;

pub use config::{LimitsConfig, LimitsConfigError, SampleRate, TenantRules};
pub use gate::{Gate, GateError, GateTicket};
pub use memory::{MemoryLevel, MemoryLimit};
pub use metrics::LimitsMetrics;
pub use node::{NodeLimits, ShardLimits};
pub use tenant::{NewSeriesError, RequestLimitError, TenantLimits};
