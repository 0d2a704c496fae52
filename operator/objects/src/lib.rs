//! What the operator makes of a `MediaCluster` and its pools.
//!
//! Pure functions: a spec that was checked ([`Cluster`], [`Pool`]) and values that were pinned in go in, Kubernetes objects come out.
//! The same input gives the same output, byte for byte, so that nothing is written when nothing changed. No client, no clock, no
//! randomness here, and no decision about how many pods there are or which goes: that is the planner's.
//!
//! - [`Cluster::new`], [`Pool::new`]: check everything that the API server's rules check, and what those cannot say; never trust that
//!   admission ran.
//! - [`pod`], [`claim`], [`pool_objects`], [`live_settings`], [`revision`]: of a pool.
//! - [`cluster_objects`], [`apps`], [`endpoints`]: of a cluster.
//! - [`paths`]: where files are in a pod.
//! - [`network`]: evaluates NetworkPolicies, to prove who reaches what.
//!
//! One file for each kind of object, in `build`.

mod autoscaling;
mod build;
mod check;
mod cluster;
mod invalid;
pub mod network;
pub mod paths;
mod pool;
#[cfg(test)]
mod tests;

pub use autoscaling::Scaling;
pub use build::apps::apps;
pub use build::candidates::candidates;
pub use build::claim::claim;
pub use build::config::{config_toml, drain_deadline_of, live_settings};
pub use build::endpoints::{Seen, endpoints, waiting};
pub use build::generation::generation;
pub use build::pod::{pod, protection};
pub use build::revision::revision;
pub use build::routes::Served;
pub use build::{ClusterObjects, PoolObjects, cluster_objects, pool_objects};
pub use cluster::{Certificate, Cluster, Pinned, SecretRef, Site};
pub use invalid::Invalid;
pub use pool::Pool;

/// The generation of the pod template. It is raised when pods are built differently for the same spec, or their nodes are told
/// something else; [`pod`], [`revision`] and [`config_toml`] take the one that is pinned in the pool's status, [`live_settings`] the one
/// that a pod was made by ([`generation`]). So a new release of the operator does not replace pods by itself, and tells nodes nothing
/// that they do not know.
pub const TEMPLATE: i64 = 3;

/// The user and group that nodes run as, and that their volumes belong to.
pub const USER: i64 = 10_001;
