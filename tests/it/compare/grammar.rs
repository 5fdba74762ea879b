//! Expressions that give vectors, at random. Each knows how exactly two engines have to agree in it, so that nothing is
//! built on the last bits of a number.

use super::binary::{scalar, set, with_scalar, with_vector};
use super::metrics::{BUCKETS, METRICS, Metric, PLAIN, Values};
use super::pick::Pick;
use super::range_calls::{self, Window};

/// An expression.
#[derive(Debug, Clone)]
pub struct Vector {
    /// Its text, which needs no parentheses around it.
    pub text: String,
    /// Labels that its series have.
    pub labels: Vec<&'static str>,
    /// What its values are like.
    pub values: Values,
}

/// How deep in subqueries an expression is. Within one the times of evaluation are on the grid of its step, and so
/// would be the left end of another one's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where times of evaluation end in 7 seconds.
    Outside,
    /// Where they end in 0.
    Subquery,
}

const OFFSETS: [&str; 8] = ["10s", "30s", "70s", "4m", "10m", "-20s", "-2m", "1m30s"];

/// Times of `@`, which end in 7 seconds as the times of evaluation do.
const ATS: [&str; 6] = ["1709249767", "1709250607.0", "1709251207", "1709252407", "start()", "end()"];

/// Any vector, with so many operations around its selectors at most.
pub fn vector(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    if depth == 0 {
        return if pick.chance(50) { any_selector(pick) } else { range_calls::of_selector(pick) };
    }
    match pick.below(100) {
        0..8 => any_selector(pick),
        8..22 => range_calls::of_selector(pick),
        22..40 => aggregate(pick, depth, place),
        40..50 => with_scalar(pick, depth, place),
        50..60 => with_vector(pick, depth, place),
        60..67 => set(pick, depth, place),
        67..73 => histogram_quantile(pick),
        73..78 => with_label(pick, depth, place),
        78..84 => math(pick, depth, place),
        84..93 => range_calls::of_subquery(pick, depth, place),
        93..95 => relabelled(pick),
        _ => other(pick, depth, place),
    }
}

/// A vector that has the same bits in both.
fn exact_vector(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    for _ in 0..4 {
        let found = vector(pick, depth, place);
        if found.values.same_bits {
            return found;
        }
    }
    any_selector(pick)
}

/// A selector of any metric.
pub fn any_selector(pick: &mut Pick) -> Vector {
    if pick.chance(6) {
        let name = pick.one(&[
            "temperature.*|balance",
            "latency_seconds_(count|sum)",
            "(errors|requests)_total",
            "[bt].+",
        ]);
        let text = format!("{{__name__=~\"{name}\"}}{}", modifier(pick));
        let labels = vec!["__name__", "floor", "job", "instance"];
        return Vector { text, labels, values: Values { adds_up: false, ..PLAIN } };
    }
    let metric = pick.one(METRICS);
    selector(pick, &metric)
}

/// A selector of this metric.
pub fn selector(pick: &mut Pick, metric: &Metric) -> Vector {
    let text = format!("{}{}{}", metric.name, matchers(pick, metric), modifier(pick));
    Vector { text, labels: metric.labels.iter().map(|(name, _)| *name).collect(), values: metric.values }
}

