//! The controllers of OriginPool and EdgePool.

pub mod autoscale;
pub mod explain;
pub mod exposed;
mod listed;
pub mod news;
pub mod observe;
pub mod overlay;
pub mod reconcile;
pub mod status;
pub mod steps;
pub mod waiting;
