//! `/api/v1/labels`, `/api/v1/label/{name}/values`, `/api/v1/series`.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_shards::matcher::QUERY_COMPILED_BYTES_MAX;
use annulus_shards::{Labels, MatchOp, Matcher};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use tokio::time::timeout_at;

use super::error::{ApiError, ErrorKind, forbid_caching, parse_kind};
use super::gate::Pass;
use super::params::Params;
use super::query::{TRUNCATED, aside};
use super::view::Seen;
use super::{Api, json};
use crate::source::{SelectRequest, SeriesChunks, SourceError};

/// More selectors than this in one request are not written by people.
const SELECTORS_MAX: usize = 1_000;

/// How many patterns the selectors of a request may have together: each may take megabytes once it is compiled.
const REGEX_COUNT_MAX: usize = 1_000;

/// Lists that take more memory than this are written on a thread that may block, while they are sent.
const INLINE_BYTES_MAX: usize = 128 << 10;

/// The names of all labels.
pub async fn label_names(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let lookup = Lookup::new(&api, &params)?;
    let pass = lookup.enter(&api).await?;
    let sets = lookup.matcher_sets(&api, &pass, &params, false).await?;
    let source = &lookup.seen.source;
    let names = lookup.in_time(source.label_names(sets, lookup.min_ms, lookup.max_ms)).await?;
    lookup.respond(&api, names, String::len, |out, name| json::write_text(out, name))
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
    let lookup = Lookup::new(&api, &params)?;
    let pass = lookup.enter(&api).await?;
    let sets = lookup.matcher_sets(&api, &pass, &params, false).await?;
    let source = &lookup.seen.source;
    let values = lookup.in_time(source.label_values(name, sets, lookup.min_ms, lookup.max_ms)).await?;
    lookup.respond(&api, values, String::len, |out, value| json::write_text(out, value))
}

/// The label sets of series.
pub async fn series(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let lookup = Lookup::new(&api, &params)?;
    let pass = lookup.enter(&api).await?;
    let sets = lookup.matcher_sets(&api, &pass, &params, true).await?;
    if sets.is_empty() {
        return Err(ApiError::new(ErrorKind::BadData, "no match[] parameter provided"));
    }
    let bytes_max = api.config.options.fetch_bytes_max;
    let mut found: Vec<Labels> = Vec::new();
    for matchers in sets {
        let request = SelectRequest {
            matchers,
            min_ms: lookup.min_ms,
            max_ms: lookup.max_ms,
            skip_chunks: true,
            budget: None,
        };
        let series = lookup.in_time(lookup.seen.source.select(request)).await?;
        found = aside(move || merged(found, series)).await?;
        if size_bytes(&found, Labels::size_bytes) as u64 > bytes_max {
            return Err(SourceError::TooLarge { bytes_max }.into());
        }
    }
    lookup.respond(&api, found, Labels::size_bytes, |out, labels| json::write_labels(out, labels))
}

/// What a request asks for, and until when it waits for the answer.
struct Lookup {
    timeout: Duration,
    deadline: Instant,
    min_ms: i64,
    max_ms: i64,
    limit: usize,
    seen: Seen,
}

impl Lookup {
    fn new(api: &Api, params: &Params) -> Result<Lookup, ApiError> {
        let limit = params.limit()?;
        let (min_ms, max_ms) = params.times_ms()?;
        let timeout = params.timeout(api.config.options.timeout)?;
        let (deadline, seen) =
            (Instant::now() + timeout, Seen::new(api, params, api.config.partial_response)?);
        Ok(Lookup { timeout, deadline, min_ms, max_ms, limit, seen })
    }

    async fn enter(&self, api: &Api) -> Result<Pass, ApiError> {
        api.gate.enter(self.deadline).await
    }

