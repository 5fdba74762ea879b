//! An hour of samples of many kinds of series, the same in every run. It lies around a midnight that ends a leap day,
//! and no sample is taken at a full second: queries look at full seconds only.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::query::Labels;
use crate::support::write::{TimeSeries, series_of};

/// The NaN by which Prometheus marks the end of a series.
const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The first step: 2024-02-29T23:30:00Z.
pub const START_MS: i64 = 1_709_249_400_000;

/// The time between two samples of most series.
const STEP_MS: i64 = 5_000;

const STEPS: i64 = 720;

/// The end of the last step.
pub const END_MS: i64 = START_MS + STEPS * STEP_MS;

/// By how many steps samples are late that are.
const LATE_STEPS: i64 = 3;

/// Of the values that are easily written in a wrong way, those that can be added up in any order.
const ODD_VALUES: [f64; 11] =
    [f64::NAN, 1.5, 0.0, -0.0, 3.0, f64::INFINITY, 0.75, 2.0, f64::NEG_INFINITY, 0.25, -0.0];

/// The others.
const EXTREME_VALUES: [f64; 8] =
    [f64::MAX, 5e-324, -1e-310, 1e300, f64::MIN, 0.1, 1e-9, 123_456_789_012_345.6];

/// One request to each receiver.
pub struct Step {
    /// For Prometheus, which takes the samples of a series in their order only.
    pub in_order: Vec<TimeSeries>,
    /// For annulus, where some come late.
    pub with_late: Vec<TimeSeries>,
}

/// All requests in order. What goes to Prometheus has the labels that annulus adds to every series.
pub fn steps(added_labels: &[(&str, &str)]) -> Vec<Step> {
    let mut steps: Vec<Step> =
        (0..STEPS).map(|_| Step { in_order: Vec::new(), with_late: Vec::new() }).collect();
    for (labels, samples) in content() {
        let sent: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut with_added = sent.clone();
        with_added.extend_from_slice(added_labels);
        with_added.sort_unstable();
        let comes_late = labels["__name__"] == "temperature";
        let mut late = BTreeMap::<i64, Vec<(i64, f64)>>::new();
        for (step, time_ms, value) in samples {
            let index = |step: i64| usize::try_from(step).unwrap();
            steps[index(step)].in_order.push(series_of(&with_added, &[(time_ms, value)]));
            let is_late = comes_late && step % 7 == 2 && step + LATE_STEPS < STEPS;
            let step = if is_late { step + LATE_STEPS } else { step };
            late.entry(step).or_default().push((time_ms, value));
        }
        for (step, samples) in late {
            steps[usize::try_from(step).unwrap()].with_late.push(series_of(&sent, &samples));
        }
    }
    steps
}

/// Of each series the step, the time and the value of its samples.
type Content = BTreeMap<Labels, Vec<(i64, i64, f64)>>;

fn content() -> Content {
    let mut content = Content::new();
    counters(&mut content);
    gauges(&mut content);
    series_that_come_and_go(&mut content);
    let phases: BTreeSet<i64> = content.values().flatten().map(|(_, time_ms, _)| time_ms % 1000).collect();
    assert!(phases.len() > 10 && !phases.contains(&0), "{phases:?}");
    content
}

fn add(content: &mut Content, labels: &[(&str, &str)], value_at: impl Fn(i64) -> Option<f64>) {
    let number = i64::try_from(content.len()).unwrap();
    let phase_ms = 101 + number % 23 * 210;
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sample = |step: i64| Some((step, START_MS + step * STEP_MS + phase_ms, value_at(step)?));
    let replaced = content.insert(labels, (0..STEPS).filter_map(sample).collect());
    assert!(replaced.is_none(), "two series have the same labels");
}

/// A number that looks random, at least 0 and less than `bound`.
fn scattered(step: i64, series: i64, bound: i64) -> i64 {
    (step * 7919 + series * 104_729 + step * step % 31 * 17).rem_euclid(bound)
}

