//! `/api/v1/query` and `/api/v1/query_range`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind, forbid_caching};
use super::params::{Params, Steps};
use super::stats::QueryStats;
use super::view::Seen;
use super::{Api, json};
use crate::promql::value::{
    CostCounter, MatrixSeries, Place, QueryAnswer, QueryError, QueryOptions, QueryValue,
};
use crate::rfc3339::now_ms;

/// What Prometheus says when `limit` cut something off.
pub const TRUNCATED: &str = "results truncated due to limit";

/// Answers with more points than this are written on a thread that may block, while they are sent.
const INLINE_POINTS_MAX: usize = 10_000;

/// Annotations of each kind that reach the answer, as in Prometheus.
const ANNOTATIONS_MAX: usize = 10;

/// Bytes of a point in memory.
pub const POINT_BYTES: usize = size_of::<(i64, f64)>();

/// As so many points a histogram counts.
const HISTOGRAM_POINTS: usize = 32;

/// For when a query is asked.
#[derive(Clone, Copy)]
enum Times {
    At(i64),
    Each(Steps),
}

/// Evaluates at one time.
pub async fn instant(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let time_ms = params.time_ms("time")?.unwrap_or_else(now_ms);
    answer(&api, &params, Times::At(time_ms)).await
}

/// Evaluates at every step of a range.
pub async fn range(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let steps = params.steps(api.config.default_step_ms)?;
    api.metrics.range_span_seconds.observe((steps.end_ms - steps.start_ms) as f64 / 1000.0);
    answer(&api, &params, Times::Each(steps)).await
}

async fn answer(api: &Api, params: &Params, times: Times) -> Result<Response, ApiError> {
    let mut run = Run::new(api, params)?;
    let seen = Seen::new(api, params, api.config.partial_response)?;
    let pass = api.gate.enter_query(run.deadline, &api.metrics).await?;
    run.options.place = Some(Place::new(pass));
    run.take_waiting_off_the_timeout();
    let running = api.query_log.begin(params.query(), times.text());
    let found = run.evaluate(api, &seen, params.query(), times).await;
    let costs = run.costs.costs();
    running.end(if found.is_ok() { "answered" } else { "failed" }, costs.samples);
    let seconds = match times {
        Times::At(_) => &api.metrics.instant_seconds,
        Times::Each(_) => &api.metrics.range_seconds,
    };
    seconds.observe(run.started.elapsed().as_secs_f64());
    api.metrics.see_costs(&costs, run.queue_seconds);
    let stats = run.stats.then(|| QueryStats {
        costs,
        queue_seconds: run.queue_seconds,
        total_seconds: run.started.elapsed().as_secs_f64(),
        by_step: run.by_step,
    });
    respond(api, found?, stats, run.limit, seen.warnings.texts())
}

impl Times {
    fn text(self) -> String {
        match self {
            Times::At(time_ms) => format!("at {time_ms} ms"),
            Times::Each(Steps { start_ms, end_ms, step_ms }) => {
                format!("from {start_ms} ms to {end_ms} ms every {step_ms} ms")
            }
        }
    }
}

/// The time and settings of one query.
struct Run {
    started: Instant,
    deadline: Instant,
    queue_seconds: f64,
    options: QueryOptions,
    costs: CostCounter,
    limit: usize,
    stats: bool,
    by_step: bool,
}

impl Run {
    fn new(api: &Api, params: &Params) -> Result<Run, ApiError> {
        let mut options = api.config.options.clone();
        options.timeout = params.timeout(options.timeout)?;
        // What is not positive stands for the default, as in Prometheus.
        if let Some(lookback_ms) = params.length_ms("lookback_delta")?.filter(|ms| *ms > 0) {
            options.lookback_delta_ms = lookback_ms;
        }
        let (stats, by_step) = (params.get("stats").is_some(), params.get("stats") == Some("all"));
        let costs = if stats { CostCounter::by_step() } else { CostCounter::default() };
        options.costs = Some(costs.clone());
        let (started, limit) = (Instant::now(), params.limit()?);
        let deadline = started + options.timeout;
        Ok(Run { started, deadline, queue_seconds: 0.0, options, costs, limit, stats, by_step })
    }

