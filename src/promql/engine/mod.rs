//! The PromQL engine.
//!
//! Every expression is evaluated for all steps at once: a vector is a list of series, each with one column of values,
//! one per step. An instant query is a query of one step. The files, in the order in which a query meets them:
//! `plan` (tree to `node`s, which series for which times), `lazy` (selectors and range functions, with `samples`,
//! `window`, `sweep`, `borders` and the functions themselves), `eval` (all other nodes, with `aggregate`, `binary`, `info` and
//! their kin).
//!
//! Owns:     the workers, and a thread for each query that runs.
//! Touches:  the `Source` that each query is asked with.
//! Runs on:  those threads for parsing and evaluation; the caller's task waits and fetches.
//! Promises: a query ends soon after its time is up or its future is dropped; no query can end the process.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use annulus_shards::core::ReadBudget;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::{Semaphore, oneshot};

use self::borders::border_points;
use self::column::{Series, Value, merge_same_labels, without_metadata};
use self::control::Control;
use self::eval::Evaluator;
use self::node::{Node, Ranged};
use self::plan::{Plan, plan};
use self::samples::Samples;
use self::steps::Steps;
use self::window::Window;
use self::workers::Workers;
use super::ast::{Borders, Expr, ValueType};
use super::parser::parse_while;
use super::value::{MatrixSeries, QueryAnswer, QueryError, QueryOptions, QueryValue, VectorSample};
use crate::source::{SelectRequest, SeriesChunks, Source, SourceError};

mod aggregate;
mod annotations;
mod binary;
mod borders;
mod calendar;
mod column;
mod control;
mod eval;
mod fill;
mod grouping;
mod histogram_binary;
mod histogram_borders;
mod histogram_call;
mod histogram_group;
mod histogram_notes;
mod histogram_quantile;
mod histogram_range;
mod histogram_rate;
mod histogram_text;
mod info;
mod label_functions;
mod label_hash;
mod lazy;
mod matching;
mod math_functions;
mod node;
mod number_format;
mod plan;
mod presence;
#[cfg(test)]
mod properties;
mod quantile;
mod range_functions;
mod rate;
mod samples;
mod select_series;
mod sliding;
mod steps;
mod sweep;
mod tally;
#[cfg(test)]
mod tests;
mod window;
mod workers;

/// The most steps of a range query, besides its start.
const STEPS_MAX: i64 = 11_000;

/// Queries that run at the same time, unless the engine is told otherwise; others wait, and their time runs.
const QUERIES_MAX: usize = 20;

/// Reads of the store that a query waits for at once.
const FETCHES_MAX: usize = 4;

/// Stack of a query's thread: some frames per level of the deepest query that the parser lets pass.
const STACK_BYTES: usize = 32 << 20;

/// Evaluates queries; one per process. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    workers: Arc<Workers>,
    running: Arc<Semaphore>,
}

/// A query and the times it is asked for.
struct Query {
    text: String,
    steps: Steps,
    end_ms: i64,
    is_range: bool,
    options: QueryOptions,
}

impl Engine {
    /// An engine that evaluates on `threads` threads of its own.
    ///
    /// # Panics
    /// When the operating system does not start the threads.
    pub fn new(threads: usize) -> Engine {
        Engine { workers: Arc::new(Workers::new(threads)), running: Arc::new(Semaphore::new(QUERIES_MAX)) }
    }

    /// The same engine, for so many queries at the same time.
    pub fn with_queries_max(mut self, queries_max: usize) -> Engine {
        self.running = Arc::new(Semaphore::new(queries_max));
        self
    }

    /// Evaluates at one time. Dropping the future cancels the query. Needs a tokio runtime with a clock.
    pub async fn instant(
        &self,
        source: Arc<dyn Source>,
        query: &str,
        time_ms: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        let query = Query {
            text: query.to_owned(),
            steps: Steps::single(time_ms),
            end_ms: time_ms,
            is_range: false,
            options: options.clone(),
        };
        self.run(source, query).await
    }

    /// Evaluates at `start_ms`, `start_ms + step_ms`, … up to `end_ms`; the value is a matrix.
    pub async fn range(
        &self,
        source: Arc<dyn Source>,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        let refuse = |name, reason: &str| Err(QueryError::Parameter { name, reason: reason.to_owned() });
        if step_ms <= 0 {
            let reason =
                "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return refuse("step", reason);
        }
        let Some(steps) = Steps::span(start_ms, end_ms, step_ms) else {
            return refuse("end", "end timestamp must not be before start time");
        };
        if end_ms.saturating_sub(start_ms) / step_ms > STEPS_MAX {
            let reason = "exceeded maximum resolution of 11,000 points per timeseries. \
                          Try decreasing the query resolution (?step=XX)";
            return refuse("step", reason);
        }
        let query = Query { text: query.to_owned(), steps, end_ms, is_range: true, options: options.clone() };
        self.run(source, query).await
    }

