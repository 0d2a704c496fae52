//! Which of two changes stands.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::member::{BootId, NodeId};

/// No counter is larger than this, so that nobody can use them up.
pub(crate) const COUNTER_LIMIT: u64 = 1 << 52;

/// Names one change: counter, node, run of the node. The larger one stands, compared in this order. No two changes have the
/// same: a run of a node counts up, and a node that lost its disk has a new [`BootId`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp(u64, NodeId, BootId);

impl Stamp {
    /// From its parts.
    pub fn new(counter: u64, node: NodeId, boot: BootId) -> Self {
        Stamp(counter, node, boot)
    }

    /// Larger than the counters of all changes that its node knew. 0 for what a record was created with: any later change
    /// stands over that, also where two nodes created the record without knowing of each other.
    pub fn counter(&self) -> u64 {
        self.0
    }

    /// The node that made the change.
    pub fn node(&self) -> &NodeId {
        &self.1
    }
}

/// Gives out stamps of this run of this node (a Lamport clock over all records).
#[derive(Debug)]
pub struct Clock {
    node: NodeId,
    boot: BootId,
    seen: AtomicU64,
}

impl Clock {
    /// One that has seen nothing.
    pub fn new(node: NodeId, boot: BootId) -> Self {
        Clock { node, boot, seen: AtomicU64::new(0) }
    }

    /// A change with this counter was seen.
    pub fn saw(&self, counter: u64) {
        self.seen.fetch_max(counter.min(COUNTER_LIMIT), Ordering::Relaxed);
    }

    /// The largest counter seen or given out.
    pub fn highest(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// The stamp of a new change, above all that were seen.
    pub fn next(&self) -> Stamp {
        let counter = self.seen.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Stamp(counter, self.node.clone(), self.boot)
    }

    /// The stamp of what a record is created with.
    pub fn birth(&self) -> Stamp {
        Stamp(0, self.node.clone(), self.boot)
    }

    /// The node whose clock it is.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_past_all_that_was_seen() {
        let clock = Clock::new(NodeId::new("n1"), BootId(7));
        let first = clock.next();
        clock.saw(41);
        clock.saw(3);
        let second = clock.next();
        assert_eq!((first.counter(), second.counter(), clock.highest()), (1, 42, 42));
        assert!(clock.birth() < first && first < second);
        clock.saw(u64::MAX);
        assert!(clock.next().counter() > second.counter());
    }

    #[test]
    fn counter_then_node_then_run() {
        let stamp = |c, n: &str, b| Stamp::new(c, NodeId::new(n), BootId(b));
        assert!(stamp(2, "a", 1) > stamp(1, "z", 9));
        assert!(stamp(1, "b", 1) > stamp(1, "a", 9));
        assert!(stamp(1, "a", 2) > stamp(1, "a", 1));
    }
}