    fn take_waiting_off_the_timeout(&mut self) {
        self.queue_seconds = self.started.elapsed().as_secs_f64();
        self.options.timeout = self.deadline.saturating_duration_since(Instant::now());
    }

    /// The engine watches the time itself while it computes; this also covers its waiting for data.
    async fn evaluate(
        &self,
        api: &Api,
        seen: &Seen,
        query: &str,
        times: Times,
    ) -> Result<QueryAnswer, ApiError> {
        let source = seen.reader();
        let answer = match times {
            Times::At(time_ms) => api.evaluator.instant(source, query, time_ms, &self.options),
            Times::Each(steps) => api.evaluator.range(source, query, steps, &self.options),
        };
        match timeout_at(self.deadline.into(), answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(QueryError::Timeout.into()),
        }
    }
}

fn respond(
    api: &Api,
    mut answer: QueryAnswer,
    stats: Option<QueryStats>,
    limit: usize,
    missing: Vec<String>,
) -> Result<Response, ApiError> {
    let is_partial = !missing.is_empty();
    let is_truncated = truncate(&mut answer.value, limit);
    let QueryAnswer { value, warnings, infos } = answer;
    let mut warnings = bounded(warnings, "warning");
    warnings.extend(missing);
    warnings.extend(is_truncated.then(|| TRUNCATED.to_owned()));
    let infos = bounded(infos, "info");
    let points = points(&value);
    let mut response = if points <= INLINE_POINTS_MAX {
        json::success(&warnings, &infos, |out| json::write_query_data(out, &value, stats.as_ref()))
    } else {
        let room = api.room.take(points.saturating_mul(POINT_BYTES))?;
        json::streamed(warnings, infos, move |out| {
            let _room = room;
            json::write_query_data(out, &value, stats.as_ref())
        })
    };
    if is_partial {
        api.metrics.partial_answers.inc();
        forbid_caching(&mut response);
    }
    Ok(response)
}

/// The first annotations, and how many are left out, in Prometheus' words.
fn bounded(mut texts: Vec<String>, kind: &str) -> Vec<String> {
    if texts.len() > ANNOTATIONS_MAX {
        let left_out = texts.len() - ANNOTATIONS_MAX;
        texts.truncate(ANNOTATIONS_MAX);
        texts.push(format!("{left_out} more {kind} annotations omitted"));
    }
    texts
}

/// Does work that takes long where no other request waits for it.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    spawn_blocking(work)
        .await
        .map_err(|error| ApiError::new(ErrorKind::Internal, format!("the answer could not be made: {error}")))
}

/// Cuts off what is over the limit; whether there was something.
fn truncate(value: &mut QueryValue, limit: usize) -> bool {
    let len = match value {
        QueryValue::Scalar { .. } | QueryValue::String { .. } => return false,
        QueryValue::Vector(samples) => samples.len(),
        QueryValue::Matrix(series) => series.len(),
    };
    if limit == 0 || len <= limit {
        return false;
    }
    match value {
        QueryValue::Vector(samples) => samples.truncate(limit),
        QueryValue::Matrix(series) => series.truncate(limit),
        QueryValue::Scalar { .. } | QueryValue::String { .. } => {}
    }
    true
}

fn points(value: &QueryValue) -> usize {
    match value {
        QueryValue::Scalar { .. } | QueryValue::String { .. } => 1,
        QueryValue::Vector(samples) => samples.len(),
        QueryValue::Matrix(series) => {
            let histograms = |one: &MatrixSeries| one.histograms.len() * HISTOGRAM_POINTS;
            series.iter().map(|one| one.points.len() + histograms(one) + 1).sum()
        }
    }
}
