//! The ways out of one loop: its UDP sockets, its TCP connections, the other loops, and how the packets of one viewer leave
//! together.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;

use super::SessionId;
use super::counters::{Tally, count};
use super::demux::Addresses;
use super::link::Link;
use super::shard::{Door, Inbound};
use super::socket::{LARGEST_RUN, Outlet, Target};
use super::tcp::{Connection, frames};
use crate::egress::Sink;
use crate::peer::Path;

/// Sockets and connections.
pub(super) struct Net {
    pub(super) outlets: Vec<Outlet>,
    /// Of sessions with those whom we call: one each, for two of them may have the same address at the other side.
    pub(super) own: HashMap<SessionId, Outlet>,
    /// By remote address.
    pub(super) connections: HashMap<SocketAddr, Connection>,
    /// All loops, this one too, and which this is.
    pub(super) doors: Arc<[Door]>,
    index: usize,
    pub(super) tally: Arc<Tally>,
    // Packets of the run that is being gathered; reused for all sessions.
    run: Vec<u8>,
}

/// A [`Path`] as it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Udp {
        outlet: usize,
        target: Target,
    },
    /// By the socket of that session.
    Own {
        session: SessionId,
        target: Target,
    },
    Tcp(SocketAddr),
}

impl Net {
    pub(super) fn new(outlets: Vec<Outlet>, (doors, index): (Arc<[Door]>, usize), tally: Arc<Tally>) -> Self {
        Net {
            outlets,
            own: HashMap::new(),
            connections: HashMap::new(),
            doors,
            index,
            tally,
            run: Vec::with_capacity(LARGEST_RUN),
        }
    }

    /// Hands a datagram to the loop that has its session. Where that loop is behind it is lost, as on any link.
    pub(super) fn hand_over(&self, shard: usize, path: Path, datagram: &[u8]) {
        let inbound = Inbound::Datagram(path, BytesMut::from(datagram), self.index);
        let sent = self.doors[shard].inbox.try_send(inbound);
        let counter = if sent.is_ok() { &self.tally.handed_over } else { &self.tally.dropped };
        count(counter, 1);
    }

    /// Tells other loops whose addresses are. One that is behind is told again with a later datagram.
    pub(super) fn tell(&self, addresses: &mut Addresses) {
        for (shard, address, news) in addresses.news() {
            let _ = self.doors[shard].inbox.try_send(Inbound::News(address, self.index, news));
        }
    }

    /// How a session sends on a path: from the address that the other side used, by the socket that has it.
    pub(super) fn route(&self, session: SessionId, path: &Path) -> Route {
        if path.tcp {
            return Route::Tcp(path.remote);
        }
        if let Some(own) = self.own.get(&session) {
            return Route::Own { session, target: own.target(path.local.ip(), path.remote) };
        }
        let takes = |bound: SocketAddr| match bound.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => true,
            IpAddr::V4(ip) if ip.is_unspecified() => path.remote.is_ipv4(),
            ip => ip == path.local.ip(),
        };
        // One that is bound to that very address comes before one that takes all.
        let fits = |outlet: &Outlet| match outlet.local() {
            bound if bound.port() != path.local.port() || !takes(bound) => 0,
            bound if bound.ip() == path.local.ip() => 3,
            bound if bound.is_ipv4() == path.remote.is_ipv4() => 2,
            _ => 1,
        };
        let outlet = (0..self.outlets.len()).max_by_key(|n| (fits(&self.outlets[*n]), std::cmp::Reverse(*n)));
        let outlet = outlet.unwrap_or(0);
        Route::Udp { outlet, target: self.outlets[outlet].target(path.local.ip(), path.remote) }
    }

    /// Sends one datagram of a session that is not media.
    pub(super) fn send(&mut self, session: SessionId, path: &Path, datagram: &[u8]) {
        let route = self.route(session, path);
        self.transmit(route, datagram.len(), datagram, false);
    }

    /// All sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Outlet> {
        self.outlets.iter().chain(self.own.values())
    }

    /// Sends what waits in the sockets.
    pub(super) fn flush(&mut self) {
        self.outlets.iter_mut().chain(self.own.values_mut()).for_each(Outlet::flush);
    }

    fn transmit(&mut self, route: Route, segment: usize, bytes: &[u8], media: bool) {
        let Net { outlets, own, connections, tally, .. } = self;
        transmit((outlets, own, connections), tally, route, segment, bytes, media);
    }

    /// Gathers what a session sends; [`Runs::finish`] sends the rest.
    pub(super) fn runs<'a>(&'a mut self, link: &'a mut Link, route: Route) -> Runs<'a> {
        let most = match route {
            Route::Udp { outlet, .. } => self.outlets[outlet].most_segments(),
            Route::Own { session, .. } => self.own.get(&session).map_or(1, Outlet::most_segments),
            Route::Tcp(_) => usize::MAX,
        };
        self.run.clear();
        Runs { net: self, link, route, most: most.max(1), segment: 0, count: 0, closed: false }
    }
}

