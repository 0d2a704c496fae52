//! What the operator asks of a node, over the node's cluster port: the types on the wire, and the client.
//!
//! - [`Report`]: how a node is; asked by a long poll, so that a change is known at once.
//! - [`Drain`]: let no new sessions in, until a deadline; taken back by `undrain`.
//! - [`Apps`]: the apps that should exist, with the settings that are given for them.
//! - [`LiveSettings`]: settings that a node takes while it runs; [`LIVE_SETTINGS`] says which those are.
//! - [`Client`]: asks one node all of that, over one kept connection of mutual TLS.
//!
//! The node's side of it is in `node/src/operator`. No Kubernetes here, no media and no store.

mod apps;
mod client;
mod drain;
mod error;
pub mod paths;
mod report;
mod settings;
mod watched;

pub use apps::{App, AppOutcome, AppResult, Apps, AppsResult, MAX_APPS};
pub use client::{BODY_BYTES, CONNECT, Client, REQUEST};
pub use drain::{Drain, DrainOrder, Draining};
pub use error::ControlError;
pub use report::{Capacity, Load, MAX_PROBLEMS, PROBLEM_CHARS, Report, Role, StoreState};
pub use settings::{LIVE_SETTINGS, LiveSettings, RefusedSetting, SettingsResult};
