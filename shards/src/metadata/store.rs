//! The descriptions of families by tenant, within bounds on their number and their bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{Description, MetadataReason, MetricKind};

/// The most bytes that name, help and unit of a family may have together.
pub const TEXT_BYTES_MAX: usize = 8 << 10;

/// The most descriptions of one family that are kept: senders differ while a new version is rolled out. One more takes
/// the place of the one that was sent the longest time ago.
pub const VARIANTS_MAX: usize = 8;

/// What a description may take on average, by which a tenant's bytes are bounded.
const BYTES_PER_FAMILY: u64 = 512;

/// However few families a tenant may have, a description with the longest texts has room.
const TENANT_BYTES_MIN: u64 = 64 << 10;

/// What all tenants of a shard may take together at most.
const BYTES_MAX: u64 = 64 << 20;

/// What a description costs beside its texts: itself, its family's place in the table, and the heads of the texts.
const OVERHEAD_BYTES: u64 = size_of::<Description>() as u64 + 112;

/// How much a store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataLimits {
    /// How many families a tenant may have.
    families_max: usize,
    /// How much memory the descriptions of a tenant may take, about.
    tenant_bytes_max: u64,
    /// How much memory those of all tenants may take, about.
    bytes_max: u64,
}

impl MetadataLimits {
    /// At most so many families of each tenant; none at all with 0.
    pub fn of_families(families_max: usize) -> MetadataLimits {
        let tenant_bytes_max = (families_max as u64).saturating_mul(BYTES_PER_FAMILY).max(TENANT_BYTES_MIN);
        MetadataLimits { families_max, tenant_bytes_max, bytes_max: BYTES_MAX }
    }

    /// In no more than so many bytes, all tenants together.
    pub fn within(self, bytes_max: u64) -> MetadataLimits {
        MetadataLimits { bytes_max: self.bytes_max.min(bytes_max), ..self }
    }
}

/// What a description is to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Described {
    /// New: it is stored.
    Stored,
    /// Known: nothing changes.
    Known,
}

type Families = HashMap<Arc<str>, Vec<Description>, ahash::RandomState>;

#[derive(Debug, Default)]
struct TenantMetadata {
    /// Of each family its descriptions, those last that were sent last.
    families: Families,
    size_bytes: u64,
}

/// The metadata of a shard.
#[derive(Debug)]
pub struct MetadataStore {
    limits: MetadataLimits,
    tenants: HashMap<Arc<str>, TenantMetadata, ahash::RandomState>,
    /// Each of them once: those to look at when some are to be forgotten.
    queued: VecDeque<Arc<str>>,
    family_count: usize,
    size_bytes: u64,
}

impl MetadataStore {
    /// An empty store.
    pub fn new(limits: MetadataLimits) -> MetadataStore {
        MetadataStore {
            limits,
            tenants: HashMap::default(),
            queued: VecDeque::new(),
            family_count: 0,
            size_bytes: 0,
        }
    }

    /// Whether a tenant's family is known to be this; a known description counts as sent now.
    pub fn confirm(&mut self, tenant: &str, family: &str, kind: MetricKind, help: &str, unit: &str) -> bool {
        let families = self.tenants.get_mut(tenant).map(|tenant| &mut tenant.families);
        let Some(known) = families.and_then(|families| families.get_mut(family)) else { return false };
        let is_this =
            |known: &Description| known.kind == kind && *known.help == *help && *known.unit == *unit;
        let Some(place) = known.iter().position(is_this) else { return false };
        let rest = &mut known[place..];
        rest.rotate_left(1);
        true
    }

    /// Says what a tenant's family is.
    ///
    /// # Errors
    /// When there is no room for one more, or the texts cannot be kept.
    pub fn describe(
        &mut self,
        tenant: &str,
        family: &str,
        kind: MetricKind,
        help: &str,
        unit: &str,
    ) -> Result<Described, MetadataReason> {
        self.describe_if(tenant, family, kind, help, unit, || true)
    }

