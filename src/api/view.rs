//! The parameters by which Thanos' clients say how they want the source: with which labels, and whether a part of it
//! is better than nothing.

use std::sync::Arc;

use super::Api;
use super::error::{ApiError, ErrorKind};
use super::params::Params;
use crate::source::{Source, View, ViewSource, Warnings};

/// The source as one request wants it.
pub struct Seen {
    /// What to read from.
    pub source: Arc<dyn ViewSource>,
    /// What could not be read.
    pub warnings: Warnings,
}

impl Seen {
    /// Reads `dedup`, `replicaLabels[]`, `partial_response` and their kin; `partial` is for requests that do not say.
    pub fn new(api: &Api, params: &Params, partial: bool) -> Result<Seen, ApiError> {
        let warnings = Warnings::default();
        let view = View {
            hidden_labels: hidden_labels(params)?,
            partial: params.switch("partial_response")?.unwrap_or(partial).then(|| warnings.clone()),
        };
        check_settings_without_effect(params)?;
        if params.switch("analyze")? == Some(true) {
            warnings.add("this engine has no analysis of queries".to_owned());
        }
        Ok(Seen { source: api.source.view(&view), warnings })
    }

    /// The same for what only reads.
    pub fn reader(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source) as Arc<dyn Source>
    }
}

/// Without deduplication no label is hidden: replicas are what they differ in.
fn hidden_labels(params: &Params) -> Result<Option<Arc<[String]>>, ApiError> {
    if params.switch("dedup")? == Some(false) {
        return Ok(Some(Arc::from([])));
    }
    let named: Vec<String> =
        params.all("replicaLabels[]").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Ok((!named.is_empty()).then(|| named.into()))
}

/// There is one engine, one store, and its samples are raw: what asks for others is checked and then has no effect.
fn check_settings_without_effect(params: &Params) -> Result<(), ApiError> {
    if let Some(engine) = params.get("engine").filter(|engine| !["prometheus", "thanos"].contains(engine)) {
        return Err(ApiError::parameter("engine", format!("{engine:?} is neither prometheus nor thanos")));
    }
    if params.get("max_source_resolution").is_some_and(|resolution| resolution != "auto") {
        params.length_ms("max_source_resolution")?;
    }
    // Whoever splits a query by series and puts the parts together would get every series from each part.
    if params.get("shard_info").is_some() {
        return Err(ApiError::new(ErrorKind::BadData, "queries cannot be sharded by series here"));
    }
    Ok(())
}
