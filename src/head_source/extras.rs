//! Exemplars and metadata of the head, as Thanos Query shows them.

use std::sync::Arc;

use annulus_shards::Matcher;
use annulus_shards::core::{FamilyMetadata, HeadExemplars, ReadRequest, ShardHandle};

use super::{ExternalLabels, ReadFuture};
use crate::source::{ExtraSource, Metadata, SeriesExemplars, SourceError, SourceFuture};

/// The reads of [`ShardHandle`] that [`HeadExtras`] needs; a trait, so that tests can stand in for the shards.
pub trait ExtraReads: Send + Sync {
    /// See [`ShardHandle::exemplars`].
    fn exemplars(&self, requests: Vec<ReadRequest>, bytes_max: u64) -> ReadFuture<'_, Vec<HeadExemplars>>;

    /// See [`ShardHandle::metadata`].
    fn metadata<'a>(&'a self, family: Option<&'a str>) -> ReadFuture<'a, Vec<FamilyMetadata>>;
}

impl ExtraReads for ShardHandle {
    fn exemplars(&self, requests: Vec<ReadRequest>, bytes_max: u64) -> ReadFuture<'_, Vec<HeadExemplars>> {
        Box::pin(ShardHandle::exemplars(self, requests, bytes_max))
    }

    fn metadata<'a>(&'a self, family: Option<&'a str>) -> ReadFuture<'a, Vec<FamilyMetadata>> {
        Box::pin(ShardHandle::metadata(self, family))
    }
}

/// Exemplars and metadata of this process, with external labels.
pub struct HeadExtras {
    reads: Arc<dyn ExtraReads>,
    labels: ExternalLabels,
    read_bytes_max: u64,
}

impl HeadExtras {
    /// Reads from `reads`; the exemplars of one read may take `read_bytes_max` bytes of each shard.
    pub fn new(reads: Arc<dyn ExtraReads>, labels: ExternalLabels, read_bytes_max: u64) -> HeadExtras {
        HeadExtras { reads, labels, read_bytes_max }
    }

    async fn read_exemplars(
        &self,
        sets: Vec<Vec<Matcher>>,
        times: (i64, i64),
    ) -> Result<Vec<SeriesExemplars>, SourceError> {
        let requests: Vec<ReadRequest> =
            sets.into_iter().filter_map(|set| self.labels.read_request(set, times, true)).collect();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.reads.exemplars(requests, self.read_bytes_max).await?;
        let mut pairs = Vec::new();
        let labelled = found.iter().map(|one| self.labels.apply(&one.labels, &one.tenant, &mut pairs));
        let labels: Vec<_> = labelled.collect();
        let series = labels.into_iter().zip(found);
        let mut series: Vec<SeriesExemplars> =
            series.map(|(labels, one)| SeriesExemplars { labels, exemplars: one.exemplars }).collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        join_equal(&mut series);
        Ok(series)
    }

    async fn read_metadata(&self, family: Option<&str>) -> Result<Metadata, SourceError> {
        let mut all = Metadata::new();
        for found in self.reads.metadata(family).await? {
            let known = all.entry(found.family.to_string()).or_default();
            for description in found.descriptions {
                if !known.contains(&description) {
                    known.push(description);
                }
            }
        }
        Ok(all)
    }
}

/// Joins series that became equal by the labels that are hidden. Their replicas may send the same exemplars.
fn join_equal(series: &mut Vec<SeriesExemplars>) {
    series.dedup_by(|next, kept| {
        let same = next.labels == kept.labels;
        if same {
            kept.exemplars.append(&mut next.exemplars);
        }
        same
    });
    for one in series {
        one.exemplars.sort();
        one.exemplars.dedup();
    }
}

impl ExtraSource for HeadExtras {
    fn exemplars<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<SeriesExemplars>> {
        Box::pin(self.read_exemplars(sets, (min_ms, max_ms)))
    }

