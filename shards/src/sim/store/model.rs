//! What must be true of a shard, kept outside of it: what was sent, what was acknowledged, what was cut.
//!
//! Every value is sent for one series and time only (stale markers aside), so that a sample of another series is
//! always noticed. What a read shows has to be something that was sent for that series and time and may be stored;
//! where something was acknowledged it has to be that. A recovery settles what is stored of the requests that the
//! crash left without an answer: what it shows has to stay.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use super::loss::Losses;
use super::series::{Sent, SeriesName, TENANTS};
use crate::core::{Failure, Outcome};
use crate::head::TenantState;

/// What many histories have met, so that a test can tell that it tests something.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Met(pub BTreeMap<&'static str, u64>);

impl Met {
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }
}

/// What a sender knows of one series and time.
#[derive(Debug, Default, Clone)]
struct Point {
    /// Values that may be stored, and by how many requests each.
    candidates: Vec<(u64, u32)>,
    /// The value that was acknowledged, or shown by a recovery, and when.
    acked: Option<(u64, u64)>,
    /// It is in a block that is durable.
    is_in_block: bool,
    /// Its chunk was lost beyond the promise, and the loss was told.
    is_lost: bool,
}

/// What was done with a tenant.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// No sample before it is taken: acknowledged, and asked for.
    pub frozen_ms: i64,
    pub freezing_ms: i64,
    /// What was before it was dropped: acknowledged, and begun.
    pub truncated_ms: i64,
    pub truncating_ms: i64,
    /// Points before it are forgotten: no read that began before they were dropped goes on.
    forgotten_ms: i64,
    /// The blocks that are durable.
    pub blocks: Vec<Range<i64>>,
}

impl Default for Tenant {
    fn default() -> Tenant {
        Tenant {
            frozen_ms: i64::MIN,
            freezing_ms: i64::MIN,
            truncated_ms: i64::MIN,
            truncating_ms: i64::MIN,
            forgotten_ms: i64::MIN,
            blocks: Vec::new(),
        }
    }
}

/// The samples that a read has shown, each once.
pub type Shown = BTreeMap<SeriesName, BTreeMap<i64, u64>>;

/// A request that was sent.
pub struct Request {
    rows: Vec<Sent>,
    /// The rows that nobody had sent before.
    new: Vec<bool>,
    frozen_ms: i64,
}

/// A read that goes on.
pub struct Reading {
    tenant: usize,
    began: u64,
    truncated_ms: i64,
}

/// The model of one shard.
#[derive(Default)]
pub struct Model {
    points: RefCell<BTreeMap<SeriesName, BTreeMap<i64, Point>>>,
    pub tenants: RefCell<[Tenant; TENANTS.len()]>,
    now: Cell<u64>,
    pub losses: Losses,
    violation: RefCell<Option<String>>,
    met: RefCell<Met>,
}

impl Model {
    pub fn met(&self, what: &'static str, count: u64) {
        self.met.borrow_mut().add(what, count);
    }

    pub fn take_met(&self) -> Met {
        self.met.take()
    }

    pub fn violate(&self, what: String) {
        self.violation.borrow_mut().get_or_insert(what);
    }

    pub fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    fn tick(&self) -> u64 {
        self.now.replace(self.now.get() + 1)
    }

    /// A sender sends samples of one tenant.
    pub fn send(&self, rows: &[Sent]) -> Request {
        let mut points = self.points.borrow_mut();
        let mut new = Vec::new();
        for row in rows {
            let point = points.entry(row.series).or_default().entry(row.timestamp_ms).or_default();
            new.push(point.candidates.is_empty());
            match point.candidates.iter_mut().find(|(bits, _)| *bits == row.bits) {
                Some((_, count)) => *count += 1,
                None => point.candidates.push((row.bits, 1)),
            }
        }
        let frozen_ms =
            rows.first().map_or(i64::MIN, |row| self.tenants.borrow()[row.series.tenant].frozen_ms);
        Request { rows: rows.to_vec(), new, frozen_ms }
    }

