//! A node: what the real one does around the directory and the claims, without media and sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sluice_cluster::directory::{self, Core, Times};
use sluice_cluster::member::{BootId, Carried, Load, Member, NodeId, Owned, Ports, Role, Viewers};
use sluice_cluster::mesh::Changes;
use sluice_cluster::ownership::{
    Answer, Claiming, Identity, Numbers, PublisherState, Rules, Step, Stored, Tail, TailAnswer, Verdict,
    second_publisher,
};

use super::store::{Call, N, Reply, S};
use super::world::{Event, Link, Say, Waiting, World};

/// A link on which nothing came for so long is down, ms.
const SILENT: u64 = 3_000;
/// A call of the store takes no longer, ms.
const STORE_LIMIT: u64 = 3_000;
/// After a stream was given away its end is written so much later, unless its new owner has written the beginning, ms.
const END_AFTER: u64 = 3_000;

/// Numbers are reserved so far ahead.
const RESERVE: u64 = 300;

pub(crate) enum Request {
    Yield { stream: S, identity: Identity, waited: Duration },
    Tail(S),
    Behind { stream: S, highest: u64 },
}

pub(crate) enum Response {
    Yielded(TailAnswer),
    Kept,
    NotThere(TailAnswer),
    Tail(TailAnswer),
    /// Nobody listens there.
    Closed,
}

/// What a call was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Yield(S, u64),
    Tail(S, u64, N),
    Nothing,
    Claim(S, u64),
    Heartbeat,
    Settle(S, u64),
    Begin(S, u64),
    Reserve(S),
    Update,
    End(S, u64),
    Recover(N),
}

impl Why {
    pub(crate) fn is_store(&self) -> bool {
        !matches!(self, Why::Yield(..) | Why::Tail(..) | Why::Nothing)
    }
}

pub(crate) struct Lease {
    pub(crate) epoch: u64,
    pub(crate) settled: bool,
    /// Encoder and connection; none while the stream waits for it.
    pub(crate) publisher: Option<(usize, u64)>,
    pub(crate) identity: Identity,
    pub(crate) last_media: u64,
}

pub(crate) struct Claim {
    id: u64,
    machine: Claiming,
    encoder: usize,
    connection: u64,
    asked: BTreeSet<u64>,
    tails: Vec<(NodeId, TailAnswer)>,
}

pub(crate) struct Node {
    pub(crate) n: N,
    pub(crate) origin: bool,
    pub(crate) up: bool,
    /// It never comes back.
    pub(crate) buried: bool,
    pub(crate) boot: u32,
    pub(crate) started: u64,
    pub(crate) core: Core,
    /// Its clock runs at so many ms a second, and is ahead by so many.
    pub(crate) rate: u64,
    pub(crate) ahead: u64,
    pub(crate) leases: BTreeMap<S, Lease>,
    pub(crate) claims: BTreeMap<S, Claim>,
    /// The newest of each stream that it wrote or read: epoch and sequence number.
    pub(crate) media: BTreeMap<S, (u64, u64)>,
    pub(crate) read_at: BTreeMap<S, u64>,
    pub(crate) recovered: bool,
    pub(crate) store_answers: bool,
    /// Its record is in the store, for all that is known: nothing is written as live before, or nobody would ever end it
    /// for a node that died.
    pub(crate) registered: bool,
    lost: BTreeSet<N>,
    ends: BTreeMap<(S, u64), u64>,
    counter: u64,
    seconds: u64,
    told: u64,
}

pub(crate) fn name(n: N) -> NodeId {
    NodeId::new(format!("n{n}"))
}

pub(crate) fn number(id: &NodeId) -> N {
    id.as_str()[1..].parse().expect("a name made by name()")
}

pub(crate) fn member(n: N, boot: u32) -> Member {
    Member {
        id: name(n),
        boot: BootId(boot),
        role: Role::Both,
        group: String::new(),
        version: String::new(),
        host: "h".into(),
        ports: Ports::default(),
        capacity: Default::default(),
        load: Load::default(),
        draining: false,
    }
}

