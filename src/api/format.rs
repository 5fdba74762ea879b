//! `/api/v1/format_query` and `/api/v1/parse_query`: what a query is, without a look at data.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;

use super::error::{ApiError, ErrorKind};
use super::params::Params;
use super::query::aside;
use super::tree::write_tree;
use super::{Api, json};
use crate::promql::ast::Expr;
use crate::promql::parser::pretty;
use crate::promql::value::QueryError;

/// The query on lines that people can read.
pub async fn format(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let timeout = params.timeout(api.config.options.timeout)?;
    let pass = api.gate.enter(Instant::now() + timeout).await?;
    let state = Arc::clone(&api);
    aside(move || {
        let _pass = pass;
        let text = pretty(&parsed(&state, &params)?);
        Ok(json::success(&[], &[], |out| json::write_text(out, &text)))
    })
    .await?
}

/// The query as a tree.
pub async fn parse(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let timeout = params.timeout(api.config.options.timeout)?;
    let pass = api.gate.enter(Instant::now() + timeout).await?;
    let state = Arc::clone(&api);
    aside(move || {
        let _pass = pass;
        let expr = parsed(&state, &params)?;
        Ok(json::success(&[], &[], |out| write_tree(out, &expr)))
    })
    .await?
}

/// Patterns take their time to compile, so that this is done where nobody else waits.
fn parsed(api: &Api, params: &Params) -> Result<Expr, ApiError> {
    api.evaluator
        .parse(params.query(), api.config.options.features)
        .map_err(|error| ApiError::new(ErrorKind::BadData, QueryError::from(error).to_string()))
}
