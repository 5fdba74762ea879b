//! What the exemplars and the metadata of a write do to a shard. Pure: no clock, no I/O.
//!
//! A write is acknowledged only when what it counts as written is durable; that holds for exemplars too. Neither a refused
//! exemplar nor metadata that is left out keeps the samples of a request from being stored.

use std::collections::HashSet;

use super::outcome::{Failure, Outcome};
use crate::exemplars::{Exemplar, ExemplarReason, Kept, parse_exemplar_labels};
use crate::head::Head;
use crate::metadata::{Described, MetadataReason, MetricKind, TEXT_BYTES_MAX};
use crate::wal::{Encoder, ExemplarRecord, MetadataRecord};
use crate::wire::{ExemplarRow, MetadataRow, canonical_label_bytes};

/// What a record takes beside its texts, at most.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// The most bytes of records of metadata that one request makes on a shard, however large it is.
const METADATA_BYTES_MAX: usize = 1 << 20;

/// Where they are applied.
pub struct ExtrasTarget<'a> {
    /// Takes them.
    pub head: &'a Head,
    /// Takes the records of what the head took.
    pub records: &'a mut Encoder,
    /// Whose they are.
    pub tenant: &'a str,
    /// The decoded body that the rows point into.
    pub body: &'a [u8],
    /// No exemplar after it is taken, as no sample is.
    pub ceiling_ms: i64,
    /// Whether the WAL ring has room for a payload of so many bytes.
    pub has_room: &'a dyn Fn(usize) -> bool,
    /// Whether the ring is so full that its room is kept for samples.
    pub is_ring_scarce: bool,
    /// Whether metadata of the tenant may be kept, which makes it one of the node's tenants.
    pub may_store: &'a dyn Fn() -> bool,
}

/// What the metadata of one request may still write to a shard's WAL. A text that stands once in a request may describe
/// any number of families, and texts that take turns replace each other: without a bound a small request fills the ring.
pub struct MetadataAllowance {
    bytes: usize,
    /// Families of which one description took another's place.
    replaced: HashSet<Box<str>>,
}

impl MetadataAllowance {
    /// That of a request with a decoded body of so many bytes: no more than would be there if no text was used twice.
    pub fn of_body(body_bytes: usize) -> MetadataAllowance {
        MetadataAllowance { bytes: body_bytes.min(METADATA_BYTES_MAX), replaced: HashSet::new() }
    }
}

impl ExtrasTarget<'_> {
    fn has_room(&self, text_bytes: usize) -> bool {
        (self.has_room)(self.records.len() + text_bytes + RECORD_OVERHEAD_BYTES)
    }
}

/// Applies one exemplar. The samples of its request come before it: they make its series.
///
/// # Errors
/// When the ring is full; the exemplar was not applied.
pub fn apply_exemplar(
    target: &mut ExtrasTarget<'_>,
    row: &ExemplarRow,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    match append(target, row)? {
        Ok(Kept::Stored | Kept::Repeat) => outcome.exemplars_written += 1,
        Err(reason) => outcome.exemplars_refused[reason as usize] += 1,
    }
    Ok(())
}

fn append(target: &mut ExtrasTarget<'_>, row: &ExemplarRow) -> Result<Result<Kept, ExemplarReason>, Failure> {
    let labels = match parse_exemplar_labels(row.labels.of(target.body)) {
        Ok(labels) => labels,
        Err(reason) => return Ok(Err(reason)),
    };
    if row.timestamp_ms > target.ceiling_ms {
        return Ok(Err(ExemplarReason::TooFarAhead));
    }
    let Some(series) = target.head.find(row.key) else { return Ok(Err(ExemplarReason::UnknownSeries)) };
    // The canonical encoding is never longer than another.
    if !target.has_room(row.labels.len as usize) {
        return Err(Failure::RingFull);
    }
    let ExemplarRow { key, timestamp_ms, value, .. } = *row;
    let exemplar = Exemplar { labels: labels.clone(), value, timestamp_ms };
    let kept = target.head.append_exemplar(series, exemplar);
    if kept == Ok(Kept::Stored) {
        let pairs: Vec<(&str, &str)> = labels.iter().collect();
        let label_bytes = &canonical_label_bytes(&pairs);
        target.records.exemplar(ExemplarRecord { key: key.0, timestamp_ms, value, label_bytes });
    }
    Ok(kept)
}

