//! The hashring: which endpoints keep the copies of a series.
//!
//! Owns:     the rings of `hashrings.json`, with the replicas of every section worked out beforehand.
//! Touches:  nothing: bytes in, values out. Who reads the file, and when, is the caller's concern.
//! Runs on:  any thread. Rings do not change; a new file makes new rings, which are put in place of the old ones.
//! Promises: the placement of Thanos Receive, endpoint by endpoint, for the files that both accept
//!           (`docs/format/hashrings.md` says where we differ). A look-up neither allocates nor fails.

mod config;
mod difference;
mod error;
mod fingerprint;
mod glob;
mod hashmod;
mod ketama;
mod key;
mod local;
mod rings;
mod tenants;
#[cfg(test)]
mod vectors;

pub use config::{ENDPOINTS_MAX, FILE_BYTES_MAX, RINGS_MAX};
pub use difference::RingsDifference;
pub use error::{HashringsError, RingFault, RingLabel, RingWarning};
pub use fingerprint::config_hash;
pub use key::PlacementHasher;
pub use local::{LocalEndpoint, LocalWarning};
pub use rings::{Algorithm, Endpoint, EndpointIndex, REPLICATION_FACTOR_MAX, Ring, RingOptions, Rings};
