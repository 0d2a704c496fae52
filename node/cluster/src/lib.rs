//! Many nodes as one: who is there, who owns which stream, and the way of frames from one node to another.
//!
//! - [`member`]: what a node says about itself and about its streams.
//! - [`identity`]: trust inside the cluster and in the operator: certificates; a crate of its own.
//! - [`port`]: the cluster port: mutual TLS, relay and requests told apart by ALPN; the client for both.
//! - [`membership`]: who else is there: from the database, by multicast, or from a list.
//! - [`mesh`]: each node tells every other its own state, at once when it changes.
//! - [`directory`]: what is known of all members and streams, pure.
//! - [`ownership`]: epochs, leases, second publishers, pure.
//! - [`wire`], [`relay`]: streams between nodes.
//! - [`replica`]: stored state without a database: every node has all of it.

pub mod directory;
pub mod member;
pub mod membership;
pub mod mesh;
pub mod ownership;
pub mod port;
pub mod relay;
pub mod replica;
pub mod wire;

pub use sluice_identity as identity;
