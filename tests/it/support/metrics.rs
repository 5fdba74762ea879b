//! What a process says of itself on `/metrics`.

use std::net::SocketAddr;

use super::http::get;

/// The value of a series as it is written there, such as `up` or `requests_total{code="200"}`.
pub fn metric(address: SocketAddr, series: &str) -> Option<f64> {
    let text = get(address, "/metrics").ok()?.text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.trim().parse().unwrap())
}
