//! A head for the tests of the cutter: the rules of the real one, two shards, and a crash wherever a test wants it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use annulus_shards::Labels;
use annulus_shards::chunk::XorAppender;
use annulus_shards::core::{CutError, Failure, HeadChunk, HeadSeries, ReadError};
use annulus_shards::head::{Rules, TenantState, TimeWindows, window_of};
use bytes::Bytes;

use super::head::{CutFuture, HeadCuts, Pages};

const SHARDS: usize = 2;
const PAGE_SERIES: usize = 2;

/// The times and values of one series, as they arrived.
pub type Samples = Vec<(i64, f64)>;

/// Cheap to clone; all clones are one head, which outlives a cutter.
#[derive(Clone)]
pub struct FakeHead(Arc<Mutex<State>>);

/// What is behind it.
pub struct State {
    windows: TimeWindows,
    tenants: BTreeMap<Arc<str>, Tenant>,
    /// What was asked, in order.
    pub calls: Vec<String>,
    /// It answers as a head does that reads its log.
    pub is_recovering: bool,
    /// What happens at a call, by its number.
    pub crash: Option<Crash>,
    /// Runs when a page is taken.
    pub on_page: Option<Box<dyn FnMut() + Send>>,
    /// A chunk that each series has on top.
    pub extra_chunk: Option<HeadChunk>,
    /// A sample that a shard takes right before it is told to freeze.
    pub late: Option<(Labels, i64, f64)>,
}

/// A call that fails.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// Its number, from 1.
    pub call: usize,
    /// It does what it was asked for before it fails.
    pub is_done: bool,
}

struct Tenant {
    state: TenantState,
    series: BTreeMap<Labels, Samples>,
}

impl FakeHead {
    /// An empty one.
    pub fn new(windows: TimeWindows) -> FakeHead {
        FakeHead(Arc::new(Mutex::new(State {
            windows,
            tenants: BTreeMap::new(),
            calls: Vec::new(),
            is_recovering: false,
            crash: None,
            on_page: None,
            extra_chunk: None,
            late: None,
        })))
    }

    /// All of it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Takes a sample, or refuses it.
    pub fn append(&self, tenant: &str, labels: &Labels, time_ms: i64, value: f64) -> bool {
        let mut state = self.state();
        let windows = state.windows;
        let tenant = state.tenants.entry(Arc::from(tenant)).or_insert_with_key(|name| Tenant {
            state: TenantState {
                name: Arc::clone(name),
                series: 0,
                samples: 0,
                oldest_ms: None,
                newest_ms: None,
                frozen_ms: i64::MIN,
                truncated_ms: i64::MIN,
            },
            series: BTreeMap::new(),
        });
        let known = &mut tenant.state;
        if time_ms < Rules::new(&windows, known.newest_ms, known.frozen_ms, 0).floor_ms {
            return false;
        }
        known.samples += 1;
        known.oldest_ms = Some(known.oldest_ms.map_or(time_ms, |oldest_ms| oldest_ms.min(time_ms)));
        known.newest_ms = known.newest_ms.max(Some(time_ms));
        tenant.series.entry(labels.clone()).or_default().push((time_ms, value));
        true
    }

    /// What a tenant has, by series and time.
    pub fn content(&self, tenant: &str) -> Vec<(Labels, i64, u64)> {
        let state = self.state();
        let series = state.tenants.get(tenant).into_iter().flat_map(|tenant| &tenant.series);
        let samples = series.flat_map(|(labels, samples)| {
            samples.iter().map(|(time_ms, value)| (labels.clone(), *time_ms, value.to_bits()))
        });
        samples.collect()
    }

    /// One call: crashes if it is its turn.
    fn call<T>(&self, name: String, work: impl FnOnce(&mut State) -> T) -> Result<T, CutError> {
        let mut state = self.state();
        if state.is_recovering {
            return Err(CutError::Shard { shard: 0, failure: Failure::Recovering });
        }
        state.calls.push(name);
        let crash = state.crash.filter(|crash| crash.call == state.calls.len());
        match crash {
            Some(Crash { is_done: false, .. }) => Err(CutError::Stopped { shard: 0 }),
            Some(Crash { is_done: true, .. }) => {
                work(&mut state);
                Err(CutError::Stopped { shard: 0 })
            }
            None => Ok(work(&mut state)),
        }
    }
}

