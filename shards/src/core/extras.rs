//! Histograms, exemplars and metadata of a request on their way to the shards that own them.

use std::collections::HashMap;
use std::vec::IntoIter;

use crate::head::SeriesKey;
use crate::metadata::TEXT_BYTES_MAX;
use crate::wire::{
    BodyRange, ExemplarRow, Extras, HistogramRow, MetadataRow, Row, TenantHasher, canonical_label_bytes,
    parse_labels,
};

/// Bytes of labels that are looked at in one step: some 100 µs.
const STEP_LABEL_BYTES: usize = 64 << 10;

/// What a row costs at least, in bytes of labels.
const ROW_COST_BYTES: usize = 64;

/// What it costs to hand a row to its owner, in bytes of labels.
const SPLIT_COST_BYTES: usize = 8;

/// Gives every label set its canonical encoding and the key of that, so that each row goes straight to its owner. What
/// has labels that are none keeps them, and is refused by whoever gets it.
///
/// Float samples mostly go to the owner of the labels as they came. Those of a series with exemplars do not: an exemplar
/// that is there before the samples that make its series is lost.
#[derive(Default)]
pub struct Canonicalizer {
    histograms_done: usize,
    exemplars_done: usize,
    rows_done: usize,
    /// What became of labels of exemplars that came in another encoding, by where they were.
    changed: HashMap<(u32, u32), (BodyRange, SeriesKey), ahash::RandomState>,
    /// The labels that were looked at last, and what came of them: the rows of a series follow each other.
    last: Option<(BodyRange, (BodyRange, SeriesKey))>,
}

impl Canonicalizer {
    /// Goes on for one step. Answers whether all rows are done.
    pub fn run(
        &mut self,
        rows: &mut [Row],
        extras: &mut Extras,
        body: &mut Vec<u8>,
        hasher: &TenantHasher,
    ) -> bool {
        let mut cost_bytes = 0;
        for row in &mut extras.histograms[self.histograms_done..] {
            if cost_bytes >= STEP_LABEL_BYTES {
                return false;
            }
            (row.labels, row.key) = self.of((row.labels, row.key), body, hasher, &mut cost_bytes);
            self.histograms_done += 1;
        }
        for row in &mut extras.exemplars[self.exemplars_done..] {
            if cost_bytes >= STEP_LABEL_BYTES {
                return false;
            }
            let given = row.series_labels;
            (row.series_labels, row.key) = self.of((given, row.key), body, hasher, &mut cost_bytes);
            if row.series_labels != given {
                self.changed.insert((given.offset, given.len), (row.series_labels, row.key));
            }
            self.exemplars_done += 1;
        }
        if self.changed.is_empty() {
            return true;
        }
        for row in &mut rows[self.rows_done..] {
            if cost_bytes >= STEP_LABEL_BYTES {
                return false;
            }
            cost_bytes += ROW_COST_BYTES;
            if let Some((labels, key)) = self.changed.get(&(row.label_offset, row.label_len)) {
                *row = Row { key: *key, label_offset: labels.offset, label_len: labels.len, ..*row };
            }
            self.rows_done += 1;
        }
        true
    }

    /// What it takes beside rows and body.
    pub fn memory_bytes(&self) -> usize {
        self.changed.capacity() * size_of::<((u32, u32), (BodyRange, SeriesKey))>()
    }

    fn of(
        &mut self,
        given: (BodyRange, SeriesKey),
        body: &mut Vec<u8>,
        hasher: &TenantHasher,
        cost_bytes: &mut usize,
    ) -> (BodyRange, SeriesKey) {
        *cost_bytes += ROW_COST_BYTES;
        let (range, _) = given;
        if let Some((_, canonical)) = self.last.filter(|(last, _)| *last == range) {
            return canonical;
        }
        *cost_bytes += range.len as usize;
        let canonical = make_canonical(range, body, hasher).unwrap_or(given);
        self.last = Some((range, canonical));
        canonical
    }
}