impl Node {
    pub(crate) fn new(n: N, origin: bool, rate: u64, ahead: u64, start: Instant) -> Node {
        Node {
            n,
            origin,
            up: false,
            buried: false,
            boot: 0,
            started: 0,
            core: Core::new(member(n, 0), Times::default(), start),
            rate,
            ahead,
            leases: BTreeMap::new(),
            claims: BTreeMap::new(),
            media: BTreeMap::new(),
            read_at: BTreeMap::new(),
            recovered: false,
            store_answers: true,
            registered: false,
            lost: BTreeSet::new(),
            ends: BTreeMap::new(),
            counter: 0,
            seconds: 0,
            told: 0,
        }
    }

    pub(crate) fn boot(&mut self, boot: u32, started: u64, now: Instant) {
        let core = Core::new(member(self.n, boot), Times::default(), now);
        *self = Node {
            up: true,
            boot,
            started,
            core,
            ..Node::new(self.n, self.origin, self.rate, self.ahead, now)
        };
    }
}

impl World {
    /// A second of a node's own time.
    pub(crate) fn second(&mut self, n: N, boot: u32) {
        if !self.nodes[n].up || self.nodes[n].boot != boot {
            return;
        }
        let again = self.now + 1_000_000 / self.nodes[n].rate;
        self.at(again, Event::Second(n, boot));
        for other in (0..self.nodes.len()).filter(|o| *o != n) {
            if let Some((link, _, heard)) = self.receiving.get(&(n, other)).copied()
                && self.now - heard >= SILENT
            {
                self.link_is_down(n, other, link);
            }
            if self.links.get(&(n, other)).is_some_and(|l| self.now - l.heard >= SILENT) {
                self.links.remove(&(n, other));
            }
            if self.links.contains_key(&(n, other)) {
                self.say(n, other, Say::Tick);
            } else if self.nodes[other].up && !self.is_cut(n, other) {
                self.dial(n, other);
            }
        }
        let now = self.clock(n);
        let leases: Vec<_> = self.nodes[n].leases.iter().map(|(s, l)| (*s, l.epoch)).collect();
        for (stream, epoch) in leases {
            let numbers = self.own_tail(n, stream).unwrap_or_default().numbers();
            // One that is fenced has been displaced.
            let _ = self.nodes[n].core.own(Owned { numbers, ..owned(&self.streams[stream], epoch) }, now);
        }
        self.nodes[n].core.expire(now);
        self.react(n);
        self.nodes[n].seconds += 1;
        if self.with_store {
            self.keep_store(n);
        } else {
            self.nodes[n].recovered = true;
        }
    }

    fn dial(&mut self, n: N, other: N) {
        let id = self.number();
        let core = &self.nodes[n].core;
        let (owned, carried) = (core.owned(), core.carried());
        let link = Link {
            id,
            heard: self.now,
            last: self.now,
            owned: owned.iter().map(|o| (o.key(), o.clone())).collect(),
            carried: carried.iter().map(|c| (c.key(), c.clone())).collect(),
        };
        self.links.insert((n, other), link);
        self.say(n, other, Say::Hello(owned, carried));
    }

    fn say(&mut self, n: N, other: N, say: Say) {
        use rand::Rng;
        let delay = self.rng.random_range(1..20);
        let Some(link) = self.links.get_mut(&(n, other)) else { return };
        link.last = link.last.max(self.now + delay);
        let (at, link) = (link.last, link.id);
        self.at(at, Event::Said { link, from: n, boot: self.nodes[n].boot, to: other, say });
    }

    /// After anything that may have changed the directory: acts upon its events, and tells the others.
    pub(crate) fn react(&mut self, n: N) {
        for event in self.nodes[n].core.events() {
            match event {
                directory::Event::Lost { id, .. } => {
                    self.trace(|_| format!("{n}: {id} is lost"));
                    self.nodes[n].lost.insert(number(&id));
                }
                directory::Event::Displaced { key, epoch, by } => {
                    self.tally.displaced += 1;
                    self.trace(|_| format!("{n}: {key} {epoch:x} is displaced by {by:x?}"));
                    let stream = self.stream(&key);
                    if self.nodes[n].leases.get(&stream).is_some_and(|l| l.epoch == epoch) {
                        self.end_lease(n, stream);
                    }
                }
                directory::Event::Behind { key, owner, highest } => {
                    self.tally.behind += 1;
                    let request = Request::Behind { stream: self.stream(&key), highest };
                    self.ask(n, number(&owner), request, Why::Nothing, 500);
                }
            }
        }
        let version = self.nodes[n].core.own_version();
        if std::mem::replace(&mut self.nodes[n].told, version) != version {
            let core = &self.nodes[n].core;
            let owned: BTreeMap<_, _> = core.owned().into_iter().map(|o| (o.key(), o)).collect();
            let carried: BTreeMap<_, _> = core.carried().into_iter().map(|c| (c.key(), c)).collect();
            for other in 0..self.nodes.len() {
                let Some(link) = self.links.get_mut(&(n, other)) else { continue };
                let update = (changes(&link.owned, &owned), changes(&link.carried, &carried));
                (link.owned, link.carried) = (owned.clone(), carried.clone());
                if !update.0.is_empty() || !update.1.is_empty() {
                    self.say(n, other, Say::Update(update.0, update.1));
                }
            }
        }
    }

