//! One loop: its sockets, its sessions, and what they wait for. Nothing in here blocks or waits but [`Shard::wait`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Closed;
use super::SessionId;
use super::bell::{Bell, Rung};
use super::counters::{Tally, count};
use super::demux::{Addresses, News, Owner};
use super::mailbox::Ending;
use super::net::Net;
use super::registry::{Found, Registry};
use super::session::{Context, Driven, Over, Waiting};
use super::socket::{BATCH, Outlet, Received, Receiver};
use super::stun::is_stun;
use super::tcp::{Accepted, Arrived, Connection};
use super::timers::Timers;
use super::viewers::Viewers;
use crate::peer::{Path, ufrag_of};

/// Receive calls of one socket before the rest gets its turn.
const BATCHES: usize = 16;
/// Datagrams from other loops and from connections before the rest gets its turn.
const TURNS: usize = 256;
/// Datagrams that wait to be handed to another loop, and connections.
pub(super) const INBOX: usize = 1024;

/// Turns that tasks get at the end.
const LAST_TURNS: usize = 8;

/// What a loop is handed.
pub(super) enum Inbound {
    /// A datagram that came to that other loop.
    Datagram(Path, BytesMut, usize),
    /// That other loop tells whose the datagrams from an address are that come to this one.
    News(SocketAddr, usize, News),
    /// A connection that is a session's of this loop, or of one that waits.
    Connection(Box<Accepted>),
    /// A session with somebody whom we call.
    Call(Box<Call>),
}

/// A session that begins with us: we call the other side, instead of waiting for it.
pub(super) struct Call {
    pub(super) waiting: Box<Waiting>,
    /// Its own socket.
    pub(super) socket: std::net::UdpSocket,
    /// Where the other side may be, the preferred first.
    pub(super) candidates: Vec<SocketAddr>,
}

/// How the others reach a loop.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) inbox: mpsc::Sender<Inbound>,
    pub(super) bell: Arc<Bell>,
    pub(super) tally: Arc<Tally>,
}

/// One loop.
pub(super) struct Shard {
    index: usize,
    registry: Arc<Registry>,
    context: Context,
    net: Net,
    addresses: Addresses,
    sessions: HashMap<SessionId, Box<Driven>>,
    viewers: Viewers,
    timers: Timers,
    inbox: mpsc::Receiver<Inbound>,
    arrived: mpsc::Receiver<Arrived>,
    arrive: mpsc::Sender<Arrived>,
    serial: u64,
    rung: Rung,
}

impl Shard {
    /// Must be called inside the loop's runtime.
    ///
    /// # Errors
    /// A socket lacks an option that is needed.
    pub(super) fn new(
        index: usize,
        registry: Arc<Registry>,
        doors: Arc<[Door]>,
        context: Context,
        sockets: Vec<std::net::UdpSocket>,
        inbox: mpsc::Receiver<Inbound>,
    ) -> io::Result<Self> {
        let tally = doors[index].tally.clone();
        let outlets: io::Result<Vec<Outlet>> =
            sockets.into_iter().map(|socket| Outlet::new(socket, tally.clone())).collect();
        let (arrive, arrived) = mpsc::channel(TURNS);
        Ok(Shard {
            index,
            registry,
            viewers: Viewers::new(context.bell.clone()),
            context,
            net: Net::new(outlets?, (doors, index), tally),
            addresses: Addresses::default(),
            sessions: HashMap::new(),
            timers: Timers::default(),
            inbox,
            arrived,
            arrive,
            serial: 0,
            rung: Rung::default(),
        })
    }

