//! Connections and requests to other nodes.

use std::time::Duration;

use bytes::Bytes;

use super::{Alpn, Outgoing, PortError};
use crate::identity::ClusterTls;

/// Opens connections to other nodes; cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: ClusterTls,
}

impl Client {
    /// With the identity of this node.
    pub fn new(tls: &ClusterTls) -> Self {
        Client { tls: tls.clone() }
    }

    /// A connection for `alpn` to the cluster port at `addr` (`host:port`): name lookup, connection and handshake within 2 s.
    /// [`peer_node`](crate::identity::peer_node) tells who is at its other end.
    pub async fn dial(&self, addr: &str, alpn: Alpn) -> Result<Outgoing, PortError> {
        let _ = (addr, alpn, &self.tls);
        unimplemented!("in work")
    }

    /// Asks the node at `addr`, within `within` in all. Requests to one address share a connection. Any status is an answer.
    /// The request's URI needs only a path and query.
    pub async fn request(
        &self,
        addr: &str,
        request: http::Request<Bytes>,
        within: Duration,
    ) -> Result<http::Response<Bytes>, PortError> {
        let _ = (addr, request, within);
        unimplemented!("in work")
    }

    /// As [`request`](Client::request), but anything but a success is [`PortError::Status`].
    pub async fn ask(
        &self,
        addr: &str,
        request: http::Request<Bytes>,
        within: Duration,
    ) -> Result<http::Response<Bytes>, PortError> {
        self.request(addr, request, within).await
    }
}
