//! Which service answers a request: playback goes straight to the packager, everything else to axum's router.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::Body;

/// The other side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; an IPv4 client of a dual-stack socket has an IPv4 address here.
    pub addr: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
}

/// Answers requests. Implemented for all connections of a [`Server`](super::Server) at once.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. It has no error: what goes wrong is a response, too.
    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send;

    /// Whether clients should come back over a connection of their own next time, which may lead elsewhere.
    fn lets_go(&self) -> bool;
}

/// Answers `/{app}/streams/…`.
pub trait Streams: Send + Sync + 'static {
    /// Answers one request from its head; bodies mean nothing here.
    fn handle(&self, head: &Parts, peer: SocketAddr) -> impl Future<Output = Response<Bytes>> + Send;
}

/// Playback to one service, the rest to axum.
pub struct Dispatch<S> {
    streams: S,
    router: axum::Router,
    request_timeout: Duration,
    lets_go: Option<LetsGo>,
}

/// See [`Handler::lets_go`].
pub type LetsGo = Box<dyn Fn() -> bool + Send + Sync>;

impl<S: Streams> Dispatch<S> {
    /// Requests to the router end with 503 after `request_timeout`.
    pub fn new(streams: S, router: axum::Router, request_timeout: Duration) -> Self {
        Self { streams, router, request_timeout, lets_go: None }
    }

    /// While `lets_go` says so, each answer is the last one of its connection (HTTP/1.1: `Connection: close`; HTTP/2:
    /// GOAWAY): behind a balancer the next one goes to another node.
    #[must_use]
    pub fn with_lets_go(self, lets_go: LetsGo) -> Self {
        Self { lets_go: Some(lets_go), ..self }
    }

    async fn route(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let mut request = request.map(axum::body::Body::new);
        // What extractors look for. HTTP/2 has the host in the URI.
        request.extensions_mut().insert(ConnectInfo(peer.addr));
        if !request.headers().contains_key(HOST)
            && let Some(host) = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok())
        {
            request.headers_mut().insert(HOST, host);
        }
        match tokio::time::timeout(self.request_timeout, self.router.clone().oneshot(request)).await {
            Ok(Ok(response)) => response.map(Body::Axum),
            Ok(Err(never)) => match never {},
            Err(_) => {
                let mut response = Response::new(Body::Full(Bytes::from_static(
                    br#"{"success":false,"message":"the request took too long","dataId":"","errorId":0}"#,
                )));
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(http::header::CONTENT_TYPE, json);
                response
            }
        }
    }
}

impl<S: Streams> Handler for Dispatch<S> {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let has_a_word = request.version() <= Version::HTTP_11;
        let mut response = if is_playback(request.uri().path()) {
            let (head, _) = request.into_parts();
            self.streams.handle(&head, peer.addr).await.map(Body::Full)
        } else {
            // The slow path is much larger: boxed, it does not make every request's future so.
            Box::pin(self.route(request, peer)).await
        };
        // A connection that is upgraded has no next answer; `Connection` says something else there.
        let goes_on = response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if has_a_word && goes_on && self.lets_go() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn lets_go(&self) -> bool {
        self.lets_go.as_ref().is_some_and(|lets_go| lets_go())
    }
}

/// `/{app}/streams/…` with something behind it.
fn is_playback(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .and_then(|(app, rest)| Some((app, rest.strip_prefix("streams/")?)))
        .is_some_and(|(app, name)| !app.is_empty() && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playback_is_known_by_its_path() {
        for path in ["/LiveApp/streams/cam1.m3u8", "/live/streams/ll-hls/a/a__master.m3u8", "/a/streams/x"] {
            assert!(is_playback(path), "{path}");
        }
        for path in [
            "/",
            "",
            "/LiveApp/streams/",
            "/LiveApp/streams",
            "//streams/x",
            "/LiveApp/play.html",
            "/streams/x",
            "/LiveApp/rest/v2/broadcasts/streams/x",
        ] {
            assert!(!is_playback(path), "{path}");
        }
    }
}
