//! Sorts the series of all shards by their labels, with a fixed amount of memory.
//! Owns:     the series that fit into the memory, and a temporary file for sorted runs of the others.
//! Touches:  that file.
//! Runs on:  the cutter's thread.
//! Promises: memory does not grow with the number of series; what fits into it never touches a disk. Each label set
//!           comes once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use annulus_shards::Labels;

use super::chunk_list::{ChunkIter, RawChunk};
use super::error::CutFailure;
use super::spool::{RunReader, Spool};
use super::stop::StopSignal;

/// Runs that are merged at once. With more of them, there is another pass.
const MERGED_RUNS_MAX: usize = 256;

/// The smallest and the largest piece of a run that is read at a time.
const PIECE_BYTES: RangeInclusive<usize> = 4 << 10..=1 << 20;

/// Series that are merged in a pass between two looks at the stop signal.
const UNIT_SERIES: u64 = 1024;

/// A series that comes out of the sorter.
#[derive(Debug)]
pub struct SortedRecord {
    /// Its labels.
    pub labels: Labels,
    list: Vec<u8>,
}

impl SortedRecord {
    /// Memory for a series.
    pub fn new() -> SortedRecord {
        SortedRecord { labels: Labels::empty(), list: Vec::new() }
    }

    /// Its chunks, as the head gave them.
    pub fn chunks(&self) -> ChunkIter<'_> {
        ChunkIter::new(&self.list)
    }

    fn begin(&mut self, labels: Labels, list: &[u8]) {
        self.labels = labels;
        self.list.clear();
        self.list.extend_from_slice(list);
    }
}

/// Takes series in any order.
pub struct SeriesSorter {
    folder: PathBuf,
    memory_bytes: usize,
    entries: Vec<Entry>,
    /// The chunk lists of all entries.
    lists: Vec<u8>,
    /// What labels and entries take.
    entry_bytes: usize,
    spool: Option<Spool>,
    merged_runs_max: usize,
}

/// A series in memory.
pub struct Entry {
    labels: Labels,
    /// Where its chunk list is among those of all entries.
    start: usize,
    end: usize,
}

impl SeriesSorter {
    /// A sorter that makes a temporary file in `folder` when it needs one.
    pub fn new(folder: &Path, memory_bytes: usize) -> SeriesSorter {
        SeriesSorter {
            folder: folder.to_owned(),
            memory_bytes,
            entries: Vec::new(),
            lists: Vec::new(),
            entry_bytes: 0,
            spool: None,
            merged_runs_max: MERGED_RUNS_MAX,
        }
    }

    /// Adds a series. A series that is larger than the memory is a run of its own.
    pub fn push<'a>(
        &mut self,
        labels: Labels,
        chunks: impl Iterator<Item = RawChunk<'a>> + Clone,
    ) -> io::Result<()> {
        let entry_bytes = size_of::<Entry>() + labels.size_bytes();
        let list_bytes: usize = chunks.clone().map(|chunk| chunk.listed_bytes()).sum();
        if !self.entries.is_empty()
            && self.entry_bytes + self.lists.len() + entry_bytes + list_bytes > self.memory_bytes
        {
            self.spill()?;
        }
        let start = self.lists.len();
        self.reserve(list_bytes);
        for chunk in chunks {
            chunk.put(&mut self.lists);
        }
        self.entry_bytes += entry_bytes;
        self.entries.push(Entry { labels, start, end: self.lists.len() });
        Ok(())
    }

    /// Begins to give the series back, in order.
    pub fn finish(mut self, stop: &StopSignal) -> Result<SortedSeries, CutFailure> {
        if self.spool.is_some() {
            self.spill().map_err(CutFailure::Sort)?;
        }
        let Some(mut spool) = self.spool.take() else {
            self.sort();
            return Ok(SortedSeries::Memory {
                entries: self.entries.into_iter().peekable(),
                lists: self.lists,
            });
        };
        // The merge has the memory to itself.
        drop((self.entries, self.lists));
        loop {
            let (_, runs) = spool.read_back().map_err(CutFailure::Sort)?;
            let count = runs.len();
            if count <= self.merged_runs_max {
                return Merge::new(spool, 0..count, self.memory_bytes)
                    .map(SortedSeries::Merge)
                    .map_err(CutFailure::Sort);
            }
            spool = pass(spool, &self.folder, self.merged_runs_max, self.memory_bytes, stop)?;
        }
    }

    fn sort(&mut self) {
        // Stable: of equal label sets the first comes first.
        self.entries.sort_by(|a, b| a.labels.cmp(&b.labels));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let spool = match &mut self.spool {
            Some(spool) => spool,
            none => none.insert(Spool::create(&self.folder)?),
        };
        for entry in self.entries.drain(..) {
            spool.write(&entry.labels, &self.lists[entry.start..entry.end])?;
        }
        spool.end_run();
        self.lists.clear();
        self.entry_bytes = 0;
        Ok(())
    }

    /// Doubling alone would go beyond the memory by up to a half.
    fn reserve(&mut self, more: usize) {
        let needed = self.lists.len() + more;
        if needed > self.lists.capacity() {
            let grown = (self.lists.capacity() * 2).min(self.memory_bytes).max(needed);
            self.lists.reserve_exact(grown - self.lists.len());
        }
    }
}

