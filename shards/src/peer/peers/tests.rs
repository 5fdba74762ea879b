//! Peers of all kinds, as servers on sockets of this machine.

mod server;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::{FutureExt, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use prometheus::Registry;

use self::server::{Server, headers, refused, reply, taken, taken_with};
use super::super::{BLOCK_ENCODING, Code, SeriesBytes};
use super::*;
use crate::metrics::Metrics;
use crate::ring::{Algorithm, RingOptions};
use crate::rt::{HyperExecutor, HyperIo, Listener};
use crate::rt::{allowed_cpus, spawn, spawn_shard, timeout, yield_to_reactor};

/// No test waits for it; a hang ends there.
const LONG: Duration = Duration::from_secs(60);

/// For requests that are to be given up.
const SHORT: Duration = Duration::from_millis(40);

fn request(series_count: usize) -> ForwardRequest {
    let body = b"\x0a\x04abcd".repeat(series_count);
    let block = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    let series = SeriesBytes::whole(Bytes::from(body));
    ForwardRequest { tenant: "team-a".into(), replica: 2, series, block: Some(block.into()) }
}

fn rings(addresses: &[&str]) -> Rings {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    let json = format!("[{{\"endpoints\": [{}]}}]", endpoints.join(","));
    let options = RingOptions { algorithm: Algorithm::Hashmod, replication_factor: 1 };
    Rings::parse(json.as_bytes(), options).unwrap()
}

/// What becomes of a request, once that is known.
type Outcome = Rc<RefCell<Option<Result<(), PeerFailure>>>>;

/// A shard's peers and the metrics that show them.
struct Client {
    peers: Rc<Peers>,
    metrics: Metrics,
}

impl Client {
    fn new(options: PeersOptions, addresses: &[&str]) -> Client {
        let metrics = Metrics::register(&Registry::new());
        let resolver = Resolver::start().unwrap();
        let peers = Rc::new(Peers::new(options, resolver, metrics.peers().clone()));
        peers.replace(&rings(addresses), None);
        Client { peers, metrics }
    }

    fn of(server: &Server) -> Client {
        Client::new(PeersOptions::default(), &[&server.address])
    }

    async fn send(&self, server: &Server) -> Result<(), PeerFailure> {
        self.peers.send(&server.address, &request(3), LONG).await
    }

    fn start_sending(&self, server: &Rc<Server>) -> Outcome {
        let (peers, server, result) = (Rc::clone(&self.peers), Rc::clone(server), Outcome::default());
        let slot = Rc::clone(&result);
        spawn("test request", async move {
            let sent = peers.send(&server.address, &request(3), LONG).await;
            *slot.borrow_mut() = Some(sent);
            server.changed.wake_all();
        });
        result
    }
}

/// Runs a test on a shard of its own; a hang is a failure.
fn on_shard<F: Future<Output = ()> + 'static>(make: impl FnOnce() -> F + Send + 'static) {
    let run = || async move { timeout(LONG, make()).await.expect("the test does not hang") };
    spawn_shard("test", allowed_cpus()[0], run).unwrap().join().unwrap();
}

/// The failure's name in metrics.
fn reason(result: Result<(), PeerFailure>) -> &'static str {
    result.map_or_else(|failure| PeerFailure::REASONS[failure.reason_index()], |()| "taken")
}

#[test]
fn a_peer_gets_what_was_sent_in_fields_that_all_versions_read() {
    on_shard(|| async {
        let server = Server::start(|_, _| Some(taken()));
        let client = Client::of(&server);
        for series_count in [0, 1, 3, 300_000] {
            let sent = client.peers.send(&server.address, &request(series_count), LONG).await;
            assert_eq!(sent, Ok(()));
            let (encoding, message) = server.seen.borrow_mut().pop().unwrap();
            assert_eq!(
                (encoding.as_str(), message.tenant.as_str(), message.replica),
                ("snappy", "team-a", 2)
            );
            assert!(message.timeseries == vec![b"abcd"; series_count]);
        }
        assert_eq!(server.connections.get(), 1);
        let shown = client.metrics.peers().peer(&server.address);
        assert_eq!((shown.forward_success.get(), shown.forward_error.get(), shown.up.get()), (4, 0, 1));
        assert_eq!((shown.inflight_requests.get(), shown.inflight_bytes.get()), (0, 0));
        assert_eq!(shown.delay_seconds.get_sample_count(), 4);
        assert_eq!(reason(client.peers.send("other:1", &request(1), LONG).await), "unreachable");
    });
}