impl HeadCuts for FakeHead {
    fn tenants(&self) -> CutFuture<'_, Vec<TenantState>, CutError> {
        Box::pin(async {
            self.call("tenants".to_owned(), |state| {
                state.tenants.values().map(|tenant| tenant.state.clone()).collect()
            })
        })
    }

    fn freeze<'a>(&'a self, tenant: &'a Arc<str>, frozen_ms: i64) -> CutFuture<'a, (), CutError> {
        Box::pin(async move {
            self.call(format!("freeze {tenant} {frozen_ms}"), |state| {
                let late = state.late.take();
                let tenant = state.tenants.get_mut(tenant).unwrap();
                let known = &mut tenant.state;
                if let Some((labels, time_ms, value)) = late {
                    known.oldest_ms = known.oldest_ms.map(|oldest_ms| oldest_ms.min(time_ms));
                    tenant.series.entry(labels).or_default().push((time_ms, value));
                }
                known.frozen_ms = known.frozen_ms.max(frozen_ms);
            })
        })
    }

    fn stream<'a>(&'a self, tenant: &'a str, max_ms: i64) -> CutFuture<'a, Vec<Box<dyn Pages>>, ReadError> {
        Box::pin(async move {
            let streams = self.call(format!("stream {tenant} {max_ms}"), |state| {
                let mut shards = vec![Vec::new(); SHARDS];
                let (windows, extra) = (state.windows, state.extra_chunk.clone());
                let known = &state.tenants[tenant];
                // Not in the order of labels.
                for (number, (labels, samples)) in known.series.iter().enumerate().rev() {
                    let mut chunks = chunks_of(samples, windows.block_ms, max_ms);
                    chunks.extend(extra.clone());
                    if !chunks.is_empty() {
                        let tenant = Arc::clone(&known.state.name);
                        shards[number % SHARDS].push(HeadSeries { tenant, labels: labels.clone(), chunks });
                    }
                }
                shards
            });
            let streams =
                streams.map_err(|_| ReadError::Unavailable { shard: 0, reason: "it has stopped" })?;
            let pages = |series| Box::new(FakePages { head: self.clone(), series }) as Box<dyn Pages>;
            Ok(streams.into_iter().map(pages).collect())
        })
    }

    fn truncate<'a>(&'a self, tenant: &'a Arc<str>, below_ms: i64) -> CutFuture<'a, (), CutError> {
        Box::pin(async move {
            self.call(format!("truncate {tenant} {below_ms}"), |state| {
                let tenant = state.tenants.get_mut(tenant).unwrap();
                tenant
                    .series
                    .values_mut()
                    .for_each(|samples| samples.retain(|(time_ms, _)| *time_ms >= below_ms));
                tenant.series.retain(|_, samples| !samples.is_empty());
                let known = &mut tenant.state;
                known.truncated_ms = known.truncated_ms.max(below_ms);
                known.frozen_ms = known.frozen_ms.max(below_ms);
                // As the shards do: a bound, not the oldest sample.
                known.oldest_ms = known.oldest_ms.map(|oldest_ms| oldest_ms.max(below_ms));
                if tenant.series.is_empty() {
                    known.oldest_ms = None;
                }
            })
        })
    }
}

struct FakePages {
    head: FakeHead,
    series: Vec<HeadSeries>,
}

impl Pages for FakePages {
    fn next(&mut self) -> Result<Option<Vec<HeadSeries>>, ReadError> {
        let taken = self.head.call("page".to_owned(), |state| {
            if let Some(on_page) = &mut state.on_page {
                on_page();
            }
        });
        taken.map_err(|_| ReadError::Unavailable { shard: 0, reason: "it has stopped" })?;
        let page: Vec<_> = self.series.drain(..PAGE_SERIES.min(self.series.len())).collect();
        Ok((!page.is_empty()).then_some(page))
    }
}

/// Chunks as a head keeps them: those in order, one per window, and those of late samples.
fn chunks_of(samples: &Samples, block_ms: i64, max_ms: i64) -> Vec<HeadChunk> {
    let mut parts: BTreeMap<(bool, i64), Samples> = BTreeMap::new();
    let mut newest_ms = i64::MIN;
    for (time_ms, value) in samples {
        let is_late = *time_ms <= newest_ms;
        newest_ms = newest_ms.max(*time_ms);
        parts.entry((is_late, window_of(*time_ms, block_ms).start)).or_default().push((*time_ms, *value));
    }
    let mut chunks: Vec<HeadChunk> =
        parts.into_values().map(chunk).filter(|chunk| chunk.min_ms <= max_ms).collect();
    chunks.sort_by_key(|chunk| chunk.min_ms);
    chunks
}

fn chunk(mut samples: Samples) -> HeadChunk {
    samples.sort_by_key(|(time_ms, _)| *time_ms);
    let mut appender = XorAppender::default();
    for (time_ms, value) in &samples {
        appender.append(*time_ms, *value);
    }
    HeadChunk::xor(samples[0].0, samples[samples.len() - 1].0, Bytes::from(appender.seal()))
}
