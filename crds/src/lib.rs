//! The custom resources of Sluice: `MediaCluster`, `OriginPool` and `EdgePool` (group `sluice.dev`, version `v1alpha1`).
//!
//! Types, validation rules (CEL, checked by the API server), conditions, and the names and labels that the operator and its
//! tools agree on. No Kubernetes client: the kubectl plugin, the documentation and tests use this crate freely.

// The schema derive makes structs of its own that are pub inside functions.
#![allow(unreachable_pub)]

pub mod autoscaling;
pub mod cluster;
pub mod common;
pub mod condition;
pub mod generate;
pub mod names;
pub mod pool;
pub mod quantity;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod yaml;

pub use cluster::{MediaCluster, MediaClusterSpec, MediaClusterStatus};
pub use pool::{EdgePool, EdgePoolSpec, OriginPool, OriginPoolSpec, PoolKind, PoolSpec, PoolStatus};

/// The API group of all kinds.
pub const GROUP: &str = "sluice.dev";

/// The only version so far, served and stored.
pub const VERSION: &str = "v1alpha1";
