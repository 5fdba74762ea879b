//! What is wrong with a description of hashrings, and what is only worth a warning.

use std::fmt;

use super::config::{ENDPOINTS_MAX, FILE_BYTES_MAX, RINGS_MAX};
use super::rings::REPLICATION_FACTOR_MAX;

/// Which ring of a file is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingLabel {
    /// Its place in the file, from 1.
    pub number: usize,
    /// Its name, which may be empty.
    pub name: String,
}

impl fmt::Display for RingLabel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(out, "hashring {}", self.number),
            name => write!(out, "hashring {} ({name:?})", self.number),
        }
    }
}

/// Why there are no rings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashringsError {
    /// More bytes than are read.
    #[error("the hashrings have {bytes} bytes, but at most {FILE_BYTES_MAX} are read")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Not JSON.
    #[error("the hashrings are not JSON: {0}")]
    Json(String),
    /// JSON of another form.
    #[error("the hashrings must be a JSON array of objects, each with \"endpoints\"")]
    NotAnArray,
    /// No ring at all.
    #[error("there are no hashrings: describe at least one, with its \"endpoints\"")]
    Empty,
    /// More rings than can be.
    #[error("{count} hashrings are more than {RINGS_MAX}")]
    TooManyRings {
        /// How many.
        count: usize,
    },
    /// More endpoints than can be.
    #[error(
        "the hashrings have {count} endpoints, those of all rings added up, but at most {ENDPOINTS_MAX} are possible"
    )]
    TooManyEndpoints {
        /// How many.
        count: usize,
    },
    /// No copy, or more than make sense.
    #[error("the replication factor is {given}, but must be from 1 to {REPLICATION_FACTOR_MAX}")]
    ReplicationFactor {
        /// What was asked for.
        given: usize,
    },
    /// One ring is wrong.
    #[error("{ring}: {fault}")]
    Ring {
        /// Which one.
        ring: RingLabel,
        /// What is wrong with it.
        fault: RingFault,
    },
}

/// What is wrong with one ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingFault {
    /// A value of the wrong type.
    #[error("{field} must be {expected}")]
    Field {
        /// Where, as in `endpoints[2].az`.
        field: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// Nowhere to store anything.
    #[error("it has no endpoints: list the addresses of its receivers under \"endpoints\"")]
    NoEndpoints,
    /// An endpoint that cannot be reached.
    #[error("{field} is empty: give the receiver's host and port")]
    NoAddress {
        /// Where, as in `endpoints[2].address`.
        field: String,
    },
    /// One endpoint twice.
    #[error(
        "the endpoint {address:?} is listed twice, and would keep two copies of one series: list it once"
    )]
    Repeated {
        /// Its address.
        address: String,
    },
    /// Zones where they have no effect.
    #[error(
        "the endpoint {address:?} has a zone, which hashmod does not look at: set \"algorithm\" to \"ketama\", or \
         leave \"az\" out"
    )]
    ZoneUnderHashmod {
        /// Its address.
        address: String,
    },
    /// Zones over which the replicas cannot be spread.
    #[error(
        "zone {zone:?} has only {smallest} of the endpoints, so that {possible} replicas can be spread evenly over the \
         zones, not {wanted}: bring the zones to similar sizes, or lower the replication factor"
    )]
    UnevenZones {
        /// The smallest zone.
        zone: String,
        /// How many endpoints it has.
        smallest: usize,
        /// How many replicas can be.
        possible: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A pattern that means nothing.
    #[error("the tenant pattern {pattern:?} is malformed: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Tenants on a part of the ring only.
    #[error(
        "shuffle sharding is not supported, and without it tenants would go to other endpoints: remove \
         \"shuffle_sharding_config\", or list the tenants in hashrings of their own"
    )]
    ShuffleSharding,
}

/// What an operator should know about rings that are used all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingWarning {
    /// Fewer endpoints than copies.
    #[error(
        "{ring} has {endpoint_count} endpoints for a replication factor of {replication_factor}: each series is kept \
         {endpoint_count} times only"
    )]
    UnderReplicated {
        /// Which ring.
        ring: RingLabel,
        /// How many endpoints, and thus copies, there are.
        endpoint_count: usize,
        /// How many copies there should be.
        replication_factor: usize,
    },
    /// A misspelt algorithm, most likely.
    #[error("{ring} has the unknown algorithm {algorithm:?}: hashmod is used, as in Thanos")]
    UnknownAlgorithm {
        /// Which ring.
        ring: RingLabel,
        /// What it says.
        algorithm: String,
    },
    /// A misspelt type of matcher, most likely.
    #[error(
        "{ring} has the unknown tenant_matcher_type {matcher:?}: no tenant matches it, as in Thanos; write \"exact\" or \
         \"glob\""
    )]
    UnknownMatcher {
        /// Which ring.
        ring: RingLabel,
        /// What it says.
        matcher: String,
    },
    /// The first ring that matches wins, and one before this one matches always.
    #[error("{ring} is never used: {taker} comes before it and takes all tenants")]
    NeverUsed {
        /// The ring without tenants.
        ring: RingLabel,
        /// The ring that has them all.
        taker: RingLabel,
    },
}
