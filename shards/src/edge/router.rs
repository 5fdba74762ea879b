//! Which request goes where.

use std::rc::Rc;

use bytes::Bytes;
use futures::channel::oneshot;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;

use super::grpc;
use super::head_stats::{StatsAnswer, StatsRequest};
use super::otlp::OtlpAnswer;
use super::render::RenderJob;
use super::reply::Reply;
use super::status::{Answer, WriteError, Written};
use super::write::{WriteHandler, discard};
use crate::core::{Readiness, SharedState, readiness};

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// When to come back, unless the table of write errors says so.
const RETRY_SECONDS: u32 = 1;

/// Headers that tell a sender how much of each kind is stored, as remote write 2.0 asks of every answer.
const WRITTEN_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

/// Answers every request of one shard's connections.
pub struct Router {
    write: WriteHandler,
    state: SharedState,
    render: flume::Sender<RenderJob>,
    stats: flume::Sender<StatsRequest>,
}

impl Router {
    /// The router of one shard.
    pub fn new(
        write: WriteHandler,
        state: SharedState,
        render: flume::Sender<RenderJob>,
        stats: flume::Sender<StatsRequest>,
    ) -> Rc<Router> {
        Rc::new(Router { write, state, render, stats })
    }

    /// Lets go of what is at hand of tenants that did not send since the call before.
    pub fn age(&self) {
        self.write.age();
    }

    /// Answers one request.
    pub async fn route<B>(&self, request: Request<B>) -> Response<Reply>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let (head, body) = request.into_parts();
        if grpc::is_grpc(&head) {
            let is_ready = matches!(readiness(&self.state), Readiness::Ready);
            return grpc::answer(&self.write, &head, body, is_ready).await;
        }
        let reads = head.method == Method::GET || head.method == Method::HEAD;
        match head.uri.path() {
            "/api/v1/receive" | "/api/v1/write" | "/api/v1/push" => {
                if head.method != Method::POST {
                    return refuse_method(body).await;
                }
                respond(self.write.handle(&head.headers, body).await)
            }
            // Thanos' path, Prometheus' path, and the one that an exporter takes when its endpoint has none.
            "/api/v1/otlp" | "/api/v1/otlp/v1/metrics" | "/v1/metrics" => {
                if head.method != Method::POST {
                    return refuse_method(body).await;
                }
                match self.write.handle_otlp(&head.headers, body).await {
                    OtlpAnswer::Taken(message) => protobuf(message),
                    OtlpAnswer::Refused(answer) => respond(answer),
                }
            }
            "/-/healthy" if reads => text(StatusCode::OK, "OK"),
            "/-/ready" if reads => match readiness(&self.state) {
                Readiness::Ready => text(StatusCode::OK, "OK"),
                Readiness::NotReady(reason) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("NOT OK: {reason}"))
                }
            },
            "/metrics" if reads => self.metrics().await,
            "/api/v1/status/tsdb" if reads => json(self.head_stats(&head).await),
            "/-/healthy" | "/-/ready" | "/metrics" | "/api/v1/status/tsdb" => {
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

    /// What the head has of the tenant that the header names, of the default tenant without a header, or of each.
    async fn head_stats(&self, head: &Parts) -> StatsAnswer {
        let query = match self.write.stats_query(&head.headers, head.uri.query().unwrap_or("")) {
            Ok(query) => query,
            Err(text) => return StatsAnswer::bad_request(&text),
        };
        let (reply, answer) = oneshot::channel();
        if self.stats.try_send((query, reply)).is_err() {
            return StatsAnswer::unavailable("too many requests for statistics at once");
        }
        answer.await.unwrap_or_else(|_| StatsAnswer::unavailable("the node is stopping"))
    }

    async fn metrics(&self) -> Response<Reply> {
        let (reply, rendered) = oneshot::channel();
        if self.render.try_send(reply).is_err() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many requests for metrics at once\n");
        }
        match rendered.await {
            Ok(body) => {
                let mut response = Response::new(Reply::from(body));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
                response
            }
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping\n"),
        }
    }
}

async fn refuse_method<B>(body: B) -> Response<Reply>
where
    B: Body<Data = Bytes>,
{
    discard(std::pin::pin!(body)).await;
    let mut response = respond(Answer::of(&WriteError::Method));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn protobuf(message: Vec<u8>) -> Response<Reply> {
    let mut response = Response::new(Reply::from(message));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    response
}

fn json(answer: StatsAnswer) -> Response<Reply> {
    let mut response = Response::new(Reply::from(answer.body));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    say_when_to_retry(&mut response);
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    say_when_to_retry(&mut response);
    response
}

/// Who is told that the node cannot answer for now is told when to come back.
fn say_when_to_retry(response: &mut Response<Reply>) {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    }
}

fn respond(answer: Answer) -> Response<Reply> {
    let mut response = if answer.text.is_empty() {
        let mut response = Response::new(Reply::default());
        *response.status_mut() = answer.status;
        response
    } else {
        text(answer.status, answer.text + "\n")
    };
    let headers = response.headers_mut();
    if let Some(seconds) = answer.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(Written { samples, histograms, exemplars }) = answer.written {
        for (name, count) in WRITTEN_HEADERS.into_iter().zip([samples, histograms, exemplars]) {
            headers.insert(name, HeaderValue::from(count));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Failure;

    #[test]
    fn whoever_may_come_back_is_told_when() {
        let failed = Answer::of(&WriteError::Failed { failure: Failure::Poisoned });
        for (response, seconds) in [
            (text(StatusCode::SERVICE_UNAVAILABLE, "later"), "1"),
            (json(StatsAnswer::unavailable("later")), "1"),
            (respond(failed), "30"),
        ] {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
        for response in [text(StatusCode::OK, "OK"), json(StatsAnswer::bad_request("wrong"))] {
            assert!(!response.headers().contains_key(RETRY_AFTER));
        }
    }
}
