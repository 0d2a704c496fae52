//! What can be asked of the directory.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_media::StreamKey;

use super::core::{Core, Entry, Node};
use crate::member::{BootId, Carried, Member, NodeId, Owned, Viewers};
use crate::ownership::{Status, View};

/// Frames come through at most so many nodes.
pub const MOST_HOPS: usize = 4;

/// A node that has a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Whereabouts {
    /// The node.
    pub node: NodeId,
    /// As it describes itself.
    pub member: Arc<Member>,
    /// The epoch of the stream there.
    pub epoch: u64,
    /// Its link to this node is up. This node itself always is.
    pub reachable: bool,
}

/// A node that fetches a stream from another and can hand it on.
#[derive(Clone, Debug, PartialEq)]
pub struct Carrier {
    /// Where.
    pub at: Whereabouts,
    /// The nodes that the frames come through to it, the owner first.
    pub path: Vec<NodeId>,
}

/// Who has a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Located {
    /// Its owner: of several the one with the highest epoch. When that is below [`highest_epoch`](Self::highest_epoch),
    /// readers do not take its frames, and it is about to learn that.
    pub owner: Option<Whereabouts>,
    /// Who carries it, by name.
    pub carriers: Vec<Carrier>,
    /// The highest epoch ever seen of it.
    pub highest_epoch: u64,
}

/// A node to fetch a stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The node.
    pub node: NodeId,
    /// `host:port` of its cluster port.
    pub addr: String,
    /// The epoch of the stream there.
    pub epoch: u64,
    /// Through how many nodes the frames come then: 1 from the owner itself.
    pub hops: usize,
}

/// A node in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// Its name.
    pub id: NodeId,
    /// Its last known run.
    pub boot: BootId,
    /// As it describes itself; none when only its counter was ever heard.
    pub member: Option<Arc<Member>>,
    /// Alive, or dead as it is shown: for as long as [`Times::dead`](super::Times::dead) says it is alive after the last
    /// sign of life.
    pub alive: bool,
    /// Its link to this node is up.
    pub reachable: bool,
    /// How long ago the last sign of life was; none when there never was one.
    pub heard_ago: Option<Duration>,
}

/// A stream in the map of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamView {
    /// Its name.
    pub key: StreamKey,
    /// Who owns it, and what that node says about it.
    pub owner: Option<(NodeId, Owned)>,
    /// Who carries it, and what those nodes say about it, by name.
    pub carriers: Vec<(NodeId, Carried)>,
}

impl Core {
    /// Who has a stream; none when nobody has it and no epoch of it is remembered.
    pub fn find(&self, key: &StreamKey) -> Option<Located> {
        let Some(entry) = self.streams.get(key) else {
            let seen = self.past.get(key)?;
            return Some(Located { highest_epoch: seen.epoch, ..Located::default() });
        };
        Some(Located {
            owner: entry.owner().and_then(|(epoch, id)| self.whereabouts(id, *epoch)),
            carriers: self.carriers(key, entry),
            highest_epoch: entry.seen.epoch,
        })
    }

    fn whereabouts(&self, id: &NodeId, epoch: u64) -> Option<Whereabouts> {
        let node = self.nodes.get(id)?;
        let member = node.member.clone()?;
        Some(Whereabouts { node: id.clone(), member, epoch, reachable: node.linked })
    }

    fn carriers(&self, key: &StreamKey, entry: &Entry) -> Vec<Carrier> {
        let carriers = entry.carriers.iter().filter_map(|id| {
            let carried = self.nodes.get(id)?.carried.get(key)?;
            Some(Carrier { at: self.whereabouts(id, carried.epoch)?, path: carried.path.clone() })
        });
        carriers.collect()
    }

    /// Where this node can fetch a stream from, the best first:
    /// its owner, when that is in this node's group, or this node is in none, or nobody of its group carries the stream;
    /// a carrier of its own group; the owner; another carrier, when the owner cannot be reached. Carriers of equal rank are
    /// in another order for each node, so that not all go to the same. Never one that has the frames from this node, or
    /// through too many, or in an epoch that is past. Empty when this node owns the stream itself.
    pub fn sources(&self, key: &StreamKey) -> Vec<Source> {
        let Some(entry) = self.streams.get(key) else { return Vec::new() };
        let highest = entry.seen.epoch;
        let owner = entry.owner().filter(|(epoch, _)| *epoch == highest);
        if owner.is_some_and(|(_, id)| *id == self.me) {
            return Vec::new();
        }
        let group = self.nodes.get(&self.me).and_then(|n| n.member.clone()).map(|m| m.group.clone());
        let group = group.filter(|g| !g.is_empty());
        let is_mine = |node: &Whereabouts| group.as_ref() == Some(&node.member.group);
        let owner = owner.and_then(|(epoch, id)| self.whereabouts(id, *epoch));

        let mut carriers: Vec<_> = self.carriers(key, entry);
        carriers.retain(|c| {
            let passes_me = c.at.node == self.me || c.path.contains(&self.me);
            !passes_me && c.at.reachable && c.at.epoch == highest && c.path.len() < MOST_HOPS
        });
        carriers.sort_by_cached_key(|c| (c.path.len(), spread(&self.me, &c.at.node)));
        let (siblings, others): (Vec<_>, Vec<_>) = carriers.into_iter().partition(|c| is_mine(&c.at));

        let owner_first = owner
            .as_ref()
            .is_some_and(|o| o.reachable && (group.is_none() || is_mine(o) || siblings.is_empty()));
        let others = if owner.as_ref().is_some_and(|o| o.reachable) { Vec::new() } else { others };
        let mut sources: Vec<_> =
            siblings.into_iter().chain(others).map(|c| source(c.at, c.path.len() + 1)).collect();
        if let Some(owner) = owner {
            let place = if owner_first { 0 } else { sources.len() };
            sources.insert(place, source(owner, 1));
        }
        sources
    }

