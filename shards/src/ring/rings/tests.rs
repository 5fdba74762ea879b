//! Properties of placement, against a slow reference that follows the description word by word.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use xxhash_rust::xxh64::xxh64;

use super::*;

fn parse(json: &str, replication_factor: usize) -> Result<Rings, HashringsError> {
    Rings::parse(json.as_bytes(), RingOptions { algorithm: Algorithm::Ketama, replication_factor })
}

fn message(json: &str, replication_factor: usize) -> String {
    parse(json, replication_factor).unwrap_err().to_string()
}

/// Addresses with their zones.
type Nodes = Vec<(String, String)>;

fn ring_of(nodes: &Nodes, algorithm: Algorithm, replication_factor: usize) -> Result<Rings, HashringsError> {
    let endpoints: Vec<_> =
        nodes.iter().map(|(address, zone)| serde_json::json!({"address": address, "az": zone})).collect();
    let json = serde_json::json!([{ "endpoints": endpoints }]).to_string();
    Rings::parse(json.as_bytes(), RingOptions { algorithm, replication_factor })
}

fn replicas(rings: &Rings, hash: u64) -> Vec<String> {
    let replicas = rings.rings()[0].replicas(hash).iter();
    replicas.map(|index| rings.endpoint(*index).address.clone()).collect()
}

fn slow_ketama(nodes: &Nodes, replication_factor: usize, hash: u64) -> Vec<String> {
    let mut sections = Vec::new();
    for (address, zone) in nodes {
        for number in 1..=1000 {
            sections.push((xxh64(format!("{address}:{number}").as_bytes(), 0), address, zone));
        }
    }
    sections.sort();
    let mut at = sections.iter().position(|section| section.0 >= hash).unwrap_or(0);
    let mut per_zone: HashMap<&String, usize> = nodes.iter().map(|(_, zone)| (zone, 0)).collect();
    let mut taken: Vec<String> = Vec::new();
    while taken.len() < replication_factor.min(nodes.len()) {
        let (_, address, zone) = sections[at];
        at = (at + 1) % sections.len();
        let fewest = *per_zone.values().min().unwrap();
        let is_ahead = per_zone.len() > 1 && per_zone[zone] > 0 && per_zone[zone] > fewest;
        if !taken.contains(address) && !is_ahead {
            taken.push(address.clone());
            *per_zone.get_mut(zone).unwrap() += 1;
        }
    }
    taken
}

fn nodes(zones: &'static [&'static str]) -> impl Strategy<Value = Nodes> {
    let addresses = proptest::collection::btree_set("[a-z]{1,8}:[0-9]{2}", 1..7);
    let zone = prop::sample::select(zones);
    addresses.prop_flat_map(move |addresses| {
        let count = addresses.len();
        let zones = proptest::collection::vec(zone.clone(), count);
        zones.prop_map(move |zones| {
            addresses.iter().cloned().zip(zones.into_iter().map(str::to_owned)).collect()
        })
    })
}

/// Random hashes, and the ends of their range.
fn hashes() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(any::<u64>(), 30).prop_map(|mut hashes| {
        hashes.extend([0, 1, u64::MAX - 1, u64::MAX]);
        hashes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ketama_is_what_the_slow_reference_says(
        nodes in nodes(&["", "a", "b", "c"]), factor in 1..5usize, hashes in hashes(),
    ) {
        let Ok(rings) = ring_of(&nodes, Algorithm::Ketama, factor) else {
            // Only zones can be wrong here: the reference would not end.
            return Ok(());
        };
        for hash in hashes {
            let replicas = replicas(&rings, hash);
            prop_assert_eq!(&replicas, &slow_ketama(&nodes, factor, hash), "{:x}", hash);
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor.min(nodes.len()));
            let mut per_zone: HashMap<&String, usize> = nodes.iter().map(|(_, zone)| (zone, 0)).collect();
            for (address, zone) in &nodes {
                *per_zone.get_mut(zone).unwrap() += usize::from(replicas.contains(address));
            }
            let (fewest, most) = (per_zone.values().min().unwrap(), per_zone.values().max().unwrap());
            prop_assert!(most - fewest <= 1, "{:?}", per_zone);
        }
    }

    #[test]
    fn hashmod_is_what_the_description_says(nodes in nodes(&[""]), factor in 1..5usize, hashes in hashes()) {
        let rings = ring_of(&nodes, Algorithm::Hashmod, factor).unwrap();
        let mut addresses: Vec<_> = nodes.iter().map(|(address, _)| address.clone()).collect();
        addresses.sort();
        let count = addresses.len();
        for hash in hashes {
            let replicas = replicas(&rings, hash);
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor.min(count));
            for (n, replica) in replicas.iter().enumerate() {
                if let Some(sum) = hash.checked_add(n as u64) {
                    prop_assert_eq!(replica, &addresses[(sum % count as u64) as usize]);
                }
            }
        }
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter(
        nodes in nodes(&["", "a"]), seed in any::<u64>(), factor in 1..4usize, hashes in hashes(),
    ) {
        let mut shuffled = nodes.clone();
        shuffled.sort_by_key(|(address, _)| xxh64(address.as_bytes(), seed));
        match (ring_of(&nodes, Algorithm::Ketama, factor), ring_of(&shuffled, Algorithm::Ketama, factor)) {
            (Ok(a), Ok(b)) => {
                prop_assert_eq!(a.fingerprint(), b.fingerprint());
                for hash in hashes {
                    prop_assert_eq!(replicas(&a, hash), replicas(&b, hash));
                }
            }
            (a, b) => prop_assert_eq!(a.err(), b.err()),
        }
    }

    #[test]
    fn an_endpoint_that_comes_or_goes_moves_only_its_share(
        nodes in nodes(&[""]), factor in 1..4usize, seed in any::<u64>(),
    ) {
        let mut more = nodes.clone();
        more.push(("new:1".into(), String::new()));
        let old = ring_of(&nodes, Algorithm::Ketama, factor).unwrap();
        let new = ring_of(&more, Algorithm::Ketama, factor).unwrap();
        let mut moved = 0;
        const TRIES: usize = 1000;
        for number in 0..TRIES {
            let hash = xxh64(&number.to_le_bytes(), seed);
            let (before, after) = (replicas(&old, hash), replicas(&new, hash));
            let mut stayed = after.clone();
            stayed.retain(|address| address != "new:1");
            prop_assert_eq!(&stayed[..], &before[..stayed.len()]);
            moved += usize::from(stayed.len() < after.len());
        }
        let share = TRIES * factor.min(more.len()) / more.len();
        prop_assert!(moved.abs_diff(share) <= TRIES / 10, "{} moved, not {}", moved, share);
    }
}

