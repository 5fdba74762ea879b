//! Which tenants a ring takes.

use std::collections::BTreeSet;

use super::error::RingFault;
use super::glob::Glob;

/// The tenants of one ring.
#[derive(Debug)]
pub enum TenantSet {
    /// All that come as far as this ring.
    All,
    /// Those of a list.
    Exact(BTreeSet<String>),
    /// Those that match one of the patterns.
    Globs { patterns: BTreeSet<String>, globs: Vec<Glob> },
    /// None, though there is a list: nobody knows how it is meant.
    Nobody(BTreeSet<String>),
}

impl TenantSet {
    /// Those of a list, or all if the list is empty.
    pub fn exact(tenants: Vec<String>) -> TenantSet {
        if tenants.is_empty() {
            return TenantSet::All;
        }
        TenantSet::Exact(tenants.into_iter().collect())
    }

    /// Those that match one of the patterns, or all if there are none.
    pub fn globs(patterns: Vec<String>) -> Result<TenantSet, RingFault> {
        if patterns.is_empty() {
            return Ok(TenantSet::All);
        }
        let patterns: BTreeSet<_> = patterns.into_iter().collect();
        let globs = patterns.iter().map(|pattern| {
            Glob::parse(pattern).map_err(|reason| RingFault::Pattern { pattern: pattern.clone(), reason })
        });
        Ok(TenantSet::Globs { globs: globs.collect::<Result<_, _>>()?, patterns })
    }

    /// Whether a tenant belongs here.
    pub fn takes(&self, tenant: &str) -> bool {
        match self {
            TenantSet::All => true,
            TenantSet::Exact(tenants) => tenants.contains(tenant),
            TenantSet::Globs { globs, .. } => globs.iter().any(|glob| glob.matches(tenant)),
            TenantSet::Nobody(_) => false,
        }
    }

    /// What is listed, in order and each once.
    pub fn listed(&self) -> Option<&BTreeSet<String>> {
        match self {
            TenantSet::All => None,
            TenantSet::Exact(listed)
            | TenantSet::Globs { patterns: listed, .. }
            | TenantSet::Nobody(listed) => Some(listed),
        }
    }
}
