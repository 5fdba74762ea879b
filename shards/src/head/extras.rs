//! What the head keeps beside series and samples: exemplars and metadata.

use std::cell::{Ref, RefMut};

use super::store::{Head, SeriesIndex};
use crate::exemplars::{BYTES_PER_EXEMPLAR, Exemplar, ExemplarLimits, ExemplarReason, ExemplarStore, Kept};
use crate::metadata::{MetadataLimits, MetadataStore};

/// How much of it is kept, of a node or of one of its shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtraLimits {
    /// The most exemplars, all tenants together; 0 for none.
    pub exemplars_max: usize,
    /// The most families of metrics with metadata, of each tenant; 0 for none.
    pub families_max: usize,
    /// The memory of the heads, in bytes, of which both may take their parts.
    pub head_bytes_max: u64,
}

impl Default for ExtraLimits {
    fn default() -> ExtraLimits {
        ExtraLimits { exemplars_max: 100_000, families_max: 10_000, head_bytes_max: u64::MAX }
    }
}

/// Exemplars take at most one of so many parts of the memory of the heads. They never leave it for a block: with more of
/// them than the heads may have memory, all writes would be refused for good.
const EXEMPLAR_PARTS: u64 = 4;

/// The same for metadata.
const METADATA_PARTS: u64 = 8;

impl ExtraLimits {
    /// With no more exemplars and metadata than fit well into heads of so many bytes.
    pub fn within(self, head_bytes_max: u64) -> ExtraLimits {
        let fitting = head_bytes_max / EXEMPLAR_PARTS / BYTES_PER_EXEMPLAR;
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        ExtraLimits { exemplars_max: self.exemplars_max.min(fitting), head_bytes_max, ..self }
    }

    /// The part of each of `count` shards. Series and families are spread evenly; a share is rounded up.
    pub fn of_shard(self, count: usize) -> ExtraLimits {
        ExtraLimits {
            exemplars_max: self.exemplars_max.div_ceil(count),
            families_max: self.families_max.div_ceil(count),
            head_bytes_max: self.head_bytes_max / count as u64,
        }
    }
}

/// Exemplars and metadata of a shard.
#[derive(Debug)]
pub struct HeadExtras {
    /// Exemplars.
    pub exemplars: ExemplarStore,
    /// What families of metrics are.
    pub metadata: MetadataStore,
}

impl Default for HeadExtras {
    fn default() -> HeadExtras {
        HeadExtras::new(ExtraLimits::default())
    }
}

impl HeadExtras {
    /// None yet, and never more than the limits allow.
    pub fn new(limits: ExtraLimits) -> HeadExtras {
        let ExtraLimits { exemplars_max, families_max, head_bytes_max } = limits;
        let exemplars = ExemplarLimits::of_count(exemplars_max).within(head_bytes_max / EXEMPLAR_PARTS);
        let metadata = MetadataLimits::of_families(families_max).within(head_bytes_max / METADATA_PARTS);
        HeadExtras { exemplars: ExemplarStore::new(exemplars), metadata: MetadataStore::new(metadata) }
    }

    /// About how much memory both take.
    pub fn size_bytes(&self) -> u64 {
        self.exemplars.size_bytes() + self.metadata.size_bytes()
    }
}

impl Head {
    /// With room for so many exemplars and so much metadata. To be called while the head is empty.
    pub fn with_extra_limits(mut self, limits: ExtraLimits) -> Head {
        self.extras = HeadExtras::new(limits).into();
        self
    }

    /// Exemplars and metadata.
    pub fn extras(&self) -> Ref<'_, HeadExtras> {
        self.extras.borrow()
    }

    /// The same, to be changed.
    pub fn extras_mut(&self) -> RefMut<'_, HeadExtras> {
        self.extras.borrow_mut()
    }

    /// Adds an exemplar of a series.
    ///
    /// # Errors
    /// When it is not newer than the newest one of its series and not a repeat, if none is to be kept, or if the
    /// number is that of no series.
    pub fn append_exemplar(&self, series: SeriesIndex, exemplar: Exemplar) -> Result<Kept, ExemplarReason> {
        let Some(tenant) = self.tenant_of(series.0) else { return Err(ExemplarReason::UnknownSeries) };
        let key = self.series[series.0].key;
        self.extras.borrow_mut().exemplars.append(tenant, key, exemplar, || self.labels(series.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;
    use crate::head::SeriesKey;
    use crate::metadata::MetricKind;

    #[test]
    fn exemplars_leave_most_of_the_heads_to_samples() {
        let limits = ExtraLimits { exemplars_max: 10_000, families_max: 7, head_bytes_max: 1 << 30 };
        assert_eq!(limits.within(1 << 30), limits);
        let expected = ExtraLimits { exemplars_max: 2048, families_max: 7, head_bytes_max: 4 << 20 };
        assert_eq!(limits.within(4 << 20), expected);
    }

    #[test]
    fn exemplars_and_metadata_at_their_most_leave_most_of_the_heads_to_samples() {
        const HEAD_BYTES: u64 = 16 << 20;
        const SHARDS: usize = 8;
        let limits = ExtraLimits::default().within(HEAD_BYTES).of_shard(SHARDS);
        let mut extras = HeadExtras::new(limits);
        let text = "x".repeat(4000);
        for number in 0..2000 {
            let (tenant, name) = (format!("tenant-{}", number % 10), number.to_string());
            let _ = extras.metadata.describe(&tenant, &name, MetricKind::Gauge, &text, "");
            let labels = Labels::from_sorted([("trace_id", name.as_str())]);
            let exemplar = Exemplar { labels, value: 0.5, timestamp_ms: number };
            let series = || Labels::from_sorted([("__name__", text.as_str())]);
            extras.exemplars.append(&tenant, SeriesKey(number as u128), exemplar, series).unwrap();
        }
        assert!(extras.metadata.family_count() > 0 && !extras.exemplars.is_empty());
        let bytes = extras.size_bytes() * SHARDS as u64;
        assert!(bytes <= HEAD_BYTES / 4 + HEAD_BYTES / 8, "{bytes} of {HEAD_BYTES} bytes");
    }
}
