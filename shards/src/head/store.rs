//! The head itself: look up by key, create, append, read.

use std::sync::Arc;

use hashbrown::HashTable;

use super::error::{AppendError, HeadFull};
use super::index::{Index, Pair};
use super::key::SeriesKey;
use super::pages::Pages;
use super::series::{Appended, Series};
use super::symbols::Symbols;
use crate::Labels;
use crate::chunk::Encoding;
use crate::core::{HeadChunk, HeadSeries};

/// The number of a series in its shard; the WAL and checkpoints refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesIndex(pub u32);

/// A series, its place in the table of keys, and the least that the allocator takes for its open chunk.
const SERIES_OVERHEAD_BYTES: u64 = size_of::<Series>() as u64 + 8 + 32;

/// A label pair of a series: its number in the series' list, and the series' number in the pair's postings, which
/// grow by doubling.
const SERIES_PAIR_BYTES: u64 = 4 + 6;

/// A label pair, its postings' head, its places in the table and in its name's list.
const PAIR_BYTES: u64 = 12 + 32 + 8 + 6;

/// A symbol's place and its entry in the table, without its text.
const SYMBOL_BYTES: u64 = 12 + 8;

/// All series of one shard.
#[derive(Default)]
pub struct Head {
    pub(super) symbols: Symbols,
    pub(super) index: Index,
    pub(super) series: Pages<Series>,
    /// Label pairs of all series, one run per series.
    pub(super) series_pairs: Pages<u32>,
    by_key: HashTable<u32>,
    pub(super) chunk_bytes: u64,
}

impl Head {
    /// The series with a key, if there is one.
    #[inline]
    pub fn find(&self, key: SeriesKey) -> Option<SeriesIndex> {
        self.by_key
            .find(key.table_hash(), |number| self.series[*number].key == key)
            .map(|number| SeriesIndex(*number))
    }

