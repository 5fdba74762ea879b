//! The edge: connections, HTTP, limits, probes, and the one table from errors to statuses.

mod status;

pub use status::{Answer, WriteError};
