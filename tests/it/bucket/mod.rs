//! Buckets and shippers against a real S3 server in this process, with its signature checks on, and against a network
//! that misbehaves in between.

pub mod fault_proxy;
mod s3;
pub mod s3_server;
mod shipper;
mod tls;

use std::net::SocketAddr;

use annulus::bucket::Bucket;
use annulus::bucket::config::parse;
use annulus::bucket::metrics::BucketMetrics;
use prometheus::Registry;

/// The keys that the server knows.
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// The bucket that the server has.
const BUCKET: &str = "thanos-metrics";

/// An `objstore.yml`; `lines` are further lines of its `config`.
pub fn objstore_yml(server: SocketAddr, secret_key: &str, lines: &str) -> String {
    format!(
        "type: S3\nconfig:\n  bucket: {BUCKET}\n  endpoint: localhost:{}\n  access_key: {ACCESS_KEY}\n  secret_key: \
         {secret_key}\n{lines}",
        server.port()
    )
}

/// The server's bucket over plain HTTP.
fn open(server: SocketAddr, lines: &str) -> Bucket {
    open_file(&objstore_yml(server, SECRET_KEY, &format!("  insecure: true\n{lines}")))
}

fn open_file(yaml: &str) -> Bucket {
    Bucket::open(&parse(yaml).unwrap(), BucketMetrics::register(&Registry::new())).unwrap()
}

/// Bytes that differ from place to place, so that a swapped or repeated piece shows.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}
