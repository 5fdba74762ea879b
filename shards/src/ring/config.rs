//! `hashrings.json` as it is written: fields and their types. What follows from them is decided in `rings`.
//!
//! It is read as Go's decoder reads it for Thanos: unknown fields do not matter, nor does the case of names, null is
//! like a field that is not there, and of a repeated field the last one counts.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{HashringsError, RingFault, RingLabel};

/// The most bytes that are read; a ConfigMap of Kubernetes cannot have more.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The most rings of a file. A tenant that is seen for the first time is looked for in each.
pub const RINGS_MAX: usize = 1000;

/// The most endpoints of a file, those of all rings added up. Under ketama each is 1000 sections of its ring.
pub const ENDPOINTS_MAX: usize = 1000;

/// The port of the Cap'n Proto protocol, for endpoints that do not name its address.
const CAPNPROTO_PORT: u16 = 19391;

/// One ring as it is written.
#[derive(Debug)]
pub struct RingConfig {
    pub label: RingLabel,
    pub tenants: Vec<String>,
    /// Empty if not given, as the algorithm is.
    pub tenant_matcher: String,
    pub endpoints: Vec<EndpointConfig>,
    pub algorithm: String,
    pub external_labels: BTreeMap<String, String>,
}

/// One endpoint as it is written.
#[derive(Debug)]
pub struct EndpointConfig {
    pub address: String,
    pub capnproto_address: String,
    /// Empty for the zone of those that name none.
    pub zone: String,
}

/// Reads a file.
pub fn parse(json: &[u8]) -> Result<Vec<RingConfig>, HashringsError> {
    if json.len() > FILE_BYTES_MAX {
        return Err(HashringsError::TooLarge { bytes: json.len() });
    }
    let file: Value =
        serde_json::from_slice(json).map_err(|error| HashringsError::Json(error.to_string()))?;
    let Value::Array(rings) = &file else {
        return Err(HashringsError::NotAnArray);
    };
    if rings.is_empty() {
        return Err(HashringsError::Empty);
    }
    if rings.len() > RINGS_MAX {
        return Err(HashringsError::TooManyRings { count: rings.len() });
    }
    let mut configs = Vec::with_capacity(rings.len());
    for (index, ring) in rings.iter().enumerate() {
        let Value::Object(fields) = ring else {
            return Err(HashringsError::NotAnArray);
        };
        let mut label = RingLabel { number: index + 1, name: String::new() };
        match read_ring(fields, &mut label) {
            Ok(config) => configs.push(config),
            Err(fault) => return Err(HashringsError::Ring { ring: label, fault }),
        }
    }
    let count = configs.iter().map(|config| config.endpoints.len()).sum();
    if count > ENDPOINTS_MAX {
        return Err(HashringsError::TooManyEndpoints { count });
    }
    Ok(configs)
}

/// Fills in the name first, so that what is wrong with the rest can be told with it.
fn read_ring(fields: &Map<String, Value>, label: &mut RingLabel) -> Result<RingConfig, RingFault> {
    label.name = text(fields, "hashring", "")?.to_owned();
    let tenants = list(fields, "tenants")?.iter().enumerate().map(|(index, tenant)| {
        let wrong = || wrong(format!("tenants[{index}]"), "a string");
        tenant.as_str().map(str::to_owned).ok_or_else(wrong)
    });
    let tenants = tenants.collect::<Result<_, _>>()?;
    let endpoints = list(fields, "endpoints")?;
    let endpoints = endpoints.iter().enumerate().map(|(index, endpoint)| read_endpoint(endpoint, index));
    let endpoints = endpoints.collect::<Result<_, _>>()?;
    refuse_shuffle_sharding(fields)?;
    Ok(RingConfig {
        label: label.clone(),
        tenants,
        tenant_matcher: text(fields, "tenant_matcher_type", "")?.to_owned(),
        endpoints,
        algorithm: text(fields, "algorithm", "")?.to_owned(),
        external_labels: read_labels(fields)?,
    })
}

fn read_endpoint(endpoint: &Value, index: usize) -> Result<EndpointConfig, RingFault> {
    let (address, capnproto_address, zone) = match endpoint {
        Value::String(address) => (address.as_str(), "", ""),
        Value::Object(fields) => {
            let path = format!("endpoints[{index}].");
            let get = |name| text(fields, name, &path);
            (get("address")?, get("capnproto_address")?, get("az")?)
        }
        _ => return Err(wrong(format!("endpoints[{index}]"), "an address or an object")),
    };
    if address.is_empty() {
        return Err(RingFault::NoAddress { field: format!("endpoints[{index}]") });
    }
    let capnproto_address = match capnproto_address {
        "" => format!("{}:{CAPNPROTO_PORT}", address.split(':').next().unwrap_or_default()),
        given => given.to_owned(),
    };
    Ok(EndpointConfig { address: address.to_owned(), capnproto_address, zone: zone.to_owned() })
}

fn read_labels(fields: &Map<String, Value>) -> Result<BTreeMap<String, String>, RingFault> {
    let field = "external_labels";
    let labels = object(fields, field)?.into_iter().flatten().map(|(name, value)| match value {
        Value::String(value) => Ok((name.clone(), value.clone())),
        _ => Err(wrong(format!("{field}[{name:?}]"), "a string")),
    });
    labels.collect()
}

