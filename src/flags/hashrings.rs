//! What a Thanos hashring configuration asks for that one node without replication cannot give.

use std::collections::BTreeSet;

use serde::Deserialize;

/// One entry of hashrings.json; other fields do not matter here.
#[derive(Deserialize)]
struct Hashring {
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

/// An endpoint is an address, or an object that holds one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Endpoint {
    Address(String),
    Object { address: String },
}

/// The warning for this configuration, if samples are not where its author expects them.
pub fn warning(json: &str, local_endpoint: &str, replication_factor: u64) -> Option<String> {
    let hashrings: Vec<Hashring> = match serde_json::from_str(json) {
        Ok(hashrings) => hashrings,
        Err(error) => return Some(format!("the hashrings are not valid and have no effect: {error}")),
    };
    let endpoints: BTreeSet<String> = hashrings
        .into_iter()
        .flat_map(|hashring| hashring.endpoints)
        .map(|endpoint| match endpoint {
            Endpoint::Address(address) | Endpoint::Object { address } => address,
        })
        .collect();
    let others = endpoints.iter().filter(|endpoint| *endpoint != local_endpoint).count();
    if others == 0 && replication_factor <= 1 {
        return None;
    }
    Some(format!(
        "NO REPLICATION: the hashrings name {count} endpoints and --receive.replication-factor={replication_factor}, \
         but this version neither forwards nor replicates. Every sample that this node is sent is stored on this \
         node only, once; queries see only what is here. Send all data to one node, or the same data to each",
        count = endpoints.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hashring_of_this_node_alone_is_no_surprise() {
        let alone = r#"[{"hashring":"default","endpoints":["a:10901"]}]"#;
        let both = r#"[{"endpoints":["a:10901",{"address":"b:10901","az":"x"}]}]"#;
        assert_eq!(warning(alone, "a:10901", 1), None);
        assert_eq!(warning("[]", "", 1), None);
        assert!(warning(alone, "a:10901", 2).unwrap().contains("replication-factor=2"));
        assert!(warning(alone, "", 1).unwrap().contains("1 endpoints"));
        assert!(warning(both, "a:10901", 1).unwrap().contains("2 endpoints"));
        assert!(warning("{", "a", 1).unwrap().contains("not valid"));
    }
}
