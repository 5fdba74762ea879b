//! What was acknowledged is there: after kill -9, after SIGTERM, and when the WAL ring was full.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::support::server::Server;
use super::support::write::{Sender, TimeSeries, series, series_of};
use super::support::{now_ms, wait_for};

/// Series of each writer; all of them get a sample in each of its requests.
const SERIES_PER_WRITER: usize = 50;

const WRITERS: usize = 4;

/// The time between two samples of a series.
const STEP_MS: i64 = 100;

/// One of several threads that write at the same time, in one of several runs over the same data directory.
#[derive(Clone, Copy)]
struct Writer {
    run: usize,
    number: usize,
    start_ms: i64,
}

impl Writer {
    fn metric(self) -> String {
        format!("run_{}_writer_{}", self.run, self.number)
    }

    /// A sample's value depends on all that names the sample, so that none can pass for another.
    fn value(self, index: usize, round: i64) -> f64 {
        (self.number * 1_000_000 + index * 1000) as f64 + round as f64 * 0.1
    }

    fn round(self, round: i64) -> Vec<TimeSeries> {
        let sample = |index| (self.start_ms + round * STEP_MS, self.value(index, round));
        (0..SERIES_PER_WRITER)
            .map(|index| series(&self.metric(), &index.to_string(), &[sample(index)]))
            .collect()
    }

    /// Sends round after round until the server is gone; returns how many were acknowledged.
    fn write(self, address: SocketAddr, acknowledged: &AtomicU64) -> i64 {
        let mut sender = Sender::new(address);
        let mut round = 0;
        loop {
            match sender.send(&self.round(round)) {
                Ok(response) if response.status == 200 => {
                    round += 1;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(response) if response.status == 503 => {
                    assert!(response.header("retry-after").is_some(), "{}", response.text());
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(response) => panic!("{} {}", response.status, response.text()),
                Err(_) => return round,
            }
        }
    }

    /// Each series holds exactly its acknowledged samples, and at most the one that was on its way.
    fn assert_stored(self, rounds: i64, server: &Server) {
        let selector = format!("{}[2h]", self.metric());
        let stored = server.query().instant(&selector, self.start_ms + (rounds + 1) * STEP_MS);
        assert_eq!(stored.len(), SERIES_PER_WRITER, "series of {}", self.metric());
        for (labels, samples) in &stored {
            let index: usize = labels["id"].parse().unwrap();
            let count = samples.len() as i64;
            assert!(
                count == rounds || count == rounds + 1,
                "{} {index}: {count} samples, {rounds} were acknowledged",
                self.metric()
            );
            for (round, &sample) in (0i64..).zip(samples) {
                let sent = (self.start_ms + round * STEP_MS, self.value(index, round));
                assert_eq!(sample, sent, "{} {index}, round {round}", self.metric());
            }
        }
    }
}

/// Writers at work.
struct Load {
    acknowledged: Arc<AtomicU64>,
    writers: Vec<(Writer, JoinHandle<i64>)>,
}

impl Load {
    /// Starts the writers and returns once `requests` are acknowledged.
    fn start(run: usize, address: SocketAddr, requests: u64) -> Load {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let start_ms = now_ms() - 3_600_000;
        let spawn = |number| {
            let writer = Writer { run, number, start_ms };
            let acknowledged = Arc::clone(&acknowledged);
            (writer, std::thread::spawn(move || writer.write(address, &acknowledged)))
        };
        let writers = (0..WRITERS).map(spawn).collect();
        wait_for("writes are acknowledged", Duration::from_secs(60), || {
            (acknowledged.load(Ordering::Relaxed) >= requests).then_some(())
        });
        Load { acknowledged, writers }
    }

    /// The server is gone: how many rounds of each writer were acknowledged.
    fn finish(self) -> Vec<(Writer, i64)> {
        let rounds: Vec<_> =
            self.writers.into_iter().map(|(writer, thread)| (writer, thread.join().unwrap())).collect();
        let sum: i64 = rounds.iter().map(|(_, rounds)| rounds).sum();
        assert_eq!(sum as u64, self.acknowledged.load(Ordering::Relaxed));
        rounds
    }
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged() {
    let mut server = Server::start();
    let mut written = Vec::new();
    // More than once, so that a start also replays what earlier starts had replayed already.
    for (run, requests) in [400, 1000, 50].into_iter().enumerate() {
        let load = Load::start(run, server.addresses.write, requests);
        server.process.kill();
        written.extend(load.finish());
        server.restart();
        for &(writer, rounds) in &written {
            writer.assert_stored(rounds, &server);
        }
    }
}

#[test]
fn sigterm_under_load_loses_nothing_acknowledged_and_exits_with_0() {
    let mut server = Server::start();
    let load = Load::start(0, server.addresses.write, 400);
    let status = server.process.terminate(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{status}");
    let written = load.finish();
    server.restart();
    for (writer, rounds) in written {
        writer.assert_stored(rounds, &server);
    }
}

#[test]
fn a_stop_without_load_is_quick_and_a_restart_serves_the_same() {
    let mut server = Server::start();
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now, 1.0)])]);
    let started = std::time::Instant::now();
    let status = server.terminate_and_restart();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(started.elapsed() < Duration::from_secs(30), "stop and start took {:?}", started.elapsed());
    assert_eq!(server.query().value("m", now), Some(1.0));
    // A sample after the restart meets the series from before it.
    server.sender().store(&[series("m", "1", &[(now + 1000, 2.0)])]);
    let conflict = server.sender().send(&[series("m", "1", &[(now, 5.0)])]).unwrap();
    assert_eq!(conflict.status, 409);
    let found: Vec<_> = server.query().instant("m[1m]", now + 1000).into_values().collect();
    assert_eq!(found, [vec![(now, 1.0), (now + 1000, 2.0)]]);
}

