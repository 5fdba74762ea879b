//! Remote write 1.0 from the sender's side.

use std::io;
use std::net::SocketAddr;

use prost::Message;

use super::http::{Client, Response};

/// prometheus.WriteRequest, as far as senders of samples need it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<TimeSeries>,
}

/// prometheus.TimeSeries.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

/// prometheus.Label; bytes instead of strings, so that a test can send what is no UTF-8.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    #[prost(bytes, tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes, tag = "2")]
    pub value: Vec<u8>,
}

/// prometheus.Sample.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sample {
    /// Optional, so that a negative zero is written too.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
    #[prost(int64, tag = "2")]
    pub timestamp_ms: i64,
}

/// A series with the labels exactly as given, sorted or not.
pub fn series_of<L: AsRef<[u8]>>(labels: &[(L, L)], samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| Label { name: name.as_ref().to_vec(), value: value.as_ref().to_vec() })
            .collect(),
        samples: samples
            .iter()
            .map(|&(timestamp_ms, value)| Sample { value: Some(value), timestamp_ms })
            .collect(),
    }
}

/// A well-formed series: its metric name and one more label.
pub fn series(metric: &str, id: &str, samples: &[(i64, f64)]) -> TimeSeries {
    series_of(&[("__name__", metric), ("id", id)], samples)
}

/// The protobuf message, not compressed.
pub fn message(series: &[TimeSeries]) -> Vec<u8> {
    WriteRequest { series: series.to_vec() }.encode_to_vec()
}

/// The snappy block around a message.
pub fn compress(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

/// The body of a request.
pub fn body(series: &[TimeSeries]) -> Vec<u8> {
    compress(&message(series))
}

/// The headers that Prometheus sends.
pub const HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// A sender with one connection.
pub struct Sender {
    client: Client,
    tenant: Option<String>,
}

impl Sender {
    /// Sends to the receiver at `address`.
    pub fn new(address: SocketAddr) -> Sender {
        Sender { client: Client::new(address), tenant: None }
    }

    /// Sends as this tenant.
    pub fn of_tenant(self, tenant: &str) -> Sender {
        Sender { tenant: Some(tenant.to_owned()), ..self }
    }

    /// Sends a body as it is.
    pub fn send_body(&mut self, body: &[u8]) -> io::Result<Response> {
        let tenant = self.tenant.as_deref().map(|tenant| ("THANOS-TENANT", tenant));
        let headers: Vec<_> = HEADERS.into_iter().chain(tenant).collect();
        self.client.send("POST", "/api/v1/receive", &headers, body)
    }

    /// Sends series.
    pub fn send(&mut self, series: &[TimeSeries]) -> io::Result<Response> {
        self.send_body(&body(series))
    }

    /// Sends series that must be stored.
    pub fn store(&mut self, series: &[TimeSeries]) {
        let response = self.send(series).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, ""));
    }
}
