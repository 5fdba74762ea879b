//! What should be readable, and why: stream and ledger of a run as verification sees them.

use std::ops::Range;
use std::sync::Arc;

use super::windows::Window;
use crate::ledger::Ledger;
use crate::stream::{ExpectedSeries, Stream};

pub use crate::ledger::Fate;

/// The source of truth of a comparison. The one of a run is [`Sent`].
pub trait Expectation: Send + Sync + 'static {
    /// Number of targets.
    fn targets(&self) -> u64;
    /// Label matchers, as PromQL text, of exactly the series of a target.
    fn selector(&self, target: u64) -> String;
    /// Number of rounds, the last of which may be incomplete.
    fn rounds(&self) -> u64;
    /// All series of a target that the run has touched in some rounds, samples in order of time.
    fn series(&self, target: u64, rounds: Range<u64>) -> Vec<ExpectedSeries>;
    /// The time of some rounds. What lies outside that of all rounds is of other runs and not looked at.
    fn window(&self, rounds: Range<u64>) -> Window;
    /// Number of requests.
    fn requests(&self) -> u64;
    /// What became of a request.
    fn fate(&self, request: u64) -> Fate;
}

/// What a run sent.
pub struct Sent {
    /// All samples.
    pub stream: Arc<Stream>,
    /// Which of them were acknowledged.
    pub ledger: Arc<Ledger>,
}

impl Sent {
    fn time_ms(&self, request: u64) -> i64 {
        self.stream.begin_ms().saturating_add_unsigned(self.stream.due_us(request) / 1000)
    }
}

impl Expectation for Sent {
    fn targets(&self) -> u64 {
        self.stream.targets()
    }

    fn selector(&self, target: u64) -> String {
        self.stream.target_selector(target)
    }

    fn rounds(&self) -> u64 {
        self.ledger.end().div_ceil(self.stream.requests_per_round())
    }

    fn series(&self, target: u64, rounds: Range<u64>) -> Vec<ExpectedSeries> {
        self.stream.expected_between(target, rounds, self.ledger.end())
    }

    fn window(&self, rounds: Range<u64>) -> Window {
        let per_round = self.stream.requests_per_round();
        let begin_ms = self.time_ms(rounds.start * per_round);
        // The requests of a round are all due before the next round begins, in milliseconds too.
        let next_ms = self.time_ms(rounds.end * per_round);
        let last_ms = self.time_ms(self.ledger.end().saturating_sub(1));
        Window { begin_ms, end_ms: last_ms.min(next_ms - 1) }
    }

    fn requests(&self) -> u64 {
        self.ledger.end()
    }

    fn fate(&self, request: u64) -> Fate {
        self.ledger.get(request)
    }
}
