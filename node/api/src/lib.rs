//! HTTP for people and programs: REST v2 as Ant Media Server has it, the dashboard and its pages, metrics, and who
//! may use them. Media does not go through here.
//!
//! - [`router`]: everything below one [`axum::Router`], from an [`ApiState`].
//!   The listener puts [`ConnectInfo`](axum::extract::ConnectInfo) with the peer's address into each request's
//!   extensions; without it nobody is let in by address.
//! - [`ClientAddr`]: who is behind a request, through proxies or not.
//! - [`cluster`]: what is asked of the cluster, when the node is part of one.
//! - [`Calls`]: what is asked of those who pull sources and push streams elsewhere.
//! - [`ApiState::declare_app`], [`ApiState::remove_app`]: apps as an operator wants them.
//! - [`live_update`]: the measured values of a live stream, for REST and for the store.

mod apps;
mod auth;
mod broadcasts;
mod calls;
mod client;
pub mod cluster;
mod data;
mod declare;
mod drain;
mod elsewhere;
mod forward;
mod health;
mod live;
mod load;
mod machine;
mod metrics;
mod nodes;
pub mod pages;
mod reply;
mod router;
mod sampler;
mod state;
mod system;
#[cfg(test)]
mod tests;

pub use auth::AdminToken;
pub use calls::Calls;
pub use client::{ClientAddr, is_listed};
pub use declare::Declared;
pub use drain::{DrainState, DrainWish};
pub use live::live_update;
pub use load::MachineLoad;
pub use router::router;
pub use state::{ApiSettings, ApiState, NodeStatus, Traffic};
