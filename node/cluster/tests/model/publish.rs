//! Encoders, and the readers of what they send.

use std::time::Duration;

use rand::Rng;
use sluice_cluster::member::NodeId;
use sluice_cluster::ownership::{Identity, Verdict};

use super::check::REFUSED;
use super::node::{carried, name, number};
use super::store::{N, S};
use super::world::{CALM, Event, ROUGH, World};

/// A stream stays for so long after its publisher was noticed to be gone, ms.
const LINGER: u64 = 3_000;
/// A node that has just started takes no publishers before it had the time to hear of the others, ms.
const INTRODUCED: u64 = 1_500;
/// An encoder sends something so often, ms.
const FRAME: u64 = 500;
/// So many frames may be on their way to a reader.
const ON_THE_WAY: u64 = 2;
/// A reader that finds no source for so long gives up carrying the stream, ms.
const NO_SOURCE: u64 = 2_000;

#[derive(Clone, Copy)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) node: N,
    pub(crate) accepted: bool,
}

pub(crate) struct Encoder {
    pub(crate) stream: S,
    pub(crate) identity: Identity,
    pub(crate) wanted: bool,
    pub(crate) connection: Option<Connection>,
    waits_since: Option<u64>,
}

impl Encoder {
    pub(crate) fn new(stream: S, rival: bool, proxied: bool) -> Encoder {
        let address = (!proxied).then(|| [10, 0, stream as u8, u8::from(rival)].into());
        let identity = Identity { address, user_agent: "OBS".into(), query: Vec::new() };
        Encoder { stream, identity, wanted: true, connection: None, waits_since: None }
    }
}

impl World {
    /// An encoder tries a random origin, as through a load balancer.
    pub(crate) fn connect(&mut self, e: usize) {
        if !self.encoders[e].wanted || self.encoders[e].connection.is_some() {
            return;
        }
        let now = self.now;
        self.encoders[e].waits_since.get_or_insert(now);
        // The balancer's health checks find those that stay dead.
        let origins: Vec<N> = self.nodes.iter().filter(|n| n.origin && !n.buried).map(|n| n.n).collect();
        let node = origins[self.rng.random_range(0..origins.len())];
        if !self.nodes[node].up {
            return self.after(50, 500, Event::Connect(e));
        }
        let id = self.number();
        self.encoders[e].connection = Some(Connection { id, node, accepted: false });
        self.admit(node, e, id);
    }

    fn admit(&mut self, n: N, e: usize, connection: u64) {
        let stream = self.encoders[e].stream;
        let identity = self.encoders[e].identity.clone();
        if self.now - self.nodes[n].started < INTRODUCED {
            return self.after(1, 20, Event::Closed { encoder: e, connection });
        }
        match self.would_yield(n, stream, &identity, Duration::ZERO) {
            Some(Verdict::Yield) => {
                if let Some((old, id)) =
                    self.nodes[n].leases.get_mut(&stream).and_then(|l| l.publisher.take())
                {
                    self.after(1, 20, Event::Closed { encoder: old, connection: id });
                }
                self.take(n, stream, e, connection);
            }
            None if self.nodes[n].recovered && !self.nodes[n].claims.contains_key(&stream) => {
                self.start_claim(n, stream, e, connection);
            }
            // The store is known to be away: what the run before left is settled later, before anything is adopted.
            None if !self.nodes[n].store_answers && !self.nodes[n].claims.contains_key(&stream) => {
                self.start_claim(n, stream, e, connection);
            }
            _ => self.after(1, 20, Event::Closed { encoder: e, connection }),
        }
    }

    /// The stream's publisher is this one from now on, if it is still there.
    pub(crate) fn take(&mut self, n: N, stream: S, e: usize, connection: u64) {
        let now = self.now;
        let identity = self.encoders[e].identity.clone();
        let Some(lease) = self.nodes[n].leases.get_mut(&stream) else { return };
        let epoch = lease.epoch;
        lease.identity = identity;
        lease.last_media = now;
        match self.encoders[e].connection.as_mut().filter(|c| c.id == connection) {
            Some(c) => {
                c.accepted = true;
                lease.publisher = Some((e, connection));
                let since = self.encoders[e].waits_since.take().unwrap_or(now);
                self.trace(|_| format!("{n}: encoder {e} publishes {stream} after {} ms", now - since));
                if since >= ROUGH + CALM {
                    assert!(
                        now - since <= REFUSED,
                        "in a healthy world encoder {e} waited {} ms",
                        now - since
                    );
                }
            }
            None => {
                let boot = self.nodes[n].boot;
                self.at(now + LINGER, Event::Linger { at: n, boot, stream, epoch });
            }
        }
    }

