//! The parameters of a request, from its URL and its form, and how Prometheus reads them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use http::{Method, Uri, header};

use super::Api;
use super::error::{ApiError, ErrorKind};
use super::form::{self, HeldForm};
use crate::duration::parse_duration_ms;
use crate::promql::parser::QUERY_BYTES_MAX;
use crate::rfc3339;

/// The parameters that any page reads. Others are dropped at once: what a request brings waits in memory with it.
const KNOWN: [&str; 20] = [
    "all_tenants",
    "analyze",
    "dedup",
    "end",
    "engine",
    "limit",
    "limit_per_metric",
    "lookback_delta",
    "match[]",
    "max_source_resolution",
    "metric",
    "partial_response",
    "query",
    "replicaLabels[]",
    "shard_info",
    "start",
    "stats",
    "step",
    "time",
    "timeout",
];

/// More parameters than this are not written by people.
const PARAMS_MAX: usize = 10_000;

/// The most points of a series in one answer.
const POINTS_MAX: i64 = 11_000;

/// Times are kept within a quarter of what 64 bits hold, so that adding a look-back or an offset cannot overflow.
pub const TIME_MS_MAX: i64 = i64::MAX / 4;

/// How Prometheus' clients write "since ever" and "for ever".
const OPEN_ENDS: [(&str, i64); 2] =
    [("-292273086-05-16T16:47:06Z", -TIME_MS_MAX), ("292277025-08-18T07:12:54.999999999Z", TIME_MS_MAX)];

/// Names and values in the order in which they take effect: those of the form before those of the URL.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    /// The memory of what came as a form.
    _held: Option<HeldForm>,
}

/// The steps of a range query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The first step.
    pub start_ms: i64,
    /// No step is after it.
    pub end_ms: i64,
    /// From one step to the next; positive.
    pub step_ms: i64,
}

impl FromRequest<Arc<Api>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Params, ApiError> {
        let (parts, body) = request.into_parts();
        let mut params = Params::default();
        let content_type = parts.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let is_form =
            content_type.is_some_and(|value| value.starts_with(b"application/x-www-form-urlencoded"));
        if parts.method == Method::POST && is_form {
            let mut held = HeldForm::new(api.metrics.form_bytes.clone());
            params.extend(&form::read(body, &mut held).await?)?;
            held.set(params.size_bytes());
            params._held = Some(held);
        }
        params.extend(parts.uri.query().unwrap_or("").as_bytes())?;
        Ok(params)
    }
}

impl Params {
    /// Those of a URL alone.
    pub fn of_url(uri: &Uri) -> Result<Params, ApiError> {
        let mut params = Params::default();
        params.extend(uri.query().unwrap_or("").as_bytes())?;
        Ok(params)
    }

    fn extend(&mut self, encoded: &[u8]) -> Result<(), ApiError> {
        for (name, value) in form_urlencoded::parse(encoded) {
            if !KNOWN.contains(&&*name) {
                continue;
            }
            // The parser would say so too, but only when it is the query's turn.
            if name == "query" && value.len() > QUERY_BYTES_MAX {
                let reason = format!("it is {} bytes long, more than {QUERY_BYTES_MAX}", value.len());
                return Err(ApiError::parameter("query", reason));
            }
            if self.pairs.len() == PARAMS_MAX {
                let text = format!("the request has more than {PARAMS_MAX} parameters");
                return Err(ApiError::new(ErrorKind::BadData, text));
            }
            self.pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(())
    }

    fn size_bytes(&self) -> usize {
        let texts = self.pairs.iter().map(|(name, value)| name.capacity() + value.capacity());
        texts.sum::<usize>() + self.pairs.capacity() * size_of::<(String, String)>()
    }

    /// The value in effect; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All of them.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of a parameter that may be repeated.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The PromQL text; the parser says what is wrong with an empty or endless one.
    pub fn query(&self) -> &str {
        self.get("query").unwrap_or("")
    }

    /// A time, if the parameter is given.
    pub fn time_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_time_ms(text)
            .map(Some)
            .map_err(|reason| ApiError::parameter(name, format!("Invalid time value for '{name}': {reason}")))
    }

