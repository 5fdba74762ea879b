//! Who writes: samples in order and late, repeated, conflicting and too old, of series that come and go.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::super::Random;
use super::super::disk::delay;
use super::life::Life;
use super::series::{Sent, SeriesName, TENANTS, label_bytes};
use crate::STALE_NAN_BITS;
use crate::core::{Failure, Gather, WriteBatch, split};
use crate::head::{TimeWindows, window_of};
use crate::wire::{BodyRange, Extras, HistogramRow, Row, SeriesHasher};

/// Requests that may be sent again.
const REMEMBERED_MAX: usize = 24;

/// How often a request is tried that the shard has no room for.
const TRIES_MAX: u64 = 6;

/// What all senders of a history share.
pub struct Senders {
    choices: Random,
    windows: TimeWindows,
    /// Rows of one request at most.
    rows_max: u64,
    step_ms_max: u64,
    tenants: RefCell<[Target; TENANTS.len()]>,
    remembered: RefCell<Vec<Vec<Sent>>>,
    /// Makes values that are sent for one series and time only.
    values: Cell<u64>,
}

/// Where the senders of one tenant are.
#[derive(Clone, Copy)]
struct Target {
    now_ms: i64,
    /// The series that are written: from here on, so many.
    first: u32,
    count: u32,
}

impl Senders {
    pub fn new(choices: Random, windows: TimeWindows) -> Senders {
        let begin_ms = [0, -2 * windows.block_ms - 17, 1_700_000_000_000][choices.below(3) as usize];
        let target = |_| Target {
            now_ms: begin_ms,
            first: choices.below(3) as u32,
            count: 5 + choices.below(40) as u32,
        };
        Senders {
            tenants: RefCell::new([0, 1, 2].map(target)),
            windows,
            rows_max: 8 << choices.below(5),
            step_ms_max: [4, 20, 90][choices.below(3) as usize],
            remembered: RefCell::default(),
            values: Cell::default(),
            choices,
        }
    }

    /// Time of the newest samples.
    pub fn newest_ms(&self) -> i64 {
        self.tenants.borrow()[0].now_ms
    }

    /// The rows of the next request, all of one tenant, and what kind of request it is.
    fn next(&self) -> (&'static str, Vec<Sent>) {
        let choices = &self.choices;
        let again = {
            let remembered = self.remembered.borrow();
            let at = choices.next() as usize;
            (!remembered.is_empty()).then(|| remembered[at % remembered.len()].clone())
        };
        match (choices.below(20), again) {
            (0..3, Some(rows)) => ("repeated requests", rows),
            (3, Some(rows)) => {
                let other = |row| Sent { bits: self.value(), ..row };
                ("conflicting requests", rows.into_iter().map(other).collect())
            }
            (4..7, _) => {
                let behind_ms = self.windows.out_of_order_ms.max(50) as u64 * 5 / 4;
                ("late requests", self.behind(behind_ms))
            }
            (7, _) => ("old requests", self.behind(6 * self.windows.block_ms as u64)),
            _ => ("requests in order", self.in_order()),
        }
    }

    /// What a scrape brings: a few samples of many series, or many of a few.
    fn in_order(&self) -> Vec<Sent> {
        let choices = &self.choices;
        let tenant = self.tenant();
        let target = &mut self.tenants.borrow_mut()[tenant];
        if choices.one_in(60) {
            target.now_ms += choices.below(5 * self.windows.block_ms as u64) as i64;
        }
        if choices.one_in(30) {
            // Right at the begin of a window, or right before.
            target.now_ms = window_of(target.now_ms, self.windows.block_ms).end - choices.below(2) as i64;
        }
        if choices.one_in(12) {
            // Series come and go, and some come back.
            let back = if choices.one_in(4) { target.count } else { 0 };
            target.first =
                (target.first + choices.below(u64::from(target.count)) as u32).saturating_sub(back);
            target.count = 5 + choices.below(40) as u32;
        }
        let times = 1 + choices.below(10);
        let mut rows = Vec::new();
        for _ in 0..times {
            target.now_ms += 1 + choices.below(self.step_ms_max) as i64;
            for number in target.first..target.first + target.count {
                if choices.below(target.count.into()) * times < self.rows_max && rows.len() < 400 {
                    let series = SeriesName { tenant, number };
                    rows.push(Sent { series, timestamp_ms: target.now_ms, bits: self.value() });
                }
            }
        }
        // As a sender does: the samples of one series stand together.
        rows.sort_by_key(|row| row.series);
        rows
    }

