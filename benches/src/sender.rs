//! The load: a fixed number of connections, each with its own series, each waiting for one answer at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::http::Connection;
use crate::template::{STEP_MS, Template};

/// How far a connection may be ahead of the slowest one. Series of one receiver share its idea of the newest
/// time, and far behind it samples count as too old.
const ROUNDS_AHEAD_MAX: u64 = 10;

/// Pause before a refused request is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Retries of one request before the run is given up.
const RETRIES_MAX: u32 = 1000;

/// When the load ends.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Time of the first round's samples.
    pub start_ms: i64,
    /// Rounds to send in any case at most.
    pub rounds_max: u64,
    /// Wall clock after which no new request is begun.
    pub duration: Duration,
    /// Whether the first round, in which all series are made, is measured too.
    pub is_creation_measured: bool,
}

impl Plan {
    /// Time of a round's samples.
    pub fn timestamp_ms(&self, round: u64) -> i64 {
        self.start_ms + round as i64 * STEP_MS
    }
}

/// Why the load ended early.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection broke.
    #[error("the connection to the receiver broke: {0}")]
    Io(#[from] io::Error),
    /// An answer that a retry cannot better.
    #[error("the receiver answers {status}: {text}")]
    Refused {
        /// The status.
        status: u16,
        /// What it said.
        text: String,
    },
}

/// Answer times in microseconds, up to ten minutes.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds and three digits are valid")
}

/// One connection and the requests that are its own.
struct Lane {
    connection: Connection,
    templates: Vec<Template>,
    latency_us: Histogram<u64>,
    samples: u64,
    retries: u64,
}

/// What one lane did.
pub struct LaneResult {
    /// Answer times of measured requests in microseconds.
    pub latency_us: Histogram<u64>,
    /// Samples acknowledged in the measured time.
    pub samples: u64,
    /// Requests that had to be sent again.
    pub retries: u64,
    /// Its templates, each with the number of rounds that were acknowledged, unmeasured ones included.
    pub rounds: Vec<(Template, u64)>,
}

/// Sends until the plan ends. `at_start` runs when the measured time begins, with all lanes at rest.
pub fn send<T>(
    address: SocketAddr,
    lanes: Vec<Vec<Template>>,
    plan: Plan,
    at_start: impl FnOnce() -> T,
) -> Result<(T, Vec<LaneResult>), SendError> {
    let progress: Vec<AtomicU64> = lanes.iter().map(|_| AtomicU64::new(0)).collect();
    let barrier = Barrier::new(lanes.len() + 1);
    let lanes: Vec<Lane> =
        lanes.into_iter().map(|templates| Lane::open(address, templates)).collect::<Result<_, _>>()?;
    thread::scope(|scope| {
        let handles: Vec<_> = lanes
            .into_iter()
            .enumerate()
            .map(|(index, lane)| {
                let (progress, barrier) = (&progress[..], &barrier);
                scope.spawn(move || lane.run(index, plan, progress, barrier))
            })
            .collect();
        // Lanes rest between the two: what `at_start` reads belongs to no measured request.
        barrier.wait();
        let start = at_start();
        barrier.wait();
        let results = handles
            .into_iter()
            .map(|handle| handle.join().expect("a lane returns its errors and does not panic"))
            .collect::<Result<_, _>>()?;
        Ok((start, results))
    })
}

impl Lane {
    fn open(address: SocketAddr, templates: Vec<Template>) -> Result<Lane, SendError> {
        let connection = Connection::open(address)?;
        Ok(Lane { connection, templates, latency_us: latency_histogram(), samples: 0, retries: 0 })
    }

    fn run(
        mut self,
        index: usize,
        plan: Plan,
        progress: &[AtomicU64],
        barrier: &Barrier,
    ) -> Result<LaneResult, SendError> {
        let mut first_round = 0;
        let mut creation = Ok(());
        if !plan.is_creation_measured {
            creation = (0..self.templates.len()).try_for_each(|template| self.send(template, 0, plan));
            self.latency_us.reset();
            (self.samples, self.retries) = (0, 0);
            first_round = 1;
        }
        barrier.wait();
        barrier.wait();
        let result = creation.and_then(|()| self.measure(index, first_round, plan, progress));
        // A lane that gave up must not hold back the others.
        progress[index].store(u64::MAX, Ordering::Relaxed);
        let complete = result?;
        let rounds = self.templates.into_iter().zip(complete).collect();
        Ok(LaneResult { latency_us: self.latency_us, samples: self.samples, retries: self.retries, rounds })
    }

    /// Returns how many rounds of each template were acknowledged.
    fn measure(
        &mut self,
        index: usize,
        first_round: u64,
        plan: Plan,
        progress: &[AtomicU64],
    ) -> Result<Vec<u64>, SendError> {
        let deadline = Instant::now() + plan.duration;
        let mut complete = vec![first_round; self.templates.len()];
        for round in first_round..plan.rounds_max {
            progress[index].store(round, Ordering::Relaxed);
            let slowest =
                || progress.iter().map(|round| round.load(Ordering::Relaxed)).min().unwrap_or(round);
            while round > slowest().saturating_add(ROUNDS_AHEAD_MAX) {
                thread::sleep(Duration::from_millis(1));
            }
            for (template, rounds) in complete.iter_mut().enumerate() {
                if Instant::now() >= deadline {
                    return Ok(complete);
                }
                self.send(template, round, plan)?;
                *rounds += 1;
            }
        }
        Ok(complete)
    }

    fn send(&mut self, template: usize, round: u64, plan: Plan) -> Result<(), SendError> {
        let template = &mut self.templates[template];
        let request = template.at(round, plan.timestamp_ms(round));
        for attempt in 0.. {
            let started = Instant::now();
            let response = self.connection.exchange(request)?;
            match response.status {
                200 | 204 => {
                    self.latency_us.saturating_record(started.elapsed().as_micros() as u64);
                    break;
                }
                429 | 503 if attempt < RETRIES_MAX => {
                    self.retries += 1;
                    thread::sleep(RETRY_PAUSE);
                }
                status => return Err(SendError::Refused { status, text: response.text() }),
            }
        }
        self.samples += template.sample_count() as u64;
        Ok(())
    }
}
