//! `/api/v1/metadata`: what senders say of each metric family.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use annulus_shards::metadata::Description;
use axum::extract::State;
use axum::response::Response;
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind};
use super::params::Params;
use super::query::aside;
use super::{Api, json};
use crate::source::Metadata;

/// Type, help and unit of one family or of all, of all tenants together.
pub async fn metadata(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let families_max = limit(&params, "limit")?.unwrap_or(usize::MAX);
    // Zero means no limit here, but not above: so it is in Prometheus.
    let each_max = limit(&params, "limit_per_metric")?.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let timeout = params.timeout(api.config.options.timeout)?;
    let deadline = Instant::now() + timeout;
    let _pass = api.gate.enter(deadline).await?;
    let found = match &api.extras {
        Some(extras) => {
            let found = timeout_at(deadline.into(), extras.metadata(params.get("metric"))).await;
            found
                .map_err(|_| ApiError::new(ErrorKind::Timeout, format!("no answer within {timeout:?}")))??
        }
        None => Metadata::new(),
    };
    aside(move || json::success(&[], &[], |out| write_families(out, &found, families_max, each_max))).await
}

/// A limit; a negative one is none.
fn limit(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let limit: i64 =
        text.parse().map_err(|_| ApiError::new(ErrorKind::BadData, format!("{name} must be a number")))?;
    Ok(usize::try_from(limit).ok())
}

fn write_families(
    out: &mut impl Write,
    found: &Metadata,
    families_max: usize,
    each_max: usize,
) -> io::Result<()> {
    out.write_all(b"{")?;
    for (index, (family, descriptions)) in found.iter().take(families_max).enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        json::write_text(out, family)?;
        out.write_all(b":")?;
        let descriptions = &descriptions[..descriptions.len().min(each_max)];
        json::write_list(out, descriptions, |out, one| write_description(out, one))?;
    }
    out.write_all(b"}")
}

fn write_description(out: &mut impl Write, description: &Description) -> io::Result<()> {
    let Description { kind, help, unit } = description;
    json::write_object(out, [("type", kind.name()), ("unit", &**unit), ("help", &**help)])
}
