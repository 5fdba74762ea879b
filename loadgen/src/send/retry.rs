//! What follows an attempt: the rules of a plain client and those of Prometheus.
//!
//! No clock and no network: a lane asks and obeys.

use std::time::{Duration, SystemTime};

use crate::ledger::Fate;

/// How one attempt to deliver a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// With an answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// How long the receiver asks to wait.
        retry_after: Option<Duration>,
    },
    /// Without one: refused, broken or timed out.
    NoAnswer,
}

/// What to do then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The request has met its fate.
    Done(Fate),
    /// Send it again after a pause.
    Retry(Duration),
}

/// When to send again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt; `None` is for ever.
    pub retries_max: Option<u32>,
    /// Pause before the first retry; it doubles with each further one.
    pub backoff_min: Duration,
    /// The longest pause, unless the receiver asks for a longer one.
    pub backoff_max: Duration,
    /// Whether 429 is worth a retry.
    pub retry_on_http_429: bool,
}

impl RetryPolicy {
    /// A bounded number of retries, 429 included.
    pub fn plain(retries_max: u32) -> RetryPolicy {
        RetryPolicy {
            retries_max: Some(retries_max),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            retry_on_http_429: true,
        }
    }
}

/// The attempts at one request.
#[derive(Debug)]
pub struct Retrier {
    policy: RetryPolicy,
    retries: u32,
    backoff: Duration,
}

impl Retrier {
    /// Before the first attempt.
    pub fn new(policy: RetryPolicy) -> Retrier {
        Retrier { policy, retries: 0, backoff: policy.backoff_min }
    }

    /// Retries so far, as the header `Retry-Attempt` counts them.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// Decides what follows an attempt.
    pub fn next(&mut self, attempt: Attempt) -> Next {
        let retry_after = match attempt {
            Attempt::Answered { status: 200..300, .. } => return Next::Done(Fate::Acknowledged),
            Attempt::Answered { status: 429, retry_after } if self.policy.retry_on_http_429 => retry_after,
            Attempt::Answered { status: 500.., retry_after } => retry_after,
            // Also redirects: Prometheus follows some of them, but a load must reach the receiver it names.
            Attempt::Answered { .. } => return Next::Done(Fate::Refused),
            Attempt::NoAnswer => None,
        };
        if self.policy.retries_max.is_some_and(|max| self.retries >= max) {
            let is_refused = matches!(attempt, Attempt::Answered { status: ..500, .. });
            return Next::Done(if is_refused { Fate::Refused } else { Fate::Unknown });
        }
        self.retries = self.retries.saturating_add(1);
        let pause = retry_after.filter(|after| !after.is_zero()).unwrap_or(self.backoff);
        self.backoff = (pause.saturating_mul(2)).min(self.policy.backoff_max);
        Next::Retry(pause)
    }
}

/// Reads a `Retry-After` header: seconds, or a date.
pub fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMETHEUS: RetryPolicy = RetryPolicy {
        retries_max: None,
        backoff_min: Duration::from_millis(30),
        backoff_max: Duration::from_secs(5),
        retry_on_http_429: false,
    };

    fn answered(status: u16) -> Attempt {
        Attempt::Answered { status, retry_after: None }
    }

    #[test]
    fn a_plain_client_does_not_send_twice_unless_told_to() {
        for (attempt, fate) in [
            (answered(200), Fate::Acknowledged),
            (answered(204), Fate::Acknowledged),
            (answered(307), Fate::Refused),
            (answered(400), Fate::Refused),
            (answered(429), Fate::Refused),
            (answered(503), Fate::Unknown),
            (Attempt::NoAnswer, Fate::Unknown),
        ] {
            assert_eq!(Retrier::new(RetryPolicy::plain(0)).next(attempt), Next::Done(fate), "{attempt:?}");
        }
        let mut retrier = Retrier::new(RetryPolicy::plain(2));
        assert_eq!(retrier.next(answered(429)), Next::Retry(Duration::from_millis(100)));
        assert_eq!(retrier.next(Attempt::NoAnswer), Next::Retry(Duration::from_millis(200)));
        assert_eq!(retrier.retries(), 2);
        assert_eq!(retrier.next(answered(503)), Next::Done(Fate::Unknown));
    }

    #[test]
    fn prometheus_retries_5xx_and_broken_connections_for_ever() {
        let mut retrier = Retrier::new(PROMETHEUS);
        let mut pause = Duration::from_millis(30);
        for attempt in 0..1000 {
            let outcome = if attempt % 2 == 0 { answered(500) } else { Attempt::NoAnswer };
            assert_eq!(retrier.next(outcome), Next::Retry(pause));
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        assert_eq!(retrier.next(answered(200)), Next::Done(Fate::Acknowledged));
    }

    #[test]
    fn prometheus_drops_what_a_4xx_refuses() {
        for status in [400, 401, 404, 409, 413, 422, 429] {
            assert_eq!(
                Retrier::new(PROMETHEUS).next(answered(status)),
                Next::Done(Fate::Refused),
                "{status}"
            );
        }
        let with_429 = RetryPolicy { retry_on_http_429: true, ..PROMETHEUS };
        assert_eq!(Retrier::new(with_429).next(answered(429)), Next::Retry(Duration::from_millis(30)));
        assert_eq!(Retrier::new(with_429).next(answered(409)), Next::Done(Fate::Refused));
    }

    #[test]
    fn retry_after_replaces_the_pause_and_sets_the_next_one() {
        let mut retrier = Retrier::new(PROMETHEUS);
        let wait = Attempt::Answered { status: 503, retry_after: Some(Duration::from_secs(1)) };
        assert_eq!(retrier.next(wait), Next::Retry(Duration::from_secs(1)));
        assert_eq!(retrier.next(answered(503)), Next::Retry(Duration::from_secs(2)));
        let long = Attempt::Answered { status: 503, retry_after: Some(Duration::from_secs(60)) };
        assert_eq!(retrier.next(long), Next::Retry(Duration::from_secs(60)));
        assert_eq!(retrier.next(answered(503)), Next::Retry(Duration::from_secs(5)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 60);
        assert_eq!(parse_retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(60)));
        for text in ["", "-1", "soon", "Sun, 06 Nov 1990 08:49:37 GMT", "99999999999999"] {
            assert_eq!(parse_retry_after(text, now), None, "{text}");
        }
    }
}
