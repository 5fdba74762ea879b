//! Functions over windows: those of a selector, and those of a subquery.

use super::grammar::{Place, Vector, any_selector, matchers, modifier, vector};
use super::metrics::{METRICS, Metric, PLAIN, Values};
use super::pick::Pick;

const RANGES: [&str; 9] = ["20s", "40s", "70s", "2m", "5m", "5m10s", "11m", "25m", "1h"];

/// Multiples of ten seconds, so that a window never begins on the grid of its step.
const SUBQUERIES: [&str; 8] = ["1m:10s", "2m:20s", "5m:", "5m:30s", "11m:1m", "10m:70s", "3m:5m", "20m:2m"];

/// A window: a selector or a subquery with its range.
pub struct Window {
    /// Its text.
    pub text: String,
    labels: Vec<&'static str>,
    values: Values,
    is_counter: bool,
}

impl Window {
    /// A subquery around `inner`.
    pub fn of(pick: &mut Pick, inner: &Vector, place: Place) -> Window {
        let modifier = match place {
            Place::Outside => modifier(pick),
            Place::Subquery => " offset 3s".to_owned(),
        };
        let text = format!("{}[{}]{modifier}", within(&inner.text), pick.one(&SUBQUERIES));
        Window { text, labels: inner.labels.clone(), values: inner.values, is_counter: false }
    }
}

/// A selector that has a modifier, and a number with a sign, need parentheses before a range.
fn within(text: &str) -> String {
    format!("({text})")
}

/// A selector of this metric with a range.
pub fn range(pick: &mut Pick, metric: &Metric) -> String {
    format!("{}{}[{}]{}", metric.name, matchers(pick, metric), pick.one(&RANGES), modifier(pick))
}

/// A function over the window of any selector.
pub fn of_selector(pick: &mut Pick) -> Vector {
    let metric = pick.one(METRICS);
    of_metric(pick, &metric)
}

/// A function over a window of this metric.
pub fn of_metric(pick: &mut Pick, metric: &Metric) -> Vector {
    let labels = metric.labels.iter().map(|(name, _)| *name).collect();
    let text = range(pick, metric);
    call(pick, &Window { text, labels, values: metric.values, is_counter: metric.is_counter })
}

/// A function over a subquery.
pub fn of_subquery(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    if pick.chance(30) {
        let counters: Vec<&Metric> =
            METRICS.iter().filter(|metric| metric.is_counter && metric.is_steady).collect();
        let metric = pick.one(&counters);
        let text = format!("{}{}", metric.name, matchers(pick, metric));
        let labels = metric.labels.iter().map(|(name, _)| *name).collect();
        let inner = Vector { text, labels, values: metric.values };
        let window = Window { is_counter: true, ..Window::of(pick, &inner, place) };
        return call(pick, &window);
    }
    let inner = match pick.chance(20) {
        true => any_selector(pick),
        false => vector(pick, depth - 1, Place::Subquery),
    };
    let window = Window::of(pick, &inner, place);
    call(pick, &window)
}

fn call(pick: &mut Pick, window: &Window) -> Vector {
    let values = window.values;
    // The difference of the largest numbers of both signs is infinite.
    let finite = values.finite && values.adds_up;
    let either_sign = Values { adds_up: false, finite, ..values.rounded() };
    let mut choices = vec![
        ("last_over_time($)", values),
        ("min_over_time($)", values),
        ("max_over_time($)", values),
        ("count_over_time($)", PLAIN),
        ("present_over_time($)", PLAIN),
    ];
    if values.adds_up && values.finite {
        choices.extend([
            ("quantile_over_time(0.25, $)", values.rounded()),
            ("quantile_over_time(0.9, $)", values.rounded()),
            ("quantile_over_time(-0.5, $)", Values { finite: false, ..values.rounded() }),
        ]);
        if !window.text.contains('@') {
            choices.push(("quantile_over_time(scalar(job_info{job=\"db\"}), $)", values.rounded()));
        }
    }
    if values.adds_up {
        choices.extend([("avg_over_time($)", values.rounded()); 2]);
        let sum = if values.exact_sums { values } else { values.rounded() };
        choices.extend([("sum_over_time($)", sum); 2]);
    }
    if values.same_bits {
        choices.extend([("changes($)", PLAIN), ("resets($)", PLAIN)]);
        choices.push(("idelta($)", Values { adds_up: false, finite, ..values }));
        choices.push(("delta($)", either_sign));
    }
    if values.same_bits && values.finite && values.adds_up {
        choices.extend([
            ("stddev_over_time($)", values.rounded()),
            ("stdvar_over_time($)", values.rounded()),
            ("deriv($)", either_sign),
            ("holt_winters($, 0.3, 0.6)", either_sign),
            ("holt_winters($, 0.9, 0.01)", either_sign),
        ]);
        if !window.text.contains('@') {
            choices
                .extend([("predict_linear($, 600)", either_sign), ("predict_linear($, -1.5)", either_sign)]);
        }
    }
    if window.is_counter {
        choices.extend([("rate($)", values.rounded()); 6]);
        choices.extend([("increase($)", values.rounded()); 3]);
        choices.extend([("irate($)", values.rounded()); 3]);
    }
    let (call, values) = pick.one(&choices);
    Vector { text: call.replace('$', &window.text), labels: window.labels.clone(), values }
}
