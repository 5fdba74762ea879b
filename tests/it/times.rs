//! When samples are taken: late ones, old ones, those ahead of time; and what becomes of chunks that are full.

use super::support::http::get;
use super::support::now_ms;
use super::support::query::Matrix;
use super::support::server::Server;
use super::support::write::series;

const MINUTE_MS: i64 = 60_000;

fn only(matrix: &Matrix) -> Vec<(i64, f64)> {
    assert_eq!(matrix.len(), 1, "{matrix:?}");
    matrix.values().next().unwrap().clone()
}

fn counter(server: &Server, line: &str) -> f64 {
    let metrics = get(server.addresses.write, "/metrics").unwrap().text();
    metrics.lines().filter_map(|found| found.strip_prefix(line)?.trim().parse::<f64>().ok()).sum()
}

#[test]
fn late_samples_within_the_window_are_read_in_order_of_time() {
    let mut server = Server::start();
    let now = now_ms();
    let mut sender = server.sender();
    // Every third sample first, then what is between, newest first.
    let at = |minute: i64| (now - (100 - minute) * MINUTE_MS, minute as f64);
    for minute in (0..=99).step_by(3) {
        sender.store(&[series("m", "1", &[at(minute)])]);
    }
    for minute in (0..=99).rev().filter(|minute| minute % 3 != 0) {
        sender.store(&[series("m", "1", &[at(minute)])]);
    }
    let expected: Vec<(i64, f64)> = (0..=99).map(at).collect();
    assert_eq!(only(&server.query().instant("m[3h]", now)), expected);
    server.kill_and_restart();
    assert_eq!(only(&server.query().instant("m[3h]", now)), expected);

    let mut sender = server.sender();
    let repeated = sender.send(&[series("m", "1", &[at(98)])]).unwrap();
    assert_eq!(repeated.status, 200, "{}", repeated.text());
    let conflict = sender.send(&[series("m", "1", &[(at(99).0, -1.0)])]).unwrap();
    assert_eq!(conflict.status, 409, "{}", conflict.text());
    let too_old = sender.send(&[series("m", "1", &[(now - 125 * MINUTE_MS, 1.0)])]).unwrap();
    assert_eq!(too_old.status, 409);
    assert!(too_old.text().contains("too old sample"), "{}", too_old.text());
    assert_eq!(only(&server.query().instant("m[3h]", now)), expected);
}

#[test]
fn samples_too_far_ahead_are_refused_where_a_limit_is_set() {
    let server = Server::start_with(&["--tsdb.too-far-in-future.time-window=10m"]);
    let now = now_ms();
    let mut sender = server.sender();
    sender.store(&[series("m", "1", &[(now + 9 * MINUTE_MS, 1.0)])]);
    let refused = sender.send(&[series("m", "2", &[(now + 20 * MINUTE_MS, 1.0)])]).unwrap();
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("out of bounds"), "{}", refused.text());
}

#[test]
fn one_sample_of_a_far_future_does_not_shut_out_the_present() {
    let server = Server::start();
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now + 100_000 * MINUTE_MS, 1.0)])]);
    for id in 0..20 {
        server.sender().store(&[series("n", &id.to_string(), &[(now - MINUTE_MS, 1.0)])]);
    }
    assert_eq!(server.query().value("count(n)", now), Some(20.0));
}

#[test]
fn full_chunks_are_read_from_the_chunk_log_by_queries_and_for_repeated_samples() {
    let mut server = Server::start();
    let now = now_ms();
    let at = |step: i64| (now - 100 * MINUTE_MS + step * 1000, (step * 7 % 1000) as f64 * 0.37);
    // Enough that full chunks fill pieces of the log.
    const SERIES: usize = 400;
    let batch = |from: i64, to: i64| {
        let samples: Vec<(i64, f64)> = (from..to).map(at).collect();
        (0..SERIES).map(|id| series("m", &id.to_string(), &samples)).collect::<Vec<_>>()
    };
    for from in (0..1200).step_by(100) {
        server.sender().store(&batch(from, from + 100));
    }
    let all: Vec<(i64, f64)> = (0..1200).map(at).collect();
    let check = |server: &Server| {
        let found = server.query().instant("m[2h]", now);
        assert_eq!(found.len(), SERIES);
        for samples in found.values() {
            assert_eq!(samples, &all);
        }
    };
    check(&server);
    let written = |server: &Server| {
        (0..64)
            .map(|shard| counter(server, &format!("annulus_chunk_log_bytes{{shard=\"{shard}\"}}")))
            .sum::<f64>()
    };
    assert!(written(&server) > 256.0 * 1024.0, "{}", written(&server));
    // Old chunks are in files only; what is sent again is found there.
    let repeated = |server: &Server| {
        (0..64)
            .map(|shard| {
                counter(
                    server,
                    &format!("annulus_ingest_samples_total{{result=\"repeated\",shard=\"{shard}\"}}"),
                )
            })
            .sum::<f64>()
    };
    let before = repeated(&server);
    server.sender().store(&batch(0, 100));
    assert_eq!(repeated(&server) - before, (SERIES * 100) as f64);
    let conflict = server.sender().send(&[series("m", "3", &[(at(5).0, -1.0)])]).unwrap();
    assert_eq!(conflict.status, 409, "{}", conflict.text());
    check(&server);
    server.kill_and_restart();
    check(&server);
    server.terminate_and_restart();
    check(&server);
    let before = repeated(&server);
    server.sender().store(&batch(200, 250));
    assert_eq!(repeated(&server) - before, (SERIES * 50) as f64);
}
