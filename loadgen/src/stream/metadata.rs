//! The metadata message of remote write 1.0: type, help and unit of every metric, without any series.
//!
//! Remote write 2.0 has no such message; it carries the metadata with each series.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::catalogue::{Kind, metric_type, unit};
use super::families::Family;
use super::proto::{put_key, put_len, put_varint};

/// Encodes the families of some kinds of targets, each once. Those without a help text are Prometheus' own, for
/// which it has no metadata.
pub(super) fn encode(kinds: impl Iterator<Item = Kind>) -> Bytes {
    let families: BTreeMap<&str, &Family> =
        kinds.flat_map(Kind::all_families).map(|family| (family.name, family)).collect();
    let mut message = Vec::new();
    for family in families.into_values().filter(|family| !family.help.is_empty()) {
        let mut content = Vec::new();
        put_key(1, 0, &mut content);
        put_varint(metric_type(family.shape) as u64, &mut content);
        put_len(2, family.name.as_bytes(), &mut content);
        put_len(4, family.help.as_bytes(), &mut content);
        if !unit(family.name).is_empty() {
            put_len(5, unit(family.name).as_bytes(), &mut content);
        }
        put_len(3, &content, &mut message);
    }
    let body = snap::raw::Encoder::new().compress_vec(&message);
    body.expect("some hundred families stay far below 4 GiB").into()
}
