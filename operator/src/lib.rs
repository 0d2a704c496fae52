//! The operator: keeps media clusters on Kubernetes as their resources say.
//!
//! Each controller reads, validates, plans, builds, applies and reports, in this order; all but reading and applying is pure.

pub mod pool;