fn transmit(
    (outlets, own, connections): (
        &mut [Outlet],
        &mut HashMap<SessionId, Outlet>,
        &HashMap<SocketAddr, Connection>,
    ),
    tally: &Tally,
    route: Route,
    segment: usize,
    bytes: &[u8],
    media: bool,
) {
    match route {
        Route::Udp { outlet, target } => outlets[outlet].send(target, segment, bytes, media),
        Route::Own { session, target } => {
            if let Some(outlet) = own.get_mut(&session) {
                outlet.send(target, segment, bytes, media);
            }
        }
        Route::Tcp(remote) => {
            let (Some(connection), 1..) = (connections.get(&remote), segment) else { return };
            let packets = bytes.len().div_ceil(segment);
            let mut chunk = Vec::with_capacity(bytes.len() + 2 * packets);
            for datagram in bytes.chunks(segment) {
                frames::write(datagram, &mut chunk);
            }
            if connection.send(chunk, media) {
                count(&tally.packets_out, packets);
                count(&tally.bytes_out, bytes.len());
            } else {
                count(&tally.dropped, packets);
            }
        }
    }
}

/// Gathers the packets of one session into runs of equal size, of which the last packet may be shorter: each run leaves in one
/// call.
pub(super) struct Runs<'a> {
    net: &'a mut Net,
    link: &'a mut Link,
    route: Route,
    most: usize,
    segment: usize,
    count: usize,
    closed: bool,
}

impl Runs<'_> {
    /// Sends what is gathered still.
    pub(super) fn finish(mut self) {
        self.transmit(self.net.run.len());
    }

    fn transmit(&mut self, end: usize) {
        let Net { outlets, own, connections, tally, run, .. } = &mut *self.net;
        if self.count > 0 {
            let ways = (&mut outlets[..], own, &*connections);
            transmit(ways, tally, self.route, self.segment, &run[..end], true);
        }
        run.drain(..end);
        self.count = 0;
        self.closed = false;
    }

    /// The packet that begins at `from` was appended.
    fn appended(&mut self, from: usize) {
        let length = self.net.run.len() - from;
        if self.count > 0 {
            let breaks = self.closed || length > self.segment || self.count >= self.most;
            if breaks || self.net.run.len() > LARGEST_RUN {
                self.transmit(from);
            }
        }
        if self.count == 0 {
            self.segment = length;
        } else if length < self.segment {
            self.closed = true;
        }
        self.count += 1;
    }
}

impl Sink for Runs<'_> {
    fn rtp(&mut self, header: &[u8], payload: &[u8]) {
        let from = self.net.run.len();
        if self.link.protect_rtp(header, payload, &mut self.net.run) {
            self.appended(from);
        } else {
            self.net.run.truncate(from);
        }
    }

    fn rtcp(&mut self, compound: &[u8]) {
        let from = self.net.run.len();
        if self.link.protect_rtcp(compound, &mut self.net.run) {
            self.appended(from);
        } else {
            self.net.run.truncate(from);
        }
    }
}
