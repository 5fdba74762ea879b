//! Who reads: selects of the head while it changes, and what they show.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use super::super::disk::delay;
use super::life::Life;
use super::model::{Model, Shown};
use super::series::{SeriesName, TENANTS, bits_of, job_of, number_of};
use crate::chunk::{Encoding, decode_values};
use crate::chunklog::{ChunkBytes, load};
use crate::core::parts::{Page, ReadJob, RunningRead, run_read};
use crate::core::{HeadSeries, ReadBudget, ReadRequest};
use crate::{MatchOp, Matcher};

/// All times but the last, which no sample of a history has.
pub const ALWAYS: Range<i64> = i64::MIN..i64::MAX;

/// What a read brought.
#[derive(Default)]
pub struct Answer {
    pub shown: Shown,
    /// The chunk files that it refers to.
    pub files: BTreeSet<u32>,
}

/// Reads, one read after the other.
pub async fn read_on(life: Rc<Life>, count: u64) {
    let choices = &life.choices;
    for _ in 0..count {
        for _ in 0..choices.below(30) {
            delay(choices).await;
        }
        let tenant = choices.below(TENANTS.len() as u64) as usize;
        let (matchers, job) = match choices.below(3) {
            0 => {
                let job = job_of(choices.below(4) as u32);
                (vec![Matcher::new(MatchOp::Equal, "job", job.clone()).unwrap()], Some(job))
            }
            1 => (vec![Matcher::new(MatchOp::Regex, "pod", "pod-.*").unwrap()], None),
            _ => (Vec::new(), None),
        };
        let reading = life.model.begin_read(tenant);
        let answer = read(&life, tenant, matchers, ALWAYS).await;
        life.model.met("reads", 1);
        let is_wanted = |number| job.as_ref().is_none_or(|job| *job == job_of(number));
        life.model.end_read(&reading, &answer.shown, ALWAYS, is_wanted);
    }
}

/// Reads a part of one tenant.
pub async fn read(life: &Life, tenant: usize, matchers: Vec<Matcher>, range: Range<i64>) -> Answer {
    let _running = RunningRead::new(&life.reads);
    let request = ReadRequest {
        tenants: vec![Matcher::new(MatchOp::Equal, "tenant", TENANTS[tenant]).unwrap()],
        matchers,
        min_ms: range.start,
        max_ms: range.end - 1,
        skip_chunks: false,
    };
    let (reply, pages) = flume::unbounded();
    run_read(Rc::clone(&life.shard), ReadJob::Select { request, budget: ReadBudget::new(u64::MAX), reply })
        .await;
    let (mut series, mut is_whole) = (Vec::new(), false);
    for page in pages.drain() {
        match page {
            Ok(Page::Part(part)) => series.extend(part),
            Ok(Page::End) => is_whole = true,
            Err(error) => life.model.violate(format!("a read failed: {error}")),
        }
    }
    if !is_whole {
        life.model.violate("a read broke off".to_owned());
    }
    look(&life.model, tenant, series)
}

/// Decodes what a read brought. Samples that are there twice are shown once, as readers show them.
fn look(model: &Model, tenant: usize, series: Vec<HeadSeries>) -> Answer {
    let mut answer = Answer::default();
    for one in series {
        let number = number_of(&one.labels).filter(|_| *one.tenant == *TENANTS[tenant]);
        let Some(number) = number else {
            model.violate(format!("a read of {} shows {} {:?}", TENANTS[tenant], one.tenant, one.labels));
            continue;
        };
        let name = SeriesName { tenant, number };
        if !one.chunks.is_sorted_by_key(|chunk| chunk.min_ms) {
            model.violate(format!("{name:?}: chunks are not in order of time"));
        }
        let mut samples = BTreeMap::new();
        for mut chunk in one.chunks {
            if let ChunkBytes::Logged(logged) = &chunk.bytes {
                let file = logged.place().file;
                answer.files.insert(file);
                model.met("chunks read from files", 1);
                if let Err(error) = load(std::iter::once(&mut chunk.bytes)) {
                    if !model.losses.is_rotten(file) {
                        model.violate(format!("{name:?}: {error}"));
                    }
                    model.met("damaged chunks", 1);
                    model.lose(name, chunk.min_ms, chunk.max_ms);
                    continue;
                }
            }
            let bytes = chunk.bytes.loaded().expect("it is in memory, or was just loaded");
            let mut times = Vec::new();
            model.met("chunks of histograms read", u64::from(chunk.encoding != Encoding::Xor));
            let decoded = decode_values(chunk.encoding, bytes, |timestamp_ms, value| {
                times.push(timestamp_ms);
                if times.len() > 1 && times[times.len() - 2] >= timestamp_ms {
                    model.violate(format!("{name:?}: a chunk goes back to {timestamp_ms}"));
                }
                let bits = bits_of(value);
                match samples.entry(timestamp_ms) {
                    Entry::Vacant(entry) => drop(entry.insert(bits)),
                    Entry::Occupied(entry) => {
                        model.check_twice(name, timestamp_ms, *entry.get(), bits);
                    }
                }
            });
            if decoded.is_err() || times.first() != Some(&chunk.min_ms) || times.last() != Some(&chunk.max_ms)
            {
                let range = chunk.min_ms..=chunk.max_ms;
                model.violate(format!("{name:?}: {decoded:?} in a chunk of {range:?} with {times:?}"));
            }
        }
        if answer.shown.insert(name, samples).is_some() {
            model.violate(format!("a read shows {name:?} twice"));
        }
    }
    // A series whose only chunks cannot be read shows nothing.
    answer.shown.retain(|_, samples| !samples.is_empty());
    answer
}
