//! `/api/v1/query_exemplars`.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use annulus_shards::Matcher;
use annulus_shards::exemplars::Exemplar;
use axum::extract::State;
use axum::response::Response;
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind, parse_kind};
use super::gate::Pass;
use super::params::Params;
use super::query::aside;
use super::{Api, json, number};
use crate::source::SeriesExemplars;

/// More selectors than this in one query are not written by people; each is a condition on every series with exemplars.
const SELECTORS_MAX: usize = 1_000;

/// The exemplars of all series that a query selects.
pub async fn query(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let (min_ms, max_ms) = params.times_ms()?;
    let timeout = params.timeout(api.config.options.timeout)?;
    let deadline = Instant::now() + timeout;
    let pass = api.gate.enter(deadline).await?;
    let sets = selectors(&api, params.query().to_owned(), pass.clone()).await?;
    let found = match &api.extras {
        Some(extras) if !sets.is_empty() => {
            let found = timeout_at(deadline.into(), extras.exemplars(sets, min_ms, max_ms)).await;
            found
                .map_err(|_| ApiError::new(ErrorKind::Timeout, format!("no answer within {timeout:?}")))??
        }
        _ => Vec::new(),
    };
    aside(move || json::success(&[], &[], |out| json::write_list(out, &found, write_series))).await
}

/// The selectors of a query. Patterns take their time to compile, so that no thread which others wait for may do it.
async fn selectors(api: &Api, text: String, pass: Pass) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let evaluator = Arc::clone(&api.evaluator);
    let sets = aside(move || {
        let _pass = pass;
        evaluator.selectors(&text)
    });
    let sets = sets.await?;
    let sets = sets.map_err(|error| ApiError::new(parse_kind(&error), error.to_string()))?;
    if sets.len() > SELECTORS_MAX {
        return Err(ApiError::parameter("query", format!("more than {SELECTORS_MAX} selectors")));
    }
    Ok(sets)
}

fn write_series(out: &mut impl Write, series: &SeriesExemplars) -> io::Result<()> {
    out.write_all(br#"{"seriesLabels":"#)?;
    json::write_labels(out, &series.labels)?;
    out.write_all(br#","exemplars":"#)?;
    json::write_list(out, &series.exemplars, |out, one| write_exemplar(out, one))?;
    out.write_all(b"}")
}

fn write_exemplar(out: &mut impl Write, exemplar: &Exemplar) -> io::Result<()> {
    out.write_all(br#"{"labels":"#)?;
    json::write_labels(out, &exemplar.labels)?;
    out.write_all(br#","value":""#)?;
    number::write_sample_value(out, exemplar.value)?;
    out.write_all(br#"","timestamp":"#)?;
    number::write_sample_time(out, exemplar.timestamp_ms)?;
    out.write_all(b"}")
}