    pub(crate) fn stream(&self, key: &sluice_media::StreamKey) -> S {
        self.streams.iter().position(|k| k == key).expect("a stream of this world")
    }

    // --- Calls ---

    fn ask(&mut self, n: N, to: N, request: Request, why: Why, limit: u64) -> u64 {
        let call = self.number();
        self.waiting.insert(call, Waiting { node: n, boot: self.nodes[n].boot, why });
        self.after(1, 20, Event::Ask { call, from: n, to, request });
        self.at(self.now + limit, Event::GiveUp { call });
        call
    }

    fn ask_store(&mut self, n: N, what: Call, why: Why) {
        if !matches!(why, Why::Claim(..)) && self.waiting.values().any(|w| w.node == n && w.why == why) {
            return;
        }
        let call = self.number();
        let boot = self.nodes[n].boot;
        self.waiting.insert(call, Waiting { node: n, boot, why });
        self.after(1, 10, Event::AskStore { call, from: n, what });
        self.at(self.now + STORE_LIMIT, Event::GiveUp { call });
    }

    /// A request from another node arrives.
    pub(crate) fn asked(&mut self, call: u64, from: N, to: N, request: Request) {
        if self.is_cut(from, to) {
            return;
        }
        if !self.nodes[to].up {
            return self.after(1, 20, Event::Answer { call, from: to, response: Response::Closed });
        }
        let now = self.clock(to);
        let response = match request {
            Request::Behind { stream, highest } => {
                let key = self.streams[stream].clone();
                self.nodes[to].core.know_epoch(&key, highest, now);
                self.react(to);
                return;
            }
            Request::Tail(stream) => Response::Tail(self.tail(to, stream)),
            Request::Yield { stream, identity, waited } => {
                match self.would_yield(to, stream, &identity, waited) {
                    None => Response::NotThere(self.tail(to, stream)),
                    Some(Verdict::Refuse) => Response::Kept,
                    Some(Verdict::Yield) => {
                        self.tally.yields += 1;
                        let tail = self.tail(to, stream);
                        self.trace(|_| format!("{to} yields stream {stream} to {from}"));
                        self.end_lease(to, stream);
                        self.react(to);
                        Response::Yielded(tail)
                    }
                    Some(Verdict::LookAgain(wait)) => {
                        let waited = waited + wait;
                        let request = Request::Yield { stream, identity, waited };
                        let at = self.now + wait.as_millis() as u64;
                        return self.at(at, Event::Ask { call, from, to, request });
                    }
                }
            }
        };
        self.after(1, 20, Event::Answer { call, from: to, response });
    }

    pub(crate) fn would_yield(&self, n: N, stream: S, new: &Identity, waited: Duration) -> Option<Verdict> {
        let lease = self.nodes[n].leases.get(&stream)?;
        let state = PublisherState {
            identity: lease.identity.clone(),
            connected: lease.publisher.is_some(),
            silent_for: Duration::from_millis(self.now - lease.last_media),
            moving: false,
        };
        Some(second_publisher(&state, new, waited))
    }

    pub(crate) fn own_tail(&self, n: N, stream: S) -> Option<Tail> {
        self.nodes[n].media.get(&stream).map(|(epoch, media_sequence)| Tail {
            epoch: *epoch,
            media_sequence: *media_sequence,
            ..Tail::default()
        })
    }

