//! Who else is there.
//!
//! A membership only tells which nodes might be there, and at which cluster address; whether they are is for the
//! [mesh](crate::mesh) to find out.
//!
//! - [`Listed`]: a list that an administrator wrote.
//! - [`Multicast`]: signed datagrams in one network.
//! - [`FromStore`]: records in the store that all nodes share.

pub mod datagram;
mod entry;
mod from_store;
mod heard;
mod listed;
mod multicast;
mod records;

use async_trait::async_trait;
use tokio::sync::watch;

pub use entry::{DEFAULT_PORT, Entry, EntryError};
pub use from_store::{FromStore, Health, StoreTiming};
pub use listed::Listed;
pub use multicast::{Multicast, MulticastError, MulticastSettings};

use crate::member::{BootId, NodeId};

/// No more nodes than this are kept; a cluster is far smaller.
const MAX_PEERS: usize = 4096;

/// A node that might be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, when known.
    pub id: Option<NodeId>,
    /// `host:port` of its cluster port.
    pub addr: String,
    /// Its run, when known.
    pub boot: Option<BootId>,
    /// A number that it counts up while it is alive, when known.
    pub counter: Option<u64>,
}

/// Tells which nodes might be there.
#[async_trait]
pub trait Membership: Send + Sync {
    /// Every node that might be there, but for this one.
    fn peers(&self) -> Vec<Peer>;

    /// Changes whenever [`peers`](Membership::peers) may have changed, counters included.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Forgets a dead node; false when it was not known, or is on a list. One that is alive comes back.
    async fn remove(&self, id: &NodeId) -> bool;
}