    /// The selectors of `match[]`, each once; each must hold a matcher that a series without the label does not
    /// fulfil. Patterns take their time to compile, so that no thread which others wait for may do it.
    ///
    /// Prometheus names the parameter for series (`names_it`) and not for labels.
    async fn matcher_sets(
        &self,
        api: &Api,
        pass: &Pass,
        params: &Params,
        names_it: bool,
    ) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let wrong = move |reason: String| match names_it {
            true => ApiError::parameter("match[]", reason),
            false => ApiError::new(ErrorKind::BadData, reason),
        };
        let mut seen = HashSet::new();
        let texts: Vec<String> =
            params.all("match[]").filter(|text| seen.insert(*text)).map(str::to_owned).collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        if texts.len() > SELECTORS_MAX {
            return Err(ApiError::parameter("match[]", format!("more than {SELECTORS_MAX} selectors")));
        }
        let (evaluator, deadline, timeout) = (Arc::clone(&api.evaluator), self.deadline, self.timeout);
        let (mut regex_count, mut compiled_bytes) = (0, 0);
        let parse = move |text: String| {
            if Instant::now() >= deadline {
                return Err(no_answer(timeout));
            }
            let matchers = evaluator.selector(&text).map_err(|error| match parse_kind(&error) {
                ErrorKind::BadData => wrong(error.to_string()),
                kind => ApiError::new(kind, error.to_string()),
            })?;
            compiled_bytes += matchers.iter().map(Matcher::compiled_bytes).sum::<usize>();
            if compiled_bytes > QUERY_COMPILED_BYTES_MAX {
                return Err(wrong("the regular expressions take too much memory together".to_owned()));
            }
            let is_regex = |matcher: &&Matcher| matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex);
            regex_count += matchers.iter().filter(is_regex).count();
            if regex_count > REGEX_COUNT_MAX {
                let reason = format!("more than {REGEX_COUNT_MAX} regular expressions");
                return Err(ApiError::parameter("match[]", reason));
            }
            if matchers.iter().all(Matcher::matches_empty) {
                return Err(wrong("match[] must contain at least one non-empty matcher".to_owned()));
            }
            Ok(matchers)
        };
        let pass = pass.clone();
        aside(move || {
            let _pass = pass;
            texts.into_iter().map(parse).collect()
        })
        .await?
    }

    /// A list, of which no more than a part is in memory as text.
    fn respond<T: Send + 'static>(
        &self,
        api: &Api,
        mut items: Vec<T>,
        bytes: impl Fn(&T) -> usize,
        write: impl Fn(&mut &mut dyn Write, &T) -> io::Result<()> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let missing = self.seen.warnings.texts();
        let is_partial = !missing.is_empty();
        let mut warnings = missing;
        if self.limit > 0 && items.len() > self.limit {
            items.truncate(self.limit);
            warnings.push(TRUNCATED.to_owned());
        }
        let size_bytes = size_bytes(&items, bytes);
        let mut response = if size_bytes <= INLINE_BYTES_MAX {
            json::success(&warnings, &[], |mut out| {
                json::write_list(&mut (&mut out as &mut dyn Write), &items, write)
            })
        } else {
            let room = api.room.take(size_bytes)?;
            json::streamed(warnings, Vec::new(), move |mut out| {
                let _room = room;
                json::write_list(&mut (&mut out as &mut dyn Write), &items, write)
            })
        };
        if is_partial {
            api.metrics.partial_answers.inc();
            forbid_caching(&mut response);
        }
        Ok(response)
    }

    async fn in_time<T>(&self, found: impl Future<Output = Result<T, SourceError>>) -> Result<T, ApiError> {
        match timeout_at(self.deadline.into(), found).await {
            Ok(found) => Ok(found?),
            Err(_) => Err(no_answer(self.timeout)),
        }
    }
}

fn no_answer(timeout: Duration) -> ApiError {
    ApiError::new(ErrorKind::Timeout, format!("no answer within {timeout:?}"))
}

/// What was found so far and what another selector found: never more than the distinct label sets.
fn merged(mut found: Vec<Labels>, series: Vec<SeriesChunks>) -> Vec<Labels> {
    let first = found.is_empty();
    found.extend(series.into_iter().map(|one| one.labels));
    if !first {
        found.sort(); // Both parts are sorted, which this sort makes use of.
        found.dedup();
    }
    found
}

fn size_bytes<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> usize {
    items.iter().map(|item| size_of::<T>() + bytes(item)).sum()
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
