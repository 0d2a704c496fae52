//! Streams from node to node: who has a stream in its hub hands it on, who lacks one fetches it.
//!
//! - [`RelayServer`] serves the connections that other nodes open: the newest group at once, live from there, and what
//!   is older in between, newest first. It sends what is in the hub, be it published here or fetched itself.
//! - [`Relays`] fetches: one connection for each stream, however many ask for it; it mirrors the groups into the hub
//!   exactly, goes on where it stood when a connection breaks, there or at another source, follows the stream to a new
//!   owner, and lets go of it when nobody reads it any more.
//!
//! Messages of data channels go along both ways; what is needed of the publisher goes towards the owner.
//!
//! A stream does not come through more than [`MAX_HOPS`] nodes, and never through one of them twice: each says the way
//! of the frames when it accepts, and when that way changes.

mod backoff;
mod beside;
mod feed;
mod follow;
mod serve;
mod session;
mod sources;
mod task;

pub use backoff::Backoff;
pub use follow::{FetchError, Follow, FollowCounts, RelayView, Relays};
pub use serve::{Offer, Offered, RelayServer, Serve, ServeCounts, ServedView};
pub use session::RelayError;
pub use sources::{CarriedState, Connection, Dial, DialError, Source, Sources};

/// The most nodes that frames come through before they reach the one that asks.
pub const MAX_HOPS: usize = 4;
