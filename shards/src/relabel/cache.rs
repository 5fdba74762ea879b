//! What became of label sets that were looked at before, by the key of their bytes as they came.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use crate::head::SeriesKey;

/// An entry in the table, with its byte of control.
const SLOT_BYTES: usize = size_of::<(SeriesKey, Relabelled)>() + 1;

/// What an entry takes beside its texts, with its places in the table and in the list. A table is at most seven eighths
/// full, and both are half empty after they have grown.
const ENTRY_BYTES: usize = 2 * (SLOT_BYTES * 8 / 7 + 1 + size_of::<SeriesKey>());

/// What the allocator takes for a shared text: the two counts before it, and eight bytes of its own, in steps of 16.
const fn text_bytes(len: usize) -> usize {
    (2 * size_of::<usize>() + len + 8).next_multiple_of(16)
}

/// What relabelling makes of one label set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relabelled {
    /// It stays as it is.
    Same,
    /// It is not stored.
    Dropped,
    /// Its labels would be too long.
    TooLong,
    /// The label that names the tenant has a value that is no tenant's name.
    BadTenant(Arc<str>),
    /// Other labels, or another tenant.
    Other {
        /// The canonical encoding.
        label_bytes: Arc<[u8]>,
        /// Its key under the tenant.
        key: SeriesKey,
        /// The tenant, if a label names one.
        tenant: Option<Arc<str>>,
    },
}

impl Relabelled {
    fn size_bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Relabelled::Same | Relabelled::Dropped | Relabelled::TooLong => 0,
                Relabelled::BadTenant(tenant) => text_bytes(tenant.len()),
                Relabelled::Other { label_bytes, tenant, .. } => {
                    text_bytes(label_bytes.len())
                        + tenant.as_ref().map_or(0, |tenant| text_bytes(tenant.len()))
                }
            }
    }
}

/// A bounded table. When it is full an entry goes by chance: where more series come round than fit, the least recently
/// used one would always be the next that is asked for, and nothing would ever be found.
pub struct Cache {
    entries: HashMap<SeriesKey, Relabelled, RandomState>,
    /// The keys of all entries, to take one from by chance.
    keys: Vec<SeriesKey>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// An empty table.
    pub fn new(bytes_max: usize) -> Cache {
        Cache { entries: HashMap::default(), keys: Vec::new(), bytes: 0, bytes_max }
    }

    /// What became of a label set, if that is known.
    pub fn get(&self, key: SeriesKey) -> Option<&Relabelled> {
        self.entries.get(&key)
    }

    /// Remembers what became of a label set that is not known.
    pub fn insert(&mut self, key: SeriesKey, relabelled: Relabelled) {
        let bytes = relabelled.size_bytes();
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            // Keys are hashes: any of their bits are chance.
            self.evict(key.0 as usize % self.keys.len());
        }
        self.bytes += bytes;
        self.keys.push(key);
        let before = self.entries.insert(key, relabelled);
        assert!(before.is_none(), "what is known is not looked at again");
    }

    /// Drops some entries.
    pub fn shrink(&mut self, count: usize) {
        for _ in 0..count.min(self.keys.len()) {
            self.evict(self.keys.len() - 1);
        }
    }

    /// Drops the entry of a key by its place in the list.
    fn evict(&mut self, place: usize) {
        let victim = self.keys.swap_remove(place);
        let gone = self.entries.remove(&victim).expect("the list has the keys of the table");
        self.bytes -= gone.size_bytes();
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How much memory it takes, at most.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_stays_within_its_bound_and_keeps_some_of_what_comes_round() {
        let mut cache = Cache::new(100 * ENTRY_BYTES);
        let key = |number: u128| SeriesKey(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let mut hits = 0;
        for number in (0..10).flat_map(|_| 0..150) {
            match cache.get(key(number)) {
                Some(_) => hits += 1,
                None => cache.insert(key(number), Relabelled::Dropped),
            }
            assert!(cache.size_bytes() <= 100 * ENTRY_BYTES);
        }
        assert!(hits > 300, "{hits} of 1500");
        let long = Relabelled::BadTenant("x".repeat(1 << 20).into());
        cache.insert(SeriesKey(1), long);
        assert_eq!(cache.get(SeriesKey(1)), None);
    }

    #[test]
    fn what_it_takes_is_counted_in_full() {
        let mut cache = Cache::new(1 << 20);
        let texts: Vec<Arc<[u8]>> = (0..9000u128)
            .map(|number| {
                let label_bytes: Arc<[u8]> = vec![0; 1 + number as usize % 90].into();
                let relabelled = Relabelled::Other {
                    label_bytes: Arc::clone(&label_bytes),
                    key: SeriesKey(7),
                    tenant: None,
                };
                cache.insert(SeriesKey(number << 64 | number), relabelled);
                let table = cache.entries.capacity() * 8 / 7 * SLOT_BYTES;
                let list = cache.keys.capacity() * size_of::<SeriesKey>();
                let fixed = ENTRY_BYTES * cache.entries.len();
                // The smallest tables are larger than few entries need.
                assert!(table + list <= fixed + 1024, "{table} and {list} of {fixed}");
                label_bytes
            })
            .collect();
        assert!(cache.entries.len() < 9000 && cache.size_bytes() <= 1 << 20);
        let held =
            texts.iter().filter(|text| Arc::strong_count(text) == 2).map(|text| text_bytes(text.len()));
        assert_eq!(cache.size_bytes(), held.sum::<usize>() + ENTRY_BYTES * cache.entries.len());
        while !cache.is_empty() {
            cache.shrink(100);
        }
        assert_eq!((cache.size_bytes(), cache.entries.len()), (0, 0));
    }
}
