//! Which node of a cluster pulls a source. Pure.
//!
//! All nodes see the same members and come to the same answer; while they do not, the claim of the stream lets one of them in.

use std::hash::{DefaultHasher, Hash, Hasher};

use sluice_media::StreamKey;

/// A node, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: String,
    /// Its link is up, or it is this node itself.
    pub(super) reachable: bool,
    pub(super) takes_publishers: bool,
    pub(super) draining: bool,
}

/// The node that is to pull a source: the one that has it, for as long as it may; else one that follows from the names, so that
/// sources are spread and few move when a node comes or goes.
pub(super) fn of<'a>(key: &StreamKey, owner: Option<&str>, nodes: &'a [Node]) -> Option<&'a str> {
    let there = |node: &&Node| node.reachable && node.takes_publishers;
    let usable = || nodes.iter().filter(there).filter(|node| !node.draining);
    let is_owner = |node: &&Node| Some(node.id.as_str()) == owner;
    usable()
        .find(is_owner)
        .or_else(|| usable().max_by_key(|node| rank(key, &node.id)))
        // Nobody is better off with it.
        .or_else(|| nodes.iter().filter(there).find(is_owner))
        .map(|node| node.id.as_str())
}

/// Rendezvous hashing: the node with the highest rank has it.
fn rank(key: &StreamKey, node: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&*key.app, &*key.id, node).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> Node {
        Node { id: id.into(), reachable: true, takes_publishers: true, draining: false }
    }

    fn key(n: usize) -> StreamKey {
        StreamKey::new("live", format!("cam{n}"))
    }

    #[test]
    fn who_has_it_keeps_it_until_it_drains_or_is_lost() {
        let mut nodes = [node("a"), node("b"), node("c")];
        for owner in ["a", "b", "c"] {
            assert_eq!(of(&key(1), Some(owner), &nodes), Some(owner));
        }
        nodes[1].draining = true;
        assert_ne!(of(&key(1), Some("b"), &nodes), Some("b"));
        nodes[1] = Node { reachable: false, ..node("b") };
        assert_ne!(of(&key(1), Some("b"), &nodes), Some("b"));
        assert!(of(&key(1), Some("gone"), &nodes).is_some());
        nodes.iter_mut().for_each(|node| node.draining = true);
        assert_eq!(of(&key(1), Some("a"), &nodes), Some("a"), "there is nobody to give it to");
        assert_eq!(of(&key(1), None, &nodes), None);
    }

    #[test]
    fn edges_pull_nothing() {
        let edge = Node { takes_publishers: false, ..node("e") };
        assert_eq!(of(&key(1), None, std::slice::from_ref(&edge)), None);
        assert!((0..50).all(|n| of(&key(n), None, &[edge.clone(), node("a")]) == Some("a")));
    }

    #[test]
    fn sources_are_spread_and_stay_where_they_are_when_another_node_goes() {
        let all = [node("a"), node("b"), node("c")];
        let mut counts = [0; 3];
        for n in 0..300 {
            let before = of(&key(n), None, &all).expect("a node");
            counts[all.iter().position(|node| node.id == before).expect("one of them")] += 1;
            let after = of(&key(n), None, &all[..2]).expect("a node");
            assert!(before == "c" || before == after);
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
    }
}
