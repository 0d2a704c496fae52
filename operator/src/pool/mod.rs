//! The controllers of OriginPool and EdgePool.

pub mod explain;
pub mod observe;
pub mod plan;
pub mod status;
