//! What must hold.

use rand::Rng;

use super::node::name;
use super::store::{N, S};
use super::world::World;

/// In a healthy world a sole publisher whose connection broke publishes again within this, ms: two seconds of silence,
/// three attempts of a second, and the time of a claim.
pub(crate) const REFUSED: u64 = 5_000;

impl World {
    /// A node writes a stream: nobody else ever wrote it in that epoch.
    pub(crate) fn write(&mut self, n: N, stream: S) {
        let Some(lease) = self.nodes[n].leases.get(&stream) else { return };
        let writer = (n, self.nodes[n].boot);
        let first = *self.written.entry((stream, lease.epoch)).or_insert(writer);
        assert_eq!(first, writer, "stream {stream} was written by two in epoch {:x}", lease.epoch);
    }

    /// After all has healed: each stream that somebody publishes has one owner, who has that publisher, and all know it; the
    /// others have none.
    pub(crate) fn check_all(&self) {
        let up = || self.nodes.iter().filter(|n| n.up);
        for (stream, key) in self.streams.iter().enumerate() {
            let owners: Vec<N> = up().filter(|n| n.leases.contains_key(&stream)).map(|n| n.n).collect();
            let encoder = [2 * stream, 2 * stream + 1].into_iter().find(|e| self.encoders[*e].wanted);
            let Some(encoder) = encoder else {
                assert_eq!(owners, [] as [N; 0], "{key} has owners and no publisher");
                assert_eq!(self.store.live.get(&stream), None, "{key} is broadcasting without an owner");
                for node in up() {
                    let owner = node.core.find(key).and_then(|l| l.owner);
                    assert!(owner.is_none(), "{} sees an owner of {key}: {owner:?}", node.n);
                }
                continue;
            };
            let connection = self.encoders[encoder].connection.filter(|c| c.accepted);
            let Some(connection) = connection else { panic!("encoder {encoder} is not let in") };
            assert_eq!(owners, [connection.node], "{key} is published to {}", connection.node);
            let owner = &self.nodes[connection.node];
            let lease = &owner.leases[&stream];
            assert_eq!(
                lease.publisher,
                Some((encoder, connection.id)),
                "the owner of {key} has its publisher"
            );
            assert!(self.now - lease.last_media <= 1_000, "{key} is being sent");
            for node in up() {
                let located = node.core.find(key).unwrap_or_default();
                let seen = located.owner.map(|o| (o.node, o.epoch, o.reachable));
                let expected = Some((name(owner.n), lease.epoch, true));
                assert_eq!(seen, expected, "{} agrees about the owner of {key}", node.n);
                assert_eq!(located.highest_epoch, lease.epoch, "{} has the fence of {key}", node.n);
                if !node.origin {
                    let read = node.media.get(&stream).map(|(epoch, _)| *epoch);
                    assert_eq!(read, Some(lease.epoch), "{} reads {key} from its owner", node.n);
                    let at = node.read_at.get(&stream).copied().unwrap_or_default();
                    assert!(self.now - at <= 2_000, "{} reads {key}", node.n);
                }
            }
            if self.with_store {
                let live = self.store.live.get(&stream).copied();
                assert_eq!(live, Some((owner.n, lease.epoch)), "the store lists {key}");
                assert_eq!(self.store.owners.get(&stream).map(|(epoch, ..)| *epoch), Some(lease.epoch));
            }
        }
    }

    /// The world is healthy. Each stream's publisher breaks off and comes back, or dies together with the owner.
    pub(crate) fn last_blow(&mut self) {
        for stream in 0..self.streams.len() {
            let encoder = [2 * stream, 2 * stream + 1].into_iter().find(|e| self.encoders[*e].wanted);
            let Some(encoder) = encoder else { continue };
            let owner = self.encoders[encoder].connection.map_or(0, |c| c.node);
            let another = self.nodes.iter().any(|n| n.up && n.origin && n.n != owner);
            if another && self.nodes[owner].up && self.rng.random_bool(0.5) {
                self.tally.orphans += 1;
                self.encoders[encoder].wanted = false;
                self.nodes[owner].buried = true;
                self.crash(owner);
            } else {
                self.break_off(encoder);
            }
        }
    }
}
