//! The rings of one file, checked and ready to place series.

use std::collections::BTreeMap;

use super::config::{self, ENDPOINTS_MAX, EndpointConfig, RingConfig};
use super::error::{HashringsError, RingFault, RingLabel, RingWarning};
use super::fingerprint::fingerprint;
use super::hashmod::Hashmod;
use super::ketama::{Ketama, spreadable_replicas};
use super::tenants::TenantSet;

/// The most copies of a series. Each takes memory in every section of a ring.
pub const REPLICATION_FACTOR_MAX: usize = 32;

const _: () = assert!(ENDPOINTS_MAX <= u16::MAX as usize, "the index of an endpoint has two bytes");

/// How a ring places series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// By remainder: all series move when the number of endpoints changes.
    Hashmod,
    /// By consistent hashing.
    Ketama,
}

impl Algorithm {
    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        [Algorithm::Hashmod, Algorithm::Ketama].into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hashmod => "hashmod",
            Algorithm::Ketama => "ketama",
        }
    }
}

/// What flags say about all rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOptions {
    /// For rings that name none.
    pub algorithm: Algorithm,
    /// How many copies of each series there should be.
    pub replication_factor: usize,
}

/// The place of an endpoint in [`Rings::endpoints`]. It holds for these rings only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointIndex(u16);

impl EndpointIndex {
    /// For lists beside that of the endpoints.
    #[inline]
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }
}

/// A receiver of some ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port, as the file has them.
    pub address: String,
    /// Where Thanos would speak Cap'n Proto with it; used to recognise this node only.
    pub capnproto_address: String,
}

/// All rings of a file, in its order.
#[derive(Debug)]
pub struct Rings {
    rings: Vec<Ring>,
    /// Of all rings, each once, in the order of their addresses.
    endpoints: Vec<Endpoint>,
    warnings: Vec<RingWarning>,
    fingerprint: u64,
}

impl Rings {
    /// Reads the content of `hashrings.json`. It takes a millisecond for each endpoint under ketama, and seconds for
    /// a ring of hundreds with one tiny zone: not for the thread of a shard.
    pub fn parse(json: &[u8], options: RingOptions) -> Result<Rings, HashringsError> {
        let replication_factor = options.replication_factor;
        if !(1..=REPLICATION_FACTOR_MAX).contains(&replication_factor) {
            return Err(HashringsError::ReplicationFactor { given: replication_factor });
        }
        let configs = config::parse(json)?;
        let endpoints = distinct_endpoints(&configs);
        let mut rings: Vec<Ring> = Vec::with_capacity(configs.len());
        let mut warnings = Vec::new();
        for config in configs {
            if let Some(taker) = rings.iter().find(|ring| matches!(ring.tenants, TenantSet::All)) {
                let (ring, taker) = (config.label.clone(), taker.label.clone());
                warnings.push(RingWarning::NeverUsed { ring, taker });
            }
            let label = config.label.clone();
            let ring = Ring::new(config, &endpoints, options, &mut warnings);
            rings.push(ring.map_err(|fault| HashringsError::Ring { ring: label, fault })?);
        }
        let fingerprint = fingerprint(&rings, &endpoints, replication_factor);
        Ok(Rings { rings, endpoints, warnings, fingerprint })
    }

    /// The ring of a tenant: the first one that takes it. It is worth keeping with what else is known of the tenant.
    pub fn of_tenant(&self, tenant: &str) -> Option<&Ring> {
        self.rings.iter().find(|ring| ring.tenants.takes(tenant))
    }

    /// All rings.
    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }

    /// The endpoints of all rings, each once, in the order of their addresses.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// One of them.
    pub fn endpoint(&self, index: EndpointIndex) -> &Endpoint {
        &self.endpoints[index.as_usize()]
    }

    /// All of them with their indices.
    pub fn indexed_endpoints(&self) -> impl Iterator<Item = (EndpointIndex, &Endpoint)> {
        self.endpoints.iter().enumerate().map(|(index, endpoint)| (EndpointIndex(index as u16), endpoint))
    }

    /// What an operator should know.
    pub fn warnings(&self) -> &[RingWarning] {
        &self.warnings
    }

    /// The same number for all rings that place every series of every tenant alike, and another one for others. The
    /// order of endpoints, the names of rings and zones and the external labels do not count.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The labels that the blocks of a tenant get: those of the first ring that lists it. Patterns do not list anyone.
    pub fn external_labels(&self, tenant: &str) -> Option<&BTreeMap<String, String>> {
        let lists = |ring: &&Ring| ring.tenants.listed().is_some_and(|listed| listed.contains(tenant));
        self.rings.iter().find(lists).map(|ring| &ring.external_labels)
    }
}

/// A ring: some tenants, and the endpoints that share their series.
#[derive(Debug)]
pub struct Ring {
    pub(super) label: RingLabel,
    pub(super) tenants: TenantSet,
    pub(super) algorithm: Algorithm,
    pub(super) members: Vec<Member>,
    external_labels: BTreeMap<String, String>,
    replica_count: usize,
    placement: Placement,
}

/// An endpoint of a ring.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub index: EndpointIndex,
    /// Zones are numbered as they come, so that their names do not matter.
    pub zone: usize,
}

#[derive(Debug)]
enum Placement {
    Hashmod(Hashmod),
    Ketama(Ketama),
}

