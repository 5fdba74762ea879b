//! What the native histograms of a write do to a shard, as `apply` for floats. Pure: no clock, no I/O.

use super::apply::{Found, LastSeries, NUMBERS_PER_COST, Target, describe, series_record_bytes_max};
use super::batch::WriteBatch;
use super::outcome::{Failure, Outcome, Reason, Refusal};
use crate::chunk::AnyHistogram;
use crate::head::{Appended, ReadChunks, SeriesIndex};
use crate::wal::histogram_record_bytes_max;
use crate::wire::{HistogramRow, LabelError, Row, parse_histogram};

/// The most work of one run, in what 16 bytes of a histogram cost (some 100 ns).
const RUN_COST_MAX: usize = 1024;

/// Bytes of a message that cost as much to decode and to encode.
const BYTES_PER_COST: usize = 16;

/// Applies a run of a batch's histograms, as many as a bounded amount of work allows, and returns how many it applied. On
/// a failure the rest of the run is counted as failed, and nothing of it was done.
pub fn apply_histograms(
    target: &mut Target<'_, impl ReadChunks>,
    batch: &WriteBatch,
    rows: &[HistogramRow],
    last: &mut LastSeries,
    outcome: &mut Outcome,
) -> Result<usize, Failure> {
    let mut cost = 0;
    for (done, row) in rows.iter().enumerate() {
        if cost >= RUN_COST_MAX {
            return Ok(done);
        }
        cost += 1 + row.message.len as usize / BYTES_PER_COST;
        let applied = match parse_histogram(row.message.of(batch.body())) {
            Ok(histogram) => apply_one(target, batch, row, &histogram, last, &mut cost, outcome),
            Err(error) => {
                outcome.refuse(Reason::InvalidHistogram, || Refusal::Histogram {
                    series: describe(row.labels.of(batch.body())),
                    error,
                });
                Ok(())
            }
        };
        if let Err(failure) = applied {
            outcome.failed += (rows.len() - done) as u64;
            return Err(failure);
        }
    }
    Ok(rows.len())
}

fn apply_one(
    target: &mut Target<'_, impl ReadChunks>,
    batch: &WriteBatch,
    row: &HistogramRow,
    histogram: &AnyHistogram,
    last: &mut LastSeries,
    cost: &mut usize,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let place = Row {
        key: row.key,
        label_offset: row.labels.offset,
        label_len: row.labels.len,
        timestamp_ms: row.timestamp_ms,
        value: 0.0,
    };
    // Before a series is made: one without samples would stay until the next block.
    let series_bytes_max = series_record_bytes_max(batch.tenant(), row.labels.len as usize);
    if !target.has_room(series_bytes_max + histogram_record_bytes_max(histogram)) {
        return Err(Failure::RingFull);
    }
    match last.resolve(target, batch, &place, cost) {
        Found::Series(series, _) => {
            append(target, *series, row, histogram, outcome);
            *cost += target.head.take_work() / NUMBERS_PER_COST;
        }
        // Labels are made canonical before they are dispatched, but for want of room in a body of 4 GiB.
        Found::Elsewhere => {
            outcome.refuse(Reason::InvalidLabels, || Refusal::Labels(LabelError::TooLarge));
        }
        Found::Invalid(error) => {
            outcome.refuse(Reason::InvalidLabels, || Refusal::Labels(error.clone()));
        }
        Found::OutOfBounds(error) => {
            let error = *error;
            outcome.refuse(Reason::of_append(&error), || Refusal::Append {
                series: describe(row.labels.of(batch.body())),
                error,
            });
        }
        Found::OverLimit(error) => {
            outcome.refuse(Reason::of_new_series(error), || Refusal::NewSeries {
                series: describe(row.labels.of(batch.body())),
                error: error.clone(),
            });
        }
        Found::Failed(failure) => return Err(*failure),
    }
    Ok(())
}

