//! Placement by remainder: the endpoint of a series is its hash modulo their number, its replicas the endpoints after
//! it.

use super::rings::EndpointIndex;

/// The replicas for each remainder, side by side.
#[derive(Debug)]
pub struct Hashmod {
    endpoint_count: u64,
    replica_count: usize,
    replicas: Vec<EndpointIndex>,
}

impl Hashmod {
    /// A ring of endpoints in the order of their addresses, of which there are at least as many as replicas.
    pub fn new(endpoints: &[EndpointIndex], replica_count: usize) -> Hashmod {
        assert!(
            (1..=endpoints.len()).contains(&replica_count),
            "a ring keeps more copies than it has endpoints"
        );
        let starts = 0..endpoints.len();
        let replicas = starts.flat_map(|start| endpoints.iter().cycle().skip(start).take(replica_count));
        let replicas = replicas.copied().collect();
        Hashmod { endpoint_count: endpoints.len() as u64, replica_count, replicas }
    }

    /// The endpoints of a series, each once. Thanos takes the remainder of hash + n, whose sum wraps around: for the
    /// last few of all 2^64 hashes this is another endpoint than here, and may be one that has a copy already.
    #[inline]
    pub fn replicas(&self, hash: u64) -> &[EndpointIndex] {
        let start = (hash % self.endpoint_count) as usize * self.replica_count;
        &self.replicas[start..start + self.replica_count]
    }
}
