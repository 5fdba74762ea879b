//! The head itself: look up by key, create, append, read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{AppendError, HeadFull};
use super::extras::HeadExtras;
use super::index::{Index, TenantIndex};
use super::key::SeriesKey;
use super::key_table::KeyTable;
use super::pages::Pages;
use super::prefetch::prefetch;
use super::rules::{Rules, TimeWindows};
use super::series::{Appended, ClosedChunk, ReadChunks, Series, Work};
use super::symbols::Symbols;
use crate::Labels;
use crate::chunk::{AnyHistogram, Encoding};
use crate::chunklog::{ChunkBytes, ChunkLog, Found};
use crate::core::{HeadChunk, HeadSeries};

/// The number of a series in its shard; the WAL and checkpoints refer to it. A number is given to another series only
/// some time after its series has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesIndex(pub u32);

/// A series, its place in the table of keys, and the least that the allocator takes for its open chunk.
const SERIES_OVERHEAD_BYTES: u64 = size_of::<Series>() as u64 + 14 + 32;

/// A label pair of a series: its number in the series' list, and the series' number in the pair's postings, which
/// grow by doubling.
const SERIES_PAIR_BYTES: u64 = 4 + 6;

/// A label pair, its postings' head, its places in the table and in its name's list.
const PAIR_BYTES: u64 = 12 + 32 + 8 + 6;

/// A symbol's place and its entry in the table, without its text.
const SYMBOL_BYTES: u64 = 16 + 8;

/// All series of one shard.
#[derive(Default)]
pub struct Head {
    pub(super) symbols: Symbols,
    pub(super) index: Index,
    pub(super) series: Pages<Series>,
    /// Label pairs of all series, one run per series.
    pub(super) series_pairs: Pages<u32>,
    /// Runs of pairs that no series uses, by length.
    vacant_runs: HashMap<u16, Vec<u32>, ahash::RandomState>,
    by_key: KeyTable,
    /// The series that was added last, if it is still there.
    pub(super) newest: u32,
    /// Numbers that a new series may have.
    pub(super) vacant: Vec<u32>,
    /// Numbers that are vacant, but that a read in progress may still mean for another series.
    pub(super) resting: Vec<u32>,
    /// Pairs of series whose numbers the WAL gave to others during replay.
    pub(super) replaced: Vec<u32>,
    sample_bytes: i64,
    /// Since it was taken.
    work: Work,
    log: Rc<RefCell<ChunkLog>>,
    pub(super) extras: RefCell<HeadExtras>,
}

/// What the head knows of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantState {
    /// Its name.
    pub name: Arc<str>,
    /// How many series it has.
    pub series: u32,
    /// Samples taken since the start.
    pub samples: u64,
    /// A time before which no sample is in memory; `None` without samples.
    pub oldest_ms: Option<i64>,
    /// Time of the newest sample.
    pub newest_ms: Option<i64>,
    /// No sample before it is taken any more.
    pub frozen_ms: i64,
    /// What was before it is in a block, and was dropped.
    pub truncated_ms: i64,
}

impl TenantState {
    /// Whether the head remembers it for good: samples before some time are not taken any more.
    pub fn was_cut(&self) -> bool {
        self.frozen_ms > i64::MIN || self.truncated_ms > i64::MIN
    }
}

impl Head {
    /// An empty head whose closed chunks go to `log`.
    pub fn new(log: Rc<RefCell<ChunkLog>>) -> Head {
        Head { log, ..Head::default() }
    }

    /// Where closed chunks are.
    pub fn log(&self) -> &Rc<RefCell<ChunkLog>> {
        &self.log
    }

    /// The series with a key, if there is one.
    #[inline]
    pub fn find(&self, key: SeriesKey) -> Option<SeriesIndex> {
        self.by_key.find(key.table_hash(), |number| self.series[number].key == key).map(SeriesIndex)
    }

    /// Begins to bring what [`Head::candidates`] reads for some keys into the cache.
    #[inline]
    pub fn prefetch(&self, keys: impl Iterator<Item = SeriesKey>) {
        for key in keys {
            self.by_key.prefetch(key.table_hash());
        }
    }

