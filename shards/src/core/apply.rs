//! What the rows of a write do to a shard: the decision on each sample. Pure: no clock, no I/O.

use std::borrow::Cow;

use super::batch::WriteBatch;
use super::outcome::{Failure, Outcome, Reason, Refusal};
use crate::head::{
    AppendError, Appended, Head, HeadFull, ReadChunks, Rules, SeriesIndex, SeriesKey, describe_labels,
};
use crate::limits::NewSeriesError;
use crate::wal::Encoder;
use crate::wire::{LabelError, Row, TenantHasher, canonical_label_bytes, parse_canonical, parse_labels};

/// An upper bound of what one sample takes in a WAL payload, in bytes.
pub const SAMPLE_RECORD_BYTES_MAX: usize = 32;

/// An upper bound of what one new series takes in a WAL payload, in bytes, given its labels' size on the wire: the
/// canonical encoding is never longer than another.
pub fn series_record_bytes_max(tenant: &str, label_bytes: usize) -> usize {
    label_bytes + tenant.len() + 32
}

/// Where rows are applied.
pub struct Target<'a, R> {
    /// Takes the samples.
    pub head: &'a mut Head,
    /// Takes the records of what the head took.
    pub records: &'a mut Encoder,
    /// Makes the key of a series whose labels came in another encoding than the canonical one.
    pub hasher: &'a TenantHasher,
    /// Index of this shard.
    pub shard: usize,
    /// How many there are.
    pub shard_count: usize,
    /// Which samples the tenant's series take.
    pub rules: Rules,
    /// Closed chunks that were read for rows that needed them.
    pub read: &'a R,
    /// Times of the oldest and of the newest sample that was taken, in milliseconds.
    pub taken_ms: (i64, i64),
    /// Whether the WAL ring has room for a payload of so many bytes; `None` while it has plenty.
    pub has_room: Option<&'a dyn Fn(usize) -> bool>,
}

impl<R> Target<'_, R> {
    /// Whether the records may grow by so many bytes.
    #[inline]
    pub fn has_room(&self, more_bytes: usize) -> bool {
        self.has_room.is_none_or(|has_room| has_room(self.records.len() + more_bytes))
    }
}

/// The most work of one run, in what a sample of a known series costs (some 100 ns).
const RUN_COST_MAX: usize = 1024;

/// Bytes of labels that cost as much to parse and to intern.
const LABEL_BYTES_PER_COST: usize = 16;

/// What it costs to look for an old sample in its chunk.
const OLD_SAMPLE_COST: usize = 8;

/// Numbers of chunks that cost as much to decode or to encode.
pub const NUMBERS_PER_COST: usize = 16;

/// Rows whose series are looked up together, while the group before them is appended to and the slots of the group behind
/// them are on their way from main memory.
const GROUP_ROWS: usize = 16;

/// Applies a run of a batch's rows, as many as a bounded amount of work allows, and returns how many it applied. The
/// outcome's counts are true whatever happens: on a failure, which is the sender's to retry, the rest of the run is
/// counted as failed and nothing of it was done.
pub fn apply(
    target: &mut Target<'_, impl ReadChunks>,
    batch: &WriteBatch,
    rows: &[Row],
    last: &mut LastSeries,
    outcome: &mut Outcome,
) -> Result<usize, Failure> {
    let (mut cost, mut done) = (0, 0);
    let keys = |group| group_of(rows, group).iter().map(|row| row.key);
    target.head.prefetch(keys(0));
    target.head.prefetch(keys(1));
    let mut next: [_; GROUP_ROWS] = target.head.candidates(keys(0));
    for (at, group) in rows.chunks(GROUP_ROWS).enumerate() {
        target.head.prefetch(keys(at + 2));
        let candidates = std::mem::replace(&mut next, target.head.candidates(keys(at + 1)));
        for (candidate, row) in candidates.into_iter().zip(group) {
            let known = target.head.confirm(candidate, row.key);
            if cost >= RUN_COST_MAX {
                return Ok(done);
            }
            cost += 1;
            let series;
            let found = match known {
                Some(known) => {
                    series = Found::Series(known, row.key);
                    &series
                }
                None => last.resolve(target, batch, row, &mut cost),
            };
            let failure = match found {
                Found::Series(series, _) if target.has_room(SAMPLE_RECORD_BYTES_MAX) => {
                    if !append(target, *series, row, outcome) {
                        cost += OLD_SAMPLE_COST + target.head.take_work() / NUMBERS_PER_COST;
                    }
                    None
                }
                Found::Series(..) => Some(Failure::RingFull),
                Found::Elsewhere => {
                    outcome.rekey.push(*row);
                    None
                }
                Found::Invalid(error) => {
                    outcome.refuse(Reason::InvalidLabels, || Refusal::Labels(error.clone()));
                    None
                }
                Found::OutOfBounds(error) => {
                    let error = *error;
                    outcome.refuse(Reason::of_append(&error), || Refusal::Append {
                        series: describe(batch.label_bytes(row)),
                        error,
                    });
                    None
                }
                Found::OverLimit(error) => {
                    outcome.refuse(Reason::of_new_series(error), || Refusal::NewSeries {
                        series: describe(batch.label_bytes(row)),
                        error: error.clone(),
                    });
                    None
                }
                Found::Failed(failure) => Some(*failure),
            };
            if let Some(failure) = failure {
                outcome.failed += (rows.len() - done) as u64;
                return Err(failure);
            }
            done += 1;
        }
    }
    Ok(done)
}

