//! The connection of a session: a [`Peer`], or what stands in for it in tests.

use std::time::Instant;

use bytes::BytesMut;

#[cfg(test)]
use super::fake::FakePeer;
use crate::agreed::{IceCredentials, RemoteTransport};
use crate::peer::{Config, Message, Output, Path, Peer};

/// A connection without a socket.
pub(super) enum Link {
    Peer(Box<Peer>),
    #[cfg(test)]
    Fake(FakePeer),
}

/// Calls the same method of what there is.
macro_rules! each {
    ($link:expr, $peer:ident => $call:expr) => {
        match $link {
            Link::Peer($peer) => $call,
            #[cfg(test)]
            Link::Fake($peer) => $call,
        }
    };
}

impl Link {
    pub(super) fn new(config: Config, now: Instant) -> Self {
        Link::Peer(Box::new(Peer::new(config, now)))
    }

    pub(super) fn set_remote(&mut self, remote: RemoteTransport, ours: Option<IceCredentials>, now: Instant) {
        each!(self, peer => peer.set_remote(remote, ours, now));
    }

    pub(super) fn set_data(&mut self, data: Option<usize>) {
        match self {
            Link::Peer(peer) => peer.set_data(data),
            #[cfg(test)]
            Link::Fake(_) => {}
        }
    }

    pub(super) fn dial(&mut self, paths: &[Path], seed: u64, now: Instant) {
        match self {
            Link::Peer(peer) => peer.dial(paths, seed, now),
            #[cfg(test)]
            Link::Fake(_) => {}
        }
    }

    pub(super) fn receive(&mut self, path: Path, datagram: BytesMut, now: Instant) {
        each!(self, peer => peer.receive(path, datagram, now));
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        each!(self, peer => peer.timeout())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        each!(self, peer => peer.handle_timeout(now));
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Output> {
        each!(self, peer => peer.poll(now))
    }

    pub(super) fn protect_rtp(&mut self, header: &[u8], payload: &[u8], out: &mut Vec<u8>) -> bool {
        each!(self, peer => peer.protect_rtp(header, payload, out))
    }

    pub(super) fn protect_rtcp(&mut self, compound: &[u8], out: &mut Vec<u8>) -> bool {
        each!(self, peer => peer.protect_rtcp(compound, out))
    }

    pub(super) fn send(&mut self, channel: u16, message: &Message, now: Instant) -> bool {
        each!(self, peer => peer.send(channel, message, now))
    }

    pub(super) fn close(&mut self, now: Instant) {
        each!(self, peer => peer.close(now));
    }

    /// Whether it is over because the other side said goodbye, and was not lost.
    pub(super) fn said_goodbye(&self) -> bool {
        each!(self, peer => peer.said_goodbye())
    }
}
