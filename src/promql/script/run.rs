//! Runs the commands of a script.

use std::collections::BTreeMap;

use annulus_shards::labels::METRIC_NAME;
use annulus_shards::{Labels, LabelsBuilder};

use super::backend::Backend;
use super::command::{Command, CommandKind, Eval, Expected, Load, Times, parse_script};
use super::histogram::from_classic;
use super::series::{Point, SeriesLine};
use super::{compare, variants};
use crate::promql::ast::Expr;
use crate::promql::parser;
use crate::promql::value::{QueryAnswer, QueryError, SampleValue};

/// What became of the commands of a script.
#[derive(Debug, Default)]
pub struct Report {
    /// How many `eval`s gave what they should.
    pub passed_count: usize,
    /// Those that did not, and lines that could not be read.
    pub failed: Vec<Failed>,
    /// Those that need what the product does not have.
    pub skipped: Vec<Skipped>,
}

/// A command that failed.
#[derive(Debug)]
pub struct Failed {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its query; empty if it is no `eval`.
    pub query: String,
    /// What differs.
    pub difference: String,
}

/// An `eval` that was not run.
#[derive(Debug)]
pub struct Skipped {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its query.
    pub query: String,
    /// Why.
    pub reason: String,
}

const START_TIMESTAMPS: &str = "start timestamps are not supported";

/// How an evaluator says that it lacks a function that the language has.
const MISSING_FUNCTION: &str = "this version does not have the function";

/// Runs a script against a backend that holds no samples.
pub fn run(text: &str, backend: &mut dyn Backend) -> Report {
    let mut runner = Runner { backend, absent: Vec::new(), report: Report::default() };
    for command in parse_script(text) {
        runner.run_command(command);
    }
    runner.report
}

struct Runner<'a> {
    backend: &'a mut dyn Backend,
    /// Series that a script loads, but the backend cannot hold, and why. A query that selects one is skipped.
    absent: Vec<(Labels, &'static str)>,
    report: Report,
}