    fn tail(&self, n: N, stream: S) -> TailAnswer {
        let known = self.nodes[n].core.highest_epoch(&self.streams[stream]);
        TailAnswer { known, tail: self.own_tail(n, stream) }
    }

    /// An answer from another node, or none in time.
    pub(crate) fn answered(&mut self, waiting: Waiting, call: u64, response: Option<Response>) {
        let Waiting { node: n, boot, why } = waiting;
        if !self.nodes[n].up || self.nodes[n].boot != boot {
            return;
        }
        match why {
            Why::Yield(stream, claim) => {
                let answer = match response {
                    Some(Response::Yielded(tail)) => Answer::Yielded(tail),
                    Some(Response::Kept) => {
                        self.tally.kept += 1;
                        Answer::Kept
                    }
                    Some(Response::NotThere(tail)) => Answer::NotThere(tail),
                    _ => Answer::Unreachable,
                };
                self.claim_goes_on(n, stream, claim, answer);
            }
            Why::Tail(stream, id, from) => {
                let Some(claim) = self.nodes[n].claims.get_mut(&stream).filter(|c| c.id == id) else {
                    return;
                };
                claim.asked.remove(&call);
                if let Some(Response::Tail(tail)) = response {
                    claim.tails.push((name(from), tail));
                }
                if claim.asked.is_empty() {
                    let tails = std::mem::take(&mut claim.tails);
                    self.claim_goes_on(n, stream, id, Answer::Tails(tails));
                }
            }
            _ => {}
        }
    }

    // --- Claims ---

    /// A publisher has come for a stream that this node does not own.
    pub(crate) fn start_claim(&mut self, n: N, stream: S, encoder: usize, connection: u64) {
        let rules =
            Rules { node: name(n), boot: BootId(self.nodes[n].boot), local_leases: self.local_leases };
        let stored = match (self.with_store, self.nodes[n].store_answers) {
            (false, _) => Stored::Nowhere,
            (true, true) => Stored::Shared,
            (true, false) => Stored::Away,
        };
        let view = self.nodes[n].core.view(&self.streams[stream]);
        let (machine, step) = Claiming::start(rules, stored, view, self.own_tail(n, stream));
        let id = self.number();
        let claim = Claim { id, machine, encoder, connection, asked: BTreeSet::new(), tails: Vec::new() };
        self.nodes[n].claims.insert(stream, claim);
        self.tally.claims += 1;
        self.do_step(n, stream, id, step);
    }

    fn claim_goes_on(&mut self, n: N, stream: S, id: u64, answer: Answer) {
        let Some(claim) = self.nodes[n].claims.get_mut(&stream).filter(|c| c.id == id) else { return };
        let step = claim.machine.on(answer);
        self.do_step(n, stream, id, step);
    }

    fn do_step(&mut self, n: N, stream: S, id: u64, step: Step) {
        let limit = Claiming::limit(&step).map_or(0, |l| l.as_millis() as u64);
        let why = Why::Claim(stream, id);
        match step {
            Step::AskOwner => self.ask_store(n, Call::Owner(stream), why),
            Step::Claim { known } => self.ask_store(n, Call::Claim { stream, known }, why),
            Step::Adopt { epoch, numbers } => {
                let numbers = ahead(numbers);
                self.ask_store(n, Call::Adopt { stream, epoch, numbers }, why);
            }
            Step::AskYield { node } => {
                let encoder = self.nodes[n].claims[&stream].encoder;
                let identity = self.encoders[encoder].identity.clone();
                let request = Request::Yield { stream, identity, waited: Duration::ZERO };
                self.ask(n, number(&node), request, Why::Yield(stream, id), limit);
            }
            Step::AskTails { nodes } => {
                for node in nodes {
                    let why = Why::Tail(stream, id, number(&node));
                    let call = self.ask(n, number(&node), Request::Tail(stream), why, limit);
                    if let Some(claim) = self.nodes[n].claims.get_mut(&stream) {
                        claim.asked.insert(call);
                    }
                }
            }
            Step::Refused(why) => {
                self.trace(|_| format!("{n}: publisher of {stream} refused: {why}"));
                if let Some(claim) = self.nodes[n].claims.remove(&stream) {
                    self.after(1, 20, Event::Closed { encoder: claim.encoder, connection: claim.connection });
                }
            }
            Step::Granted(lease) => self.granted(n, stream, lease),
        }
    }

