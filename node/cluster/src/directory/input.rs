//! What other nodes say, and what is heard of them.

use std::collections::btree_map;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_media::StreamKey;

use super::core::{Core, Event, Node};
use crate::member::{BootId, Carried, Member, NodeId, Owned};
use crate::mesh::Changes;
use crate::ownership::Liveness;
use crate::ownership::epoch::HIGHEST;

/// More nodes than this are not taken in.
const MOST_NODES: usize = 1_000;
/// A longer path is no stream's.
const MOST_HOPS: usize = 8;
/// While so many events wait, those that will be repeated are not added.
const MOST_EVENTS: usize = 1_000;
/// How often nodes are told of streams in which they are behind.
const AGAIN: Duration = Duration::from_millis(900);
/// [`Core::expire`] is called at least every second; a longer pause than this was one of this process.
const PAUSE: Duration = Duration::from_secs(3);

impl Core {
    /// A node has connected; this is all that it has.
    /// False when another run of that node is believed in.
    pub fn hello(&mut self, member: Member, owned: Vec<Owned>, carried: Vec<Carried>, now: Instant) -> bool {
        let (id, boot) = (member.id.clone(), member.boot);
        if id == self.me || (!self.nodes.contains_key(&id) && self.nodes.len() >= MOST_NODES) {
            return false;
        }
        let lost = self.times.lost;
        let node = self.nodes.entry(id.clone()).or_insert_with(|| Node::new(boot, now));
        if node.boot != boot {
            // One connection of an earlier run may be read later than the first of the newer one.
            if node.runs.contains(&boot) && (node.linked || node.life.silent_for(now) < lost) {
                return false;
            }
            self.supersede(&id, boot, now);
        }
        self.drop_streams(&id, now);
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        node.member = Some(Arc::new(member));
        node.linked = true;
        node.sign(now);
        self.version += 1;
        self.update(
            &id,
            boot,
            Changes { put: owned, gone: vec![] },
            Changes { put: carried, gone: vec![] },
            now,
        );
        true
    }

    /// A node says each second that it is there.
    pub fn tick(&mut self, member: Member, now: Instant) {
        let Some(node) = self.nodes.get_mut(&member.id).filter(|n| n.boot == member.boot) else { return };
        if member.id == self.me {
            return;
        }
        node.sign(now);
        let told = |m: &Member| (m.draining, m.role, m.group.clone(), m.host.clone(), m.ports);
        let changed = node.member.as_deref().map(told) != Some(told(&member));
        node.member = Some(Arc::new(member));
        self.version += u64::from(changed);
    }

    /// What has changed of a node's streams. It must have said hello on that link.
    pub fn update(
        &mut self,
        from: &NodeId,
        boot: BootId,
        owned: Changes<Owned>,
        carried: Changes<Carried>,
        now: Instant,
    ) {
        let Some(node) = self.nodes.get_mut(from).filter(|n| n.boot == boot && n.linked) else { return };
        if *from == self.me {
            return;
        }
        node.sign(now);
        for (app, id) in owned.gone {
            self.remove_owned(from, &StreamKey::new(app, id), now);
        }
        for (app, id) in carried.gone {
            self.remove_carried(from, &StreamKey::new(app, id), now);
        }
        for owned in owned.put.into_iter().filter(|o| o.epoch <= HIGHEST) {
            self.put_owned(from, owned);
        }
        for carried in carried.put.into_iter().filter(|c| c.epoch <= HIGHEST && c.path.len() <= MOST_HOPS) {
            self.put_carried(from, carried);
        }
    }

    /// The link from that run of a node broke.
    pub fn down(&mut self, from: &NodeId, boot: BootId) {
        if let Some(node) = self.nodes.get_mut(from).filter(|n| n.boot == boot && n.linked)
            && *from != self.me
        {
            node.linked = false;
            self.version += 1;
        }
    }

