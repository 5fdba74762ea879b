//! External labels: what each series gets on top of its own, and what a matcher on them means.

use std::sync::Arc;

use ahash::RandomState;
use annulus_shards::core::ReadRequest;
use annulus_shards::{Labels, Matcher};

/// Always the same: which of two replicas comes first must not depend on the process.
const REPLICAS: RandomState = RandomState::with_seeds(1, 2, 3, 4);

/// The labels that all series of a head or a block get, and those that are hidden from queries.
#[derive(Debug, Clone)]
pub struct ExternalLabels {
    /// Sorted by name; without the tenant's label.
    fixed: Vec<(String, String)>,
    /// The label that holds the tenant; `None` where only the fixed labels count.
    tenant_label: Option<String>,
    replica_labels: Arc<[String]>,
}

impl ExternalLabels {
    /// `fixed` are the labels of `--label`; `tenant_label` holds the tenant's name and beats a fixed label of that
    /// name, as in Thanos Receive; `replica_labels` are removed from every series.
    pub fn new(
        fixed: impl IntoIterator<Item = (String, String)>,
        tenant_label: String,
        replica_labels: Vec<String>,
    ) -> ExternalLabels {
        let mut fixed: Vec<_> = fixed.into_iter().filter(|(name, _)| *name != tenant_label).collect();
        fixed.sort_unstable();
        ExternalLabels { fixed, tenant_label: Some(tenant_label), replica_labels: replica_labels.into() }
    }

    /// The labels that a block names itself, its tenant's among them, with the same labels hidden.
    pub fn of_block(&self, labels: impl IntoIterator<Item = (String, String)>) -> ExternalLabels {
        let mut fixed: Vec<_> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        fixed.sort_unstable();
        ExternalLabels { fixed, tenant_label: None, replica_labels: Arc::clone(&self.replica_labels) }
    }

    /// The same with other labels hidden.
    pub fn hiding(&self, labels: Arc<[String]>) -> ExternalLabels {
        ExternalLabels { replica_labels: labels, ..self.clone() }
    }

    /// The label that holds the tenant.
    pub fn tenant_label(&self) -> Option<&str> {
        self.tenant_label.as_deref()
    }

    /// Whether queries do not see this label.
    pub fn is_replica(&self, name: &str) -> bool {
        self.replica_labels.iter().any(|replica| replica == name)
    }

    /// The names of the labels that every series gets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fixed.iter().map(|(name, _)| name.as_str()).chain(self.tenant_label())
    }

    /// The value that an external label gives to the series of a tenant; nothing, if it is not an external label.
    pub fn value<'a>(&'a self, name: &str, tenant: &'a str) -> Option<&'a str> {
        if self.is_tenant(name) {
            return Some(tenant);
        }
        self.fixed.iter().find(|(fixed, _)| fixed == name).map(|(_, value)| value.as_str())
    }

    /// What to ask of the head or the block for these matchers; nothing, if none of its series can match.
    pub fn read_request(
        &self,
        matchers: Vec<Matcher>,
        (min_ms, max_ms): (i64, i64),
        skip_chunks: bool,
    ) -> Option<ReadRequest> {
        let mut request =
            ReadRequest { tenants: Vec::new(), matchers: Vec::new(), min_ms, max_ms, skip_chunks };
        for matcher in matchers {
            if self.is_tenant(&matcher.name) {
                request.tenants.push(matcher);
            } else if let Some(value) = self.value(&matcher.name, "") {
                if !matcher.matches(value) {
                    return None;
                }
            } else {
                request.matchers.push(matcher);
            }
        }
        Some(request)
    }

    /// The final labels of a series. `pairs` is working memory.
    pub fn apply<'a>(
        &'a self,
        own: &'a Labels,
        tenant: &'a str,
        pairs: &mut Vec<(&'a str, &'a str)>,
    ) -> Labels {
        pairs.clear();
        pairs.extend(own.iter().filter(|(name, _)| !self.is_hidden_or_external(name)));
        for (name, value) in &self.fixed {
            self.insert(pairs, name, value);
        }
        if let Some(name) = &self.tenant_label {
            self.insert(pairs, name, tenant);
        }
        Labels::from_sorted(pairs.iter().copied())
    }

    /// Which replica a series is of: a number that stands for all its hidden labels, the same in head and blocks.
    pub fn replica(&self, own: &Labels, tenant: &str) -> u64 {
        if self.replica_labels.is_empty() {
            return 0;
        }
        let of_series = own.iter().filter(|(name, _)| self.is_replica(name) && !self.is_external(name));
        let fixed = self.fixed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let external = fixed.chain(self.tenant_label().map(|name| (name, tenant)));
        let hidden = of_series.chain(external.filter(|(name, _)| self.is_replica(name)));
        hidden.map(|pair| REPLICAS.hash_one(pair)).fold(0, u64::wrapping_add)
    }

    fn is_tenant(&self, name: &str) -> bool {
        self.tenant_label() == Some(name)
    }

    fn is_hidden_or_external(&self, name: &str) -> bool {
        self.is_replica(name) || self.is_external(name)
    }

    fn is_external(&self, name: &str) -> bool {
        self.is_tenant(name) || self.fixed.iter().any(|(fixed, _)| fixed == name)
    }

    fn insert<'a>(&self, pairs: &mut Vec<(&'a str, &'a str)>, name: &'a str, value: &'a str) {
        if !self.is_replica(name) {
            let index = pairs.partition_point(|(other, _)| *other < name);
            pairs.insert(index, (name, value));
        }
    }
}