/// Requests of new series with long labels fill a small ring faster than checkpoints can empty it.
#[test]
fn a_full_ring_answers_503_with_retry_after_and_keeps_what_it_acknowledged() {
    const SERIES_PER_ROUND: usize = 100;
    const FILLERS: usize = 8;
    const ROUNDS: usize = 20;
    let mut server = Server::start_with(&["--wal.ring-size=1MiB", "--shards=1"]);
    let now = now_ms();
    let address = server.addresses.write;
    let full = Arc::new(AtomicU64::new(0));
    let fill = |writer: usize| {
        let full = Arc::clone(&full);
        move || {
            let mut sender = Sender::new(address);
            let metric = format!("fill_{writer}");
            let filler = "x".repeat(1000);
            for round in 0..ROUNDS {
                let round = round.to_string();
                let labels = |index: &str| {
                    let labels =
                        [("__name__", &metric[..]), ("filler", &filler), ("id", index), ("round", &round)];
                    series_of(&labels, &[(now, 1.0)])
                };
                let batch: Vec<_> = (0..SERIES_PER_ROUND).map(|index| labels(&index.to_string())).collect();
                // A sender repeats the whole request until it is taken; what was stored of it is no conflict.
                wait_for("room comes back by itself", Duration::from_secs(60), || {
                    let response = sender.send(&batch).unwrap();
                    if response.status == 200 {
                        return Some(());
                    }
                    assert_eq!(response.status, 503, "{}", response.text());
                    assert!(response.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
                    full.fetch_add(
                        u64::from(response.text().contains("write-ahead log is full")),
                        Ordering::Relaxed,
                    );
                    None
                });
            }
        }
    };
    let writers: Vec<_> = (0..FILLERS).map(|writer| std::thread::spawn(fill(writer))).collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert!(full.load(Ordering::Relaxed) > 0, "the ring was never full");

    server.kill_and_restart();
    for writer in 0..FILLERS {
        let stored = server.query().instant(&format!("count by (round) (fill_{writer})"), now);
        assert_eq!(stored.len(), ROUNDS, "rounds of writer {writer}");
        assert!(stored.values().all(|count| count[0].1 == SERIES_PER_ROUND as f64), "{stored:?}");
    }
}
