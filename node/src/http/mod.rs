//! The HTTP listener: HTTP/1.1 and, with TLS, HTTP/2, bounded in connections, memory and time.
//!
//! - [`Server`] accepts, limits and ends connections; its [`Traffic`] is counted.
//! - [`Dispatch`] sends playback straight to the packager and the rest to axum's router: a playback request passes
//!   no middleware.
//! - [`tls::Identity`] is the certificate, followed while its files change.
//!
//! What is answered is none of its business.

mod activity;
mod body;
mod dispatch;
mod io;
mod registry;
mod server;
#[cfg(test)]
mod tests;
pub mod tls;

pub use body::Body;
pub use dispatch::{Dispatch, Handler, LetsGo, Peer, Streams};
pub use registry::Traffic;
pub use server::{Limits, Server};