    /// Runs until the bell rings for the end.
    pub(super) async fn run(mut self) {
        let mut receiver = Receiver::new();
        let mut rung = std::mem::take(&mut self.rung);
        loop {
            self.wait().await;
            self.context.bell.take(&mut rung);
            if rung.end {
                return self.end_all(&rung.sessions).await;
            }
            let more = self.read_sockets(&mut receiver) | self.read_inbox() | self.read_connections();
            let (now, wall) = (Instant::now(), SystemTime::now());
            for id in &rung.sessions {
                self.commands(*id, now, wall);
            }
            for feed in &rung.feeds {
                let mut broken = Vec::new();
                self.viewers.each(*feed, |id| {
                    if let Some(session) = self.sessions.get_mut(&id) {
                        match guarded(id, || session.send(&mut self.net, now)) {
                            Ok(()) => schedule(&mut self.timers, session, id, now),
                            Err(over) => broken.push((id, over)),
                        }
                    }
                });
                broken.into_iter().for_each(|(id, over)| self.end(id, over, now));
            }
            self.due(now, wall);
            self.net.flush();
            if more {
                // Connections are read and written by tasks: they get their turn, too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        let net = &self.net;
        let sockets = poll_fn(|cx| {
            // Every socket is asked, so that each of them wakes the loop.
            let ready = net.sockets().filter(|outlet| {
                let readable = outlet.poll_readable(cx).is_ready();
                outlet.poll_writable(cx).is_ready() || readable
            });
            if ready.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let (inbox, arrived) = (&self.inbox, &self.arrived);
        if !inbox.is_empty() || !arrived.is_empty() {
            return;
        }
        let next = self.timers.next().map(tokio::time::Instant::from_std);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let (mut first, mut second) = (None, None);
        tokio::select! {
            () = sockets => {}
            () = self.context.bell.rung() => {}
            inbound = self.inbox.recv() => first = inbound,
            datagram = self.arrived.recv() => second = datagram,
            () = timer => {}
        }
        if let Some(inbound) = first {
            self.inbound(inbound, Instant::now(), SystemTime::now());
        }
        if let Some(datagram) = second {
            self.connection_read(datagram, Instant::now(), SystemTime::now());
        }
    }

    /// Reads the sockets, for some time; whether there may be more.
    fn read_sockets(&mut self, receiver: &mut Receiver) -> bool {
        let mut more = false;
        for outlet in 0..self.net.outlets.len() {
            more |= self.read_socket(|net| net.outlets.get(outlet), None, receiver);
        }
        let own: Vec<SessionId> = self.net.own.keys().copied().collect();
        for id in own {
            more |= self.read_socket(|net| net.own.get(&id), Some(id), receiver);
        }
        more
    }

    /// Reads a socket, all of which is for `session` where there is one.
    fn read_socket(
        &mut self,
        which: impl Fn(&Net) -> Option<&Outlet>,
        session: Option<SessionId>,
        receiver: &mut Receiver,
    ) -> bool {
        for _ in 0..BATCHES {
            let Some(outlet) = which(&self.net) else { return false };
            let bound = outlet.local();
            let n = match outlet.receive(receiver) {
                Ok(n) => n,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, "a UDP socket could not be read");
                    }
                    return false;
                }
            };
            let (now, wall) = (Instant::now(), SystemTime::now());
            let (mut packets, mut bytes) = (0, 0);
            for received in receiver.received(n) {
                packets += received.bytes.len().div_ceil(received.stride);
                bytes += received.bytes.len();
                let local = SocketAddr::new(received.to.unwrap_or(bound.ip()), bound.port());
                let path = Path { local, remote: received.from, tcp: false };
                match session {
                    Some(id) => self.own_datagrams(id, path, &received, now, wall),
                    None => self.datagrams(path, &received, now, wall),
                }
            }
            count(&self.net.tally.packets_in, packets);
            count(&self.net.tally.bytes_in, bytes);
            if n < BATCH {
                return false;
            }
        }
        true
    }

    /// Datagrams came to a session's own socket. Its connection knows which of them are the other side's.
    fn own_datagrams(
        &mut self,
        id: SessionId,
        path: Path,
        received: &Received<'_>,
        now: Instant,
        wall: SystemTime,
    ) {
        for datagram in received.bytes.chunks(received.stride) {
            if !self.receive(id, path, BytesMut::from(datagram), now) {
                return;
            }
        }
        self.settle(id, now, wall);
    }

    /// Datagrams of one sender came together.
    fn datagrams(&mut self, path: Path, received: &Received<'_>, now: Instant, wall: SystemTime) {
        let mut owner = self.addresses.owner(&path.remote);
        if owner.is_none() && !self.inbox.is_empty() {
            // Another loop may just have told that this address is a session's of its own.
            self.read_inbox();
            owner = self.addresses.owner(&path.remote);
        }
        let mut touched = None;
        for datagram in received.bytes.chunks(received.stride) {
            match owner {
                Some(Owner::Here(id)) if self.is_for(id, datagram) => {
                    if self.receive(id, path, BytesMut::from(datagram), now) {
                        touched = Some(id);
                    }
                }
                Some(Owner::There(shard)) if ufrag_of(datagram).is_none() => {
                    self.net.hand_over(shard, path, datagram);
                }
                _ => self.stranger(path, datagram, now, wall),
            }
        }
        if let Some(id) = touched {
            self.settle(id, now, wall);
        }
    }

    /// Whether a datagram from an address of that session is for it: all but binding requests for another one.
    fn is_for(&self, id: SessionId, datagram: &[u8]) -> bool {
        if !is_stun(datagram) {
            return true;
        }
        let session = self.sessions.get(&id);
        ufrag_of(datagram).is_none_or(|ufrag| session.is_some_and(|session| session.answers_to(ufrag)))
    }

    /// A datagram from an address that is nobody's yet: only a binding request leads anywhere.
    fn stranger(&mut self, path: Path, datagram: &[u8], now: Instant, wall: SystemTime) {
        let found = ufrag_of(datagram).map(|ufrag| self.registry.find(ufrag, self.index));
        let id = match found {
            Some(Found::Adopted(waiting)) => self.adopt(*waiting, now, wall),
            Some(Found::In(id, shard)) if shard == self.index => id,
            Some(Found::In(_, shard)) => return self.net.hand_over(shard, path, datagram),
            Some(Found::Nobody) | None => return count(&self.net.tally.garbage, 1),
        };
        if self.receive(id, path, BytesMut::from(datagram), now) {
            self.settle(id, now, wall);
        }
    }

    /// Gives a session a datagram; false when it is over.
    fn receive(&mut self, id: SessionId, path: Path, datagram: BytesMut, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let received = guarded(id, || session.receive(path, datagram, now));
        received.map_err(|over| self.end(id, over, now)).is_ok()
    }

    /// A session begins here, with somebody whom we call.
    fn call(&mut self, call: Call, now: Instant, wall: SystemTime) {
        let Call { waiting, socket, candidates } = call;
        let id = waiting.id;
        let outlet = match Outlet::new(socket, self.net.tally.clone()) {
            Ok(outlet) => outlet,
            Err(error) => {
                tracing::warn!(%error, "a socket for a WebRTC session cannot be used");
                self.registry.remove(id);
                return waiting.end(Ending::Abandon, &self.context.handle);
            }
        };
        let local = outlet.local();
        let paths = candidates.iter().map(|remote| Path { local, remote: *remote, tcp: false });
        let paths: Vec<Path> = paths.collect();
        self.net.own.insert(id, outlet);
        let mut session = Driven::new(*waiting, &self.context, now);
        session.dial(&paths, now);
        self.begin(session, id, now, wall);
    }

    /// A session begins here.
    fn adopt(&mut self, waiting: Waiting, now: Instant, wall: SystemTime) -> SessionId {
        let id = waiting.id;
        tracing::debug!(session = id.0, shard = self.index, "WebRTC session begins");
        let session = Driven::new(waiting, &self.context, now);
        self.begin(session, id, now, wall);
        id
    }

    fn begin(&mut self, session: Driven, id: SessionId, now: Instant, wall: SystemTime) {
        self.sessions.insert(id, Box::new(session));
        self.watch(id);
        self.commands(id, now, wall);
    }

    /// What other loops handed over; whether there may be more.
    fn read_inbox(&mut self) -> bool {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for _ in 0..TURNS {
            match self.inbox.try_recv() {
                Ok(inbound) => self.inbound(inbound, now, wall),
                Err(_) => return false,
            }
        }
        true
    }

    fn inbound(&mut self, inbound: Inbound, now: Instant, wall: SystemTime) {
        match inbound {
            Inbound::Datagram(path, datagram, from) => self.handed(path, datagram, from, now, wall),
            Inbound::News(address, shard, news) => {
                self.addresses.told(address, shard, news, now);
                self.net.tell(&mut self.addresses);
            }
            Inbound::Connection(accepted) => self.accepted(*accepted, now, wall),
            Inbound::Call(call) => self.call(*call, now, wall),
        }
    }

    /// A datagram that came to another loop. It is not handed on again: the sessions of a loop do not move.
    fn handed(&mut self, path: Path, datagram: BytesMut, from: usize, now: Instant, wall: SystemTime) {
        let asked = match ufrag_of(&datagram).map(|ufrag| self.registry.find(ufrag, self.index)) {
            Some(Found::Adopted(waiting)) => Some(self.adopt(*waiting, now, wall)),
            Some(Found::In(id, shard)) if shard == self.index => Some(id),
            _ => None,
        };
        let known = match self.addresses.owner(&path.remote) {
            Some(Owner::Here(id)) => Some(id),
            _ => None,
        };
        let session = asked.or(known).filter(|id| self.sessions.contains_key(id));
        let Some(id) = session else { return count(&self.net.tally.garbage, 1) };
        self.addresses.handed_by(Some((path.remote, from)), now);
        if self.receive(id, path, datagram, now) {
            self.settle(id, now, wall);
        }
        self.addresses.handed_by(None, now);
        self.net.tell(&mut self.addresses);
    }

    /// A connection showed whose it is.
    fn accepted(&mut self, accepted: Accepted, now: Instant, wall: SystemTime) {
        let found = ufrag_of(&accepted.first).map(|ufrag| self.registry.find(ufrag, self.index));
        let id = match found {
            Some(Found::Adopted(waiting)) => self.adopt(*waiting, now, wall),
            Some(Found::In(id, shard)) if shard == self.index => id,
            Some(Found::In(_, shard)) => {
                // Another loop was faster with its first binding request.
                if self.net.doors[shard].inbox.try_send(Inbound::Connection(Box::new(accepted))).is_err() {
                    count(&self.net.tally.tcp_refused, 1);
                }
                return;
            }
            Some(Found::Nobody) | None => return count(&self.net.tally.tcp_refused, 1),
        };
        let Accepted { stream, first, frames, local, remote } = accepted;
        let (Ok(stream), Some(session)) = (TcpStream::from_std(stream), self.sessions.get_mut(&id)) else {
            return count(&self.net.tally.tcp_refused, 1);
        };
        self.serial += 1;
        let connection =
            Connection::start(stream, frames, (id, self.serial), (local, remote), self.arrive.clone());
        self.net.connections.insert(remote, connection);
        if let Some(gone) = session.connection(remote) {
            self.net.connections.remove(&gone);
        }
        count(&self.net.tally.tcp_connections, 1);
        let path = Path { local, remote, tcp: true };
        count(&self.net.tally.packets_in, 1);
        count(&self.net.tally.bytes_in, first.len());
        if self.receive(id, path, first, now) {
            self.settle(id, now, wall);
        }
    }

    /// What connections brought; whether there may be more.
    fn read_connections(&mut self) -> bool {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for _ in 0..TURNS {
            match self.arrived.try_recv() {
                Ok(arrived) => self.connection_read(arrived, now, wall),
                Err(_) => return false,
            }
        }
        true
    }

    fn connection_read(&mut self, arrived: Arrived, now: Instant, wall: SystemTime) {
        let Arrived { remote, serial, datagram } = arrived;
        let connection = self.net.connections.get(&remote).filter(|connection| connection.serial == serial);
        let Some(connection) = connection else { return };
        let (id, local) = (connection.session, connection.local);
        let Some(datagram) = datagram else {
            self.net.connections.remove(&remote);
            return;
        };
        count(&self.net.tally.packets_in, 1);
        count(&self.net.tally.bytes_in, datagram.len());
        if self.receive(id, Path { local, remote, tcp: true }, datagram, now) {
            self.settle(id, now, wall);
        }
    }

    /// A session has commands.
    fn commands(&mut self, id: SessionId, now: Instant, wall: SystemTime) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match guarded(id, || session.commands(&self.context, now)).and_then(|done| done) {
            Ok(changed) => {
                if changed {
                    self.watch(id);
                }
                self.settle(id, now, wall);
            }
            Err(over) => self.end(id, over, now),
        }
    }

