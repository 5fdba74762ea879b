//! `/api/v1/status/tsdb`: what takes the room in the heads of this process.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use annulus_shards::core::{HeadStats, ReadError, ShardHandle, StatsScope};
use annulus_shards::edge::{StatsAnswer, StatsQuery};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use tokio::time::timeout_at;

use super::Api;
use super::error::{ApiError, ErrorKind};
use super::params::Params;

/// The header that names a tenant, as in Thanos.
const TENANT_HEADER: &str = "thanos-tenant";

/// A future of [`HeadCounts`].
pub type CountFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<HeadStats>, ReadError>> + Send + 'a>>;

/// Counts what heads have; a trait, so that tests can stand in for the shards.
pub trait HeadCounts: Send + Sync {
    /// See [`ShardHandle::head_stats`].
    fn head_stats(&self, scope: StatsScope, limit: usize) -> CountFuture<'_>;
}

impl HeadCounts for ShardHandle {
    fn head_stats(&self, scope: StatsScope, limit: usize) -> CountFuture<'_> {
        Box::pin(ShardHandle::head_stats(self, scope, limit))
    }
}

/// All tenants as one, in Prometheus' form; with `all_tenants=true` or the tenant's header a list, in Thanos' form.
pub async fn head_stats(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let tenant = headers.get(TENANT_HEADER).filter(|value| !value.is_empty());
    let tenant = tenant.map(|value| value.to_str()).transpose();
    let tenant = tenant.map_err(|_| ApiError::new(ErrorKind::BadData, "the tenant's name is not text"))?;
    let query = StatsQuery::new(tenant, StatsScope::Together, params.pairs());
    let query = query.map_err(|text| ApiError::new(ErrorKind::BadData, text))?;
    let Some(head) = &api.head else {
        return Err(ApiError::new(ErrorKind::NotFound, "this process has no head"));
    };
    let timeout = params.timeout(api.config.options.timeout)?;
    let deadline = Instant::now() + timeout;
    let _pass = api.gate.enter(deadline).await?;
    let counted = timeout_at(deadline.into(), head.head_stats(query.scope.clone(), query.limit)).await;
    let counted = counted
        .map_err(|_| ApiError::new(ErrorKind::Timeout, format!("no answer within {timeout:?}")))?
        .map_err(|error| ApiError::new(ErrorKind::Unavailable, error.to_string()))?;
    let answer = StatsAnswer::of(&query.scope, &counted);
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