    /// The sender gets the answer. Without one nothing is known: the rows may be stored or not.
    pub fn answer(&self, request: &Request, outcome: &Outcome) {
        let rows = request.rows.len() as u64;
        let stored = outcome.written + outcome.repeated + outcome.histograms_written;
        self.met("samples written", outcome.written);
        self.met("samples repeated", outcome.repeated);
        self.met("histograms written or repeated", outcome.histograms_written);
        if outcome.failure == Some(Failure::Poisoned) {
            return;
        }
        if stored + outcome.refused_count() + outcome.failed != rows {
            self.violate(format!("{rows} rows were sent, and the answer is {outcome:?}"));
        }
        if stored == rows {
            self.acknowledge(request);
        } else if stored == 0 {
            self.retract(request);
        }
    }

    fn acknowledge(&self, request: &Request) {
        let now = self.tick();
        let mut points = self.points.borrow_mut();
        for (row, is_new) in request.rows.iter().zip(&request.new) {
            let Some(point) =
                points.get_mut(&row.series).and_then(|points| points.get_mut(&row.timestamp_ms))
            else {
                continue;
            };
            if *is_new && row.timestamp_ms < request.frozen_ms {
                self.violate(format!(
                    "{row:?} was taken, and the tenant was frozen at {}",
                    request.frozen_ms
                ));
            }
            // The answer may come after its sample went into a block and was forgotten; what is known of that time since is
            // of later requests.
            if row.timestamp_ms < self.tenants.borrow()[row.series.tenant].forgotten_ms {
                continue;
            }
            match point.acked {
                None => point.acked = Some((row.bits, now)),
                Some((bits, _)) if bits != row.bits && !point.is_lost => {
                    self.violate(format!("{row:?} was acknowledged, and {bits:#x} before"));
                }
                Some(_) => {}
            }
        }
    }

    /// Nothing of the request is stored.
    fn retract(&self, request: &Request) {
        let mut points = self.points.borrow_mut();
        for row in &request.rows {
            let Some(of_series) = points.get_mut(&row.series) else { continue };
            let Some(point) = of_series.get_mut(&row.timestamp_ms) else { continue };
            if let Some(at) = point.candidates.iter().position(|(bits, _)| *bits == row.bits) {
                point.candidates[at].1 -= 1;
                if point.candidates[at].1 == 0 {
                    point.candidates.swap_remove(at);
                }
            }
            if point.candidates.is_empty() && point.acked.is_none() && !point.is_lost {
                of_series.remove(&row.timestamp_ms);
            }
        }
    }

    /// A read of a tenant begins.
    pub fn begin_read(&self, tenant: usize) -> Reading {
        let truncated_ms = self.tenants.borrow()[tenant].truncated_ms;
        Reading { tenant, began: self.tick(), truncated_ms }
    }

    /// A read has ended, of the series that fulfil a condition and the times of a range.
    pub fn end_read(
        &self,
        reading: &Reading,
        shown: &Shown,
        range: Range<i64>,
        is_wanted: impl Fn(u32) -> bool,
    ) {
        self.check_shown(shown);
        for (series, samples) in shown {
            if let Some((first_ms, _)) = samples.first_key_value()
                && *first_ms < reading.truncated_ms
            {
                let truncated_ms = reading.truncated_ms;
                self.violate(format!("{series:?} shows {first_ms} and is truncated at {truncated_ms}"));
            }
            if series.tenant != reading.tenant || !is_wanted(series.number) {
                self.violate(format!("{series:?} was not asked for"));
            }
        }
        let from_ms = range.start.max(self.tenants.borrow()[reading.tenant].truncating_ms);
        let points = self.points.borrow();
        for (series, of_series) in points.iter() {
            if series.tenant != reading.tenant || !is_wanted(series.number) || from_ms >= range.end {
                continue;
            }
            let shown = shown.get(series);
            for (timestamp_ms, point) in of_series.range(from_ms..range.end) {
                let is_old = point.acked.is_some_and(|(_, acked)| acked < reading.began) && !point.is_lost;
                if is_old && shown.is_none_or(|shown| !shown.contains_key(timestamp_ms)) {
                    self.violate(format!("a read misses {series:?} at {timestamp_ms}: {point:?}"));
                }
            }
        }
    }

