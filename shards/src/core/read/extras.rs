//! Reads of exemplars and metadata.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Page, Reply, aside, readable};
use crate::Labels;
use crate::core::handle::{FamilyMetadata, HeadExemplars, ReadError, ReadRequest};
use crate::core::shard::Shard;
use crate::exemplars::StoredExemplar;
use crate::head::SeriesKey;
use crate::rt::{Pace, Platform};

/// Exemplars that are looked at between two looks at the clock: some 100 µs. In tests few of them take many.
const UNIT_EXEMPLARS: usize = if cfg!(test) { 8 } else { 256 };

/// Families that are copied between two looks at the clock.
const UNIT_FAMILIES: usize = if cfg!(test) { 8 } else { 256 };

/// Sends the exemplars of each series that fulfils one of the requests. Which series do is decided outside of the
/// shard: there is no index that narrows what patterns are run on.
pub(super) async fn exemplars<P: Platform>(
    shard: &Shard<P>,
    requests: &Arc<[ReadRequest]>,
    bytes_max: u64,
    reply: &Reply<HeadExemplars>,
) -> Result<(), ReadError> {
    readable(shard)?;
    let mut pacer = shard.platform.pacer();
    let tenants = shard.head.borrow().extras().exemplars.tenants();
    let all = Arc::clone(requests);
    let asked = aside(shard, reply, move |is_waited_for| {
        let asked = tenants.into_iter().map_while(|tenant| is_waited_for().then(|| Asked::of(&all, tenant)));
        asked.filter(|asked| !asked.requests.is_empty()).map(Arc::new).collect::<Vec<_>>()
    });
    let asked = asked.await?;
    pacer.restart();
    let mut bytes = 0;
    for asked in asked {
        let (mut found, mut number, mut is_ended) = (Found::default(), 0, false);
        while !is_ended && !reply.is_disconnected() {
            let unknown = {
                let head = shard.head.borrow();
                let extras = head.extras();
                let unit = extras.exemplars.from(&asked.tenant, number).take(UNIT_EXEMPLARS);
                let mut count = 0;
                let unknown = found.unknown(&asked, unit.inspect(|_| count += 1));
                is_ended = count < UNIT_EXEMPLARS;
                unknown
            };
            if !unknown.is_empty() {
                let asked = Arc::clone(&asked);
                let decided = aside(shard, reply, move |is_waited_for| asked.decide(unknown, is_waited_for));
                found.decided.extend(decided.await?);
                pacer.restart();
            }
            {
                let head = shard.head.borrow();
                for stored in head.extras().exemplars.from(&asked.tenant, number).take(UNIT_EXEMPLARS) {
                    // One that came into the unit meanwhile: it belongs to the next one, if there is any.
                    let Some(more_bytes) = found.look_at(&asked, &stored) else { break };
                    bytes += more_bytes;
                    number = stored.number + 1;
                }
            }
            if bytes > bytes_max {
                return Err(ReadError::TooLarge { bytes_max });
            }
            pacer.pace().await;
        }
        if !found.series.is_empty() && reply.send_async(Ok(Page::Part(found.series))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A tenant and what is wanted of it.
struct Asked {
    tenant: Arc<str>,
    all: Arc<[ReadRequest]>,
    /// Those of all requests that want this tenant.
    requests: Vec<usize>,
}

impl Asked {
    fn of(all: &Arc<[ReadRequest]>, tenant: Arc<str>) -> Asked {
        let is_wanted = |request: &ReadRequest| request.tenants.iter().all(|one| one.matches(&tenant));
        let requests = (0..all.len()).filter(|at| is_wanted(&all[*at])).collect();
        Asked { tenant, all: Arc::clone(all), requests }
    }

    fn requests(&self) -> impl Iterator<Item = &ReadRequest> {
        self.requests.iter().map(|at| &self.all[*at])
    }

    fn covers(&self, timestamp_ms: i64) -> bool {
        self.requests().any(|request| (request.min_ms..=request.max_ms).contains(&timestamp_ms))
    }

    /// Says of each series whether it fulfils a request, for as long as anybody wants to know.
    fn decide(
        &self,
        series: Vec<(SeriesKey, Labels)>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Vec<(SeriesKey, bool)> {
        let holds = |labels: &Labels| {
            let fulfils = |request: &ReadRequest| {
                request.matchers.iter().all(|one| one.matches(labels.get(&one.name).unwrap_or("")))
            };
            self.requests().any(|request| is_wanted() && fulfils(request))
        };
        series.into_iter().map(|(key, labels)| (key, holds(&labels))).collect()
    }
}

/// The exemplars of one tenant that were found so far.
#[derive(Default)]
struct Found {
    series: Vec<HeadExemplars>,
    /// Of each series that was met, whether it is wanted.
    decided: HashMap<SeriesKey, bool, ahash::RandomState>,
    /// Of each series that is wanted, where its exemplars go.
    places: HashMap<SeriesKey, usize, ahash::RandomState>,
}

impl Found {
    /// The series of a unit of which it is not known whether they are wanted.
    fn unknown<'a>(
        &self,
        asked: &Asked,
        unit: impl Iterator<Item = StoredExemplar<'a>>,
    ) -> Vec<(SeriesKey, Labels)> {
        let new = unit.filter(|stored| {
            asked.covers(stored.exemplar.timestamp_ms) && !self.decided.contains_key(&stored.key)
        });
        let mut series: Vec<(SeriesKey, Labels)> = Vec::new();
        for stored in new {
            // A series' exemplars often follow one another.
            if series.last().is_none_or(|(last, _)| *last != stored.key) {
                series.push((stored.key, stored.series.clone()));
            }
        }
        series
    }

    /// Takes an exemplar if it is asked for; returns how many bytes that takes, or nothing while it is not known.
    fn look_at(&mut self, asked: &Asked, stored: &StoredExemplar<'_>) -> Option<u64> {
        let exemplar = stored.exemplar;
        if !asked.covers(exemplar.timestamp_ms) {
            return Some(0);
        }
        if !*self.decided.get(&stored.key)? {
            return Some(0);
        }
        let (mut bytes, labels) = (0, stored.series);
        let place = *self.places.entry(stored.key).or_insert_with(|| {
            bytes += (size_of::<HeadExemplars>() + labels.size_bytes()) as u64;
            let (tenant, labels) = (Arc::clone(&asked.tenant), labels.clone());
            self.series.push(HeadExemplars { tenant, labels, exemplars: Vec::new() });
            self.series.len() - 1
        });
        bytes += (size_of_val(exemplar) + exemplar.labels.size_bytes()) as u64;
        self.series[place].exemplars.push(exemplar.clone());
        Some(bytes)
    }
}

/// Sends what is known of one family, or of all.
pub(super) async fn metadata<P: Platform>(
    shard: &Shard<P>,
    family: Option<&str>,
    reply: &Reply<FamilyMetadata>,
) -> Result<(), ReadError> {
    readable(shard)?;
    let mut pacer = shard.platform.pacer();
    let tenants = shard.head.borrow().extras().metadata.tenants();
    for tenant in tenants {
        let families = match family {
            Some(family) => vec![family.into()],
            None => shard.head.borrow().extras().metadata.families(&tenant),
        };
        for unit in families.chunks(UNIT_FAMILIES) {
            let page: Vec<FamilyMetadata> = {
                let head = shard.head.borrow();
                let extras = head.extras();
                let of_family = |family: &Arc<str>| {
                    let descriptions = extras.metadata.descriptions(&tenant, family).to_vec();
                    let (tenant, family) = (Arc::clone(&tenant), Arc::clone(family));
                    (!descriptions.is_empty()).then_some(FamilyMetadata { tenant, family, descriptions })
                };
                unit.iter().filter_map(of_family).collect()
            };
            if !page.is_empty() && reply.send_async(Ok(Page::Part(page))).await.is_err() {
                return Ok(());
            }
            pacer.pace().await;
        }
    }
    Ok(())
}
