//! `/api/v1/query` and `/api/v1/query_range`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind};
use super::params::Params;
use super::{Api, json};
use crate::promql::value::{QueryAnswer, QueryError, QueryOptions, QueryValue};
use crate::rfc3339::now_ms;

/// What Prometheus says when `limit` cut something off.
pub const TRUNCATED: &str = "results truncated due to limit";

/// Answers with more points than this are written on a thread that may block.
const INLINE_POINTS_MAX: usize = 10_000;

/// Evaluates at one time.
pub async fn instant(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let time_ms = params.time_ms("time")?.unwrap_or_else(now_ms);
    let query = params.query();
    let mut run = Run::new(&api, &params)?;
    let _pass = api.gate.enter(run.deadline, &api.metrics).await?;
    run.take_waiting_off_the_timeout();
    let source = Arc::clone(&api.source);
    let answer = run.finish(api.evaluator.instant(source, query, time_ms, &run.options)).await;
    api.metrics.instant_seconds.observe(run.started.elapsed().as_secs_f64());
    respond(answer?, run.limit).await
}

/// Evaluates at every step of a range.
pub async fn range(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let steps = params.steps(api.config.default_step_ms)?;
    let query = params.query();
    let mut run = Run::new(&api, &params)?;
    api.metrics.range_span_seconds.observe((steps.end_ms - steps.start_ms) as f64 / 1000.0);
    let _pass = api.gate.enter(run.deadline, &api.metrics).await?;
    run.take_waiting_off_the_timeout();
    let source = Arc::clone(&api.source);
    let answer = run.finish(api.evaluator.range(source, query, steps, &run.options)).await;
    api.metrics.range_seconds.observe(run.started.elapsed().as_secs_f64());
    respond(answer?, run.limit).await
}

/// The time and settings of one query.
struct Run {
    started: Instant,
    deadline: Instant,
    options: QueryOptions,
    limit: usize,
}

impl Run {
    fn new(api: &Api, params: &Params) -> Result<Run, ApiError> {
        let mut options = api.config.options.clone();
        options.timeout = params.timeout(options.timeout)?;
        if let Some(lookback_ms) = params.duration_ms("lookback_delta")? {
            options.lookback_delta_ms = lookback_ms;
        }
        let started = Instant::now();
        Ok(Run { started, deadline: started + options.timeout, options, limit: params.limit()? })
    }

    fn take_waiting_off_the_timeout(&mut self) {
        self.options.timeout = self.deadline.saturating_duration_since(Instant::now());
    }

    /// The engine watches the time itself while it computes; this also covers its waiting for data.
    async fn finish(
        &self,
        answer: impl Future<Output = Result<QueryAnswer, QueryError>>,
    ) -> Result<QueryAnswer, ApiError> {
        match timeout_at(self.deadline.into(), answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(QueryError::Timeout.into()),
        }
    }
}

async fn respond(mut answer: QueryAnswer, limit: usize) -> Result<Response, ApiError> {
    if truncate(&mut answer.value, limit) {
        answer.warnings.push(TRUNCATED.to_owned());
    }
    if points(&answer.value) <= INLINE_POINTS_MAX {
        return Ok(json::query_answer(&answer));
    }
    aside(move || json::query_answer(&answer)).await
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
        QueryValue::Matrix(series) => series.iter().map(|one| one.points.len() + 1).sum(),
    }
}
