//! HTTP/2 requests of other nodes, and of the operator. Each has a router of its own, so that neither can reach what is
//! for the other.

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
use rustls::pki_types::CertificateDer;
use sluice_identity::{ClusterTls, NodeId, OPERATOR_NAME, Peer};
use tokio::sync::Notify;
use tower::ServiceExt;

use super::{Handlers, Incoming};

/// A silent peer is asked this often whether it is still there ...
pub(super) const PING: Duration = Duration::from_secs(2);
/// ... and has this long to say so.
pub(super) const PONG: Duration = Duration::from_secs(3);

/// The operator has thousands of nodes, and looks after its connections itself.
const OPERATOR_PING: Duration = Duration::from_secs(30);

/// Who opens a connection has a request to make; one that makes none for this long is closed.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Who makes the requests of a connection.
pub(super) enum Asker {
    /// A node; requests have its id as an extension.
    Node(NodeId),
    /// The operator, for as long as these certificates are its own.
    Operator(Vec<CertificateDer<'static>>, ClusterTls),
}

impl Asker {
    fn still_may(&self) -> bool {
        match self {
            Asker::Node(_) => true,
            Asker::Operator(chain, tls) => tls.peer_of(chain) == Some(Peer::Operator),
        }
    }

    fn name(&self) -> &str {
        match self {
            Asker::Node(id) => id.as_str(),
            Asker::Operator(..) => OPERATOR_NAME,
        }
    }
}

pub(super) async fn serve(asker: Asker, addr: SocketAddr, stream: Incoming, handlers: &Handlers) {
    let limits = &handlers.limits;
    let (router, body_limit, requests, ping) = match &asker {
        Asker::Node(_) => (handlers.requests.clone(), limits.body, limits.requests, PING),
        Asker::Operator(..) => {
            (handlers.operator.clone(), limits.operator_body, limits.operator_requests, OPERATOR_PING)
        }
    };
    let asker = Arc::new(asker);
    let asked = Arc::new(AtomicBool::new(false));
    let shut_out = Arc::new(Notify::new());
    let service = service_fn({
        let (asker, asked, shut_out) = (asker.clone(), asked.clone(), shut_out.clone());
        move |request: hyper::Request<IncomingBody>| {
            asked.store(true, Ordering::Relaxed);
            let may = asker.still_may();
            if !may {
                shut_out.notify_one();
            }
            let mut request = request.map(|body| Body::new(Limited::new(body, body_limit)));
            if let Asker::Node(peer) = &*asker {
                request.extensions_mut().insert(peer.clone());
            }
            request.extensions_mut().insert(ConnectInfo(addr));
            let answer = router.clone().oneshot(request);
            async move {
                if !may {
                    // The connection ends before this is looked at.
                    std::future::pending::<()>().await;
                }
                let Ok(answer) = answer.await;
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(requests)
        .max_header_list_size(limits.headers)
        .keep_alive_interval(ping)
        .keep_alive_timeout(PONG);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let peer = asker.name();
    let first = tokio::time::sleep(FIRST_REQUEST);
    tokio::pin!(first);
    let mut waited = false;
    let ended = loop {
        tokio::select! {
            ended = &mut connection => break ended,
            () = shut_out.notified() => {
                return tracing::info!(%addr, "the operator's CA is another one now: its connection is closed");
            }
            () = &mut first, if !waited => {
                waited = true;
                if !asked.load(Ordering::Relaxed) {
                    return tracing::debug!(%addr, %peer, "cluster connection without a request");
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%addr, %peer, %error, "cluster connection broke");
    }
}
