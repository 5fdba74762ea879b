//! The one type by which the query plane meets the ingest plane: owned plain values over bounded channels.

mod extras;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::try_join_all;

pub use self::extras::{FamilyMetadata, HeadExemplars};
use super::budget::ReadBudget;
use super::cut::CutError;
use super::read::{Page, ReadJob, Reply};
use super::state::{ShardState, SharedState};
use super::stats::{HeadStats, StatsGather, StatsJob, StatsReply, StatsScope};
use crate::chunk::Encoding;
use crate::chunklog::{ChunkBytes, LogReadError, load};
use crate::edge::Answer;
use crate::head::TenantState;
use crate::matcher::MatchOp;
use crate::{Labels, Matcher};

/// What a read wants of the head.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Only tenants whose name fulfils all of these are read; the matchers' own label name does not matter.
    pub tenants: Vec<Matcher>,
    /// Conditions on the series' own labels.
    pub matchers: Vec<Matcher>,
    /// First millisecond wanted, inclusive.
    pub min_ms: i64,
    /// Last millisecond wanted, inclusive.
    pub max_ms: i64,
    /// Labels only.
    pub skip_chunks: bool,
}

/// A chunk of the head: a copy for open chunks, a place in the chunk log for closed ones.
#[derive(Debug, Clone)]
pub struct HeadChunk {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// How `bytes` are encoded.
    pub encoding: Encoding,
    /// Without encoding byte and checksum.
    pub bytes: ChunkBytes,
}

impl HeadChunk {
    /// A chunk of floats, in memory.
    pub fn xor(min_ms: i64, max_ms: i64, bytes: Bytes) -> HeadChunk {
        HeadChunk { min_ms, max_ms, encoding: Encoding::Xor, bytes: ChunkBytes::Memory(bytes) }
    }
}

/// One series of one tenant, as stored (no external labels).
#[derive(Debug, Clone)]
pub struct HeadSeries {
    /// Who wrote it.
    pub tenant: Arc<str>,
    /// Its own labels.
    pub labels: Labels,
    /// The chunks that overlap the asked range, by the time of their first sample. Those of late samples may overlap
    /// others; at equal times the first chunk's sample counts.
    pub chunks: Vec<HeadChunk>,
}

impl HeadSeries {
    /// Bytes that a query holds for it.
    pub fn size_bytes(&self) -> u64 {
        let chunks: usize = self.chunks.iter().map(|chunk| size_of::<HeadChunk>() + chunk.bytes.len()).sum();
        (size_of::<HeadSeries>() + self.labels.size_bytes() + chunks) as u64
    }
}

/// Brings the chunks of series that are in the chunk log into memory. Blocks: not for an executor's thread.
///
/// # Errors
/// When a chunk cannot be read; nothing of the series is then to be used.
pub fn load_chunks(series: &mut [HeadSeries]) -> Result<(), ReadError> {
    let chunks = series.iter_mut().flat_map(|one| one.chunks.iter_mut().map(|chunk| &mut chunk.bytes));
    load(chunks).map_err(ReadError::Chunk)
}

/// Label names or values of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantTexts {
    /// Whose.
    pub tenant: Arc<str>,
    /// Sorted, each once.
    pub texts: Vec<String>,
}

/// Why a read has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The shard replays its WAL, or stops.
    #[error("shard {shard} does not answer reads: {reason}")]
    Unavailable {
        /// Which one.
        shard: usize,
        /// Why.
        reason: &'static str,
    },
    /// The series and chunks would take more memory than the caller allows.
    #[error("the read needs more than {bytes_max} bytes")]
    TooLarge {
        /// The caller's limit.
        bytes_max: u64,
    },
    /// A closed chunk cannot be read from the disk.
    #[error(transparent)]
    Chunk(LogReadError),
}

/// Whether the ingest plane answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Writes and reads are served.
    Ready,
    /// Not yet, or no more; the text says why.
    NotReady(String),
}