/// `None` if the labels are canonical as they are, or none at all.
fn make_canonical(
    range: BodyRange,
    body: &mut Vec<u8>,
    hasher: &TenantHasher,
) -> Option<(BodyRange, SeriesKey)> {
    let label_bytes = range.of(body);
    let labels = parse_labels(label_bytes).ok()?;
    let canonical = canonical_label_bytes(&labels);
    if canonical == label_bytes {
        return None;
    }
    let (offset, len) = (u32::try_from(body.len()).ok()?, canonical.len() as u32);
    body.extend_from_slice(&canonical);
    Some((BodyRange { offset, len }, hasher.key(&canonical)))
}

/// Makes one part for each shard; metadata is owned by its family's name.
pub struct Splitter {
    histograms: IntoIter<HistogramRow>,
    exemplars: IntoIter<ExemplarRow>,
    metadata: IntoIter<MetadataRow>,
    parts: Vec<Extras>,
}

impl Splitter {
    /// Nothing is done yet.
    pub fn new(extras: Extras, count: usize) -> Splitter {
        let Extras { histograms, exemplars, metadata } = extras;
        Splitter {
            histograms: histograms.into_iter(),
            exemplars: exemplars.into_iter(),
            metadata: metadata.into_iter(),
            parts: vec![Extras::default(); count],
        }
    }

    /// Goes on for one step. Answers whether all rows are done.
    pub fn run(&mut self, body: &[u8], hasher: &TenantHasher) -> bool {
        let count = self.parts.len();
        let mut cost_bytes = 0;
        while cost_bytes < STEP_LABEL_BYTES {
            cost_bytes += SPLIT_COST_BYTES;
            if let Some(row) = self.histograms.next() {
                self.parts[row.key.owner(count)].histograms.push(row);
            } else if let Some(row) = self.exemplars.next() {
                self.parts[row.key.owner(count)].exemplars.push(row);
            } else if let Some(row) = self.metadata.next() {
                // A name that is too long is refused by whoever gets it.
                let name_bytes = row.family.len as usize;
                let owner = if name_bytes <= TEXT_BYTES_MAX {
                    hasher.key(row.family.of(body)).owner(count)
                } else {
                    0
                };
                cost_bytes += name_bytes.min(TEXT_BYTES_MAX);
                self.parts[owner].metadata.push(row);
            } else {
                return true;
            }
        }
        false
    }

