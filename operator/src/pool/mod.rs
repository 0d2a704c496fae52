//! The controllers of OriginPool and EdgePool.

pub mod plan;