/// What another thread may ask of a shard.
pub enum Job {
    /// A read.
    Read(ReadJob),
    /// A write of a decoded request.
    Write {
        /// Whose.
        tenant: String,
        /// A prometheus.WriteRequest.
        body: Vec<u8>,
        /// Takes the answer.
        reply: oneshot::Sender<Answer>,
    },
    /// A part of cutting a block.
    Cut(CutJob),
    /// A count of what the head has.
    Stats(StatsJob),
}

/// What cutting a block asks of a shard.
pub enum CutJob {
    /// What it has of each tenant.
    Tenants {
        /// Takes the answer.
        reply: CutReply<Vec<TenantState>>,
    },
    /// To take no sample of a tenant before a time.
    Freeze {
        /// Whose.
        tenant: Arc<str>,
        /// The time.
        frozen_ms: i64,
        /// Told when that is durable.
        reply: CutReply<()>,
    },
    /// To drop what a tenant has before a time.
    Truncate {
        /// Whose.
        tenant: Arc<str>,
        /// The time.
        below_ms: i64,
        /// Told when it is done.
        reply: CutReply<()>,
    },
}

/// Where the answer to a [`CutJob`] goes.
pub type CutReply<T> = oneshot::Sender<Result<T, CutError>>;

/// The series of one shard, page by page.
pub struct SeriesPages {
    shard: usize,
    pages: flume::Receiver<Result<Page<HeadSeries>, ReadError>>,
}

impl SeriesPages {
    /// The next page; `None` is the end. Blocks.
    pub fn next(&self) -> Result<Option<Vec<HeadSeries>>, ReadError> {
        match self.pages.recv() {
            Ok(Ok(Page::Part(part))) => Ok(Some(part)),
            Ok(Ok(Page::End)) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ReadError::Unavailable { shard: self.shard, reason: "it broke off the read" }),
        }
    }
}

/// Pages of a stream that wait to be taken, per shard.
const PAGES_QUEUED: usize = 4;

/// The same where all pages are gathered at once: so many that the shard and who gathers them need not take turns.
const PAGES_QUEUED_TO_GATHER: usize = 64;

/// Where a shard takes its jobs from: queries may be slow and many, and hold up nothing but each other.
pub struct JobQueues {
    /// Reads and counts for queries.
    pub queries: flume::Sender<Job>,
    /// Writes, and all that cutting blocks needs.
    pub upkeep: flume::Sender<Job>,
}

/// Talks to all shards of this node from any thread. Cheap to clone.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) queues: Arc<[JobQueues]>,
    state: SharedState,
    next_writer: Arc<AtomicUsize>,
    /// Held while heads are counted: one count at a time takes memory and a share of every shard.
    counting: Arc<futures::lock::Mutex<()>>,
}

impl ShardHandle {
    pub(super) fn new(queues: Vec<JobQueues>, state: SharedState) -> ShardHandle {
        ShardHandle { queues: queues.into(), state, next_writer: Arc::default(), counting: Arc::default() }
    }

    /// Series that match, of all shards, in no order. The limit is for all of them together.
    pub async fn select(&self, request: ReadRequest, bytes_max: u64) -> Result<Vec<HeadSeries>, ReadError> {
        self.select_within(request, &ReadBudget::new(bytes_max)).await
    }

    /// The same, with a limit for more than this read. What the series take stays charged.
    pub async fn select_within(
        &self,
        request: ReadRequest,
        budget: &ReadBudget,
    ) -> Result<Vec<HeadSeries>, ReadError> {
        let make = |reply| ReadJob::Select { request: request.clone(), budget: budget.clone(), reply };
        self.ask(make).await
    }

    /// Names of the labels of matching series, by tenant; a tenant without matching series is left out. Without
    /// matchers all series of a tenant count whose samples reach into the range, as in Prometheus.
    pub async fn label_names(&self, request: ReadRequest) -> Result<Vec<TenantTexts>, ReadError> {
        self.ask(|reply| ReadJob::LabelNames { request: request.clone(), reply }).await.map(merge)
    }

