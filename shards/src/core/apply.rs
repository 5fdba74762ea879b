//! What the rows of a write do to a shard: the decision on each sample. Pure: no clock, no I/O.

use super::batch::WriteBatch;
use super::outcome::{Failure, Outcome, Reason, Refusal};
use crate::head::{Appended, Head, HeadFull, SeriesIndex};
use crate::wal::Encoder;
use crate::wire::{LabelError, Row, TenantHasher, canonical_label_bytes, parse_labels};

/// An upper bound of what one sample takes in a WAL payload, in bytes.
pub const SAMPLE_RECORD_BYTES_MAX: usize = 32;

/// An upper bound of what one new series takes in a WAL payload, in bytes, given its labels' size on the wire: the
/// canonical encoding is never longer than another.
pub fn series_record_bytes_max(tenant: &str, label_bytes: usize) -> usize {
    label_bytes + tenant.len() + 32
}

/// Where rows are applied.
pub struct Target<'a> {
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
    /// Whether the WAL ring has room for a payload of so many bytes; `None` while it has plenty.
    pub has_room: Option<&'a dyn Fn(usize) -> bool>,
}

impl Target<'_> {
    /// Whether the records may grow by so many bytes.
    #[inline]
    fn has_room(&self, more_bytes: usize) -> bool {
        self.has_room.is_none_or(|has_room| has_room(self.records.len() + more_bytes))
    }
}

/// Rows whose series are looked up before any of them is appended to. Each look-up, and each first touch of a
/// chunk, waits for main memory; side by side the waits overlap.
const GROUP_ROWS: usize = 32;

/// Applies a run of a batch's rows. The outcome's counts are true whatever happens: on a failure, which is the
/// sender's to retry, the rest of the run is counted as failed and nothing of it was done.
pub fn apply(
    target: &mut Target<'_>,
    batch: &WriteBatch,
    rows: &[Row],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut done = 0;
    for group in rows.chunks(GROUP_ROWS) {
        let mut found = [None; GROUP_ROWS];
        for (found, row) in found.iter_mut().zip(group) {
            *found = target.head.find(row.key);
        }
        target.head.touch(found.iter().flatten());
        for (found, row) in found.into_iter().zip(group) {
            let failed = match found.map_or_else(|| resolve(target, batch, row), Found::Series) {
                Found::Series(series) if target.has_room(SAMPLE_RECORD_BYTES_MAX) => {
                    append(target, series, row, outcome);
                    None
                }
                Found::Series(_) => Some(Failure::RingFull),
                Found::Elsewhere => {
                    outcome.rekey.push(*row);
                    None
                }
                Found::Invalid(error) => {
                    outcome.refuse(Reason::InvalidLabels, || Refusal::Labels(error));
                    None
                }
                Found::Failed(failure) => Some(failure),
            };
            if let Some(failure) = failed {
                outcome.failed += (rows.len() - done) as u64;
                return Err(failure);
            }
            done += 1;
        }
    }
    Ok(())
}

#[inline]
fn append(target: &mut Target<'_>, series: SeriesIndex, row: &Row, outcome: &mut Outcome) {
    match target.head.append(series, row.timestamp_ms, row.value) {
        Ok(Appended::Stored) => {
            target.records.sample(series.0, row.timestamp_ms, row.value);
            outcome.written += 1;
        }
        Ok(Appended::Repeat) => outcome.repeated += 1,
        Err(error) => {
            let head = &target.head;
            outcome.refuse(Reason::of_append(&error), || Refusal::Append {
                series: head.describe(series),
                error,
            });
        }
    }
}

/// Where the sample of a key that the head does not know belongs.
enum Found {
    Series(SeriesIndex),
    /// Another shard owns these labels in their canonical encoding.
    Elsewhere,
    Invalid(LabelError),
    Failed(Failure),
}

/// Parses the labels of a key never seen, and adds the series, or finds it under the key of the canonical
/// encoding: one label set is one series on one shard, whatever a sender's encoder does.
#[cold]
fn resolve(target: &mut Target<'_>, batch: &WriteBatch, row: &Row) -> Found {
    // A row before this one in the same group may have made it.
    if let Some(series) = target.head.find(row.key) {
        return Found::Series(series);
    }
    let label_bytes = batch.label_bytes(row);
    let labels = match parse_labels(label_bytes) {
        Ok(labels) => labels,
        Err(error) => return Found::Invalid(error),
    };
    let canonical = canonical_label_bytes(&labels);
    let mut key = row.key;
    if canonical != label_bytes {
        key = target.hasher.key(&canonical);
        if key.owner(target.shard_count) != target.shard {
            return Found::Elsewhere;
        }
        if let Some(series) = target.head.find(key) {
            return Found::Series(series);
        }
    }
    if !target.has_room(series_record_bytes_max(batch.tenant(), canonical.len()) + SAMPLE_RECORD_BYTES_MAX) {
        return Found::Failed(Failure::RingFull);
    }
    match target.head.create(key, batch.tenant(), &labels) {
        Ok(series) => {
            target.records.series(series.0, batch.tenant(), &canonical);
            Found::Series(series)
        }
        Err(HeadFull) => Found::Failed(Failure::HeadFull),
    }
}