#[test]
fn zones_are_refused_exactly_when_the_walk_would_not_end() {
    for (zones, factor, is_possible) in [
        ("abbb", 3, true),
        ("abbb", 4, false),
        ("aabbb", 5, true),
        ("abc", 3, true),
        ("abcc", 4, true),
        ("abccc", 5, false),
        ("aaaa", 4, true),
        ("abbb", 5, false),
    ] {
        let nodes: Nodes = zones
            .chars()
            .enumerate()
            .map(|(number, zone)| (format!("n{number}"), zone.to_string()))
            .collect();
        let rings = ring_of(&nodes, Algorithm::Ketama, factor);
        assert_eq!(rings.is_ok(), is_possible, "{zones} {factor}");
        if let Err(error) = rings {
            assert!(error.to_string().contains("zone \"a\" has only 1 of the endpoints"), "{error}");
        }
    }
}

#[test]
fn impossible_rings_are_refused_with_the_reason() {
    for (json, factor, expected) in [
        (r#"[{"endpoints": []}]"#, 1, "hashring 1: it has no endpoints"),
        (r#"[{}]"#, 1, "hashring 1: it has no endpoints"),
        (
            r#"[{"hashring": "x", "endpoints": ["n0", "n1", {"address": "n0"}]}]"#,
            1,
            r#"hashring 1 ("x"): the endpoint "n0" is listed twice"#,
        ),
        (
            r#"[{"algorithm": "hashmod", "endpoints": ["n0", {"address": "n1", "az": "z"}]}]"#,
            1,
            r#"the endpoint "n1" has a zone, which hashmod does not look at"#,
        ),
        (r#"[{"algorithm": "ketamer", "endpoints": [{"address": "n1", "az": "z"}]}]"#, 1, "which hashmod"),
        (
            r#"[{"endpoints": ["n0"]}, {"tenant_matcher_type": "glob", "tenants": ["a", "[b"], "endpoints": ["n0"]}]"#,
            1,
            r#"hashring 2: the tenant pattern "[b" is malformed: a class has no closing bracket"#,
        ),
        (r#"[{"endpoints": ["n0"]}]"#, 0, "the replication factor is 0"),
        (r#"[{"endpoints": ["n0"]}]"#, 33, "must be from 1 to 32"),
    ] {
        let text = message(json, factor);
        assert!(text.contains(expected), "{json}: {text}");
    }
}

#[test]
fn doubtful_rings_are_used_with_a_warning() {
    let json = r#"[
        {"hashring": "a", "tenants": ["x"], "endpoints": ["n0", "n1"], "algorithm": "ketamer"},
        {"tenants": ["y"], "tenant_matcher_type": "regex", "endpoints": ["n0", "n1", "n2"]},
        {"hashring": "all", "endpoints": ["n0", "n1", "n2"]},
        {"tenants": ["z"], "endpoints": ["n0", "n1", "n2"]}
    ]"#;
    let rings = parse(json, 3).unwrap();
    let warnings: Vec<_> = rings.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            r#"hashring 1 ("a") has the unknown algorithm "ketamer": hashmod is used, as in Thanos"#,
            r#"hashring 1 ("a") has 2 endpoints for a replication factor of 3: each series is kept 2 times only"#,
            r#"hashring 2 has the unknown tenant_matcher_type "regex": no tenant matches it, as in Thanos; write "exact" or "glob""#,
            r#"hashring 4 is never used: hashring 3 ("all") comes before it and takes all tenants"#,
        ]
    );
    let ring = rings.of_tenant("x").unwrap();
    assert_eq!((ring.algorithm(), ring.replica_count(), ring.replicas(7).len()), (Algorithm::Hashmod, 2, 2));
    assert_eq!(rings.of_tenant("y").unwrap().label().name, "all");
}

#[test]
fn the_first_ring_that_takes_a_tenant_wins() {
    let json = r#"[
        {"hashring": "exact", "tenants": ["team-a", "team-*"], "endpoints": ["n0"], "external_labels": {"l": "1"}},
        {"hashring": "glob", "tenants": ["team-?", "x"], "tenant_matcher_type": "glob", "endpoints": ["n1"],
         "external_labels": {"l": "2"}},
        {"hashring": "last", "tenants": ["team-bb", "x"], "endpoints": ["n0", "n2"], "external_labels": {"l": "3"}}
    ]"#;
    let rings = parse(json, 1).unwrap();
    let of = |tenant| rings.of_tenant(tenant).map(|ring| ring.label().name.as_str());
    assert_eq!(of("team-a"), Some("exact"));
    assert_eq!(of("team-*"), Some("exact"));
    assert_eq!(of("team-b"), Some("glob"));
    assert_eq!(of("team-bb"), Some("last"));
    assert_eq!(of("other"), None);
    let label = |tenant| rings.external_labels(tenant).map(|labels| labels["l"].as_str());
    assert_eq!(
        (label("team-a"), label("team-b"), label("team-?"), label("x")),
        (Some("1"), None, Some("2"), Some("2"))
    );
    let addresses: Vec<_> = rings.endpoints().iter().map(|endpoint| endpoint.address.as_str()).collect();
    assert_eq!(addresses, ["n0", "n1", "n2"]);
    let last: Vec<_> = rings.rings()[2].endpoints().map(EndpointIndex::as_usize).collect();
    assert_eq!((last, rings.rings()[2].tenant_count()), (vec![0, 2], 2));
}

#[test]
fn a_ring_of_the_largest_size_is_built() {
    let nodes: Nodes = (0..ENDPOINTS_MAX).map(|number| (format!("n{number}"), String::new())).collect();
    let rings = ring_of(&nodes, Algorithm::Ketama, 3).unwrap();
    let mut counts = vec![0; ENDPOINTS_MAX];
    for number in 0..100_000u64 {
        for index in rings.rings()[0].replicas(xxh64(&number.to_le_bytes(), 0)) {
            counts[index.as_usize()] += 1;
        }
    }
    assert!(counts.iter().all(|count| (100..600).contains(count)), "{counts:?}");
}

const FILE: &str = r#"[{"hashring": "a", "tenants": ["x", "y*[a-z]"], "tenant_matcher_type": "glob", "algorithm": "ketama",
    "endpoints": ["n0:1", {"address": "n1:1", "capnproto_address": "n1:2", "az": ""}], "external_labels": {"l": "v"},
    "shuffle_sharding_config": {"shard_size": 0}}, {"algorithm": "hashmod", "endpoints": ["n0:1", "n2:1"]}]"#;

