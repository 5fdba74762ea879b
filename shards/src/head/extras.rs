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
}

impl Default for ExtraLimits {
    fn default() -> ExtraLimits {
        ExtraLimits { exemplars_max: 100_000, families_max: 10_000 }
    }
}

/// Exemplars take at most this part of the memory of the heads. They never leave it for a block: with more of them than
/// the heads may have memory, all writes would be refused for good.
const HEAD_PARTS: u64 = 4;

impl ExtraLimits {
    /// With no more exemplars than fit well into heads of so many bytes.
    pub fn within(self, head_bytes_max: u64) -> ExtraLimits {
        let fitting = head_bytes_max / HEAD_PARTS / BYTES_PER_EXEMPLAR;
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        ExtraLimits { exemplars_max: self.exemplars_max.min(fitting), ..self }
    }

    /// The part of each of `count` shards. Series and families are spread evenly; a share is rounded up.
    pub fn of_shard(self, count: usize) -> ExtraLimits {
        ExtraLimits {
            exemplars_max: self.exemplars_max.div_ceil(count),
            families_max: self.families_max.div_ceil(count),
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
        HeadExtras {
            exemplars: ExemplarStore::new(ExemplarLimits::of_count(limits.exemplars_max)),
            metadata: MetadataStore::new(MetadataLimits::of_families(limits.families_max)),
        }
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

    #[test]
    fn exemplars_leave_most_of_the_heads_to_samples() {
        let limits = ExtraLimits { exemplars_max: 10_000, families_max: 7 };
        assert_eq!(limits.within(1 << 30), limits);
        assert_eq!(limits.within(4 << 20), ExtraLimits { exemplars_max: 2048, families_max: 7 });
    }
}
