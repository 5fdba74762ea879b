//! Reads of the head, on the shard's own thread, in units that never hold up a write for long.

mod extras;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use super::budget::ReadBudget;
use super::handle::{FamilyMetadata, HeadExemplars, HeadSeries, ReadError, ReadRequest, TenantTexts};
use super::shard::Shard;
use super::state::ShardState;
use crate::Matcher;
use crate::head::{Finder, SearchOrder, Step};
use crate::rt::{Pace, Platform};

/// Series that are read between two looks at the clock: some 100 µs. In tests a read of few series takes many.
const UNIT_SERIES: usize = if cfg!(test) { 8 } else { 128 };

/// Texts that are copied between two looks at the clock, and sent at once.
const UNIT_TEXTS: usize = 1024;

/// Where a read's answer goes. A dropped receiver cancels the read.
pub type Reply<T> = flume::Sender<Result<Page<T>, ReadError>>;

/// A part of a read's answer. An answer that stops without its end is not whole: the read broke off.
#[derive(Debug)]
pub enum Page<T> {
    /// More of it.
    Part(Vec<T>),
    /// That was all.
    End,
}

/// A read, as another thread asks for it.
pub enum ReadJob {
    /// Series and chunks, in pages.
    Select {
        /// What is wanted.
        request: ReadRequest,
        /// What labels and chunks may take; the pages are charged as they are made.
        budget: ReadBudget,
        /// Takes the pages.
        reply: Reply<HeadSeries>,
    },
    /// Names of labels.
    LabelNames {
        /// What is wanted.
        request: ReadRequest,
        /// Takes the pages.
        reply: Reply<TenantTexts>,
    },
    /// Values of one label.
    LabelValues {
        /// What is wanted.
        request: ReadRequest,
        /// The label.
        name: String,
        /// Takes the pages.
        reply: Reply<TenantTexts>,
    },
    /// Exemplars.
    Exemplars {
        /// What is wanted: the exemplars of a series that fulfils any of them.
        requests: Arc<[ReadRequest]>,
        /// Most bytes of labels and exemplars that this shard may send.
        bytes_max: u64,
        /// Takes the pages.
        reply: Reply<HeadExemplars>,
    },
    /// What families of metrics are.
    Metadata {
        /// Only this one.
        family: Option<String>,
        /// Takes the pages.
        reply: Reply<FamilyMetadata>,
    },
}

/// Runs one read to its end, or until nobody waits for it.
pub async fn run<P: Platform>(shard: Rc<Shard<P>>, job: ReadJob) {
    match job {
        ReadJob::Select { request, budget, reply } => {
            end(select(&shard, request, &budget, &reply).await, &reply).await;
        }
        ReadJob::LabelNames { request, reply } => {
            end(label_names(&shard, request, &reply).await, &reply).await;
        }
        ReadJob::LabelValues { request, name, reply } => {
            end(label_values(&shard, request, &name, &reply).await, &reply).await;
        }
        ReadJob::Exemplars { requests, bytes_max, reply } => {
            end(extras::exemplars(&shard, &requests, bytes_max, &reply).await, &reply).await;
        }
        ReadJob::Metadata { family, reply } => {
            end(extras::metadata(&shard, family.as_deref(), &reply).await, &reply).await;
        }
    }
}

async fn end<T>(read: Result<(), ReadError>, reply: &Reply<T>) {
    // An error in sending means that the asker has gone.
    let _ = reply.send_async(read.map(|()| Page::End)).await;
}

async fn select<P: Platform>(
    shard: &Shard<P>,
    request: ReadRequest,
    budget: &ReadBudget,
    reply: &Reply<HeadSeries>,
) -> Result<(), ReadError> {
    let mut pacer = shard.platform.pacer();
    let matchers = SearchOrder::of(request.matchers);
    for tenant in tenants(shard, request.tenants, reply).await? {
        let found = find(shard, &tenant, &matchers, &mut pacer, reply).await?;
        for unit in found.chunks(UNIT_SERIES) {
            let page: Vec<HeadSeries> = {
                let head = shard.head.borrow();
                let read = |series: &u32| {
                    head.read(&tenant, *series, request.min_ms, request.max_ms, request.skip_chunks)
                };
                unit.iter().filter_map(read).collect()
            };
            budget.charge(page.iter().map(HeadSeries::size_bytes).sum())?;
            if !page.is_empty() && reply.send_async(Ok(Page::Part(page))).await.is_err() {
                return Ok(());
            }
            pacer.pace().await;
        }
    }
    Ok(())
}

async fn label_names<P: Platform>(
    shard: &Shard<P>,
    request: ReadRequest,
    reply: &Reply<TenantTexts>,
) -> Result<(), ReadError> {
    let mut pacer = shard.platform.pacer();
    let mut answer = Vec::new();
    let takes_all = request.matchers.is_empty();
    let times = (request.min_ms, request.max_ms);
    let matchers = SearchOrder::of(request.matchers);
    for tenant in tenants(shard, request.tenants, reply).await? {
        if takes_all && !overlaps(shard, &tenant, times) {
            continue;
        }
        if takes_all {
            let mut texts = shard.head.borrow().tenant_label_names(&tenant);
            texts.sort_unstable();
            answer.push(TenantTexts { tenant, texts });
            continue;
        }
        let mut names: BTreeSet<String> = BTreeSet::new();
        let found = find(shard, &tenant, &matchers, &mut pacer, reply).await?;
        for unit in found.chunks(UNIT_SERIES) {
            {
                let head = shard.head.borrow();
                for series in unit.iter().filter(|series| head.overlaps(**series, times.0, times.1)) {
                    for name in head.label_names(*series) {
                        if !names.contains(name) {
                            names.insert(name.to_owned());
                        }
                    }
                }
            }
            pacer.pace().await;
        }
        if !names.is_empty() {
            answer.push(TenantTexts { tenant, texts: names.into_iter().collect() });
        }
    }
    // `end` notices as well when the asker has gone.
    let _ = reply.send_async(Ok(Page::Part(answer))).await;
    Ok(())
}

