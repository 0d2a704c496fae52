use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_media::StreamKey;

use super::past::{Past, Seen};
use crate::member::{BootId, Carried, Member, NodeId, Owned};
use crate::ownership::Liveness;
use crate::ownership::epoch::HIGHEST;

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
    pub(super) lost: bool,
    pub(super) runs: VecDeque<BootId>,
    // Counters of another run than the one that is believed in.
    pub(super) other: Option<(BootId, Liveness)>,
}

impl Node {
    pub(super) fn new(boot: BootId, now: Instant) -> Self {
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

    pub(super) fn sign(&mut self, now: Instant) {
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

    pub(super) fn is_settled(&self) -> bool {
        self.owners.first().is_none_or(|(epoch, _)| *epoch >= self.seen.epoch)
    }

    pub(super) fn fence(&self) -> Fenced {
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
    pub(super) unsettled: BTreeSet<StreamKey>,
    pub(super) displaced: HashMap<StreamKey, u64>,
    pub(super) events: Vec<Event>,
    pub(super) expired: Option<Instant>,
    pub(super) behind_told: Option<Instant>,
    pub(super) version: u64,
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
            behind_told: None,
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

    /// This node owns a stream still, and something about it has changed; see [`take`](Self::take) for a new one.
    ///
    /// # Errors
    /// A higher epoch is known: the stream must not be written.
    pub fn own(&mut self, owned: Owned, now: Instant) -> Result<(), Fenced> {
        let key = owned.key();
        self.know_epoch(&key, owned.epoch, now);
        let highest = self.highest_epoch(&key);
        if owned.epoch < highest {
            return Err(self.fence(&key));
        }
        if self.displaced.get(&key).is_some_and(|epoch| *epoch < owned.epoch) {
            self.displaced.remove(&key);
        }
        self.own_version += 1;
        self.put_owned(&self.me.clone(), owned);
        Ok(())
    }

    fn fence(&self, key: &StreamKey) -> Fenced {
        let unowned = || Fenced { highest: self.highest_epoch(key), owner: None };
        self.streams.get(key).map_or_else(unowned, Entry::fence)
    }

    /// This node has got the right to a stream, by a claim that knew of epochs up to `known`.
    ///
    /// # Errors
    /// Another epoch has come up since: the claim was too slow, and is to be made again.
    pub fn take(&mut self, owned: Owned, known: u64, now: Instant) -> Result<(), Fenced> {
        let key = owned.key();
        let highest = self.highest_epoch(&key);
        if highest > known && highest != owned.epoch {
            return Err(self.fence(&key));
        }
        self.own(owned, now)
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
}
