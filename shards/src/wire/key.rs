//! The key of a series: a 128-bit hash of (tenant, label bytes) under a secret that senders cannot learn.
//!
//! AEGIS-128L as a MAC. Two label sets that differ share a key with a probability of 2^-128 each (2^-80 for any pair
//! among 10 million series), and without the secret nobody can make such a pair. Plain fast hashes (xxh3, ahash) give
//! no such promise, and are hardly faster; `docs/decisions/0003` has the numbers.

use super::aegis::Mac;
use crate::head::SeriesKey;

/// The secret makes tenants' keys, and these make keys of series.
const NONCE_TENANT: u128 = 1;
const NONCE_SERIES: u128 = 2;

/// Hashes label bytes for one data directory.
#[derive(Clone)]
pub struct SeriesHasher {
    tenants: Mac,
}

impl SeriesHasher {
    /// A hasher under a secret of 16 bytes.
    pub fn new(secret: [u8; 16]) -> SeriesHasher {
        SeriesHasher { tenants: Mac::new(u128::from_be_bytes(secret), NONCE_TENANT) }
    }

    /// A hasher for the series of one tenant, to be reused for each series of a request.
    pub fn tenant(&self, tenant: &str) -> TenantHasher {
        // The tenant is in the key, not in the message: hashing its name per series would cost time, and joining it with
        // the labels would need a separator that neither may contain.
        TenantHasher { series: Mac::new(self.tenants.hash(tenant.as_bytes()), NONCE_SERIES) }
    }
}

/// Hashes label bytes of one tenant.
#[derive(Clone)]
pub struct TenantHasher {
    series: Mac,
}

impl TenantHasher {
    /// The key of one series, from its labels as remote write encodes them.
    #[inline]
    pub fn key(&self, label_bytes: &[u8]) -> SeriesKey {
        SeriesKey(self.series.hash(label_bytes))
    }

    /// The keys of two series, for little more than the cost of one.
    #[inline]
    pub fn keys_of_two(&self, label_bytes: [&[u8]; 2]) -> [SeriesKey; 2] {
        let [first, second] = self.series.hash_two(label_bytes);
        [SeriesKey(first), SeriesKey(second)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_the_secret_the_tenant_and_the_labels() {
        let hasher = SeriesHasher::new([1; 16]);
        let key = hasher.tenant("a").key(b"labels");
        assert_eq!(key, SeriesHasher::new([1; 16]).tenant("a").key(b"labels"));
        assert_ne!(key, hasher.tenant("b").key(b"labels"));
        assert_ne!(key, hasher.tenant("a").key(b"labelt"));
        assert_ne!(key, SeriesHasher::new([2; 16]).tenant("a").key(b"labels"));
    }
}