    /// Whatever is shown was sent, and is what was acknowledged.
    fn check_shown(&self, shown: &Shown) {
        let points = self.points.borrow();
        for (series, samples) in shown {
            let forgotten_ms = self.tenants.borrow()[series.tenant].forgotten_ms;
            for (timestamp_ms, bits) in samples.range(forgotten_ms..) {
                let point = points.get(series).and_then(|points| points.get(timestamp_ms));
                let is_right = point.is_some_and(|point| {
                    let was_sent = point.candidates.iter().any(|(sent, _)| sent == bits);
                    let is_acked = point.acked.is_none_or(|(acked, _)| acked == *bits);
                    was_sent && (is_acked || point.is_lost)
                });
                if !is_right {
                    self.violate(format!("{series:?} shows {bits:#x} at {timestamp_ms}: {point:?}"));
                }
            }
        }
    }

    /// Samples that one series shows twice at a time are equal, but for where a loss was told.
    pub fn check_twice(&self, series: SeriesName, timestamp_ms: i64, first: u64, second: u64) {
        self.met("samples shown twice", 1);
        let points = self.points.borrow();
        let point = points.get(&series).and_then(|points| points.get(&timestamp_ms));
        if first != second && !point.is_some_and(|point| point.is_lost) {
            self.violate(format!("{series:?} has {first:#x} and {second:#x} at {timestamp_ms}: {point:?}"));
        }
    }

    /// A chunk cannot be read, which was told: what it may have held counts as lost.
    pub fn lose(&self, series: SeriesName, min_ms: i64, max_ms: i64) {
        if let Some(points) = self.points.borrow_mut().get_mut(&series) {
            points.range_mut(min_ms..=max_ms).for_each(|(_, point)| point.is_lost = true);
        }
    }

    /// What a block of a tenant has is durable.
    pub fn block_is_durable(&self, tenant: usize, range: Range<i64>, shown: &Shown) {
        let before = &mut self.tenants.borrow_mut()[tenant].blocks;
        if before.last().is_some_and(|last| last.end > range.start) {
            self.violate(format!("a block of {range:?} comes after {before:?}"));
        }
        before.push(range);
        let mut points = self.points.borrow_mut();
        for (series, samples) in shown {
            let Some(of_series) = points.get_mut(series) else { continue };
            for timestamp_ms in samples.keys() {
                if let Some(point) = of_series.get_mut(timestamp_ms) {
                    point.is_in_block = true;
                }
            }
        }
    }

    /// A tenant's samples before a time are about to be dropped: all that was acknowledged has to be in a block.
    pub fn begin_truncation(&self, tenant: usize, below_ms: i64) {
        self.check_in_blocks(tenant, below_ms);
        let state = &mut self.tenants.borrow_mut()[tenant];
        state.truncating_ms = state.truncating_ms.max(below_ms);
    }

    fn check_in_blocks(&self, tenant: usize, below_ms: i64) {
        for (series, of_series) in self.points.borrow().iter().filter(|(series, _)| series.tenant == tenant) {
            for (timestamp_ms, point) in of_series.range(..below_ms) {
                if point.acked.is_some() && !point.is_in_block && !point.is_lost {
                    self.violate(format!("{series:?} at {timestamp_ms} is in no block: {point:?}"));
                }
            }
        }
    }

