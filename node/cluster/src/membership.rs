//! Who else is there.
//!
//! A membership only tells which nodes might be there, and at which cluster address; whether they are is for the
//! [mesh](crate::mesh) to find out.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::member::{BootId, NodeId};

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

    /// Forgets a dead node; false when it was not known. One that is alive comes back.
    async fn remove(&self, id: &NodeId) -> bool;
}
