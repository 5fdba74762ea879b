//! What a new file changes, in words for the log.

use std::fmt;

use super::rings::{Endpoint, Rings};

/// Addresses that are written out; of more only the number is told.
const NAMED_MAX: usize = 5;

/// What distinguishes new rings from those before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingsDifference {
    /// Addresses that are in no ring of the old ones.
    pub added: Vec<String>,
    /// Addresses that are in no ring of the new ones.
    pub removed: Vec<String>,
    /// Whether any series may be placed differently, for whatever reason.
    pub moves_series: bool,
}

impl Rings {
    /// What newer rings change.
    pub fn difference(&self, newer: &Rings) -> RingsDifference {
        RingsDifference {
            added: missing(newer.endpoints(), self.endpoints()),
            removed: missing(self.endpoints(), newer.endpoints()),
            moves_series: self.fingerprint() != newer.fingerprint(),
        }
    }
}

/// Both are in the order of their addresses.
fn missing(all: &[Endpoint], known: &[Endpoint]) -> Vec<String> {
    let is_known = |one: &&Endpoint| known.binary_search_by(|other| other.address.cmp(&one.address)).is_ok();
    all.iter().filter(|one| !is_known(one)).map(|one| one.address.clone()).collect()
}

impl fmt::Display for RingsDifference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (added, removed) = (self.added.len(), self.removed.len());
        match (added, removed) {
            (0, 0) if self.moves_series => {
                return out.write_str("the same endpoints, but series are placed differently");
            }
            (0, 0) => return out.write_str("the same endpoints, and all series stay where they are"),
            (0, _) => write!(out, "{} removed", endpoints(removed))?,
            (_, 0) => write!(out, "{} added", endpoints(added))?,
            _ => write!(out, "{} added, {removed} removed", endpoints(added))?,
        }
        let named = self.added.iter().map(|address| ('+', address));
        let named = named.chain(self.removed.iter().map(|address| ('-', address)));
        for (index, (sign, address)) in named.take(NAMED_MAX).enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(out, "{before}{sign}{address}")?;
        }
        match (added + removed).saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

fn endpoints(count: usize) -> String {
    format!("{count} endpoint{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, RingOptions};

    fn rings(json: &str) -> Rings {
        let options = RingOptions { algorithm: Algorithm::Ketama, replication_factor: 1 };
        Rings::parse(json.as_bytes(), options).unwrap()
    }

    #[test]
    fn a_change_is_told_in_words() {
        let old = rings(r#"[{"endpoints": ["n0:1", "n1:1", "n2:1"]}]"#);
        for (newer, expected) in [
            (
                r#"[{"endpoints": ["n2:1", "n1:1", "n0:1"]}]"#,
                "the same endpoints, and all series stay where they are",
            ),
            (
                r#"[{"endpoints": ["n0:1", "n1:1", "n2:1"], "algorithm": "hashmod"}]"#,
                "the same endpoints, but series are placed differently",
            ),
            (r#"[{"endpoints": ["n0:1", "n1:1"]}]"#, "1 endpoint removed: -n2:1"),
            (r#"[{"endpoints": ["n0:1", "n1:1", "n2:1", "n3:1"]}]"#, "1 endpoint added: +n3:1"),
            (
                r#"[{"endpoints": ["n0:1", "n1:1", "n3:1", "n4:1"]}]"#,
                "2 endpoints added, 1 removed: +n3:1, +n4:1, -n2:1",
            ),
            (
                r#"[{"endpoints": ["a", "b", "c", "d"]}]"#,
                "4 endpoints added, 3 removed: +a, +b, +c, +d, -n0:1 and 2 more",
            ),
        ] {
            assert_eq!(old.difference(&rings(newer)).to_string(), expected);
        }
    }
}
