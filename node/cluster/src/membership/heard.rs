//! Who was heard lately. Pure, with time as an argument.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::datagram::Datagram;
use super::{MAX_PEERS, Peer};
use crate::member::{BootId, NodeId, host_port};

/// The highest counter of a node that is silent is remembered this long, so that nobody can repeat what it said.
const REMEMBERED: Duration = Duration::from_secs(600);

pub(super) struct Heard {
    me: NodeId,
    boot: BootId,
    gone_after: Duration,
    nodes: HashMap<NodeId, Node>,
}

/// What a datagram is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The node is there, or still there.
    There,
    /// It is this node's own, or repeated.
    None,
    /// Another process says that it is this node.
    Namesake,
}

struct Node {
    said: Datagram,
    at: Instant,
    /// It was removed, and is listed again once it says something new.
    removed: bool,
}

impl Heard {
    pub(super) fn new(me: NodeId, boot: BootId, gone_after: Duration) -> Self {
        Heard { me, boot, gone_after, nodes: HashMap::new() }
    }

    /// Takes what a node says.
    pub(super) fn hear(&mut self, said: Datagram, now: Instant) -> News {
        if said.id == self.me {
            return if said.boot == self.boot { News::None } else { News::Namesake };
        }
        let full = self.nodes.len() >= MAX_PEERS;
        match self.nodes.get_mut(&said.id) {
            Some(known) if said.counter <= known.said.counter => return News::None,
            Some(known) => *known = Node { said, at: now, removed: false },
            None if full => return News::None,
            None => {
                self.nodes.insert(said.id.clone(), Node { said, at: now, removed: false });
            }
        }
        News::There
    }

    /// Those that were heard lately.
    pub(super) fn peers(&self, now: Instant) -> Vec<Peer> {
        let listed = self.nodes.values().filter(|node| self.is_listed(node, now));
        listed
            .map(|node| Peer {
                id: Some(node.said.id.clone()),
                addr: host_port(&node.said.host, node.said.port),
                boot: Some(node.said.boot),
                counter: Some(node.said.counter),
            })
            .collect()
    }

    fn is_listed(&self, node: &Node, now: Instant) -> bool {
        !node.removed && now.duration_since(node.at) < self.gone_after
    }

    /// Forgets those that are silent for long; gives how many are listed.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let keep = self.gone_after.max(REMEMBERED);
        self.nodes.retain(|_, node| now.duration_since(node.at) < keep);
        self.nodes.values().filter(|node| self.is_listed(node, now)).count()
    }

    pub(super) fn remove(&mut self, id: &NodeId) -> bool {
        match self.nodes.get_mut(id) {
            Some(node) => !std::mem::replace(&mut node.removed, true),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: &str, boot: u32, counter: u64) -> Datagram {
        Datagram { id: NodeId::new(id), boot: BootId(boot), counter, host: "h".into(), port: 5000 }
    }

    fn heard() -> (Heard, Instant) {
        (Heard::new(NodeId::new("me"), BootId(9), Duration::from_secs(20)), Instant::now())
    }

    #[test]
    fn a_node_is_listed_while_it_is_heard() {
        let (mut heard, start) = heard();
        assert_eq!(heard.hear(said("a", 1, 10), start), News::There);
        let peer = heard.peers(start).remove(0);
        assert_eq!((peer.addr.as_str(), peer.boot, peer.counter), ("h:5000", Some(BootId(1)), Some(10)));
        assert_eq!(heard.expire(start + Duration::from_millis(19_999)), 1);
        assert_eq!(heard.expire(start + Duration::from_secs(20)), 0);
        assert!(heard.peers(start + Duration::from_secs(20)).is_empty());
        assert_eq!(heard.hear(said("a", 1, 11), start + Duration::from_secs(30)), News::There);
        assert_eq!(heard.peers(start + Duration::from_secs(30)).len(), 1);
    }

    #[test]
    fn what_was_said_before_counts_for_nothing() {
        let (mut heard, start) = heard();
        assert_eq!(heard.hear(said("a", 1, 10), start), News::There);
        assert_eq!(heard.hear(said("a", 1, 10), start), News::None);
        assert_eq!(heard.hear(said("a", 1, 9), start), News::None);
        // A new run counts on.
        assert_eq!(heard.hear(said("a", 2, 11), start), News::There);
        // Repeating the old run, even when the node has been silent for a while.
        assert_eq!(heard.hear(said("a", 1, 10), start + Duration::from_secs(60)), News::None);
        assert!(heard.peers(start + Duration::from_secs(60)).is_empty());
        assert_eq!(heard.hear(said("me", 9, 99), start), News::None);
        assert_eq!(heard.hear(said("me", 8, 99), start), News::Namesake);
    }

    #[test]
    fn a_removed_node_comes_back_when_it_lives() {
        let (mut heard, start) = heard();
        heard.hear(said("a", 1, 10), start);
        assert!(
            heard.remove(&NodeId::new("a"))
                && !heard.remove(&NodeId::new("a"))
                && !heard.remove(&NodeId::new("b"))
        );
        assert!(heard.peers(start).is_empty());
        assert_eq!(heard.hear(said("a", 1, 10), start), News::None);
        assert_eq!(heard.hear(said("a", 1, 11), start), News::There);
        assert_eq!(heard.peers(start).len(), 1);
    }

    #[test]
    fn no_more_than_so_many() {
        let (mut heard, start) = heard();
        for n in 0..MAX_PEERS + 10 {
            heard.hear(said(&format!("n{n}"), 1, 1), start);
        }
        assert_eq!(heard.peers(start).len(), MAX_PEERS);
        heard.expire(start + REMEMBERED);
        assert_eq!(heard.hear(said("new", 1, 1), start + REMEMBERED), News::There);
    }
}
