//! Which tenants have label values of their own: a sender must not be able to make series at will.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TENANT_LABELS_MAX;

/// Tenants whose label values stay although they do not send.
const TENANT_LABELS_KEPT: usize = TENANT_LABELS_MAX / 4 * 3;

/// Keeps the label value of a tenant from being removed.
#[derive(Clone)]
pub struct TenantLabel(Arc<()>);

/// The tenants with label values, and the statuses that were answered.
#[derive(Clone, Default)]
pub struct TenantLabels(Arc<Mutex<Labelled>>);

#[derive(Default)]
struct Labelled {
    tenants: HashMap<String, TenantLabel>,
    codes: BTreeSet<u16>,
}

impl TenantLabels {
    /// The label value of a tenant, to be held as long as it is counted with; `None` when others have all places.
    pub fn take(&self, tenant: &str) -> Option<TenantLabel> {
        let mut labelled = self.lock();
        if let Some(label) = labelled.tenants.get(tenant) {
            return Some(label.clone());
        }
        if labelled.tenants.len() >= TENANT_LABELS_MAX {
            return None;
        }
        let label = TenantLabel(Arc::default());
        labelled.tenants.insert(tenant.to_owned(), label.clone());
        Some(label)
    }

    /// Forgets the tenants whose label values nobody holds, once `remove` has removed them of all statuses; none while
    /// there are places enough: the counters of a tenant that sends every few minutes go on.
    pub fn forget_unused(&self, remove: impl Fn(&str, &[String])) {
        let is_unused = |label: &TenantLabel| Arc::strong_count(&label.0) == 1;
        let labelled = self.lock();
        if labelled.tenants.len() <= TENANT_LABELS_KEPT {
            return;
        }
        let unused = labelled.tenants.iter().filter(|(_, label)| is_unused(label));
        let unused: Vec<String> = unused.map(|(tenant, _)| tenant.clone()).collect();
        let codes: Vec<String> = labelled.codes.iter().map(u16::to_string).collect();
        drop(labelled);
        for tenant in unused {
            // Under the lock, so that a tenant that comes back gets label values that stay; of one tenant only, so that
            // no shard waits for long.
            let mut labelled = self.lock();
            if labelled.tenants.get(&tenant).is_some_and(is_unused) {
                remove(&tenant, &codes);
                labelled.tenants.remove(&tenant);
            }
        }
    }

    /// Notes that there are label values of a status.
    pub fn note_code(&self, code: u16) {
        self.lock().codes.insert(code);
    }

    fn lock(&self) -> MutexGuard<'_, Labelled> {
        // Whoever panicked while holding it left whole values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