/// Shuffle sharding is on where its shard size is above 0.
fn refuse_shuffle_sharding(fields: &Map<String, Value>) -> Result<(), RingFault> {
    let field = "shuffle_sharding_config";
    let Some(config) = object(fields, field)? else {
        return Ok(());
    };
    match get(config, "shard_size") {
        None => Ok(()),
        Some(size) => match size.as_i64() {
            Some(size) if size <= 0 => Ok(()),
            Some(_) => Err(RingFault::ShuffleSharding),
            None => Err(wrong(format!("{field}.shard_size"), "a whole number")),
        },
    }
}

fn get<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let in_another_case = || {
        let found = fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    };
    fields.get(name).or_else(in_another_case).filter(|value| !value.is_null())
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str, path: &str) -> Result<&'a str, RingFault> {
    let wrong = || wrong(format!("{path}{name}"), "a string");
    get(fields, name).map_or(Ok(""), |value| value.as_str().ok_or_else(wrong))
}

fn list<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], RingFault> {
    let wrong = || wrong(name.to_owned(), "an array");
    get(fields, name).map_or(Ok(&[]), |value| value.as_array().map(Vec::as_slice).ok_or_else(wrong))
}

fn object<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, RingFault> {
    let wrong = || wrong(name.to_owned(), "an object");
    get(fields, name).map(|value| value.as_object().ok_or_else(wrong)).transpose()
}

fn wrong(field: String, expected: &'static str) -> RingFault {
    RingFault::Field { field, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn all_fields_of_a_ring_are_read() {
        let json = r#"[
            {"hashring": "a", "tenants": ["x", "y*"], "tenant_matcher_type": "glob", "algorithm": "ketama",
             "endpoints": ["n0:10901", {"address": "n1:10901", "capnproto_address": "n1:1", "az": "z"}],
             "external_labels": {"region": "eu"}, "shuffle_sharding_config": {"shard_size": 0, "cache_size": 5},
             "comment": [1, 2]},
            {"Endpoints": [{"Address": "n2"}], "tenants": null, "shuffle_sharding_config": null}
        ]"#;
        let [a, b] = &parse(json.as_bytes()).unwrap()[..] else { panic!("two rings") };
        assert_eq!((a.label.number, a.label.name.as_str()), (1, "a"));
        assert_eq!((a.tenants.len(), a.tenant_matcher.as_str(), a.algorithm.as_str()), (2, "glob", "ketama"));
        assert_eq!(a.endpoints[0].capnproto_address, "n0:19391");
        assert_eq!((a.endpoints[1].capnproto_address.as_str(), a.endpoints[1].zone.as_str()), ("n1:1", "z"));
        assert_eq!(a.external_labels["region"], "eu");
        assert_eq!((b.endpoints[0].address.as_str(), b.tenants.len()), ("n2", 0));
    }

    #[test]
    fn a_mistake_is_named_with_its_ring_and_field() {
        for (json, expected) in [
            ("", "not JSON"),
            ("[{]", "not JSON"),
            ("null", "must be a JSON array"),
            ("{}", "must be a JSON array"),
            ("[1]", "must be a JSON array"),
            ("[]", "there are no hashrings"),
            (r#"[{"endpoints": "n0"}]"#, "hashring 1: endpoints must be an array"),
            (
                r#"[{"endpoints": ["n0"]}, {"hashring": "b", "endpoints": [""]}]"#,
                r#"hashring 2 ("b"): endpoints[0]"#,
            ),
            (r#"[{"endpoints": [{"az": "z"}]}]"#, "hashring 1: endpoints[0] is empty"),
            (r#"[{"endpoints": ["n0", 5]}]"#, "endpoints[1] must be an address or an object"),
            (r#"[{"endpoints": [{"address": "n0", "az": 1}]}]"#, "endpoints[0].az must be a string"),
            (r#"[{"tenants": [1]}]"#, "tenants[0] must be a string"),
            (r#"[{"hashring": 1}]"#, "hashring must be a string"),
            (r#"[{"algorithm": []}]"#, "algorithm must be a string"),
            (r#"[{"external_labels": {"a": 1}}]"#, r#"external_labels["a"] must be a string"#),
            (r#"[{"shuffle_sharding_config": {"shard_size": 2}}]"#, "shuffle sharding is not supported"),
            (r#"[{"shuffle_sharding_config": {"shard_size": 1e99}}]"#, "shard_size must be a whole number"),
        ] {
            let text = message(json);
            assert!(text.contains(expected), "{json}: {text}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_takes_memory() {
        assert!(message(&" ".repeat(FILE_BYTES_MAX + 1)).contains("at most 1048576"));
        assert!(message(&format!("[{}{{}}]", "{},".repeat(RINGS_MAX))).contains("1001 hashrings"));
        let ring = format!(r#"{{"endpoints": [{}"n"]}}"#, r#""n","#.repeat(599));
        assert!(message(&format!("[{ring},{ring}]")).contains("1200 endpoints"));
        assert!(message(&"[".repeat(100_000)).contains("not JSON"));
    }
}
