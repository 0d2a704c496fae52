//! The controller of MediaCluster.

pub mod apps;
pub mod reconcile;
pub mod secrets;
pub mod status;
