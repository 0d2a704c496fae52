//! HTTP/2 requests of other nodes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http_body_util::Limited;
use hyper::body::Incoming as IncomingBody;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tower::ServiceExt;

use super::{Handlers, Incoming};
use crate::member::NodeId;

/// A silent peer is asked this often whether it is still there ...
pub(super) const PING: Duration = Duration::from_secs(2);
/// ... and has this long to say so.
pub(super) const PONG: Duration = Duration::from_secs(3);

/// Who opens a connection has a request to make; one that makes none for this long is closed.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

pub(super) async fn serve(peer: NodeId, addr: SocketAddr, stream: Incoming, handlers: &Handlers) {
    let limits = &handlers.limits;
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (peer, asked, router, body_limit) =
            (peer.clone(), asked.clone(), handlers.requests.clone(), limits.body);
        move |request: hyper::Request<IncomingBody>| {
            asked.store(true, Ordering::Relaxed);
            let mut request = request.map(|body| Body::new(Limited::new(body, body_limit)));
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(ConnectInfo(addr));
            let answer = router.clone().oneshot(request);
            async move {
                let Ok(answer) = answer.await;
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.requests)
        .max_header_list_size(limits.headers)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = tokio::time::sleep(FIRST_REQUEST) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None if asked.load(Ordering::Relaxed) => connection.await,
        None => return tracing::debug!(%addr, %peer, "cluster connection without a request"),
    };
    if let Err(error) = ended {
        tracing::debug!(%addr, %peer, %error, "cluster connection broke");
    }
}