    /// The parts, when all rows are done.
    pub fn finish(self) -> Vec<Extras> {
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{HistogramRow, MetadataRow, SeriesHasher};

    #[test]
    fn rows_go_to_the_owner_of_their_canonical_labels() {
        let hasher = SeriesHasher::new([1; 16]).tenant("t");
        let canonical = canonical_label_bytes(&[("__name__", "up"), ("pod", "a")]);
        // An unknown field in the last label makes the encoding another one.
        let mut body = [&canonical[..], &[0x18, 1]].concat();
        let pod_len_at = canonical.len() - 9;
        body[pod_len_at] += 2;
        let labels = BodyRange { offset: 0, len: body.len() as u32 };
        let row = HistogramRow { key: hasher.key(&body), labels, timestamp_ms: 1, message: labels };
        let family = BodyRange { offset: 2, len: 3 };
        let metadata = MetadataRow { kind: 1, family, help: family, unit: family };
        let mut extras = Extras { histograms: vec![row, row], metadata: vec![metadata], ..Extras::default() };
        assert!(Canonicalizer::default().run(&mut [], &mut extras, &mut body, &hasher));
        for row in &extras.histograms {
            assert_eq!((row.labels.of(&body), row.key), (&canonical[..], hasher.key(&canonical)));
        }
        assert_eq!(body.len(), labels.len as usize + canonical.len(), "once for both rows");
        let mut split = Splitter::new(extras, 4);
        assert!(split.run(&body, &hasher));
        let parts = split.finish();
        assert_eq!(parts[hasher.key(&canonical).owner(4)].histograms.len(), 2);
        assert_eq!(parts[hasher.key(family.of(&body)).owner(4)].metadata.len(), 1);
        assert_eq!(parts.iter().map(|part| part.histograms.len() + part.metadata.len()).sum::<usize>(), 3);
    }

    #[test]
    fn samples_go_to_the_owner_of_their_exemplars() {
        let hasher = SeriesHasher::new([1; 16]).tenant("t");
        let canonical = canonical_label_bytes(&[("__name__", "up")]);
        let odd = [&[0x0a, canonical[1] + 2], &canonical[2..], &[0x18, 1]].concat();
        let mut body = odd.repeat(3000);
        let range = |at: usize| BodyRange { offset: (at * odd.len()) as u32, len: odd.len() as u32 };
        let row = |at: usize| {
            let BodyRange { offset: label_offset, len: label_len } = range(at);
            Row { key: hasher.key(&odd), label_offset, label_len, timestamp_ms: at as i64, value: 0.5 }
        };
        let exemplar = |at: usize| {
            let labels = BodyRange::default();
            ExemplarRow {
                key: hasher.key(&odd),
                series_labels: range(at),
                labels,
                timestamp_ms: 1,
                value: 0.5,
            }
        };
        let mut rows: Vec<Row> = (0..3000).map(row).collect();
        let mut extras =
            Extras { exemplars: (0..3000).step_by(2).map(exemplar).collect(), ..Extras::default() };
        let (mut walk, mut steps) = (Canonicalizer::default(), 1);
        while !walk.run(&mut rows, &mut extras, &mut body, &hasher) {
            steps += 1;
        }
        assert!(steps > 3 && walk.memory_bytes() > 1500 * size_of::<BodyRange>());
        let exemplar_of = |row: &Row| extras.exemplars[row.timestamp_ms as usize / 2];
        for (at, row) in rows.iter().enumerate() {
            let labels = BodyRange { offset: row.label_offset, len: row.label_len };
            if at % 2 == 0 {
                assert_eq!((labels.of(&body), row.key), (&canonical[..], hasher.key(&canonical)));
                assert_eq!((exemplar_of(row).key, row.timestamp_ms), (row.key, at as i64));
            } else {
                assert_eq!(labels, range(at), "nothing is lost if it goes by its labels as they are");
            }
        }
    }

    #[test]
    fn many_rows_are_done_in_steps() {
        let hasher = SeriesHasher::new([1; 16]).tenant("t");
        let canonical = canonical_label_bytes(&[("__name__", "up")]);
        let odd = [&[0x0a, canonical[1] + 2], &canonical[2..], &[0x18, 1]].concat();
        let mut body = odd.repeat(5000);
        let row = |at: usize| {
            let labels = BodyRange { offset: (at * odd.len()) as u32, len: odd.len() as u32 };
            HistogramRow { key: hasher.key(&odd), labels, timestamp_ms: 1, message: labels }
        };
        let mut extras = Extras { histograms: (0..5000).map(row).collect(), ..Extras::default() };
        let (mut walk, mut steps) = (Canonicalizer::default(), 1);
        while !walk.run(&mut [], &mut extras, &mut body, &hasher) {
            steps += 1;
        }
        assert!(steps > 1);
        let many = Extras { histograms: extras.histograms.repeat(10), ..Extras::default() };
        let (mut split, mut steps) = (Splitter::new(many, 4), 1);
        while !split.run(&body, &hasher) {
            steps += 1;
        }
        assert!(steps > 1);
        assert_eq!(split.finish().iter().map(|part| part.histograms.len()).sum::<usize>(), 50_000);
        assert_eq!(body, [odd.repeat(5000), canonical.repeat(5000)].concat());
        assert!(extras.histograms.iter().all(|row| row.labels.of(&body) == canonical));
    }
}
