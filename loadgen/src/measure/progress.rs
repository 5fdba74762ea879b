//! What a person sees while a load runs: a line that changes on a terminal, a line every ten seconds elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::quantity::count;

/// Time between two looks of a line that is overwritten.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Time between two lines where lines cannot be overwritten.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Where a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not measured yet.
    WarmUp,
    /// Measured.
    Measuring,
    /// Waiting for the last answers.
    Draining,
}

/// A load at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Where it is.
    pub phase: Phase,
    /// Time since it began.
    pub elapsed: Duration,
    /// Time that it will take, but for the last answers; `None` if nobody can know.
    pub total: Option<Duration>,
    /// Samples acknowledged per second, lately.
    pub rate: f64,
    /// Latency lately; `None` without answers.
    pub p50_ms: Option<f64>,
    /// Likewise.
    pub p99_ms: Option<f64>,
    /// Attempts that failed so far.
    pub errors: u64,
    /// Attempts after the first so far.
    pub retries: u64,
    /// Prometheus' shards; `None` for other kinds of senders.
    pub shards: Option<usize>,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match self.phase {
            Phase::WarmUp => "warm-up  ",
            Phase::Measuring => "measuring",
            Phase::Draining => "draining ",
        };
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} ms"));
        let shards = self.shards.map_or(String::new(), |count| format!("  shards {count}"));
        let (total, to_go) = match self.total {
            Some(total) => {
                let left_s = total.saturating_sub(self.elapsed).as_secs_f64().ceil();
                (format!("/{}", total.as_secs()), format!("  {left_s} s to go"))
            }
            None => (String::new(), String::new()),
        };
        write!(
            out,
            "{phase} {:>4}{} s  {:>9} samples/s  p50 {}  p99 {}  errors {}  retries {}{shards}{to_go}",
            self.elapsed.as_secs(),
            total,
            count(self.rate),
            ms(self.p50_ms),
            ms(self.p99_ms),
            self.errors,
            self.retries,
        )
    }
}

/// Shows progress on the standard error.
#[derive(Debug)]
pub struct ProgressLine {
    is_terminal: bool,
    last: Option<Instant>,
}

impl Default for ProgressLine {
    fn default() -> ProgressLine {
        ProgressLine { is_terminal: std::io::stderr().is_terminal(), last: None }
    }
}

impl ProgressLine {
    /// Shows it, if it is time.
    pub fn show(&mut self, progress: &impl Display) {
        let pause = if self.is_terminal { LOOK_EVERY } else { LINE_EVERY };
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        let mut out = std::io::stderr().lock();
        // Nobody is hurt if the standard error is closed.
        if self.is_terminal {
            let _ = write!(out, "\r\x1b[K{progress}");
            let _ = out.flush();
        } else {
            let _ = writeln!(out, "{progress}");
        }
    }

    /// Leaves the line to what comes next.
    pub fn clear(&mut self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_rate_latency_and_time_to_go() {
        let progress = Progress {
            phase: Phase::Measuring,
            elapsed: Duration::from_millis(12_300),
            total: Some(Duration::from_secs(70)),
            rate: 1_234_567.0,
            p50_ms: Some(1.25),
            p99_ms: None,
            errors: 3,
            retries: 2,
            shards: Some(7),
        };
        let text = progress.to_string();
        for part in
            ["measuring", "12/70 s", "1.235 M samples/s", "p50 1.2 ms", "p99 -", "shards 7", "58 s to go"]
        {
            assert!(text.contains(part), "{text}");
        }
        let endless = Progress { total: None, shards: None, ..progress }.to_string();
        assert!(endless.contains("  12 s  ") && endless.ends_with("retries 2"), "{endless}");
    }
}
