//! What the records in the store say of the other nodes, as seen from here. Pure, with time as an argument.

use std::collections::HashMap;
use std::time::Duration;

use sluice_store::NodeRecord;
use tokio::time::Instant;

use super::{MAX_PEERS, Peer};
use crate::identity::valid_node_id;
use crate::member::{BootId, Member, NodeId};

/// The other nodes' records.
pub(super) struct Records {
    me: NodeId,
    boot: BootId,
    dead: Duration,
    forget: Duration,
    nodes: HashMap<NodeId, Node>,
}

struct Node {
    boot: BootId,
    counter: u64,
    addr: String,
    /// When the counter was last seen to change, or the record was first seen.
    at: Instant,
}

/// What a look at all records shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The record of this node is there, of this run.
    pub(super) own: bool,
    /// Another process writes under the name of this node.
    pub(super) namesake: Option<BootId>,
    /// Nodes that did not count up for long: their records can go.
    pub(super) forgotten: Vec<NodeId>,
}

impl Records {
    pub(super) fn new(me: &Member, dead: Duration, forget: Duration) -> Self {
        Records { me: me.id.clone(), boot: me.boot, dead, forget, nodes: HashMap::new() }
    }

    /// Takes all records that the store has.
    pub(super) fn look(&mut self, records: Vec<NodeRecord>, now: Instant) -> Seen {
        let mut seen = Seen::default();
        let mut there = HashMap::with_capacity(records.len().min(MAX_PEERS));
        for record in records {
            let boot = BootId(record.boot);
            if record.id == self.me.as_str() {
                if boot == self.boot {
                    seen.own = true;
                } else {
                    seen.namesake = Some(boot);
                }
                continue;
            }
            if there.len() >= MAX_PEERS {
                continue;
            }
            if let Some((id, mut node)) = read(record, now) {
                if let Some(known) = self.nodes.get(&id)
                    && (known.boot, known.counter) == (node.boot, node.counter)
                {
                    node.at = known.at;
                }
                if now.duration_since(node.at) >= self.forget {
                    seen.forgotten.push(id);
                } else {
                    there.insert(id, node);
                }
            }
        }
        self.nodes = there;
        seen
    }

    /// Those that are not dead.
    pub(super) fn peers(&self, now: Instant) -> Vec<Peer> {
        let alive = self.nodes.iter().filter(|(_, node)| now.duration_since(node.at) < self.dead);
        alive
            .map(|(id, node)| Peer {
                id: Some(id.clone()),
                addr: node.addr.clone(),
                boot: Some(node.boot),
                counter: Some(node.counter),
            })
            .collect()
    }

    pub(super) fn remove(&mut self, id: &NodeId) {
        self.nodes.remove(id);
    }

    /// The store could not be asked for a while: nobody is found dead because of that.
    pub(super) fn pause(&mut self, away: Duration) {
        for node in self.nodes.values_mut() {
            node.at += away;
        }
    }
}

/// None for records that are not of a Sluice node.
fn read(record: NodeRecord, now: Instant) -> Option<(NodeId, Node)> {
    let member: Member = serde_json::from_value(record.document).ok()?;
    let sane = valid_node_id(&record.id) && member.id.as_str() == record.id && member.ports.cluster != 0;
    let addr = member.cluster_addr();
    sane.then_some((member.id, Node { boot: BootId(record.boot), counter: record.counter, addr, at: now }))
}

/// What this node writes of itself.
pub(super) fn record(me: &Member, counter: u64, now_ms: i64) -> NodeRecord {
    NodeRecord {
        id: me.id.to_string(),
        boot: me.boot.0,
        counter,
        updated: now_ms,
        ip: me.host.clone(),
        cpu: format!("{:.0}", me.load.cpu_percent),
        memory: format!("{:.0}", me.load.memory_percent),
        // -1 is AMS's word for unknown.
        db_query_ms: if me.load.store_ms < 0.0 { -1 } else { me.load.store_ms.round() as i64 },
        document: serde_json::to_value(me).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Ports;

    fn member(id: &str, boot: u32) -> Member {
        let member = serde_json::json!({
                "id": id, "boot": boot, "host": format!("{id}.example"), "ports": {"cluster": 5000},
        });
        serde_json::from_value(member).unwrap()
    }

    fn of(id: &str, boot: u32, counter: u64) -> NodeRecord {
        record(&member(id, boot), counter, 0)
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn records() -> (Records, Instant) {
        (Records::new(&member("me", 1), 20 * SECOND, 3600 * SECOND), Instant::now())
    }

    #[test]
    fn a_node_is_alive_while_it_counts() {
        let (mut records, start) = records();
        records.look(vec![of("a", 1, 5), of("me", 1, 9)], start);
        assert_eq!(records.peers(start)[0].addr, "a.example:5000");
        records.look(vec![of("a", 1, 6)], start + 15 * SECOND);
        assert_eq!(records.peers(start + 34 * SECOND).len(), 1);
        records.look(vec![of("a", 1, 6)], start + 34 * SECOND);
        assert!(records.peers(start + 35 * SECOND).is_empty());
        // A new run with the same counter is a change, too.
        records.look(vec![of("a", 2, 6)], start + 36 * SECOND);
        assert_eq!(records.peers(start + 36 * SECOND)[0].boot, Some(BootId(2)));
        records.look(vec![], start + 37 * SECOND);
        assert!(records.peers(start + 37 * SECOND).is_empty());
    }

    #[test]
    fn an_absent_store_makes_nobody_dead() {
        let (mut records, start) = records();
        records.look(vec![of("a", 1, 5)], start);
        records.pause(60 * SECOND);
        assert_eq!(records.peers(start + 60 * SECOND).len(), 1);
    }

    #[test]
    fn the_dead_are_forgotten_at_last() {
        let (mut records, start) = records();
        records.look(vec![of("a", 1, 5)], start);
        assert_eq!(records.look(vec![of("a", 1, 5)], start + 3599 * SECOND).forgotten, []);
        assert_eq!(records.look(vec![of("a", 1, 5)], start + 3600 * SECOND).forgotten, [NodeId::new("a")]);
    }

    #[test]
    fn own_records_and_namesakes() {
        let (mut records, start) = records();
        assert_eq!(records.look(vec![], start), Seen::default());
        assert!(records.look(vec![of("me", 1, 9)], start).own);
        let seen = records.look(vec![of("me", 3, 9)], start);
        assert_eq!((seen.own, seen.namesake), (false, Some(BootId(3))));
        assert!(records.peers(start).is_empty());
    }

    #[test]
    fn what_is_no_record_of_ours_is_left_alone() {
        let (mut records, start) = records();
        let mut foreign = of("ams", 0, 0);
        foreign.document = serde_json::json!({});
        let mut odd = of("b", 1, 1);
        odd.id = "c".into();
        let silent = record(&Member { ports: Ports::default(), ..member("d", 1) }, 1, 0);
        records.look(vec![foreign, odd, silent], start);
        assert!(records.peers(start).is_empty());
    }

    #[test]
    fn what_ams_shows() {
        let mut me = member("a", 1);
        me.load.cpu_percent = 12.6;
        me.load.memory_percent = 40.2;
        me.load.store_ms = -1.0;
        let record = record(&me, 3, 1_700_000_000_000);
        assert_eq!((record.cpu.as_str(), record.memory.as_str(), record.db_query_ms), ("13", "40", -1));
        assert_eq!((record.ip.as_str(), record.updated, record.counter), ("a.example", 1_700_000_000_000, 3));
    }
}
