//! One request and its tries.
//!
//! rust-s3 builds every request. It is sent here, because its client takes no certificate authority, waits
//! for a body without a bound and has the whole of an upload in memory.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_LENGTH;
use s3::command::{Command, HttpMethod};
use s3::request::Request;
use s3::request::tokio_backend::ReqwestRequest;
use tokio::time::{sleep, timeout};

use super::S3;
use super::answer::{Answer, transport};
use super::body::Content;
use super::endpoint::is_loopback;
use super::session::signing_failed;
use super::sign;
use crate::bucket::backoff::Backoff;
use crate::bucket::error::BucketError;

/// Waits between tries of one request.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(1) };

/// How long a dial may take, before TLS.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP client: no redirects, because a signature is for one host.
pub(super) fn http_client(config: &super::config::S3Config) -> Result<reqwest::Client, BucketError> {
    let http = &config.http;
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(DIAL_TIMEOUT + http.tls_handshake_timeout)
        .pool_idle_timeout(http.idle_conn_timeout)
        .pool_max_idle_per_host(http.idle_conns_max)
        .user_agent(concat!("annulus/", env!("CARGO_PKG_VERSION")));
    if !config.insecure {
        builder = builder.use_preconfigured_tls(super::tls::client_config(http)?);
    }
    // Variables such as HTTPS_PROXY are heeded, as by Thanos, but not for this machine.
    if is_loopback(&config.endpoint) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| BucketError::Config(error.to_string()))
}

impl S3 {
    /// Sends a request without content until it is answered by anything but a failure that may pass.
    pub(super) async fn request(
        &self,
        bucket: &s3::Bucket,
        path: &str,
        command: Command<'_>,
        bytes_max: u64,
    ) -> Result<Answer, BucketError> {
        self.retrying(|| self.request_once(bucket, path, command.clone(), bytes_max)).await
    }

    /// Sends it once: for what is done in passing.
    pub(super) async fn request_once(
        &self,
        bucket: &s3::Bucket,
        path: &str,
        command: Command<'_>,
        bytes_max: u64,
    ) -> Result<Answer, BucketError> {
        let name = if path.is_empty() { &self.config.bucket } else { path };
        let request = ReqwestRequest::new(bucket, path, command).await.map_err(signing_failed)?;
        let (url, headers) = sign::in_header(&request).await.map_err(signing_failed)?;
        let method = match request.command.http_verb() {
            HttpMethod::Delete => Method::DELETE,
            HttpMethod::Get => Method::GET,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Post => Method::POST,
            HttpMethod::Head => Method::HEAD,
        };
        let content = Content::Bytes(Bytes::from(request.request_body().map_err(signing_failed)?));
        let unsent = self.http.request(method, url).headers(headers);
        self.exchange(name, unsent, &content, bytes_max).await
    }

    /// Sends content to a URL that carries its signature: the content need not be in memory for that.
    pub(super) async fn send_once(
        &self,
        name: &str,
        url: reqwest::Url,
        headers: http::HeaderMap,
        content: &Content,
        bytes_max: u64,
    ) -> Result<Answer, BucketError> {
        let unsent = self.http.put(url).headers(headers).header(CONTENT_LENGTH, content.len());
        self.exchange(name, unsent, content, bytes_max).await
    }

    /// Tries until it works, the failure is one that stays, or the tries are used up.
    pub(super) async fn retrying<T, F: Future<Output = Result<T, BucketError>>>(
        &self,
        mut once: impl FnMut() -> F,
    ) -> Result<T, BucketError> {
        let mut failures = 0;
        loop {
            match once().await {
                Err(error) if error.is_retryable() && failures + 1 < self.config.tries_max => {
                    failures += 1;
                    tracing::debug!(%error, failures, "the object storage is tried again");
                    sleep(BACKOFF.wait(failures)).await;
                }
                result => return result,
            }
        }
    }

    /// One request and its whole answer; one that says no is an error.
    async fn exchange(
        &self,
        name: &str,
        unsent: reqwest::RequestBuilder,
        content: &Content,
        bytes_max: u64,
    ) -> Result<Answer, BucketError> {
        let _slot = match &self.slots {
            Some(slots) => slots.acquire().await.ok(),
            None => None,
        };
        let wait_max = self.config.http.response_header_timeout;
        let sent_bytes = Arc::new(AtomicU64::new(0));
        let unsent = unsent.body(content.body(Arc::clone(&sent_bytes)).await?);
        let response = until_stalled(unsent.send(), wait_max, &sent_bytes)
            .await
            .ok_or_else(|| BucketError::Stalled { name: name.to_owned(), waited: wait_max })?
            .map_err(|error| transport(name, error))?;
        let answer = Answer::receive(name, response, wait_max, bytes_max).await?;
        answer.success(name)
    }
}

/// Waits for a request for as long as something moves: an upload may take long, silence may not.
async fn until_stalled<T>(
    request: impl Future<Output = T>,
    wait_max: Duration,
    sent_bytes: &AtomicU64,
) -> Option<T> {
    let mut request = pin!(request);
    let mut seen_bytes = 0;
    loop {
        if let Ok(response) = timeout(wait_max, &mut request).await {
            return Some(response);
        }
        let now_bytes = sent_bytes.load(Ordering::Relaxed);
        if now_bytes == seen_bytes {
            return None;
        }
        seen_bytes = now_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn silence_ends_a_request() {
        let sent_bytes = AtomicU64::new(0);
        assert_eq!(until_stalled(std::future::pending::<()>(), LIMIT, &sent_bytes).await, None);
    }

    #[tokio::test]
    async fn a_slow_upload_that_moves_may_take_many_times_the_limit() {
        let sent_bytes = AtomicU64::new(0);
        let upload = async {
            for _ in 0..10 {
                sent_bytes.fetch_add(1, Ordering::Relaxed);
                sleep(LIMIT / 2).await;
            }
        };
        assert_eq!(until_stalled(upload, LIMIT, &sent_bytes).await, Some(()));
    }
}