/// The rows of a group; none behind the last one.
#[inline]
fn group_of(rows: &[Row], group: usize) -> &[Row] {
    let rest = rows.get(group * GROUP_ROWS..).unwrap_or_default();
    &rest[..rest.len().min(GROUP_ROWS)]
}

/// Appends one sample; answers whether it is new.
#[inline]
fn append(
    target: &mut Target<'_, impl ReadChunks>,
    series: SeriesIndex,
    row: &Row,
    outcome: &mut Outcome,
) -> bool {
    match target.head.append(series, row.timestamp_ms, row.value, &target.rules, target.read) {
        Ok(appended @ (Appended::Stored | Appended::Late)) => {
            target.records.sample(series.0, row.timestamp_ms, row.value);
            let (oldest_ms, newest_ms) = target.taken_ms;
            target.taken_ms = (oldest_ms.min(row.timestamp_ms), newest_ms.max(row.timestamp_ms));
            outcome.written += 1;
            return appended == Appended::Stored;
        }
        Ok(Appended::Repeat) => outcome.repeated += 1,
        Ok(Appended::Unread(place)) => outcome.unread.push((*row, place)),
        Err(error) => {
            let head = &target.head;
            outcome.refuse(Reason::of_append(&error), || Refusal::Append {
                series: head.describe(series),
                error,
            });
        }
    }
    false
}

/// The series of a batch's row before, from one run to the next. Samples of one series stand together, and there may be
/// many: large labels are looked at once.
#[derive(Default)]
pub struct LastSeries(Option<(SeriesKey, Found)>);

impl LastSeries {
    /// Where the samples of a key belong that the head does not know under this key.
    pub fn resolve(
        &mut self,
        target: &mut Target<'_, impl ReadChunks>,
        batch: &WriteBatch,
        row: &Row,
        cost: &mut usize,
    ) -> &Found {
        let is_known = match &self.0 {
            // While the batch waited, the series may have gone, and its number may be another's.
            Some((key, Found::Series(series, canonical))) => {
                *key == row.key && target.head.find(*canonical) == Some(*series)
            }
            // The next sample may be a better one.
            Some((_, Found::OutOfBounds(_))) => false,
            Some((key, _)) => *key == row.key,
            None => false,
        };
        if !is_known {
            *cost += row.label_len as usize / LABEL_BYTES_PER_COST;
            self.0 = Some((row.key, resolve(target, batch, row)));
        }
        match &self.0 {
            Some((_, found)) => found,
            None => unreachable!("it was set above"),
        }
    }
}

/// Where the samples of a key belong.
pub enum Found {
    /// A series, and the key of its canonical labels.
    Series(SeriesIndex, SeriesKey),
    /// Another shard owns these labels in their canonical encoding.
    Elsewhere,
    /// The labels are not a label set.
    Invalid(LabelError),
    /// They are those of no series, and the sample is not one to begin a series with: nothing is added for it.
    OutOfBounds(AppendError),
    /// They are those of no series, and a limit keeps it from being one.
    OverLimit(NewSeriesError),
    /// The sender is to try again.
    Failed(Failure),
}