#[test]
fn each_code_is_told_and_only_unavailable_holds_others_back() {
    on_shard(|| async {
        let code = Rc::new(Cell::new(Code::Ok));
        let answered = Rc::clone(&code);
        let server = Server::start(move |_, _| Some(refused(answered.get(), "as%20told")));
        let options = PeersOptions { backoff_min: LONG, backoff_max: LONG, ..PeersOptions::default() };
        let client = Client::new(options, &[&server.address]);
        for (answer, told) in [
            (Code::AlreadyExists, "conflict"),
            (Code::InvalidArgument, "refused"),
            (Code::ResourceExhausted, "limited"),
            (Code::Unimplemented, "unimplemented"),
            (Code::DeadlineExceeded, "timeout"),
            (Code::Internal, "broken"),
            (Code::Unavailable, "unavailable"),
            (Code::Unavailable, "backoff"),
        ] {
            code.set(answer);
            assert_eq!(reason(client.send(&server).await), told);
        }
        assert_eq!(server.seen.borrow().len(), 7);
        let shown = client.metrics.peers().peer(&server.address);
        assert_eq!((shown.forward_error.get(), shown.up.get()), (7, 0));
        assert_eq!(shown.backoff_seconds.get(), LONG.as_secs_f64());
        // New rings make a new start.
        client.peers.replace(&rings(&[&server.address]), None);
        assert_eq!(shown.backoff_seconds.get(), 0.0);
        assert_eq!(reason(client.send(&server).await), "unavailable");
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn a_peer_that_does_not_take_an_encoding_gets_plain_messages_at_once_and_from_then_on() {
    on_shard(|| async {
        for (code, text) in [
            (Code::Unimplemented, "grpc: Decompressor is not installed for grpc-encoding \"snappy\""),
            (Code::Unimplemented, "Content is compressed with `snappy` which isn't supported"),
            (Code::Internal, "Error parsing 'grpc-encoding' metadata"),
        ] {
            let server = Server::start(move |_, encoding| match encoding {
                "identity" => Some(taken()),
                _ => Some(refused(code, text)),
            });
            let client = Client::of(&server);
            assert_eq!(client.send(&server).await, Ok(()));
            assert_eq!(client.send(&server).await, Ok(()));
            assert_eq!(server.encodings(), ["snappy", "identity", "identity"]);
            assert_eq!(client.metrics.peers().peer(&server.address).forward_error.get(), 0);
        }
    });
}

#[test]
fn a_block_is_passed_on_to_peers_that_name_its_encoding() {
    on_shard(|| async {
        let names = format!("identity, snappy, {BLOCK_ENCODING}");
        let server = Server::start(move |_, _| Some(taken_with(&[("grpc-accept-encoding", &names)])));
        let client = Client::of(&server);
        for _ in 0..2 {
            assert_eq!(client.send(&server).await, Ok(()));
        }
        let without_block = ForwardRequest { block: None, ..request(3) };
        assert_eq!(client.peers.send(&server.address, &without_block, LONG).await, Ok(()));
        assert_eq!(server.encodings(), ["snappy", BLOCK_ENCODING, "snappy"]);
        let options = PeersOptions { compression: Compression::None, ..PeersOptions::default() };
        let plain = Client::new(options, &[&server.address]);
        for _ in 0..2 {
            assert_eq!(plain.send(&server).await, Ok(()));
        }
        assert_eq!(server.encodings()[3..], ["identity", "identity"]);
        assert!(server.seen.borrow().windows(2).all(|pair| pair[0].1 == pair[1].1));
    });
}

#[test]
fn a_peer_that_does_not_take_blocks_after_all_gets_streams() {
    on_shard(|| async {
        let server = Server::start(|_, encoding| match encoding {
            BLOCK_ENCODING => Some(refused(Code::Unimplemented, BLOCK_ENCODING)),
            _ => Some(taken_with(&[("grpc-accept-encoding", BLOCK_ENCODING)])),
        });
        let client = Client::of(&server);
        for _ in 0..3 {
            assert_eq!(client.send(&server).await, Ok(()));
        }
        assert_eq!(server.encodings(), ["snappy", BLOCK_ENCODING, "snappy", "snappy"]);
    });
}

#[test]
fn a_request_that_is_not_answered_in_time_is_given_up_at_both_ends() {
    on_shard(|| async {
        let server = Server::start(|_, _| None);
        let client = Client::of(&server);
        assert_eq!(client.peers.send(&server.address, &request(3), SHORT).await, Err(PeerFailure::Timeout));
        server.changed.wait_until(|| server.given_up.get() == 1).await;
        // A sender that no longer waits gives it up as well.
        assert!(timeout(SHORT, client.send(&server)).await.is_none());
        server.changed.wait_until(|| server.given_up.get() == 2).await;
    });
}

#[test]
fn a_body_that_is_not_read_is_given_up_too() {
    on_shard(|| async {
        let (server, listener) = Server::listen();
        Server::serve(&server, listener, None, |_, request| async move {
            // Held and not read, so that its window fills.
            let _request = request;
            pending().await
        });
        let options = PeersOptions { compression: Compression::None, ..PeersOptions::default() };
        let client = Client::new(options, &[&server.address]);
        let large = request(1_000_000);
        assert_eq!(client.peers.send(&server.address, &large, SHORT).await, Err(PeerFailure::Timeout));
        server.changed.wait_until(|| server.given_up.get() == 1).await;
    });
}

#[test]
fn a_connection_on_which_nothing_is_answered_any_more_is_replaced() {
    on_shard(|| async {
        let server = Server::start(|server, _| (server.connections.get() > 1).then(taken));
        let client = Client::of(&server);
        for _ in 0..3 {
            let sent = client.peers.send(&server.address, &request(3), SHORT).await;
            assert_eq!(sent, Err(PeerFailure::Timeout));
        }
        assert_eq!(client.send(&server).await, Ok(()));
        assert_eq!(server.connections.get(), 2);
    });
}

#[test]
fn a_connection_that_ends_is_replaced_without_a_failure() {
    on_shard(|| async {
        let (server, listener) = Server::listen();
        Server::accept(&server, listener, |server, stream| async move {
            let noted = Rc::clone(&server);
            let service = service_fn(move |request| {
                let server = Rc::clone(&noted);
                async move {
                    server.note(request).await;
                    Ok::<_, io::Error>(taken())
                }
            });
            let seen_count = server.seen.borrow().len();
            let builder = hyper::server::conn::http2::Builder::new(HyperExecutor);
            let mut connection = std::pin::pin!(builder.serve_connection(HyperIo(stream), service));
            let is_used = server.changed.wait_until(|| server.seen.borrow().len() > seen_count);
            futures::select_biased! {
                _ = connection.as_mut().fuse() => return,
                () = std::pin::pin!(is_used.fuse()) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        });
        let client = Client::of(&server);
        for request_count in 1..4 {
            assert_eq!(client.send(&server).await, Ok(()));
            server.changed.wait_until(|| server.ended.get() == request_count).await;
        }
        assert_eq!(client.metrics.peers().peer(&server.address).forward_error.get(), 0);
    });
}

#[test]
fn a_peer_that_closes_in_the_middle_is_tried_on_one_more_connection() {
    on_shard(|| async {
        let (server, listener) = Server::listen();
        Server::accept(&server, listener, |_, mut stream| async move {
            let mut buffer = [0; 100];
            let _ = stream.read(&mut buffer).await;
        });
        let client = Client::of(&server);
        assert_eq!(reason(client.send(&server).await), "unreachable");
        assert_eq!(server.connections.get(), 2);
    });
}

#[test]
fn garbage_ends_in_a_failure_that_is_told() {
    on_shard(|| async {
        let (server, listener) = Server::listen();
        Server::accept(&server, listener, |server, mut stream| async move {
            let mut state = server.connections.get() as u64;
            let mut garbage = match state % 4 {
                0 => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0".to_vec(),
                // The settings of a server, so that what follows is read as frames.
                1 => b"\0\0\0\x04\0\0\0\0\0".to_vec(),
                _ => Vec::new(),
            };
            garbage.extend((0..2000).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            }));
            let _ = stream.write_all(&garbage).await;
            let mut buffer = [0; 100];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
        let options = PeersOptions { backoff_min: Duration::ZERO, ..PeersOptions::default() };
        let client = Client::new(options, &[&server.address]);
        for _ in 0..20 {
            let sent = client.peers.send(&server.address, &request(3), Duration::from_millis(500)).await;
            assert!(matches!(reason(sent), "unreachable" | "broken" | "timeout"));
        }
    });
}

#[test]
fn answers_that_lie_are_not_believed() {
    on_shard(|| async {
        let turn = Cell::new(0);
        let message = || Frame::data(Bytes::from_static(&[0; 5]));
        let server = Server::start(move |_, _| {
            turn.set(turn.get() + 1);
            let trailers = |pairs| Frame::trailers(headers(pairs));
            Some(match turn.get() {
                1 => reply(&[], vec![message()]),
                2 => reply(&[], vec![message(), trailers(&[("grpc-status", "zero")])]),
                3 => reply(&[], vec![message(), trailers(&[])]),
                4 => reply(&[], vec![trailers(&[("grpc-status", "0")])]),
                5 => reply(&[("content-type", "text/html")], vec![message()]),
                _ => {
                    let endless =
                        futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[0; 1000]))));
                    let mut reply = reply(&[], Vec::new());
                    *reply.body_mut() = StreamBody::new(endless.boxed_local());
                    reply
                }
            })
        });
        let client = Client::of(&server);
        for turn in 1..=6 {
            assert_eq!(reason(client.send(&server).await), "broken", "{turn}");
        }
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn a_peer_that_is_not_there_is_not_waited_for_and_is_found_when_it_comes() {
    on_shard(|| async {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
        let server = Rc::new(Server { address, ..Server::default() });
        let options = PeersOptions { backoff_min: LONG, backoff_max: LONG, ..PeersOptions::default() };
        let client = Client::new(options, &[&server.address]);
        // All that wait for the connection learn that there is none, and later ones do not wait.
        let sends = futures::future::join_all((0..10).map(|_| client.send(&server))).await;
        assert!(sends.into_iter().all(|sent| reason(sent) == "unreachable"));
        assert_eq!(client.send(&server).await, Err(PeerFailure::BackOff));
        let shown = client.metrics.peers().peer(&server.address);
        assert_eq!(shown.backoff_seconds.get(), LONG.as_secs_f64());

        let options = PeersOptions { backoff_max: Duration::from_millis(1), ..PeersOptions::default() };
        let client = Client::new(options, &[&server.address]);
        assert_eq!(reason(client.send(&server).await), "unreachable");
        socket.listen(10).unwrap();
        let listener = Listener::from_socket(OwnedFd::from(socket));
        Server::serve(&server, listener, None, |server, request| async move {
            server.note(request).await;
            taken()
        });
        while client.send(&server).await.is_err() {
            yield_to_reactor().await;
        }
        assert_eq!(client.send(&server).await, Ok(()));
        assert_eq!(client.metrics.peers().peer(&server.address).up.get(), 1);
    });
}

#[test]
fn names_that_mean_nothing_fail_as_peers_that_are_not_there() {
    on_shard(|| async {
        let addresses = ["host-without-port", "name.invalid:1", "a b:1"];
        let client = Client::new(PeersOptions::default(), &addresses);
        for address in addresses {
            assert_eq!(reason(client.peers.send(address, &request(1), LONG).await), "unreachable");
        }
    });
}

#[test]
fn what_is_on_its_way_to_a_slow_peer_is_bounded_and_a_fast_one_beside_it_is_not_held_up() {
    on_shard(|| async {
        let is_open = Rc::new(Cell::new(false));
        let (slow, listener) = Server::listen();
        let gate = Rc::clone(&is_open);
        Server::serve(&slow, listener, None, move |server, request| {
            let gate = Rc::clone(&gate);
            async move {
                server.note(request).await;
                server.changed.wait_until(|| gate.get()).await;
                taken()
            }
        });
        let fast = Server::start(|_, _| Some(taken()));
        let bytes_max = 20 * request(3).series.size_bytes();
        let options = PeersOptions { inflight_bytes_max: bytes_max, ..PeersOptions::default() };
        let client = Client::new(options, &[&slow.address, &fast.address]);
        let waiting: Vec<_> = (0..20).map(|_| client.start_sending(&slow)).collect();
        slow.changed.wait_until(|| slow.seen.borrow().len() == 20).await;
        assert_eq!(client.send(&slow).await, Err(PeerFailure::Busy));
        let shown = client.metrics.peers().peer(&slow.address);
        assert_eq!((shown.inflight_requests.get(), shown.inflight_bytes.get()), (20, bytes_max as i64));
        for _ in 0..100 {
            assert_eq!(client.send(&fast).await, Ok(()));
        }
        assert!(waiting.iter().all(|result| result.borrow().is_none()));
        is_open.set(true);
        slow.changed.wake_all();
        slow.changed.wait_until(|| waiting.iter().all(|result| result.borrow().is_some())).await;
        assert!(waiting.iter().all(|result| *result.borrow() == Some(Ok(()))));
        assert_eq!((shown.inflight_requests.get(), shown.inflight_bytes.get()), (0, 0));
    });
}

#[test]
fn the_number_of_requests_on_their_way_is_bounded_too_and_one_of_any_size_fits() {
    on_shard(|| async {
        let server = Server::start(|_, _| None);
        let options =
            PeersOptions { inflight_requests_max: 2, inflight_bytes_max: 10, ..PeersOptions::default() };
        let client = Client::new(options, &[&server.address]);
        let small = request(0);
        let send = |request: ForwardRequest| {
            let peers = Rc::clone(&client.peers);
            let address = server.address.clone();
            async move { peers.send(&address, &request, LONG).await }.boxed_local()
        };
        let mut large = send(request(1000));
        assert!((&mut large).now_or_never().is_none());
        assert_eq!(send(request(1)).await, Err(PeerFailure::Busy));
        drop(large);
        let mut waiting = [send(small.clone()), send(small.clone())];
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        assert_eq!(send(small).await, Err(PeerFailure::Busy));
    });
}

#[test]
fn a_second_connection_is_made_when_the_peer_takes_no_more_on_the_first() {
    on_shard(|| async {
        let (server, listener) = Server::listen();
        let is_open = Rc::new(Cell::new(true));
        let gate = Rc::clone(&is_open);
        Server::serve(&server, listener, Some(1), move |server, request| {
            let gate = Rc::clone(&gate);
            async move {
                let is_held = !gate.get();
                server.note(request).await;
                server.changed.wait_until(|| !is_held || gate.get()).await;
                taken()
            }
        });
        let client = Client::of(&server);
        assert_eq!(client.send(&server).await, Ok(()));
        is_open.set(false);
        let held = client.start_sending(&server);
        server.changed.wait_until(|| server.seen.borrow().len() == 2).await;
        let queued = client.start_sending(&server);
        server.changed.wait_until(|| server.connections.get() == 2).await;
        let beside = client.start_sending(&server);
        server.changed.wait_until(|| server.seen.borrow().len() >= 3).await;
        is_open.set(true);
        server.changed.wake_all();
        let all = [held, queued, beside];
        server.changed.wait_until(|| all.iter().all(|result| result.borrow().is_some())).await;
        assert!(all.iter().all(|result| *result.borrow() == Some(Ok(()))));
        assert_eq!(server.connections.get(), 2);
    });
}

#[test]
fn an_endpoint_that_leaves_the_rings_is_let_go_after_what_is_on_its_way() {
    on_shard(|| async {
        let is_open = Rc::new(Cell::new(false));
        let (leaving, listener) = Server::listen();
        let gate = Rc::clone(&is_open);
        Server::serve(&leaving, listener, None, move |server, request| {
            let gate = Rc::clone(&gate);
            async move {
                server.note(request).await;
                server.changed.wait_until(|| gate.get()).await;
                taken()
            }
        });
        let staying = Server::start(|_, _| Some(taken()));
        let client = Client::new(PeersOptions::default(), &[&leaving.address, &staying.address]);
        assert_eq!(client.send(&staying).await, Ok(()));
        let on_its_way = client.start_sending(&leaving);
        leaving.changed.wait_until(|| leaving.seen.borrow().len() == 1).await;
        let own = rings(&[&leaving.address, &staying.address]);
        let own_index = own.local_endpoint(&leaving.address).unwrap().index;
        client.peers.replace(&own, Some(own_index));
        assert_eq!(reason(client.send(&leaving).await), "unreachable");
        assert_eq!(leaving.connections.get(), 1);
        assert_eq!(leaving.ended.get(), 0);
        is_open.set(true);
        leaving.changed.wake_all();
        leaving.changed.wait_until(|| leaving.ended.get() == 1).await;
        assert_eq!(*on_its_way.borrow(), Some(Ok(())));
        assert_eq!(client.send(&staying).await, Ok(()));
        assert_eq!(staying.connections.get(), 1);
        client.peers.close();
        staying.changed.wait_until(|| staying.ended.get() == 1).await;
    });
}