fn append(
    target: &mut Target<'_, impl ReadChunks>,
    series: SeriesIndex,
    row: &HistogramRow,
    histogram: &AnyHistogram,
    outcome: &mut Outcome,
) {
    match target.head.append_histogram(series, row.timestamp_ms, histogram, &target.rules, target.read) {
        Ok(Appended::Stored | Appended::Late) => {
            target.records.histogram(series.0, row.timestamp_ms, histogram);
            let (oldest_ms, newest_ms) = target.taken_ms;
            target.taken_ms = (oldest_ms.min(row.timestamp_ms), newest_ms.max(row.timestamp_ms));
            outcome.histograms_written += 1;
        }
        Ok(Appended::Repeat) => outcome.histograms_written += 1,
        Ok(Appended::Unread(place)) => outcome.unread_histograms.push((*row, place)),
        Err(error) => {
            let head = &target.head;
            outcome.refuse(Reason::of_append(&error), || Refusal::Append {
                series: head.describe(series),
                error,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::batch::split;
    use crate::head::{Head, Rules};
    use crate::wal::Encoder;
    use crate::wire::{BodyRange, Extras, SeriesHasher, canonical_label_bytes};

    #[test]
    fn histograms_are_written_repeated_and_refused_one_by_one() {
        let hasher = SeriesHasher::new([3; 16]).tenant("t");
        let labels = canonical_label_bytes(&[("__name__", "latency")]);
        let mut body = labels.clone();
        let mut row = |timestamp_ms, message: &[u8]| {
            let offset = body.len() as u32;
            body.extend_from_slice(message);
            HistogramRow {
                key: hasher.key(&labels),
                labels: BodyRange { offset: 0, len: labels.len() as u32 },
                timestamp_ms,
                message: BodyRange { offset, len: message.len() as u32 },
            }
        };
        // Counts of 2 and of 3 in the zero bucket, and a count without a bucket for it.
        let (two, three, wrong) = (&[0x08, 2, 0x30, 2][..], &[0x08, 3, 0x30, 3][..], &[0x08, 2][..]);
        let rows = [
            row(10, wrong),
            row(10, two),
            row(20, three),
            row(20, three),
            row(20, two),
            row(5, two),
            row(1, two),
        ];
        let extras = Extras { histograms: rows.to_vec(), ..Extras::default() };
        let parts = vec![(Vec::new(), Some(Box::new(extras)))];
        let (_gather, batches) = split("t".into(), Arc::new(body), parts);
        let (mut head, mut records, mut outcome) = (Head::default(), Encoder::default(), Outcome::default());
        let mut target = Target {
            head: &mut head,
            records: &mut records,
            hasher: &hasher,
            shard: 0,
            shard_count: 1,
            rules: Rules { floor_ms: 2, late_floor_ms: Some(2), ..Rules::replay(7_200_000) },
            read: &(),
            taken_ms: (i64::MAX, i64::MIN),
            has_room: None,
        };
        let rows = &batches[0].extras.as_ref().unwrap().histograms;
        let done = apply_histograms(&mut target, &batches[0], rows, &mut LastSeries::default(), &mut outcome);
        assert_eq!((done, target.taken_ms), (Ok(7), (5, 20)));
        assert_eq!((outcome.histograms_written, outcome.written, outcome.refused_count()), (4, 0, 3));
        for reason in [Reason::InvalidHistogram, Reason::Conflict, Reason::TooOld] {
            assert_eq!(outcome.refused[reason as usize], 1, "{reason:?}");
        }
        let first = outcome.first_refusal.unwrap().to_string();
        assert_eq!(
            first,
            r#"series {__name__="latency"}: the buckets hold 0 observations, but the count is 2"#
        );
    }

    #[test]
    fn a_run_of_old_histograms_in_a_large_chunk_ends_early() {
        use crate::chunk::{Buckets, Histogram, Span};
        let hasher = SeriesHasher::new([3; 16]).tenant("t");
        let labels = canonical_label_bytes(&[("__name__", "latency")]);
        let mut body = labels.clone();
        let message = BodyRange { offset: body.len() as u32, len: 4 };
        body.extend_from_slice(&[0x08, 2, 0x30, 2]);
        let row = |timestamp_ms| HistogramRow {
            key: hasher.key(&labels),
            labels: BodyRange { offset: 0, len: labels.len() as u32 },
            timestamp_ms,
            message,
        };
        let rows: Vec<_> = (0..100).map(|at| row(at * 10 + 5)).collect();
        let extras = Extras { histograms: rows.clone(), ..Extras::default() };
        let parts = vec![(Vec::new(), Some(Box::new(extras)))];
        let (_gather, batches) = split("t".into(), Arc::new(body), parts);
        let (mut head, mut records, mut outcome) = (Head::default(), Encoder::default(), Outcome::default());
        let series = head.create(hasher.key(&labels), "t", &[("__name__", "latency")]).unwrap();
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
        let done = apply_histograms(&mut target, &batches[0], &rows, last, &mut outcome);
        assert_eq!((done, outcome.histograms_written), (Ok(1), 1));
    }

    #[test]
    fn a_full_ring_fails_the_rest_and_changes_nothing() {
        let hasher = SeriesHasher::new([3; 16]).tenant("t");
        let body = canonical_label_bytes(&[("__name__", "latency")]);
        let labels = BodyRange { offset: 0, len: body.len() as u32 };
        let message = BodyRange { offset: 0, len: 0 };
        let row = |timestamp_ms| HistogramRow { key: hasher.key(&body), labels, timestamp_ms, message };
        let rows = vec![row(1), row(2), row(3)];
        let extras = Extras { histograms: rows.clone(), ..Extras::default() };
        let parts = vec![(Vec::new(), Some(Box::new(extras)))];
        let (_gather, batches) = split("t".into(), Arc::new(body.clone()), parts);
        let mut written_most = 0;
        for room_bytes in 0..400 {
            let (mut head, mut records, mut outcome) =
                (Head::default(), Encoder::default(), Outcome::default());
            let mut target = Target {
                head: &mut head,
                records: &mut records,
                hasher: &hasher,
                shard: 0,
                shard_count: 1,
                rules: Rules::replay(7_200_000),
                read: &(),
                taken_ms: (i64::MAX, i64::MIN),
                has_room: Some(&|bytes| bytes < room_bytes),
            };
            let last = &mut LastSeries::default();
            let done = apply_histograms(&mut target, &batches[0], &rows, last, &mut outcome);
            assert_eq!(done.is_err(), outcome.failed > 0);
            assert_eq!(outcome.histograms_written + outcome.failed, 3);
            assert!(target.records.len() <= room_bytes);
            let has_series = target.head.series_count() > 0;
            assert_eq!(has_series, outcome.histograms_written > 0, "no series is made without a sample");
            written_most = written_most.max(outcome.histograms_written);
        }
        assert_eq!(written_most, 3);
    }
}
