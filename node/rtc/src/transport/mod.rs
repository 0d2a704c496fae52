//! The sockets and the loops that carry media, one a core.
//!
//! - [`Rtc`]: the way in: opens the sockets, starts the loops, opens sessions.
//! - `shard`: one loop, on a thread of its own. A session lives in the loop that gets its first binding request; one that calls
//!   the other side has a socket of its own.
//! - `session`: one session: its connection (`link`), its media, its owner (`events`, `mailbox`).
//! - `registry`: all sessions by user fragment. `demux`: those of one loop by remote address.
//! - `net`, `socket`, `tcp`: the ways out and in. Packets of one session to one viewer leave in one call (UDP GSO).
//! - `bell`: what wakes a loop. `viewers`: whom a feed wakes. `timers`: when a session wants to be called.

mod bell;
mod candidates;
mod counters;
mod demux;
mod events;
#[cfg(test)]
mod fake;
mod link;
mod mailbox;
mod media;
mod net;
mod registry;
mod rtc;
mod session;
mod shard;
mod socket;
mod sockets;
mod stun;
pub mod tcp;
mod timers;
mod viewers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sluice_media::Publisher;

use crate::agreed::{Agreed, IceCredentials};
use crate::crowd::Member;
use crate::egress::{EgressStats, Feed};
use crate::ingest::IngestStats;
use crate::peer::Message;

pub use counters::Counters;
pub use rtc::{Rtc, Session};

/// Tells one session from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a session carries.
pub enum Carries {
    /// A publisher's media into the hub.
    In(Box<Publisher>),
    /// Streams to a viewer, by feed.
    Out(Vec<Arc<Feed>>),
    /// Data channels only.
    Nothing,
}

/// A session to be opened.
pub struct Opening {
    /// Its place among those that are not connected yet; [`Rtc::place`] gives it. Who is called needs none.
    pub place: Option<Place>,
    /// Our ICE credentials; [`Rtc::credentials`] makes them.
    pub ice: IceCredentials,
    /// What was agreed on; `None` while our offer waits for its answer (see [`Session::agree`]).
    pub agreed: Option<Agreed>,
    /// What it carries.
    pub carries: Carries,
    /// The label of the data channel that we open, if we do.
    pub opens: Option<String>,
}

/// A socket for a session with somebody whom we call, and what that one is told of it.
#[derive(Debug)]
pub struct CallSocket {
    socket: std::net::UdpSocket,
    candidates: Vec<SocketAddr>,
}

impl CallSocket {
    /// Its host candidates.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// Whether it can send there at all.
    pub fn reaches(&self, remote: &SocketAddr) -> bool {
        // One for IPv6 takes IPv4 as well, when it is for all addresses.
        self.socket.local_addr().is_ok_and(|own| match own.ip() {
            IpAddr::V6(ip) => remote.is_ipv6() || ip.is_unspecified(),
            IpAddr::V4(_) => remote.is_ipv4(),
        })
    }
}

/// What a session tells. Bounded: a reader that does not read loses statistics, never the end.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// Media flows.
    Connected,
    /// A message came over a data channel.
    Message {
        /// On which channel.
        channel: u16,
        /// The channel's label.
        label: String,
        /// The message.
        message: Message,
    },
    /// A data channel can be written.
    Open {
        /// Which.
        channel: u16,
        /// Its label.
        label: String,
    },
    /// Another rendition is sent (index of the feed, height).
    Rendition(usize, u32),
    /// A stream that it plays has ended (index of the feed).
    StreamEnded(usize),
    /// Statistics, once a second, where somebody [asked](Session::measure) for them.
    Stats(Stats),
    /// It is over; nothing follows. Says why.
    Closed(Closed),
}

/// Statistics of a session.
#[derive(Clone, Debug)]
pub enum Stats {
    /// Of a publisher.
    In(IngestStats),
    /// Of a viewer.
    Out(EgressStats),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The other side said goodbye.
    ByPeer,
    /// Nothing came any more: ICE consent ran out, or it never connected.
    Silent(String),
    /// The publisher was told to stop.
    Stopped(sluice_media::StopReason),
    /// [`Session::close`], or it was dropped.
    ByUs,
}

/// A place among the sessions of a client that are not connected yet. It is free again when the session is connected, or over.
pub struct Place {
    _member: Member,
}

/// There are as many sessions as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// At this node.
    #[error("this node has as many WebRTC sessions as it may have (rtc_max_sessions): try another node")]
    OfNode,
    /// Of one client, that are not connected yet.
    #[error(
        "too many WebRTC sessions from your address are not connected yet (rtc_max_connecting_per_ip): \
         try again when they are"
    )]
    OfClient,
}
