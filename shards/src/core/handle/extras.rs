//! Exemplars and metadata of all shards.

use std::sync::Arc;

use super::{ReadError, ReadRequest, ShardHandle};
use crate::Labels;
use crate::core::read::ReadJob;
use crate::exemplars::Exemplar;
use crate::metadata::Description;

/// The exemplars of one series, as stored (no external labels).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadExemplars {
    /// Who wrote it.
    pub tenant: Arc<str>,
    /// The series' own labels.
    pub labels: Labels,
    /// In order of time.
    pub exemplars: Vec<Exemplar>,
}

/// What a family of metrics of one tenant is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyMetadata {
    /// Whose.
    pub tenant: Arc<str>,
    /// The family's name.
    pub family: Arc<str>,
    /// One for each answer that senders give; those last that were sent last.
    pub descriptions: Vec<Description>,
}

impl ShardHandle {
    /// Exemplars of the series that fulfil one of the requests, each series once, in no order. The limit is for each
    /// shard. A series may have gone from the head.
    pub async fn exemplars(
        &self,
        requests: Vec<ReadRequest>,
        bytes_max: u64,
    ) -> Result<Vec<HeadExemplars>, ReadError> {
        let requests: Arc<[ReadRequest]> = requests.into();
        let make = |reply| ReadJob::Exemplars { requests: Arc::clone(&requests), bytes_max, reply };
        self.ask(make).await
    }

    /// What is known of one family of metrics, or of all, in no order.
    pub async fn metadata(&self, family: Option<&str>) -> Result<Vec<FamilyMetadata>, ReadError> {
        self.ask(|reply| ReadJob::Metadata { family: family.map(str::to_owned), reply }).await
    }
}