    async fn run(&self, source: Arc<dyn Source>, query: Query) -> Result<QueryAnswer, QueryError> {
        let timeout = query.options.timeout;
        let control = Arc::new(Control::new(timeout));
        let _cancel = CancelOnDrop(Arc::clone(&control));
        let workers = Arc::clone(&self.workers);
        let answer = async {
            // The permit goes where the work is done, so that a query which nobody waits for any more still counts.
            let permit = Arc::clone(&self.running).acquire_owned().await;
            let permit = permit.map_err(|_| QueryError::Canceled)?;
            let started = Instant::now();
            let for_plan = Arc::clone(&control);
            let (query, plan, permit) = on_own_thread((), move |()| {
                let (query, plan) = prepare(query, &for_plan)?;
                Ok((query, plan, permit))
            })
            .await?;
            let fetched = fetch(source.as_ref(), &plan.requests, query.options.fetch_bytes_max).await?;
            if let Some(costs) = &query.options.costs {
                costs.add_prepare(started.elapsed());
            }
            let held = (fetched, permit);
            on_own_thread(held, move |(fetched, _)| evaluate(&query, &plan, fetched, &control, &workers))
                .await
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(QueryError::Timeout))
    }
}

/// What the plan asks for, in the plan's order.
async fn fetch(
    source: &dyn Source,
    requests: &[SelectRequest],
    bytes_max: u64,
) -> Result<Vec<Vec<SeriesChunks>>, QueryError> {
    let mut fetched = Vec::with_capacity(requests.len());
    let mut bytes = 0u64;
    let budget = ReadBudget::new(bytes_max);
    let mut reads = FuturesOrdered::new();
    for request in requests {
        if reads.len() == FETCHES_MAX
            && let Some(read) = reads.next().await
        {
            take_in(read?, &mut fetched, &mut bytes, bytes_max)?;
        }
        reads.push_back(source.select(SelectRequest { budget: Some(budget.clone()), ..request.clone() }));
    }
    while let Some(read) = reads.next().await {
        take_in(read?, &mut fetched, &mut bytes, bytes_max)?;
    }
    Ok(fetched)
}

fn take_in(
    series: Vec<SeriesChunks>,
    fetched: &mut Vec<Vec<SeriesChunks>>,
    bytes: &mut u64,
    bytes_max: u64,
) -> Result<(), QueryError> {
    let size = |one: &SeriesChunks| {
        one.labels.size_bytes() + one.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>()
    };
    *bytes = bytes.saturating_add(series.iter().map(size).sum::<usize>() as u64);
    if *bytes > bytes_max {
        return Err(SourceError::TooLarge { bytes_max }.into());
    }
    fetched.push(series);
    Ok(())
}

/// Runs work on a new thread; a panic there is an error of this query only. The input is freed when the result is on its
/// way: of a large query that takes milliseconds.
async fn on_own_thread<I: Send + 'static, T: Send + 'static>(
    input: I,
    work: impl FnOnce(&I) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let (answer, waiting) = oneshot::channel();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&input)))
            .unwrap_or_else(|panic| Err(QueryError::Execution(panic_text(panic.as_ref()))));
        // Nobody may be waiting any more.
        let _ = answer.send(result);
    };
    std::thread::Builder::new()
        .name("promql-query".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body)
        .map_err(|error| QueryError::Execution(format!("no thread for the query: {error}")))?;
    waiting.await.unwrap_or(Err(QueryError::Canceled))
}

/// Stops the evaluation of a query that nobody waits for.
struct CancelOnDrop(Arc<Control>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error: {}", text.unwrap_or("unknown"))
}

fn prepare(query: Query, control: &Control) -> Result<(Query, Plan), QueryError> {
    let is_awaited = || control.check().is_ok();
    let expr = parse_while(&query.text, query.options.features, &is_awaited);
    control.check()?;
    let expr = expr?;
    if query.is_range {
        check_range_type(&expr)?;
    }
    let plan = plan(&expr, &query.steps, query.end_ms, &query.options, control)?;
    Ok((query, plan))
}

fn check_range_type(expr: &Expr) -> Result<(), QueryError> {
    let found = match expr.value_type() {
        ValueType::Scalar | ValueType::Vector => return Ok(()),
        ValueType::String => "string",
        ValueType::Matrix => "range vector",
    };
    let reason =
        format!("invalid expression type {found:?} for range query, must be Scalar or instant Vector");
    Err(QueryError::Parameter { name: "query", reason })
}

