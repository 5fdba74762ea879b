//! Which endpoint of the rings this node is.

use std::net::IpAddr;

use super::rings::{Endpoint, EndpointIndex, Rings};

/// The endpoint that this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Which one.
    pub index: EndpointIndex,
    /// Set if it was guessed.
    pub warning: Option<LocalWarning>,
}

/// The name that this node was given is not written as in the rings. Thanos Receive would keep nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalWarning {
    /// The host is the same.
    #[error(
        "--receive.local-endpoint={given} is taken for the endpoint {address} of the hashrings, whose host is the same: \
         write it as the hashrings do"
    )]
    OtherPort {
        /// What this node was told.
        given: String,
        /// The endpoint of the rings.
        address: String,
    },
    /// The first part of the host's name is the same.
    #[error(
        "--receive.local-endpoint={given} is taken for the endpoint {address} of the hashrings, the only one whose name \
         begins alike: write it as the hashrings do"
    )]
    OtherDomain {
        /// What this node was told.
        given: String,
        /// The endpoint of the rings.
        address: String,
    },
}

impl Rings {
    /// The endpoint that `--receive.local-endpoint` names: the same text, as in Thanos; else the only endpoint on
    /// that host; else the only one whose host begins with the same name. `None` if no endpoint is like that, or
    /// several are.
    pub fn local_endpoint(&self, given: &str) -> Option<LocalEndpoint> {
        let same_text = self.only(|endpoint| endpoint.address == given);
        if let Ok(index) = same_text.or_else(|_| self.only(|endpoint| endpoint.capnproto_address == given)) {
            return Some(LocalEndpoint { index, warning: None });
        }
        let host = host_of(given)?;
        let is_same =
            |text: Option<&str>, other: &str| text.is_some_and(|text| text.eq_ignore_ascii_case(other));
        let (index, is_same_host) = match self.only(|endpoint| is_same(host_of(&endpoint.address), host)) {
            Ok(index) => (index, true),
            Err(0) => {
                let name = first_label(host)?;
                let begins_alike =
                    |endpoint: &Endpoint| is_same(host_of(&endpoint.address).and_then(first_label), name);
                (self.only(begins_alike).ok()?, false)
            }
            Err(_) => return None,
        };
        let (given, address) = (given.to_owned(), self.endpoint(index).address.clone());
        let warning = match is_same_host {
            true => LocalWarning::OtherPort { given, address },
            false => LocalWarning::OtherDomain { given, address },
        };
        Some(LocalEndpoint { index, warning: Some(warning) })
    }

    /// The only endpoint that fulfils a condition, or how many do.
    fn only(&self, condition: impl Fn(&Endpoint) -> bool) -> Result<EndpointIndex, usize> {
        let mut found = self.indexed_endpoints().filter(|(_, endpoint)| condition(endpoint));
        match (found.next(), found.count()) {
            (Some((index, _)), 0) => Ok(index),
            (Some(_), more) => Err(1 + more),
            (None, _) => Err(0),
        }
    }
}

/// The host of an address with or without a port.
fn host_of(address: &str) -> Option<&str> {
    let host = match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        // More than one colon without brackets: an IPv6 address without a port.
        None if address.matches(':').count() > 1 => address,
        None => address.split(':').next()?,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// The first part of a name; the parts of an IP address name nothing.
fn first_label(host: &str) -> Option<&str> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    host.split('.').next().filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, RingOptions};
    use proptest::prelude::*;

    fn rings() -> Rings {
        let json = r#"[{"endpoints": [
            "thanos-receive-0.thanos-receive.monitoring.svc.cluster.local:10901",
            "thanos-receive-1.thanos-receive.monitoring.svc.cluster.local:10901",
            {"address": "host-a.example:10901", "capnproto_address": "host-a.example:5"},
            "10.0.0.1:10901", "10.0.0.2:10901", "10.0.0.2:10902", "[fd00::1]:10901",
            "db.one:1", "db.two:1", "plain"
        ]}, {"endpoints": ["10.0.0.1:10901"]}]"#;
        let options = RingOptions { algorithm: Algorithm::Hashmod, replication_factor: 2 };
        Rings::parse(json.as_bytes(), options).unwrap()
    }

    #[test]
    fn this_node_is_found_by_text_then_by_host_then_by_the_start_of_its_name() {
        let rings = rings();
        for (given, expected) in [
            (
                "thanos-receive-0.thanos-receive.monitoring.svc.cluster.local:10901",
                Some(("thanos-receive-0.t", "exact")),
            ),
            ("host-a.example:5", Some(("host-a", "exact"))),
            ("plain:19391", Some(("plain", "exact"))),
            ("10.0.0.2:10902", Some(("10.0.0.2:10902", "exact"))),
            (
                "thanos-receive-1.thanos-receive.monitoring.svc.cluster.local.:19291",
                Some(("thanos-receive-1.t", "port")),
            ),
            ("Host-A.example", Some(("host-a", "port"))),
            ("10.0.0.1", Some(("10.0.0.1", "port"))),
            ("[fd00::1]:19291", Some(("[fd00::1]", "port"))),
            ("fd00::1", Some(("[fd00::1]", "port"))),
            ("thanos-receive-0", Some(("thanos-receive-0.t", "domain"))),
            (
                "thanos-receive-1.thanos-receive-headless.monitoring.svc:10901",
                Some(("thanos-receive-1.t", "domain")),
            ),
            ("plain.example:1", Some(("plain", "domain"))),
            ("10.0.0.2:1", None),
            ("10.0.0.3:10901", None),
            ("127.0.0.1:10901", None),
            ("db", None),
            ("db.three:1", None),
            ("thanos-receive-2", None),
            ("thanos-receive", None),
            ("", None),
            (":10901", None),
            ("[", None),
            (".example", None),
        ] {
            let found = rings.local_endpoint(given);
            match (&found, expected) {
                (None, None) => {}
                (Some(local), Some((address, how))) => {
                    let found_address = rings.endpoint(local.index).address.as_str();
                    assert!(found_address.starts_with(address), "{given}: {found_address}");
                    let found_how = match &local.warning {
                        None => "exact",
                        Some(LocalWarning::OtherPort { .. }) => "port",
                        Some(LocalWarning::OtherDomain { .. }) => "domain",
                    };
                    assert_eq!(found_how, how, "{given}");
                    if let Some(warning) = &local.warning {
                        let text = warning.to_string();
                        assert!(text.contains(given) && text.contains(found_address), "{text}");
                    }
                }
                _ => panic!("{given}: {found:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_in_an_answer(given in "[a-z0-9.:\\[\\]☺-]{0,30}") {
            rings().local_endpoint(&given);
        }
    }
}
