use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_media::StreamKey;

use super::past::{Past, Seen};
use crate::member::{BootId, Carried, Member, NodeId, Owned};
use crate::mesh::Changes;
use crate::ownership::Liveness;
use crate::ownership::epoch::HIGHEST;

/// More nodes than this are not taken in.
const MOST_NODES: usize = 1_000;
/// More streams than this are not taken from one node, owned and carried each.
const MOST_STREAMS: usize = 100_000;
/// A longer path is no stream's.
const MOST_HOPS: usize = 8;
/// Earlier runs of a node that are remembered.
const MOST_RUNS: usize = 16;
/// While so many events wait, those that will be repeated are not added.
const MOST_EVENTS: usize = 1_000;
/// [`Core::expire`] is called every second; a longer pause than this was one of this process.
const PAUSE: Duration = Duration::from_secs(3);

/// How long what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Without a sign of life for this long, a node has lost its streams.
    pub lost: Duration,
    /// For this long, it is shown as dead.
    pub dead: Duration,
    /// For this long, it is not shown any more.
    pub forgotten: Duration,
    /// The highest epochs of streams that have gone are kept for this long...
    pub epochs: Duration,
    /// ...and for so many streams.
    pub most_epochs: usize,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            lost: Duration::from_secs(6),
            dead: Duration::from_secs(20),
            forgotten: Duration::from_secs(3600),
            epochs: Duration::from_secs(24 * 3600),
            most_epochs: 100_000,
        }
    }
}

/// Something that the node has to act upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node's lease is lost, once for each time it falls silent: the store is to end what it left live (and again later
    /// when the store is away now).
    Lost {
        /// The node.
        id: NodeId,
        /// Its last known run.
        boot: BootId,
    },
    /// A stream of this node has a higher epoch elsewhere: its publisher must be told to leave, for readers do not take
    /// what it writes any more. Once for each epoch.
    Displaced {
        /// The stream.
        key: StreamKey,
        /// The epoch in which this node has it.
        epoch: u64,
        /// By which epoch, and who has it, if somebody does.
        by: Fenced,
    },
    /// Another node owns a stream in an epoch below the highest known here, and may not know: it should be told (its
    /// [`Core::know_epoch`]). Every second until it has changed.
    Behind {
        /// The stream.
        key: StreamKey,
        /// The node that owns it.
        owner: NodeId,
        /// The highest epoch.
        highest: u64,
    },
}

/// A higher epoch than the one in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// That one.
    pub highest: u64,
    /// Who owns the stream in it; nobody that is known, when its owner has gone again.
    pub owner: Option<NodeId>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) boot: BootId,
    pub(super) member: Option<Arc<Member>>,
    pub(super) linked: bool,
    pub(super) life: Liveness,
    pub(super) owned: HashMap<StreamKey, Owned>,
    pub(super) carried: HashMap<StreamKey, Carried>,
    lost: bool,
    runs: VecDeque<BootId>,
    // Counters of another run than the one that is believed in.
    other: Option<(BootId, Liveness)>,
}

impl Node {
    fn new(boot: BootId, now: Instant) -> Self {
        Node {
            boot,
            member: None,
            linked: false,
            life: Liveness::new(now),
            owned: HashMap::new(),
            carried: HashMap::new(),
            lost: false,
            runs: VecDeque::new(),
            other: None,
        }
    }

    fn sign(&mut self, now: Instant) {
        self.life.sign(now);
        self.lost = false;
    }
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) owners: BTreeSet<(u64, NodeId)>,
    pub(super) carriers: BTreeSet<NodeId>,
    pub(super) seen: Seen,
}

impl Entry {
    pub(super) fn owner(&self) -> Option<&(u64, NodeId)> {
        self.owners.last()
    }

    fn is_settled(&self) -> bool {
        self.owners.first().is_none_or(|(epoch, _)| *epoch >= self.seen.epoch)
    }

    fn fence(&self) -> Fenced {
        let owner = self.owner().filter(|(epoch, _)| *epoch == self.seen.epoch);
        Fenced { highest: self.seen.epoch, owner: owner.map(|(_, id)| id.clone()) }
    }
}

/// The directory without a clock and a lock.
#[derive(Debug)]
pub struct Core {
    pub(super) me: NodeId,
    pub(super) times: Times,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) streams: HashMap<StreamKey, Entry>,
    pub(super) past: Past,
    // Streams with an owner below the highest epoch.
    unsettled: BTreeSet<StreamKey>,
    displaced: HashMap<StreamKey, u64>,
    events: Vec<Event>,
    expired: Option<Instant>,
    version: u64,
    own_version: u64,
}

impl Core {
    /// Only this node is known.
    pub fn new(me: Member, times: Times, now: Instant) -> Self {
        let id = me.id.clone();
        let mut node = Node::new(me.boot, now);
        node.linked = true;
        node.life.sign(now);
        node.member = Some(Arc::new(me));
        Core {
            me: id.clone(),
            times,
            nodes: BTreeMap::from([(id, node)]),
            streams: HashMap::new(),
            past: Past::new(times.epochs, times.most_epochs),
            unsettled: BTreeSet::new(),
            displaced: HashMap::new(),
            events: Vec::new(),
            expired: None,
            version: 0,
            own_version: 0,
        }
    }

    /// Grows with each change of who is there, who owns and who carries what, and with each event; not with numbers of
    /// viewers and the like.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Grows with each change of what this node has to tell.
    pub fn own_version(&self) -> u64 {
        self.own_version
    }

    /// What the node has to act upon; given out once.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    // --- This node ---

    /// This node describes itself anew; its id and boot stay.
    pub fn describe_me(&mut self, member: Member) {
        if let Some(me) = self.nodes.get_mut(&self.me)
            && me.boot == member.boot
        {
            me.member = Some(Arc::new(member));
            self.own_version += 1;
        }
    }

