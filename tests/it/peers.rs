//! Nodes of a hashring as senders, Thanos Receive among them: gRPC with a client that others use.

use std::collections::BTreeMap;

use prost::Message;
use prost::bytes::Bytes;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::support::metrics::metric;
use super::support::now_ms;
use super::support::server::Server;
use super::support::write::{TimeSeries, series};

/// thanos.WriteRequest.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
    #[prost(string, tag = "2")]
    tenant: String,
    #[prost(int64, tag = "3")]
    replica: i64,
    #[prost(message, repeated, tag = "4")]
    tuples: Vec<TenantTuple>,
}

/// thanos.TimeSeriesTenantTuple.
#[derive(Clone, PartialEq, Message)]
struct TenantTuple {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
    #[prost(string, tag = "2")]
    tenant: String,
}

/// thanos.WriteResponse.
#[derive(Clone, PartialEq, Message)]
struct WriteResponse {}

/// grpc.health.v1.HealthCheckResponse.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// A peer of a server.
struct Peer {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Peer {
    fn of(server: &Server) -> Peer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", server.addresses.grpc)).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Peer { runtime, channel }
    }

    fn call<Q, A>(&self, path: &'static str, request: Request<Q>) -> Result<A, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone()).max_encoding_message_size(64 << 20);
        self.runtime.block_on(async {
            client.ready().await.unwrap();
            let codec = ProstCodec::<Q, A>::default();
            let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
            client.unary(request, path, codec).await.map(tonic::Response::into_inner)
        })
    }

    fn write(&self, request: WriteRequest) -> Result<WriteResponse, Status> {
        self.call("/thanos.WriteableStore/RemoteWrite", Request::new(request))
    }
}

/// A message that goes out as it is, under an encoding of its own.
#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[test]
fn what_peers_send_is_stored_for_its_tenants() {
    let server = Server::start();
    let (peer, time) = (Peer::of(&server), now_ms() - 60_000);
    let one = |id: &str, value: f64| vec![series("m", id, &[(time, value)])];
    // The form of today, with two tenants; that of before 0.43; one without a tenant.
    let tuples = vec![
        TenantTuple { series: one("1", 1.0), tenant: "a".to_owned() },
        TenantTuple { series: one("2", 2.0), tenant: "b".to_owned() },
    ];
    peer.write(WriteRequest { tuples, replica: 1, ..WriteRequest::default() }).unwrap();
    let old =
        WriteRequest { series: one("3", 3.0), tenant: "a".to_owned(), replica: 2, ..WriteRequest::default() };
    peer.write(old).unwrap();
    peer.write(WriteRequest { series: one("4", 4.0), ..WriteRequest::default() }).unwrap();
    let answer = server.query().instant("m", time);
    let values: BTreeMap<_, _> = answer
        .iter()
        .map(|(labels, samples)| ((labels["id"].as_str(), labels["tenant_id"].as_str()), samples[0].1))
        .collect();
    let wanted = [(("1", "a"), 1.0), (("2", "b"), 2.0), (("3", "a"), 3.0), (("4", "default-tenant"), 4.0)];
    assert_eq!(values, BTreeMap::from(wanted));
    let handled = concat!(
        r#"grpc_server_handled_total{grpc_code="OK",grpc_method="RemoteWrite","#,
        r#"grpc_service="thanos.WriteableStore",grpc_type="unary"}"#
    );
    assert_eq!(metric(server.addresses.write, handled), Some(3.0));
    assert_eq!(metric(server.addresses.write, "thanos_receive_pending_write_requests"), Some(0.0));
}

#[test]
fn peers_are_told_what_a_router_makes_the_right_status_of() {
    let server = Server::start();
    let (peer, time) = (Peer::of(&server), now_ms() - 60_000);
    let send = |value: f64| {
        let series = vec![series("m", "1", &[(time, value)])];
        peer.write(WriteRequest { series, replica: 1, ..WriteRequest::default() })
    };
    send(1.0).unwrap();
    send(1.0).unwrap();
    let conflict = send(2.0).unwrap_err();
    assert_eq!(conflict.code(), Code::AlreadyExists, "{conflict}");
    assert!(conflict.message().contains("id=\"1\""), "{conflict}");
    let tenant = "a/b".to_owned();
    let series = vec![series("m", "1", &[(time, 1.0)])];
    let refused = peer.write(WriteRequest { series, tenant, ..WriteRequest::default() }).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = peer.write(WriteRequest { replica: -1, ..WriteRequest::default() }).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let unknown: Result<Nothing, _> = peer.call("/thanos.WriteableStore/Other", Request::new(Nothing {}));
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    let mut encoded = Request::new(Nothing {});
    encoded.metadata_mut().insert("grpc-encoding", MetadataValue::from_static("br"));
    let unknown: Result<Nothing, _> = peer.call("/thanos.WriteableStore/RemoteWrite", encoded);
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    let health: HealthCheckResponse =
        peer.call("/grpc.health.v1.Health/Check", Request::new(Nothing {})).unwrap();
    assert_eq!(health.status, 1);
}

#[test]
fn compressed_messages_are_read() {
    let server = Server::start();
    let time = now_ms() - 60_000;
    let many: Vec<_> = (0..2000).map(|id| series("m", &id.to_string(), &[(time, 1.0)])).collect();
    let message = WriteRequest { series: many, replica: 1, ..WriteRequest::default() }.encode_to_vec();
    let mut stream = snap::write::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut stream, &message).unwrap();
    let stream = stream.into_inner().unwrap();
    let block = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    for (encoding, content) in [("snappy", &stream), ("annulus-snappy-block", &block)] {
        assert_eq!(raw(&server, encoding, content), Some("0".to_owned()), "{encoding}");
        assert_eq!(server.query().value("count(m)", time), Some(2000.0));
        for cut in [content.len() / 2, content.len() - 1] {
            assert_eq!(raw(&server, encoding, &content[..cut]), Some("3".to_owned()), "{encoding}");
        }
    }
}

/// The `grpc-status` of a request whose message is compressed already.
fn raw(server: &Server, encoding: &str, content: &[u8]) -> Option<String> {
    let mut body = vec![1];
    body.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
    body.extend_from_slice(content);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.addresses.grpc).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!(
            "http://{}/thanos.WriteableStore/RemoteWrite",
            server.addresses.grpc
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(http_body_util::Full::new(Bytes::from(body)))
        .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let collected = http_body_util::BodyExt::collect(body).await.unwrap();
        let status =
            head.headers.get("grpc-status").or_else(|| collected.trailers()?.get("grpc-status")).cloned();
        status.map(|status| status.to_str().unwrap().to_owned())
    })
}