    /// What is nearly always the series of each of some keys, and begins to bring it into the cache. A look-up waits for
    /// main memory twice: those of many keys, begun long before they are needed, wait for nothing.
    #[inline]
    pub fn candidates<const N: usize>(
        &self,
        keys: impl Iterator<Item = SeriesKey>,
    ) -> [Option<SeriesIndex>; N] {
        let mut candidates = [None; N];
        for (candidate, key) in candidates.iter_mut().zip(keys) {
            if let Some(number) = self.by_key.candidate(key.table_hash()) {
                prefetch(&self.series[number]);
                *candidate = Some(SeriesIndex(number));
            }
        }
        candidates
    }

    /// The series with a key, given its candidate from any time before.
    #[inline]
    pub fn confirm(&self, candidate: Option<SeriesIndex>, key: SeriesKey) -> Option<SeriesIndex> {
        let candidate = candidate?;
        if self.series[candidate.0].key == key { Some(candidate) } else { self.find(key) }
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
        let (tenant, pairs) = self.intern_pairs(tenant, labels)?;
        let vacant = self.vacant.pop();
        self.add(key, tenant, &pairs, vacant)
    }

    /// Adds a series under the number that the WAL has for it. The series that had the number, or the labels, if there
    /// is one, has gone in the meantime.
    ///
    /// # Errors
    /// When the number is further than the next one.
    pub fn create_at(
        &mut self,
        number: u32,
        key: SeriesKey,
        tenant: &str,
        labels: &[(&str, &str)],
    ) -> Result<(), HeadFull> {
        let count = self.series_count();
        if number > count {
            return Err(HeadFull);
        }
        if number < count && !self.series[number].is_vacant() {
            if self.series[number].key == key {
                return Ok(());
            }
            self.replace(number);
        }
        // The labels came back after their series had gone, and got another number.
        if let Some(gone) = self.find(key) {
            self.replace(gone.0);
            self.vacant.push(gone.0);
        }
        let (tenant, pairs) = self.intern_pairs(tenant, labels)?;
        self.add(key, tenant, &pairs, (number < count).then_some(number)).map(drop)
    }

    /// Takes out a series that has gone by what the WAL says later.
    fn replace(&mut self, number: u32) {
        let pairs: Vec<u32> = self.pairs_of(number).collect();
        self.replaced.extend(pairs);
        self.vacate(number);
    }

    /// Adds a series whose pairs are in the index, under a vacant number or the next one.
    pub(super) fn add(
        &mut self,
        key: SeriesKey,
        tenant: u32,
        pairs: &[u32],
        vacant: Option<u32>,
    ) -> Result<SeriesIndex, HeadFull> {
        let count = u16::try_from(pairs.len()).map_err(|_| HeadFull)?;
        let start = match self.vacant_runs.get_mut(&count).and_then(Vec::pop) {
            Some(start) => start,
            None => {
                let start = u32::try_from(self.series_pairs.len()).map_err(|_| HeadFull)?;
                for _ in pairs {
                    self.series_pairs.push(0);
                }
                start
            }
        };
        for (at, pair) in (start..).zip(pairs) {
            self.series_pairs[at] = *pair;
        }
        let series = Series::new(key, start, count);
        let number = match vacant {
            Some(number) => {
                assert!(self.series[number].is_vacant(), "a number is given to one series at a time");
                self.series[number] = series;
                number
            }
            None => {
                let number = u32::try_from(self.series.len()).map_err(|_| HeadFull)?;
                if number == u32::MAX {
                    return Err(HeadFull);
                }
                self.series.push(series);
                number
            }
        };
        self.index.add_series(tenant, number, pairs);
        self.by_key.insert(key.table_hash(), number);
        self.newest = number;
        Ok(SeriesIndex(number))
    }

    /// Adds a vacant number, as a checkpoint has it.
    pub(super) fn push_vacant(&mut self) -> Result<(), HeadFull> {
        let number = u32::try_from(self.series.len()).map_err(|_| HeadFull)?;
        self.series.push(Series::vacant());
        self.vacant.push(number);
        Ok(())
    }

    /// Takes a series out of the table of keys and drops what it has. Its pairs' postings still name it.
    pub(super) fn vacate(&mut self, number: u32) {
        let Series { key, pairs_start, pairs_count, .. } = self.series[number];
        self.by_key.remove(key.table_hash(), number);
        self.vacant_runs.entry(pairs_count).or_default().push(pairs_start);
        self.change(number, |series, log| series.release_all(log));
    }

