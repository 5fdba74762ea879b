//! Servers that answer requests of peers as a test likes.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::LocalBoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use prost::Message;

use super::super::super::{Code, Unstream, unframe};
use crate::rt::{HyperExecutor, HyperIo, HyperTimer, Listener, Stream, WaitList, bind_all, spawn};

/// What a server sends back.
pub type Reply = Response<StreamBody<LocalBoxStream<'static, io::Result<Frame<Bytes>>>>>;

/// What every version of Thanos reads.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OldWriteRequest {
    #[prost(bytes, repeated, tag = "1")]
    pub timeseries: Vec<Vec<u8>>,
    #[prost(string, tag = "2")]
    pub tenant: String,
    #[prost(int64, tag = "3")]
    pub replica: i64,
}

/// A server and what it saw.
#[derive(Default)]
pub struct Server {
    pub address: String,
    /// Connections that were made, and those of them that have ended.
    pub connections: Cell<usize>,
    pub ended: Cell<usize>,
    /// The encoding of each request, and the message.
    pub seen: RefCell<Vec<(String, OldWriteRequest)>>,
    /// Requests that ended before they were answered.
    pub given_up: Cell<usize>,
    pub changed: WaitList,
}

impl Server {
    /// Answers what it has read; `None` is no answer ever.
    pub fn start(answer: impl Fn(&Server, &str) -> Option<Reply> + 'static) -> Rc<Server> {
        let (server, listener) = Server::listen();
        let answer = Rc::new(answer);
        Self::serve(&server, listener, None, move |server, request| {
            let answer = Rc::clone(&answer);
            async move {
                let encoding = server.note(request).await;
                match answer(&server, &encoding) {
                    Some(reply) => reply,
                    None => pending().await,
                }
            }
        });
        server
    }

    /// Has a socket and does not serve it yet.
    pub fn listen() -> (Rc<Server>, Listener) {
        let (address, sockets) = bind_all(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        let server = Rc::new(Server { address: address.to_string(), ..Server::default() });
        (server, Listener::from_socket(sockets.into_iter().next().unwrap()))
    }

    /// Serves HTTP/2.
    pub fn serve<F>(
        server: &Rc<Server>,
        listener: Listener,
        streams_max: Option<u32>,
        answer: impl Fn(Rc<Server>, Request<Incoming>) -> F + 'static,
    ) where
        F: Future<Output = Reply> + 'static,
    {
        let answer = Rc::new(answer);
        Self::accept(server, listener, move |server, stream| {
            let answer = Rc::clone(&answer);
            async move {
                let served = Rc::clone(&server);
                let service = service_fn(move |request| {
                    let given_up = GivenUp(Rc::clone(&served), false);
                    let answered = answer(Rc::clone(&served), request);
                    async move {
                        let mut given_up = given_up;
                        let reply = answered.await;
                        given_up.1 = true;
                        Ok::<_, io::Error>(reply)
                    }
                });
                let mut builder = hyper::server::conn::http2::Builder::new(HyperExecutor);
                builder.timer(HyperTimer).max_concurrent_streams(streams_max);
                let _ = builder.serve_connection(HyperIo(stream), service).await;
            }
        });
    }

    /// Does what it likes with connections.
    pub fn accept<F>(
        server: &Rc<Server>,
        listener: Listener,
        serve: impl Fn(Rc<Server>, Stream) -> F + 'static,
    ) where
        F: Future<Output = ()> + 'static,
    {
        let server = Rc::clone(server);
        spawn("test server", async move {
            let serve = Rc::new(serve);
            loop {
                let stream = listener.accept().await.unwrap().take_up().unwrap();
                server.count(&server.connections);
                let (server, serve) = (Rc::clone(&server), Rc::clone(&serve));
                spawn("test connection", async move {
                    serve(Rc::clone(&server), stream).await;
                    server.count(&server.ended);
                });
            }
        });
    }

    fn count(&self, cell: &Cell<usize>) {
        cell.set(cell.get() + 1);
        self.changed.wake_all();
    }

    /// Reads a request as a server of gRPC does, and answers its encoding.
    pub async fn note(&self, request: Request<Incoming>) -> String {
        let (head, body) = request.into_parts();
        assert_eq!(head.uri.path(), "/thanos.WriteableStore/RemoteWrite");
        assert_eq!(head.headers["content-type"], "application/grpc");
        assert_eq!(head.headers["te"], "trailers");
        assert!(head.headers["grpc-timeout"].to_str().unwrap().ends_with('m'));
        let encoding = head.headers.get("grpc-encoding").map_or("identity", |value| value.to_str().unwrap());
        let body = body.collect().await.unwrap().to_bytes();
        let (is_compressed, message) = unframe(&body).unwrap();
        assert_eq!(is_compressed, encoding != "identity");
        let text = match encoding {
            "identity" => message.to_vec(),
            "snappy" => {
                let (mut step, mut text) = (Unstream::new(message, 1 << 30).unwrap(), Vec::new());
                while !step.run(message, &mut text).unwrap() {}
                text
            }
            _ => snap::raw::Decoder::new().decompress_vec(message).unwrap(),
        };
        let message = OldWriteRequest::decode(&text[..]).unwrap();
        self.seen.borrow_mut().push((encoding.to_owned(), message));
        self.changed.wake_all();
        encoding.to_owned()
    }

    /// Of all requests so far.
    pub fn encodings(&self) -> Vec<String> {
        self.seen.borrow().iter().map(|(encoding, _)| encoding.clone()).collect()
    }
}

/// Counts requests that end before they are answered.
struct GivenUp(Rc<Server>, bool);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if !self.1 {
            self.0.count(&self.0.given_up);
        }
    }
}

pub fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

pub fn reply(head: &[(&'static str, &str)], frames: Vec<Frame<Bytes>>) -> Reply {
    let frames = futures::stream::iter(frames.into_iter().map(Ok)).boxed_local();
    let mut reply = Response::new(StreamBody::new(frames));
    *reply.headers_mut() = headers(&[("content-type", "application/grpc")]);
    reply.headers_mut().extend(headers(head));
    reply
}

pub fn taken_with(head: &[(&'static str, &str)]) -> Reply {
    let message = Frame::data(Bytes::from_static(&[0; 5]));
    reply(head, vec![message, Frame::trailers(headers(&[("grpc-status", "0")]))])
}

pub fn taken() -> Reply {
    taken_with(&[])
}

pub fn refused(code: Code, text: &str) -> Reply {
    reply(&[("grpc-status", &(code as u8).to_string()), ("grpc-message", text)], Vec::new())
}
