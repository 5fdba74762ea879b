//! Reads of exemplars and metadata.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Page, Reply, readable};
use crate::core::handle::{FamilyMetadata, HeadExemplars, ReadError, ReadRequest};
use crate::core::shard::Shard;
use crate::head::SeriesKey;
use crate::rt::{Pace, Platform};

/// Exemplars that are looked at between two looks at the clock: some 100 µs. In tests few of them take many.
const UNIT_EXEMPLARS: usize = if cfg!(test) { 8 } else { 256 };

/// Families that are copied between two looks at the clock.
const UNIT_FAMILIES: usize = if cfg!(test) { 8 } else { 256 };

/// Sends the exemplars of each series that fulfils one of the requests.
pub(super) async fn exemplars<P: Platform>(
    shard: &Shard<P>,
    requests: &[ReadRequest],
    bytes_max: u64,
    reply: &Reply<HeadExemplars>,
) -> Result<(), ReadError> {
    readable(shard)?;
    let mut pacer = shard.platform.pacer();
    let tenants = shard.head.borrow().extras().exemplars.tenants();
    let mut bytes = 0;
    for tenant in tenants {
        let is_asked = |request: &&ReadRequest| request.tenants.iter().all(|one| one.matches(&tenant));
        let requests: Vec<&ReadRequest> = requests.iter().filter(is_asked).collect();
        let (mut found, mut number) = (Found::default(), 0);
        while !requests.is_empty() && !reply.is_disconnected() {
            let is_ended = {
                let head = shard.head.borrow();
                let extras = head.extras();
                let mut seen = 0;
                for stored in extras.exemplars.from(&tenant, number).take(UNIT_EXEMPLARS) {
                    bytes += found.look_at(&tenant, &requests, &stored);
                    number = stored.number + 1;
                    seen += 1;
                }
                seen < UNIT_EXEMPLARS
            };
            if bytes > bytes_max {
                return Err(ReadError::TooLarge { bytes_max });
            }
            pacer.pace().await;
            if is_ended {
                break;
            }
        }
        if !found.series.is_empty() && reply.send_async(Ok(Page::Part(found.series))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The exemplars of one tenant that were found so far.
#[derive(Default)]
struct Found {
    series: Vec<HeadExemplars>,
    /// Of each series that was met, where its exemplars go, if anywhere.
    places: HashMap<SeriesKey, Option<usize>, ahash::RandomState>,
}

impl Found {
    /// Takes an exemplar if it is asked for; returns how many bytes that takes.
    fn look_at(
        &mut self,
        tenant: &Arc<str>,
        requests: &[&ReadRequest],
        stored: &crate::exemplars::StoredExemplar<'_>,
    ) -> u64 {
        let exemplar = stored.exemplar;
        let is_in_time =
            |request: &ReadRequest| (request.min_ms..=request.max_ms).contains(&exemplar.timestamp_ms);
        if !requests.iter().any(|request| is_in_time(request)) {
            return 0;
        }
        let (mut bytes, labels) = (0, stored.series);
        let place = self.places.entry(stored.key).or_insert_with(|| {
            let holds = |request: &&ReadRequest| {
                request.matchers.iter().all(|one| one.matches(labels.get(&one.name).unwrap_or("")))
            };
            requests.iter().any(holds).then(|| {
                bytes += (size_of::<HeadExemplars>() + labels.size_bytes()) as u64;
                let (tenant, labels) = (Arc::clone(tenant), labels.clone());
                self.series.push(HeadExemplars { tenant, labels, exemplars: Vec::new() });
                self.series.len() - 1
            })
        });
        if let Some(place) = *place {
            bytes += (size_of_val(exemplar) + exemplar.labels.size_bytes()) as u64;
            self.series[place].exemplars.push(exemplar.clone());
        }
        bytes
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
