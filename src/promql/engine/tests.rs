//! Queries from text to answer, over a source in memory.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use annulus_shards::chunk::{Encoding, XorAppender};
use annulus_shards::{Labels, Matcher, STALE_NAN_BITS};

use super::*;
use crate::promql::parser::Features;
use crate::promql::value::Place;
use crate::source::{ChunkRef, SourceFuture};

/// The value that ends a series.
pub(super) const STALE: f64 = f64::from_bits(STALE_NAN_BITS);

/// Series with one sample every ten seconds from time zero, in chunks of seven.
#[derive(Debug, Default)]
pub(super) struct Memory {
    series: Vec<SeriesChunks>,
    /// Answers never.
    hangs: bool,
}

impl Memory {
    pub(super) fn add(&mut self, labels: &[(&str, &str)], values: &[f64]) -> &mut Memory {
        let samples: Vec<(i64, f64)> =
            values.iter().enumerate().map(|(index, value)| (index as i64 * 10_000, *value)).collect();
        let chunk = |samples: &[(i64, f64)]| {
            let mut appender = XorAppender::default();
            for (time_ms, value) in samples {
                appender.append(*time_ms, *value);
            }
            let (min_ms, max_ms) = (samples[0].0, samples[samples.len() - 1].0);
            let bytes = appender.to_bytes().into();
            ChunkRef { min_ms, max_ms, encoding: Encoding::Xor, bytes, replica: 0 }
        };
        let chunks = samples.chunks(7).map(chunk).collect();
        self.series.push(SeriesChunks { labels: Labels::from_pairs(labels.iter().copied()), chunks });
        self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        self
    }
}