    /// The same if the tenant may have anything, which is asked last, and only for what would be stored.
    ///
    /// # Errors
    /// The same, or when it may not.
    pub fn describe_if(
        &mut self,
        tenant: &str,
        family: &str,
        kind: MetricKind,
        help: &str,
        unit: &str,
        may_store: impl FnOnce() -> bool,
    ) -> Result<Described, MetadataReason> {
        if self.confirm(tenant, family, kind, help, unit) {
            return Ok(Described::Known);
        }
        if family.is_empty() {
            return Err(MetadataReason::Invalid);
        }
        if family.len() + help.len() + unit.len() > TEXT_BYTES_MAX {
            return Err(MetadataReason::TooLong);
        }
        let description = Description { kind, help: help.into(), unit: unit.into() };
        let added_bytes = size_bytes(family, &description);
        let of_tenant = self.tenants.get(tenant);
        let known = of_tenant.and_then(|tenant| tenant.families.get(family)).map(Vec::as_slice);
        let replaced_bytes = match known {
            Some([oldest, rest @ ..]) if rest.len() + 1 >= VARIANTS_MAX => size_bytes(family, oldest),
            _ => 0,
        };
        let (families, tenant_bytes) =
            of_tenant.map_or((0, 0), |tenant| (tenant.families.len(), tenant.size_bytes));
        let is_new_family = known.is_none();
        if families + usize::from(is_new_family) > self.limits.families_max
            || tenant_bytes - replaced_bytes + added_bytes > self.limits.tenant_bytes_max
            || self.size_bytes - replaced_bytes + added_bytes > self.limits.bytes_max
        {
            return Err(MetadataReason::Full);
        }
        if !may_store() {
            return Err(MetadataReason::TenantLimit);
        }
        if of_tenant.is_none() {
            let tenant: Arc<str> = tenant.into();
            self.queued.push_back(Arc::clone(&tenant));
            self.tenants.insert(tenant, TenantMetadata::default());
        }
        let of_tenant = self.tenants.get_mut(tenant).expect("it was there, or was just added");
        match of_tenant.families.get_mut(family) {
            Some(known) => {
                if replaced_bytes > 0 {
                    known.remove(0);
                }
                known.push(description);
            }
            None => drop(of_tenant.families.insert(family.into(), vec![description])),
        }
        of_tenant.size_bytes = of_tenant.size_bytes - replaced_bytes + added_bytes;
        self.size_bytes = self.size_bytes - replaced_bytes + added_bytes;
        self.family_count += usize::from(is_new_family);
        Ok(Described::Stored)
    }

    /// Looks at no more than `max` tenants, others at each call, and forgets what was said of the families of those that
    /// nobody knows.
    pub fn forget_unknown(&mut self, max: usize, is_known: impl Fn(&str) -> bool) {
        for _ in 0..max.min(self.queued.len()) {
            let Some(tenant) = self.queued.pop_front() else { break };
            if is_known(&tenant) {
                self.queued.push_back(tenant);
            } else if let Some(gone) = self.tenants.remove(&tenant) {
                self.family_count -= gone.families.len();
                self.size_bytes -= gone.size_bytes;
            }
        }
    }

    /// Whether one more description of a family would take the place of another.
    pub fn would_replace(&self, tenant: &str, family: &str) -> bool {
        self.descriptions(tenant, family).len() >= VARIANTS_MAX
    }

    /// How many families there are, each tenant's counted by themselves.
    pub fn family_count(&self) -> usize {
        self.family_count
    }

    /// About how much memory they take.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The tenants that have any, by name.
    pub fn tenants(&self) -> Vec<Arc<str>> {
        let mut tenants: Vec<Arc<str>> = self.tenants.keys().cloned().collect();
        tenants.sort_unstable();
        tenants
    }

    /// The families of a tenant, by name.
    pub fn families(&self, tenant: &str) -> Vec<Arc<str>> {
        let families = self.tenants.get(tenant).into_iter().flat_map(|tenant| tenant.families.keys());
        let mut families: Vec<Arc<str>> = families.cloned().collect();
        families.sort_unstable();
        families
    }

    /// What a family of a tenant is said to be; those last that were sent last.
    pub fn descriptions(&self, tenant: &str, family: &str) -> &[Description] {
        let families = self.tenants.get(tenant).map(|tenant| &tenant.families);
        families.and_then(|families| families.get(family)).map_or(&[], Vec::as_slice)
    }
}

