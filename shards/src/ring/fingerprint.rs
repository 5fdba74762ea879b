//! Two numbers that stand for rings: one for what they do, one for how they are written.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh64::Xxh64;

use super::rings::{Algorithm, Endpoint, Ring};
use super::tenants::TenantSet;

/// To be changed with what is hashed: nodes of different versions then see that they cannot compare.
const VERSION: u64 = 1;

/// See [`super::Rings::fingerprint`].
pub fn fingerprint(rings: &[Ring], endpoints: &[Endpoint], replication_factor: usize) -> u64 {
    let mut hash = Parts(Xxh64::new(0));
    hash.number(VERSION);
    hash.number(replication_factor as u64);
    hash.number(rings.len() as u64);
    for ring in rings {
        hash.number(match ring.algorithm {
            Algorithm::Hashmod => 0,
            Algorithm::Ketama => 1,
        });
        hash.number(match ring.tenants {
            TenantSet::All => 0,
            TenantSet::Exact(_) => 1,
            TenantSet::Globs { .. } => 2,
            TenantSet::Nobody(_) => 3,
        });
        // A list that nobody matches does nothing, whatever is in it.
        let listed = ring.tenants.listed().filter(|_| !matches!(ring.tenants, TenantSet::Nobody(_)));
        hash.number(listed.map_or(0, |listed| listed.len()) as u64);
        for tenant in listed.into_iter().flatten() {
            hash.text(tenant);
        }
        hash.number(ring.members.len() as u64);
        for member in &ring.members {
            hash.text(&endpoints[member.index.as_usize()].address);
            hash.number(member.zone as u64);
        }
    }
    hash.0.digest()
}

/// Hashes parts so that no two lists of them are the same bytes.
struct Parts(Xxh64);

impl Parts {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }
}

/// The value of `thanos_receive_config_hash` for the content of a file: 48 bits, which a float holds exactly.
pub fn config_hash(content: &[u8]) -> u64 {
    let digest = Sha256::digest(content);
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&digest[..6]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{RingOptions, Rings};

    fn fingerprint(json: &str, replication_factor: usize) -> u64 {
        let options = RingOptions { algorithm: Algorithm::Hashmod, replication_factor };
        Rings::parse(json.as_bytes(), options).unwrap().fingerprint()
    }

    const BASE: &str = r#"[{"hashring": "a", "tenants": ["x", "y"], "algorithm": "ketama", "external_labels": {"l": "v"},
        "endpoints": [{"address": "n0", "az": "p"}, {"address": "n1", "az": "q"}, {"address": "n2", "az": "p"}]},
        {"endpoints": ["n3", "n4"]}]"#;

    #[test]
    fn what_places_no_series_does_not_change_the_fingerprint() {
        let base = fingerprint(BASE, 2);
        let p_and_q = BASE.replace("\"p\"", "\"zone\"").replace("\"q\"", "\"a zone\"");
        let reordered =
            BASE.replace(r#"["n3", "n4"]"#, r#"["n4", {"address": "n3", "capnproto_address": "n3:1"}]"#);
        let names = BASE.replace("\"a\"", "\"b\"").replace("\"v\"", "\"w\"");
        let tenants = BASE.replace(r#"["x", "y"]"#, r#"["y", "x", "y"]"#);
        let matcher = BASE.replace(r#""hashring""#, r#""tenant_matcher_type": "exact", "hashring""#);
        let algorithm = BASE.replace(r#"{"endpoints""#, r#"{"algorithm": "hashmod", "endpoints""#);
        for same in [p_and_q, reordered, names, tenants, matcher, algorithm] {
            assert_ne!(same, BASE);
            assert_eq!(fingerprint(&same, 2), base, "{same}");
        }
    }

    #[test]
    fn what_places_series_changes_the_fingerprint() {
        let mut seen = vec![fingerprint(BASE, 2), fingerprint(BASE, 1)];
        for (from, to) in [
            (r#"["x", "y"]"#, r#"["x"]"#),
            (r#"["x", "y"]"#, r#"["xy"]"#),
            (r#"["x", "y"]"#, "[]"),
            (r#""hashring""#, r#""tenant_matcher_type": "glob", "hashring""#),
            (r#""hashring""#, r#""tenant_matcher_type": "prefix", "hashring""#),
            (r#"{"endpoints""#, r#"{"algorithm": "ketama", "endpoints""#),
            ("n1", "n5"),
            (r#""az": "q""#, r#""az": "p""#),
            (r#"["n3", "n4"]"#, r#"["n3", "n4", "n5"]"#),
            (r#"["n3", "n4"]"#, r#"["n3n4"]"#),
            (r#"{"endpoints": ["n3", "n4"]}"#, r#"{"endpoints": ["n3", "n4"]}, {"endpoints": ["n3", "n4"]}"#),
        ] {
            let changed = BASE.replace(from, to);
            let fingerprint = fingerprint(&changed, 2);
            assert!(!seen.contains(&fingerprint), "{changed}");
            seen.push(fingerprint);
        }
    }

    #[test]
    fn the_config_hash_is_the_start_of_sha_256() {
        // SHA-256 of "abc" begins with ba 78 16 bf 8f 01 (FIPS 180-2, B.1).
        assert_eq!(config_hash(b"abc"), 0x018f_bf16_78ba);
    }
}