/// Applies one description of a family.
///
/// # Errors
/// When it is not kept.
pub fn apply_metadata(
    target: &mut ExtrasTarget<'_>,
    row: &MetadataRow,
    allowance: &mut MetadataAllowance,
) -> Result<(), MetadataReason> {
    // Before the texts are looked at: a long one may be that of many rows.
    let text_bytes = [row.family, row.help, row.unit].iter().map(|range| range.len as usize).sum::<usize>();
    if text_bytes > TEXT_BYTES_MAX {
        return Err(MetadataReason::TooLong);
    }
    let text = |range: crate::wire::BodyRange| std::str::from_utf8(range.of(target.body));
    let (Ok(family), Ok(help), Ok(unit)) = (text(row.family), text(row.help), text(row.unit)) else {
        return Err(MetadataReason::Invalid);
    };
    let (tenant, kind) = (target.tenant, MetricKind::of_number(row.kind));
    let store = &mut target.head.extras_mut().metadata;
    if store.confirm(tenant, family, kind, help, unit) {
        // A tenant that was forgotten meanwhile is one again, or its metadata goes.
        let _ = (target.may_store)();
        return Ok(());
    }
    let would_replace = store.would_replace(tenant, family);
    if text_bytes > allowance.bytes || (would_replace && allowance.replaced.contains(family)) {
        return Err(MetadataReason::RequestLimit);
    }
    if target.is_ring_scarce || !target.has_room(tenant.len() + text_bytes) {
        return Err(MetadataReason::RingFull);
    }
    if store.describe_if(tenant, family, kind, help, unit, target.may_store)? == Described::Stored {
        allowance.bytes -= text_bytes;
        if would_replace {
            allowance.replaced.insert(family.into());
        }
        target.records.metadata(MetadataRecord { tenant, family, kind: kind as u8, help, unit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exemplars::LABEL_RUNES_MAX;
    use crate::head::SeriesKey;
    use crate::wire::BodyRange;

    /// A body that grows by what rows point at.
    #[derive(Default)]
    struct Body(Vec<u8>);

    impl Body {
        fn put(&mut self, bytes: &[u8]) -> BodyRange {
            let range = BodyRange { offset: self.0.len() as u32, len: bytes.len() as u32 };
            self.0.extend_from_slice(bytes);
            range
        }

        fn exemplar(&mut self, key: u128, trace: &str, timestamp_ms: i64) -> ExemplarRow {
            let labels = self.put(&canonical_label_bytes(&[("trace_id", trace)]));
            let series_labels = BodyRange::default();
            ExemplarRow { key: SeriesKey(key), series_labels, labels, timestamp_ms, value: 0.5 }
        }

        fn metadata(&mut self, family: &[u8], help: &str) -> MetadataRow {
            let (family, help) = (self.put(family), self.put(help.as_bytes()));
            MetadataRow { kind: 1, family, help, unit: BodyRange::default() }
        }
    }

    fn head() -> Head {
        let mut head = Head::default();
        head.create(SeriesKey(7), "t", &[("__name__", "up")]).unwrap();
        head
    }

    #[test]
    fn each_exemplar_is_counted_once_and_recorded_when_it_is_new() {
        let (head, mut records, mut outcome) = (head(), Encoder::default(), Outcome::default());
        let mut body = Body::default();
        let rows = [
            body.exemplar(7, "a", 10),
            body.exemplar(7, "a", 10),
            body.exemplar(7, "b", 9),
            body.exemplar(8, "a", 10),
            body.exemplar(7, &"x".repeat(LABEL_RUNES_MAX), 11),
            body.exemplar(7, "a", 101),
            ExemplarRow { labels: body.put(&[0x0a, 200]), ..body.exemplar(7, "c", 12) },
        ];
        let mut target = ExtrasTarget {
            head: &head,
            records: &mut records,
            tenant: "t",
            body: &body.0,
            ceiling_ms: 100,
            has_room: &|_| true,
            is_ring_scarce: false,
            may_store: &|| true,
        };
        for row in &rows {
            apply_exemplar(&mut target, row, &mut outcome).unwrap();
        }
        assert_eq!(outcome.exemplars_written, 2);
        let refused = |reason: ExemplarReason| outcome.exemplars_refused[reason as usize];
        assert_eq!(refused(ExemplarReason::OutOfOrder), 1);
        assert_eq!(refused(ExemplarReason::UnknownSeries), 1);
        assert_eq!(refused(ExemplarReason::TooLong), 1);
        assert_eq!(refused(ExemplarReason::InvalidLabels), 1);
        assert_eq!(refused(ExemplarReason::TooFarAhead), 1);
        assert_eq!(head.extras().exemplars.len(), 1);
        let mut expected = Encoder::default();
        let label_bytes = &canonical_label_bytes(&[("trace_id", "a")]);
        expected.exemplar(ExemplarRecord { key: 7, timestamp_ms: 10, value: 0.5, label_bytes });
        assert_eq!(records.bytes(), expected.bytes());
    }

    #[test]
    fn metadata_is_recorded_when_it_says_something_new() {
        let (head, mut records) = (head(), Encoder::default());
        let mut body = Body::default();
        let rows = [
            body.metadata(b"up", "Is it?"),
            body.metadata(b"up", "Is it?"),
            body.metadata(b"\xff", "no text"),
            body.metadata(b"", "no name"),
        ];
        let mut target = ExtrasTarget {
            head: &head,
            records: &mut records,
            tenant: "t",
            body: &body.0,
            ceiling_ms: i64::MAX,
            has_room: &|_| true,
            is_ring_scarce: false,
            may_store: &|| true,
        };
        let mut allowance = MetadataAllowance::of_body(body.0.len());
        let applied: Vec<_> =
            rows.iter().map(|row| apply_metadata(&mut target, row, &mut allowance)).collect();
        let invalid = Err(MetadataReason::Invalid);
        assert_eq!(applied, [Ok(()), Ok(()), invalid, invalid]);
        let mut expected = Encoder::default();
        let record = MetadataRecord { tenant: "t", family: "up", kind: 1, help: "Is it?", unit: "" };
        expected.metadata(record);
        assert_eq!(records.bytes(), expected.bytes());
    }

    #[test]
    fn a_full_ring_fails_exemplars_and_leaves_out_metadata() {
        let (head, mut records, mut outcome) = (head(), Encoder::default(), Outcome::default());
        let mut body = Body::default();
        let (exemplar, metadata) = (body.exemplar(7, "a", 10), body.metadata(b"up", "Is it?"));
        let mut target = ExtrasTarget {
            head: &head,
            records: &mut records,
            tenant: "t",
            body: &body.0,
            ceiling_ms: i64::MAX,
            has_room: &|_| false,
            is_ring_scarce: false,
            may_store: &|| true,
        };
        assert_eq!(apply_exemplar(&mut target, &exemplar, &mut outcome), Err(Failure::RingFull));
        let mut allowance = MetadataAllowance::of_body(body.0.len());
        let applied = apply_metadata(&mut target, &metadata, &mut allowance);
        assert_eq!(applied, Err(MetadataReason::RingFull));
        assert!(records.is_empty() && head.extras().exemplars.is_empty());
        assert_eq!(head.extras().metadata.family_count(), 0);
    }

    #[test]
    fn metadata_that_is_used_again_and_again_writes_no_more_than_its_request_has() {
        let (head, mut records) = (head(), Encoder::default());
        let mut body = Body::default();
        let helps: Vec<_> = (0..9).map(|number| body.put(format!("{number:08000}").as_bytes())).collect();
        let family = body.put(b"up");
        // Nine texts of one family that take turns: each would take the place of the one that comes next.
        let rows: Vec<_> = (0..1000)
            .map(|at| MetadataRow { kind: 1, family, help: helps[at % 9], unit: BodyRange::default() })
            .collect();
        let mut target = ExtrasTarget {
            head: &head,
            records: &mut records,
            tenant: "t",
            body: &body.0,
            ceiling_ms: i64::MAX,
            has_room: &|_| true,
            is_ring_scarce: false,
            may_store: &|| true,
        };
        let mut allowance = MetadataAllowance::of_body(METADATA_BYTES_MAX);
        let refused = rows.iter().filter_map(|row| apply_metadata(&mut target, row, &mut allowance).err());
        assert!(refused.into_iter().all(|reason| reason == MetadataReason::RequestLimit));
        assert!(records.len() < 10 * 8100, "{} bytes for one replacement", records.len());

        // One text of many families.
        let (head, mut records) = (self::head(), Encoder::default());
        let families: Vec<_> = (0..100).map(|number| body.put(format!("f{number}").as_bytes())).collect();
        let mut target = ExtrasTarget {
            head: &head,
            records: &mut records,
            tenant: "t",
            body: &body.0,
            ceiling_ms: i64::MAX,
            has_room: &|_| true,
            is_ring_scarce: false,
            may_store: &|| true,
        };
        let mut allowance = MetadataAllowance::of_body(20_000);
        let mut applied = |family: &BodyRange| {
            let row = MetadataRow { kind: 1, family: *family, help: helps[0], unit: BodyRange::default() };
            apply_metadata(&mut target, &row, &mut allowance).is_ok()
        };
        assert_eq!(families.iter().filter(|family| applied(family)).count(), 2);
        assert!(records.len() < 20_000);
    }

    #[test]
    fn metadata_leaves_the_last_of_the_ring_to_samples() {
        let (head, mut records, mut outcome) = (head(), Encoder::default(), Outcome::default());
        let mut body = Body::default();
        let (exemplar, metadata) = (body.exemplar(7, "a", 10), body.metadata(b"up", "Is it?"));
        let mut target = ExtrasTarget {
            head: &head,
            records: &mut records,
            tenant: "t",
            body: &body.0,
            ceiling_ms: i64::MAX,
            has_room: &|_| true,
            is_ring_scarce: true,
            may_store: &|| true,
        };
        assert_eq!(apply_exemplar(&mut target, &exemplar, &mut outcome), Ok(()));
        let mut allowance = MetadataAllowance::of_body(body.0.len());
        let applied = apply_metadata(&mut target, &metadata, &mut allowance);
        assert_eq!((applied, outcome.exemplars_written), (Err(MetadataReason::RingFull), 1));
    }

    #[test]
    fn metadata_of_a_tenant_that_is_one_too_many_is_left_out() {
        let (head, mut records) = (head(), Encoder::default());
        let mut body = Body::default();
        let (wrong, right) = (body.metadata(b"", "no name"), body.metadata(b"up", "Is it?"));
        let asked = std::cell::Cell::new(0);
        let may_store = || asked.replace(asked.get() + 1) > 0;
        let mut target = ExtrasTarget {
            head: &head,
            records: &mut records,
            tenant: "t",
            body: &body.0,
            ceiling_ms: i64::MAX,
            has_room: &|_| true,
            is_ring_scarce: false,
            may_store: &may_store,
        };
        let mut allowance = MetadataAllowance::of_body(body.0.len());
        let mut apply = |row| apply_metadata(&mut target, row, &mut allowance);
        assert_eq!(apply(&wrong), Err(MetadataReason::Invalid));
        assert_eq!(asked.get(), 0, "what is not kept anyway takes no place");
        assert_eq!((apply(&right), apply(&right)), (Err(MetadataReason::TenantLimit), Ok(())));
        assert_eq!(head.extras().metadata.family_count(), 1);
    }
}
