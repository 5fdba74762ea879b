//! The parameters of a request, from its URL and its form, and how Prometheus reads them.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use http::{Method, Uri, header};
use tokio::time::timeout;

use super::error::{ApiError, ErrorKind};
use crate::duration::parse_duration_ms;
use crate::rfc3339;

/// Largest form that is read, as in Go.
const FORM_BYTES_MAX: usize = 10 << 20;

/// How long a form may take to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);

/// The most points of a series in one answer.
const POINTS_MAX: i64 = 11_000;

/// Times are kept within a quarter of what 64 bits hold, so that adding a look-back or an offset cannot overflow.
pub const TIME_MS_MAX: i64 = i64::MAX / 4;

/// How Prometheus' clients write "since ever" and "for ever".
const OPEN_ENDS: [(&str, i64); 2] =
    [("-292273086-05-16T16:47:06Z", -TIME_MS_MAX), ("292277025-08-18T07:12:54.999999999Z", TIME_MS_MAX)];

/// Names and values in the order in which they take effect: those of the form before those of the URL.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

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

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Params, ApiError> {
        let (parts, body) = request.into_parts();
        let mut params = Params::default();
        let content_type = parts.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let is_form =
            content_type.is_some_and(|value| value.starts_with(b"application/x-www-form-urlencoded"));
        if parts.method == Method::POST && is_form {
            let form = timeout(FORM_TIMEOUT, to_bytes(body, FORM_BYTES_MAX)).await.map_err(|_| {
                ApiError::new(ErrorKind::Timeout, format!("the form did not arrive within {FORM_TIMEOUT:?}"))
            })?;
            let form = form.map_err(|error| {
                ApiError::new(
                    ErrorKind::TooLarge,
                    format!(
                        "the form did not arrive whole or is longer than {FORM_BYTES_MAX} bytes: {error}"
                    ),
                )
            })?;
            params.extend(&form);
        }
        params.extend(parts.uri.query().unwrap_or("").as_bytes());
        Ok(params)
    }
}

impl Params {
    /// Those of a URL alone.
    pub fn of_url(uri: &Uri) -> Params {
        let mut params = Params::default();
        params.extend(uri.query().unwrap_or("").as_bytes());
        params
    }

    fn extend(&mut self, encoded: &[u8]) {
        self.0.extend(form_urlencoded::parse(encoded).into_owned());
    }

    /// The value in effect; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All of them.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of a parameter that may be repeated.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
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

    /// A positive duration, if the parameter is given.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let ms = parse_span_ms(name, text)?;
        if ms <= 0 {
            return Err(ApiError::parameter(name, "it must be more than zero milliseconds"));
        }
        Ok(Some(ms))
    }

    /// How long the client will wait, at most `max`.
    pub fn timeout(&self, max: Duration) -> Result<Duration, ApiError> {
        let Some(ms) = self.duration_ms("timeout")? else { return Ok(max) };
        Ok(max.min(Duration::from_millis(ms.unsigned_abs())))
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
        .or_else(|| seconds_to_ms(text))
        .or_else(|| rfc3339::parse_ms(text))
        .ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp"))
}

/// A length of time: seconds as a number, or a duration.
fn parse_span_ms(name: &str, text: &str) -> Result<i64, ApiError> {
    seconds_to_ms(text)
        .or_else(|| parse_duration_ms(text).ok())
        .ok_or_else(|| ApiError::parameter(name, format!("cannot parse {text:?} to a valid duration")))
}

/// Whole seconds and their fraction apart, so that large times keep their milliseconds.
fn seconds_to_ms(text: &str) -> Option<i64> {
    let seconds: f64 = text.parse().ok().filter(|seconds: &f64| seconds.is_finite())?;
    let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
    (ms.abs() <= TIME_MS_MAX as f64).then_some(ms as i64).filter(|ms| ms.abs() <= TIME_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(encoded: &str) -> Params {
        let mut params = Params::default();
        params.extend(encoded.as_bytes());
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
        ] {
            assert_eq!(params(&format!("time={time}")).time_ms("time").unwrap(), Some(ms), "{time}");
        }
        for time in ["x", "NaN", "Inf", "1e300", "2015-06-03", "9223372036854775807"] {
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
        both.extend(b"query=url&match[]=a&match%5B%5D=b");
        assert_eq!(both.query(), "form");
        assert_eq!(both.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
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
        assert!(params("timeout=-1").timeout(minute).is_err());
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
            let params = Params(["time", "start", "end", "step", "limit", "timeout"]
                .map(|name| (name.to_owned(), text.clone())).to_vec());
            let _ = (params.time_ms("time"), params.steps(1), params.limit(), params.timeout(Duration::MAX));
        }
    }
}