    fn behind(&self, behind_ms: u64) -> Vec<Sent> {
        let choices = &self.choices;
        let tenant = self.tenant();
        let target = self.tenants.borrow()[tenant];
        let count = 1 + choices.below(self.rows_max / 2);
        let row = |_| Sent {
            series: SeriesName {
                tenant,
                number: target.first + choices.below(u64::from(target.count).min(12)) as u32,
            },
            timestamp_ms: target.now_ms - choices.below(behind_ms) as i64,
            bits: self.value(),
        };
        (0..count).map(row).collect()
    }

    fn tenant(&self) -> usize {
        // One of them is seldom written to.
        (self.choices.below(9) / 4) as usize
    }

    fn value(&self) -> u64 {
        if self.choices.one_in(30) {
            return STALE_NAN_BITS;
        }
        let number = self.values.replace(self.values.get() + 1);
        // Small integers are short in the WAL; other bits, among them NaNs, are long.
        if self.choices.one_in(3) {
            (self.choices.next() & !0xff_ffff) | number
        } else {
            (number as f64).to_bits()
        }
    }

    fn remember(&self, rows: Vec<Sent>) {
        let mut remembered = self.remembered.borrow_mut();
        if remembered.len() == REMEMBERED_MAX {
            remembered.swap_remove(self.choices.below(REMEMBERED_MAX as u64) as usize);
        }
        remembered.push(rows);
    }
}

/// Sends requests, one after the other.
pub async fn send(life: Rc<Life>, count: u64) {
    for _ in 0..count {
        let (kind, rows) = life.senders.next();
        if rows.is_empty() {
            continue;
        }
        life.model.met(kind, 1);
        while life.shard.head.borrow().log().borrow().file_count() > life.plan.files_max {
            delay(&life.choices).await;
        }
        for _ in 0..TRIES_MAX {
            let request = life.model.send(&rows);
            let (gather, batch) = batch(&life.hasher, &rows);
            life.shard.write(batch).await;
            if life.choices.one_in(10) {
                life.model.met("answers lost", 1);
                continue;
            }
            let outcome = gather.wait().await;
            life.model.answer(&request, &outcome);
            match outcome.failure {
                None => break,
                Some(Failure::RingFull) => life.model.met("refused by a full ring", 1),
                Some(Failure::DiskFull) => life.model.met("refused by a full disk", 1),
                Some(Failure::Poisoned | Failure::Stopping) => return,
                Some(other) => life.model.violate(format!("a write failed: {other:?}")),
            }
            for _ in 0..4 {
                delay(&life.choices).await;
            }
        }
        life.senders.remember(rows);
    }
}

/// A request as the shard gets it.
fn batch(hasher: &SeriesHasher, rows: &[Sent]) -> (Gather, WriteBatch) {
    let tenant = TENANTS[rows[0].series.tenant];
    let hasher = hasher.tenant(tenant);
    let (mut body, mut out, mut extras) = (Vec::new(), Vec::new(), Extras::default());
    for row in rows {
        let labels = label_bytes(row.series.number);
        let (key, timestamp_ms) = (hasher.key(&labels), row.timestamp_ms);
        let labels = append(&mut body, &labels);
        if row.is_histogram() {
            let message = append(&mut body, &row.histogram_message());
            extras.histograms.push(HistogramRow { key, labels, timestamp_ms, message });
        } else {
            let BodyRange { offset: label_offset, len: label_len } = labels;
            let value = f64::from_bits(row.bits);
            out.push(Row { key, label_offset, label_len, timestamp_ms, value });
        }
    }
    let extras = (!extras.is_empty()).then(|| Box::new(extras));
    let (gather, mut batches) = split(Arc::from(tenant), Arc::new(body), vec![(out, extras)]);
    (gather, batches.pop().expect("one part makes one batch"))
}

fn append(body: &mut Vec<u8>, bytes: &[u8]) -> BodyRange {
    let range = BodyRange { offset: body.len() as u32, len: bytes.len() as u32 };
    body.extend_from_slice(bytes);
    range
}
