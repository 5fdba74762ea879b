//! Sorts (label pair, series) records with a fixed amount of memory: sorted runs go to a file and are merged from
//! there. What fits into the memory never touches a disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::out_file::OutFile;

/// A series that has a label pair; ordered by label name, value and series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairRecord {
    /// The place of the name among all symbols.
    pub name: u32,
    /// The place of the value.
    pub value: u32,
    /// The reference to the series.
    pub series: u32,
}

/// Bytes of a record in a run.
const RECORD_BYTES: usize = 12;

/// The smallest piece of a run that is read at a time.
const PIECE_RECORDS_MIN: usize = 512;

impl PairRecord {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..4].copy_from_slice(&self.name.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.value.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.series.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; RECORD_BYTES]) -> PairRecord {
        let [n0, n1, n2, n3, v0, v1, v2, v3, s0, s1, s2, s3] = bytes;
        PairRecord {
            name: u32::from_le_bytes([n0, n1, n2, n3]),
            value: u32::from_le_bytes([v0, v1, v2, v3]),
            series: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }
}

/// Takes records in any order.
pub struct PairSorter {
    path: PathBuf,
    records: Vec<PairRecord>,
    records_max: usize,
    spool: Option<OutFile>,
    /// Where each run ends in the spool.
    run_ends: Vec<u64>,
}

impl PairSorter {
    /// A sorter that makes a file at `path` when it needs one.
    pub fn new(path: PathBuf, memory_bytes: usize) -> PairSorter {
        let records_max = (memory_bytes / size_of::<PairRecord>()).max(2);
        PairSorter { path, records: Vec::new(), records_max, spool: None, run_ends: Vec::new() }
    }

    /// Adds a record.
    pub fn push(&mut self, record: PairRecord) -> io::Result<()> {
        if self.records.len() == self.records.capacity() {
            // Doubling alone would go beyond the budget by up to a half.
            let grown = (self.records.len() * 2).clamp(2, self.records_max);
            self.records.reserve_exact(grown - self.records.len());
        }
        self.records.push(record);
        if self.records.len() >= self.records_max { self.spill() } else { Ok(()) }
    }

    /// Begins to give the records back, in order.
    pub fn finish(mut self) -> io::Result<SortedPairs> {
        let Some(_) = &self.spool else {
            self.records.sort_unstable();
            return Ok(SortedPairs::Memory(self.records.into_iter()));
        };
        if !self.records.is_empty() {
            self.spill()?;
        }
        let Some(spool) = self.spool else { unreachable!("there was a spool above") };
        let piece_records = (self.records_max / self.run_ends.len()).max(PIECE_RECORDS_MIN);
        drop(self.records);
        Merge::new(spool, &self.run_ends, piece_records).map(SortedPairs::Merge)
    }

    fn spill(&mut self) -> io::Result<()> {
        self.records.sort_unstable();
        let spool = match &mut self.spool {
            Some(spool) => spool,
            none => none.insert(OutFile::create_spool(&self.path)?),
        };
        for record in self.records.drain(..) {
            spool.write(&record.to_bytes())?;
        }
        self.run_ends.push(spool.position());
        Ok(())
    }
}

/// The records in order.
pub enum SortedPairs {
    /// All were in memory.
    Memory(std::vec::IntoIter<PairRecord>),
    /// They come from sorted runs.
    Merge(Merge),
}

impl SortedPairs {
    /// The next record.
    pub fn next(&mut self) -> io::Result<Option<PairRecord>> {
        match self {
            SortedPairs::Memory(records) => Ok(records.next()),
            SortedPairs::Merge(merge) => merge.next(),
        }
    }
}

/// Merges the runs of a spool.
pub struct Merge {
    spool: OutFile,
    runs: Vec<Run>,
    /// The next record of each run that has one.
    heads: BinaryHeap<Reverse<(PairRecord, usize)>>,
    piece_records: usize,
}

/// The rest of one run.
struct Run {
    /// What is not read yet.
    at: u64,
    end: u64,
    /// What is read, from `next` on.
    piece: Vec<u8>,
    next: usize,
}

impl Merge {
    fn new(spool: OutFile, run_ends: &[u64], piece_records: usize) -> io::Result<Merge> {
        let starts = std::iter::once(0).chain(run_ends.iter().copied());
        let run = |(at, end): (u64, &u64)| Run { at, end: *end, piece: Vec::new(), next: 0 };
        let runs: Vec<_> = starts.zip(run_ends).map(run).collect();
        let mut merge = Merge { spool, heads: BinaryHeap::with_capacity(runs.len()), runs, piece_records };
        for index in 0..merge.runs.len() {
            if let Some(record) = merge.next_of(index)? {
                merge.heads.push(Reverse((record, index)));
            }
        }
        Ok(merge)
    }

    fn next(&mut self) -> io::Result<Option<PairRecord>> {
        let Some(Reverse((record, index))) = self.heads.pop() else { return Ok(None) };
        if let Some(following) = self.next_of(index)? {
            self.heads.push(Reverse((following, index)));
        }
        Ok(Some(record))
    }

    fn next_of(&mut self, index: usize) -> io::Result<Option<PairRecord>> {
        let run = &mut self.runs[index];
        if run.next == run.piece.len() {
            let length = (run.end - run.at).min((self.piece_records * RECORD_BYTES) as u64);
            run.piece.resize(length as usize, 0);
            run.next = 0;
            self.spool.read_back()?.read_exact_at(&mut run.piece, run.at)?;
            run.at += length;
        }
        let record = run.piece[run.next..].first_chunk().map(|bytes| PairRecord::from_bytes(*bytes));
        run.next += record.map_or(0, |_| RECORD_BYTES);
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_out_sorted_whatever_fits_into_memory(
            records in proptest::collection::vec((0u32..5, 0u32..5, any::<u32>()), 0..3000),
            memory_records in 1usize..4000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = PairSorter::new(folder.path().join("pairs"), memory_records * size_of::<PairRecord>());
            let mut expected = Vec::new();
            for (name, value, series) in records {
                let record = PairRecord { name, value, series };
                expected.push(record);
                sorter.push(record).unwrap();
            }
            expected.sort_unstable();
            let mut sorted = sorter.finish().unwrap();
            let mut got = Vec::new();
            while let Some(record) = sorted.next().unwrap() {
                got.push(record);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