    /// This node owns a stream, or something about it has changed.
    ///
    /// # Errors
    /// A higher epoch is known: the stream must not be written.
    pub fn own(&mut self, owned: Owned, now: Instant) -> Result<(), Fenced> {
        let key = owned.key();
        self.know_epoch(&key, owned.epoch, now);
        let highest = self.highest_epoch(&key);
        if owned.epoch < highest {
            return Err(self.streams.get(&key).map_or(Fenced { highest, owner: None }, Entry::fence));
        }
        if self.displaced.get(&key).is_some_and(|epoch| *epoch < owned.epoch) {
            self.displaced.remove(&key);
        }
        self.own_version += 1;
        self.put_owned(&self.me.clone(), owned);
        Ok(())
    }

    /// This node owns a stream no longer, if it owned it in this epoch; says whether it did.
    pub fn disown(&mut self, key: &StreamKey, epoch: u64, now: Instant) -> bool {
        let me = self.me.clone();
        let owns = self.owned_epoch(key) == Some(epoch);
        if owns {
            self.displaced.remove(key);
            self.own_version += 1;
            self.remove_owned(&me, key, now);
        }
        owns
    }

    /// This node carries a stream.
    pub fn carry(&mut self, carried: Carried, now: Instant) {
        self.know_epoch(&carried.key(), carried.epoch, now);
        self.own_version += 1;
        self.put_carried(&self.me.clone(), carried);
    }

    /// This node carries a stream no longer.
    pub fn drop_carried(&mut self, key: &StreamKey, now: Instant) {
        self.own_version += 1;
        self.remove_carried(&self.me.clone(), key, now);
    }

    /// The epoch in which this node owns a stream.
    pub fn owned_epoch(&self, key: &StreamKey) -> Option<u64> {
        self.nodes.get(&self.me).and_then(|me| me.owned.get(key)).map(|o| o.epoch)
    }

    // --- Epochs ---

    /// There is, or was, an owner of the stream in this epoch; says whether it is higher than any known before.
    pub fn know_epoch(&mut self, key: &StreamKey, epoch: u64, now: Instant) -> bool {
        if epoch > HIGHEST {
            return false;
        }
        let seen = Seen { epoch, told: None };
        let Some(entry) = self.streams.get_mut(key) else {
            let higher = self.past.get(key).is_none_or(|known| epoch > known.epoch);
            self.past.put(key.clone(), seen, now);
            return higher;
        };
        let higher = entry.seen.merge(seen);
        if higher {
            self.check(key);
        }
        higher
    }

    /// The highest epoch of a stream that was ever seen here; 0 when none is remembered.
    pub fn highest_epoch(&self, key: &StreamKey) -> u64 {
        match self.streams.get(key) {
            Some(entry) => entry.seen.epoch,
            None => self.past.get(key).map_or(0, |seen| seen.epoch),
        }
    }

    /// The fence: whether frames of this epoch may be taken by readers here. When they may, none below it ever will be.
    pub fn admit(&mut self, key: &StreamKey, epoch: u64, now: Instant) -> bool {
        if epoch > HIGHEST || epoch < self.highest_epoch(key) {
            return false;
        }
        self.know_epoch(key, epoch, now);
        true
    }

    // --- What other nodes say ---

    /// A node has connected; this is all that it has.
    pub fn hello(&mut self, member: Member, owned: Vec<Owned>, carried: Vec<Carried>, now: Instant) {
        let (id, boot) = (member.id.clone(), member.boot);
        if id == self.me || (!self.nodes.contains_key(&id) && self.nodes.len() >= MOST_NODES) {
            return;
        }
        let lost = self.times.lost;
        let node = self.nodes.entry(id.clone()).or_insert_with(|| Node::new(boot, now));
        if node.boot != boot {
            // One connection of an earlier run may be read later than the first of the newer one.
            if node.runs.contains(&boot) && (node.linked || node.life.silent_for(now) < lost) {
                return;
            }
            self.supersede(&id, boot, now);
        }
        self.drop_streams(&id, now);
        let Some(node) = self.nodes.get_mut(&id) else { return };
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

    /// To be called every second: finds nodes that are lost, and forgets what is old.
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
        if self.events.len() >= MOST_EVENTS {
            return;
        }
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

    // --- Streams ---

    /// A newer run of a node: what its run before had is gone.
    fn supersede(&mut self, id: &NodeId, boot: BootId, now: Instant) {
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

    fn drop_streams(&mut self, id: &NodeId, now: Instant) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let (owned, carried) = (std::mem::take(&mut node.owned), std::mem::take(&mut node.carried));
        for (key, owned) in owned {
            self.leave(&key, now, |entry| entry.owners.remove(&(owned.epoch, id.clone())));
        }
        for key in carried.into_keys() {
            self.leave(&key, now, |entry| entry.carriers.remove(id));
        }
    }

    fn put_owned(&mut self, id: &NodeId, owned: Owned) {
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

    fn put_carried(&mut self, id: &NodeId, carried: Carried) {
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

    fn remove_owned(&mut self, id: &NodeId, key: &StreamKey, now: Instant) {
        if let Some(owned) = self.nodes.get_mut(id).and_then(|n| n.owned.remove(key)) {
            self.leave(key, now, |entry| entry.owners.remove(&(owned.epoch, id.clone())));
        }
    }

    fn remove_carried(&mut self, id: &NodeId, key: &StreamKey, now: Instant) {
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
    fn check(&mut self, key: &StreamKey) {
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

    fn event(&mut self, event: Event) {
        self.events.push(event);
        self.version += 1;
    }
}
