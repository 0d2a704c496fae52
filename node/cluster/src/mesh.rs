//! Each node tells every other its own state: over a connection to each of them, at once when it changes, and every second.
//!
//! What is told is kept by whoever implements [`Remote`]; what there is to tell, and when, says [`Local`]. The protocol is in
//! docs/cluster-protocol.md.

mod incoming;
mod link;
pub mod message;
mod outgoing;
mod state;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::member::{BootId, Carried, Member, NodeId, Owned};
use crate::membership::Membership;
use crate::port::{Accept, Client, Incoming};
use incoming::IncomingLinks;
use outgoing::Target;
use state::State;

/// Changes that come within this time of each other are told together.
const COALESCE: Duration = Duration::from_millis(10);

/// This often a node says that it is there, and tells its statistics.
const TICK: Duration = Duration::from_secs(1);

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
    /// A node has connected; this is all that it owns and carries. False when this run of it is not believed in, because
    /// another one is: the link ends then, and the node may try again.
    fn hello(&self, member: Member, owned: Vec<Owned>, carried: Vec<Carried>) -> bool;
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

/// The links to and from all other nodes; they end when this is dropped. Give it to the
/// [cluster port](crate::port::ClusterPort) to take the links of the others.
pub struct Mesh {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

/// How the link to a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It is being dialled.
    Down,
    /// This node tells the other its state.
    Up,
    /// There is a link to the same node by another address.
    Alias,
    /// The address is one of this node's own.
    Itself,
}

/// An address that is dialled, and what became of it.
#[derive(Clone, Debug)]
pub struct LinkView {
    /// `host:port`.
    pub addr: String,
    /// The node there, once it was reached.
    pub node: Option<NodeId>,
    /// How the link is.
    pub state: LinkState,
    /// When it came up, while it is up.
    pub since: Option<Instant>,
    /// Since when the node tells its own state by a link of its own, while it does.
    pub heard_since: Option<Instant>,
    /// Why it is not up.
    pub error: Option<String>,
}

impl LinkView {
    fn new(addr: &str) -> Self {
        LinkView {
            addr: addr.to_owned(),
            node: None,
            state: LinkState::Down,
            since: None,
            heard_since: None,
            error: None,
        }
    }
}

struct Shared {
    client: Client,
    membership: Arc<dyn Membership>,
    local: Arc<dyn Local>,
    remote: Arc<dyn Remote>,
    /// The newest state of this node.
    states: watch::Sender<Arc<State>>,
    incoming: IncomingLinks,
    /// Changes when links come and go.
    heard_change: watch::Sender<u64>,
    targets: Mutex<Vec<Arc<Target>>>,
    /// The address by which each node is linked.
    linked: Mutex<HashMap<NodeId, String>>,
    warned: AtomicBool,
}

impl Mesh {
    /// Begins to dial all members, and to tell them `local`.
    pub fn start(
        client: Client,
        membership: Arc<dyn Membership>,
        local: Arc<dyn Local>,
        remote: Arc<dyn Remote>,
    ) -> Arc<Mesh> {
        // Subscribed to before it is read, so that no change is missed.
        let changes = local.changed();
        let first = State::first(local.member(), local.owned(), local.carried());
        let shared = Arc::new(Shared {
            client,
            membership,
            local,
            remote,
            states: watch::Sender::new(Arc::new(first)),
            incoming: IncomingLinks::default(),
            heard_change: watch::Sender::new(0),
            targets: Mutex::default(),
            linked: Mutex::default(),
            warned: AtomicBool::new(false),
        });
        let tasks = [
            tokio::spawn(follow(shared.clone(), changes)).abort_handle(),
            tokio::spawn(outgoing::tend(shared.clone())).abort_handle(),
        ];
        Arc::new(Mesh { shared, tasks })
    }

    /// The addresses that are dialled.
    pub fn peers(&self) -> Vec<LinkView> {
        let heard = self.shared.incoming.since();
        let targets = self.shared.targets().clone();
        let mut views: Vec<LinkView> = targets.iter().map(|target| target.view().clone()).collect();
        for view in &mut views {
            view.heard_since = view.node.as_ref().and_then(|node| heard.get(node).copied());
        }
        views.sort_by(|a, b| a.addr.cmp(&b.addr));
        views
    }

    /// Changes when links come and go.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.heard_change.subscribe()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[async_trait]
impl Accept for Mesh {
    async fn accept(&self, peer: NodeId, addr: SocketAddr, stream: Incoming) {
        incoming::serve(&self.shared, peer, addr, stream).await;
    }
}

impl Shared {
    fn targets(&self) -> MutexGuard<'_, Vec<Arc<Target>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linked(&self) -> MutexGuard<'_, HashMap<NodeId, String>> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn_of_namesake(&self, addr: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            let node = self.local.member().id;
            tracing::error!(%node, %addr, "another node uses the id of this one: give each node an id of its own");
        }
    }

    fn warn_of_twins(&self, node: &NodeId, member: &Member) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::error!(%node, host = %member.host, "two nodes use one id: give each node an id of its own");
        }
    }

    /// Makes the next state, and gives it to all links.
    fn publish(&self, tick: bool) {
        let (member, owned, carried) = (self.local.member(), self.local.owned(), self.local.carried());
        let next = self.states.borrow().next(member, owned, carried, tick);
        if let Some(next) = next {
            self.states.send_replace(Arc::new(next));
        }
    }
}

/// Follows the state of this node.
async fn follow(shared: Arc<Shared>, mut changes: watch::Receiver<u64>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now() - COALESCE;
    let mut watching = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => shared.publish(true),
            changed = changes.changed(), if watching => {
                watching = changed.is_ok();
                tokio::time::sleep_until(last + COALESCE).await;
                changes.mark_unchanged();
                last = Instant::now();
                shared.publish(false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
