//! `/api/v1/labels`, `/api/v1/label/{name}/values`, `/api/v1/series`.

use std::sync::Arc;

use annulus_shards::{Labels, Matcher};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use tokio::time::timeout;

use super::error::{ApiError, ErrorKind};
use super::params::Params;
use super::query::TRUNCATED;
use super::{Api, json};
use crate::source::{SelectRequest, SourceError};

/// The names of all labels.
pub async fn label_names(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (min_ms, max_ms) = params.times_ms()?;
    let sets = matcher_sets(&api, &params)?;
    let names = in_time(&api, &params, api.source.label_names(sets, min_ms, max_ms)).await?;
    Ok(respond_texts(names, limit))
}

/// The values of one label.
pub async fn label_values(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::new(ErrorKind::BadData, error.body_text()))?;
    let name = unescape_name(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(ApiError::new(ErrorKind::BadData, format!("invalid label name: {name:?}")));
    }
    let limit = params.limit()?;
    let (min_ms, max_ms) = params.times_ms()?;
    let sets = matcher_sets(&api, &params)?;
    let values = in_time(&api, &params, api.source.label_values(name, sets, min_ms, max_ms)).await?;
    Ok(respond_texts(values, limit))
}

/// The label sets of series.
pub async fn series(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (min_ms, max_ms) = params.times_ms()?;
    let sets = matcher_sets(&api, &params)?;
    if sets.is_empty() {
        return Err(ApiError::new(ErrorKind::BadData, "no match[] parameter provided"));
    }
    let one_set = sets.len() == 1;
    let mut found: Vec<Labels> = Vec::new();
    for matchers in sets {
        let request = SelectRequest { matchers, min_ms, max_ms, skip_chunks: true };
        let series = in_time(&api, &params, api.source.select(request)).await?;
        found.extend(series.into_iter().map(|one| one.labels));
    }
    if !one_set {
        found.sort_unstable();
        found.dedup();
    }
    let warnings = truncate(&mut found, limit);
    Ok(json::success(&warnings, &[], |out| json::write_list(out, &found, json::write_labels)))
}

/// The selectors of `match[]`; each must hold a matcher that a series without the label does not fulfil.
fn matcher_sets(api: &Api, params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let mut sets = Vec::new();
    for text in params.all("match[]") {
        let matchers = api.evaluator.selector(text).map_err(|error| ApiError::parameter("match[]", error))?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(ApiError::parameter(
                "match[]",
                "match[] must contain at least one non-empty matcher",
            ));
        }
        sets.push(matchers);
    }
    Ok(sets)
}

async fn in_time<T>(
    api: &Api,
    params: &Params,
    found: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, ApiError> {
    let limit = params.timeout(api.config.options.timeout)?;
    match timeout(limit, found).await {
        Ok(found) => Ok(found?),
        Err(_) => Err(ApiError::new(ErrorKind::Timeout, format!("no answer within {limit:?}"))),
    }
}

fn respond_texts(mut texts: Vec<String>, limit: usize) -> Response {
    let warnings = truncate(&mut texts, limit);
    json::success(&warnings, &[], |out| json::write_texts(out, &texts))
}

fn truncate<T>(items: &mut Vec<T>, limit: usize) -> Vec<String> {
    if limit == 0 || items.len() <= limit {
        return Vec::new();
    }
    items.truncate(limit);
    vec![TRUNCATED.to_owned()]
}

/// Undoes the escaping by which UTF-8 names fit into a URL: `U__a_2e_b` is `a.b`, `__` is `_`. Nothing, if the
/// name is not escaped.
fn unescape_name(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut text = String::with_capacity(rest.len());
    while let Some(underscore) = rest.find('_') {
        text.push_str(&rest[..underscore]);
        rest = &rest[underscore + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            text.push('_');
            rest = after;
            continue;
        }
        let (digits, after) = rest.split_once('_')?;
        if digits.len() > 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        text.push(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_as_prometheus_reads_them() {
        for (name, expected) in [
            ("U__http_2e_status", Some("http.status")),
            ("U__a__b", Some("a_b")),
            ("U___e9__1f525_", Some("é🔥")),
            ("U__", Some("")),
            ("job", None),
            ("U__a_2", None),
            ("U__a_zz_", None),
            ("U__a_110000_", None),
            ("U__a_d800_", None),
        ] {
            assert_eq!(unescape_name(name).as_deref(), expected, "{name}");
        }
    }
}
