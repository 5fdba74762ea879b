//! The part of an image that has exemplars and metadata; it comes after the series.
//!
//! Exemplars are written in the order in which they came, tenant by tenant, while others come and go: one that goes
//! before its turn is left out, one that comes before the tenant's turn ends is taken in. So a tenant's exemplars are
//! whole up to the page that has the last of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Reader, put, put_text};
use crate::Labels;
use crate::exemplars::{Exemplar, StoredExemplar};
use crate::head::SeriesKey;
use crate::head::error::ImageError;
use crate::head::extras::HeadExtras;
use crate::metadata::{Description, MetricKind};
use crate::wire::{SERIES_BYTES_MAX, canonical_label_bytes, label_pairs};

/// A series that has exemplars (key, tenant, labels), whether the head still has it or not.
const EXEMPLAR_SERIES: u8 = 32;
/// An exemplar (number of such a series, time, value, labels).
const EXEMPLAR: u8 = 33;
/// A description of a family (tenant, name, type, help, unit).
const METADATA: u8 = 34;

/// Makes the entries of one image.
#[derive(Default)]
pub(super) struct ExtrasWriter {
    /// Tenants whose exemplars are not all written; the last one comes next.
    exemplar_tenants: Option<Vec<Arc<str>>>,
    /// Number of the next exemplar of that tenant.
    next_exemplar: u64,
    /// The series that were written, by the order in which they were.
    series: HashMap<SeriesKey, u32, ahash::RandomState>,
    metadata_tenants: Option<Vec<Arc<str>>>,
    /// Families of the tenant at hand that are not written; the last one comes next.
    families: Option<(Arc<str>, Vec<Arc<str>>)>,
}

impl ExtrasWriter {
    /// Writes what comes next, if anything does; answers whether it did.
    pub(super) fn put_next(&mut self, out: &mut Vec<u8>, extras: &HeadExtras) -> bool {
        self.put_exemplar(out, extras) || self.put_family(out, extras)
    }

    fn put_exemplar(&mut self, out: &mut Vec<u8>, extras: &HeadExtras) -> bool {
        let tenants = self.exemplar_tenants.get_or_insert_with(|| extras.exemplars.tenants());
        while let Some(tenant) = tenants.last() {
            if let Some(stored) = extras.exemplars.from(tenant, self.next_exemplar).next() {
                self.next_exemplar = stored.number + 1;
                put_exemplar(out, &mut self.series, tenant, stored);
                return true;
            }
            self.next_exemplar = 0;
            tenants.pop();
        }
        false
    }

    fn put_family(&mut self, out: &mut Vec<u8>, extras: &HeadExtras) -> bool {
        let tenants = self.metadata_tenants.get_or_insert_with(|| extras.metadata.tenants());
        loop {
            if let Some((tenant, families)) = &mut self.families
                && let Some(family) = families.pop()
            {
                for description in extras.metadata.descriptions(tenant, &family) {
                    put_description(out, tenant, &family, description);
                }
                return true;
            }
            let Some(tenant) = tenants.pop() else { return false };
            let families = extras.metadata.families(&tenant);
            self.families = Some((tenant, families));
        }
    }
}

fn put_exemplar(
    out: &mut Vec<u8>,
    numbers: &mut HashMap<SeriesKey, u32, ahash::RandomState>,
    tenant: &str,
    stored: StoredExemplar<'_>,
) {
    let StoredExemplar { key, series, exemplar, .. } = stored;
    let next = numbers.len() as u32;
    let number = *numbers.entry(key).or_insert_with(|| {
        out.push(EXEMPLAR_SERIES);
        out.extend_from_slice(&key.0.to_le_bytes());
        put_text(out, tenant);
        put_labels(out, series);
        next
    });
    out.push(EXEMPLAR);
    put(out, u64::from(number));
    out.extend_from_slice(&exemplar.timestamp_ms.to_le_bytes());
    out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
    put_labels(out, &exemplar.labels);
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    let pairs: Vec<(&str, &str)> = labels.iter().collect();
    let label_bytes = canonical_label_bytes(&pairs);
    put(out, label_bytes.len() as u64);
    out.extend_from_slice(&label_bytes);
}

fn put_description(out: &mut Vec<u8>, tenant: &str, family: &str, description: &Description) {
    out.push(METADATA);
    put_text(out, tenant);
    put_text(out, family);
    out.push(description.kind as u8);
    put_text(out, &description.help);
    put_text(out, &description.unit);
}