/// Parses the labels of a key never seen, and adds the series, or finds it under the key of the canonical
/// encoding: one label set is one series on one shard, whatever a sender's encoder does.
#[cold]
fn resolve(target: &mut Target<'_, impl ReadChunks>, batch: &WriteBatch, row: &Row) -> Found {
    // A row a little before this one may have made it, after this one's key was looked up.
    if let Some(series) = target.head.find(row.key) {
        return Found::Series(series, row.key);
    }
    let label_bytes = batch.label_bytes(row);
    let (labels, canonical) = match parse_canonical(label_bytes) {
        Some(labels) => (labels, Cow::Borrowed(label_bytes)),
        None => match parse_labels(label_bytes) {
            Ok(labels) => {
                let canonical = canonical_label_bytes(&labels);
                (labels, Cow::Owned(canonical))
            }
            Err(error) => return Found::Invalid(error),
        },
    };
    let mut key = row.key;
    if *canonical != *label_bytes {
        key = target.hasher.key(&canonical);
        if key.owner(target.shard_count) != target.shard {
            return Found::Elsewhere;
        }
        if let Some(series) = target.head.find(key) {
            return Found::Series(series, key);
        }
    }
    let rules = &target.rules;
    if row.timestamp_ms < rules.floor_ms || row.timestamp_ms > rules.ceiling_ms {
        return Found::OutOfBounds(rules.out_of_bounds(row.timestamp_ms));
    }
    if !target.has_room(series_record_bytes_max(batch.tenant(), canonical.len()) + SAMPLE_RECORD_BYTES_MAX) {
        return Found::Failed(Failure::RingFull);
    }
    // Last, because it counts the series.
    if let Err(error) = batch.begin_series(&labels, target.shard) {
        return Found::OverLimit(error);
    }
    match target.head.create(key, batch.tenant(), &labels) {
        Ok(series) => {
            target.records.series(series.0, batch.tenant(), &canonical);
            Found::Series(series, key)
        }
        Err(HeadFull) => {
            batch.end_series(target.shard);
            Found::Failed(Failure::HeadFull)
        }
    }
}

