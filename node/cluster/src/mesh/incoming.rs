//! The links that other nodes open, to say what they own and carry.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Shared;
use super::link::{Link, LinkError};
use super::message::{Message, MessageError, Refusal};
use super::state::{Key, Told};
use crate::member::{BootId, Carried, Member, NodeId, Owned};

/// A node may own, and carry, as many streams.
const MAX_STREAMS: usize = 100_000;

/// As many nodes may be linked.
const MAX_NODES: usize = 4096;

/// The links of other nodes.
#[derive(Default)]
pub(super) struct IncomingLinks {
    nodes: Mutex<HashMap<NodeId, Arc<Node>>>,
}

/// A node that has, or had, a link. What it says is passed on under this lock, so that a link that was replaced says nothing
/// after the newer one.
#[derive(Default)]
struct Node {
    current: Mutex<Option<Current>>,
    /// The run whose link was replaced by that of another run. Should it come back, two nodes have one name.
    replaced: Mutex<Option<BootId>>,
}

struct Current {
    boot: BootId,
    addr: String,
    since: Instant,
    /// Tells this link from others of the node.
    link: Arc<()>,
}

impl IncomingLinks {
    /// Nodes that are linked, and where they can be dialled.
    pub(super) fn addresses(&self) -> Vec<(NodeId, String)> {
        self.each(|current| current.addr.clone())
    }

    /// Nodes that are linked, and since when.
    pub(super) fn since(&self) -> HashMap<NodeId, Instant> {
        self.each(|current| current.since).into_iter().collect()
    }

    fn each<T>(&self, of: impl Fn(&Current) -> T) -> Vec<(NodeId, T)> {
        let nodes: Vec<_> = lock(&self.nodes).iter().map(|(id, node)| (id.clone(), node.clone())).collect();
        nodes
            .into_iter()
            .filter_map(|(id, node)| Some((id, lock(&node.current).as_ref().map(&of)?)))
            .collect()
    }

    fn node(&self, id: &NodeId) -> Option<Arc<Node>> {
        let mut nodes = lock(&self.nodes);
        if nodes.len() >= MAX_NODES && !nodes.contains_key(id) {
            nodes.retain(|_, node| lock(&node.current).is_some());
            if nodes.len() >= MAX_NODES {
                return None;
            }
        }
        Some(nodes.entry(id.clone()).or_default().clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves a link to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    peer: NodeId,
    addr: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) {
    match listen(shared, &peer, addr, Link::new(stream)).await {
        Ok(()) | Err(LinkError::Closed) => tracing::debug!(%peer, %addr, "a node's link ended"),
        Err(error @ LinkError::Message(_)) => {
            tracing::warn!(%peer, %addr, %error, "a node's link was cut: do all nodes run the same release?");
        }
        Err(error) => tracing::debug!(%peer, %addr, %error, "a node's link broke"),
    }
}

async fn listen<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    peer: &NodeId,
    addr: SocketAddr,
    mut link: Link<S>,
) -> Result<(), LinkError> {
    let (member, streams, owned, carried) = hello(&mut link).await?;
    let me = shared.local.member();
    let refusal = if member.id != *peer {
        tracing::warn!(%peer, %addr, says = %member.id, "a node's id is not the one in its certificate");
        Some(Refusal::Name)
    } else if member.id == me.id && member.boot == me.boot {
        Some(Refusal::Itself)
    } else if member.id == me.id {
        shared.warn_of_namesake(&addr.to_string());
        Some(Refusal::Namesake)
    } else {
        None
    };
    let node = match refusal {
        Some(reason) => return link.write(&[Message::Refused { reason }.encode()]).await,
        None => shared.incoming.node(peer),
    };
    let Some(node) = node else {
        return link.write(&[Message::Refused { reason: Refusal::Full }.encode()]).await;
    };
    let boot = member.boot;
    let here =
        Here::enter(shared, &node, peer, &member, || shared.remote.hello(member.clone(), owned, carried));
    if !here.believed {
        // Most likely two nodes have one id. This one tries again, and is heard once the other has gone.
        return Ok(());
    }
    link.write(&[Message::Welcome { id: me.id, boot: me.boot }.encode()]).await?;
    let mut streams = streams;
    loop {
        let mut ack = None;
        match link.read().await? {
            Message::Update { owned, carried } => {
                streams.change(&owned.put, &owned.gone, &carried.put, &carried.gone)?;
                if !here.say(|| shared.remote.update(peer, boot, owned, carried)) {
                    return Ok(());
                }
            }
            Message::Tick { counter, member } => {
                if member.id != *peer || member.boot != boot {
                    return Err(MessageError::Bounds("another node's name").into());
                }
                here.moved(&member);
                if !here.say(|| shared.remote.tick(member)) {
                    return Ok(());
                }
                ack = Some(Message::Ack { counter }.encode());
            }
            Message::Unknown => {}
            _ => return Err(MessageError::Turn.into()),
        }
        if let Some(ack) = ack {
            link.write(&[ack]).await?;
        }
    }
}

type Hello = (Member, Streams, Vec<Owned>, Vec<Carried>);

/// All parts of the first message.
async fn hello<S: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<S>) -> Result<Hello, LinkError> {
    let Message::Hello { member, mut owned, mut carried, mut more } = link.read().await? else {
        return Err(MessageError::Turn.into());
    };
    let mut streams = Streams::default();
    streams.change(&owned, &[], &carried, &[])?;
    while more {
        match link.read().await? {
            Message::More { owned: further, carried: fetched, more: still } => {
                streams.change(&further, &[], &fetched, &[])?;
                owned.extend(further);
                carried.extend(fetched);
                more = still;
                if owned.len() > MAX_STREAMS || carried.len() > MAX_STREAMS {
                    return Err(MessageError::Bounds("a hello that repeats itself").into());
                }
            }
            Message::Unknown => {}
            _ => return Err(MessageError::Turn.into()),
        }
    }
    Ok((member, streams, owned, carried))
}

