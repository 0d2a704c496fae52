//! The shared store: each call is atomic; it may be away, and it may come back empty.

use std::collections::BTreeMap;

use sluice_cluster::ownership::{Numbers, granted_after};

/// The number of a node in the world.
pub(crate) type N = usize;
/// The number of a stream in the world.
pub(crate) type S = usize;

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Owner(S),
    Claim {
        stream: S,
        known: u64,
    },
    Adopt {
        stream: S,
        epoch: u64,
        numbers: Numbers,
    },
    BeginLive {
        stream: S,
        epoch: u64,
    },
    /// Numbers reserved ahead for the owner.
    Reserve {
        stream: S,
        epoch: u64,
        numbers: Numbers,
    },
    /// Streams and epochs.
    UpdateLive(Vec<(S, u64)>),
    EndLive {
        stream: S,
        epoch: u64,
    },
    /// Ends what a node left live.
    Recover(N),
    /// Writes the caller's heartbeat and reads all.
    Heartbeat {
        boot: u32,
        counter: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Owner(Option<(N, u64)>),
    Claimed { epoch: u64, reserve: Numbers },
    Done,
    Fenced(u64),
    NotWritten(Vec<(S, u64)>),
    Nodes(Vec<(N, u32, u64)>),
}

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) away: bool,
    /// Epoch, node, reserved numbers.
    pub(crate) owners: BTreeMap<S, (u64, N, Numbers)>,
    /// What is listed as broadcasting: node and epoch.
    pub(crate) live: BTreeMap<S, (N, u64)>,
    nodes: BTreeMap<N, (u32, u64)>,
}

impl Store {
    pub(crate) fn empty(&mut self) {
        *self = Store { away: self.away, ..Store::default() };
    }

    pub(crate) fn call(&mut self, from: N, call: Call) -> Reply {
        match call {
            Call::Owner(stream) => Reply::Owner(self.live.get(&stream).copied()),
            Call::Claim { stream, known } => {
                let (epoch, node, numbers) = self.owners.entry(stream).or_default();
                *epoch = granted_after(known.max(*epoch));
                *node = from;
                Reply::Claimed { epoch: *epoch, reserve: *numbers }
            }
            Call::Adopt { stream, epoch, numbers } => {
                let (stored, node, reserve) = self.owners.entry(stream).or_default();
                if *stored > epoch || (*stored == epoch && *node != from) {
                    return Reply::Fenced(*stored);
                }
                (*stored, *node, *reserve) = (epoch, from, reserve.max(numbers));
                Reply::Done
            }
            Call::BeginLive { stream, epoch } => {
                let live = self.live.get(&stream).map_or(0, |(_, epoch)| *epoch);
                let owned = self.owners.get(&stream).map_or(0, |(epoch, ..)| *epoch);
                if live.max(owned) > epoch {
                    return Reply::Fenced(live.max(owned));
                }
                self.live.insert(stream, (from, epoch));
                Reply::Done
            }
            Call::Reserve { stream, epoch, numbers } => match self.owners.get_mut(&stream) {
                Some((stored, _, _)) if *stored > epoch => Reply::Fenced(*stored),
                Some((stored, node, reserve)) if *stored == epoch && *node == from => {
                    *reserve = reserve.max(numbers);
                    Reply::Done
                }
                _ => Reply::NotWritten(vec![(stream, epoch)]),
            },
            Call::UpdateLive(streams) => {
                let lost = |(stream, epoch): &(S, u64)| self.live.get(stream) != Some(&(from, *epoch));
                Reply::NotWritten(streams.into_iter().filter(lost).collect())
            }
            Call::EndLive { stream, epoch } => {
                if self.live.get(&stream).is_some_and(|(_, e)| *e == epoch) {
                    self.live.remove(&stream);
                }
                Reply::Done
            }
            Call::Recover(node) => {
                self.live.retain(|_, (of, _)| *of != node);
                Reply::Done
            }
            Call::Heartbeat { boot, counter } => {
                self.nodes.insert(from, (boot, counter));
                let others = self.nodes.iter().filter(|(n, _)| **n != from);
                Reply::Nodes(others.map(|(n, (boot, counter))| (*n, *boot, *counter)).collect())
            }
        }
    }
}
