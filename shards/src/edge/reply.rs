//! The body of an answer: bytes, and for gRPC the trailers after them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes that are there, and then trailers if there are any.
#[derive(Debug, Default)]
pub struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Reply {
    /// A body that ends with trailers.
    pub fn with_trailers(data: Bytes, trailers: HeaderMap) -> Reply {
        Reply { trailers: Some(trailers), ..Reply::from(data) }
    }
}

impl<B: Into<Bytes>> From<B> for Reply {
    fn from(data: B) -> Reply {
        let data = data.into();
        Reply { data: (!data.is_empty()).then_some(data), trailers: None }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn trailers_come_last() {
        let trailers = HeaderMap::from_iter([(http::header::TE, http::HeaderValue::from_static("x"))]);
        let mut reply = Reply::with_trailers(Bytes::from_static(b"data"), trailers);
        assert_eq!(reply.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap(), "data");
        assert!(!reply.is_end_stream());
        assert!(reply.frame().now_or_never().unwrap().unwrap().unwrap().is_trailers());
        assert!(reply.is_end_stream() && reply.frame().now_or_never().unwrap().is_none());
        assert!(Reply::from(Bytes::new()).is_end_stream());
    }
}