    fn granted(&mut self, n: N, stream: S, lease: sluice_cluster::ownership::Lease) {
        let Some(claim) = self.nodes[n].claims.remove(&stream) else { return };
        let (epoch, settled) = (lease.epoch, lease.settled);
        self.trace(|_| format!("{n}: owns {stream} in {epoch:x}, settled {settled}, {:?}", lease.numbers));
        self.tally.local_leases += u64::from(!settled);
        let now = self.clock(n);
        let mine = Owned { numbers: lease.numbers, ..owned(&self.streams[stream], epoch) };
        if let Err(by) = self.nodes[n].core.take(mine, lease.known, now) {
            self.trace(|_| format!("{n}: too late: {by:x?}"));
            self.tally.fenced += 1;
            self.after(1, 20, Event::Closed { encoder: claim.encoder, connection: claim.connection });
            return;
        }
        self.nodes[n].media.insert(stream, (epoch, lease.numbers.media_sequence));
        let lease = Lease {
            epoch,
            settled: settled && !self.with_store,
            publisher: None,
            identity: self.encoders[claim.encoder].identity.clone(),
            last_media: self.now,
        };
        self.nodes[n].leases.insert(stream, lease);
        self.write(n, stream);
        if settled && self.with_store && self.nodes[n].registered {
            self.ask_store(n, Call::BeginLive { stream, epoch }, Why::Begin(stream, epoch));
        }
        self.take(n, stream, claim.encoder, claim.connection);
        self.react(n);
    }

    /// The stream is this node's no longer.
    pub(crate) fn end_lease(&mut self, n: N, stream: S) {
        let now = self.clock(n);
        let Some(lease) = self.nodes[n].leases.remove(&stream) else { return };
        self.trace(|_| format!("{n}: leaves {stream} {:x}", lease.epoch));
        let key = self.streams[stream].clone();
        self.nodes[n].core.disown(&key, lease.epoch, now);
        if self.with_store {
            self.nodes[n].ends.insert((stream, lease.epoch), self.now + END_AFTER);
        }
        if let Some((encoder, connection)) = lease.publisher {
            self.after(1, 20, Event::Closed { encoder, connection });
        }
    }

    // --- The store ---

    fn keep_store(&mut self, n: N) {
        let node = &mut self.nodes[n];
        if node.seconds % 2 == 1 || !node.registered {
            node.counter += 1;
            let (boot, counter) = (node.boot, node.counter);
            self.ask_store(n, Call::Heartbeat { boot, counter }, Why::Heartbeat);
        }
        let node = &self.nodes[n];
        if !node.store_answers || !node.registered {
            return;
        }
        if !node.recovered {
            return self.ask_store(n, Call::Recover(n), Why::Recover(n));
        }
        let seconds = node.seconds;
        let (settled, unsettled): (Vec<_>, Vec<_>) =
            node.leases.iter().map(|(s, l)| (*s, l.epoch, l.settled)).partition(|(.., settled)| *settled);
        let ends: Vec<_> =
            node.ends.iter().filter(|(_, due)| **due <= self.now).map(|(end, _)| *end).collect();
        for (stream, epoch, _) in unsettled {
            let numbers = ahead(self.own_tail(n, stream).unwrap_or_default().numbers());
            self.ask_store(n, Call::Adopt { stream, epoch, numbers }, Why::Settle(stream, epoch));
        }
        if seconds.is_multiple_of(3) && !settled.is_empty() {
            let all: Vec<_> = settled.into_iter().map(|(s, e, _)| (s, e)).collect();
            for (stream, epoch) in all.iter().copied() {
                let numbers = ahead(self.own_tail(n, stream).unwrap_or_default().numbers());
                self.ask_store(n, Call::Reserve { stream, epoch, numbers }, Why::Reserve(stream));
            }
            self.ask_store(n, Call::UpdateLive(all), Why::Update);
        }
        for (stream, epoch) in ends {
            self.ask_store(n, Call::EndLive { stream, epoch }, Why::End(stream, epoch));
        }
        let now = self.clock(n);
        for lost in self.nodes[n].lost.clone() {
            let view = self.nodes[n].core.member(&name(lost), now);
            // One that is back settles what its run before left.
            if view.is_some_and(|v| v.reachable || v.heard_ago.is_some_and(|ago| ago < Times::default().lost))
            {
                self.nodes[n].lost.remove(&lost);
            } else {
                self.ask_store(n, Call::Recover(lost), Why::Recover(lost));
            }
        }
    }

