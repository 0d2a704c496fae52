//! The cluster port: one TCP listener, mutual TLS 1.3. ALPN tells what a connection is for: frames of a stream, the mesh, or
//! HTTP/2 requests. Here is also the client for all three.
//!
//! Nothing is answered to a peer without a certificate of the cluster or of the operator: such a connection ends within the TLS
//! handshake. The operator may only make requests, which go to a router of its own.

mod client;
mod error;
mod requests;
mod serve;
mod socket;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::BufReader;
use tokio::net::TcpStream;

pub use client::{ANSWER_BYTES, Client, DIAL};
pub use error::PortError;
pub use serve::{ClusterPort, Handlers};
pub use sluice_identity::Alpn;

use crate::member::NodeId;

/// A connection that another node opened.
pub type Incoming = tokio_rustls::server::TlsStream<TcpStream>;

/// A connection to another node. rustls reads 4 KiB at a time, of which a frame needs several: what has come is read in
/// one call.
pub type Outgoing = tokio_rustls::client::TlsStream<BufReader<TcpStream>>;

/// Takes connections that other nodes open.
#[async_trait]
pub trait Accept: Send + Sync {
    /// Serves one connection to its end. `peer` is the node that the connection's certificate names, `addr` where it comes
    /// from. Runs in a task of its own, which is dropped when the port closes.
    async fn accept(&self, peer: NodeId, addr: SocketAddr, stream: Incoming);
}

/// What the port bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A TLS handshake may take this long.
    pub handshake: Duration,
    /// Handshakes going on at once; further connections are closed.
    pub handshakes: usize,
    /// Handshakes going on at once from one address.
    pub handshakes_per_address: usize,
    /// Connections at once; further ones are closed.
    pub connections: usize,
    /// Requests going on at once on one connection.
    pub requests: u32,
    /// Bytes of the headers of a request.
    pub headers: u32,
    /// Bytes of the body of a request.
    pub body: usize,
    /// Requests of the operator going on at once on one connection.
    pub operator_requests: u32,
    /// Bytes of the body of a request of the operator.
    pub operator_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshake: Duration::from_secs(5),
            handshakes: 512,
            handshakes_per_address: 128,
            connections: 16_384,
            requests: 256,
            headers: 64 << 10,
            body: 16 << 20,
            operator_requests: 32,
            operator_body: 1 << 20,
        }
    }
}

#[cfg(test)]
mod tests;