    /// Values of one label of matching series, by tenant; a tenant with matching series but without the label has
    /// an empty list.
    pub async fn label_values(
        &self,
        request: ReadRequest,
        name: String,
    ) -> Result<Vec<TenantTexts>, ReadError> {
        let make = |reply| ReadJob::LabelValues { request: request.clone(), name: name.clone(), reply };
        self.ask(make).await.map(merge)
    }

    /// Writes a decoded prometheus.WriteRequest (protobuf, not compressed); returns when it is durable.
    pub async fn write(&self, tenant: &str, body: Vec<u8>) -> Answer {
        let shard = self.next_writer.fetch_add(1, Ordering::Relaxed) % self.queues.len();
        let (reply, answer) = oneshot::channel();
        let job = Job::Write { tenant: tenant.to_owned(), body, reply };
        if self.queues[shard].upkeep.send_async(job).await.is_err() {
            return Answer::stopping();
        }
        answer.await.unwrap_or_else(|_| Answer::stopping())
    }

    /// What the head has of each tenant, all shards together, by name. The bounds are those of the shard that is
    /// furthest behind.
    pub async fn tenants(&self) -> Result<Vec<TenantState>, CutError> {
        let parts = self.cut(|reply| CutJob::Tenants { reply }).await?;
        let mut all: BTreeMap<Arc<str>, TenantState> = BTreeMap::new();
        for state in parts.into_iter().flatten() {
            match all.entry(Arc::clone(&state.name)) {
                Entry::Vacant(entry) => {
                    entry.insert(state);
                }
                Entry::Occupied(mut entry) => {
                    let sum = entry.get_mut();
                    sum.series += state.series;
                    sum.samples += state.samples;
                    sum.newest_ms = sum.newest_ms.max(state.newest_ms);
                    sum.oldest_ms = [sum.oldest_ms, state.oldest_ms].into_iter().flatten().min();
                    sum.frozen_ms = sum.frozen_ms.min(state.frozen_ms);
                    sum.truncated_ms = sum.truncated_ms.min(state.truncated_ms);
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// From now on no shard takes a sample of a tenant before `frozen_ms`. Durable when it returns.
    pub async fn freeze(&self, tenant: &Arc<str>, frozen_ms: i64) -> Result<(), CutError> {
        self.cut(|reply| CutJob::Freeze { tenant: Arc::clone(tenant), frozen_ms, reply }).await.map(drop)
    }

    /// Drops what a tenant has before `below_ms`, once a block has it.
    pub async fn truncate(&self, tenant: &Arc<str>, below_ms: i64) -> Result<(), CutError> {
        self.cut(|reply| CutJob::Truncate { tenant: Arc::clone(tenant), below_ms, reply }).await.map(drop)
    }

    /// The series of a tenant that have samples up to `max_ms`, of each shard a stream of pages, in no order. Slow
    /// readers hold up only their own stream.
    pub async fn stream(&self, tenant: &str, max_ms: i64) -> Result<Vec<SeriesPages>, ReadError> {
        let exact = Matcher::new(MatchOp::Equal, "tenant", tenant);
        let tenants = vec![exact.expect("an equality has no pattern that could be wrong")];
        let request =
            ReadRequest { tenants, matchers: Vec::new(), min_ms: i64::MIN, max_ms, skip_chunks: false };
        let mut all = Vec::new();
        for (shard, queues) in self.queues.iter().enumerate() {
            let (reply, pages) = flume::bounded(PAGES_QUEUED);
            let budget = ReadBudget::new(u64::MAX);
            let job = Job::Read(ReadJob::Select { request: request.clone(), budget, reply });
            let stopped = |_| ReadError::Unavailable { shard, reason: "it has stopped" };
            queues.upkeep.send_async(job).await.map_err(stopped)?;
            all.push(SeriesPages { shard, pages });
        }
        Ok(all)
    }

    /// Counts what the heads of all shards have; each list of the answer has `limit` entries.
    pub async fn head_stats(&self, scope: StatsScope, limit: usize) -> Result<Vec<HeadStats>, ReadError> {
        let _counting = self.counting.lock().await;
        let only = match &scope {
            StatsScope::Tenant(tenant) => Some(Arc::clone(tenant)),
            StatsScope::Together | StatsScope::Each => None,
        };
        let totals = self.count(|reply| StatsJob::Totals { only: only.clone(), reply }).await?;
        let mut gather = StatsGather::new(&scope, limit, totals);
        while let Some(request) = gather.next_request() {
            let answers = self.count(|reply| StatsJob::Values { request: request.clone(), reply }).await?;
            gather.add(&answers);
        }
        Ok(gather.finish())
    }

    /// Asks all shards to count.
    async fn count<T>(&self, make: impl Fn(StatsReply<T>) -> StatsJob) -> Result<Vec<T>, ReadError> {
        let asked = self.queues.iter().enumerate().map(|(shard, queues)| {
            let (reply, answer) = oneshot::channel();
            let job = Job::Stats(make(reply));
            async move {
                let unavailable = |reason| ReadError::Unavailable { shard, reason };
                queues.queries.send_async(job).await.map_err(|_| unavailable("it has stopped"))?;
                answer.await.unwrap_or_else(|_| Err(unavailable("it broke off the count")))
            }
        });
        try_join_all(asked).await
    }

    /// Asks all shards for their part of a cut.
    async fn cut<T>(&self, make: impl Fn(CutReply<T>) -> CutJob) -> Result<Vec<T>, CutError> {
        let asked = self.queues.iter().enumerate().map(|(shard, queues)| {
            let (reply, answer) = oneshot::channel();
            let job = Job::Cut(make(reply));
            async move {
                queues.upkeep.send_async(job).await.map_err(|_| CutError::Stopped { shard })?;
                answer.await.unwrap_or(Err(CutError::Stopped { shard }))
            }
        });
        try_join_all(asked).await
    }

    /// Asks all shards and joins what they send.
    async fn ask<T>(&self, make: impl Fn(Reply<T>) -> ReadJob) -> Result<Vec<T>, ReadError> {
        let asked = self.queues.iter().enumerate().map(|(shard, queues)| {
            let (reply, pages) = flume::bounded(PAGES_QUEUED_TO_GATHER);
            let job = Job::Read(make(reply));
            async move {
                let unavailable = |reason| ReadError::Unavailable { shard, reason };
                queues.queries.send_async(job).await.map_err(|_| unavailable("it has stopped"))?;
                let mut all = Vec::new();
                loop {
                    match pages.recv_async().await {
                        Ok(Ok(Page::Part(mut part))) => all.append(&mut part),
                        Ok(Ok(Page::End)) => return Ok(all),
                        Ok(Err(error)) => return Err(error),
                        Err(_) => return Err(unavailable("it broke off the read")),
                    }
                }
            }
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    /// Whether all shards serve.
    pub fn readiness(&self) -> Readiness {
        readiness(&self.state)
    }
}

/// Whether all shards serve writes and reads.
pub(crate) fn readiness(state: &SharedState) -> Readiness {
    let total = state.all().count();
    let count = |wanted| state.all().filter(|state| *state == wanted).count();
    let not_ready =
        |shards: usize, what: &str| Readiness::NotReady(format!("{shards} of {total} shards {what}"));
    match (count(ShardState::Failed), count(ShardState::Poisoned), count(ShardState::Recovering)) {
        (0, 0, 0) if count(ShardState::Stopping) == 0 => Readiness::Ready,
        (0, 0, 0) => Readiness::NotReady("the node is stopping".to_owned()),
        (0, 0, recovering) => not_ready(recovering, "replay their write-ahead log"),
        (0, poisoned, _) => not_ready(poisoned, "cannot write to their write-ahead log"),
        (failed, ..) => not_ready(failed, "could not start"),
    }
}

fn merge(parts: Vec<TenantTexts>) -> Vec<TenantTexts> {
    let mut by_tenant: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
    for mut part in parts {
        by_tenant.entry(part.tenant).or_default().append(&mut part.texts);
    }
    by_tenant.into_iter().map(|(tenant, texts)| TenantTexts { tenant, texts: sorted_once(texts) }).collect()
}

/// Sorts texts, and keeps each once. Millions of values begin alike for the most part: they are told apart by the eight
/// bytes after that, which lie in a row, and only where these are equal the texts themselves are fetched.
fn sorted_once(mut texts: Vec<String>) -> Vec<String> {
    let Some((first, others)) = texts.split_first() else { return texts };
    let equal_with = |text: &String| first.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    let equal = others.iter().map(equal_with).min().unwrap_or(first.len());
    let key = |text: &String| {
        let mut key = [0; 8];
        let rest = text.as_bytes().get(equal..).unwrap_or_default();
        key.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(key)
    };
    let mut keyed: Vec<(u64, String)> = texts.drain(..).map(|text| (key(&text), text)).collect();
    keyed.sort_unstable();
    texts.extend(keyed.into_iter().map(|(_, text)| text));
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_of_a_shard_decides() {
        let state = SharedState::new(2);
        let text = |state: &SharedState| match readiness(state) {
            Readiness::Ready => String::new(),
            Readiness::NotReady(text) => text,
        };
        state.set(0, ShardState::Serving);
        assert_eq!(text(&state), "1 of 2 shards replay their write-ahead log");
        state.set(1, ShardState::Serving);
        assert_eq!(readiness(&state), Readiness::Ready);
        state.set(1, ShardState::Poisoned);
        assert_eq!(text(&state), "1 of 2 shards cannot write to their write-ahead log");
        state.set(0, ShardState::Stopping);
        state.set(1, ShardState::Stopping);
        assert_eq!(text(&state), "the node is stopping");
    }

    #[test]
    fn a_read_that_ends_early_is_an_error() {
        let (queries, queue) = flume::bounded(4);
        let queues = JobQueues { queries, upkeep: flume::bounded(4).0 };
        let handle = ShardHandle::new(vec![queues], SharedState::new(1));
        let shard = std::thread::spawn(move || {
            let Ok(Job::Read(ReadJob::Select { reply, .. })) = queue.recv() else { panic!("no read came") };
            let page = HeadSeries { tenant: "t".into(), labels: Labels::empty(), chunks: Vec::new() };
            reply.send(Ok(Page::Part(vec![page]))).unwrap();
            // The task that reads panics here: the sender goes.
        });
        let request =
            ReadRequest { tenants: vec![], matchers: vec![], min_ms: 0, max_ms: 1, skip_chunks: true };
        let answer = futures::executor::block_on(handle.select(request, 1 << 20));
        assert!(matches!(answer, Err(ReadError::Unavailable { shard: 0, .. })), "{answer:?}");
        shard.join().unwrap();
    }

    proptest::proptest! {
        #[test]
        fn texts_are_sorted_whatever_tells_them_apart(texts in proptest::collection::vec("(ab){0,2}x{0,9}[\\x00-\\x02é]{0,3}", 0..50)) {
            let expected: Vec<String> = texts.iter().cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            proptest::prop_assert_eq!(sorted_once(texts), expected);
        }
    }

    #[test]
    fn texts_of_all_shards_are_one_list_per_tenant() {
        let part = |tenant: &str, texts: &[&str]| TenantTexts {
            tenant: tenant.into(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let merged = merge(vec![part("b", &["x"]), part("a", &["k", "z"]), part("b", &["a", "x"])]);
        assert_eq!(merged, [part("a", &["k", "z"]), part("b", &["a", "x"])]);
    }
}
