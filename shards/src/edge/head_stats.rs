//! `/api/v1/status/tsdb`: what is asked, and the answer as JSON. The answer is made on a thread of its own, because
//! adding up counts of millions of values takes time that a shard does not have.
//!
//! Prometheus answers with one object, Thanos Receive with a list of one object per tenant; both are made here.

use std::io::{self, Write};

use futures::channel::oneshot;
use http::StatusCode;

use crate::core::{Count, HeadStats, ReadError, ShardHandle, StatsScope};

/// Entries of each list, unless the client says otherwise (Prometheus, Thanos: 10).
const LIMIT_DEFAULT: usize = 10;

/// The most entries of each list; who asks for more gets these.
const LIMIT_MAX: usize = 10_000;

/// What a client wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsQuery {
    /// Of whom.
    pub scope: StatsScope,
    /// Entries of each list.
    pub limit: usize,
}

/// An answer's status and body.
pub struct StatsAnswer {
    /// The status.
    pub status: StatusCode,
    /// JSON.
    pub body: Vec<u8>,
}

/// Asks for an answer.
pub type StatsRequest = (StatsQuery, oneshot::Sender<StatsAnswer>);

impl StatsQuery {
    /// Reads the parameters `limit` and `all_tenants`, as Thanos Receive does. `tenant` is what the header says; without
    /// both, `otherwise` is meant.
    ///
    /// # Errors
    /// A sentence for the client, when a parameter is wrong.
    pub fn new<'a>(
        tenant: Option<&str>,
        otherwise: StatsScope,
        parameters: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<StatsQuery, String> {
        let mut query = StatsQuery { scope: otherwise, limit: LIMIT_DEFAULT };
        let mut is_each = false;
        for (name, value) in parameters {
            match name {
                "all_tenants" => is_each = value == "true",
                "limit" if !value.is_empty() => {
                    let limit = value.parse::<usize>().ok().filter(|limit| *limit > 0);
                    let limit = limit.ok_or("limit must be a positive number")?;
                    query.limit = limit.min(LIMIT_MAX);
                }
                _ => {}
            }
        }
        match tenant {
            Some(_) if is_each => {
                return Err("all_tenants and the header that names one tenant exclude each other".to_owned());
            }
            Some(tenant) => query.scope = StatsScope::Tenant(tenant.into()),
            None if is_each => query.scope = StatsScope::Each,
            None => {}
        }
        Ok(query)
    }
}

impl StatsAnswer {
    /// The figures.
    pub fn of(scope: &StatsScope, stats: &[HeadStats]) -> StatsAnswer {
        let mut body = Vec::new();
        write_success(&mut body, scope, stats).expect("a vector takes every write");
        StatsAnswer { status: StatusCode::OK, body }
    }

    /// A request that is wrong.
    pub fn bad_request(text: &str) -> StatsAnswer {
        StatsAnswer::error(StatusCode::BAD_REQUEST, "bad_data", text)
    }

    /// An answer that may come later.
    pub fn unavailable(text: &str) -> StatsAnswer {
        StatsAnswer::error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
    }