    /// The store's answer, or none in time.
    pub(crate) fn store_answered(&mut self, waiting: Waiting, reply: Option<Reply>) {
        let Waiting { node: n, boot, why } = waiting;
        if !self.nodes[n].up || self.nodes[n].boot != boot {
            return;
        }
        self.nodes[n].store_answers = reply.is_some();
        self.nodes[n].registered &= reply.is_some();
        let now = self.clock(n);
        match (why, reply) {
            (Why::Claim(stream, id), reply) => {
                let answer = match reply {
                    None => Answer::Away,
                    Some(Reply::Owner(owner)) => Answer::Owner(owner.map(|(n, epoch)| (name(n), epoch))),
                    Some(Reply::Claimed { epoch, reserve }) => Answer::Claimed { epoch, reserve },
                    Some(Reply::Fenced(current)) => Answer::Fenced { current },
                    Some(_) => Answer::Adopted,
                };
                self.claim_goes_on(n, stream, id, answer);
            }
            (Why::Heartbeat, Some(Reply::Nodes(nodes))) => {
                self.nodes[n].registered = true;
                for (other, boot, counter) in nodes {
                    self.nodes[n].core.heard(&name(other), BootId(boot), counter, now);
                }
            }
            (Why::Settle(stream, epoch), Some(Reply::Done)) => {
                self.ask_store(n, Call::BeginLive { stream, epoch }, Why::Begin(stream, epoch));
            }
            (Why::Begin(stream, epoch), Some(Reply::Done)) => {
                if let Some(lease) = self.nodes[n].leases.get_mut(&stream).filter(|l| l.epoch == epoch) {
                    lease.settled = true;
                }
            }
            (
                Why::Settle(stream, _) | Why::Begin(stream, _) | Why::Reserve(stream),
                Some(Reply::Fenced(current)),
            ) => {
                let key = self.streams[stream].clone();
                self.nodes[n].core.know_epoch(&key, current, now);
            }
            (Why::Update | Why::Reserve(_), Some(Reply::NotWritten(gone))) => {
                self.nodes[n].registered &= gone.is_empty();
                for (stream, epoch) in gone {
                    if let Some(lease) = self.nodes[n].leases.get_mut(&stream).filter(|l| l.epoch == epoch) {
                        lease.settled = false;
                    }
                }
            }
            (Why::End(stream, epoch), Some(_)) => {
                self.nodes[n].ends.remove(&(stream, epoch));
            }
            (Why::Recover(other), Some(_)) if other == n => self.nodes[n].recovered = true,
            (Why::Recover(other), Some(_)) => {
                self.nodes[n].lost.remove(&other);
            }
            _ => {}
        }
        self.react(n);
    }
}

pub(crate) fn owned(key: &sluice_media::StreamKey, epoch: u64) -> Owned {
    Owned {
        app: key.app.clone(),
        id: key.id.clone(),
        epoch,
        interrupted: false,
        bitrate: 0,
        viewers: Viewers::default(),
        numbers: Numbers::default(),
        part: None,
    }
}

/// Those that are reserved while these are in use.
fn ahead(numbers: Numbers) -> Numbers {
    Numbers { media_sequence: numbers.media_sequence + RESERVE, ..numbers }
}

fn changes<T: Clone + PartialEq>(
    before: &BTreeMap<sluice_media::StreamKey, T>,
    after: &BTreeMap<sluice_media::StreamKey, T>,
) -> Changes<T> {
    let put = after.iter().filter(|(key, value)| before.get(key) != Some(value)).map(|(_, v)| v.clone());
    let gone = before.keys().filter(|key| !after.contains_key(key)).map(|k| (k.app.clone(), k.id.clone()));
    Changes { put: put.collect(), gone: gone.collect() }
}

/// What a reader tells the others when it has a stream.
pub(crate) fn carried(key: &sluice_media::StreamKey, epoch: u64, path: Vec<NodeId>) -> Carried {
    Carried { app: key.app.clone(), id: key.id.clone(), epoch, path, viewers: Viewers::default() }
}