async fn label_values<P: Platform>(
    shard: &Shard<P>,
    request: ReadRequest,
    name: &str,
    reply: &Reply<TenantTexts>,
) -> Result<(), ReadError> {
    let mut pacer = shard.platform.pacer();
    let takes_all = request.matchers.is_empty();
    let times = (request.min_ms, request.max_ms);
    let matchers = SearchOrder::of(request.matchers);
    for tenant in tenants(shard, request.tenants, reply).await? {
        if takes_all && !overlaps(shard, &tenant, times) {
            continue;
        }
        if takes_all {
            let mut sent = 0;
            let mut removals = shard.head.borrow().index_removals(&tenant);
            loop {
                let (texts, count) = {
                    let head = shard.head.borrow();
                    if removals != head.index_removals(&tenant) {
                        // Positions have shifted; who joins the pages drops what comes twice.
                        (sent, removals) = (0, head.index_removals(&tenant));
                    }
                    head.tenant_label_values(&tenant, name, sent, UNIT_TEXTS)
                };
                sent += count;
                let page = vec![TenantTexts { tenant: Arc::clone(&tenant), texts }];
                if reply.send_async(Ok(Page::Part(page))).await.is_err() {
                    return Ok(());
                }
                pacer.pace().await;
                if count < UNIT_TEXTS {
                    break;
                }
            }
            continue;
        }
        let mut values: BTreeSet<String> = BTreeSet::new();
        let mut any = false;
        let found = find(shard, &tenant, &matchers, &mut pacer, reply).await?;
        for unit in found.chunks(UNIT_SERIES) {
            {
                let head = shard.head.borrow();
                for series in unit.iter().filter(|series| head.overlaps(**series, times.0, times.1)) {
                    any = true;
                    if let Some(value) =
                        head.label_value(*series, name).filter(|value| !values.contains(*value))
                    {
                        values.insert(value.to_owned());
                    }
                }
            }
            pacer.pace().await;
        }
        if any {
            let page = vec![TenantTexts { tenant, texts: values.into_iter().collect() }];
            if reply.send_async(Ok(Page::Part(page))).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether a shard answers reads.
pub fn readable<P: Platform>(shard: &Shard<P>) -> Result<(), ReadError> {
    let unavailable = |reason| Err(ReadError::Unavailable { shard: shard.index, reason });
    match shard.state() {
        ShardState::Serving | ShardState::Poisoned | ShardState::Stopping => Ok(()),
        ShardState::Recovering => unavailable("it replays its write-ahead log"),
        ShardState::Failed => unavailable("it could not start"),
    }
}

fn overlaps<P: Platform>(shard: &Shard<P>, tenant: &str, (min_ms, max_ms): (i64, i64)) -> bool {
    shard.head.borrow().tenant_overlaps(tenant, min_ms, max_ms)
}

/// The tenants asked for, in order of their names.
async fn tenants<P: Platform, T: Send + 'static>(
    shard: &Shard<P>,
    wanted: Vec<Matcher>,
    reply: &Reply<T>,
) -> Result<Vec<Arc<str>>, ReadError> {
    readable(shard)?;
    let (quick, costly): (Vec<Matcher>, Vec<Matcher>) = wanted.into_iter().partition(Matcher::is_quick);
    let is_wanted = |tenant: &str| quick.iter().all(|matcher| matcher.matches(tenant));
    let mut tenants = shard.head.borrow().tenants_with_series(is_wanted);
    if !costly.is_empty() && !tenants.is_empty() {
        let keep = move |tenant: &Arc<str>| costly.iter().all(|matcher| matcher.matches(tenant));
        tenants = aside(shard, reply, move |is_waited_for| {
            tenants.retain(|tenant| is_waited_for() && keep(tenant));
            tenants
        })
        .await?;
    }
    tenants.sort_unstable();
    Ok(tenants)
}

async fn find<P: Platform, T: Send + 'static>(
    shard: &Shard<P>,
    tenant: &str,
    matchers: &SearchOrder,
    pacer: &mut P::Pace,
    reply: &Reply<T>,
) -> Result<Vec<u32>, ReadError> {
    // Also when nothing is found: there may be thousands of tenants.
    pacer.pace().await;
    let finder = Finder::new(&shard.head.borrow(), tenant, matchers);
    let Some(mut finder) = finder else { return Ok(Vec::new()) };
    loop {
        let step = finder.step(&shard.head.borrow());
        if reply.is_disconnected() {
            return Ok(Vec::new());
        }
        match step {
            Step::Done => return Ok(finder.finish()),
            Step::More => pacer.pace().await,
            Step::Ask(question) => {
                let answer = aside(shard, reply, move |is_waited_for| question.answer(is_waited_for)).await?;
                finder.take(answer);
                pacer.restart();
            }
        }
    }
}

/// Runs patterns on values outside of the shard; the work is told whether the asker still waits.
async fn aside<P: Platform, T: Send + 'static, R: Send + 'static>(
    shard: &Shard<P>,
    reply: &Reply<T>,
    work: impl FnOnce(&dyn Fn() -> bool) -> R + Send + 'static,
) -> Result<R, ReadError> {
    let asker = reply.clone();
    let done = shard.platform.aside(move || work(&|| !asker.is_disconnected())).await;
    done.map_err(|_| ReadError::Unavailable { shard: shard.index, reason: "its patterns could not be run" })
}