    /// The feeds of a session wake it from now on, and no others.
    fn watch(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.feeds = self.viewers.set(id, &session.feeds, session.media().feeds());
        }
    }

    /// Sessions whose time has come.
    fn due(&mut self, now: Instant, wall: SystemTime) {
        while let Some(id) = self.timers.due(now) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            match guarded(id, || session.tick(now, wall)) {
                Ok(()) => self.settle(id, now, wall),
                Err(over) => self.end(id, over, now),
            }
        }
    }

    /// After any input to a session.
    fn settle(&mut self, id: SessionId, now: Instant, wall: SystemTime) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match guarded(id, || session.settle(&mut self.net, &mut self.addresses, now, wall)) {
            Ok(None) => schedule(&mut self.timers, session, id, now),
            Ok(Some(over)) | Err(over) => self.end(id, over, now),
        }
    }

    fn end(&mut self, id: SessionId, over: Over, now: Instant) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.registry.remove(id);
        self.timers.remove(id);
        self.viewers.set(id, &session.feeds, &[]);
        session.end(over, &mut self.net, &mut self.addresses, &self.context.handle, now);
        if let Some(mut own) = self.net.own.remove(&id) {
            own.flush();
        }
        self.net.tell(&mut self.addresses);
    }

    /// All say goodbye, after those with commands (one of which may be how they are to end) have done them. Publishers'
    /// streams wait for them to come back, here or at another node.
    async fn end_all(mut self, commanded: &[SessionId]) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for id in commanded {
            self.commands(*id, now, wall);
        }
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.end(id, Over { closed: Closed::ByUs, finish: false }, now);
        }
        self.net.flush();
        // The tasks that write to connections get a last turn.
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
    }
}

/// Does something with a session. A panic, which whatever a peer sends must not bring about but may, ends that session and no other: what
/// it leaves behind is not looked at again.
fn guarded<T>(id: SessionId, work: impl FnOnce() -> T) -> Result<T, Over> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        tracing::error!(
            session = id.0,
            "a WebRTC session ended with a panic: please report it with the lines before"
        );
        Over { closed: Closed::Silent("an error inside the server".into()), finish: false }
    })
}

fn schedule(timers: &mut Timers, session: &Driven, id: SessionId, now: Instant) {
    if let Some(at) = session.deadline() {
        timers.set(id, at, now);
    }
}
