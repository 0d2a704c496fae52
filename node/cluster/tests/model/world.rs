//! The world: time, what is connected to what, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use sluice_cluster::member::{Carried, NodeId, Owned};
use sluice_cluster::mesh::Changes;
use sluice_media::StreamKey;

use super::node::{Node, Request, Response};
use super::publish::Encoder;
use super::store::{Call, N, Reply, S, Store};

/// For so long things go wrong, ms.
pub(crate) const ROUGH: u64 = 15_000;
/// After so long everything healthy must be in order, ms.
pub(crate) const CALM: u64 = 26_000;
/// Then one more thing happens, in a healthy world, and must be in order after so long, ms.
pub(crate) const AFTER: u64 = 12_000;

/// What happened in all runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) events: u64,
    pub(crate) crashes: u64,
    pub(crate) cuts: u64,
    pub(crate) outages: u64,
    pub(crate) emptied: u64,
    pub(crate) claims: u64,
    pub(crate) yields: u64,
    pub(crate) kept: u64,
    pub(crate) local_leases: u64,
    pub(crate) displaced: u64,
    pub(crate) behind: u64,
    pub(crate) fenced: u64,
    pub(crate) orphans: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        let Tally { runs, events, crashes, cuts, outages, emptied, claims, .. } = other;
        let Tally { yields, kept, local_leases, displaced, behind, fenced, orphans, .. } = other;
        self.runs += runs;
        self.events += events;
        self.crashes += crashes;
        self.cuts += cuts;
        self.outages += outages;
        self.emptied += emptied;
        self.claims += claims;
        self.yields += yields;
        self.kept += kept;
        self.local_leases += local_leases;
        self.displaced += displaced;
        self.behind += behind;
        self.fenced += fenced;
        self.orphans += orphans;
    }
}

/// What a node says over its link to another.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Hello(Vec<Owned>, Vec<Carried>),
    Tick,
    Update(Changes<Owned>, Changes<Carried>),
}

pub(crate) enum Event {
    /// A second has passed on that run of a node.
    Second(N, u32),
    Said {
        link: u64,
        from: N,
        boot: u32,
        to: N,
        say: Say,
    },
    Reset {
        at: N,
        from: N,
        link: u64,
    },
    Ask {
        call: u64,
        from: N,
        to: N,
        request: Request,
    },
    Answer {
        call: u64,
        from: N,
        response: Response,
    },
    AskStore {
        call: u64,
        from: N,
        what: Call,
    },
    StoreAnswers {
        call: u64,
        to: N,
        reply: Reply,
    },
    GiveUp {
        call: u64,
    },
    /// A reader on a node looks for frames of a stream.
    Read(N, u32, S),
    Frame {
        to: N,
        boot: u32,
        stream: S,
        from: N,
        epoch: u64,
        sequence: u64,
        path: Vec<NodeId>,
    },
    Encode(usize),
    Connect(usize),
    /// The connection from that node to an encoder was closed.
    Closed {
        encoder: usize,
        connection: u64,
    },
    /// A node notices that an encoder's connection is dead.
    Noticed {
        at: N,
        boot: u32,
        stream: S,
        connection: u64,
    },
    Linger {
        at: N,
        boot: u32,
        stream: S,
        epoch: u64,
    },
    Rough,
    Heal(N, N),
    HealStore,
    Restart(N),
}

/// One direction of the mesh between two nodes, as its sender sees it.
pub(crate) struct Link {
    pub(crate) id: u64,
    /// The last time something arrived: the other side acknowledges.
    pub(crate) heard: u64,
    /// No message overtakes another.
    pub(crate) last: u64,
    pub(crate) owned: BTreeMap<StreamKey, Owned>,
    pub(crate) carried: BTreeMap<StreamKey, Carried>,
}

/// Whose answer a call waits for.
pub(crate) struct Waiting {
    pub(crate) node: N,
    pub(crate) boot: u32,
    pub(crate) why: super::node::Why,
}

pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) now: u64,
    pub(crate) start: Instant,
    pub(crate) with_store: bool,
    pub(crate) local_leases: bool,
    pub(crate) proxied: bool,
    /// Nothing is ever cut off in this world.
    pub(crate) connected: bool,
    pub(crate) nodes: Vec<Node>,
    pub(crate) store: Store,
    pub(crate) encoders: Vec<Encoder>,
    pub(crate) streams: Vec<StreamKey>,
    pub(crate) links: BTreeMap<(N, N), Link>,
    /// The receivers' side: link, run of the sender, when it was heard last.
    pub(crate) receiving: BTreeMap<(N, N), (u64, u32, u64)>,
    held: BTreeMap<(N, N), Vec<Event>>,
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    pub(crate) cut: BTreeSet<(N, N)>,
    pub(crate) cut_store: BTreeSet<N>,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    pub(crate) written: BTreeMap<(S, u64), (N, u32)>,
    pub(crate) tally: Tally,
    traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let (origins, edges) = (rng.random_range(2..=3), rng.random_range(1..=2));
        let streams = rng.random_range(1..=2);
        let mut world = World {
            now: 0,
            start: Instant::now(),
            with_store: rng.random_bool(0.6),
            local_leases: rng.random_bool(0.8),
            proxied: rng.random_bool(0.3),
            connected: rng.random_bool(0.25),
            nodes: Vec::new(),
            store: Store::default(),
            encoders: Vec::new(),
            streams: (0..streams).map(|s| StreamKey::new("live", format!("s{s}"))).collect(),
            links: BTreeMap::new(),
            receiving: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            cut: BTreeSet::new(),
            cut_store: BTreeSet::new(),
            queue: BTreeMap::new(),
            next: 0,
            written: BTreeMap::new(),
            tally: Tally { runs: 1, ..Tally::default() },
            traced,
            rng,
        };
        for n in 0..origins + edges {
            let rate = world.rng.random_range(950..=1050);
            let ahead = world.rng.random_range(0..3_600_000);
            world.nodes.push(Node::new(n, n < origins, rate, ahead, world.start));
            world.boot(n);
        }
        for stream in 0..streams {
            for rival in [false, true] {
                world.encoders.push(Encoder::new(stream, rival, world.proxied));
                let at =
                    if rival { world.rng.random_range(0..ROUGH) } else { world.rng.random_range(0..2_000) };
                let encoder = world.encoders.len() - 1;
                world.at(at, Event::Connect(encoder));
                world.at(0, Event::Encode(encoder));
            }
        }
        world.trace(|w| {
            format!(
                "seed {seed}: store {}, {origins} origins, {edges} edges, local leases {}",
                w.with_store, w.local_leases
            )
        });
        world.after(500, 1_500, Event::Rough);
        world
    }

    pub(crate) fn trace(&self, what: impl FnOnce(&World) -> String) {
        if self.traced {
            eprintln!("{:>6} {}", self.now, what(self));
        }
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.queue.insert((at.max(self.now), self.next), event);
    }

    /// Somewhere between two delays, ms.
    pub(crate) fn after(&mut self, least: u64, most: u64, event: Event) {
        let delay = self.rng.random_range(least..=most);
        self.at(self.now + delay, event);
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What a node's own clock shows.
    pub(crate) fn clock(&self, node: N) -> Instant {
        let node = &self.nodes[node];
        self.start + Duration::from_millis(node.ahead + self.now * node.rate / 1000)
    }

    pub(crate) fn is_cut(&self, a: N, b: N) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    pub(crate) fn run(mut self) -> Tally {
        self.until(ROUGH);
        self.calm();
        self.until(ROUGH + CALM);
        self.check_all();
        self.last_blow();
        self.until(ROUGH + CALM + AFTER);
        self.check_all();
        self.tally
    }

    fn until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.tally.events += 1;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Second(node, boot) => self.second(node, boot),
            Event::Said { link, from, boot, to, say } => self.said(link, from, boot, to, say),
            Event::Reset { at, from, link } => {
                if !self.is_cut(at, from) {
                    self.link_is_down(at, from, link);
                }
            }
            Event::Ask { call, from, to, request } => self.asked(call, from, to, request),
            Event::Answer { call, from, response } => {
                if let Some(waiting) = self.waiting.get(&call)
                    && !self.is_cut(from, waiting.node)
                    && let Some(waiting) = self.waiting.remove(&call)
                {
                    self.answered(waiting, call, Some(response));
                }
            }
            Event::AskStore { call, from, what } => {
                if self.store.away || self.cut_store.contains(&from) {
                    return;
                }
                // A call may reach the store although the process that made it has died.
                let reply = self.store.call(from, what);
                self.after(1, 10, Event::StoreAnswers { call, to: from, reply });
            }
            Event::StoreAnswers { call, to, reply } => {
                if !self.store.away
                    && !self.cut_store.contains(&to)
                    && let Some(waiting) = self.waiting.remove(&call)
                {
                    self.store_answered(waiting, Some(reply));
                }
            }
            Event::GiveUp { call } => {
                if let Some(waiting) = self.waiting.remove(&call) {
                    if waiting.why.is_store() {
                        self.store_answered(waiting, None);
                    } else {
                        self.answered(waiting, call, None);
                    }
                }
            }
            Event::Read(node, boot, stream) => self.read(node, boot, stream),
            Event::Frame { to, boot, stream, from, epoch, sequence, path } => {
                self.frame(to, boot, stream, from, epoch, sequence, path);
            }
            Event::Encode(encoder) => self.encode(encoder),
            Event::Connect(encoder) => self.connect(encoder),
            Event::Closed { encoder, connection } => self.closed(encoder, connection),
            Event::Noticed { at, boot, stream, connection } => self.noticed(at, boot, stream, connection),
            Event::Linger { at, boot, stream, epoch } => self.lingered(at, boot, stream, epoch),
            Event::Rough => self.rough(),
            Event::Heal(a, b) => self.heal(a, b),
            Event::HealStore => {
                self.store.away = false;
                self.cut_store.clear();
                self.trace(|_| "the store is back".into());
            }
            Event::Restart(node) => self.boot(node),
        }
    }

    // --- The mesh ---

    pub(crate) fn said(&mut self, link: u64, from: N, boot: u32, to: N, say: Say) {
        if self.is_cut(from, to) {
            // The network tries again, until one side gives up.
            self.held.entry((from, to)).or_default().push(Event::Said { link, from, boot, to, say });
            return;
        }
        if !self.nodes[to].up {
            return;
        }
        let current = self.receiving.get(&(to, from)).map(|(id, ..)| *id);
        let is_hello = matches!(say, Say::Hello(..));
        if if is_hello { current.is_some_and(|id| id > link) } else { current != Some(link) } {
            return;
        }
        self.receiving.insert((to, from), (link, boot, self.now));
        if let Some(sent) = self.links.get_mut(&(from, to)).filter(|l| l.id == link) {
            sent.heard = self.now;
        }
        let now = self.clock(to);
        let member = super::node::member(from, boot);
        let core = &mut self.nodes[to].core;
        match say {
            Say::Hello(owned, carried) => {
                // A run that is not believed in is no longer listened to; its node tries again.
                core.hello(member, owned, carried, now);
            }
            Say::Tick => core.tick(member, now),
            Say::Update(owned, carried) => core.update(&member.id, member.boot, owned, carried, now),
        }
        self.react(to);
    }

    fn heal(&mut self, a: N, b: N) {
        self.cut.remove(&(a.min(b), a.max(b)));
        self.trace(|_| format!("{a} and {b} are connected again"));
        for pair in [(a, b), (b, a)] {
            for event in self.held.remove(&pair).unwrap_or_default() {
                self.happen(event);
            }
        }
    }

    /// The receiver's side of a link from another node ends.
    pub(crate) fn link_is_down(&mut self, at: N, from: N, link: u64) {
        if self.receiving.get(&(at, from)).is_some_and(|(id, ..)| *id == link)
            && let Some((_, boot, _)) = self.receiving.remove(&(at, from))
            && self.nodes[at].up
        {
            let member = super::node::member(from, boot);
            self.nodes[at].core.down(&member.id, member.boot);
            self.react(at);
        }
    }

    // --- What goes wrong ---

    fn rough(&mut self) {
        if self.now >= ROUGH {
            return;
        }
        let nodes = self.nodes.len();
        match self.rng.random_range(0..100) {
            0..22 => {
                let node = self.rng.random_range(0..nodes);
                if self.nodes[node].up {
                    self.crash(node);
                    if self.rng.random_bool(0.8) {
                        self.after(100, 9_000, Event::Restart(node));
                    }
                }
            }
            22..52 if !self.connected => {
                let a = self.rng.random_range(0..nodes);
                let others: Vec<N> = if self.rng.random_bool(0.5) {
                    (0..nodes).filter(|b| *b != a).collect()
                } else {
                    (0..nodes).filter(|b| *b != a).choose(&mut self.rng).into_iter().collect()
                };
                self.tally.cuts += 1;
                self.trace(|_| format!("{a} is cut from {others:?}"));
                let for_long = self.rng.random_range(50..9_000);
                for b in others {
                    self.cut.insert((a.min(b), a.max(b)));
                    self.at(self.now + for_long, Event::Heal(a, b));
                }
                if self.rng.random_bool(0.4) {
                    self.cut_store.insert(a);
                    self.at(self.now + for_long, Event::HealStore);
                }
            }
            52..67 if self.with_store => {
                self.tally.outages += 1;
                self.store.away = true;
                // Connections to it break: when it is back, it may have forgotten the nodes.
                self.nodes.iter_mut().for_each(|n| n.registered = false);
                if self.rng.random_bool(0.3) {
                    self.tally.emptied += 1;
                    self.store.empty();
                }
                self.trace(|w| format!("the store is away; it has {:?}", w.store.owners));
                self.after(500, 8_000, Event::HealStore);
            }
            52..67 => {}
            _ => {
                let encoder = self.rng.random_range(0..self.encoders.len());
                self.break_off(encoder);
            }
        }
        self.after(200, 1_800, Event::Rough);
    }

    pub(crate) fn crash(&mut self, node: N) {
        self.tally.crashes += 1;
        self.trace(|_| format!("{node} dies"));
        self.nodes[node].up = false;
        self.waiting.retain(|_, w| w.node != node);
        self.links.retain(|(from, to), _| *from != node && *to != node);
        self.receiving.retain(|(at, _), _| *at != node);
        self.held.retain(|(from, to), _| *from != node && *to != node);
        let heard: Vec<_> = self
            .receiving
            .iter()
            .filter(|((_, from), _)| *from == node)
            .map(|((at, _), r)| (*at, r.0))
            .collect();
        for (at, link) in heard {
            self.after(1, 50, Event::Reset { at, from: node, link });
        }
        for encoder in 0..self.encoders.len() {
            if let Some(c) = self.encoders[encoder].connection.filter(|c| c.node == node) {
                self.after(1, 50, Event::Closed { encoder, connection: c.id });
            }
        }
    }

    fn boot(&mut self, node: N) {
        if self.nodes[node].up || self.nodes[node].buried {
            return;
        }
        // Boot ids are random; that two are the same is not part of this world.
        let boot = (self.number() as u32) << 8 | self.rng.random_range(1..255);
        let now = self.clock(node);
        let started = self.now;
        self.nodes[node].boot(boot & 0x00ff_ffff, started, now);
        let boot = self.nodes[node].boot;
        self.trace(|w| format!("{node} starts as run {:x}", w.nodes[node].boot));
        self.after(0, 200, Event::Second(node, boot));
        if !self.nodes[node].origin {
            for stream in 0..self.streams.len() {
                self.after(0, 300, Event::Read(node, boot, stream));
            }
        }
    }

    /// Everything heals; some of the dead stay dead, and of two publishers of a stream at most one stays.
    fn calm(&mut self) {
        for (a, b) in self.cut.clone() {
            self.heal(a, b);
        }
        self.store.away = false;
        self.cut_store.clear();
        let dead: Vec<N> = (0..self.nodes.len()).filter(|n| !self.nodes[*n].up).collect();
        for node in dead {
            let others = self.nodes.iter().any(|n| n.up && n.origin);
            if !others || self.rng.random_bool(0.5) {
                self.boot(node);
            } else {
                self.nodes[node].buried = true;
            }
        }
        for stream in 0..self.streams.len() {
            let stays = self.rng.random_range(0..4);
            for encoder in [2 * stream, 2 * stream + 1] {
                self.encoders[encoder].wanted =
                    (encoder % 2 == 0 && stays < 2) || (encoder % 2 == 1 && stays == 2);
                if !self.encoders[encoder].wanted {
                    self.break_off(encoder);
                }
            }
        }
        self.trace(|_| "calm".into());
    }
}