/// Merges runs in groups into fewer and longer ones.
fn pass(
    mut spool: Spool,
    folder: &Path,
    group_runs: usize,
    memory_bytes: usize,
    stop: &StopSignal,
) -> Result<Spool, CutFailure> {
    let mut longer = Spool::create(folder).map_err(CutFailure::Sort)?;
    let count = spool.read_back().map_err(CutFailure::Sort)?.1.len();
    let mut record = SortedRecord::new();
    for start in (0..count).step_by(group_runs) {
        let group = start..count.min(start + group_runs);
        let mut merge = Merge::new(spool, group, memory_bytes).map_err(CutFailure::Sort)?;
        let mut series = 0u64;
        while merge.next(&mut record).map_err(CutFailure::Sort)? {
            longer.write(&record.labels, &record.list).map_err(CutFailure::Sort)?;
            series += 1;
            if series.is_multiple_of(UNIT_SERIES) && stop.is_set() {
                return Err(CutFailure::Stopped);
            }
        }
        longer.end_run();
        spool = merge.spool;
    }
    Ok(longer)
}

/// The series in order.
pub enum SortedSeries {
    /// All are in memory.
    Memory {
        /// What is left of them.
        entries: std::iter::Peekable<std::vec::IntoIter<Entry>>,
        /// The chunk lists of all of them.
        lists: Vec<u8>,
    },
    /// They come from sorted runs.
    Merge(Merge),
}

impl SortedSeries {
    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        match self {
            SortedSeries::Memory { entries, .. } => entries.len() == 0,
            SortedSeries::Merge(merge) => merge.heads.is_empty(),
        }
    }

    /// Reads the next series; false if there is none.
    pub fn next(&mut self, record: &mut SortedRecord) -> Result<bool, CutFailure> {
        match self {
            SortedSeries::Memory { entries, lists } => {
                let Some(Entry { labels, start, end }) = entries.next() else { return Ok(false) };
                record.begin(labels, &lists[start..end]);
                // One label set is one series of one shard, so this is not to be expected.
                while let Some(same) = entries.next_if(|entry| entry.labels == record.labels) {
                    record.list.extend_from_slice(&lists[same.start..same.end]);
                }
                Ok(true)
            }
            SortedSeries::Merge(merge) => merge.next(record).map_err(CutFailure::Sort),
        }
    }
}

/// Merges runs of a spool.
pub struct Merge {
    spool: Spool,
    runs: Vec<RunReader>,
    /// The labels of the next series of each run that has one.
    heads: BinaryHeap<Reverse<(Labels, usize)>>,
}

impl Merge {
    fn new(mut spool: Spool, runs: Range<usize>, memory_bytes: usize) -> io::Result<Merge> {
        let piece_bytes = (memory_bytes / runs.len().max(1)).clamp(*PIECE_BYTES.start(), *PIECE_BYTES.end());
        let (_, all) = spool.read_back()?;
        let runs: Vec<_> = all[runs].iter().map(|run| RunReader::new(run.clone(), piece_bytes)).collect();
        let mut merge = Merge { spool, heads: BinaryHeap::with_capacity(runs.len()), runs };
        for index in 0..merge.runs.len() {
            merge.advance(index)?;
        }
        Ok(merge)
    }