    pub(crate) fn encode(&mut self, e: usize) {
        self.at(self.now + FRAME, Event::Encode(e));
        let Some(c) = self.encoders[e].connection.filter(|c| c.accepted) else { return };
        let stream = self.encoders[e].stream;
        let now = self.now;
        let node = &mut self.nodes[c.node];
        let Some(lease) = node.leases.get_mut(&stream).filter(|l| l.publisher == Some((e, c.id))) else {
            return;
        };
        lease.last_media = now;
        if let Some((_, sequence)) = node.media.get_mut(&stream) {
            *sequence += 1;
        }
        self.write(c.node, stream);
    }

    /// Its connection breaks; the node may notice late.
    pub(crate) fn break_off(&mut self, e: usize) {
        let Some(c) = self.encoders[e].connection.take() else { return };
        self.trace(|_| format!("encoder {e} breaks off from {}", c.node));
        self.encoders[e].waits_since = Some(self.now);
        let (at, boot, stream) = (c.node, self.nodes[c.node].boot, self.encoders[e].stream);
        let (least, most) = if self.rng.random_bool(0.5) { (1, 50) } else { (1_000, 8_000) };
        self.after(least, most, Event::Noticed { at, boot, stream, connection: c.id });
        self.after(10, 800, Event::Connect(e));
    }

    pub(crate) fn closed(&mut self, e: usize, connection: u64) {
        if self.encoders[e].connection.is_some_and(|c| c.id == connection) {
            self.encoders[e].connection = None;
            let now = self.now;
            self.encoders[e].waits_since.get_or_insert(now);
            self.after(300, 1_000, Event::Connect(e));
        }
    }

    pub(crate) fn noticed(&mut self, n: N, boot: u32, stream: S, connection: u64) {
        let now = self.now;
        let node = &mut self.nodes[n];
        if !node.up || node.boot != boot {
            return;
        }
        let lease = node.leases.get_mut(&stream);
        if let Some(lease) = lease.filter(|l| l.publisher.is_some_and(|(_, c)| c == connection)) {
            lease.publisher = None;
            let epoch = lease.epoch;
            self.at(now + LINGER, Event::Linger { at: n, boot, stream, epoch });
        }
    }

    pub(crate) fn lingered(&mut self, n: N, boot: u32, stream: S, epoch: u64) {
        let node = &self.nodes[n];
        let waits = |l: &super::node::Lease| l.epoch == epoch && l.publisher.is_none();
        if node.up && node.boot == boot && node.leases.get(&stream).is_some_and(waits) {
            self.end_lease(n, stream);
            self.react(n);
        }
    }

    // --- Readers ---

    pub(crate) fn read(&mut self, n: N, boot: u32, stream: S) {
        if !self.nodes[n].up || self.nodes[n].boot != boot {
            return;
        }
        self.after(300, 500, Event::Read(n, boot, stream));
        let key = self.streams[stream].clone();
        for source in self.nodes[n].core.sources(&key) {
            let from = number(&source.node);
            if !self.nodes[from].up || self.is_cut(n, from) {
                continue;
            }
            let Some((epoch, sequence)) = self.nodes[from].media.get(&stream).copied() else { continue };
            let mut path = match self.nodes[from].leases.get(&stream) {
                Some(_) => Vec::new(),
                None => match self.nodes[from].core.carried().into_iter().find(|c| c.key() == key) {
                    Some(carried) => carried.path,
                    None => continue,
                },
            };
            path.push(name(from));
            if path.contains(&name(n)) {
                continue;
            }
            let frame = Event::Frame { to: n, boot, stream, from, epoch, sequence, path };
            // On a slow way frames of an owner may come after those of the next.
            return self.after(1, 400, frame);
        }
        if self.nodes[n].read_at.get(&stream).is_some_and(|at| self.now - at > NO_SOURCE) {
            let now = self.clock(n);
            self.nodes[n].read_at.remove(&stream);
            self.nodes[n].core.drop_carried(&key, now);
            self.react(n);
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn frame(
        &mut self,
        n: N,
        boot: u32,
        stream: S,
        from: N,
        epoch: u64,
        sequence: u64,
        path: Vec<NodeId>,
    ) {
        if !self.nodes[n].up || self.nodes[n].boot != boot || self.is_cut(n, from) {
            return;
        }
        let (now, key) = (self.clock(n), self.streams[stream].clone());
        if !self.nodes[n].core.admit(&key, epoch, now) {
            self.tally.fenced += 1;
            return;
        }
        let (newest, last) = self.nodes[n].media.get(&stream).copied().unwrap_or_default();
        assert!(epoch >= newest, "reader {n} of {stream} went back from {newest:x} to {epoch:x}");
        if self.connected && epoch > newest {
            // What was on its way to readers when they were asked is all that may be used twice.
            assert!(sequence + ON_THE_WAY >= last, "{stream} went back for {n} from {last} to {sequence}");
        }
        let sequence = if epoch == newest { sequence.max(last) } else { sequence };
        self.nodes[n].media.insert(stream, (epoch, sequence));
        self.nodes[n].read_at.insert(stream, self.now);
        self.nodes[n].core.carry(carried(&key, epoch, path), now);
        self.react(n);
    }
}