    /// Changes a series other than by appending, and keeps the count of bytes.
    pub(super) fn change(&mut self, number: u32, change: impl FnOnce(&mut Series, &mut ChunkLog)) {
        let series = &mut self.series[number];
        let before = series.memory_bytes();
        change(series, &mut self.log.borrow_mut());
        self.sample_bytes += series.memory_bytes() - before;
    }

    /// The rules for a batch of one tenant.
    pub fn rules(&self, windows: &TimeWindows, tenant: &str, now_ms: i64) -> Rules {
        let tenant = self.symbols.find(tenant).and_then(|tenant| self.index.tenants.get(&tenant));
        let (newest_ms, frozen_ms) =
            tenant.map_or((None, i64::MIN), |tenant| (tenant.newest_ms, tenant.frozen_ms));
        Rules::new(windows, newest_ms, frozen_ms, now_ms)
    }

    /// Notes what a batch brought: how many samples, and the times of the oldest and of the newest.
    pub fn note(&mut self, tenant: &str, samples: u64, oldest_ms: i64, newest_ms: i64) {
        let tenant = self.symbols.find(tenant).and_then(|tenant| self.index.tenants.get_mut(&tenant));
        if let Some(tenant) = tenant {
            tenant.samples += samples;
            tenant.extend(oldest_ms, newest_ms);
        }
    }

    /// Says that a tenant takes no sample before `frozen_ms`, and that what is before `truncated_ms` is in a block.
    /// Neither ever falls.
    pub fn set_bounds(&mut self, tenant: &str, frozen_ms: i64, truncated_ms: i64) -> Result<(), HeadFull> {
        let symbol = self.tenant_symbol(tenant)?;
        let tenant = self.index.tenants.get_mut(&symbol).expect("the tenant was just added");
        tenant.frozen_ms = tenant.frozen_ms.max(frozen_ms);
        tenant.truncated_ms = tenant.truncated_ms.max(truncated_ms);
        Ok(())
    }

    /// Appends one sample. An error leaves the series as it was.
    #[inline]
    pub fn append(
        &mut self,
        series: SeriesIndex,
        timestamp_ms: i64,
        value: f64,
        rules: &Rules,
        read: &impl ReadChunks,
    ) -> Result<Appended, AppendError> {
        let (appended, bytes) =
            self.series[series.0].append(timestamp_ms, value, rules, &self.log, read, &mut self.work)?;
        self.sample_bytes += bytes;
        Ok(appended)
    }

    /// How many numbers of chunks were decoded and encoded for samples, beside their own, since the last call.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Appends one sample that was accepted once, from the WAL.
    pub fn replay(
        &mut self,
        series: SeriesIndex,
        timestamp_ms: i64,
        value: f64,
        window_ms: i64,
    ) -> Result<Appended, AppendError> {
        let (appended, bytes) = self.series[series.0].replay(timestamp_ms, value, window_ms, &self.log)?;
        self.sample_bytes += bytes;
        Ok(appended)
    }

    /// Appends one native histogram, as [`Head::append`] does.
    pub fn append_histogram(
        &mut self,
        series: SeriesIndex,
        timestamp_ms: i64,
        histogram: &AnyHistogram,
        rules: &Rules,
        read: &impl ReadChunks,
    ) -> Result<Appended, AppendError> {
        let series = &mut self.series[series.0];
        let (appended, bytes) =
            series.append_histogram(timestamp_ms, histogram, rules, &self.log, read, &mut self.work)?;
        self.sample_bytes += bytes;
        Ok(appended)
    }

    /// Appends one native histogram that was accepted once, from the WAL.
    pub fn replay_histogram(
        &mut self,
        series: SeriesIndex,
        timestamp_ms: i64,
        histogram: &AnyHistogram,
        window_ms: i64,
    ) -> Result<Appended, AppendError> {
        let series = &mut self.series[series.0];
        let (appended, bytes) = series.replay_histogram(timestamp_ms, histogram, window_ms, &self.log)?;
        self.sample_bytes += bytes;
        Ok(appended)
    }

    /// Drops the chunks whose files are not there; returns how many.
    pub fn drop_missing(&mut self) -> u64 {
        let log = Rc::clone(&self.log);
        let before = log.borrow().live_count();
        let missing = log.borrow().missing_files();
        let is_there = |chunk: &ClosedChunk| !missing.contains(&chunk.place.file);
        for number in 0..self.series_count() {
            self.change(number, |series, log| series.retain_all_closed(log, is_there));
        }
        let after = log.borrow().live_count();
        before - after
    }

