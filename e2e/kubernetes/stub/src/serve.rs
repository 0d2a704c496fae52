//! Connections: whom each is for, and the handshake as that node.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sluice_identity::Peer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::routes;
use crate::world::World;

const HANDSHAKE: Duration = Duration::from_secs(10);

pub(crate) async fn run(listener: TcpListener, world: Arc<World>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let world = world.clone();
                tokio::spawn(async move {
                    if let Err(problem) = serve(stream, &world).await {
                        eprintln!("sluice-stub: {problem}");
                    }
                });
            }
            Err(error) => {
                eprintln!("sluice-stub: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, world: &World) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let ip = stream.local_addr().map_err(|e| e.to_string())?.ip();
    let (node, tls) = world.at(ip).map_err(|e| e.to_string())?;
    let accept = TlsAcceptor::from(tls.server()).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE, accept)
        .await
        .map_err(|_| format!("{}: the handshake takes too long", node.name()))?
        .map_err(|e| format!("{}: {e}", node.name()))?;
    if tls.peer(stream.get_ref().1) != Some(Peer::Operator) {
        return Err(format!("{}: somebody else than the operator", node.name()));
    }
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes::of(node)))
        .await
        // The operator that ends, or drops a node, closes its connections as it likes.
        .or(Ok(()))
}
