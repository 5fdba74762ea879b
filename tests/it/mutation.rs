//! Ten thousand bodies that nobody would send: none may stop, slow or bloat the server.

use super::support::now_ms;
use super::support::random::Random;
use super::support::server::Server;
use super::support::write::{body, compress, message, series};

/// How many bodies are sent.
const BODIES: usize = 10_000;

/// The growth allowed while they are refused; some of them are valid by chance and make series.
const RESIDENT_GROWTH_BYTES_MAX: u64 = 96 << 20;

#[test]
fn random_and_mutated_bodies_never_harm_the_server() {
    let seed =
        std::env::var("ANNULUS_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_801);
    eprintln!("seed {seed} (set ANNULUS_TEST_SEED for another)");
    let mut random = Random::new(seed);
    let mut server = Server::start();
    let mut sender = server.sender();
    let mut by_status = std::collections::BTreeMap::new();
    let mut resident_before = 0;
    for index in 0..BODIES {
        if index == BODIES / 10 {
            resident_before = server.process.resident_bytes();
        }
        let body = hostile_body(&mut random, index);
        let response =
            sender.send_body(&body).unwrap_or_else(|error| panic!("seed {seed}, body {index}: {error}"));
        let is_known = [200, 400, 409, 413].contains(&response.status);
        assert!(is_known, "seed {seed}, body {index}: {} {}", response.status, response.text());
        *by_status.entry(response.status).or_insert(0) += 1;
    }
    eprintln!("answers by status: {by_status:?}");
    assert!(by_status.len() > 1, "all bodies had the same fate, so that they test little");
    assert!(server.process.ended().is_none());
    let growth = server.process.resident_bytes().saturating_sub(resident_before);
    assert!(growth < RESIDENT_GROWTH_BYTES_MAX, "{growth} bytes more than after the first tenth");

    // What is written from now on is stored, and a restart can replay whatever the bodies left behind.
    let now = now_ms();
    sender.store(&[series("after", "1", &[(now, 1.0)])]);
    server.kill_and_restart();
    assert_eq!(server.query().value("after", now), Some(1.0));
}

fn hostile_body(random: &mut Random, index: usize) -> Vec<u8> {
    let valid = || {
        let now = now_ms();
        let id = (index % 7).to_string();
        [series("mutant", &id, &[(now, 1.0), (now + 1, 2.5)]), series("other", "x", &[(now, f64::NAN)])]
    };
    match random.below(4) {
        0 => {
            let len = random.below(2000);
            random.bytes(len)
        }
        1 => {
            let len = random.below(2000);
            compress(&random.bytes(len))
        }
        2 => mutate(random, body(&valid())),
        _ => {
            let mutated = mutate(random, message(&valid()));
            compress(&mutated)
        }
    }
}

/// Flips, removes, repeats or inserts a few bytes.
fn mutate(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let piece: Vec<u8> = bytes[at..bytes.len().min(at + 20)].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                bytes.remove(at);
            }
        }
    }
    bytes
}