/// Takes the entries of one image.
#[derive(Default)]
pub(super) struct ExtrasLoader {
    series: Vec<ExemplarSeries>,
    /// Of each tenant with exemplars, the number that the page with the last of them was made at.
    covered: HashMap<Arc<str>, u64, ahash::RandomState>,
}

struct ExemplarSeries {
    key: SeriesKey,
    tenant: Arc<str>,
    labels: Labels,
}

impl ExtrasLoader {
    /// Takes one entry, whose kind was read.
    pub(super) fn entry(
        &mut self,
        kind: u8,
        reader: &mut Reader<'_>,
        extras: &mut HeadExtras,
        seq: u64,
    ) -> Result<(), ImageError> {
        match kind {
            EXEMPLAR_SERIES => self.series(reader),
            EXEMPLAR => self.exemplar(reader, extras, seq),
            METADATA => metadata(reader, extras),
            _ => Err(reader.malformed()),
        }
    }

    /// Frames below this one brought no exemplar of a tenant that the image has not, or that has not gone since.
    pub(super) fn covered_below(&self, tenant: &str) -> u64 {
        self.covered.get(tenant).copied().unwrap_or(0)
    }

    fn series(&mut self, reader: &mut Reader<'_>) -> Result<(), ImageError> {
        let key = SeriesKey(u128::from_le_bytes(reader.array()?));
        let tenant = reader.text()?;
        let tenant = match self.covered.get_key_value(tenant) {
            Some((known, _)) => Arc::clone(known),
            None => tenant.into(),
        };
        let labels = labels(reader)?;
        self.covered.entry(Arc::clone(&tenant)).or_insert(0);
        self.series.push(ExemplarSeries { key, tenant, labels });
        Ok(())
    }

    fn exemplar(
        &mut self,
        reader: &mut Reader<'_>,
        extras: &mut HeadExtras,
        seq: u64,
    ) -> Result<(), ImageError> {
        let number = reader.number()?;
        let series = self.series.get(number as usize).ok_or(reader.undefined())?;
        let timestamp_ms = reader.time()?;
        let value = f64::from_bits(u64::from_le_bytes(reader.array()?));
        let exemplar = Exemplar { labels: labels(reader)?, value, timestamp_ms };
        self.covered.insert(Arc::clone(&series.tenant), seq);
        let labels = || series.labels.clone();
        // One that is refused is one that the limits no longer allow.
        let _ = extras.exemplars.append(&series.tenant, series.key, exemplar, labels);
        Ok(())
    }
}

fn metadata(reader: &mut Reader<'_>, extras: &mut HeadExtras) -> Result<(), ImageError> {
    let (tenant, family) = (reader.text()?, reader.text()?);
    let [kind] = reader.array()?;
    let (help, unit) = (reader.text()?, reader.text()?);
    // The limits may be lower than those of the image.
    let _ = extras.metadata.describe(tenant, family, MetricKind::of_number(kind), help, unit);
    Ok(())
}

