//! The key of a series: a 128-bit hash of (tenant, label bytes) under a secret that senders cannot learn.
//!
//! SipHash-1-3 with 128 bits of output. Two label sets that differ share a key with a probability of 2^-128 each
//! (2^-80 for any pair among 10 million series), and without the secret nobody can make such a pair. Plain fast
//! hashes (xxh3, ahash) take a third of the time but give no such promise; `docs/decisions/0003` has the numbers.

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::head::SeriesKey;

/// Hashes label bytes for one data directory.
#[derive(Clone)]
pub struct SeriesHasher {
    keys: (u64, u64),
}

impl SeriesHasher {
    /// A hasher under a secret of 16 bytes.
    pub fn new(secret: [u8; 16]) -> SeriesHasher {
        let (left, right) = secret.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        SeriesHasher { keys: (word(left), word(right)) }
    }

    /// A hasher for the series of one tenant, to be reused for each series of a request.
    pub fn tenant(&self, tenant: &str) -> TenantHasher {
        // The tenant enters the key schedule, not the message: hashing its name per series would cost time, and
        // joining it with the labels would need a separator that neither may contain.
        let derive = |tweak: u64| {
            let mut hasher = SipHasher13::new_with_keys(self.keys.0 ^ tweak, self.keys.1);
            std::hash::Hasher::write(&mut hasher, tenant.as_bytes());
            let hash = hasher.finish128();
            (hash.h1, hash.h2)
        };
        let keys = derive(0x7465_6e61_6e74);
        TenantHasher { base: SipHasher13::new_with_keys(keys.0, keys.1) }
    }
}

/// Hashes label bytes of one tenant.
#[derive(Clone)]
pub struct TenantHasher {
    base: SipHasher13,
}

impl TenantHasher {
    /// The key of one series, from its labels as remote write encodes them.
    #[inline]
    pub fn key(&self, label_bytes: &[u8]) -> SeriesKey {
        SeriesKey(self.base.hash(label_bytes).as_u128())
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