impl Runner<'_> {
    fn run_command(&mut self, command: Command) {
        let line = command.line;
        match command.kind {
            CommandKind::Clear => {
                self.backend.clear();
                self.absent.clear();
            }
            CommandKind::Load(load) => self.load(&load),
            CommandKind::Eval(eval) => {
                if let Some(reason) = self.skip_reason(&eval) {
                    self.report.skipped.push(Skipped { line, query: eval.query, reason });
                    return;
                }
                match self.evaluate(&eval) {
                    Ok(()) => self.report.passed_count += 1,
                    Err(difference) if difference.contains(MISSING_FUNCTION) => {
                        self.report.skipped.push(Skipped { line, query: eval.query, reason: difference });
                    }
                    Err(difference) => {
                        self.report.failed.push(Failed { line, query: eval.query, difference });
                    }
                }
            }
            CommandKind::Malformed(reason) => {
                self.report.failed.push(Failed { line, query: String::new(), difference: reason });
            }
        }
    }

    fn load(&mut self, load: &Load) {
        for series in &load.series {
            if series.start_timestamps {
                self.absent.push((series.labels.clone(), START_TIMESTAMPS));
                continue;
            }
            let samples = samples_of(series, load.step_ms);
            self.backend.load(&series.labels, &samples);
        }
        if load.with_nhcb {
            for (labels, samples) in custom_bucket_histograms(load) {
                self.backend.load(&labels, &samples);
            }
        }
    }

    fn skip_reason(&self, eval: &Eval) -> Option<String> {
        let expr = parser::parse(&eval.query).ok()?;
        let selectors = variants::selectors(&expr);
        self.absent.iter().find_map(|(labels, reason)| {
            let selects = selectors.iter().any(|selector| {
                let value = |name: &str| labels.get(name).unwrap_or_default();
                selector.matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)))
            });
            selects.then(|| (*reason).to_owned())
        })
    }

    fn evaluate(&self, eval: &Eval) -> Result<(), String> {
        let answer = match eval.times {
            Times::Instant(time_ms) => self.backend.instant(&eval.query, time_ms),
            Times::Range(steps) => {
                self.backend.range(&eval.query, steps.start_ms, steps.end_ms, steps.step_ms)
            }
        };
        let answer = match (answer, &eval.expected) {
            (Ok(answer), _) => answer,
            // Not even a query that is to fail has then failed for its own reason.
            (Err(QueryError::Execution(reason)), _) if reason.contains(MISSING_FUNCTION) => {
                return Err(reason);
            }
            (Err(error), Expected::Failure(pattern)) => {
                let text = error_text(&error);
                return match pattern.matches(&text) {
                    true => Ok(()),
                    false => Err(format!("expected an error with {pattern}, got {text:?}")),
                };
            }
            (Err(error), _) => return Err(format!("the query failed: {}", error_text(&error))),
        };
        compare_answer(eval, &answer)?;
        if let (Times::Instant(time_ms), Ok(expr)) = (eval.times, parser::parse(&eval.query)) {
            self.evaluate_in_range(eval, &expr, time_ms)?;
            self.evaluate_pinned(eval, &expr, time_ms)?;
        }
        Ok(())
    }

    /// The same query as a range query has the same value at the step of the same time.
    fn evaluate_in_range(&self, eval: &Eval, expr: &Expr, time_ms: i64) -> Result<(), String> {
        const STEP_MS: i64 = 60_000;
        let same_in_range = match &eval.expected {
            Expected::Scalar(_) => true,
            Expected::Series { ordered, range_vector, .. } => !ordered && range_vector.is_none(),
            Expected::Failure(_) | Expected::String(_) => false,
        };
        if !same_in_range || variants::depends_on_range(expr) {
            return Ok(());
        }
        match self.backend.range(&eval.query, time_ms - STEP_MS, time_ms + STEP_MS, STEP_MS) {
            Ok(answer) => compare::compare_at(&eval.expected, time_ms, &answer.value)
                .map_err(|difference| format!("as a range query: {difference}")),
            Err(error) => Err(format!("as a range query: the query failed: {}", error_text(&error))),
        }
    }

    /// The same query with its time written into it has the same value whenever it is evaluated.
    fn evaluate_pinned(&self, eval: &Eval, expr: &Expr, time_ms: i64) -> Result<(), String> {
        let Some(pinned) = variants::pinned(expr, time_ms) else {
            return Ok(());
        };
        let query = pinned.to_string();
        let other_times_ms = match time_ms {
            0 => vec![-1000, 0, 1000],
            _ => vec![time_ms.saturating_mul(-10), 0, time_ms / 5, time_ms, time_ms.saturating_mul(10)],
        };
        for time_ms in other_times_ms {
            let context = |difference: String| format!("as {query} at {}s: {difference}", time_ms / 1000);
            let answer = self
                .backend
                .instant(&query, time_ms)
                .map_err(|error| context(format!("the query failed: {}", error_text(&error))))?;
            compare::compare_value(&eval.expected, Times::Instant(time_ms), &answer.value)
                .map_err(context)?;
        }
        Ok(())
    }
}

fn compare_answer(eval: &Eval, answer: &QueryAnswer) -> Result<(), String> {
    compare::compare_value(&eval.expected, eval.times, &answer.value)?;
    compare::compare_annotations(&eval.warnings, &answer.warnings, "warnings")?;
    compare::compare_annotations(&eval.infos, &answer.infos, "infos")
}

