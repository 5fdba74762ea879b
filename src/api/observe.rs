//! What happens around every request: counting, and the headers that let web pages of other origins read answers.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::Api;

/// As Prometheus sends them.
const CROSS_ORIGIN: [(HeaderName, HeaderValue); 4] = [
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Accept, Authorization, Content-Type, Origin"),
    ),
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS")),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date")),
];

/// Counts a request under its handler's name.
pub async fn count(
    State((api, handler)): State<(Arc<Api>, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    // A sender must not be able to make series by inventing methods.
    let method = match *request.method() {
        Method::GET => "get",
        Method::POST => "post",
        Method::HEAD => "head",
        _ => "other",
    };
    let response = next.run(request).await;
    let seconds = started.elapsed().as_secs_f64();
    api.metrics.http.observe_http(response.status().as_u16(), handler, method, seconds);
    response
}

/// Answers a browser's question before a request of another origin, and marks answers to such requests.
pub async fn cross_origin(request: Request, next: Next) -> Response {
    let is_cross_origin = request.headers().contains_key(header::ORIGIN);
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    if is_cross_origin {
        response.headers_mut().extend(CROSS_ORIGIN);
    }
    response
}
