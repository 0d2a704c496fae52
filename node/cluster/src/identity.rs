//! Trust inside the cluster: who has the cluster key, or a certificate of the cluster's CA, is a member.

use crate::member::NodeId;

/// The certificates of this node and what it accepts of others; cheap to clone.
#[derive(Clone)]
pub struct ClusterTls {
    node: NodeId,
}

impl ClusterTls {
    /// The node that it speaks for.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

/// The node at the other end of a connection, as its certificate says.
pub fn peer_node(connection: &rustls::CommonState) -> Option<NodeId> {
    let _ = connection;
    unimplemented!()
}