    /// Brings the ends of the open chunks, where the next samples go, into the cache.
    #[inline]
    pub fn touch<'a>(&self, series: impl Iterator<Item = &'a SeriesIndex>) {
        let touched = series.fold(0, |touched, series| touched ^ self.series[series.0].last_byte());
        std::hint::black_box(touched);
    }

    /// Adds a series with labels sorted by name, without repeats, at least one.
    ///
    /// # Errors
    /// When the numbers are used up; symbols and pairs that were added stay, unused.
    pub fn create(
        &mut self,
        key: SeriesKey,
        tenant: &str,
        labels: &[(&str, &str)],
    ) -> Result<SeriesIndex, HeadFull> {
        assert!(!labels.is_empty(), "a series has at least its name");
        let tenant = self.symbols.intern(tenant)?;
        let mut pairs = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            let (name, value) = (self.symbols.intern(name)?, self.symbols.intern(value)?);
            pairs.push(self.index.intern(Pair { tenant, name, value })?);
        }
        self.add(key, tenant, &pairs)
    }

    /// Adds a series whose pairs are in the index.
    pub(super) fn add(
        &mut self,
        key: SeriesKey,
        tenant: u32,
        pairs: &[u32],
    ) -> Result<SeriesIndex, HeadFull> {
        let number = u32::try_from(self.series.len()).map_err(|_| HeadFull)?;
        let pairs_start = u32::try_from(self.series_pairs.len()).map_err(|_| HeadFull)?;
        let pairs_count = u16::try_from(pairs.len()).map_err(|_| HeadFull)?;
        for pair in pairs {
            self.series_pairs.push(*pair);
        }
        self.series.push(Series::new(key, pairs_start, pairs_count));
        self.index.add_series(tenant, number, pairs);
        let series = &self.series;
        self.by_key.insert_unique(key.table_hash(), number, |number| series[*number].key.table_hash());
        Ok(SeriesIndex(number))
    }

    /// Appends one sample. An error leaves the series as it was.
    #[inline]
    pub fn append(
        &mut self,
        series: SeriesIndex,
        timestamp_ms: i64,
        value: f64,
    ) -> Result<Appended, AppendError> {
        let (appended, grown_bytes) = self.series[series.0].append(timestamp_ms, value)?;
        self.chunk_bytes += u64::from(grown_bytes);
        Ok(appended)
    }

    /// How many series there are; their numbers are below.
    pub fn series_count(&self) -> u32 {
        self.series.len() as u32
    }

    /// Encoded bytes of all chunks.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// About how much memory the head takes: chunks with the slack of those that grow, and what series and labels
    /// cost beside them. It only grows.
    pub fn size_bytes(&self) -> u64 {
        let parts = [
            (self.series.len(), SERIES_OVERHEAD_BYTES),
            (self.series_pairs.len(), SERIES_PAIR_BYTES),
            (self.index.pair_count(), PAIR_BYTES),
            (self.symbols.len(), SYMBOL_BYTES),
        ];
        let labels: u64 = parts.iter().map(|(count, bytes)| *count as u64 * bytes).sum();
        self.chunk_bytes + self.chunk_bytes / 4 + labels + self.symbols.text_bytes()
    }

    /// The tenants that have series, with how many they have.
    pub fn tenants(&self) -> Vec<(Arc<str>, u32)> {
        let tenants = self.index.tenants.iter().filter(|(_, tenant)| !tenant.series.is_empty());
        tenants
            .map(|(name, tenant)| (Arc::from(self.symbols.text(*name)), tenant.series.len() as u32))
            .collect()
    }

    /// The labels of a series.
    pub fn labels(&self, series: u32) -> Labels {
        Labels::from_sorted(self.pairs_of(series).map(|pair| {
            let pair = self.index.pair(pair);
            (self.symbols.text(pair.name), self.symbols.text(pair.value))
        }))
    }

    /// `{name="value", …}` for messages.
    pub fn describe(&self, series: SeriesIndex) -> String {
        let labels = self.labels(series.0);
        let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{{{}}}", parts.join(", "))
    }

    pub(super) fn pairs_of(&self, series: u32) -> impl Iterator<Item = u32> + '_ {
        let Series { pairs_start, pairs_count, .. } = self.series[series];
        (pairs_start..pairs_start + u32::from(pairs_count)).map(|at| self.series_pairs[at])
    }

    /// One series with the chunks that overlap the range; `None` when there is no such chunk.
    pub fn read(
        &self,
        tenant: &Arc<str>,
        series: u32,
        min_ms: i64,
        max_ms: i64,
        skip_chunks: bool,
    ) -> Option<HeadSeries> {
        let stored = &self.series[series];
        if skip_chunks {
            return stored.overlaps(min_ms, max_ms).then(|| HeadSeries {
                tenant: Arc::clone(tenant),
                labels: self.labels(series),
                chunks: Vec::new(),
            });
        }
        let overlaps = |first_ms: i64, last_ms: i64| first_ms <= max_ms && last_ms >= min_ms;
        let mut chunks: Vec<HeadChunk> = stored
            .closed()
            .iter()
            .filter(|chunk| overlaps(chunk.min_ms, chunk.max_ms))
            .map(|chunk| HeadChunk {
                min_ms: chunk.min_ms,
                max_ms: chunk.max_ms,
                encoding: Encoding::Xor,
                bytes: Arc::clone(&chunk.bytes),
            })
            .collect();
        if let Some((first_ms, last_ms, bytes)) = stored.open().filter(|open| overlaps(open.0, open.1)) {
            let bytes = Arc::from(bytes);
            chunks.push(HeadChunk { min_ms: first_ms, max_ms: last_ms, encoding: Encoding::Xor, bytes });
        }
        (!chunks.is_empty()).then(|| HeadSeries {
            tenant: Arc::clone(tenant),
            labels: self.labels(series),
            chunks,
        })
    }

    /// Whether a series may have samples in the range.
    pub fn overlaps(&self, series: u32, min_ms: i64, max_ms: i64) -> bool {
        self.series[series].overlaps(min_ms, max_ms)
    }

    /// The value of one label of a series.
    pub fn label_value(&self, series: u32, name: &str) -> Option<&str> {
        let name = self.symbols.find(name)?;
        let pair = self.pairs_of(series).map(|pair| self.index.pair(pair)).find(|pair| pair.name == name)?;
        Some(self.symbols.text(pair.value))
    }

    /// Label names of a series.
    pub fn label_names(&self, series: u32) -> impl Iterator<Item = &str> {
        self.pairs_of(series).map(|pair| self.symbols.text(self.index.pair(pair).name))
    }

    /// All label names of a tenant.
    pub fn tenant_label_names(&self, tenant: &str) -> Vec<String> {
        let tenant = self.symbols.find(tenant).and_then(|tenant| self.index.tenants.get(&tenant));
        let names = tenant.into_iter().flat_map(|tenant| tenant.names.keys());
        names.map(|name| self.symbols.text(*name).to_owned()).collect()
    }

    /// Values of one label of a tenant: at most `max` of them, in the order in which they were first seen, without the
    /// first `skip`.
    pub fn tenant_label_values(&self, tenant: &str, name: &str, skip: usize, max: usize) -> Vec<String> {
        let pairs = || {
            let tenant = self.index.tenants.get(&self.symbols.find(tenant)?)?;
            tenant.names.get(&self.symbols.find(name)?)?.get(skip..)
        };
        let pairs = pairs().unwrap_or_default().iter().take(max);
        pairs.map(|pair| self.symbols.text(self.index.pair(*pair).value).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_key_and_read_by_range() {
        let mut head = Head::default();
        let key = |number: u128| SeriesKey(number | number << 64);
        for number in 0..1000u32 {
            let value = number.to_string();
            let labels = [("__name__", "up"), ("instance", value.as_str())];
            let series = head.create(key(number.into()), "team", &labels).unwrap();
            for step in 0..200 {
                head.append(series, step * 1000, f64::from(number)).unwrap();
            }
        }
        assert_eq!(head.find(key(77)), Some(SeriesIndex(77)));
        assert_eq!(head.find(key(1000)), None);
        let tenant = Arc::from("team");
        let read = head.read(&tenant, 77, 119_500, 130_000, false).unwrap();
        assert_eq!(read.labels.get("instance"), Some("77"));
        assert_eq!(read.chunks.len(), 1);
        assert_eq!((read.chunks[0].min_ms, read.chunks[0].max_ms), (120_000, 199_000));
        assert_eq!(head.read(&tenant, 77, 0, 200_000, false).unwrap().chunks.len(), 2);
        assert!(head.read(&tenant, 77, 200_000, 300_000, false).is_none());
        assert!(head.read(&tenant, 77, 0, 0, true).unwrap().chunks.is_empty());
        assert_eq!(head.tenants(), [(tenant, 1000)]);
        assert_eq!(head.tenant_label_values("team", "instance", 0, 2000).len(), 1000);
        assert_eq!(head.tenant_label_values("team", "instance", 997, 2), ["997", "998"]);
        assert!(head.tenant_label_values("team", "instance", 1001, 2).is_empty());
        assert!(head.tenant_label_values("team", "pod", 0, 2000).is_empty());
        assert!(head.tenant_label_names("nobody").is_empty());
    }
}