    /// A length of time of any sign, if the parameter is given.
    pub fn length_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name).map(|text| parse_span_ms(name, text)).transpose()
    }

    /// Yes or no in Go's spellings, if the parameter is given.
    pub fn switch(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(Some(false)),
            Some(text) => Err(ApiError::parameter(name, format!("{text:?} is neither true nor false"))),
        }
    }

    /// How long the client will wait, at most `max`. Who does not wait at all is told that it took too long.
    pub fn timeout(&self, max: Duration) -> Result<Duration, ApiError> {
        let Some(ms) = self.length_ms("timeout")? else { return Ok(max) };
        Ok(max.min(Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
    }

    /// The most results wanted; 0 stands for all.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let limit: i64 = text
            .parse()
            .map_err(|_| ApiError::parameter("limit", format!("cannot parse {text:?} to a number")))?;
        usize::try_from(limit).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }

    /// Start, end and step of a range query. Without a step, it is a 250th of the range as in Thanos, and
    /// at least `default_step_ms`.
    pub fn steps(&self, default_step_ms: i64) -> Result<Steps, ApiError> {
        let time_ms = |name: &str| {
            let text = self.get(name).unwrap_or("");
            parse_time_ms(text).map_err(|reason| ApiError::parameter(name, reason))
        };
        let (start_ms, end_ms) = (time_ms("start")?, time_ms("end")?);
        if end_ms < start_ms {
            return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
        }
        let step_ms = match self.get("step") {
            Some(text) => parse_span_ms("step", text)?,
            None => default_step_ms.max((end_ms - start_ms) / 250),
        };
        if step_ms <= 0 {
            return Err(ApiError::parameter(
                "step",
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        if (end_ms - start_ms) / step_ms > POINTS_MAX {
            return Err(ApiError::new(
                ErrorKind::BadData,
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
                 resolution (?step=XX)",
            ));
        }
        Ok(Steps { start_ms, end_ms, step_ms })
    }

    /// The times of a metadata request; by default all times.
    pub fn times_ms(&self) -> Result<(i64, i64), ApiError> {
        let start_ms = self.time_ms("start")?.unwrap_or(-TIME_MS_MAX);
        let end_ms = self.time_ms("end")?.unwrap_or(TIME_MS_MAX);
        if end_ms < start_ms {
            return Err(ApiError::new(
                ErrorKind::BadData,
                "end timestamp must not be before start timestamp",
            ));
        }
        Ok((start_ms, end_ms))
    }
}

fn parse_time_ms(text: &str) -> Result<i64, String> {
    let open_end = OPEN_ENDS.iter().find(|(known, _)| *known == text).map(|(_, ms)| *ms);
    open_end
        .or_else(|| time_to_ms(text))
        .or_else(|| rfc3339::parse_ms(text))
        .ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp"))
}

/// A length of time: seconds as a number, or a duration.
fn parse_span_ms(name: &str, text: &str) -> Result<i64, ApiError> {
    seconds_to_ms(text)
        .or_else(|| parse_duration_ms(text).ok())
        .ok_or_else(|| ApiError::parameter(name, format!("cannot parse {text:?} to a valid duration")))
}

/// A time in seconds. Whole seconds and their fraction go apart, so that large times keep their milliseconds. Clients
/// write "since ever" and "for ever" as the largest times that they have, which are the largest that there are here.
fn time_to_ms(text: &str) -> Option<i64> {
    let seconds: f64 = text.parse().ok().filter(|seconds: &f64| seconds.is_finite())?;
    let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
    Some((ms as i64).clamp(-TIME_MS_MAX, TIME_MS_MAX))
}

/// A length in seconds, cut off to nanoseconds and then to milliseconds as in Prometheus.
fn seconds_to_ms(text: &str) -> Option<i64> {
    let ns = text.parse::<f64>().ok()? * 1e9;
    (ns.abs() < i64::MAX as f64).then_some(ns as i64 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(encoded: &str) -> Params {
        let mut params = Params::default();
        params.extend(encoded.as_bytes()).unwrap();
        params
    }

    fn text<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().text
    }

    #[test]
    fn times_are_seconds_or_rfc3339() {
        for (time, ms) in [
            ("0", 0),
            ("1435781451.781", 1_435_781_451_781),
            ("-1.5", -1_500),
            ("1e3", 1_000_000),
            ("2015-06-03T13:21:58.555Z", 1_433_337_718_555),
            ("2015-06-03T14:21:58.555%2B01:00", 1_433_337_718_555),
            ("-292273086-05-16T16:47:06Z", -TIME_MS_MAX),
            ("-9223309901257974", -TIME_MS_MAX),
            ("9223309901257974", TIME_MS_MAX),
            ("9223372036854775", TIME_MS_MAX),
            ("9223372036854775807", TIME_MS_MAX),
            ("1e300", TIME_MS_MAX),
        ] {
            assert_eq!(params(&format!("time={time}")).time_ms("time").unwrap(), Some(ms), "{time}");
        }
        for time in ["x", "NaN", "Inf", "2015-06-03"] {
            assert_eq!(
                text(params(&format!("time={time}")).time_ms("time")),
                format!(
                    "invalid parameter \"time\": Invalid time value for 'time': cannot parse {time:?} to a valid timestamp"
                )
            );
        }
        assert_eq!(params("time=").time_ms("time").unwrap(), None);
    }

    #[test]
    fn the_form_beats_the_url() {
        let mut both = params("query=form");
        both.extend(b"query=url&match[]=a&match%5B%5D=b").unwrap();
        assert_eq!(both.query(), "form");
        assert_eq!(both.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_no_page_reads_is_not_kept() {
        let params = params(&format!("x={}&query=a&Query=b", "y".repeat(100_000)));
        assert_eq!(params.pairs().collect::<Vec<_>>(), [("query", "a")]);
        assert!(params.size_bytes() < 1_000);
        let many = "match[]=a&".repeat(PARAMS_MAX + 1);
        assert!(text(Params::default().extend(many.as_bytes())).contains("more than 10000 parameters"));
        let long = format!("query={}", "a".repeat(QUERY_BYTES_MAX + 1));
        assert!(
            text(Params::default().extend(long.as_bytes())).contains("\"query\": it is 1048577 bytes long")
        );
    }

    #[test]
    fn a_length_is_cut_off_to_milliseconds() {
        for (step, ms) in
            [("0.0015", 1), ("0.29", 290), ("-0.0019", -1), ("1.0009", 1_000), ("1e9", 1_000_000_000_000)]
        {
            assert_eq!(params(&format!("step={step}")).length_ms("step").unwrap(), Some(ms), "{step}");
        }
        for step in ["NaN", "Inf", "1e10", "x"] {
            assert!(params(&format!("step={step}")).length_ms("step").is_err(), "{step}");
        }
    }

    #[test]
    fn steps_are_checked_in_prometheus_words() {
        let steps = params("start=0&end=100.5&step=1m").steps(1_000).unwrap();
        assert_eq!(steps, Steps { start_ms: 0, end_ms: 100_500, step_ms: 60_000 });
        assert_eq!(params("start=0&end=86400").steps(1_000).unwrap().step_ms, 345_600);
        assert_eq!(params("start=0&end=10").steps(1_000).unwrap().step_ms, 1_000);
        for (query, expected) in [
            ("end=1&step=1", "invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
            (
                "start=2&end=1&step=1",
                "invalid parameter \"end\": end timestamp must not be before start time",
            ),
            (
                "start=1&end=2&step=0",
                "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try \
                 a positive integer",
            ),
            (
                "start=1&end=2&step=foo",
                "invalid parameter \"step\": cannot parse \"foo\" to a valid duration",
            ),
            (
                "start=0&end=11001&step=1",
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
                 (?step=XX)",
            ),
        ] {
            assert_eq!(text(params(query).steps(1_000)), expected);
        }
        assert!(params("start=0&end=11000&step=1").steps(1_000).is_ok());
        let longest = format!("start=-{0}&end={0}&step=1ms", TIME_MS_MAX / 1000);
        assert!(params(&longest).steps(1_000).is_err());
    }

    #[test]
    fn timeouts_limits_and_lengths_are_bounded() {
        let minute = Duration::from_secs(60);
        assert_eq!(params("").timeout(minute).unwrap(), minute);
        assert_eq!(params("timeout=5s").timeout(minute).unwrap(), Duration::from_secs(5));
        assert_eq!(params("timeout=1e9").timeout(minute).unwrap(), minute);
        assert_eq!(params("timeout=0").timeout(minute).unwrap(), Duration::ZERO);
        assert_eq!(params("timeout=-1").timeout(minute).unwrap(), Duration::ZERO);
        assert!(params("timeout=x").timeout(minute).is_err());
        assert_eq!(params("limit=3").limit().unwrap(), 3);
        assert_eq!(
            text(params("limit=-3").limit()),
            "invalid parameter \"limit\": limit must be non-negative"
        );
        assert!(params("limit=x").limit().is_err());
        assert!(params("start=2&end=1").times_ms().is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in ".{0,40}") {
            let pairs = ["time", "start", "end", "step", "limit", "timeout"]
                .map(|name| (name.to_owned(), text.clone())).to_vec();
            let params = Params { pairs, ..Params::default() };
            let _ = (params.time_ms("time"), params.steps(1), params.limit(), params.timeout(Duration::MAX));
        }
    }
}
