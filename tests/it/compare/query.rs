//! Whole queries: an expression, and the times at which it is evaluated.

use super::binary::scalar;
use super::data::{END_MS, START_MS};
use super::grammar::{Place, selector, top, vector, window};
use super::metrics::{METRICS, TEMPERATURE};
use super::pick::Pick;
use super::wrong::{mutated, wrong};
use crate::support::query::seconds;

/// Of a hundred queries, so many are wrong on purpose.
const WRONG_PERCENT: usize = 9;

const MINUTE_MS: i64 = 60_000;

/// The last digit of the seconds of all times of evaluation.
const PHASE_MS: i64 = 7_000;

/// A query as it is sent.
#[derive(Debug, Clone)]
pub struct Query {
    /// The expression as an old Prometheus has it.
    pub text: String,
    /// Whether the order of the answer is that of its values.
    pub is_sorted: bool,
    /// Whether it was made without care for the last bits of numbers, so that its samples are not compared.
    pub is_mutated: bool,
    /// Where it goes.
    pub path: &'static str,
    /// Its times, as fields of the form.
    pub times: Vec<(&'static str, String)>,
}

impl Query {
    /// The expression with the names that functions have since 3.0.
    pub fn renamed_text(&self) -> String {
        self.text.replace("holt_winters", "double_exponential_smoothing")
    }
}

/// The query of this number in the list of a seed.
pub fn query(seed: u64, number: u64) -> Query {
    let mut pick = Pick::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let pick = &mut pick;
    let (mut is_instant, mut is_sorted, mut is_mutated) = (pick.chance(50), false, false);
    let text;
    match pick.below(100) {
        0..5 => (text, is_instant) = (window(pick), true),
        5..8 => {
            let (left, right) = (scalar(pick), scalar(pick));
            let operator = pick.one(&["+", "-", "*", "/", "%", "> bool", "== bool", "!= bool"]);
            text = format!("{left} {operator} {right}");
        }
        8..13 => {
            let metric = pick.one(METRICS);
            let inner =
                if pick.chance(50) { selector(pick, &metric) } else { vector(pick, 1, Place::Outside) };
            text = format!("{}({})", pick.one(&["sort", "sort_desc"]), inner.text);
            is_sorted = is_instant && inner.values.same_bits;
        }
        13..15 => {
            let inner = selector(pick, &TEMPERATURE);
            text = format!("sort_desc({})", inner.text);
            is_sorted = is_instant;
        }
        15..19 => text = top(pick).text,
        below if below < 100 - WRONG_PERCENT => {
            let depth = 1 + pick.below(4);
            text = vector(pick, depth, Place::Outside).text;
        }
        _ => {
            is_mutated = pick.chance(40);
            text = if is_mutated { mutated(pick) } else { wrong(pick) };
        }
    }
    let (path, times) = if is_instant { instant(pick) } else { range(pick) };
    Query { text, is_sorted, is_mutated, path, times }
}

/// A time from a little before the first sample to a little after the last one.
fn time_ms(pick: &mut Pick) -> i64 {
    let tens = pick.below(((END_MS - START_MS + 4 * MINUTE_MS) / 10_000) as usize) as i64;
    START_MS - MINUTE_MS + tens * 10_000 + PHASE_MS
}

fn instant(pick: &mut Pick) -> (&'static str, Vec<(&'static str, String)>) {
    ("/api/v1/query", vec![("time", seconds(time_ms(pick)))])
}

fn range(pick: &mut Pick) -> (&'static str, Vec<(&'static str, String)>) {
    let start_ms = time_ms(pick);
    let step_s = pick.one(&[10, 20, 30, 50, 60, 110, 300, 900]);
    let end_ms = start_ms + step_s * 1000 * pick.below(40) as i64 + 10_000 * pick.below(3) as i64;
    let times = [("start", seconds(start_ms)), ("end", seconds(end_ms)), ("step", step_s.to_string())];
    ("/api/v1/query_range", times.into())
}