    fn next(&mut self, record: &mut SortedRecord) -> io::Result<bool> {
        let Some(Reverse((labels, index))) = self.heads.pop() else { return Ok(false) };
        record.begin(labels, self.runs[index].chunks());
        self.advance(index)?;
        while let Some(Reverse((labels, index))) = self.heads.peek()
            && *labels == record.labels
        {
            let index = *index;
            self.heads.pop();
            record.list.extend_from_slice(self.runs[index].chunks());
            self.advance(index)?;
        }
        Ok(true)
    }

    fn advance(&mut self, index: usize) -> io::Result<()> {
        let (file, _) = self.spool.read_back()?;
        if let Some(labels) = self.runs[index].next(file)? {
            self.heads.push(Reverse((labels, index)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_shards::chunk::Encoding;
    use proptest::prelude::*;

    use super::*;
    use crate::cut::stop::stop_pair;

    /// Sorts series that are given by a number and the bytes of a chunk.
    fn sorted(
        series: &[(u16, Vec<u8>)],
        memory_bytes: usize,
        merged_runs_max: usize,
    ) -> Vec<(Labels, Vec<Vec<u8>>)> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = SeriesSorter::new(folder.path(), memory_bytes);
        sorter.merged_runs_max = merged_runs_max;
        for (number, bytes) in series {
            let chunk = RawChunk { min_ms: 0, max_ms: 1, encoding: Encoding::Xor, bytes };
            sorter.push(labels(*number), std::iter::once(chunk)).unwrap();
        }
        let (_stopper, stop) = stop_pair();
        let mut sorted = sorter.finish(&stop).unwrap();
        let mut record = SortedRecord::new();
        let mut all = Vec::new();
        while sorted.next(&mut record).unwrap() {
            all.push((record.labels.clone(), record.chunks().map(|chunk| chunk.bytes.to_vec()).collect()));
        }
        all
    }

    fn labels(number: u16) -> Labels {
        Labels::from_pairs([("__name__", "up"), ("pod", number.to_string().as_str())])
    }

    #[test]
    fn what_fits_into_memory_touches_no_disk() {
        let mut sorter = SeriesSorter::new(Path::new("/does/not/exist"), 1 << 20);
        for number in 0..1000 {
            sorter.push(labels(number), std::iter::empty()).unwrap();
        }
        let (_stopper, stop) = stop_pair();
        assert!(matches!(sorter.finish(&stop).unwrap(), SortedSeries::Memory { .. }));
        let mut sorter = SeriesSorter::new(Path::new("/does/not/exist"), 1 << 10);
        let error = (0..1000).find_map(|number| sorter.push(labels(number), std::iter::empty()).err());
        assert_eq!(error.unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_pass_ends_when_it_is_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = SeriesSorter::new(folder.path(), 1);
        sorter.merged_runs_max = UNIT_SERIES as usize;
        for number in 0..=UNIT_SERIES as u16 {
            sorter.push(labels(number), std::iter::empty()).unwrap();
        }
        let (stopper, stop) = stop_pair();
        drop(stopper);
        assert!(matches!(sorter.finish(&stop), Err(CutFailure::Stopped)));
    }

    proptest! {
        #[test]
        fn series_come_out_sorted_whatever_fits_into_memory(
            series in proptest::collection::vec((0u16..60, proptest::collection::vec(any::<u8>(), 0..50)), 0..200),
            memory_bytes in 0usize..20_000,
            merged_runs_max in 2usize..9,
        ) {
            let mut expected = BTreeMap::<Labels, Vec<Vec<u8>>>::new();
            for (number, bytes) in &series {
                expected.entry(labels(*number)).or_default().push(bytes.clone());
            }
            let expected: Vec<_> = expected.into_iter().collect();
            prop_assert_eq!(sorted(&series, memory_bytes, merged_runs_max), expected);
        }
    }
}