const NAMES: &[&str] = &[
    "hashring",
    "tenants",
    "tenant_matcher_type",
    "endpoints",
    "address",
    "az",
    "algorithm",
    "Endpoints",
    "external_labels",
    "shuffle_sharding_config",
    "shard_size",
];

const TEXTS: &[&str] = &["", "n0:1", "n1:1", "glob", "exact", "ketama", "hashmod", "[", "a*"];

/// JSON of any form, with names that mean something.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        any::<bool>().prop_map(Into::into),
        prop::sample::select(TEXTS).prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(prop::sample::select(NAMES), inner, 0..5).prop_map(|fields| {
                let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
                serde_json::Value::Object(fields.collect())
            }),
        ]
    })
}

/// What must hold for whatever was read.
fn use_rings(rings: &Rings) {
    for ring in rings.rings() {
        for hash in [0, 1 << 40, u64::MAX] {
            assert_eq!(ring.replicas(hash).len(), ring.replica_count());
        }
    }
    let _ = (rings.of_tenant("yb"), rings.local_endpoint("n0"), rings.external_labels("x"));
    assert_eq!(rings.difference(rings).to_string(), "the same endpoints, and all series stay where they are");
}

proptest! {
    #[test]
    fn a_damaged_file_is_an_error_or_other_rings(at in 0..FILE.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = FILE.as_bytes().to_vec();
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(rings) = parse(&String::from_utf8_lossy(&bytes), 2) {
            use_rings(&rings);
        }
    }

    #[test]
    fn json_of_any_form_is_an_error_or_rings(file in proptest::collection::vec(any_json(), 0..3), factor in 0..4usize) {
        if let Ok(rings) = parse(&serde_json::Value::from(file).to_string(), factor) {
            use_rings(&rings);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let options = RingOptions { algorithm: Algorithm::Hashmod, replication_factor: 1 };
        let _ = Rings::parse(&bytes, options);
    }
}
