//! The listening side.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use sluice_identity::{ClusterTls, Peer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::requests::{self, Asker};
use super::{Accept, Alpn, Limits, socket};

/// After a failed accept (no file descriptors left), the next attempt waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who takes what comes in.
pub struct Handlers {
    /// Takes connections that ask for a stream.
    pub relay: Arc<dyn Accept>,
    /// Takes what other nodes say about themselves.
    pub mesh: Arc<dyn Accept>,
    /// Answers requests of nodes; each has the [`NodeId`](crate::member::NodeId) of the asker as an extension, and axum's
    /// `ConnectInfo<SocketAddr>`.
    pub requests: axum::Router,
    /// Answers requests of the operator, and of nobody else.
    pub operator: axum::Router,
    /// What is bounded.
    pub limits: Limits,
}

/// The listening cluster port; closes when dropped.
pub struct ClusterPort {
    addresses: Vec<SocketAddr>,
    closing: watch::Sender<bool>,
}

impl ClusterPort {
    /// Serves on these listeners, in tasks of the present runtime. Fails when one of them cannot be used.
    pub fn serve(
        listeners: Vec<std::net::TcpListener>,
        tls: &ClusterTls,
        handlers: Handlers,
    ) -> io::Result<ClusterPort> {
        let closing = watch::Sender::new(false);
        let mut addresses = Vec::new();
        let (limits, tls) = (handlers.limits.clone(), tls.clone());
        let shared = Arc::new(Shared {
            acceptor: TlsAcceptor::from(tls.server()),
            connections: Arc::new(Semaphore::new(handlers.limits.connections)),
            shaking: Mutex::default(),
            handlers: Handlers {
                requests: handlers.requests.layer(DefaultBodyLimit::max(limits.body)),
                operator: handlers.operator.layer(DefaultBodyLimit::max(limits.operator_body)),
                ..handlers
            },
            tls,
        });
        let mut ready = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            addresses.push(listener.local_addr()?);
            ready.push(listener);
        }
        for listener in ready {
            tokio::spawn(listen(listener, shared.clone(), closing.subscribe()));
        }
        Ok(ClusterPort { addresses, closing })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no further connections and ends those that are open.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

struct Shared {
    acceptor: TlsAcceptor,
    tls: ClusterTls,
    handlers: Handlers,
    connections: Arc<Semaphore>,
    /// Handshakes going on, by address: whoever floods the port takes the places of its own address first.
    shaking: Mutex<HashMap<IpAddr, usize>>,
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    // The tasks of all connections: dropped, and so ended, with this one.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // The sender is gone, or has said so: either way it closes.
            _ = closing.changed() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => {
                    if let Some(place) = Place::take(&shared, addr.ip()) {
                        connections.spawn(serve(stream, addr, place, shared.clone()));
                    } else {
                        tracing::debug!(%addr, "cluster port is full");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cluster port cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A handshake that is counted while this lives.
struct Place {
    shared: Arc<Shared>,
    addr: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, addr: IpAddr) -> Option<Place> {
        let limits = &shared.handlers.limits;
        let mut shaking = shared.shaking.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = shaking.values().sum();
        let here = shaking.get(&addr).copied().unwrap_or(0);
        if total >= limits.handshakes || here >= limits.handshakes_per_address {
            return None;
        }
        shaking.insert(addr, here + 1);
        Some(Place { shared: shared.clone(), addr })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shaking = self.shared.shaking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shaking.get_mut(&self.addr) {
            *count -= 1;
            if *count == 0 {
                shaking.remove(&self.addr);
            }
        }
    }
}

async fn serve(stream: TcpStream, addr: SocketAddr, place: Place, shared: Arc<Shared>) {
    if let Err(error) = socket::tune(&stream) {
        tracing::debug!(%addr, %error, "cluster connection broke at once");
        return;
    }
    let limits = &shared.handlers.limits;
    let stream = match tokio::time::timeout(limits.handshake, shared.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%addr, %error, "cluster port: no handshake"),
        Err(_) => return tracing::debug!(%addr, "cluster port: handshake takes too long"),
    };
    drop(place);
    let Ok(_place) = shared.connections.clone().try_acquire_owned() else {
        return tracing::warn!(%addr, connections = limits.connections, "cluster port has no place left");
    };
    let connection = stream.get_ref().1;
    let Some(peer) = shared.tls.peer(connection) else {
        return tracing::warn!(%addr, "a certificate is both of the cluster and of the operator, or names no node");
    };
    let chain = connection.peer_certificates().unwrap_or_default().to_vec();
    match (connection.alpn_protocol().and_then(Alpn::from_bytes), peer) {
        (Some(Alpn::Relay), Peer::Node(peer)) => shared.handlers.relay.accept(peer, addr, stream).await,
        (Some(Alpn::Mesh), Peer::Node(peer)) => shared.handlers.mesh.accept(peer, addr, stream).await,
        (Some(Alpn::Requests), Peer::Node(peer)) => {
            requests::serve(Asker::Node(peer), addr, stream, &shared.handlers).await;
        }
        (Some(Alpn::Requests), Peer::Operator) => {
            let asker = Asker::Operator(chain, shared.tls.clone());
            requests::serve(asker, addr, stream, &shared.handlers).await;
        }
        (Some(_), Peer::Operator) => {
            tracing::warn!(%addr, "the operator is no node: it may only make requests")
        }
        (None, peer) => tracing::debug!(%addr, ?peer, "cluster connection does not say what it is for"),
    }
}