/// The names of a node's streams, so that it cannot have more than anyone has.
#[derive(Default)]
struct Streams {
    owned: HashSet<Key>,
    carried: HashSet<Key>,
}

impl Streams {
    fn change(
        &mut self,
        owned: &[Owned],
        owned_gone: &[Key],
        carried: &[Carried],
        carried_gone: &[Key],
    ) -> Result<(), MessageError> {
        owned_gone.iter().for_each(|key| {
            self.owned.remove(key);
        });
        carried_gone.iter().for_each(|key| {
            self.carried.remove(key);
        });
        self.owned.extend(owned.iter().map(Told::name));
        self.carried.extend(carried.iter().map(Told::name));
        if self.owned.len() > MAX_STREAMS || self.carried.len() > MAX_STREAMS {
            return Err(MessageError::Bounds("more streams than a node can have"));
        }
        Ok(())
    }
}

/// The present link of a node, until it is dropped or replaced.
struct Here<'a> {
    shared: &'a Shared,
    node: &'a Node,
    id: NodeId,
    boot: BootId,
    link: Arc<()>,
    /// What was said in the hello holds.
    believed: bool,
}

impl<'a> Here<'a> {
    /// Takes the place of the link that the node had, if any, and says hello.
    fn enter(
        shared: &'a Shared,
        node: &'a Node,
        id: &NodeId,
        member: &Member,
        hello: impl FnOnce() -> bool,
    ) -> Self {
        let boot = member.boot;
        let link = Arc::new(());
        let mut current = lock(&node.current);
        if let Some(before) = current.as_ref().filter(|before| before.boot != boot) {
            shared.remote.down(id, before.boot);
            let replaced = lock(&node.replaced).replace(before.boot);
            if replaced == Some(boot) {
                shared.warn_of_twins(id, member);
            }
        }
        *current =
            Some(Current { boot, addr: member.cluster_addr(), since: Instant::now(), link: link.clone() });
        let believed = hello();
        drop(current);
        shared.heard_change.send_modify(|version| *version += 1);
        Here { shared, node, id: id.clone(), boot, link, believed }
    }

    /// Says something, unless the link was replaced.
    fn say(&self, what: impl FnOnce()) -> bool {
        let current = lock(&self.node.current);
        let mine = current.as_ref().is_some_and(|current| Arc::ptr_eq(&current.link, &self.link));
        if mine {
            what();
        }
        mine
    }

    /// The node may have another address than before.
    fn moved(&self, member: &Member) {
        let mut current = lock(&self.node.current);
        if let Some(current) = current.as_mut().filter(|current| Arc::ptr_eq(&current.link, &self.link)) {
            current.addr = member.cluster_addr();
        }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        let mut current = lock(&self.node.current);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(&current.link, &self.link)) {
            *current = None;
            self.shared.remote.down(&self.id, self.boot);
            drop(current);
            self.shared.heard_change.send_modify(|version| *version += 1);
        }
    }
}