    /// A counter of a node was read from the store or came by multicast. Only a counter that is seen to grow is a sign of
    /// life, and another run than the known one is believed in only while that one has no link.
    pub fn heard(&mut self, id: &NodeId, boot: BootId, counter: u64, now: Instant) {
        if *id == self.me || (!self.nodes.contains_key(id) && self.nodes.len() >= MOST_NODES) {
            return;
        }
        let node = match self.nodes.entry(id.clone()) {
            btree_map::Entry::Occupied(node) => node.into_mut(),
            btree_map::Entry::Vacant(place) => {
                self.version += 1;
                place.insert(Node::new(boot, now))
            }
        };
        if node.boot == boot {
            if node.life.read(counter, now) {
                node.lost = false;
            }
            return;
        }
        let (other, life) = node.other.get_or_insert_with(|| (boot, Liveness::new(now)));
        if *other != boot {
            (*other, *life) = (boot, Liveness::new(now));
        }
        if life.read(counter, now) && !node.linked {
            let life = *life;
            self.supersede(id, boot, now);
            if let Some(node) = self.nodes.get_mut(id) {
                node.life = life;
            }
        }
    }

    /// What membership knows of a node that has not connected.
    pub fn describe(&mut self, member: Member) {
        let Some(node) = self.nodes.get_mut(&member.id) else { return };
        if !node.linked && node.boot == member.boot && node.member.as_deref() != Some(&member) {
            node.member = Some(Arc::new(member));
            self.version += 1;
        }
    }

    /// Forgets a node that is not there any more; `false` when it is, or is not known.
    pub fn forget(&mut self, id: &NodeId, now: Instant) -> bool {
        let gone = |n: &Node| !n.linked && n.life.heard_ago(now).is_none_or(|ago| ago >= self.times.lost);
        if *id == self.me || !self.nodes.get(id).is_some_and(gone) {
            return false;
        }
        self.drop_streams(id, now);
        self.nodes.remove(id);
        self.version += 1;
        true
    }

    /// To be called every second or more often: finds nodes that are lost, and forgets what is old.
    pub fn expire(&mut self, now: Instant) {
        let pause = self.expired.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.expired = Some(now);
        let excused = if pause > PAUSE { pause } else { Duration::ZERO };
        let (mut lost, mut forgotten) = (Vec::new(), Vec::new());
        for (id, node) in self.nodes.iter_mut().filter(|(id, _)| **id != self.me) {
            node.life.excuse(excused);
            let silent = node.life.silent_for(now);
            // The mesh takes a link down that is silent: one that is up is alive.
            if node.linked || silent < self.times.lost {
                continue;
            }
            if !node.lost {
                node.lost = true;
                lost.push((id.clone(), node.boot));
            }
            if silent >= self.times.forgotten {
                forgotten.push(id.clone());
            }
        }
        for (id, boot) in lost {
            self.drop_streams(&id, now);
            self.event(Event::Lost { id, boot });
        }
        for id in forgotten {
            self.nodes.remove(&id);
            self.version += 1;
        }
        self.past.trim(now);
        let told = self.behind_told.is_some_and(|at| now.saturating_duration_since(at) < AGAIN);
        if told || self.events.len() >= MOST_EVENTS {
            return;
        }
        self.behind_told = Some(now);
        let behind: Vec<_> = self.unsettled.iter().flat_map(|key| self.behind(key)).collect();
        behind.into_iter().for_each(|event| self.event(event));
    }

    fn behind(&self, key: &StreamKey) -> Vec<Event> {
        let Some(entry) = self.streams.get(key) else { return Vec::new() };
        let highest = entry.seen.epoch;
        let behind = entry.owners.iter().take_while(|(epoch, _)| *epoch < highest);
        behind
            .filter(|(_, id)| *id != self.me && self.nodes.get(id).is_some_and(|n| n.linked))
            .map(|(_, id)| Event::Behind { key: key.clone(), owner: id.clone(), highest })
            .collect()
    }
}