    /// How many numbers of series there are, vacant ones included.
    pub fn series_count(&self) -> u32 {
        self.series.len() as u32
    }

    /// How many series there are.
    pub fn live_series_count(&self) -> u32 {
        self.by_key.len() as u32
    }

    /// Whether a number has a series.
    pub fn is_occupied(&self, series: SeriesIndex) -> bool {
        series.0 < self.series_count() && !self.series[series.0].is_vacant()
    }

    /// Bytes of samples in memory: open chunks, late samples, and closed chunks that are not written yet.
    pub fn sample_bytes(&self) -> u64 {
        u64::try_from(self.sample_bytes).unwrap_or(0) + self.log.borrow().pending_bytes()
    }

    /// About how much memory the head takes: samples with the slack of chunks that grow, the places of closed chunks,
    /// and what series and labels cost beside them.
    pub fn size_bytes(&self) -> u64 {
        let parts = [
            (self.series.len(), SERIES_OVERHEAD_BYTES),
            (self.series_pairs.len(), SERIES_PAIR_BYTES),
            (self.index.pair_count(), PAIR_BYTES),
            (self.symbols.len(), SYMBOL_BYTES),
            (self.index.tenants.len(), size_of::<TenantIndex>() as u64 + 16),
        ];
        let labels: u64 = parts.iter().map(|(count, bytes)| *count as u64 * bytes).sum();
        let samples = self.sample_bytes();
        let places = self.log.borrow().live_count() * size_of::<ClosedChunk>() as u64 * 3 / 2;
        samples + samples / 4 + places + labels + self.symbols.text_bytes()
    }

    /// How many numbers of series are vacant.
    pub fn vacant_count(&self) -> u32 {
        (self.vacant.len() + self.resting.len()) as u32
    }

    /// Sets whether an image is being made: its pages then have to tell of numbers that are given out again.
    pub fn set_imaged(&mut self, is_imaged: bool) {
        self.symbols.set_imaged(is_imaged);
        self.index.set_imaged(is_imaged);
    }

    /// Lets new series have the numbers that rest: no read that began before they were vacated goes on.
    pub fn end_rest(&mut self) {
        self.vacant.append(&mut self.resting);
    }

    /// The tenants that are known, also those without series.
    pub fn tenants(&self) -> Vec<TenantState> {
        self.index.tenants.iter().map(|(symbol, tenant)| self.state_of(*symbol, tenant)).collect()
    }

    fn state_of(&self, symbol: u32, tenant: &TenantIndex) -> TenantState {
        TenantState {
            name: Arc::from(self.symbols.text(symbol)),
            series: tenant.series.len() as u32,
            samples: tenant.samples,
            oldest_ms: tenant.oldest_ms,
            newest_ms: tenant.newest_ms,
            frozen_ms: tenant.frozen_ms,
            truncated_ms: tenant.truncated_ms,
        }
    }

    /// Takes at most `max` tenants whose number of series has changed since it was taken.
    pub fn take_changed_tenants(&mut self, max: usize) -> Vec<TenantState> {
        let changed = self.index.take_changed(max);
        let state = |symbol: &u32| Some(self.state_of(*symbol, self.index.tenants.get(symbol)?));
        changed.iter().filter_map(state).collect()
    }

    /// Looks at no more than `max` tenants without series, others at each call, and forgets those of which there is
    /// nothing to remember: neither samples nor a cut. While an image is made, tenants must stay.
    pub fn forget_blank_tenants(&mut self, max: usize) -> usize {
        let blank = self.index.take_blank(max);
        for symbol in &blank {
            self.symbols.release(*symbol);
        }
        blank.len()
    }

    /// The names of the tenants that have series and fulfil a condition.
    pub fn tenants_with_series(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let tenants = self.index.tenants.iter().filter(|(_, tenant)| !tenant.series.is_empty());
        let names = tenants.map(|(name, _)| self.symbols.text(*name)).filter(|name| is_wanted(name));
        names.map(Arc::from).collect()
    }

    /// The labels of a series.
    pub fn labels(&self, series: u32) -> Labels {
        Labels::from_sorted(self.pairs_of(series).map(|pair| {
            let pair = self.index.pair(pair);
            (self.symbols.text(pair.name), self.symbols.text(pair.value))
        }))
    }