    fn error(status: StatusCode, kind: &str, text: &str) -> StatsAnswer {
        let mut body = format!(r#"{{"status":"error","errorType":"{kind}","error":"#).into_bytes();
        write_text(&mut body, text).expect("a vector takes every write");
        body.push(b'}');
        StatsAnswer { status, body }
    }

    fn of_result(scope: &StatsScope, counted: Result<Vec<HeadStats>, ReadError>) -> StatsAnswer {
        match counted {
            Ok(stats) => StatsAnswer::of(scope, &stats),
            Err(error) => StatsAnswer::unavailable(&error.to_string()),
        }
    }
}

/// Answers until every sender of requests has gone.
pub fn stats_thread(handle: ShardHandle, requests: flume::Receiver<StatsRequest>) {
    for (query, reply) in requests {
        if reply.is_canceled() {
            continue;
        }
        let counted = futures::executor::block_on(handle.head_stats(query.scope.clone(), query.limit));
        // An error in sending means that the client has gone.
        let _ = reply.send(StatsAnswer::of_result(&query.scope, counted));
    }
}

fn write_success(out: &mut impl Write, scope: &StatsScope, stats: &[HeadStats]) -> io::Result<()> {
    out.write_all(br#"{"status":"success","data":"#)?;
    match (scope, stats) {
        (StatsScope::Together, [stats]) => write_stats(out, stats)?,
        _ => write_list(out, stats, write_stats)?,
    }
    out.write_all(b"}")
}

fn write_stats(out: &mut impl Write, stats: &HeadStats) -> io::Result<()> {
    out.write_all(b"{")?;
    if let Some(tenant) = &stats.tenant {
        out.write_all(br#""tenant":"#)?;
        write_text(out, tenant)?;
        out.write_all(b",")?;
    }
    // What an empty head of Prometheus says.
    let (min_ms, max_ms) = stats.times_ms.unwrap_or((i64::MAX, i64::MIN));
    write!(
        out,
        r#""headStats":{{"numSeries":{},"numLabelPairs":{},"chunkCount":{},"minTime":{min_ms},"maxTime":{max_ms}}}"#,
        stats.series, stats.label_pairs, stats.chunks
    )?;
    for (name, counts) in [
        ("seriesCountByMetricName", &stats.series_by_metric),
        ("labelValueCountByLabelName", &stats.values_by_label),
        ("memoryInBytesByLabelName", &stats.bytes_by_label),
        ("seriesCountByLabelValuePair", &stats.series_by_pair),
    ] {
        write!(out, r#","{name}":"#)?;
        write_list(out, counts, write_count)?;
    }
    out.write_all(b"}")
}

fn write_count(out: &mut impl Write, Count { name, count }: &Count) -> io::Result<()> {
    out.write_all(br#"{"name":"#)?;
    write_text(out, name)?;
    write!(out, r#","value":{count}}}"#)
}

fn write_list<W: Write, T>(
    out: &mut W,
    items: &[T],
    write: impl Fn(&mut W, &T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write(out, item)?;
    }
    out.write_all(b"]")
}

/// A text, escaped for HTML too, as Go does.
fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(out, "\\{character}")?,
            '<' | '>' | '&' | '\0'..='\x1f' => write!(out, "\\u{:04x}", character as u32)?,
            _ => write!(out, "{character}")?,
        }
    }
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tenant: Option<&str>, parameters: &[(&str, &str)]) -> Result<StatsQuery, String> {
        StatsQuery::new(tenant, StatsScope::Together, parameters.iter().copied())
    }

    fn text(scope: &StatsScope, stats: &[HeadStats]) -> String {
        String::from_utf8(StatsAnswer::of(scope, stats).body).unwrap()
    }

    #[test]
    fn parameters_are_read_as_in_thanos() {
        let query = |scope, limit| Ok(StatsQuery { scope, limit });
        assert_eq!(parse(None, &[]), query(StatsScope::Together, 10));
        assert_eq!(parse(None, &[("all_tenants", "true"), ("limit", "3")]), query(StatsScope::Each, 3));
        assert_eq!(parse(None, &[("all_tenants", "1"), ("limit", "")]), query(StatsScope::Together, 10));
        assert_eq!(
            parse(Some("t"), &[("limit", "99999999")]),
            query(StatsScope::Tenant("t".into()), LIMIT_MAX)
        );
        for wrong in ["0", "-1", "x", "99999999999999999999"] {
            assert!(parse(None, &[("limit", wrong)]).unwrap_err().contains("positive"), "{wrong}");
        }
        assert!(parse(Some("t"), &[("all_tenants", "true")]).unwrap_err().contains("exclude"));
    }

    #[test]
    fn one_object_for_all_and_a_list_for_tenants() {
        let count = |name: &str, count| vec![Count { name: name.to_owned(), count }];
        let stats = HeadStats {
            series: 2,
            label_pairs: 3,
            chunks: 4,
            times_ms: Some((-5, 6)),
            series_by_metric: count("a\"\\<\n", 7),
            values_by_label: count("l", 8),
            bytes_by_label: count("é", 9),
            ..HeadStats::default()
        };
        let rest = concat!(
            r#""headStats":{"numSeries":2,"numLabelPairs":3,"chunkCount":4,"minTime":-5,"maxTime":6},"#,
            r#""seriesCountByMetricName":[{"name":"a\"\\\u003c\u000a","value":7}],"#,
            r#""labelValueCountByLabelName":[{"name":"l","value":8}],"#,
            r#""memoryInBytesByLabelName":[{"name":"é","value":9}],"seriesCountByLabelValuePair":[]}"#
        );
        let together = text(&StatsScope::Together, std::slice::from_ref(&stats));
        assert_eq!(together, format!(r#"{{"status":"success","data":{{{rest}}}"#));
        let tenant = HeadStats { tenant: Some("t".into()), ..stats };
        assert_eq!(
            text(&StatsScope::Each, &[tenant]),
            format!(r#"{{"status":"success","data":[{{"tenant":"t",{rest}]}}"#)
        );
        assert_eq!(text(&StatsScope::Each, &[]), r#"{"status":"success","data":[]}"#);
        let empty = text(&StatsScope::Together, &[HeadStats::default()]);
        assert!(empty.contains(r#""minTime":9223372036854775807,"maxTime":-9223372036854775808"#), "{empty}");
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let answer = StatsAnswer::bad_request("a \"b\"");
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body, br#"{"status":"error","errorType":"bad_data","error":"a \"b\""}"#);
    }
}
