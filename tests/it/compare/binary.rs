//! Operators between a vector and a number, and between two vectors.

use super::grammar::{Place, Vector, labels_of, selector, vector};
use super::metrics::{BUCKETS, ERRORS, JOB_INFO, METRICS, PLAIN, REQUESTS, SAME_LABELS, TEMPERATURE, Values};
use super::pick::Pick;
use super::range_calls;

/// An operator between a vector and a number.
pub fn with_scalar(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    let inner = vector(pick, depth - 1, place);
    let (text, labels) = (&inner.text, inner.labels.clone());
    let rounded = Values { exact_sums: false, ..inner.values };
    let signs = Values { adds_up: false, ..rounded };
    if !inner.values.same_bits || pick.chance(40) {
        let number = pick.one(&["2", "0.25", "1e3", "7", "0x1F", "Inf", "pi()"]);
        let finite = Values { finite: false, ..rounded };
        return match pick.below(4) {
            0 => Vector { text: format!("({text} * {number})"), labels, values: finite },
            1 => Vector { text: format!("({text} / {number})"), labels, values: finite },
            2 if inner.values.finite => Vector {
                text: format!("({number} / {text})"),
                labels,
                values: Values { adds_up: false, ..finite },
            },
            _ => Vector { text: format!("({text} ^ 2)"), labels, values: finite.rounded() },
        };
    }
    let scalar = scalar(pick);
    match pick.below(10) {
        0 => {
            Vector { text: format!("({text} - {scalar})"), labels, values: Values { finite: false, ..signs } }
        }
        1 => {
            Vector { text: format!("({scalar} - {text})"), labels, values: Values { finite: false, ..signs } }
        }
        2 => {
            Vector { text: format!("({text} % {scalar})"), labels, values: Values { finite: false, ..signs } }
        }
        3 => Vector { text: format!("-{text}"), labels, values: signs },
        4 => Vector { text: format!("({text} + 1)"), labels, values: rounded },
        5 | 6 => {
            let operator = pick.one(&["==", "!=", ">", "<", ">=", "<="]);
            Vector { text: format!("({text} {operator} bool {scalar})"), labels, values: PLAIN }
        }
        _ => {
            let operator = pick.one(&["==", "!=", ">", "<", ">=", "<="]);
            let number = pick.one(&["0", "20", "1.5", "1000200", "-1", "NaN", "+Inf"]);
            let sides = if pick.chance(70) { [text.as_str(), number] } else { [number, text.as_str()] };
            let values = inner.values;
            Vector { text: format!("({} {operator} {})", sides[0], sides[1]), labels, values }
        }
    }
}

/// A number that is the same in both to the last bit.
pub fn scalar(pick: &mut Pick) -> String {
    match pick.below(8) {
        0 => "time()".to_owned(),
        1 => format!("scalar({})", selector(pick, &TEMPERATURE).text),
        2 => "scalar(job_info{job=\"api\"})".to_owned(),
        3 => "(time() % 60)".to_owned(),
        4 => "(1 > bool 2)".to_owned(),
        _ => pick.one(&["0", "1", "20", "-3.5", "1e6", "NaN", "Inf", "-Inf", "0.5"]).to_owned(),
    }
}

/// An operator between vectors, and what the result is like.
fn operator(pick: &mut Pick, left: Values, right: Values) -> (&'static str, Values) {
    let both = left.or(right);
    let result = Values { exact_sums: false, finite: false, ..both };
    let signs = Values { adds_up: false, ..result };
    let mut choices = vec![("*", result)];
    if right.finite {
        choices.push(("/", result)); // The sign of a sum of zeros depends on the version.
    }
    if both.adds_up || both.same_bits {
        choices.push((
            "+",
            Values { exact_sums: both.exact_sums, finite: both.finite && both.adds_up, ..result },
        ));
    }
    if both.same_bits {
        choices.extend([("-", signs), ("%", signs), ("==", left), ("!=", left), (">", left), ("<=", left)]);
        choices.extend([("> bool", PLAIN), ("== bool", PLAIN), ("< bool", PLAIN)]);
    }
    pick.one(&choices)
}

