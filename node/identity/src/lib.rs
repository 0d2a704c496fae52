//! Who is who on the cluster port, by certificates. No sockets here, and nothing of streams or stores, so that the operator
//! can use it without either.
//!
//! - [`ClusterTls`]: what a node shows and accepts. Who has the cluster key, or a certificate of the cluster's CA, is a
//!   member. From a key, every node derives the same Ed25519 CA and makes itself a certificate at each start; nothing is
//!   stored, and clocks don't matter. In its place an administrator may give certificates.
//! - [`OperatorAuthority`], [`OperatorTls`]: what the operator shows, and how it checks nodes. Its CA is its own; nodes
//!   have only the public part ([`ClusterTls::trust_operator`]), so no node can pose as the operator.
//! - [`Peer`]: which of the two is at the other end, told by the CA that its certificate comes from, never by its name.
//!
//! TLS 1.3 only, and both sides show a certificate.

mod alpn;
mod ca;
mod cluster;
mod der;
mod derive;
mod door;
mod error;
mod id;
mod operator;
mod verify;

pub use alpn::Alpn;
pub use cluster::{ClusterTls, multicast_key, peer_node};
pub use der::common_name;
pub use door::Peer;
pub use error::IdentityError;
pub use id::{NODE_ID_BYTES, NodeId, valid_node_id};
pub use operator::{OPERATOR_NAME, OperatorAuthority, OperatorTls};
pub use verify::WrongNode;

/// A cluster key has at least as many bytes.
pub const KEY_BYTES: usize = 16;

#[cfg(test)]
mod tests;