/// The series of label bytes for messages; empty if they are not a label set.
pub fn describe(label_bytes: &[u8]) -> String {
    parse_labels(label_bytes).map_or_else(|_| String::new(), |labels| describe_labels(labels.iter().copied()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::batch::split;
    use crate::wire::SeriesHasher;

    #[test]
    fn samples_that_are_out_of_bounds_add_no_series() {
        let hasher = SeriesHasher::new([3; 16]).tenant("t");
        let body = canonical_label_bytes(&[("__name__", "up"), ("pod", "a")]);
        let row = |timestamp_ms| Row {
            key: hasher.key(&body),
            label_offset: 0,
            label_len: body.len() as u32,
            timestamp_ms,
            value: 1.0,
        };
        let rows = vec![row(99), row(201), row(150), row(160)];
        let (_gather, batches) = split("t".into(), Arc::new(body.clone()), vec![(rows, None)]);
        let (mut head, mut records, mut outcome) = (Head::default(), Encoder::default(), Outcome::default());
        let mut target = Target {
            head: &mut head,
            records: &mut records,
            hasher: &hasher,
            shard: 0,
            shard_count: 1,
            rules: Rules { floor_ms: 100, ceiling_ms: 200, ..Rules::replay(7_200_000) },
            read: &(),
            taken_ms: (i64::MAX, i64::MIN),
            has_room: None,
        };
        let mut last = LastSeries::default();
        apply(&mut target, &batches[0], &batches[0].rows[..2], &mut last, &mut outcome).unwrap();
        assert_eq!((target.head.series_count(), target.records.len()), (0, 0));
        let refusal = outcome.first_refusal.as_ref().unwrap().to_string();
        assert!(refusal.contains(r#"{__name__="up", pod="a"}"#) && refusal.contains("too old"), "{refusal}");
        apply(&mut target, &batches[0], &batches[0].rows[2..], &mut last, &mut outcome).unwrap();
        assert_eq!((outcome.written, outcome.refused_count(), target.head.series_count()), (2, 2, 1));
    }

    #[test]
    fn a_number_that_changed_hands_while_a_batch_waited_is_not_taken_for_its_series() {
        let hasher = SeriesHasher::new([3; 16]).tenant("a");
        // A length in more bytes than it needs: every row goes by the last series.
        let mut body = canonical_label_bytes(&[("__name__", "up")]);
        body[1] |= 0x80;
        body.insert(2, 0);
        let row = |timestamp_ms| Row {
            key: hasher.key(&body),
            label_offset: 0,
            label_len: body.len() as u32,
            timestamp_ms,
            value: 1.0,
        };
        let (_gather, batches) =
            split("a".into(), Arc::new(body.clone()), vec![(vec![row(10), row(20)], None)]);
        let (mut head, mut last) = (Head::default(), LastSeries::default());
        let mut run = |head: &mut Head, rows: &[Row]| {
            let (mut records, mut outcome) = (Encoder::default(), Outcome::default());
            let mut target = Target {
                head,
                records: &mut records,
                hasher: &hasher,
                shard: 0,
                shard_count: 1,
                rules: Rules::replay(7_200_000),
                read: &(),
                taken_ms: (i64::MAX, i64::MIN),
                has_room: None,
            };
            apply(&mut target, &batches[0], rows, &mut last, &mut outcome).unwrap();
            assert_eq!(outcome.written, 1, "{outcome:?}");
        };
        run(&mut head, &batches[0].rows[..1]);
        let mut sweep = crate::head::Sweep::new(&head, "a", 7_200_000).unwrap();
        while !sweep.step(&mut head).unwrap() {}
        head.end_rest();
        let other = head.create(SeriesKey(7), "b", &[("__name__", "other")]).unwrap();
        assert_eq!(other.0, 0, "the number is used again");
        run(&mut head, &batches[0].rows[1..]);
        assert!(!head.overlaps(other.0, i64::MIN, i64::MAX), "another tenant's series got the sample");
        assert_eq!(head.live_series_count(), 2);
    }

    #[test]
    fn a_run_of_old_samples_in_a_large_chunk_ends_early() {
        use crate::chunk::{AnyHistogram, Buckets, Histogram, Span};
        let hasher = SeriesHasher::new([3; 16]).tenant("t");
        let body = canonical_label_bytes(&[("__name__", "latency")]);
        let row = |timestamp_ms| Row {
            key: hasher.key(&body),
            label_offset: 0,
            label_len: body.len() as u32,
            timestamp_ms,
            value: 1.0,
        };
        let rows = (0..100).map(|at| row(at * 10 + 5)).collect();
        let (_gather, batches) = split("t".into(), Arc::new(body.clone()), vec![(rows, None)]);
        let (mut head, mut records, mut outcome) = (Head::default(), Encoder::default(), Outcome::default());
        let series = head.create(hasher.key(&body), "t", &[("__name__", "latency")]).unwrap();
        let spans = vec![Span { offset: 0, length: 16_000 }];
        let positive = Buckets { spans, values: vec![0; 16_000] };
        let histogram = AnyHistogram::Integer(Histogram { positive, ..Histogram::default() });
        let rules = Rules::replay(7_200_000);
        for timestamp_ms in [0, 1000] {
            head.append_histogram(series, timestamp_ms, &histogram, &rules, &()).unwrap();
        }
        head.take_work();
        let mut target = Target {
            head: &mut head,
            records: &mut records,
            hasher: &hasher,
            shard: 0,
            shard_count: 1,
            rules,
            read: &(),
            taken_ms: (i64::MAX, i64::MIN),
            has_room: None,
        };
        let last = &mut LastSeries::default();
        let done = apply(&mut target, &batches[0], &batches[0].rows, last, &mut outcome);
        assert_eq!((done, outcome.written), (Ok(1), 1));
    }

    #[test]
    fn a_run_of_new_series_ends_early_and_goes_on() {
        let hasher = SeriesHasher::new([3; 16]).tenant("t");
        let (mut body, mut rows) = (Vec::new(), Vec::new());
        for number in 0..1000 {
            let value = format!("{number:0400}");
            let labels = canonical_label_bytes(&[("__name__", "up"), ("pod", &value)]);
            rows.push(Row {
                key: hasher.key(&labels),
                label_offset: body.len() as u32,
                label_len: labels.len() as u32,
                timestamp_ms: 1,
                value: 1.0,
            });
            body.extend(labels);
        }
        let (_gather, batches) = split("t".into(), Arc::new(body), vec![(rows, None)]);
        let (mut head, mut records, mut outcome) = (Head::default(), Encoder::default(), Outcome::default());
        let mut target = Target {
            head: &mut head,
            records: &mut records,
            hasher: &hasher,
            shard: 0,
            shard_count: 1,
            rules: Rules::replay(7_200_000),
            read: &(),
            taken_ms: (i64::MAX, i64::MIN),
            has_room: None,
        };
        let (mut done, mut runs, mut last) = (0, 0, LastSeries::default());
        while done < 1000 {
            let rows = &batches[0].rows[done..];
            done += apply(&mut target, &batches[0], rows, &mut last, &mut outcome).unwrap();
            runs += 1;
        }
        assert_eq!((done, outcome.written, head.series_count()), (1000, 1000, 1000));
        assert!((20..100).contains(&runs), "{runs} runs");
    }
}
