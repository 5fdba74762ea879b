//! Blocks and a head for the tests of local blocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use annulus_shards::core::{HeadChunk, HeadSeries, ReadBudget, ReadRequest, TenantTexts};
use annulus_shards::{Labels, MatchOp, Matcher, chunk};
use bytes::Bytes;
use futures::executor::block_on;
use prometheus::Registry;

use super::{LocalBlockMetrics, LocalBlocks, ReaderLimits};
use crate::block::{BlockMeta, BlockWriter, ChunkIn, ThanosMeta, Ulid, WriterOptions};
use crate::head_source::{ExternalLabels, HeadReads, HeadSource, ReadFuture};
use crate::source::{SelectRequest, SeriesChunks, Source};

pub type Samples = Vec<(i64, f64)>;

/// Series with their chunks.
pub type Content = BTreeMap<Labels, Vec<Samples>>;

pub const BYTES_MAX: u64 = 64 << 20;

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

pub fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).unwrap()
}

/// What a node with `--label=receive_replica="r0"` and `--label=region="eu"` adds, with both replica labels hidden.
pub fn own_labels() -> ExternalLabels {
    let fixed = [("receive_replica", "r0"), ("region", "eu")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let hidden = vec!["receive_replica".to_owned(), "replica".to_owned()];
    ExternalLabels::new(fixed, "tenant_id".to_owned(), hidden)
}

/// What such a node writes into the blocks of a tenant.
pub fn block_labels(tenant: &str) -> BTreeMap<String, String> {
    let labels = [("receive_replica", "r0"), ("region", "eu"), ("tenant_id", tenant)];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub fn ulid(number: u128) -> Ulid {
    Ulid::from_parts(1_756_015_212_123, number)
}

pub fn encode(samples: &[(i64, f64)]) -> Bytes {
    let mut appender = chunk::XorAppender::default();
    for (time_ms, value) in samples {
        appender.append(*time_ms, *value);
    }
    appender.seal().into()
}

/// A block from `min_ms` until before `max_ms`.
pub fn meta(number: u128, (min_ms, max_ms): (i64, i64), labels: BTreeMap<String, String>) -> BlockMeta {
    let thanos = ThanosMeta { version: 1, labels, source: "receive".to_owned(), ..ThanosMeta::default() };
    BlockMeta { thanos: Some(thanos), ..BlockMeta::from_head(ulid(number), min_ms, max_ms) }
}

/// Writes a block into a tenant's folder.
pub fn write(root: &Path, tenant: &str, meta: BlockMeta, content: &Content) -> PathBuf {
    let folder = root.join(tenant);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(meta.ulid.to_string());
    let mut writer = BlockWriter::create(&folder, meta, WriterOptions::default()).unwrap();
    for (labels, chunks) in content {
        let encoded: Vec<Bytes> = chunks.iter().map(|samples| encode(samples)).collect();
        let chunk = |(samples, bytes): (&Samples, _)| ChunkIn {
            min_ms: samples[0].0,
            max_ms: samples[samples.len() - 1].0,
            encoding: chunk::Encoding::Xor as u8,
            bytes,
        };
        let chunks: Vec<ChunkIn<'_>> =
            chunks.iter().zip(encoded.iter().map(|bytes| &bytes[..])).map(chunk).collect();
        writer.append(labels, &chunks).unwrap();
    }
    writer.finish().unwrap().unwrap();
    path
}

/// The local blocks in a folder, and where their metrics are.
pub fn open(root: &Path, limits: ReaderLimits) -> (Arc<LocalBlocks>, Registry) {
    let registry = Registry::new();
    let metrics = LocalBlockMetrics::register(&registry);
    (Arc::new(LocalBlocks::open(root, own_labels(), limits, metrics).unwrap()), registry)
}

/// The sum of a family over all tenants; 0 if it has no value.
pub fn metric(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let value = |metric: &prometheus::proto::Metric| {
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    };
    family.map_or(0.0, |family| family.get_metric().iter().map(value).sum())
}

/// Happens once.
type Event = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// A head that is a list. Something can happen just before or just after it answers.
#[derive(Default)]
pub struct FakeHead {
    series: Mutex<Vec<HeadSeries>>,
    before_answer: Event,
    after_answer: Event,
}

impl FakeHead {
    /// Adds chunks to a series.
    pub fn put(&self, tenant: &str, labels: &Labels, chunks: &[Samples]) {
        let chunk =
            |samples: &Samples| HeadChunk::xor(samples[0].0, samples[samples.len() - 1].0, encode(samples));
        let chunks = chunks.iter().map(chunk);
        let mut all = self.series.lock().unwrap();
        let known = all.iter_mut().find(|one| *one.tenant == *tenant && one.labels == *labels);
        match known {
            Some(one) => one.chunks.extend(chunks),
            None => all.push(HeadSeries {
                tenant: tenant.into(),
                labels: labels.clone(),
                chunks: chunks.collect(),
            }),
        }
    }

    /// Drops the chunks of a tenant that end before a time, and the series that have no others.
    pub fn truncate(&self, tenant: &str, below_ms: i64) {
        let mut all = self.series.lock().unwrap();
        for one in all.iter_mut().filter(|one| *one.tenant == *tenant) {
            one.chunks.retain(|chunk| chunk.max_ms >= below_ms);
        }
        all.retain(|one| !one.chunks.is_empty());
    }

    /// Does something when the head was asked and has not answered.
    pub fn before_next_answer(&self, first: impl FnOnce() + Send + 'static) {
        *self.before_answer.lock().unwrap() = Some(Box::new(first));
    }

    /// Does something as soon as the head has given its next answer.
    pub fn after_next_answer(&self, then: impl FnOnce() + Send + 'static) {
        *self.after_answer.lock().unwrap() = Some(Box::new(then));
    }

    fn answer(&self, request: &ReadRequest) -> Vec<HeadSeries> {
        let holds = |one: &HeadSeries| {
            request.tenants.iter().all(|matcher| matcher.matches(&one.tenant))
                && request.matchers.iter().all(|m| m.matches(one.labels.get(&m.name).unwrap_or("")))
        };
        happen(&self.before_answer);
        let mut found: Vec<HeadSeries> =
            self.series.lock().unwrap().iter().filter(|one| holds(one)).cloned().collect();
        for one in &mut found {
            one.chunks.retain(|chunk| chunk.max_ms >= request.min_ms && chunk.min_ms <= request.max_ms);
            one.chunks.sort_by_key(|chunk| chunk.min_ms);
        }
        found.retain(|one| !one.chunks.is_empty());
        happen(&self.after_answer);
        found
    }

    fn texts(&self, request: &ReadRequest, pick: impl Fn(&Labels) -> Vec<String>) -> Vec<TenantTexts> {
        let found = self.answer(request).into_iter();
        found.map(|one| TenantTexts { tenant: one.tenant, texts: pick(&one.labels) }).collect()
    }
}

fn happen(event: &Event) {
    let event = event.lock().unwrap().take();
    if let Some(event) = event {
        event();
    }
}

impl HeadReads for FakeHead {
    fn select(&self, request: ReadRequest, budget: ReadBudget) -> ReadFuture<'_, Vec<HeadSeries>> {
        Box::pin(async move {
            let found = self.answer(&request);
            budget.charge(found.iter().map(HeadSeries::size_bytes).sum())?;
            Ok(found)
        })
    }

    fn label_names(&self, request: ReadRequest) -> ReadFuture<'_, Vec<TenantTexts>> {
        let names = |labels: &Labels| labels.iter().map(|(name, _)| name.to_owned()).collect();
        Box::pin(async move { Ok(self.texts(&request, names)) })
    }

    fn label_values(&self, request: ReadRequest, name: String) -> ReadFuture<'_, Vec<TenantTexts>> {
        let values = move |labels: &Labels| labels.get(&name).map(str::to_owned).into_iter().collect();
        Box::pin(async move { Ok(self.texts(&request, values)) })
    }
}

