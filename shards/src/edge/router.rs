//! Which request goes where.

use std::rc::Rc;

use bytes::Bytes;
use futures::channel::oneshot;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;

use super::render::RenderJob;
use super::status::{Answer, WriteError};
use super::write::{WriteHandler, discard};
use crate::core::{Readiness, SharedState, readiness};

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers every request of one shard's connections.
pub struct Router {
    write: WriteHandler,
    state: SharedState,
    render: flume::Sender<RenderJob>,
}

impl Router {
    /// The router of one shard.
    pub fn new(write: WriteHandler, state: SharedState, render: flume::Sender<RenderJob>) -> Rc<Router> {
        Rc::new(Router { write, state, render })
    }

    /// Answers one request.
    pub async fn route<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let (head, body) = request.into_parts();
        let reads = head.method == Method::GET || head.method == Method::HEAD;
        match head.uri.path() {
            "/api/v1/receive" | "/api/v1/write" | "/api/v1/push" => {
                if head.method != Method::POST {
                    discard(std::pin::pin!(body)).await;
                    let mut response = respond(Answer::of(&WriteError::Method));
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                    return response;
                }
                respond(self.write.handle(&head.headers, body).await)
            }
            "/-/healthy" if reads => text(StatusCode::OK, "OK"),
            "/-/ready" if reads => match readiness(&self.state) {
                Readiness::Ready => text(StatusCode::OK, "OK"),
                Readiness::NotReady(reason) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("NOT OK: {reason}"))
                }
            },
            "/metrics" if reads => self.metrics().await,
            "/-/healthy" | "/-/ready" | "/metrics" => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            _ => {
                discard(std::pin::pin!(body)).await;
                text(StatusCode::NOT_FOUND, "404 page not found\n")
            }
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let (reply, rendered) = oneshot::channel();
        if self.render.try_send(reply).is_err() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many requests for metrics at once\n");
        }
        match rendered.await {
            Ok(body) => {
                let mut response = Response::new(Full::from(body));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
                response
            }
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    if answer.text.is_empty() {
        let mut response = Response::new(Full::default());
        *response.status_mut() = answer.status;
        return response;
    }
    let mut response = text(answer.status, answer.text + "\n");
    if let Some(seconds) = answer.retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
