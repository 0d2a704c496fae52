//! The links that this node opens: to every node that might be there, again whenever one breaks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::link::{Link, LinkError};
use super::message::{Message, MessageError, Refusal};
use super::{LinkState, LinkView, Shared};
use crate::identity::peer_node;
use crate::member::NodeId;
use crate::port::{Alpn, Outgoing, PortError};

/// A broken link is dialled again after the first of these, later up to the second; a random part of it.
const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A link that was up for so long is dialled again as if it had never failed.
const PROVEN: Duration = Duration::from_secs(1);

/// An address that leads to this node itself, or to a namesake, is looked at again after this.
const OWN_ADDRESS: Duration = Duration::from_secs(60);

/// As many links are kept at most.
const MAX_LINKS: usize = 1024;

/// An address that is dialled.
pub(super) struct Target {
    addr: String,
    view: Mutex<LinkView>,
    /// There is a reason to dial now.
    now: Notify,
}

impl Target {
    fn new(addr: &str) -> Self {
        Target { addr: addr.to_owned(), view: Mutex::new(LinkView::new(addr)), now: Notify::new() }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, LinkView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self) -> bool {
        self.view().state == LinkState::Up
    }
}

/// Keeps a link to each address that the membership names, and to nodes that have dialled this one but are not named.
pub(super) async fn tend(shared: Arc<Shared>) {
    let mut named_change = shared.membership.changed();
    let mut heard_change = shared.heard_change.subscribe();
    let mut targets: HashMap<String, (Arc<Target>, AbortHandle)> = HashMap::new();
    let mut links = JoinSet::new();
    let mut watching = true;
    loop {
        let wanted = wanted(&shared, &targets);
        targets.retain(|addr, (target, task)| {
            let keep = wanted.contains(addr) || target.is_up();
            if !keep {
                task.abort();
            }
            keep
        });
        for addr in wanted {
            if targets.len() >= MAX_LINKS || targets.contains_key(&addr) {
                continue;
            }
            let target = Arc::new(Target::new(&addr));
            let task = links.spawn(keep(shared.clone(), target.clone()));
            targets.insert(addr, (target, task));
        }
        *shared.targets() = targets.values().map(|(target, _)| target.clone()).collect();
        tokio::select! {
            changed = named_change.changed(), if watching => watching = changed.is_ok(),
            _ = heard_change.changed() => wake(&shared),
            _ = links.join_next(), if !links.is_empty() => {}
            // Links that are no longer wanted are dropped once they are down.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// A node that has just dialled this one can be dialled, too: no need to wait.
fn wake(shared: &Shared) {
    let (nodes, addresses): (HashSet<_>, HashSet<_>) = shared.incoming.addresses().into_iter().unzip();
    for target in shared.targets().iter() {
        let view = target.view();
        let there =
            view.node.as_ref().is_some_and(|node| nodes.contains(node)) || addresses.contains(&target.addr);
        if there && view.state == LinkState::Down {
            target.now.notify_one();
        }
    }
}

fn wanted(shared: &Shared, targets: &HashMap<String, (Arc<Target>, AbortHandle)>) -> HashSet<String> {
    let own = shared.local.member().cluster_addr();
    let mut wanted = HashSet::new();
    let mut named: HashSet<NodeId> = HashSet::new();
    for peer in shared.membership.peers() {
        if let Some((target, _)) = targets.get(&peer.addr) {
            named.extend(target.view().node.clone());
        }
        named.extend(peer.id);
        wanted.insert(peer.addr);
    }
    for (node, addr) in shared.incoming.addresses() {
        if !named.contains(&node) {
            wanted.insert(addr);
        }
    }
    wanted.remove(&own);
    wanted
}

/// Dials one address for ever.
async fn keep(shared: Arc<Shared>, target: Arc<Target>) {
    let mut wait = REDIAL.0;
    loop {
        let began = Instant::now();
        let ended = once(&shared, &target).await;
        let pause = {
            let mut view = target.view();
            view.state = ended.state();
            view.since = None;
            let error = ended.to_string();
            if view.error.as_ref() != Some(&error) {
                match &ended {
                    Ended::Dial(PortError::Refused { .. }) | Ended::Refused(_) | Ended::Nameless => {
                        tracing::warn!(addr = %target.addr, %error, "no link to a node");
                    }
                    Ended::Link(_) => tracing::info!(addr = %target.addr, %error, "a link to a node ended"),
                    _ => tracing::debug!(addr = %target.addr, %error, "no link to a node"),
                }
            }
            view.error = Some(error);
            match ended {
                Ended::Itself | Ended::Namesake => OWN_ADDRESS,
                Ended::Known(_) => REDIAL.1,
                Ended::Dial(_) | Ended::Link(_) | Ended::Refused(_) | Ended::Nameless => {
                    if began.elapsed() >= PROVEN && matches!(ended, Ended::Link(_)) {
                        wait = REDIAL.0;
                    }
                    let pause = wait.mul_f64(rand::random_range(0.5..1.0));
                    wait = (wait * 2).min(REDIAL.1);
                    pause
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = target.now.notified() => {}
        }
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Dial(PortError),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("this is an address of the node itself")]
    Itself,
    #[error("the node there has the id of this one: give each node an id of its own")]
    Namesake,
    #[error("the same node as at {0}")]
    Known(String),
    #[error("the node refuses: {0:?}")]
    Refused(Refusal),
    #[error("its certificate names no node")]
    Nameless,
}

impl Ended {
    fn state(&self) -> LinkState {
        match self {
            Ended::Itself => LinkState::Itself,
            Ended::Known(_) => LinkState::Alias,
            _ => LinkState::Down,
        }
    }
}

/// One connection, from dialling it to its end.
async fn once(shared: &Shared, target: &Target) -> Ended {
    let stream = match shared.client.dial(&target.addr, Alpn::Mesh).await {
        Ok(stream) => stream,
        Err(error) => return Ended::Dial(error),
    };
    let Some(node) = peer_node(stream.get_ref().1) else { return Ended::Nameless };
    target.view().node = Some(node.clone());
    let _linked = match Linked::take(shared, &node, &target.addr) {
        Ok(linked) => linked,
        Err(addr) => return Ended::Known(addr),
    };
    match talk(shared, target, &node, Link::new(stream)).await {
        Ok(ended) => ended,
        Err(error) => Ended::Link(error),
    }
}

/// The one link to a node, while this lives.
struct Linked<'a> {
    shared: &'a Shared,
    node: NodeId,
}

impl<'a> Linked<'a> {
    /// Gives the address of the present link when there is one.
    fn take(shared: &'a Shared, node: &NodeId, addr: &str) -> Result<Self, String> {
        let mut linked = shared.linked();
        match linked.get(node) {
            Some(other) => Err(other.clone()),
            None => {
                linked.insert(node.clone(), addr.to_owned());
                Ok(Linked { shared, node: node.clone() })
            }
        }
    }
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        self.shared.linked().remove(&self.node);
    }
}

async fn talk(
    shared: &Shared,
    target: &Target,
    node: &NodeId,
    mut link: Link<Outgoing>,
) -> Result<Ended, LinkError> {
    let mut states = shared.states.subscribe();
    let mut told = states.borrow_and_update().clone();
    link.write(&told.hello()).await?;
    link.expect();
    match link.read().await? {
        Message::Welcome { id, .. } if id == *node => {}
        Message::Refused { reason: Refusal::Itself } => return Ok(Ended::Itself),
        Message::Refused { reason: Refusal::Namesake } => {
            shared.warn_of_namesake(&target.addr);
            return Ok(Ended::Namesake);
        }
        Message::Refused { reason } => return Ok(Ended::Refused(reason)),
        _ => return Err(MessageError::Turn.into()),
    }
    {
        let mut view = target.view();
        view.state = LinkState::Up;
        view.since = Some(Instant::now());
        view.error = None;
    }
    tracing::info!(%node, addr = %target.addr, "linked to a node");
    shared.heard_change.send_modify(|version| *version += 1);
    loop {
        tokio::select! {
            biased;
            changed = states.changed() => {
                if changed.is_err() {
                    return Err(LinkError::Closed);
                }
                let now = states.borrow_and_update().clone();
                link.write(&now.since(&told)).await?;
                told = now;
            }
            // Acknowledged ticks: silence is an error of its own.
            message = link.read() => match message? {
                Message::Ack { .. } | Message::Unknown => {}
                _ => return Err(MessageError::Turn.into()),
            },
        }
    }
}
