//! Placements that Thanos Receive computes, taken from its own code.

use super::key::PlacementHasher;
use super::rings::{Algorithm, RingOptions, Rings};
use crate::wire::canonical_label_bytes;

fn address(number: usize) -> String {
    format!("thanos-receive-{number}.thanos-receive.monitoring.svc.cluster.local:10901")
}

/// A ring of so many endpoints, with the zone of each if there are some.
fn ring(algorithm: Algorithm, replication_factor: usize, zones: &[&str]) -> Rings {
    let endpoints: Vec<_> = zones
        .iter()
        .enumerate()
        .map(|(number, zone)| serde_json::json!({"address": address(number), "az": zone}))
        .collect();
    let json = serde_json::json!([{"hashring": "default", "endpoints": endpoints}]).to_string();
    Rings::parse(json.as_bytes(), RingOptions { algorithm, replication_factor }).unwrap()
}

struct Vector {
    tenant: &'static str,
    labels: &'static [(&'static str, &'static str)],
    hash: u64,
    hashmod_of_2: [usize; 2],
    hashmod_of_4: [usize; 3],
    ketama_of_2: [usize; 2],
    ketama_of_4: [usize; 3],
    ketama_in_zones: [usize; 2],
}

const VECTORS: &[Vector] = &[
    Vector {
        tenant: "default-tenant",
        labels: &[
            ("__name__", "up"),
            ("cluster", "cluster-a"),
            ("instance", "10.0.0.1:9100"),
            ("job", "node"),
        ],
        hash: 0xf37c_de1f_c1e1_bd8d,
        hashmod_of_2: [1, 0],
        hashmod_of_4: [1, 2, 3],
        ketama_of_2: [1, 0],
        ketama_of_4: [2, 3, 1],
        ketama_in_zones: [2, 1],
    },
    Vector {
        tenant: "default-tenant",
        labels: &[
            ("__name__", "up"),
            ("cluster", "cluster-a"),
            ("instance", "10.0.0.4:9100"),
            ("job", "node"),
        ],
        hash: 0xf0dc_e06c_2f9d_a807,
        hashmod_of_2: [1, 0],
        hashmod_of_4: [3, 0, 1],
        ketama_of_2: [1, 0],
        ketama_of_4: [1, 0, 2],
        ketama_in_zones: [1, 2],
    },
    Vector {
        tenant: "default-tenant",
        labels: &[
            ("__name__", "node_load1"),
            ("cluster", "cluster-a"),
            ("instance", "10.0.0.1:9100"),
            ("job", "node"),
        ],
        hash: 0x7a1d_9ce7_7734_ba97,
        hashmod_of_2: [1, 0],
        hashmod_of_4: [3, 0, 1],
        ketama_of_2: [1, 0],
        ketama_of_4: [3, 1, 0],
        ketama_in_zones: [3, 1],
    },
    Vector {
        tenant: "default-tenant",
        labels: &[
            ("__name__", "http_requests_total"),
            ("cluster", "cluster-a"),
            ("code", "200"),
            ("instance", "10.0.0.3:8080"),
            ("job", "api"),
        ],
        hash: 0x531c_875f_2cfb_a99b,
        hashmod_of_2: [1, 0],
        hashmod_of_4: [3, 0, 1],
        ketama_of_2: [0, 1],
        ketama_of_4: [0, 1, 2],
        ketama_in_zones: [0, 2],
    },
    Vector {
        tenant: "team-a",
        labels: &[("__name__", "kube_node_info"), ("cluster", "cluster-a"), ("node", "worker-1")],
        hash: 0xfb75_55cf_a5ce_cb30,
        hashmod_of_2: [0, 1],
        hashmod_of_4: [0, 1, 2],
        ketama_of_2: [1, 0],
        ketama_of_4: [1, 0, 3],
        ketama_in_zones: [1, 3],
    },
    Vector {
        tenant: "default-tenant",
        labels: &[("__name__", "up")],
        hash: 0xa852_c2cd_9dd7_220e,
        hashmod_of_2: [0, 1],
        hashmod_of_4: [2, 3, 0],
        ketama_of_2: [1, 0],
        ketama_of_4: [2, 1, 0],
        ketama_in_zones: [2, 1],
    },
];

#[test]
fn the_hash_of_a_series_is_that_of_thanos() {
    for vector in VECTORS {
        let mut hasher = PlacementHasher::new(vector.tenant);
        assert_eq!(hasher.pairs(vector.labels.iter().copied()), vector.hash, "{:?}", vector.labels);
        assert_eq!(hasher.label_bytes(&canonical_label_bytes(vector.labels)), Ok(vector.hash));
    }
}

#[test]
fn series_are_placed_as_in_thanos() {
    type Expected = fn(&Vector) -> &[usize];
    let placements: [(Rings, Expected); 5] = [
        (ring(Algorithm::Hashmod, 2, &["", ""]), |vector| &vector.hashmod_of_2),
        (ring(Algorithm::Hashmod, 3, &["", "", "", ""]), |vector| &vector.hashmod_of_4),
        (ring(Algorithm::Ketama, 2, &["", ""]), |vector| &vector.ketama_of_2),
        (ring(Algorithm::Ketama, 3, &["", "", "", ""]), |vector| &vector.ketama_of_4),
        (ring(Algorithm::Ketama, 2, &["a", "a", "b", "b"]), |vector| &vector.ketama_in_zones),
    ];
    for (rings, expected) in &placements {
        for vector in VECTORS {
            let ring = rings.of_tenant(vector.tenant).unwrap();
            let expected: Vec<_> = expected(vector).iter().map(|number| address(*number)).collect();
            let replicas = ring.replicas(vector.hash).iter().map(|index| &rings.endpoint(*index).address);
            assert!(replicas.eq(&expected), "{:?} {:?}", ring.algorithm(), vector.labels);
        }
    }
}

#[test]
fn sections_have_the_hashes_of_thanos() {
    for (number, hash) in
        [(1, 0x2a51_a85e_7321_fe65), (2, 0x3f7b_51d6_74ea_290e), (1000, 0xba84_b6f8_24f2_b6d4)]
    {
        assert_eq!(xxhash_rust::xxh64::xxh64(format!("{}:{number}", address(0)).as_bytes(), 0), hash);
    }
}