/// Counters begin far above zero, where a rate does not depend on when its version of Prometheus looks at zero.
fn counters(content: &mut Content) {
    let mut number = 0;
    for job in ["api", "db"] {
        for instance in ["a:1", "b:1", "c:2"] {
            for code in ["200", "404", "500"] {
                number += 1;
                let resets_every = if code == "500" { 1000 } else { 90 + 41 * number };
                let labels =
                    [("__name__", "requests_total"), ("job", job), ("instance", instance), ("code", code)];
                add(content, &labels, |step| {
                    let since = step % resets_every;
                    let begin = if step < resets_every { 1e6 } else { 0.0 };
                    Some(begin + (since * (3 + number) + scattered(step, number, 3)) as f64)
                });
            }
            let with_marker = number % 2 == 0;
            let labels = [("__name__", "errors_total"), ("job", job), ("instance", instance)];
            // Gaps of two minutes, longer than the lookback.
            add(content, &labels, |step| match (step + 7 * number) % 60 {
                0..36 => Some(1e6 + (step * number) as f64),
                36 if with_marker => Some(STALE_NAN),
                _ => None,
            });
            for (le, share) in [("0.1", 1), ("0.5", 3), ("1", 4), ("2.5", 9), ("+Inf", 10)] {
                let labels = [
                    ("__name__", "latency_seconds_bucket"),
                    ("job", job),
                    ("instance", instance),
                    ("le", le),
                ];
                add(content, &labels, |step| Some((1_000_000 + step * number * share / 2 * 2) as f64));
            }
            let labels = [("__name__", "latency_seconds_count"), ("job", job), ("instance", instance)];
            add(content, &labels, |step| Some((1_000_000 + step * number * 10) as f64));
            let labels = [("__name__", "latency_seconds_sum"), ("job", job), ("instance", instance)];
            add(content, &labels, |step| Some(500_000.0 + (step * number) as f64 * 6.25));
        }
    }
}

fn gauges(content: &mut Content) {
    for (series, room) in ["kitchen", "hall", "büro-é°", "東京", "attic"].into_iter().enumerate() {
        let series = i64::try_from(series).unwrap();
        for floor in ["1", "2"] {
            let number = 2 * series + i64::from(floor == "2");
            // No two of them are ever equal.
            let value = move |step| scattered(step, number, 640) as f64 / 16.0 + number as f64 / 1024.0;
            let labels = [("__name__", "temperature"), ("room", room), ("floor", floor)];
            add(content, &labels, |step| Some(value(step) + 0.5));
            let labels = [("__name__", "temperature_limit"), ("room", room), ("floor", floor)];
            add(content, &labels, |step| Some((10 + number + step / 200) as f64));
            let labels = [("__name__", "balance"), ("room", room), ("floor", floor)];
            add(content, &labels, |step| Some(value(step) - 20.0));
        }
    }
    for (series, zone) in ["z1", "z2", "z3"].into_iter().enumerate() {
        for kind in ["x", "y"] {
            let number = series as i64 * 2 + i64::from(kind == "y");
            let pick =
                |values: &[f64], step: i64| values[scattered(step, number, values.len() as i64) as usize];
            let labels = [("__name__", "odd"), ("zone", zone), ("kind", kind)];
            add(content, &labels, |step| Some(pick(&ODD_VALUES, step)));
            let labels = [("__name__", "extreme"), ("zone", zone), ("kind", kind)];
            add(content, &labels, |step| Some(pick(&EXTREME_VALUES, step)));
        }
    }
    for (job, team) in [("api", "équipe"), ("db", "チーム")] {
        add(content, &[("__name__", "job_info"), ("job", job), ("team", team)], |_| Some(1.0));
    }
}

fn series_that_come_and_go(content: &mut Content) {
    for number in 0..8 {
        let (begin, end) = (number * 55, number * 70 + 180);
        let with_marker = number % 2 == 0;
        let id = format!("s{number}");
        let state = if number < 4 { "open" } else { "closed" };
        let labels = [("__name__", "session_bytes"), ("id", &*id), ("state", state)];
        add(content, &labels, |step| match step {
            _ if step < begin => None,
            _ if step < end => Some(1e6 + ((step - begin) * 16) as f64),
            _ => (step == end && with_marker).then_some(STALE_NAN),
        });
    }
    for zone in ["z1", "z2", "z3"] {
        let shift = i64::from(zone.as_bytes()[1]) * 11;
        // A hundred seconds of samples, a marker, and a pause.
        add(content, &[("__name__", "flapping"), ("zone", zone)], |step| match (step + shift) % 30 {
            0..20 => Some((scattered(step, shift, 500) + 1) as f64),
            20 => Some(STALE_NAN),
            _ => None,
        });
        // Nearly as far apart as the lookback.
        add(content, &[("__name__", "sparse"), ("zone", zone)], |step| {
            ((step + shift) % 11 == 0).then_some((scattered(step, shift, 300) + 1) as f64)
        });
    }
}
