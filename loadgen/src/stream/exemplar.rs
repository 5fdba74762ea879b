//! Exemplars: which series carry one, and what it says.
//!
//! Prometheus sends an exemplar in an entry of its own, with the labels of its series and without a sample. Which
//! series have one stays the same from round to round, and so does each trace id while its pod lives: the symbol
//! table of remote write 2.0 can then be compressed together with the labels.

use super::Protocol;
use super::catalogue::{MetricType, Recipe};
use super::mix::{Chance, mix, under};
use super::profile::Profile;
use super::proto::{put_double, put_key, put_len, put_varint};
use super::value::Role;

/// The label that leads from an exemplar to its trace.
pub(super) const TRACE_ID: &str = "trace_id";

const SALT_EXEMPLAR: u64 = 7 << 40;

/// The rules of a profile.
#[derive(Debug)]
pub(super) struct Exemplars {
    seed: u64,
    share: Chance,
}

/// A series of a block that carries an exemplar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Position of its target in the block, and of itself in the target's recipes.
    pub(super) section: usize,
    pub(super) at: usize,
    pub(super) slot: u64,
    pub(super) trace_id: String,
}

impl Exemplars {
    pub(super) fn new(profile: &Profile, seed: u64) -> Exemplars {
        Exemplars { seed, share: Chance::new(profile.exemplar_share) }
    }

    pub(super) fn is_never(&self) -> bool {
        self.share.is_never()
    }

    /// Whether a series carries exemplars. Only what counts events has events to show.
    pub(super) fn has(&self, recipe: &Recipe, slot: u64) -> bool {
        let counts = recipe.metric_type == MetricType::Counter
            || matches!(recipe.role, Role::Bucket { .. } | Role::Native);
        counts && self.share.happens(under(self.seed ^ SALT_EXEMPLAR, slot))
    }
}

/// 128 bits in hexadecimal, as tracing has them.
pub(super) fn trace_id(hash: u64) -> String {
    format!("{:016x}{:016x}", mix(hash), mix(!hash))
}

/// Writes an exemplar as a field of a series; `labels` is its encoded label field.
pub(super) fn put_exemplar(
    protocol: Protocol,
    labels: &[u8],
    hash: u64,
    timestamp_ms: i64,
    out: &mut Vec<u8>,
) {
    let field = match protocol {
        Protocol::RemoteWrite1 => 3,
        Protocol::RemoteWrite2 => 4,
    };
    let mut content = labels.to_vec();
    // Up to four seconds, in milliseconds.
    put_double(2, (hash >> 52) as f64 / 1000.0, &mut content);
    put_key(3, 0, &mut content);
    put_varint(timestamp_ms as u64, &mut content);
    put_len(field, &content, out);
}
