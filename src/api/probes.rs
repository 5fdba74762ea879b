//! `/-/healthy`, `/-/ready` and `/metrics`, as every Thanos component has them.

use std::sync::Arc;

use annulus_shards::core::Readiness;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder};

use super::Api;

/// The process turns.
pub async fn healthy() -> &'static str {
    "OK"
}

/// The process answers queries.
pub async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, &'static str) {
    match (api.readiness)() {
        Readiness::Ready => (StatusCode::OK, "OK"),
        Readiness::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "NOT OK"),
    }
}

/// All metrics of the process.
pub async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&api.registry.gather(), &mut text) {
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    }
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
    response
}