    /// What a claim of a stream begins with.
    pub fn view(&self, key: &StreamKey) -> View {
        let Some(entry) = self.streams.get(key) else {
            let Some(seen) = self.past.get(key) else {
                let reachable = self.nodes.iter().filter(|(id, n)| **id != self.me && n.linked);
                return View { others: reachable.map(|(id, _)| id.clone()).collect(), ..View::default() };
            };
            return View { known: seen.epoch, told: seen.newest(), ..View::default() };
        };
        View {
            owner: entry.owners.iter().rev().map(|(_, id)| id).find(|id| **id != self.me).cloned(),
            carriers: entry.carriers.iter().filter(|id| **id != self.me).cloned().collect(),
            known: entry.seen.epoch,
            told: entry.seen.newest(),
            others: Vec::new(),
        }
    }

    /// `host:port` of a node's cluster port.
    pub fn address(&self, id: &NodeId) -> Option<String> {
        self.nodes.get(id).and_then(|n| n.member.as_ref()).map(|m| m.cluster_addr())
    }

    /// What is known of a node.
    pub fn member(&self, id: &NodeId, now: Instant) -> Option<MemberView> {
        self.nodes.get(id).map(|node| self.member_view(id, node, now))
    }

    /// All nodes, this one included, by name.
    pub fn members(&self, now: Instant) -> Vec<MemberView> {
        self.nodes.iter().map(|(id, node)| self.member_view(id, node, now)).collect()
    }

    fn member_view(&self, id: &NodeId, node: &Node, now: Instant) -> MemberView {
        let me = *id == self.me;
        let status = node.life.status(now, self.times.lost, self.times.dead);
        MemberView {
            id: id.clone(),
            boot: node.boot,
            member: node.member.clone(),
            alive: me || node.linked || status < Status::Dead,
            reachable: node.linked,
            heard_ago: if me { Some(Duration::ZERO) } else { node.life.heard_ago(now) },
        }
    }

    /// Another node that says it has this node's boot id: both would make the same epochs, one of them should start anew.
    pub fn twin(&self) -> Option<NodeId> {
        let boot = self.nodes.get(&self.me)?.boot;
        self.nodes.iter().find(|(id, n)| **id != self.me && n.boot == boot).map(|(id, _)| id.clone())
    }

    /// All streams that somebody owns or carries, by name.
    pub fn streams(&self) -> Vec<StreamView> {
        let mut streams: Vec<_> =
            self.streams.iter().map(|(key, entry)| self.stream_view(key, entry)).collect();
        streams.sort_by(|a, b| a.key.cmp(&b.key));
        streams
    }

    /// One of them.
    pub fn stream(&self, key: &StreamKey) -> Option<StreamView> {
        let entry = self.streams.get(key)?;
        Some(self.stream_view(key, entry)).filter(|s| s.owner.is_some() || !s.carriers.is_empty())
    }

    fn stream_view(&self, key: &StreamKey, entry: &Entry) -> StreamView {
        let owner = entry.owner().and_then(|(_, id)| {
            let owned = self.nodes.get(id)?.owned.get(key)?;
            Some((id.clone(), owned.clone()))
        });
        let carriers = entry.carriers.iter();
        let carriers =
            carriers.filter_map(|id| Some((id.clone(), self.nodes.get(id)?.carried.get(key)?.clone())));
        StreamView { key: key.clone(), owner, carriers: carriers.collect() }
    }

    /// The viewers of a stream on all nodes.
    pub fn viewers(&self, key: &StreamKey) -> Viewers {
        let Some(entry) = self.streams.get(key) else { return Viewers::default() };
        let owners = entry.owners.iter().filter_map(|(_, id)| self.nodes.get(id)?.owned.get(key));
        let carriers = entry.carriers.iter().filter_map(|id| self.nodes.get(id)?.carried.get(key));
        let all = owners.map(|o| o.viewers).chain(carriers.map(|c| c.viewers));
        all.fold(Viewers::default(), Viewers::plus)
    }

    /// This node, as it was described last.
    pub fn me(&self) -> Option<Arc<Member>> {
        self.nodes.get(&self.me).and_then(|n| n.member.clone())
    }

    /// What this node owns, by name.
    pub fn owned(&self) -> Vec<Owned> {
        let mut owned: Vec<_> =
            self.nodes.get(&self.me).map(|n| n.owned.values().cloned().collect()).unwrap_or_default();
        owned.sort_by(|a: &Owned, b| (&a.app, &a.id).cmp(&(&b.app, &b.id)));
        owned
    }

    /// What this node carries, by name.
    pub fn carried(&self) -> Vec<Carried> {
        let mut carried: Vec<_> =
            self.nodes.get(&self.me).map(|n| n.carried.values().cloned().collect()).unwrap_or_default();
        carried.sort_by(|a: &Carried, b| (&a.app, &a.id).cmp(&(&b.app, &b.id)));
        carried
    }
}

fn source(at: Whereabouts, hops: usize) -> Source {
    Source { addr: at.member.cluster_addr(), node: at.node, epoch: at.epoch, hops }
}

/// A number that puts `other` at a place of its own in the view of each node.
fn spread(me: &NodeId, other: &NodeId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (me, other).hash(&mut hasher);
    hasher.finish()
}