fn size_bytes(family: &str, description: &Description) -> u64 {
    OVERHEAD_BYTES + (family.len() + description.help.len() + description.unit.len()) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn describe(store: &mut MetadataStore, family: &str, help: &str) -> Result<Described, MetadataReason> {
        store.describe("t", family, MetricKind::Gauge, help, "")
    }

    fn helps(store: &MetadataStore, family: &str) -> Vec<String> {
        store.descriptions("t", family).iter().map(|one| one.help.to_string()).collect()
    }

    #[test]
    fn a_family_keeps_what_was_sent_last() {
        let mut store = MetadataStore::new(MetadataLimits::of_families(10));
        for number in 0..VARIANTS_MAX {
            assert_eq!(describe(&mut store, "up", &number.to_string()), Ok(Described::Stored));
        }
        let full_bytes = store.size_bytes();
        assert!(store.would_replace("t", "up") && !store.would_replace("t", "down"));
        assert_eq!(describe(&mut store, "up", "0"), Ok(Described::Known));
        assert_eq!(describe(&mut store, "up", "8"), Ok(Described::Stored));
        assert_eq!(helps(&store, "up"), ["2", "3", "4", "5", "6", "7", "0", "8"]);
        assert_eq!((store.size_bytes(), store.family_count()), (full_bytes, 1));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut store = MetadataStore::new(MetadataLimits::of_families(2));
        assert_eq!(describe(&mut store, "", "x"), Err(MetadataReason::Invalid));
        assert_eq!(describe(&mut store, "up", &"x".repeat(TEXT_BYTES_MAX)), Err(MetadataReason::TooLong));
        for family in ["a", "b"] {
            assert_eq!(describe(&mut store, family, "x"), Ok(Described::Stored));
        }
        assert_eq!(describe(&mut store, "c", "x"), Err(MetadataReason::Full));
        assert_eq!(
            describe(&mut store, "a", "y"),
            Ok(Described::Stored),
            "another text of one that is there"
        );
        assert_eq!(store.describe("other", "c", MetricKind::Info, "", ""), Ok(Described::Stored));
        assert_eq!(
            (store.families("t"), store.tenants()),
            (vec!["a".into(), "b".into()], vec!["other".into(), "t".into()])
        );
        let mut none = MetadataStore::new(MetadataLimits::of_families(0));
        assert_eq!(describe(&mut none, "a", "x"), Err(MetadataReason::Full));
    }

    #[test]
    fn families_of_tenants_that_nobody_knows_are_forgotten() {
        let mut store = MetadataStore::new(MetadataLimits::of_families(10));
        let fill = |store: &mut MetadataStore| {
            for tenant in ["a", "b", "c", "d"] {
                store.describe(tenant, "up", MetricKind::Gauge, "x", "").unwrap();
            }
        };
        fill(&mut store);
        let full_bytes = store.size_bytes();
        for _ in 0..3 {
            store.forget_unknown(2, |tenant| tenant == "b");
        }
        assert_eq!((store.tenants(), store.family_count()), (vec!["b".into()], 1));
        assert_eq!(store.size_bytes(), full_bytes / 4);
        fill(&mut store);
        assert_eq!((store.queued.len(), store.size_bytes()), (4, full_bytes));
        store.forget_unknown(10, |_| false);
        assert_eq!((store.tenants().len(), store.family_count(), store.size_bytes()), (0, 0, 0));
    }

    #[test]
    fn long_texts_leave_room_for_fewer_families() {
        let mut store = MetadataStore::new(MetadataLimits::of_families(1000));
        let help = "x".repeat(8000);
        let stored =
            (0..1000).filter(|family| describe(&mut store, &family.to_string(), &help).is_ok()).count();
        assert!((50..70).contains(&stored) && store.size_bytes() <= 512_000, "{stored} are stored");
    }

    proptest! {
        #[test]
        fn a_store_has_what_a_plain_list_has(
            families_max in 1usize..6,
            sent in proptest::collection::vec((0u8..2, 0u8..8, 0u8..12), 0..150),
        ) {
            let mut store = MetadataStore::new(MetadataLimits::of_families(families_max));
            let mut model: BTreeMap<(u8, u8), Vec<u8>> = BTreeMap::new();
            for (tenant, family, help) in sent {
                let got = store.describe(&tenant.to_string(), &family.to_string(), MetricKind::Info, &help.to_string(), "");
                let families = model.keys().filter(|(t, _)| *t == tenant).count();
                let expected = match model.get_mut(&(tenant, family)) {
                    Some(known) if known.contains(&help) => {
                        known.retain(|other| *other != help);
                        known.push(help);
                        Ok(Described::Known)
                    }
                    Some(known) => {
                        if known.len() == VARIANTS_MAX {
                            known.remove(0);
                        }
                        known.push(help);
                        Ok(Described::Stored)
                    }
                    None if families == families_max => Err(MetadataReason::Full),
                    None => {
                        model.insert((tenant, family), vec![help]);
                        Ok(Described::Stored)
                    }
                };
                prop_assert_eq!(got, expected);
            }
            prop_assert_eq!(store.family_count(), model.len());
            for ((tenant, family), known) in model {
                let got = store.descriptions(&tenant.to_string(), &family.to_string());
                let got: Vec<u8> = got.iter().map(|one| one.help.parse().unwrap()).collect();
                prop_assert_eq!(got, known);
            }
        }
    }
}
