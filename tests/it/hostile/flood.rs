//! Mutated requests of all protocols, by the thousand or by the million, and true ones between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::support::http::{Response, get};
use super::super::support::random::Random;
use super::super::support::server::Server;
use super::super::support::{now_ms, wait_for};
use super::connection::{Connection, Request};
use super::content::{KINDS, headers};
use super::control::{Control, SHARED_TENANT};
use super::message::encode;
use super::mutation::request;
use super::requests::message;

/// Without `ANNULUS_HOSTILE_REQUESTS`.
const REQUESTS: u64 = 20_000;

/// Without `ANNULUS_HOSTILE_SEED`.
const SEED: u64 = 20_261_124;

/// Connections with mutated requests.
const SENDERS: u64 = 4;

/// Rounds of control series, spread evenly over the run.
const ROUNDS: u64 = 100;

/// A line about the progress after so many requests.
const PROGRESS_REQUESTS: u64 = 100_000;

/// How long one round's share of the requests may take.
const ROUND_LIMIT: Duration = Duration::from_secs(1200);

/// The process with its code, rings, two runtimes and all that the flags below allow.
const RESIDENT_BYTES_MAX: u64 = 640 << 20;

/// Bounds for everything that mutated requests can make.
const FLAGS: [&str; 7] = [
    "--receive.memory-limit=512MiB",
    "--head.max-bytes=192MiB",
    "--receive.max-body-bytes=4MiB",
    "--receive.max-decoded-bytes=8MiB",
    "--receive.max-inflight-bytes=64MiB",
    // A far time would end the window of the tenant's true series, as in Prometheus.
    "--tsdb.too-far-in-future.time-window=1m",
    "--receive.limits-config={write: {default: {head_series_limit: 10000}}}",
];

/// All that the table of the edge has for a POST to a path that exists, and 431 from the HTTP library.
const STATUSES: [u16; 9] = [200, 204, 400, 409, 413, 415, 429, 431, 503];

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}"))
}

/// Answers by status; those that came without one under 0.
#[derive(Default)]
struct Tally {
    by_status: BTreeMap<u16, u64>,
    /// The text of one answer of each status.
    examples: BTreeMap<u16, String>,
}

impl Tally {
    fn count(&mut self, response: Option<&Response>) {
        let status = response.map_or(0, |response| response.status);
        *self.by_status.entry(status).or_default() += 1;
        self.examples.entry(status).or_insert_with(|| response.map(Response::text).unwrap_or_default());
    }

    fn add(&mut self, other: Tally) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.examples.extend(other.examples);
    }
}

/// Sends until `sent` has reached `requests`.
fn send_mutated(server: &Server, seed: u64, sent: &AtomicU64, requests: u64) -> Tally {
    let mut random = Random::new(seed);
    let mut connection = Connection::new(server.addresses.write);
    let mut tally = Tally::default();
    loop {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            return tally;
        }
        let request = request(&mut random, SHARED_TENANT, now_ms());
        let response = connection.send(&request).unwrap_or_else(|error| {
            panic!("no answer to request {number} of seed {seed}: {error} {request:?}")
        });
        if let Some(response) = &response {
            let is_known = STATUSES.contains(&response.status);
            assert!(is_known, "request {number} of seed {seed}: {} {}", response.status, response.text());
        }
        tally.count(response.as_ref());
        if (number + 1).is_multiple_of(PROGRESS_REQUESTS) {
            eprintln!("{} of {requests} requests, {:?}", number + 1, tally.by_status);
        }
    }
}

#[test]
fn requests_that_are_not_mutated_are_stored_whole() {
    let server = Server::start();
    let (mut random, mut connection) = (Random::new(SEED), Connection::new(server.addresses.write));
    for _ in 0..20 {
        for (protocol, encoding) in KINDS {
            let fields = message(protocol, &mut random, now_ms());
            let request = Request {
                path: protocol.path(),
                headers: headers(protocol, encoding, SHARED_TENANT),
                body: encoding.apply(&encode(&fields)),
                announced_bytes: None,
            };
            let response = connection.send(&request).unwrap().unwrap();
            let is_stored = matches!(response.status, 200 | 204) && response.body.is_empty();
            assert!(is_stored, "{protocol:?} {encoding:?}: {} {}", response.status, response.text());
        }
    }
}

#[test]
fn mutated_requests_harm_neither_the_process_nor_the_series_of_others() {
    let requests = from_environment("ANNULUS_HOSTILE_REQUESTS", REQUESTS);
    let seed = from_environment("ANNULUS_HOSTILE_SEED", SEED);
    eprintln!("{requests} requests, seed {seed} (ANNULUS_HOSTILE_REQUESTS, ANNULUS_HOSTILE_SEED)");
    let mut server = Server::start_with(&FLAGS);
    let mut control = Control::new(server.addresses.write, now_ms() - 600_000);
    // Known series are written even when the mutated ones have reached the limit of their tenant.
    control.send_round();
    let (sent, mut resident_max) = (AtomicU64::new(0), 0);
    let tally = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (server, sent) = (&server, &sent);
                scope.spawn(move || send_mutated(server, seed + sender, sent, requests))
            })
            .collect();
        for round in 1..=ROUNDS {
            wait_for("the next round", ROUND_LIMIT, || {
                let is_due = sent.load(Ordering::Relaxed) >= requests * round / ROUNDS;
                (is_due || senders.iter().any(|sender| sender.is_finished())).then_some(())
            });
            control.send_round();
            resident_max = server.process.resident_bytes().max(resident_max);
        }
        let mut all = Tally::default();
        for sender in senders {
            all.add(sender.join().unwrap());
        }
        all
    });
    for (status, count) in &tally.by_status {
        eprintln!("{status}: {count}, such as {:?}", tally.examples[status].lines().next().unwrap_or(""));
    }
    eprintln!("at most {} MiB resident", resident_max >> 20);

    assert!(server.process.ended().is_none(), "the process ended");
    assert!(resident_max < RESIDENT_BYTES_MAX, "{resident_max} bytes resident");
    assert!(!server.process.log().contains("panicked"));
    assert_eq!(get(server.addresses.write, "/-/ready").unwrap().status, 200);
    control.assert_stored(server.query());
    // Whatever they left behind in the log is replayed.
    server.kill_and_restart();
    control.assert_stored(server.query());
    control.send_round();
    control.assert_stored(server.query());
}