    /// They were dropped.
    pub fn end_truncation(&self, tenant: usize, below_ms: i64) {
        let state = &mut self.tenants.borrow_mut()[tenant];
        state.forgotten_ms = state.forgotten_ms.max(state.truncated_ms);
        state.truncated_ms = state.truncated_ms.max(below_ms);
        for (_, of_series) in
            self.points.borrow_mut().iter_mut().filter(|(series, _)| series.tenant == tenant)
        {
            *of_series = of_series.split_off(&state.forgotten_ms);
        }
    }

    /// A recovery has ended: what it says of the tenants, and shows of all series.
    pub fn recovered(&self, states: &[TenantState], shown: &Shown, missing_files: &[u32]) {
        for (index, tenant) in self.tenants.borrow_mut().iter_mut().enumerate() {
            let state = states.iter().find(|state| *state.name == *TENANTS[index]);
            let (frozen_ms, truncated_ms) =
                state.map_or((i64::MIN, i64::MIN), |state| (state.frozen_ms, state.truncated_ms));
            let asked_ms = tenant.freezing_ms.max(tenant.truncating_ms);
            let block_ms = tenant.blocks.last().map_or(i64::MIN, |block| block.end);
            if !(tenant.frozen_ms.max(block_ms)..=asked_ms).contains(&frozen_ms) {
                self.violate(format!("{} is frozen at {frozen_ms}: {tenant:?}", TENANTS[index]));
            }
            if !(tenant.truncated_ms..=tenant.truncating_ms).contains(&truncated_ms) {
                self.violate(format!("{} is truncated at {truncated_ms}: {tenant:?}", TENANTS[index]));
            }
            (tenant.frozen_ms, tenant.freezing_ms) = (frozen_ms, frozen_ms);
            (tenant.truncated_ms, tenant.truncating_ms) = (truncated_ms, truncated_ms);
        }
        self.check_shown(shown);
        for (index, tenant) in self.tenants.borrow().iter().enumerate() {
            self.check_in_blocks(index, tenant.truncated_ms);
            let of_tenant = shown.iter().filter(|(series, _)| series.tenant == index);
            for (series, samples) in of_tenant {
                if let Some((first_ms, _)) = samples.range(..tenant.truncated_ms).next() {
                    self.violate(format!("{series:?} came back with {first_ms}: {tenant:?}"));
                }
            }
        }
        self.settle(shown, missing_files);
    }

    fn settle(&self, shown: &Shown, missing_files: &[u32]) {
        let now = self.tick();
        let tenants = self.tenants.borrow();
        let nothing = BTreeMap::new();
        for (series, of_series) in self.points.borrow_mut().iter_mut() {
            let shown = shown.get(series).unwrap_or(&nothing);
            let truncated_ms = tenants[series.tenant].truncated_ms;
            of_series.retain(|timestamp_ms, point| {
                if *timestamp_ms < truncated_ms {
                    return point.is_in_block;
                }
                match (shown.get(timestamp_ms), point.acked) {
                    (Some(_), _) if point.is_lost => {}
                    (Some(bits), acked) => {
                        point.candidates = vec![(*bits, 1)];
                        point.acked = acked.or(Some((*bits, now)));
                        self.met("unanswered samples kept", u64::from(acked.is_none()));
                    }
                    (None, Some((bits, _))) if !point.is_lost => {
                        point.is_lost = self.losses.explain(*timestamp_ms, bits, missing_files);
                        if !point.is_lost {
                            self.violate(format!("{series:?} has lost {timestamp_ms}: {point:?}"));
                        }
                        self.met("samples lost with a file", 1);
                    }
                    (None, None) if !point.is_lost => {
                        // An older checkpoint can bring back what a newer one has lost with a file.
                        let explain =
                            |(bits, _): &(u64, u32)| self.losses.explain(*timestamp_ms, *bits, missing_files);
                        point.is_lost = point.candidates.iter().any(explain);
                        self.met("unanswered samples gone", 1);
                        return point.is_lost;
                    }
                    (None, _) => {}
                }
                true
            });
        }
        self.points.borrow_mut().retain(|_, of_series| !of_series.is_empty());
    }
}
