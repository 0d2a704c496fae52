//! Who has which stream: the records of all nodes, by stream.

use std::time::Instant;

use sluice_media::StreamKey;

use super::core::{Core, Entry, Event, Node};
use super::past::Seen;
use crate::member::{BootId, Carried, NodeId, Owned};

/// Earlier runs of a node that are remembered.
const MOST_RUNS: usize = 16;
/// More streams than this are not taken from one node, owned and carried each.
const MOST_STREAMS: usize = 100_000;

impl Core {
    /// A newer run of a node: what its run before had is gone.
    pub(super) fn supersede(&mut self, id: &NodeId, boot: BootId, now: Instant) {
        self.drop_streams(id, now);
        let Some(node) = self.nodes.get_mut(id) else { return };
        let mut runs = std::mem::take(&mut node.runs);
        runs.push_back(node.boot);
        runs.retain(|run| *run != boot);
        if runs.len() > MOST_RUNS {
            runs.pop_front();
        }
        *node = Node { runs, ..Node::new(boot, now) };
        self.version += 1;
    }

    pub(super) fn drop_streams(&mut self, id: &NodeId, now: Instant) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let (owned, carried) = (std::mem::take(&mut node.owned), std::mem::take(&mut node.carried));
        for (key, owned) in owned {
            self.leave(&key, now, |entry| entry.owners.remove(&(owned.epoch, id.clone())));
        }
        for key in carried.into_keys() {
            self.leave(&key, now, |entry| entry.carriers.remove(id));
        }
    }

    pub(super) fn put_owned(&mut self, id: &NodeId, owned: Owned) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let key = owned.key();
        let epoch = owned.epoch;
        if node.owned.len() >= MOST_STREAMS && !node.owned.contains_key(&key) {
            return;
        }
        let seen = Seen { epoch, told: Some((epoch, owned.numbers)) };
        let interrupted = owned.interrupted;
        let before = node.owned.insert(key.clone(), owned);
        let entry = self.entry(&key);
        if let Some(before) = before.as_ref().filter(|b| b.epoch != epoch) {
            entry.owners.remove(&(before.epoch, id.clone()));
        }
        entry.owners.insert((epoch, id.clone()));
        entry.seen.merge(seen);
        if before.is_none_or(|b| b.epoch != epoch || b.interrupted != interrupted) {
            self.version += 1;
            self.check(&key);
        }
    }

    pub(super) fn put_carried(&mut self, id: &NodeId, carried: Carried) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let key = carried.key();
        if node.carried.len() >= MOST_STREAMS && !node.carried.contains_key(&key) {
            return;
        }
        let epoch = carried.epoch;
        let changed =
            node.carried.get(&key).is_none_or(|before| before.epoch != epoch || before.path != carried.path);
        node.carried.insert(key.clone(), carried);
        let entry = self.entry(&key);
        entry.carriers.insert(id.clone());
        let higher = entry.seen.merge(Seen { epoch, told: None });
        self.version += u64::from(changed);
        if higher {
            self.check(&key);
        }
    }

    pub(super) fn remove_owned(&mut self, id: &NodeId, key: &StreamKey, now: Instant) {
        if let Some(owned) = self.nodes.get_mut(id).and_then(|n| n.owned.remove(key)) {
            self.leave(key, now, |entry| entry.owners.remove(&(owned.epoch, id.clone())));
        }
    }

    pub(super) fn remove_carried(&mut self, id: &NodeId, key: &StreamKey, now: Instant) {
        if self.nodes.get_mut(id).is_some_and(|n| n.carried.remove(key).is_some()) {
            self.leave(key, now, |entry| entry.carriers.remove(id));
        }
    }

    fn entry(&mut self, key: &StreamKey) -> &mut Entry {
        let past = &mut self.past;
        self.streams
            .entry(key.clone())
            .or_insert_with(|| Entry { seen: past.take(key).unwrap_or_default(), ..Entry::default() })
    }

    fn leave(&mut self, key: &StreamKey, now: Instant, how: impl FnOnce(&mut Entry) -> bool) {
        let Some(entry) = self.streams.get_mut(key) else { return };
        how(entry);
        self.version += 1;
        if entry.owners.is_empty() && entry.carriers.is_empty() {
            let seen = entry.seen;
            self.streams.remove(key);
            self.past.put(key.clone(), seen, now);
        }
        self.check(key);
    }

    /// After owners or the highest epoch of a stream have changed: who has lost it?
    pub(super) fn check(&mut self, key: &StreamKey) {
        let Some(entry) = self.streams.get(key) else {
            self.unsettled.remove(key);
            return;
        };
        if entry.is_settled() {
            self.unsettled.remove(key);
            return;
        }
        let by = entry.fence();
        self.unsettled.insert(key.clone());
        let mine = self.owned_epoch(key).filter(|epoch| *epoch < by.highest);
        if let Some(epoch) = mine
            && self.displaced.get(key) != Some(&epoch)
        {
            self.displaced.insert(key.clone(), epoch);
            self.event(Event::Displaced { key: key.clone(), epoch, by });
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.events.push(event);
        self.version += 1;
    }
}
