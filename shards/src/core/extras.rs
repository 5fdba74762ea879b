//! Histograms, exemplars and metadata of a request on their way to the shards that own them.

use crate::head::SeriesKey;
use crate::wire::{BodyRange, Extras, TenantHasher, canonical_label_bytes, parse_labels};

/// Gives every label set its canonical encoding and the key of that, so that each row goes straight to its owner. What
/// has labels that are none keeps them, and is refused by whoever gets it.
pub fn canonicalize(extras: &mut Extras, body: &mut Vec<u8>, hasher: &TenantHasher) {
    let mut canonical = Canonical { body, hasher, last: None };
    for row in &mut extras.histograms {
        (row.labels, row.key) = canonical.of(row.labels, row.key);
    }
    for row in &mut extras.exemplars {
        (row.series_labels, row.key) = canonical.of(row.series_labels, row.key);
    }
}

struct Canonical<'a> {
    body: &'a mut Vec<u8>,
    hasher: &'a TenantHasher,
    /// The labels that were looked at last, and what came of them: the rows of a series follow each other.
    last: Option<(BodyRange, (BodyRange, SeriesKey))>,
}

impl Canonical<'_> {
    fn of(&mut self, range: BodyRange, key: SeriesKey) -> (BodyRange, SeriesKey) {
        if let Some((_, canonical)) = self.last.filter(|(last, _)| *last == range) {
            return canonical;
        }
        let canonical = self.make(range).unwrap_or((range, key));
        self.last = Some((range, canonical));
        canonical
    }

    /// `None` if the labels are canonical as they are, or none at all.
    fn make(&mut self, range: BodyRange) -> Option<(BodyRange, SeriesKey)> {
        let label_bytes = range.of(self.body);
        let labels = parse_labels(label_bytes).ok()?;
        let canonical = canonical_label_bytes(&labels);
        if canonical == label_bytes {
            return None;
        }
        let (offset, len) = (u32::try_from(self.body.len()).ok()?, canonical.len() as u32);
        self.body.extend_from_slice(&canonical);
        Some((BodyRange { offset, len }, self.hasher.key(&canonical)))
    }
}

/// One part for each shard; metadata is owned by its family's name.
pub fn split_extras(extras: Extras, body: &[u8], hasher: &TenantHasher, count: usize) -> Vec<Extras> {
    let mut parts = vec![Extras::default(); count];
    for row in extras.histograms {
        parts[row.key.owner(count)].histograms.push(row);
    }
    for row in extras.exemplars {
        parts[row.key.owner(count)].exemplars.push(row);
    }
    for row in extras.metadata {
        parts[hasher.key(row.family.of(body)).owner(count)].metadata.push(row);
    }
    parts
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
        canonicalize(&mut extras, &mut body, &hasher);
        for row in &extras.histograms {
            assert_eq!((row.labels.of(&body), row.key), (&canonical[..], hasher.key(&canonical)));
        }
        assert_eq!(body.len(), labels.len as usize + canonical.len(), "once for both rows");
        let parts = split_extras(extras, &body, &hasher, 4);
        assert_eq!(parts[hasher.key(&canonical).owner(4)].histograms.len(), 2);
        assert_eq!(parts[hasher.key(family.of(&body)).owner(4)].metadata.len(), 1);
        assert_eq!(parts.iter().map(|part| part.histograms.len() + part.metadata.len()).sum::<usize>(), 3);
    }
}
