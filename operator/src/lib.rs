//! The operator: keeps media clusters on Kubernetes as their resources say.
//!
//! Each controller reads, validates, plans, builds, applies and reports, in this order; all but reading and applying is pure.

pub mod apply;
pub mod authority;
pub mod backoff;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod context;
pub mod discovery;
pub mod events;
pub mod health;
pub mod http;
pub mod leader;
pub mod machines;
pub mod metrics;
pub mod metrics_api;
pub mod nodes;
pub mod owned;
pub mod pool;
pub mod probe;
pub mod queue;
pub mod run;
pub mod settings;
pub mod telemetry;
