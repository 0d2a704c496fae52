//! The listening side.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::{Accept, Limits};
use crate::identity::ClusterTls;

/// Who takes what comes in.
pub struct Handlers {
    /// Takes connections that ask for a stream.
    pub relay: Arc<dyn Accept>,
    /// Takes what other nodes say about themselves.
    pub mesh: Arc<dyn Accept>,
    /// Answers requests; each has the [`NodeId`](crate::member::NodeId) of the asker as an extension.
    pub requests: axum::Router,
    /// What is bounded.
    pub limits: Limits,
}

/// The listening cluster port; closes when dropped.
pub struct ClusterPort {
    addresses: Vec<SocketAddr>,
}

impl ClusterPort {
    /// Serves on these listeners. Fails when one of them cannot be used.
    pub fn serve(
        listeners: Vec<TcpListener>,
        tls: &ClusterTls,
        handlers: Handlers,
    ) -> io::Result<ClusterPort> {
        let _ = (listeners, tls, handlers);
        unimplemented!("in work")
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no further connections and ends those that are open.
    pub fn close(&self) {}
}
