//! The questions: which expression, at which times.

use clap::ValueEnum;

use super::client::Question;
use super::data::{Data, pod_name};

/// How far back a range query goes, if there is so much data.
const RANGE_MS: i64 = 3 * 3600 * 1000;

/// Stands for as many names of pods as a matcher has alternatives.
const PODS: &str = "$pods";

/// Alternatives of the regular expression.
const ALTERNATIVES: u64 = 10_000;

/// Which questions are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// What dashboards ask: nine queries, each over thousands of series and hours.
    Nine,
    /// What hurts at a million series: everything at once, label values, long regular expressions.
    Wide,
}

/// For which times a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// At the end of the data.
    Instant,
    /// Over the last three hours of it, with a step in seconds.
    Range(u64),
    /// The values of a label, over all of it.
    LabelValues,
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Its name in tables and JSON. It never changes.
    pub name: &'static str,
    /// PromQL, or the name of a label.
    pub text: &'static str,
    /// When.
    pub shape: Shape,
}

const fn query(name: &'static str, shape: Shape, text: &'static str) -> Query {
    Query { name, text, shape }
}

const NINE: [Query; 9] = [
    query("rate, instant", Shape::Instant, "sum by (namespace) (rate(pod_http_requests_total[5m]))"),
    query("rate, 60 s", Shape::Range(60), "sum by (namespace) (rate(pod_http_requests_total[5m]))"),
    query("rate, 15 s", Shape::Range(15), "sum by (namespace) (rate(pod_http_requests_total[5m]))"),
    query("average, 15 s", Shape::Range(15), "avg by (node) (pod_memory_working_set_bytes)"),
    query("rate of 1 h, 60 s", Shape::Range(60), "sum by (job) (rate(pod_cpu_seconds_total[1h]))"),
    query("topk, 60 s", Shape::Range(60), "topk(10, rate(pod_network_receive_bytes_total[5m]))"),
    query(
        "division, 60 s",
        Shape::Range(60),
        "sum by (node) (rate(pod_http_errors_total[5m])) / sum by (node) (rate(pod_http_requests_total[5m]))",
    ),
    query("maximum of 30 m, 60 s", Shape::Range(60), "max_over_time(pod_memory_working_set_bytes[30m])"),
    query("count by pod, instant", Shape::Instant, r#"count by (pod) ({__name__=~"pod_.+"})"#),
];

const WIDE: [Query; 4] = [
    query("count of all", Shape::Instant, r#"count by (job) ({__name__=~".+"})"#),
    query("rate of a tenth", Shape::Instant, "sum(rate(pod_http_requests_total[1h]))"),
    query("label values", Shape::LabelValues, "session"),
    query("10,000 alternatives", Shape::Instant, r#"count by (job) (pod_connections{pod=~"$pods"})"#),
];

impl Group {
    /// Its questions.
    pub fn queries(self) -> &'static [Query] {
        match self {
            Group::Nine => &NINE,
            Group::Wide => &WIDE,
        }
    }
}

impl Query {
    /// What is sent.
    pub fn question(&self, data: &Data) -> Question {
        let (begin_ms, end_ms) = (data.begin_ms, data.end_ms());
        let text = self.text.replace(PODS, &alternatives(data));
        // VictoriaMetrics would else answer from what it had cached, and not for the time that was asked for.
        let no_cache = ("nocache", "1".to_owned());
        match self.shape {
            Shape::Instant => {
                let parameters = vec![("query", text), ("time", seconds(end_ms)), no_cache];
                Question::post("/api/v1/query", parameters)
            }
            Shape::Range(step_s) => {
                let start_ms = begin_ms.max(end_ms - RANGE_MS);
                let parameters = vec![
                    ("query", text),
                    ("start", seconds(start_ms)),
                    ("end", seconds(end_ms)),
                    ("step", step_s.to_string()),
                    no_cache,
                ];
                Question::post("/api/v1/query_range", parameters)
            }
            Shape::LabelValues => {
                let parameters = vec![("start", seconds(begin_ms)), ("end", seconds(end_ms))];
                Question::get(&format!("/api/v1/label/{text}/values"), parameters)
            }
        }
    }
}

/// Names of pods, spread over all of them; as many as there are, if those are fewer.
fn alternatives(data: &Data) -> String {
    let pods = data.whole_pods();
    let count = pods.min(ALTERNATIVES);
    let names: Vec<String> = (0..count).map(|index| pod_name(index * pods / count)).collect();
    names.join("|")
}

/// Milliseconds as the API takes them.
pub fn seconds(time_ms: i64) -> String {
    format!("{}.{:03}", time_ms.div_euclid(1000), time_ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::data::tests::{data, is_sent};
    use super::*;

    #[test]
    fn every_query_has_a_name_of_its_own_and_asks_for_metrics_that_are_sent() {
        let queries: Vec<&Query> = NINE.iter().chain(&WIDE).collect();
        let names: HashSet<&str> = queries.iter().map(|query| query.name).collect();
        assert_eq!(names.len(), queries.len());
        for query in queries {
            let words = query.text.split(|char: char| !(char.is_alphanumeric() || char == '_'));
            // The regular expression `pod_.+` is no name.
            for name in words.filter(|word| word.starts_with("pod_") && *word != "pod_") {
                assert!(is_sent(name), "{}: {name}", query.name);
            }
        }
    }

    #[test]
    fn a_range_has_three_hours_or_all_that_there_is() {
        let parameter = |question: &Question, name: &str| {
            question.parameters().iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
        };
        let short = NINE[1].question(&data(200));
        assert_eq!(parameter(&short, "start").as_deref(), Some("1770000000.000"));
        assert_eq!(parameter(&short, "end").as_deref(), Some("1770000600.000"));
        let long = Data { rounds: 960, ..data(200) };
        assert_eq!(parameter(&NINE[1].question(&long), "start").as_deref(), Some("1770003600.000"));
    }

    #[test]
    fn the_long_expression_names_ten_thousand_pods_once_each() {
        let names = alternatives(&data(1_000_000));
        assert_eq!(names.split('|').collect::<HashSet<_>>().len(), 10_000);
        assert_eq!(alternatives(&data(50)).split('|').count(), 5);
        assert_eq!(alternatives(&data(5)), "");
    }
}
