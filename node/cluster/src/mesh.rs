//! Each node tells every other its own state: over a connection to each of them, at once when it changes, and every second.
//!
//! What is told is kept by whoever implements [`Remote`]; what there is to tell, and when, says [`Local`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::member::{BootId, Carried, Member, NodeId, Owned};

/// This node's own state, to be told to the others.
pub trait Local: Send + Sync {
    /// The node itself. Its id and boot never change.
    fn member(&self) -> Member;
    /// The streams that it owns.
    fn owned(&self) -> Vec<Owned>;
    /// The streams that it fetches from others and can hand on.
    fn carried(&self) -> Vec<Carried>;
    /// Changes whenever one of these may have changed.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// What the others say. Called in order for each node; must not block.
pub trait Remote: Send + Sync {
    /// A node has connected; this is all that it owns and carries.
    fn hello(&self, member: Member, owned: Vec<Owned>, carried: Vec<Carried>);
    /// Each second.
    fn tick(&self, member: Member);
    /// What has changed of a node's streams.
    fn update(&self, from: &NodeId, boot: BootId, owned: Changes<Owned>, carried: Changes<Carried>);
    /// The connection from that run of a node broke. Not called when a newer connection of the same run replaced it.
    fn down(&self, from: &NodeId, boot: BootId);
}

/// Changes of a set of streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes<T> {
    /// New and changed ones.
    #[serde(default = "Vec::new")]
    pub put: Vec<T>,
    /// Those that are no longer there: app and id.
    #[serde(default)]
    pub gone: Vec<(Arc<str>, Arc<str>)>,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Changes { put: Vec::new(), gone: Vec::new() }
    }
}

impl<T> Changes<T> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.gone.is_empty()
    }
}