/// The text that scripts compare: without what the API puts before a parse error.
fn error_text(error: &QueryError) -> String {
    match error {
        QueryError::Parse(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn samples_of(series: &SeriesLine, step_ms: i64) -> Vec<(i64, SampleValue)> {
    let timed = (0..).zip(&series.points);
    timed
        .filter_map(|(index, point): (i64, _)| {
            let value = match point {
                Point::Value(value) => SampleValue::Float(*value),
                Point::Histogram(one) => SampleValue::Histogram(one.histogram.clone()),
                Point::Gap => return None,
            };
            // Points are bounded by the script's reader, steps by the longest duration.
            Some((index.saturating_mul(step_ms), value))
        })
        .collect()
}

/// What the series of a classic histogram say at one time.
#[derive(Default)]
struct Classic {
    /// Bounds and cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// The native histograms that `load_with_nhcb` adds for the classic ones.
fn custom_bucket_histograms(load: &Load) -> Vec<(Labels, Vec<(i64, SampleValue)>)> {
    let mut found: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for series in load.series.iter().filter(|series| !series.start_timestamps) {
        let Some(labels) = nhcb_labels(&series.labels) else { continue };
        let name = series.labels.metric_name().unwrap_or_default();
        let bound = series.labels.get("le").and_then(|bound| bound.parse::<f64>().ok());
        let times = found.entry(labels).or_default();
        for (time_ms, value) in samples_of(series, load.step_ms) {
            let SampleValue::Float(value) = value else { continue };
            let classic = times.entry(time_ms).or_default();
            if name.ends_with("_count") {
                classic.count = Some(value);
            } else if name.ends_with("_sum") {
                classic.sum = value;
            } else if let Some(bound) = bound {
                classic.buckets.push((bound, value));
            }
        }
    }
    let histogram = |(time_ms, mut classic): (i64, Classic)| {
        classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        classic.buckets.dedup_by_key(|(bound, _)| *bound);
        let histogram = from_classic(&classic.buckets, classic.count, classic.sum)?;
        Some((time_ms, SampleValue::from(histogram)))
    };
    found
        .into_iter()
        .map(|(labels, times)| (labels, times.into_iter().filter_map(histogram).collect()))
        .collect()
}

/// The labels of the native histogram that `load_with_nhcb` adds for a classic one.
fn nhcb_labels(labels: &Labels) -> Option<Labels> {
    let name = labels.metric_name()?;
    let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
    let mut builder = LabelsBuilder::from_labels(labels);
    builder.set(METRIC_NAME, base).remove("le");
    Some(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::value::{QueryValue, VectorSample};

    /// Knows one sample per series, and only queries that are a bare selector, a number or `fail`.
    #[derive(Default)]
    struct FakeBackend(BTreeMap<Labels, (i64, SampleValue)>);

    impl Backend for FakeBackend {
        fn clear(&mut self) {
            self.0.clear();
        }

        fn load(&mut self, labels: &Labels, samples: &[(i64, SampleValue)]) {
            if let Some(last) = samples.last() {
                self.0.insert(labels.clone(), last.clone());
            }
        }

        fn instant(&self, query: &str, time_ms: i64) -> Result<QueryAnswer, QueryError> {
            let value = match parser::parse(query)? {
                Expr::Number { value, .. } => QueryValue::Scalar { timestamp_ms: time_ms, value },
                Expr::String { value, .. } => QueryValue::String { timestamp_ms: time_ms, value },
                Expr::Vector(selector) if selector.matchers[0].value == "fail" => {
                    return Err(QueryError::Execution("it failed".to_owned()));
                }
                Expr::Vector(selector) if selector.matchers[0].value == "lacking" => {
                    let message = "this version does not have the function \"f\"";
                    return Err(QueryError::Execution(message.to_owned()));
                }
                Expr::Vector(selector) => {
                    let matches = |labels: &Labels| {
                        let value = |name: &str| labels.get(name).unwrap_or_default();
                        selector.matchers.iter().all(|m| m.matches(value(&m.name)))
                    };
                    let found = self.0.iter().filter(|(labels, _)| matches(labels));
                    let sample = |(labels, (_, value)): (&Labels, &(i64, SampleValue))| VectorSample {
                        labels: labels.clone(),
                        timestamp_ms: time_ms,
                        value: value.clone(),
                    };
                    QueryValue::Vector(found.map(sample).collect())
                }
                other => panic!("{other:?}"),
            };
            Ok(QueryAnswer { value, warnings: vec!["careful".to_owned()], infos: Vec::new() })
        }

        fn range(&self, query: &str, start: i64, end: i64, step: i64) -> Result<QueryAnswer, QueryError> {
            use crate::promql::value::MatrixSeries;
            let mut series: BTreeMap<Labels, Vec<(i64, SampleValue)>> = BTreeMap::new();
            let mut time_ms = start;
            while time_ms <= end {
                let answer = self.instant(query, time_ms)?;
                match answer.value {
                    QueryValue::Vector(samples) => {
                        for sample in samples {
                            series.entry(sample.labels).or_default().push((time_ms, sample.value));
                        }
                    }
                    QueryValue::Scalar { value, .. } => {
                        series.entry(Labels::empty()).or_default().push((time_ms, value.into()));
                    }
                    other => panic!("{other:?}"),
                }
                time_ms += step;
            }
            let series = series.into_iter().map(|(labels, values)| {
                let mut one = MatrixSeries { labels, points: Vec::new(), histograms: Vec::new() };
                for (time_ms, value) in values {
                    match value {
                        SampleValue::Float(value) => one.points.push((time_ms, value)),
                        SampleValue::Histogram(histogram) => one.histograms.push((time_ms, histogram)),
                    }
                }
                one
            });
            let value = QueryValue::Matrix(series.collect());
            Ok(QueryAnswer { value, warnings: Vec::new(), infos: Vec::new() })
        }
    }

    fn report(text: &str) -> Report {
        run(text, &mut FakeBackend::default())
    }

    const LOAD: &str =
        "load 1m\n  m{a=\"1\"} 1\n  m{a=\"2\"} 2\n  h{a=\"1\"} {{count:1}}\n  s@st -1m\n  s 1\n\n";

    #[test]
    fn right_expectations_pass() {
        for block in [
            "eval instant at 1m m\n  m{a=\"2\"} 2\n  m{a=\"1\"} 1\n",
            "eval instant at 1m h\n  h{a=\"1\"} {{count:1 buckets:[0 0]}}\n",
            "load_with_nhcb 1m\n  c_bucket{le=\"1\",a=\"3\"} 1\n\neval instant at 1m c{a=\"3\"}\n  \
             c{a=\"3\"} {{schema:-53 count:1 buckets:[1] custom_values:[1]}}\n",
            "eval instant at 1m m\n  expect ordered\n  m{a=\"1\"} 1\n  m{a=\"2\"} 2\n",
            "eval instant at 1m nothing\n",
            "eval instant at 1m 5\n  5.000001\n",
            "eval instant at 1m \"a\"\n  expect string 'a'\n",
            "eval range from 0 to 2m step 1m m{a=\"1\"}\n  m{a=\"1\"} 1x2\n",
            "eval range from 0 to 2m step 1m 7\n  {} 7 7 7\n",
            "eval instant at 1m fail\n  expect fail msg: it failed\n",
            "eval_fail instant at 1m fail\n  expected_fail_regexp fail.d$\n",
            "eval instant at 1m rate(m)\n  expect fail\n",
            "eval instant at 1m 5\n  expect warn msg: careful\n  expect no_info\n  5\n",
        ] {
            let report = report(&format!("{LOAD}{block}"));
            assert_eq!(report.passed_count, 1, "{block}: {report:?}");
            assert!(report.failed.is_empty() && report.skipped.is_empty(), "{block}: {report:?}");
        }
    }

    #[test]
    fn wrong_expectations_fail_and_say_what_differs() {
        for (block, difference) in [
            ("eval instant at 1m m\n  m{a=\"1\"} 1\n", "unexpected m{a=\"2\"} [2@60s]"),
            (
                "eval instant at 1m m{a=\"1\"}\n  m{a=\"1\"} 1.1\n",
                "m{a=\"1\"}: expected [1.1@60s], got [1@60s]",
            ),
            ("eval instant at 1m m{a=\"1\"}\n  m{a=\"1\"} 1\n  {} 3\n", "missing {} [3@60s]"),
            (
                "eval instant at 1m m\n  expect ordered\n  m{a=\"2\"} 2\n  m{a=\"1\"} 1\n",
                "expected the order m{a=\"2\"}, m{a=\"1\"}, got m{a=\"1\"}, m{a=\"2\"}",
            ),
            ("eval instant at 1m 5\n  6\n", "expected the scalar 6, got the scalar 5"),
            ("eval instant at 1m 5\n", "expected 0 series, got the scalar 5"),
            (
                "eval instant at 1m \"a\"\n  expect string \"b\"\n",
                "expected the string \"b\", got the string \"a\"",
            ),
            ("eval instant at 1m fail\n", "the query failed: it failed"),
            (
                "eval instant at 1m rate(m)\n",
                "the query failed: 1:6: parse error: expected type range vector",
            ),
            ("eval instant at 1m 5\n  expect fail\n", "expected an error (anything), got the scalar 5"),
            (
                "eval instant at 1m fail\n  expect fail msg: it did not\n",
                "expected an error with \"it did not\", got \"it failed\"",
            ),
            ("eval instant at 1m 5\n  expect no_warn\n  5\n", "expected no warnings, got [\"careful\"]"),
            ("eval instant at 1m 5\n  expect info\n  5\n", "expected infos, got none"),
            (
                "eval range from 0 to 2m step 1m m{a=\"1\"}\n  m{a=\"1\"} 1 _ 1\n",
                "m{a=\"1\"}: expected [1@0s 1@120s], got [1@0s 1@60s 1@120s]",
            ),
            ("eval sometimes x\n", "expected instant or range"),
        ] {
            let report = report(&format!("{LOAD}{block}"));
            assert_eq!((report.passed_count, report.failed.len()), (0, 1), "{block}: {report:?}");
            assert_eq!(report.failed[0].line, 8);
            assert!(report.failed[0].difference.starts_with(difference), "{block}: {report:?}");
        }
    }

    #[test]
    fn what_the_product_lacks_is_skipped_with_the_reason() {
        for (block, reason) in [
            ("eval instant at 1m s\n  s 1\n", START_TIMESTAMPS),
            ("eval instant at 1m {__name__=~\".\"}\n  {} 1\n", START_TIMESTAMPS),
            ("eval instant at 1m lacking\n  expect fail\n", "this version does not have the function \"f\""),
        ] {
            let report = report(&format!("{LOAD}{block}"));
            assert_eq!((report.passed_count, report.failed.len()), (0, 0), "{block}: {report:?}");
            assert_eq!(report.skipped[0].reason, reason, "{block}");
        }
        let report = report(&format!("{LOAD}clear\n\neval instant at 1m s\n"));
        assert_eq!((report.passed_count, report.skipped.len()), (1, 0), "clear forgets what is absent");
    }

    #[test]
    fn an_answer_that_depends_on_how_it_is_asked_fails() {
        /// Answers with the time of evaluation, whatever is asked.
        struct Clock;
        impl Backend for Clock {
            fn clear(&mut self) {}
            fn load(&mut self, _: &Labels, _: &[(i64, SampleValue)]) {}
            fn instant(&self, _: &str, time_ms: i64) -> Result<QueryAnswer, QueryError> {
                let sample = VectorSample {
                    labels: Labels::empty(),
                    timestamp_ms: time_ms,
                    value: (time_ms as f64 / 1000.0).into(),
                };
                let value = QueryValue::Vector(vec![sample]);
                Ok(QueryAnswer { value, warnings: Vec::new(), infos: Vec::new() })
            }
            fn range(&self, _: &str, start: i64, _: i64, step: i64) -> Result<QueryAnswer, QueryError> {
                let points = (0..3).map(|n| (start + n * step, (start + n * step) as f64 / 1000.0)).collect();
                let series = crate::promql::value::MatrixSeries {
                    labels: Labels::empty(),
                    points,
                    histograms: Vec::new(),
                };
                let value = QueryValue::Matrix(vec![series]);
                Ok(QueryAnswer { value, warnings: Vec::new(), infos: Vec::new() })
            }
        }
        let report = run("eval instant at 1m x\n  {} 60\n", &mut Clock);
        assert!(
            report.failed[0].difference.starts_with("as x @ 60.000 at -600s: {}: expected"),
            "{report:?}"
        );
        assert_eq!(run("eval instant at 1m time()\n  {} 60\n", &mut Clock).passed_count, 1);
    }
}
