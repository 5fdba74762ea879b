//! Queries that run: they stop when their client goes, and a process that dies leaves their texts.

use std::fs;
use std::io::Write;
use std::time::Duration;

use super::super::support::http::{connect, escape};
use super::super::support::now_ms;
use super::super::support::server::Server;
use super::super::support::wait_for;
use super::super::support::write::series;

const LIMIT: Duration = Duration::from_secs(60);

/// A query that takes long on any machine: many series at many steps, many times over.
fn long_query(now_ms: i64) -> String {
    let query = vec!["sum(long_query)"; 200].join(" + ");
    let end = now_ms / 1000;
    format!("/api/v1/query_range?query={}&start={}&end={end}&step=1", escape(&query), end - 11_000)
}

fn fill(server: &Server, now_ms: i64) {
    let mut sender = server.sender();
    for part in 0..10 {
        let ids = part * 1_000..(part + 1) * 1_000;
        let all: Vec<_> =
            ids.map(|id| series("long_query", &id.to_string(), &[(now_ms - 1_000, 1.0)])).collect();
        sender.store(&all);
    }
}

/// Sends the long query on a connection that stays open, and waits until it runs.
fn begin(server: &Server, now_ms: i64) -> std::net::TcpStream {
    let mut stream = connect(server.addresses.query).unwrap();
    write!(stream, "GET {} HTTP/1.1\r\nHost: x\r\n\r\n", long_query(now_ms)).unwrap();
    wait_for("the query runs", LIMIT, || active(server).contains("long_query").then_some(()));
    stream
}

fn active(server: &Server) -> String {
    fs::read_to_string(server.data_dir().join("queries.active")).unwrap()
}

#[test]
fn a_query_stops_when_its_client_goes_away() {
    let server = Server::start_with(&["--query.log-queries-longer-than=1ms"]);
    let now_ms = now_ms();
    fill(&server, now_ms);
    let stream = begin(&server, now_ms);
    drop(stream);
    wait_for("the query is canceled", LIMIT, || {
        server.process.log().contains("outcome=canceled").then_some(())
    });
    assert!(!active(&server).contains("long_query"));
    assert!(server.process.log().contains("a query took long"));
}

#[test]
fn the_queries_of_a_process_that_was_killed_are_logged_by_the_next() {
    let mut server = Server::start();
    let now_ms = now_ms();
    fill(&server, now_ms);
    let _stream = begin(&server, now_ms);
    server.kill_and_restart();
    let log = server.process.log();
    let line = log.lines().find(|line| line.contains("was running when the process before this one ended"));
    assert!(line.is_some_and(|line| line.contains("long_query")), "{line:?}");
    assert!(!active(&server).contains("long_query"));
}