    /// A series for messages.
    pub fn describe(&self, series: SeriesIndex) -> String {
        describe_labels(self.labels(series.0).iter())
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
        let closed = stored.closed();
        let wanted = closed.partition_point(|chunk| chunk.max_ms() < min_ms)
            ..closed.partition_point(|chunk| chunk.min_ms <= max_ms);
        let closed = closed.get(wanted).unwrap_or_default();
        let mut chunks = Vec::with_capacity(closed.len() + 1);
        let log = self.log.borrow();
        self.read_closed(&log, closed, min_ms, max_ms, &mut chunks);
        if let Some(open) = stored.open()
            && open.overlaps(min_ms, max_ms)
        {
            let bytes = ChunkBytes::Memory(open.to_bytes().into());
            chunks.push(HeadChunk {
                min_ms: open.min_ms,
                max_ms: open.max_ms,
                encoding: open.encoding,
                bytes,
            });
        }
        if let Some(late) = stored.late() {
            self.read_closed(&log, late.closed(), min_ms, max_ms, &mut chunks);
            for (first_ms, last_ms, encoding, bytes) in late.chunks() {
                if first_ms <= max_ms && last_ms >= min_ms {
                    let bytes = ChunkBytes::Memory(Bytes::from(bytes));
                    chunks.push(HeadChunk { min_ms: first_ms, max_ms: last_ms, encoding, bytes });
                }
            }
            // Stable: at equal times the samples that came in order win.
            chunks.sort_by_key(|chunk| chunk.min_ms);
        }
        (!chunks.is_empty()).then(|| HeadSeries {
            tenant: Arc::clone(tenant),
            labels: self.labels(series),
            chunks,
        })
    }

    fn read_closed(
        &self,
        log: &ChunkLog,
        closed: &[ClosedChunk],
        min_ms: i64,
        max_ms: i64,
        out: &mut Vec<HeadChunk>,
    ) {
        for chunk in closed.iter().filter(|chunk| chunk.overlaps(min_ms, max_ms)) {
            let bytes = match log.find(chunk.place) {
                Found::Memory(bytes) => ChunkBytes::Memory(bytes),
                Found::Logged(logged) => ChunkBytes::Logged(logged),
                // The start has reported the files that are missing.
                Found::Missing => continue,
            };
            let encoding: Encoding = chunk.place.encoding();
            out.push(HeadChunk { min_ms: chunk.min_ms, max_ms: chunk.max_ms(), encoding, bytes });
        }
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

    /// Values of one label of a tenant: of the pairs from `skip` on, at most `max`; and how many pairs that were. The
    /// order is that of the index, which changes with [`Head::index_removals`].
    pub fn tenant_label_values(
        &self,
        tenant: &str,
        name: &str,
        skip: usize,
        max: usize,
    ) -> (Vec<String>, usize) {
        let pairs = || {
            let tenant = self.index.tenants.get(&self.symbols.find(tenant)?)?;
            tenant.names.get(&self.symbols.find(name)?)?.get(skip..)
        };
        let pairs = pairs().unwrap_or_default();
        let pairs = &pairs[..pairs.len().min(max)];
        let used = pairs.iter().filter(|pair| self.index.postings_len(**pair) > 0);
        let texts = used.map(|pair| self.symbols.text(self.index.pair(*pair).value).to_owned()).collect();
        (texts, pairs.len())
    }

    /// Whether a tenant's samples in memory reach into a range of time, as far as its first and last one say.
    pub fn tenant_overlaps(&self, tenant: &str, min_ms: i64, max_ms: i64) -> bool {
        let tenant = self.symbols.find(tenant).and_then(|tenant| self.index.tenants.get(&tenant));
        let bounds = tenant.and_then(|tenant| tenant.oldest_ms.zip(tenant.newest_ms));
        bounds.is_some_and(|(oldest_ms, newest_ms)| oldest_ms <= max_ms && newest_ms >= min_ms)
    }

    /// Rises whenever positions in lists of a tenant's values become invalid.
    pub fn index_removals(&self, tenant: &str) -> u64 {
        let tenant = self.symbols.find(tenant).and_then(|tenant| self.index.tenants.get(&tenant));
        tenant.map_or(0, |tenant| tenant.removals)
    }
}

/// `{name="value", …}` for messages.
pub fn describe_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests;