    fn metadata<'a>(&'a self, family: Option<&'a str>) -> SourceFuture<'a, Metadata> {
        Box::pin(self.read_metadata(family))
    }
}

#[cfg(test)]
mod tests {
    use annulus_shards::exemplars::Exemplar;
    use annulus_shards::metadata::{Description, MetricKind};
    use annulus_shards::{Labels, MatchOp};
    use futures::executor::block_on;

    use super::*;

    /// Answers with all that it has, whatever is asked for.
    struct FakeShards {
        exemplars: Vec<HeadExemplars>,
        metadata: Vec<FamilyMetadata>,
    }

    impl ExtraReads for FakeShards {
        fn exemplars(&self, requests: Vec<ReadRequest>, _: u64) -> ReadFuture<'_, Vec<HeadExemplars>> {
            assert!(!requests.is_empty(), "a read that cannot find anything is not made");
            Box::pin(async move { Ok(self.exemplars.clone()) })
        }

        fn metadata<'a>(&'a self, _: Option<&'a str>) -> ReadFuture<'a, Vec<FamilyMetadata>> {
            Box::pin(async move { Ok(self.metadata.clone()) })
        }
    }

    fn source(exemplars: Vec<HeadExemplars>, metadata: Vec<FamilyMetadata>) -> HeadExtras {
        let fixed = [("replica".to_owned(), "r0".to_owned()), ("region".to_owned(), "eu".to_owned())];
        let labels = ExternalLabels::new(fixed, "tenant_id".to_owned(), vec!["replica".to_owned()]);
        HeadExtras::new(Arc::new(FakeShards { exemplars, metadata }), labels, 1 << 20)
    }

    fn exemplars(replica: &str, traces: &[(&str, i64)]) -> HeadExemplars {
        let exemplar = |(trace, timestamp_ms): &(&str, i64)| Exemplar {
            labels: Labels::from_pairs([("trace_id", *trace)]),
            value: 1.0,
            timestamp_ms: *timestamp_ms,
        };
        HeadExemplars {
            tenant: "t".into(),
            labels: Labels::from_pairs([("__name__", "up"), ("replica", replica)]),
            exemplars: traces.iter().map(exemplar).collect(),
        }
    }

    #[test]
    fn series_get_external_labels_and_replicas_are_joined() {
        let found = vec![exemplars("b", &[("x", 1), ("y", 3)]), exemplars("a", &[("x", 1), ("z", 2)])];
        let source = source(found, vec![]);
        let read = |name, value| {
            let matcher = Matcher::new(MatchOp::Equal, name, value).unwrap();
            block_on(source.exemplars(vec![vec![matcher]], 0, 10)).unwrap()
        };
        let found = read("__name__", "up");
        assert_eq!(found.len(), 1);
        let expected = Labels::from_pairs([("__name__", "up"), ("region", "eu"), ("tenant_id", "t")]);
        assert_eq!(found[0].labels, expected);
        let traces: Vec<_> =
            found[0].exemplars.iter().map(|one| one.labels.get("trace_id").unwrap()).collect();
        assert_eq!(traces, ["x", "z", "y"]);
        assert!(read("region", "us").is_empty(), "no series of this node has that label");
    }

    #[test]
    fn what_tenants_agree_on_comes_once() {
        let family = |tenant: &str, helps: &[&str]| FamilyMetadata {
            tenant: tenant.into(),
            family: "up".into(),
            descriptions: helps
                .iter()
                .map(|help| Description { kind: MetricKind::Gauge, help: (*help).into(), unit: "".into() })
                .collect(),
        };
        let source = source(vec![], vec![family("a", &["Up.", "Is it?"]), family("b", &["Is it?"])]);
        let found = block_on(source.metadata(None)).unwrap();
        let helps: Vec<_> = found["up"].iter().map(|one| &*one.help).collect();
        assert_eq!(helps, ["Up.", "Is it?"]);
    }
}
