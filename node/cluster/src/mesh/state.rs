//! What this node tells, and how that differs from what it told before. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;

use super::Changes;
use super::message::{self, Message};
use crate::member::{Carried, Load, Member, Owned};

/// The name of a stream: app and id.
pub(super) type Key = (Arc<str>, Arc<str>);

/// A stream as it is told: what matters at once, and statistics, which can wait.
pub(super) trait Told: Clone + PartialEq {
    fn name(&self) -> Key;
    /// Whether more than statistics differs.
    fn differs(&self, other: &Self) -> bool;
}

impl Told for Owned {
    fn name(&self) -> Key {
        (self.app.clone(), self.id.clone())
    }

    fn differs(&self, other: &Self) -> bool {
        (self.epoch, self.interrupted, &self.part) != (other.epoch, other.interrupted, &other.part)
    }
}

impl Told for Carried {
    fn name(&self) -> Key {
        (self.app.clone(), self.id.clone())
    }

    fn differs(&self, other: &Self) -> bool {
        (self.epoch, &self.path) != (other.epoch, &other.path)
    }
}

type Streams<T> = HashMap<Key, T>;

/// One state of this node, shared by all links.
pub(super) struct State {
    /// Grows when streams change.
    pub(super) version: u64,
    /// Grows when the member is to be told.
    pub(super) ticks: u64,
    pub(super) member: Member,
    owned: Arc<Streams<Owned>>,
    carried: Arc<Streams<Carried>>,
    /// What tells the difference from the version before.
    delta: Vec<Bytes>,
    tick: Bytes,
}

impl State {
    pub(super) fn first(member: Member, owned: Vec<Owned>, carried: Vec<Carried>) -> State {
        let member = sane(member);
        State {
            version: 0,
            ticks: 0,
            tick: Message::Tick { counter: 0, member: member.clone() }.encode(),
            member,
            owned: Arc::new(by_key(owned)),
            carried: Arc::new(by_key(carried)),
            delta: Vec::new(),
        }
    }

    /// The state that follows, `None` when there is nothing to tell. Without `tick`, statistics and load stay what was told
    /// last.
    pub(super) fn next(
        &self,
        member: Member,
        owned: Vec<Owned>,
        carried: Vec<Carried>,
        tick: bool,
    ) -> Option<State> {
        let member = sane(member);
        let (owned, owned_changes) = follow(&self.owned, owned, tick);
        let (carried, carried_changes) = follow(&self.carried, carried, tick);
        let delta = message::update(owned_changes, carried_changes);
        let tick = tick || without_load(&member) != without_load(&self.member);
        if delta.is_empty() && !tick {
            return None;
        }
        let ticks = self.ticks + u64::from(tick);
        Some(State {
            version: self.version + u64::from(!delta.is_empty()),
            ticks,
            tick: match tick {
                true => Message::Tick { counter: ticks, member: member.clone() }.encode(),
                false => self.tick.clone(),
            },
            member,
            owned: owned.map_or_else(|| self.owned.clone(), Arc::new),
            carried: carried.map_or_else(|| self.carried.clone(), Arc::new),
            delta: if delta.is_empty() { self.delta.clone() } else { delta },
        })
    }

    /// The messages that tell all.
    pub(super) fn hello(&self) -> Vec<Bytes> {
        message::hello(
            &self.member,
            self.owned.values().cloned().collect(),
            self.carried.values().cloned().collect(),
        )
    }

    /// The messages for one who was told `before`.
    pub(super) fn since(&self, before: &State) -> Vec<Bytes> {
        let mut messages = match self.version - before.version {
            0 => Vec::new(),
            1 => self.delta.clone(),
            _ => message::update(
                difference(&before.owned, &self.owned),
                difference(&before.carried, &self.carried),
            ),
        };
        if self.ticks > before.ticks {
            messages.push(self.tick.clone());
        }
        messages
    }
}

fn by_key<T: Told>(streams: Vec<T>) -> Streams<T> {
    streams.into_iter().map(|stream| (stream.name(), stream)).collect()
}

/// What is to be told now (`None`: as before), and the changes to get there.
fn follow<T: Told>(told: &Streams<T>, now: Vec<T>, statistics: bool) -> (Option<Streams<T>>, Changes<T>) {
    let mut now = by_key(now);
    let mut changes = Changes::default();
    for (key, stream) in &mut now {
        match told.get(key) {
            Some(before) if !stream.differs(before) && !statistics => *stream = before.clone(),
            Some(before) if before == stream => {}
            _ => changes.put.push(stream.clone()),
        }
    }
    changes.gone = missing(told, &now);
    if changes.is_empty() { (None, changes) } else { (Some(now), changes) }
}

fn difference<T: Told>(before: &Streams<T>, now: &Streams<T>) -> Changes<T> {
    let put = now.iter().filter(|(key, stream)| before.get(*key) != Some(*stream));
    Changes { put: put.map(|(_, stream)| stream.clone()).collect(), gone: missing(before, now) }
}

fn missing<K: Hash + Eq + Clone, T>(before: &HashMap<K, T>, now: &HashMap<K, T>) -> Vec<K> {
    before.keys().filter(|key| !now.contains_key(*key)).cloned().collect()
}

fn without_load(member: &Member) -> Member {
    Member { load: Load::default(), ..member.clone() }
}

/// JSON has no words for what is not a number.
fn sane(mut member: Member) -> Member {
    let load = &mut member.load;
    for value in [&mut load.cpu_percent, &mut load.memory_percent, &mut load.store_ms] {
        if !value.is_finite() {
            *value = 0.0;
        }
    }
    member
}

#[cfg(test)]
mod tests;