/// Conditions on the labels of a metric, or none.
pub fn matchers(pick: &mut Pick, metric: &Metric) -> String {
    let count = [0, 0, 1, 1, 2][pick.below(5)];
    let parts: Vec<String> = (0..count).map(|_| matcher(pick, metric)).collect();
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

fn matcher(pick: &mut Pick, metric: &Metric) -> String {
    if pick.chance(8) {
        let other = [
            "tenant_id=\"default-tenant\"",
            "replica!=\"a\"",
            "nosuch=\"\"",
            "nosuch!~\".+\"",
            "replica=~\"[a-c]\"",
        ];
        return pick.one(&other).to_owned();
    }
    let (name, values) = pick.one(metric.labels);
    let value = pick.one(values);
    // A dot stands for what means something in a regular expression.
    let as_pattern = |value: &str| value.replace(['.', '+', '°'], ".");
    match pick.below(10) {
        0..4 => format!("{name}=\"{value}\""),
        4..6 => format!("{name}!=\"{value}\""),
        6 => format!("{name}=~\"{}|{}\"", as_pattern(value), as_pattern(pick.one(values))),
        7 => format!("{name}!~\"(?i:{})\"", as_pattern(value).to_uppercase()),
        8 => format!(
            "{name}=~\"{}\"",
            pick.one(&[".+", ".*", "", "[a-d].*", "[^0-9]+", "z[12]|s[0-4]?", ".{1,4}", "\\\\w+:1"])
        ),
        _ => format!("{name}!~\"{}\"", pick.one(&["", "a.*", "[^a-z].*", "nosuch", ".*[05]", "(x|1|hall)"])),
    }
}

/// The time of a selector's samples, which is not that of 2.42 where it has an offset and `@`.
fn timestamp(pick: &mut Pick, metric: &Metric) -> String {
    loop {
        let text = selector(pick, metric).text;
        if !(text.contains(" @ ") && text.contains(" offset ")) {
            return format!("timestamp({text})");
        }
    }
}

/// `offset` or `@` or both, or mostly nothing.
pub fn modifier(pick: &mut Pick) -> String {
    let (offset, at) = (pick.one(&OFFSETS), pick.one(&ATS));
    match pick.below(20) {
        0..4 => format!(" offset {offset}"),
        4..6 => format!(" @ {at}"),
        6 => format!(" @ {at} offset {offset}"),
        _ => String::new(),
    }
}

/// Some of the labels, sometimes one that is not there.
pub fn labels_of(pick: &mut Pick, labels: &[&'static str]) -> Vec<&'static str> {
    let mut found: Vec<_> = labels.iter().copied().filter(|_| pick.chance(45)).collect();
    if pick.chance(8) {
        found.push(pick.one(&["nosuch", "replica", "__name__", "job"]));
    }
    found
}

fn aggregate(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    if pick.chance(20) {
        return top(pick);
    }
    let inner = vector(pick, depth - 1, place);
    let values = inner.values;
    let mut choices = vec![("min", values), ("max", values), ("count", PLAIN), ("group", PLAIN)];
    if values.exact_sums {
        choices.extend([("sum", values); 4]);
    } else if values.adds_up {
        choices.extend([("sum", values.rounded()); 4]);
    }
    if values.adds_up {
        choices.extend([("avg", values.rounded()); 2]);
    }
    if values.adds_up && values.exact_sums && values.finite {
        choices.extend([("stddev", values.rounded()), ("stdvar", values.rounded())]);
    }
    if values.finite {
        choices.push(("quantile", Values { finite: false, ..values.rounded() }));
    }
    if values.same_bits {
        choices.push(("count_values", PLAIN));
    }
    let (name, values) = pick.one(&choices);
    let parameter = match name {
        "quantile" => format!("{}, ", pick.one(&["0", "0.25", "0.5", "0.9", "1", "-1", "2", "NaN"])),
        "count_values" => format!("\"{}\", ", pick.one(&["value", "value", "job", "room"])),
        _ => String::new(),
    };
    let named = labels_of(pick, &inner.labels);
    let list = named.join(", ");
    let (grouping, labels) = match pick.below(5) {
        0 => (String::new(), Vec::new()),
        1 | 2 => (format!(" by ({list})"), named),
        _ => {
            let kept = inner.labels.iter().copied().filter(|label| !named.contains(label)).collect();
            (format!(" without ({list})"), kept)
        }
    };
    let text = match pick.below(3) {
        0 => format!("{name}({parameter}{}){grouping}", inner.text),
        _ => format!("{name}{grouping} ({parameter}{})", inner.text),
    };
    Vector { text, labels, values }
}

/// The largest or smallest of values that are all different.
pub fn top(pick: &mut Pick) -> Vector {
    let metrics: Vec<&Metric> = METRICS.iter().filter(|metric| metric.is_distinct).collect();
    let metric = pick.one(&metrics);
    let inner = selector(pick, metric);
    let (name, count) =
        (pick.one(&["topk", "bottomk"]), pick.one(&["0", "1", "2", "3", "7", "100", "2.9", "-1"]));
    let grouping = pick.one(&["", " by (floor)", " without (floor)", " by (nosuch)", " by (room, floor)"]);
    Vector { text: format!("{name}{grouping} ({count}, {})", inner.text), ..inner }
}

fn histogram_quantile(pick: &mut Pick) -> Vector {
    let quantile =
        pick.one(&["0", "0.05", "0.5", "0.77", "0.9", "0.99", "1", "1.5", "-1", "NaN", "time() % 1"]);
    let rates = match pick.below(3) {
        0 => selector(pick, &BUCKETS).text,
        _ => format!("rate({})", range_calls::range(pick, &BUCKETS)),
    };
    let (inner, labels) = match pick.below(4) {
        0 => (rates, vec!["job", "instance"]),
        1 => (format!("sum by (le) ({rates})"), vec![]),
        2 => (format!("sum without (instance) ({rates})"), vec!["job"]),
        _ => (format!("sum by (le, instance) ({rates})"), vec!["instance"]),
    };
    let values = Values { finite: false, ..PLAIN.rounded() };
    Vector { text: format!("histogram_quantile({quantile}, {inner})"), labels, values }
}

fn with_label(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    let inner = vector(pick, depth - 1, place);
    let source = if inner.labels.is_empty() { "replica" } else { pick.one(&inner.labels) };
    let text = &inner.text;
    let text = match pick.below(4) {
        0 => format!(
            "label_join({text}, \"joined\", \"{}\", \"{source}\", \"replica\", \"nosuch\")",
            pick.one(&["-", "", "é"])
        ),
        _ => {
            let (replacement, pattern) = pick.one(&[
                ("$1", "(.*)"),
                ("é-$1-$2", "(.)(.*)"),
                ("$first", "(?P<first>[a-z]).*"),
                ("${1}x", "([0-9.]+)"),
                ("", ".*"),
                ("const", "nosuch"),
                ("$3", "(a)|(b).*"),
            ]);
            format!("label_replace({text}, \"copy\", \"{replacement}\", \"{source}\", \"{pattern}\")")
        }
    };
    let mut labels = inner.labels;
    labels.push("copy");
    Vector { text, labels, values: inner.values }
}

/// A label that is there is replaced. Only where all series have all their samples: 3.x looks for equal label sets over
/// all steps together.
fn relabelled(pick: &mut Pick) -> Vector {
    let steady: Vec<&Metric> = METRICS.iter().filter(|metric| metric.is_steady).collect();
    let metric = pick.one(&steady);
    let inner = if pick.chance(50) { selector(pick, metric) } else { range_calls::of_metric(pick, metric) };
    let (target, source) = (pick.one(&inner.labels), pick.one(&inner.labels));
    let text = &inner.text;
    let text = match pick.below(4) {
        0 => format!("label_join({text}, \"{target}\", \"/\", \"{source}\", \"{target}\")"),
        1 => format!("label_replace({text}, \"__name__\", \"$1_new\", \"{source}\", \"([a-z]+).*\")"),
        2 => format!("label_replace({text}, \"{target}\", \"\", \"\", \"\")"),
        _ => format!("label_replace({text}, \"{target}\", \"<$1>\", \"{source}\", \"(.*?)[0-9a-c]*\")"),
    };
    Vector { text, ..inner }
}

fn math(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    let inner = exact_vector(pick, depth - 1, place);
    let (labels, text) = (inner.labels.clone(), &inner.text);
    let exact = Values { exact_sums: false, adds_up: false, ..inner.values };
    if pick.chance(50) {
        let call = pick.one(&[
            "abs($)",
            "ceil($)",
            "floor($)",
            "sgn($)",
            "sqrt($)",
            "round($)",
            "round($, 5)",
            "round($, 0.25)",
        ]);
        return Vector { text: call.replace('$', text), labels, values: Values { finite: false, ..exact } };
    }
    if inner.values.adds_up && pick.chance(30) {
        let text = format!("{}({text})", pick.one(&["ln", "log2", "log10"]));
        return Vector { text, labels, values: Values { finite: false, ..exact.rounded() } };
    }
    let name = pick.one(&[
        "exp", "deg", "rad", "atan", "asinh", "sinh", "cosh", "tanh", "acosh", "atanh", "asin", "acos",
    ]);
    Vector { text: format!("{name}({text})"), labels, values: Values { finite: false, ..exact.rounded() } }
}

fn other(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    let metric = pick.one(METRICS);
    let labels = metric.labels.iter().map(|(name, _)| *name).collect();
    match pick.below(7) {
        0 => {
            let inner = any_selector(pick);
            let text = if pick.chance(50) { "nosuch{job=\"x\",zone=~\"y\"}".to_owned() } else { inner.text };
            Vector { text: format!("absent({text})"), labels: Vec::new(), values: PLAIN }
        }
        1 => {
            let window = range_calls::range(pick, &metric);
            Vector { text: format!("absent_over_time({window})"), labels: Vec::new(), values: PLAIN }
        }
        2 => {
            let text = format!("vector({})", scalar(pick));
            Vector {
                text,
                labels: Vec::new(),
                values: Values { finite: false, adds_up: false, exact_sums: false, ..PLAIN },
            }
        }
        3 => Vector { text: timestamp(pick, &metric), labels, values: Values { exact_sums: false, ..PLAIN } },
        4 => {
            let inner = vector(pick, depth - 1, place);
            let call = pick.one(&[
                "clamp($, 5, 20)",
                "clamp($, 3, 1)",
                "clamp_min($, 2)",
                "clamp_max($, 1e6)",
                "clamp_max($, NaN)",
                "clamp($, -Inf, time())",
            ]);
            let values = Values { exact_sums: false, finite: false, ..inner.values };
            Vector { text: call.replace('$', &inner.text), labels: inner.labels, values }
        }
        5 => {
            let name = pick.one(&[
                "hour",
                "minute",
                "month",
                "year",
                "day_of_week",
                "day_of_month",
                "day_of_year",
                "days_in_month",
            ]);
            Vector { text: format!("{name}({})", timestamp(pick, &metric)), labels, values: PLAIN }
        }
        _ => {
            let name = pick.one(&[
                "hour",
                "minute",
                "month",
                "year",
                "day_of_week",
                "day_of_month",
                "days_in_month",
            ]);
            let argument = pick.one(&["", "vector(time())", "vector(time() + 86400 * 300)", "vector(-1e9)"]);
            Vector { text: format!("{name}({argument})"), labels: Vec::new(), values: PLAIN }
        }
    }
}

/// The result of a subquery, or a raw window, as the top of a query. Where a subquery has no step and all in it is
/// fixed by `@`, Prometheus answers with a sample from after its end.
pub fn window(pick: &mut Pick) -> String {
    if pick.chance(50) {
        let metric = pick.one(METRICS);
        return range_calls::range(pick, &metric);
    }
    loop {
        let inner = vector(pick, 1, Place::Subquery);
        let text = Window::of(pick, &inner, Place::Outside).text;
        if !text.contains("3m:5m") {
            return text;
        }
    }
}
