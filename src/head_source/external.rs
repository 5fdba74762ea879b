//! External labels: what each series gets on top of its own, and what a matcher on them means.

use annulus_shards::core::ReadRequest;
use annulus_shards::{Labels, Matcher};

/// The labels that this process adds to all its series and those that it hides from queries.
#[derive(Debug, Clone)]
pub struct ExternalLabels {
    /// Sorted by name; without the tenant's label.
    fixed: Vec<(String, String)>,
    tenant_label: String,
    replica_labels: Vec<String>,
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
        ExternalLabels { fixed, tenant_label, replica_labels }
    }

    /// Whether queries do not see this label.
    pub fn is_replica(&self, name: &str) -> bool {
        self.replica_labels.iter().any(|replica| replica == name)
    }

    /// The names of the labels that every series gets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fixed.iter().map(|(name, _)| name.as_str()).chain([self.tenant_label.as_str()])
    }

    /// The value that an external label gives to the series of a tenant; nothing, if it is not an external label.
    pub fn value<'a>(&'a self, name: &str, tenant: &'a str) -> Option<&'a str> {
        if name == self.tenant_label {
            return Some(tenant);
        }
        self.fixed.iter().find(|(fixed, _)| fixed == name).map(|(_, value)| value.as_str())
    }

    /// What to ask of the head for these matchers; nothing, if no series of this process can match.
    pub fn read_request(
        &self,
        matchers: Vec<Matcher>,
        (min_ms, max_ms): (i64, i64),
        skip_chunks: bool,
    ) -> Option<ReadRequest> {
        let mut request =
            ReadRequest { tenants: Vec::new(), matchers: Vec::new(), min_ms, max_ms, skip_chunks };
        for matcher in matchers {
            if matcher.name == self.tenant_label {
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
        self.insert(pairs, &self.tenant_label, tenant);
        Labels::from_sorted(pairs.iter().copied())
    }

    fn is_hidden_or_external(&self, name: &str) -> bool {
        name == self.tenant_label
            || self.is_replica(name)
            || self.fixed.iter().any(|(fixed, _)| fixed == name)
    }

    fn insert<'a>(&self, pairs: &mut Vec<(&'a str, &'a str)>, name: &'a str, value: &'a str) {
        if !self.is_replica(name) {
            let index = pairs.partition_point(|(other, _)| *other < name);
            pairs.insert(index, (name, value));
        }
    }
}
