//! Bodies of responses: bytes that are there already, or what axum streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::activity::Activity;

/// How much of a body is given to HTTP/2 at once. It asks for more when the client takes it, so that what one
/// request can hold in the connection's buffers is bounded.
const HTTP2_CHUNK: usize = 64 << 10;

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// Bytes shared with others: sent as they are, without a copy.
    Full(Bytes),
    /// Anything that axum makes.
    Axum(axum::body::Body),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl From<axum::body::Body> for Body {
    fn from(body: axum::body::Body) -> Self {
        Self::Axum(body)
    }
}

/// A body on its way to the client. On HTTP/2 it notes its progress.
pub(super) struct Outgoing {
    body: Body,
    http2: Option<Arc<Activity>>,
}

impl Outgoing {
    pub(super) fn http1(body: Body) -> Self {
        Self { body, http2: None }
    }

    pub(super) fn http2(body: Body, activity: Arc<Activity>) -> Self {
        activity.body_started(Instant::now());
        Self { body, http2: Some(activity) }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(activity) = &self.http2 {
            activity.body_ended();
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let chunk = match &self.http2 {
            Some(activity) => {
                activity.body_progress(Instant::now());
                HTTP2_CHUNK
            }
            None => usize::MAX,
        };
        match &mut self.body {
            Body::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Full(bytes) => {
                let next = bytes.split_to(bytes.len().min(chunk));
                Poll::Ready(Some(Ok(Frame::data(next))))
            }
            Body::Axum(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Body::Full(bytes) => bytes.is_empty(),
            Body::Axum(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Axum(body) => body.size_hint(),
        }
    }
}
