//! Thousands of connections whose senders hardly send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::super::support::http::{connect, get};
use super::super::support::server::Server;
use super::super::support::write::{HEADERS, series};
use super::super::support::{leave_out, now_ms, wait_for, wait_until};

/// Connections at once.
const CONNECTIONS: usize = 2000;

/// Descriptors of this process beside them.
const DESCRIPTORS_SPARE: u64 = 500;

/// Every connection must have been closed by then, on a machine that is busy; idle ones would be after 310 seconds.
const CLOSE_LIMIT: Duration = Duration::from_secs(290);

/// What each body announces: nearly as much as one may have.
const ANNOUNCED_BYTES: usize = 31 << 20;

/// For 2000 connections.
const RESIDENT_GROWTH_BYTES_MAX: u64 = 256 << 20;

/// Memory that is only asked for; a machine that gives no more than it has would end the process.
const ADDRESSED_GROWTH_BYTES_MAX: u64 = 6 << 30;

/// What a slow sender does.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Sends nothing.
    Silent,
    /// Sends a header byte by byte.
    SlowHead,
    /// Sends a part of a body and stops.
    HalfBody,
    /// Sends a body byte by byte.
    SlowBody,
}

struct Slow {
    kind: Kind,
    stream: TcpStream,
    is_open: bool,
}

impl Slow {
    fn open(server: &Server, kind: Kind) -> Slow {
        let mut stream = connect(server.addresses.write).unwrap();
        let mut head =
            format!("POST /api/v1/receive HTTP/1.1\r\nHost: x\r\nContent-Length: {ANNOUNCED_BYTES}\r\n");
        for (name, value) in HEADERS {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match kind {
            Kind::Silent => {}
            Kind::SlowHead => stream.write_all(&head.as_bytes()[..20]).unwrap(),
            Kind::HalfBody | Kind::SlowBody => {
                stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
                stream.write_all(&[b'x'; 1000]).unwrap();
            }
        }
        stream.set_nonblocking(true).unwrap();
        Slow { kind, stream, is_open: true }
    }

    /// Sends a byte if it is that slow, and looks whether the receiver has closed.
    fn step(&mut self) {
        if !self.is_open {
            return;
        }
        if matches!(self.kind, Kind::SlowHead | Kind::SlowBody) && self.stream.write(b"x").is_err_and(is_end)
        {
            self.is_open = false;
        }
        loop {
            match self.stream.read(&mut [0; 1000]) {
                Ok(0) => return self.is_open = false,
                Ok(_) => {}
                Err(error) => return self.is_open &= !is_end(error),
            }
        }
    }
}

fn is_end(error: std::io::Error) -> bool {
    error.kind() != ErrorKind::WouldBlock
}

/// Lets this process hold all the connections; whether it may.
fn raise_descriptor_limit() -> bool {
    let needed = CONNECTIONS as u64 + DESCRIPTORS_SPARE;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return true;
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).is_ok() && limit.maximum.is_none_or(|maximum| maximum >= needed)
}

/// Open connections that the receiver counts.
fn connections(server: &Server) -> f64 {
    let text = get(server.addresses.write, "/metrics").unwrap().text();
    let counts = text.lines().filter(|line| line.starts_with("annulus_connections{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn two_thousand_slow_senders_keep_nobody_out_and_are_cut_off() {
    if !raise_descriptor_limit() {
        return leave_out("two_thousand_slow_senders", "the limit of open files is too low");
    }
    let server = Server::start_with(&["--receive.request-timeout=2s"]);
    let now = now_ms();
    let before = (server.process.resident_bytes(), server.process.addressed_bytes());
    let kinds = [Kind::Silent, Kind::SlowHead, Kind::HalfBody, Kind::SlowBody];
    let mut slow = Vec::new();
    let mut sender = server.sender();
    let (mut resident_max, mut addressed_max, mut round) = (0, 0, 0);
    let mut store = |sender: &mut super::super::support::write::Sender| {
        sender.store(&[series("meanwhile", "1", &[(now + round, 1.0)])]);
        round += 1;
    };
    for index in 0..CONNECTIONS {
        slow.push(Slow::open(&server, kinds[index % kinds.len()]));
        if index % 100 == 99 {
            store(&mut sender);
            resident_max = server.process.resident_bytes().max(resident_max);
            addressed_max = server.process.addressed_bytes().max(addressed_max);
        }
    }
    wait_until("all slow connections are closed", CLOSE_LIMIT, || {
        slow.iter_mut().for_each(Slow::step);
        store(&mut sender);
        resident_max = server.process.resident_bytes().max(resident_max);
        addressed_max = server.process.addressed_bytes().max(addressed_max);
        let open = |kind| slow.iter().filter(|slow| slow.is_open && slow.kind == kind).count();
        let open = kinds.map(open);
        if open == [0; 4] { Ok(()) } else { Err(format!("open: {open:?}")) }
    });
    wait_for("the receiver counts them no more", CLOSE_LIMIT, || (connections(&server) < 10.0).then_some(()));
    let growth = (resident_max.saturating_sub(before.0), addressed_max.saturating_sub(before.1));
    eprintln!("{} MiB more resident, {} MiB more addressed", growth.0 >> 20, growth.1 >> 20);
    assert!(growth.0 < RESIDENT_GROWTH_BYTES_MAX, "{growth:?} bytes more than before");
    assert!(growth.1 < ADDRESSED_GROWTH_BYTES_MAX, "{growth:?} bytes more than before");
    assert_eq!(server.query().value("count_over_time(meanwhile[1h])", now + round), Some(round as f64));
}

#[test]
fn senders_that_stop_near_the_end_of_large_bodies_keep_nobody_out() {
    let server = Server::start_with(&[
        "--shards=1",
        "--receive.max-body-bytes=4MiB",
        "--receive.max-decoded-bytes=8MiB",
        "--receive.max-inflight-bytes=8MiB",
        // Longer than the test waits: nobody is let in because it has passed.
        "--receive.request-timeout=1h",
    ]);
    let now = now_ms();
    let mut head = "POST /api/v1/receive HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n".to_owned();
    for (name, value) in HEADERS {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let stopped: Vec<TcpStream> = (0..32)
        .map(|_| {
            let mut stream = connect(server.addresses.write).unwrap();
            // Those that are refused at once are closed while they send.
            let _ = stream.write_all(format!("{head}\r\n").as_bytes());
            let _ = stream.write_all(&vec![b'x'; 3_990_000]);
            stream
        })
        .collect();
    let samples: Vec<(i64, f64)> = (0..20_000).map(|at| (now + at, at as f64)).collect();
    let batch = [series("meanwhile", "1", &samples)];
    wait_for("who needs a quarter of the memory is let in", CLOSE_LIMIT, || {
        (server.sender().send(&batch).unwrap().status == 200).then_some(())
    });
    drop(stopped);
}

#[test]
fn slow_senders_take_no_turn_from_others() {
    let limits = "--receive.limits-config={write: {global: {max_concurrency: 2}}}";
    let server = Server::start_with(&["--receive.request-timeout=5s", limits]);
    let now = now_ms();
    let slow: Vec<Slow> = (0..50).map(|_| Slow::open(&server, Kind::HalfBody)).collect();
    wait_for("the slow senders are there", CLOSE_LIMIT, || (connections(&server) > 50.0).then_some(()));
    for round in 0..20 {
        server.sender().store(&[series("meanwhile", "1", &[(now + round, 1.0)])]);
    }
    assert_eq!(server.query().value("count_over_time(meanwhile[1h])", now + 20), Some(20.0));
    drop(slow);
}