/// The head as queries see it.
pub fn head_source(head: &Arc<FakeHead>) -> Arc<HeadSource> {
    Arc::new(HeadSource::new(Arc::clone(head) as Arc<dyn HeadReads>, own_labels(), BYTES_MAX))
}

pub fn request(matchers: Vec<Matcher>, (min_ms, max_ms): (i64, i64)) -> SelectRequest {
    SelectRequest { matchers, min_ms, max_ms, skip_chunks: false, budget: None }
}

pub fn select(source: &dyn Source, matchers: Vec<Matcher>, times: (i64, i64)) -> Vec<SeriesChunks> {
    block_on(source.select(request(matchers, times))).unwrap()
}

/// What an answer says: the samples of each series within the times, in order of time, the first of equal times. Checks
/// what every source promises.
pub fn content(found: &[SeriesChunks], (min_ms, max_ms): (i64, i64)) -> BTreeMap<String, Samples> {
    assert!(found.is_sorted_by(|a, b| a.labels < b.labels), "series are sorted, each once");
    let mut content = BTreeMap::new();
    for one in found {
        assert!(one.chunks.is_sorted_by_key(|chunk| chunk.min_ms), "chunks are in order of time");
        let mut samples = Samples::new();
        for chunk in &one.chunks {
            assert!(chunk.max_ms >= min_ms && chunk.min_ms <= max_ms, "only chunks of the range are read");
            let add = |time_ms, value| samples.push((time_ms, value));
            chunk::decode(chunk.encoding, &chunk.bytes, add).unwrap();
        }
        samples.retain(|(time_ms, _)| (min_ms..=max_ms).contains(time_ms));
        samples.sort_by_key(|(time_ms, _)| *time_ms);
        samples.dedup_by_key(|(time_ms, _)| *time_ms);
        content.insert(format!("{:?}", one.labels), samples);
    }
    content
}