fn labels(reader: &mut Reader<'_>) -> Result<Labels, ImageError> {
    let len = reader.varint()?;
    if len > SERIES_BYTES_MAX as u64 {
        return Err(reader.malformed());
    }
    let pairs: Result<Vec<(&str, &str)>, _> = label_pairs(reader.take(len)?).collect();
    let pairs = pairs.map_err(|_| reader.malformed())?;
    if pairs.windows(2).any(|two| two[0].0 >= two[1].0) {
        return Err(reader.malformed());
    }
    Ok(Labels::from_sorted(pairs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ImageLoader, ImageWriter};
    use crate::exemplars::Exemplar;
    use crate::head::{ExtraLimits, Head, SeriesIndex, SeriesKey};
    use crate::metadata::MetricKind;
    use crate::{Labels, STALE_NAN_BITS};

    fn exemplar(number: i64) -> Exemplar {
        let trace = format!("{number:032x}");
        let labels = Labels::from_pairs([("trace_id", trace.as_str())]);
        Exemplar { labels, value: number as f64 / 8.0, timestamp_ms: number }
    }

    fn head(exemplars_max: usize) -> Head {
        let mut head = Head::default().with_extra_limits(ExtraLimits {
            exemplars_max,
            families_max: 100,
            ..ExtraLimits::default()
        });
        for number in 0..4u32 {
            let tenant = if number == 3 { "other" } else { "t" };
            let labels = [("__name__", "up"), ("n", &*number.to_string())];
            head.create(SeriesKey(u128::from(number)), tenant, &labels).unwrap();
        }
        head
    }

    fn describe(head: &Head, family: &str, help: &str) {
        let mut extras = head.extras.borrow_mut();
        extras.metadata.describe("t", family, MetricKind::Counter, help, "seconds").unwrap();
    }

    fn pages(head: &Head, mut between: impl FnMut()) -> Vec<Vec<u8>> {
        let (mut writer, mut page, mut pages) = (ImageWriter::default(), Vec::new(), Vec::new());
        while writer.page(head, &mut page) {
            pages.push(page.clone());
            between();
        }
        pages
    }

    fn loaded(pages: &[Vec<u8>], exemplars_max: usize) -> (Head, ImageLoader) {
        let limits = ExtraLimits { exemplars_max, families_max: 100, ..ExtraLimits::default() };
        let (mut head, mut loader) = (Head::default().with_extra_limits(limits), ImageLoader::default());
        for (seq, page) in pages.iter().enumerate() {
            loader.page(&mut head, seq as u64, page).unwrap();
        }
        (head, loader)
    }

    fn exemplars(head: &Head, tenant: &str) -> Vec<(SeriesKey, Labels, Exemplar)> {
        let extras = head.extras();
        let stored = extras.exemplars.from(tenant, 0);
        stored.map(|stored| (stored.key, stored.series.clone(), stored.exemplar.clone())).collect()
    }

    #[test]
    fn exemplars_and_metadata_load_as_they_were() {
        let original = head(1000);
        for number in 0..200 {
            original.append_exemplar(SeriesIndex(number as u32 % 4), exemplar(number)).unwrap();
        }
        let stale = Exemplar { value: f64::from_bits(STALE_NAN_BITS), ..exemplar(1000) };
        original.append_exemplar(SeriesIndex(3), stale).unwrap();
        for (family, help) in [("up", "Is it?"), ("up", ""), ("down", "<é>")] {
            describe(&original, family, help);
        }
        let pages = pages(&original, || {});
        assert!(pages.len() > 4);
        let (loaded, loader) = loaded(&pages, 1000);
        for tenant in ["t", "other"] {
            assert_eq!(exemplars(&loaded, tenant), exemplars(&original, tenant));
            assert!(loader.exemplars_covered_below(tenant) > 0);
        }
        assert_eq!(loader.exemplars_covered_below("third"), 0);
        let (loaded, original) = (loaded.extras(), original.extras());
        assert_eq!(loaded.exemplars.size_bytes(), original.exemplars.size_bytes());
        assert_eq!(loaded.metadata.size_bytes(), original.metadata.size_bytes());
        for family in ["up", "down"] {
            assert_eq!(
                loaded.metadata.descriptions("t", family),
                original.metadata.descriptions("t", family)
            );
        }
    }

    #[test]
    fn an_image_that_is_made_while_exemplars_come_and_go_has_no_gap() {
        let original = head(300);
        let mut number = 0;
        let mut add = |count: i64| {
            for _ in 0..count {
                original.append_exemplar(SeriesIndex(number as u32 % 3), exemplar(number)).unwrap();
                number += 1;
            }
        };
        add(300);
        let mut rounds = 0;
        let pages = pages(&original, || {
            rounds += 1;
            add(if rounds < 4 { 20 } else { 0 });
        });
        assert!(pages.len() > 8);
        let (loaded, _) = loaded(&pages, 300);
        assert_eq!(exemplars(&loaded, "t"), exemplars(&original, "t"));
    }

    #[test]
    fn lower_limits_keep_the_newest() {
        let original = head(100);
        for number in 0..100 {
            original.append_exemplar(SeriesIndex(0), exemplar(number)).unwrap();
        }
        let pages = pages(&original, || {});
        let kept = exemplars(&loaded(&pages, 10).0, "t");
        assert_eq!((kept.len(), kept[0].2.timestamp_ms), (10, 90));
        assert!(exemplars(&loaded(&pages, 0).0, "t").is_empty());
    }

    proptest! {
        #[test]
        fn mutated_pages_end_in_a_result(
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let original = head(100);
            for number in 0..8 {
                original.append_exemplar(SeriesIndex(number as u32 % 4), exemplar(number)).unwrap();
            }
            describe(&original, "up", "Is it?");
            let mut page = pages(&original, || {}).remove(0);
            for (at, byte) in edits {
                let at = at.index(page.len());
                page[at] = byte;
            }
            page.truncate(cut.index(page.len() + 1));
            let _ = ImageLoader::default().page(&mut Head::default(), 0, &page);
        }
    }
}