impl Source for Memory {
    fn select<'a>(&'a self, request: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>> {
        let matches = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
        };
        let series = self.series.iter().filter(|series| matches(&series.labels)).cloned().collect();
        let hangs = self.hangs;
        Box::pin(async move {
            if hangs {
                pending::<()>().await;
            }
            Ok::<_, SourceError>(series)
        })
    }

    fn label_names<'a>(&'a self, _: Vec<Vec<Matcher>>, _: i64, _: i64) -> SourceFuture<'a, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn label_values<'a>(
        &'a self,
        _: String,
        _: Vec<Vec<Matcher>>,
        _: i64,
        _: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn instant_with(
    memory: Memory,
    query: &str,
    time_s: i64,
    options: &QueryOptions,
) -> Result<QueryAnswer, QueryError> {
    block_on(Engine::new(2).instant(Arc::new(memory), query, time_s * 1000, options))
}

/// The answer of an instant query as `{labels} value` lines.
fn instant(memory: Memory, query: &str, time_s: i64) -> Vec<String> {
    let answer = instant_with(memory, query, time_s, &QueryOptions::default());
    match answer.unwrap_or_else(|error| panic!("{query}: {error}")).value {
        QueryValue::Vector(samples) => {
            samples.iter().map(|s| format!("{:?} {}", s.labels, s.value.as_float().unwrap())).collect()
        }
        QueryValue::Scalar { value, .. } => vec![value.to_string()],
        QueryValue::String { value, .. } => vec![value],
        QueryValue::Matrix(matrix) => {
            matrix.iter().map(|series| format!("{:?} {:?}", series.labels, series.points)).collect()
        }
    }
}

fn range_with(memory: Memory, query: &str, threads: usize) -> Result<QueryAnswer, QueryError> {
    let options = QueryOptions::default();
    block_on(Engine::new(threads).range(Arc::new(memory), query, 0, 60_000, 20_000, &options))
}

/// The answer of a range query from 0 to 60 s in steps of 20 s.
fn range(memory: Memory, query: &str) -> Vec<String> {
    let QueryValue::Matrix(matrix) = range_with(memory, query, 2).unwrap().value else {
        panic!("a range query answers with a matrix")
    };
    let points = |points: &[(i64, f64)]| {
        points
            .iter()
            .map(|(time_ms, value)| format!("{value}@{}", time_ms / 1000))
            .collect::<Vec<_>>()
            .join(" ")
    };
    matrix.iter().map(|series| format!("{:?} {}", series.labels, points(&series.points))).collect()
}

fn counters() -> Memory {
    let mut memory = Memory::default();
    memory
        .add(&[("__name__", "c_total"), ("job", "a")], &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
        .add(&[("__name__", "c_total"), ("job", "b")], &[0.0, 20.0, 40.0, 5.0, 25.0, 45.0, 65.0])
        .add(&[("__name__", "g"), ("job", "a"), ("zone", "x")], &[1.0, 2.0, STALE, 4.0, 5.0, 6.0, 7.0]);
    memory
}

#[test]
fn selectors_keep_names_and_functions_drop_them() {
    assert_eq!(instant(counters(), "g", 15), [r#"{"__name__": "g", "job": "a", "zone": "x"} 2"#]);
    assert_eq!(instant(counters(), "-g", 10), [r#"{"job": "a", "zone": "x"} -2"#]);
    assert_eq!(instant(counters(), "g", 25), [""; 0]);
    assert_eq!(instant(counters(), r#"rate(c_total{job="a"}[30s])"#, 60), [r#"{"job": "a"} 1"#]);
}

#[test]
fn ranges_are_open_at_their_start() {
    assert_eq!(instant(counters(), "count_over_time(g[20s])", 40), [r#"{"job": "a", "zone": "x"} 2"#]);
    assert_eq!(
        instant(counters(), "g[20s]", 20),
        [r#"{"__name__": "g", "job": "a", "zone": "x"} [(10000, 2.0)]"#]
    );
}

#[test]
fn each_step_of_a_range_query_has_its_own_value() {
    assert_eq!(range(counters(), "g * 2"), [r#"{"job": "a", "zone": "x"} 2@0 10@40 14@60"#]);
    assert_eq!(range(counters(), "sum(c_total)"), ["{} 0@0 60@20 65@40 125@60"]);
    assert_eq!(range(counters(), "time()"), ["{} 0@0 20@20 40@40 60@60"]);
    assert_eq!(
        range(counters(), r#"c_total{job="a"} @ 30"#),
        [r#"{"__name__": "c_total", "job": "a"} 30@0 30@20 30@40 30@60"#]
    );
}

#[test]
fn subqueries_evaluate_at_multiples_of_their_step() {
    assert_eq!(
        instant(counters(), r#"sum_over_time(c_total{job="a"}[30s:10s])"#, 45),
        [r#"{"job": "a"} 90"#]
    );
    assert_eq!(instant(counters(), "max_over_time(sum(c_total)[60s:20s])", 60), ["{} 125"]);
    assert_eq!(instant(counters(), "count_over_time(vector(time())[1m:20s])", 60), ["{} 3"]);
}

#[test]
fn vectors_are_matched_by_their_labels() {
    assert_eq!(
        instant(counters(), "g * on (job) group_left c_total", 60),
        [r#"{"job": "a", "zone": "x"} 420"#]
    );
    assert_eq!(
        instant(counters(), "c_total * on (job) group_right (zone) c_total", 60),
        [r#"{"job": "a"} 3600"#, r#"{"job": "b"} 4225"#]
    );
    assert_eq!(
        instant(counters(), "c_total and on (job) g", 60),
        [r#"{"__name__": "c_total", "job": "a"} 60"#]
    );
    assert_eq!(
        instant(counters(), "c_total unless on (job) g", 60),
        [r#"{"__name__": "c_total", "job": "b"} 65"#]
    );
    assert_eq!(instant(counters(), "g or on (job) c_total", 60).len(), 2);
    assert_eq!(instant(counters(), "c_total > 60", 60), [r#"{"__name__": "c_total", "job": "b"} 65"#]);
    assert_eq!(instant(counters(), "60 < bool c_total", 60), [r#"{"job": "a"} 0"#, r#"{"job": "b"} 1"#]);
}

fn error(query: &str) -> String {
    instant_with(counters(), query, 60, &QueryOptions::default()).unwrap_err().to_string()
}

#[test]
fn ambiguous_matches_are_errors() {
    assert_eq!(
        error("g + on () c_total"),
        "found duplicate series for the match group {} on the right hand-side of the operation: \
         [{__name__=\"c_total\", job=\"a\"}, {__name__=\"c_total\", job=\"b\"}];many-to-many matching not \
         allowed: matching labels must be unique on one side"
    );
    assert_eq!(
        error("c_total + on () g"),
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    );
    assert_eq!(
        error("{__name__=~'g|c_total', job='a'} * on (job) group_left (zone) sum by (job) (g)"),
        "multiple matches for labels: grouping labels must ensure unique matches"
    );
    assert_eq!(
        error(r#"ceil(label_replace({job="a"}, "zone", "", "zone", ".*"))"#),
        "vector cannot contain metrics with the same labelset"
    );
    assert_eq!(
        error(r#"sum(rate(label_replace({job="a"}, "zone", "", "zone", ".*")[1m:10s]))"#),
        "vector cannot contain metrics with the same labelset"
    );
}

#[test]
fn names_may_go_late() {
    let options = QueryOptions { delayed_name_removal: true, ..QueryOptions::default() };
    let query = r#"label_replace(rate(c_total{job="a"}[1m]), "was", "$1", "__name__", "(.+)")"#;
    let answer = instant_with(counters(), query, 60, &options).unwrap();
    let QueryValue::Vector(samples) = answer.value else { panic!("a vector") };
    assert_eq!(samples[0].labels, Labels::from_pairs([("job", "a"), ("was", "c_total")]));
}

#[test]
fn topk_is_ordered_and_sort_has_no_say_in_range_queries() {
    assert_eq!(
        instant(counters(), "topk(2, c_total)", 60),
        [r#"{"__name__": "c_total", "job": "b"} 65"#, r#"{"__name__": "c_total", "job": "a"} 60"#]
    );
    assert_eq!(instant(counters(), "sort(-c_total)", 60), [r#"{"job": "b"} -65"#, r#"{"job": "a"} -60"#]);
    assert_eq!(instant(counters(), r#"count_values("v", c_total > bool 0)"#, 60), [r#"{"v": "1"} 2"#]);
    let answer = range_with(counters(), "sort(c_total)", 1).unwrap();
    assert_eq!(
        answer.warnings,
        [
            "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:1)"
        ]
    );
}

#[test]
fn gauges_under_rate_are_told() {
    let answer = range_with(counters(), "sum(rate(g[1m]))", 2).unwrap();
    assert_eq!(
        answer.infos,
        [
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"g\" (1:10)"
        ]
    );
}

#[test]
fn absence_is_told_with_the_labels_that_are_certain() {
    assert_eq!(instant(counters(), r#"absent(nothing{job="a", x!="y"})"#, 60), [r#"{"job": "a"} 1"#]);
    assert_eq!(instant(counters(), "absent(g)", 60), [""; 0]);
    assert_eq!(range(counters(), "absent_over_time(g[5s])"), ["{} 1@20"]);
}

#[test]
fn classic_histograms_have_quantiles() {
    let mut memory = Memory::default();
    for (bound, count) in [("1", 4.0), ("2", 8.0), ("+Inf", 10.0)] {
        memory.add(&[("__name__", "h_bucket"), ("le", bound)], &[count]);
    }
    memory.add(&[("__name__", "h_bucket"), ("le", "odd")], &[1.0]);
    let answer =
        instant_with(memory, "histogram_quantile(0.6, h_bucket)", 0, &QueryOptions::default()).unwrap();
    let QueryValue::Vector(samples) = answer.value else { panic!("a vector") };
    assert_eq!((samples.len(), samples[0].value.as_float()), (1, Some(1.5)));
    assert_eq!(
        answer.warnings,
        ["PromQL warning: bucket label \"le\" is missing or has a malformed value of \"odd\" (1:25)"]
    );
}

#[test]
fn parameters_of_range_queries_are_checked() {
    let engine = Engine::new(1);
    let ask = |query: &str, start_ms, end_ms, step_ms| {
        let source = Arc::new(counters());
        block_on(engine.range(source, query, start_ms, end_ms, step_ms, &QueryOptions::default()))
    };
    assert!(matches!(ask("g", 0, 1, 0), Err(QueryError::Parameter { name: "step", .. })));
    assert!(matches!(ask("g", 1, 0, 1), Err(QueryError::Parameter { name: "end", .. })));
    assert!(matches!(ask("g", 0, 11_001, 1), Err(QueryError::Parameter { name: "step", .. })));
    assert!(ask("g", 0, 11_000, 1).is_ok());
    let error = ask("g[1m]", 0, 1, 1).unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid parameter \"query\": invalid expression type \"range vector\" for range query, \
         must be Scalar or instant Vector"
    );
}

#[test]
fn a_query_that_holds_too_much_fails() {
    let options = QueryOptions { samples_max: 13, ..QueryOptions::default() };
    assert!(instant_with(counters(), "sum_over_time(c_total[1h])", 60, &options).is_ok());
    let error = instant_with(counters(), "c_total[1h]", 60, &options).unwrap_err();
    assert!(matches!(error, QueryError::TooManySamples));
    let options = QueryOptions { samples_max: 5, ..QueryOptions::default() };
    let error = instant_with(counters(), "sum_over_time(c_total[1h])", 60, &options).unwrap_err();
    assert!(matches!(error, QueryError::TooManySamples));
}

#[test]
fn a_source_that_hangs_runs_into_the_timeout() {
    let options = QueryOptions { timeout: Duration::from_millis(20), ..QueryOptions::default() };
    let memory = Memory { hangs: true, ..counters() };
    assert!(matches!(instant_with(memory, "g", 60, &options), Err(QueryError::Timeout)));
}

#[test]
fn one_series_with_long_windows_stops_at_its_timeout() {
    let mut memory = Memory::default();
    memory.add(&[("__name__", "m")], &vec![1.0; 30_000]);
    let options = QueryOptions {
        timeout: Duration::from_millis(50),
        features: Features::ALL,
        ..QueryOptions::default()
    };
    let began = Instant::now();
    let engine = Engine::new(1);
    let answer = engine.range(Arc::new(memory), "mad_over_time(m[80h])", 0, 300_000_000, 30_000, &options);
    assert!(matches!(block_on(answer), Err(QueryError::Timeout)));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_long_evaluation_stops_at_its_timeout() {
    let mut memory = Memory::default();
    for series in 0..200 {
        memory.add(&[("__name__", "m"), ("series", &series.to_string())], &[1.0; 360]);
    }
    let options = QueryOptions { timeout: Duration::from_millis(50), ..QueryOptions::default() };
    let began = Instant::now();
    let query = "max_over_time(quantile_over_time(0.5, m[1h:1s])[1h:1s])";
    let result = instant_with(memory, query, 3600, &options);
    assert!(matches!(result, Err(QueryError::Timeout)), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Says how many permits are free when it is dropped.
struct FreeAtEnd(Arc<Semaphore>, std::sync::mpsc::Sender<usize>);

impl Drop for FreeAtEnd {
    fn drop(&mut self) {
        self.1.send(self.0.available_permits()).unwrap();
    }
}

#[test]
fn a_query_counts_as_running_until_its_threads_are_done() {
    let engine = Engine::new(1).with_queries_max(1);
    let (sender, ended) = std::sync::mpsc::channel();
    let place = Place::new(FreeAtEnd(Arc::clone(&engine.running), sender));
    // Nobody waits while the thread reads the query.
    let options = QueryOptions { timeout: Duration::ZERO, place: Some(place), ..QueryOptions::default() };
    let text = r#"label_replace(g, "x", "$1", "y", "a(.*)") + g{job=~"a.*b"}"#.to_owned();
    let query = Query { text, steps: Steps::single(0), end_ms: 0, is_range: false, options };
    let answer = block_on(engine.run(Arc::new(counters()), query));
    assert!(matches!(answer, Err(QueryError::Timeout)));
    assert_eq!(ended.recv().unwrap(), 0, "the thread has not ended yet");
}

#[test]
fn patterns_are_not_compiled_when_the_time_is_up() {
    let query = r#"label_replace(g, "x", "$1", "y", "(")"#;
    let late = QueryOptions { timeout: Duration::ZERO, ..QueryOptions::default() };
    let prepared = |options: QueryOptions| {
        let control = Control::new(options.timeout);
        let (text, steps) = (query.to_owned(), Steps::single(0));
        prepare(Query { text, steps, end_ms: 0, is_range: false, options }, &control).err().unwrap()
    };
    assert!(matches!(prepared(late), QueryError::Timeout));
    let error = prepared(QueryOptions::default()).to_string();
    assert_eq!(error, "invalid regular expression in label_replace(): (");
}

#[test]
fn the_patterns_of_a_query_may_take_only_so_much_together() {
    let groups = "(a)".repeat(30);
    let query = |count: usize| {
        let part = |number| format!(r#"label_replace(g, "x", "$1", "y", "{groups}{number}")"#);
        (0..count).map(part).collect::<Vec<_>>().join(" or ")
    };
    assert!(instant_with(counters(), &query(100), 60, &QueryOptions::default()).is_ok());
    let error = instant_with(counters(), &query(300), 60, &QueryOptions::default()).unwrap_err();
    assert!(error.to_string().contains("take too much memory together"), "{error}");
}

#[test]
fn series_of_short_life_are_cheap_in_set_operators() {
    let mut memory = Memory::default();
    for series in 0..300 {
        let values: Vec<f64> = (0..300).map(|step| if step == series { 1.0 } else { STALE }).collect();
        memory.add(&[("__name__", "churn"), ("series", &series.to_string())], &values);
    }
    let (engine, memory) = (Engine::new(1), Arc::new(memory));
    let counted = |query: &str| {
        let options = QueryOptions { samples_max: 3_000, features: Features::ALL, ..QueryOptions::default() };
        let answer = block_on(engine.range(memory.clone(), query, 0, 2_990_000, 10_000, &options));
        let QueryValue::Matrix(matrix) = answer.unwrap().value else { panic!("{query}") };
        matrix[0].points.iter().map(|(_, value)| *value).sum::<f64>()
    };
    assert_eq!(counted("count(churn or vector(1))"), 600.0);
    assert_eq!(counted("count(churn and churn)"), 300.0);
    assert_eq!(counted("sum(churn + on (series) fill (2) churn)"), 600.0);
}

#[test]
fn a_corrupt_chunk_names_its_series() {
    let mut memory = counters();
    let chunk = &mut memory.series[0].chunks[0];
    chunk.bytes.truncate(5);
    let error = instant_with(memory, "sum(c_total)", 0, &QueryOptions::default()).unwrap_err();
    assert!(
        matches!(&error, QueryError::Source(SourceError::Corrupt(text)) if text.contains("c_total")),
        "{error}"
    );
}

#[test]
fn the_deepest_queries_have_an_answer_or_an_error() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}vector(1){}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in
        [("abs(", ")"), ("-(", ")"), ("1 + (", ")"), ("max_over_time(", "[1s:1s])"), ("sum(", ")")]
    {
        let mut answered = 0;
        for depth in [10, 100, 200, 400, 500, 1000, 100_000] {
            match instant_with(counters(), &nested(open, close, depth), 60, &QueryOptions::default()) {
                Ok(_) => answered = depth,
                Err(error) => assert!(matches!(error, QueryError::Parse(_)), "{open} {depth}: {error}"),
            }
        }
        assert!(answered >= 100, "{open} {answered}");
    }
}

#[test]
fn a_panic_is_an_error_of_its_query() {
    let result = block_on(on_own_thread((), |()| -> Result<(), QueryError> { panic!("planted") }));
    assert_eq!(result.unwrap_err().to_string(), "internal error: planted");
    assert!(block_on(on_own_thread((), |()| Ok(()))).is_ok());
}

#[test]
fn the_number_of_threads_does_not_show() {
    let memory = || {
        let mut memory = Memory::default();
        for series in 0..300u32 {
            let values: Vec<f64> = (0..7u32).map(|i| f64::from(series * 31 + i * i) * 0.1).collect();
            let group = (series % 7).to_string();
            memory.add(&[("__name__", "m_total"), ("group", &group), ("s", &series.to_string())], &values);
        }
        memory
    };
    for query in
        ["sum by (group) (rate(m_total[1m]))", "stddev(m_total) / avg(m_total)", "quantile(0.3, m_total)"]
    {
        let one = range_with(memory(), query, 1).unwrap();
        let four = range_with(memory(), query, 4).unwrap();
        assert_eq!(one, four, "{query}");
    }
}

#[test]
fn labels_that_are_copied_to_many_series_count_against_the_budget() {
    let mut memory = Memory::default();
    for index in 0..20 {
        memory.add(&[("__name__", "up"), ("index", &index.to_string())], &[1.0]);
    }
    let long = "x".repeat(500_000);
    let query =
        format!("up * on () group_left (long) label_replace(vector(1), \"long\", \"{long}\", \"\", \"\")");
    let options = QueryOptions { samples_max: 1_000_000, ..QueryOptions::default() };
    let result = instant_with(memory, &query, 0, &options);
    assert!(matches!(result, Err(QueryError::TooManySamples)), "{result:?}");
}

#[test]
fn a_query_of_too_many_selectors_is_refused() {
    let mut terms: Vec<String> = (0..2_000).map(|index| format!("metric_{index}")).collect();
    while terms.len() > 1 {
        terms = terms.chunks(2).map(|pair| format!("({})", pair.join(" + "))).collect();
    }
    let result = instant_with(Memory::default(), &terms[0], 0, &QueryOptions::default());
    assert!(matches!(result, Err(QueryError::Execution(_))), "{result:?}");
    let repeated = vec!["metric"; 400].join(" + ");
    assert!(instant_with(Memory::default(), &repeated, 0, &QueryOptions::default()).is_ok());
}

#[test]
fn all_that_the_selectors_of_a_query_read_has_one_bound() {
    let memory = || {
        let mut memory = Memory::default();
        memory.add(&[("__name__", "up"), ("long", &"x".repeat(10_000))], &[1.0]);
        memory
    };
    let options = QueryOptions { fetch_bytes_max: 25_000, ..QueryOptions::default() };
    assert!(instant_with(memory(), "up + up{a=\"\"}", 0, &options).is_ok());
    let result = instant_with(memory(), "up + up{a=\"\"} + up{b=\"\"}", 0, &options);
    let too_large = QueryError::Source(SourceError::TooLarge { bytes_max: 25_000 });
    assert_eq!(result.unwrap_err().to_string(), too_large.to_string());
}

/// Answers when so many queries wait for it at the same time, and counts the most that ever did.
struct Crowd {
    complete: tokio::sync::Barrier,
    waiting: AtomicUsize,
    waiting_max: AtomicUsize,
}

impl Source for Crowd {
    fn select<'a>(&'a self, _: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>> {
        Box::pin(async move {
            let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            self.waiting_max.fetch_max(waiting, Ordering::Relaxed);
            self.complete.wait().await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            Ok(Vec::new())
        })
    }

    fn label_names<'a>(&'a self, _: Vec<Vec<Matcher>>, _: i64, _: i64) -> SourceFuture<'a, Vec<String>> {
        Box::pin(pending())
    }

    fn label_values<'a>(
        &'a self,
        _: String,
        _: Vec<Vec<Matcher>>,
        _: i64,
        _: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        Box::pin(pending())
    }
}

#[test]
fn as_many_queries_run_as_the_engine_is_told() {
    let options = QueryOptions::default();
    for queries_max in [3, 30] {
        let source = Arc::new(Crowd {
            complete: tokio::sync::Barrier::new(queries_max),
            waiting: AtomicUsize::new(0),
            waiting_max: AtomicUsize::new(0),
        });
        let engine = Engine::new(1).with_queries_max(queries_max);
        // With fewer at a time none would ever be answered.
        let queries = (0..queries_max * 4).map(|_| engine.instant(source.clone(), "up", 0, &options));
        for answer in block_on(futures::future::join_all(queries)) {
            answer.unwrap();
        }
        assert_eq!(source.waiting_max.load(Ordering::Relaxed), queries_max);
    }
}

#[test]
fn hostile_queries_end_in_an_error_within_bounds() {
    let nested = |open: &str, inner: &str, close: &str, count: usize| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    for query in [
        "x".repeat(10 << 20),
        "(".repeat(10 << 20),
        nested("(", "x", ")", 10_000),
        nested("abs(", "x", ")", 10_000),
        nested("sum_over_time(", "x[5m]", "[5m:])", 10_000),
        nested("-", "x", "", 10_000),
        format!("x[{}]", nested("(", "1", ")", 10_000)),
        format!("x[{}1]", "1+".repeat(100_000)),
        format!("{}1", "1+".repeat(100_000)),
        format!("{}1", "1^".repeat(100_000)),
        format!("{}x", "x or ".repeat(100_000)),
        format!("{}x", "x + fill(1) ".repeat(40_000)),
    ] {
        let start: String = query.chars().take(30).collect();
        match instant_with(Memory::default(), &query, 0, &QueryOptions::default()) {
            Err(QueryError::Parse(error)) => assert!(error.message.len() < 2100, "{start}"),
            other => panic!("{start}: {:?}", other.map(|answer| answer.value)),
        }
    }
}

#[test]
fn the_deepest_queries_that_parse_are_evaluated() {
    let options = QueryOptions { features: Features::ALL, ..QueryOptions::default() };
    for query in [
        format!("{}c_total{}", "abs(".repeat(250), ")".repeat(250)),
        format!("{}c_total{}", "sum by (job) (".repeat(250), ")".repeat(250)),
        format!("{}c_total", "c_total or ".repeat(500)),
        format!("{}c_total", "c_total * fill(1) ".repeat(500)),
        format!("{}c_total[1m]{}", "sum_over_time(".repeat(200), ")[1m:1m]".repeat(199) + ")"),
        format!("c_total[{}1]", "1+".repeat(500)),
        format!("c_total offset {}step(){}", "-(".repeat(80), ")".repeat(80)),
        format!("{}c_total{}", "info(".repeat(250), ", {})".repeat(250)),
    ] {
        let start: String = query.chars().take(30).collect();
        let answer = instant_with(counters(), &query, 60, &options);
        assert!(answer.is_ok(), "{start}: {answer:?}");
    }
}