/// An operator between two vectors, mostly of labels that match.
pub fn with_vector(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    match pick.below(10) {
        0..3 => {
            let metric = |name: &str| METRICS.iter().find(|metric| metric.name == name).unwrap();
            let (left, right) = (metric(pick.one(&SAME_LABELS)), metric(pick.one(&SAME_LABELS)));
            let (left, right) = (selector(pick, left), selector(pick, right));
            let matching =
                pick.one(&["", " on (room, floor)", " ignoring (nosuch)", " ignoring (tenant_id)"]);
            join(pick, &left, matching, &right)
        }
        3 | 4 => {
            let (left, right) = (selector(pick, &REQUESTS), selector(pick, &ERRORS));
            let matching = pick.one(&[" on (job, instance) group_left", " ignoring (code) group_left ()"]);
            if pick.chance(50) {
                join(pick, &left, matching, &right)
            } else {
                join(pick, &right, &matching.replace("left", "right"), &left)
            }
        }
        5 => {
            let left = range_calls::of_metric(pick, &REQUESTS);
            let right = selector(pick, &JOB_INFO);
            join(pick, &left, " on (job) group_left (team)", &right)
        }
        6 | 7 => {
            let by = pick.one(&["job", "instance", "job, instance"]);
            let [left, right] = [&REQUESTS, pick.one(&[&ERRORS, &BUCKETS, &REQUESTS])].map(|metric| {
                let inner = if pick.chance(50) {
                    selector(pick, metric)
                } else {
                    range_calls::of_metric(pick, metric)
                };
                let values = if inner.values.exact_sums { inner.values } else { inner.values.rounded() };
                let name = if values.adds_up { "sum" } else { "max" };
                Vector {
                    text: format!("{name} by ({by}) ({})", inner.text),
                    labels: by.split(", ").collect(),
                    values,
                }
            });
            join(pick, &left, "", &right)
        }
        _ => {
            let (left, right) = (vector(pick, depth - 1, place), vector(pick, depth - 1, place));
            let all = [&left.labels[..], &right.labels].concat();
            let labels = labels_of(pick, &all).join(", ");
            let matching = pick.one(&["", " on", " ignoring"]);
            let matching = if matching.is_empty() { String::new() } else { format!("{matching} ({labels})") };
            let group = if matching.is_empty() {
                ""
            } else {
                pick.one(&["", " group_left", " group_right", " group_left (zone)"])
            };
            join(pick, &left, &format!("{matching}{group}"), &right)
        }
    }
}

fn join(pick: &mut Pick, left: &Vector, matching: &str, right: &Vector) -> Vector {
    let (operator, values) = operator(pick, left.values, right.values);
    // Of a comparison the values of the many are those of the right side.
    let values = if matching.contains("group_right") { values.or(right.values) } else { values };
    let many = if matching.contains("group_right") { right } else { left };
    let text = format!("({} {operator}{matching} {})", left.text, right.text);
    Vector { text, labels: many.labels.clone(), values }
}

/// `and`, `or` or `unless`.
pub fn set(pick: &mut Pick, depth: usize, place: Place) -> Vector {
    let (left, right) = (vector(pick, depth - 1, place), vector(pick, depth - 1, place));
    let operator = pick.one(&["and", "or", "unless"]);
    let all = [&left.labels[..], &right.labels].concat();
    let labels = labels_of(pick, &all).join(", ");
    let matching = match pick.below(3) {
        0 => String::new(),
        1 => format!(" on ({labels})"),
        _ => format!(" ignoring ({labels})"),
    };
    let values = if operator == "or" { left.values.or(right.values) } else { left.values };
    let values = if operator == "or" { Values { adds_up: false, ..values } } else { values };
    Vector {
        text: format!("({} {operator}{matching} {})", left.text, right.text),
        labels: left.labels,
        values,
    }
}