impl Ring {
    fn new(
        config: RingConfig,
        endpoints: &[Endpoint],
        options: RingOptions,
        warnings: &mut Vec<RingWarning>,
    ) -> Result<Ring, RingFault> {
        let label = config.label;
        let algorithm = match config.algorithm.as_str() {
            "" => options.algorithm,
            name => Algorithm::from_name(name).unwrap_or_else(|| {
                let algorithm = name.to_owned();
                warnings.push(RingWarning::UnknownAlgorithm { ring: label.clone(), algorithm });
                Algorithm::Hashmod
            }),
        };
        let tenants = match config.tenant_matcher.as_str() {
            "glob" => TenantSet::globs(config.tenants)?,
            "" | "exact" => TenantSet::exact(config.tenants),
            _ if config.tenants.is_empty() => TenantSet::All,
            matcher => {
                let matcher = matcher.to_owned();
                warnings.push(RingWarning::UnknownMatcher { ring: label.clone(), matcher });
                TenantSet::Nobody(config.tenants.into_iter().collect())
            }
        };
        let mut ring_endpoints = config.endpoints;
        ring_endpoints.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        if ring_endpoints.is_empty() {
            return Err(RingFault::NoEndpoints);
        }
        if let Some(pair) = ring_endpoints.windows(2).find(|pair| pair[0].address == pair[1].address) {
            return Err(RingFault::Repeated { address: pair[0].address.clone() });
        }
        let replica_count = options.replication_factor.min(ring_endpoints.len());
        if replica_count < options.replication_factor {
            warnings.push(RingWarning::UnderReplicated {
                ring: label.clone(),
                endpoint_count: ring_endpoints.len(),
                replication_factor: options.replication_factor,
            });
        }
        let members = members(&ring_endpoints, endpoints);
        let placement = match algorithm {
            Algorithm::Hashmod => {
                if let Some(endpoint) = ring_endpoints.iter().find(|endpoint| !endpoint.zone.is_empty()) {
                    return Err(RingFault::ZoneUnderHashmod { address: endpoint.address.clone() });
                }
                let indices: Vec<_> = members.iter().map(|member| member.index).collect();
                Placement::Hashmod(Hashmod::new(&indices, replica_count))
            }
            Algorithm::Ketama => {
                check_zones(&ring_endpoints, replica_count)?;
                let addresses: Vec<_> = ring_endpoints.iter().map(|one| one.address.as_str()).collect();
                Placement::Ketama(Ketama::new(&members, &addresses, replica_count))
            }
        };
        let external_labels = config.external_labels;
        Ok(Ring { label, tenants, algorithm, members, external_labels, replica_count, placement })
    }

    /// The endpoints that keep a series, given its hash ([`super::PlacementHasher`]): each once, the first one first.
    #[inline]
    pub fn replicas(&self, hash: u64) -> &[EndpointIndex] {
        match &self.placement {
            Placement::Hashmod(hashmod) => hashmod.replicas(hash),
            Placement::Ketama(ketama) => ketama.replicas(hash),
        }
    }

    /// How many endpoints keep each series: as many as the replication factor says, or as there are.
    pub fn replica_count(&self) -> usize {
        self.replica_count
    }

    /// Which ring this is.
    pub fn label(&self) -> &RingLabel {
        &self.label
    }

    /// How it places series.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its endpoints, in the order of their addresses.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = EndpointIndex> {
        self.members.iter().map(|member| member.index)
    }

    /// How many tenants or patterns it lists; none if it takes all.
    pub fn tenant_count(&self) -> usize {
        self.tenants.listed().map_or(0, |listed| listed.len())
    }
}

/// Of an address in several rings, the first one says the rest.
fn distinct_endpoints(configs: &[RingConfig]) -> Vec<Endpoint> {
    let mut distinct = BTreeMap::new();
    for endpoint in configs.iter().flat_map(|config| &config.endpoints) {
        distinct.entry(&endpoint.address).or_insert(&endpoint.capnproto_address);
    }
    let endpoints = distinct.into_iter().map(|(address, capnproto_address)| Endpoint {
        address: address.clone(),
        capnproto_address: capnproto_address.clone(),
    });
    endpoints.collect()
}

fn members(ring_endpoints: &[EndpointConfig], endpoints: &[Endpoint]) -> Vec<Member> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    let members = ring_endpoints.iter().map(|one| {
        let index = endpoints.binary_search_by(|endpoint| endpoint.address.as_str().cmp(&one.address));
        let index = index.expect("the list has the endpoints of all rings");
        let zone_count = zones.len();
        let zone = *zones.entry(&one.zone).or_insert(zone_count);
        Member { index: EndpointIndex(index as u16), zone }
    });
    members.collect()
}

/// Refuses zones over which the replicas cannot be spread; Thanos would search for a place without end.
fn check_zones(ring_endpoints: &[EndpointConfig], replica_count: usize) -> Result<(), RingFault> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for endpoint in ring_endpoints {
        *sizes.entry(&endpoint.zone).or_default() += 1;
    }
    let possible = spreadable_replicas(&sizes.values().copied().collect::<Vec<_>>());
    let smallest = sizes.iter().min_by_key(|(_, size)| **size);
    match smallest {
        Some((zone, size)) if possible < replica_count => Err(RingFault::UnevenZones {
            zone: (*zone).to_owned(),
            smallest: *size,
            possible,
            wanted: replica_count,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