fn evaluate(
    query: &Query,
    plan: &Plan,
    fetched: &[Vec<SeriesChunks>],
    control: &Control,
    workers: &Workers,
) -> Result<QueryAnswer, QueryError> {
    let started = Instant::now();
    let late_names = query.options.delayed_name_removal;
    let mut evaluator = Evaluator::new(fetched, control, workers, query.options.samples_max, late_names);
    evaluator.costs = query.options.costs.as_ref();
    let value = match &plan.root {
        Node::Samples(ranged) => QueryValue::Matrix(samples(&evaluator, ranged, &query.steps)?),
        root => match evaluator.value(root, &query.steps)? {
            Value::Vector(series) if late_names => {
                answer(query, Value::Vector(merge_same_labels(drop_names(series))?), workers)
            }
            value => answer(query, value, workers),
        },
    };
    if let Some(costs) = evaluator.costs {
        costs.see_peak(evaluator.budget.peak());
        costs.add_evaluate(started.elapsed());
    }
    let annotations = evaluator.annotations.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (warnings, infos) = annotations.into_texts(&query.text);
    Ok(QueryAnswer { value, warnings, infos })
}

/// Removes the names that were to go at the end.
fn drop_names(mut series: Vec<Series>) -> Vec<Series> {
    for one in series.iter_mut().filter(|one| one.drop_name) {
        one.labels = without_metadata(&one.labels);
    }
    series
}

/// The samples of a range vector, as they are.
fn samples(
    evaluator: &Evaluator<'_>,
    ranged: &Ranged,
    steps: &Steps,
) -> Result<Vec<MatrixSeries>, QueryError> {
    let input = evaluator.input(ranged, steps)?;
    let (reach, step_ms) = (ranged.reach(), steps.first_ms());
    let (start_ms, end_ms) = (reach.start_ms(step_ms), reach.end_ms(step_ms));
    let mut samples = Samples::default();
    let mut matrix = Vec::new();
    for index in 0..input.len() {
        evaluator.control.check()?;
        input.read(index, &mut samples)?;
        let in_range = |time_ms: i64| time_ms > start_ms && time_ms <= end_ms;
        let points: Vec<(i64, f64)> = match ranged.borders() {
            Borders::Inside => {
                let points = samples.times.iter().copied().zip(samples.values.iter().copied());
                points.filter(|(time_ms, _)| in_range(*time_ms)).collect()
            }
            borders => {
                let (times, values) = (&samples.times, &samples.values);
                let window =
                    Window { times, values, histograms: &samples.histograms, start_ms, end_ms, step_ms };
                border_points(&window, borders)?
            }
        };
        samples.histograms.retain(|(time_ms, _)| in_range(*time_ms));
        if points.is_empty() && samples.histograms.is_empty() {
            continue;
        }
        evaluator.budget.add(samples.points() as u64)?;
        if let Some(costs) = evaluator.costs {
            costs.add_steps(std::iter::once((steps.first_ms(), samples.points() as u64)));
        }
        let (labels, drop_name) = input.labels(index);
        let labels = if drop_name { without_metadata(labels) } else { labels.clone() };
        matrix.push(MatrixSeries { labels, points, histograms: samples.histograms.clone() });
    }
    matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(matrix)
}

/// The form of the answer: one point for an instant query, a matrix for a range query.
fn answer(query: &Query, value: Value, workers: &Workers) -> QueryValue {
    let (steps, timestamp_ms) = (&query.steps, query.steps.first_ms());
    match value {
        Value::Text(value) => QueryValue::String { timestamp_ms, value },
        Value::Scalar(values) if query.is_range => {
            let points = steps.iter().zip(values).collect();
            let labels = annulus_shards::Labels::empty();
            QueryValue::Matrix(vec![MatrixSeries { labels, points, histograms: Vec::new() }])
        }
        Value::Scalar(values) => QueryValue::Scalar { timestamp_ms, value: values[0] },
        Value::Vector(series) if query.is_range => {
            let mut matrix = workers.turn(series, |one| {
                let mut points = Vec::with_capacity(one.column.extent().len());
                points.extend(one.column.present().map(|(step, value)| (steps.time_ms(step), value)));
                let histograms = one.column.histograms();
                let histograms = histograms.map(|(step, one)| (steps.time_ms(step), one.clone())).collect();
                MatrixSeries { points, histograms, labels: one.labels }
            });
            matrix.retain(|one| !one.points.is_empty() || !one.histograms.is_empty());
            matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
            QueryValue::Matrix(matrix)
        }
        Value::Vector(series) => QueryValue::Vector(
            series
                .into_iter()
                .filter_map(|one| {
                    let value = one.column.value(0)?;
                    Some(VectorSample { labels: one.labels, timestamp_ms, value })
                })
                .collect(),
        ),
    }
}
