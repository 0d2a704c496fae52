//! One connection without a socket: ICE-lite, DTLS, SRTP and data channels.
//!
//! Input first ([`Peer::receive`], [`Peer::handle_timeout`]), then [`Peer::poll`] until it has no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::agreed::{Fingerprint, IceCredentials, RemoteTransport};

/// Our certificate. Made once and used for all sessions; renewed long before it ends.
#[derive(Clone)]
pub struct Certificate;

impl Certificate {
    /// Makes one (ECDSA P-256).
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn generate() -> Result<Self, String> {
        Ok(Certificate)
    }

    /// Its hash for the SDP.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint([0; 32])
    }
}

/// What a peer is made of.
pub struct Config {
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// Our certificate.
    pub certificate: Arc<Certificate>,
    /// The other side; `None` until its answer has come. STUN is answered as soon as it is known.
    pub remote: Option<RemoteTransport>,
    /// Whether there are data channels, and the largest message that the other side takes.
    pub data: Option<usize>,
    /// Whether we open a data channel as soon as that can be, and its label.
    pub opens: Option<String>,
    /// The largest datagram that is sent.
    pub mtu: usize,
}

/// One way to the other side: the address of ours that it used, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Ours (the IP may be unspecified where the socket does not tell it).
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
    /// Whether it is a TCP connection.
    pub tcp: bool,
}

/// A message on a data channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whether it is text (UTF-8) rather than bytes.
    pub text: bool,
    /// What it says.
    pub payload: Bytes,
}

/// What a peer has to say or to send.
#[derive(Debug)]
pub enum Output {
    /// A datagram to send.
    Send {
        /// Which way.
        path: Path,
        /// Its bytes.
        datagram: BytesMut,
    },
    /// Media can be sent from now on.
    Connected,
    /// The way to the other side is another one now (or the first).
    Selected(Path),
    /// A decrypted RTP packet.
    Rtp(BytesMut),
    /// A decrypted RTCP compound packet.
    Rtcp(BytesMut),
    /// A data channel is open and can be written.
    Open {
        /// Which.
        channel: u16,
        /// What it is called.
        label: String,
    },
    /// A message came.
    Message {
        /// On which channel.
        channel: u16,
        /// What it says.
        message: Message,
    },
    /// It is over: DTLS was closed, the other side fell silent (consent, RFC 7675: 30 s), or the handshake failed. The text says why.
    Closed(String),
}

/// One connection.
pub struct Peer;

impl Peer {
    /// Waits for the other side.
    pub fn new(config: Config, now: Instant) -> Self {
        let _ = (config, now);
        Peer
    }

    /// The other side's answer has come, or its credentials changed (ICE restart; our new ones in `ours`).
    pub fn set_remote(&mut self, remote: RemoteTransport, ours: Option<IceCredentials>, now: Instant) {
        let _ = (remote, ours, now);
    }

    /// A datagram came.
    pub fn receive(&mut self, path: Path, datagram: BytesMut, now: Instant) {
        let _ = (path, datagram, now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn timeout(&self) -> Option<Instant> {
        None
    }

    /// Its time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// What is next.
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        let _ = now;
        None
    }

    /// Where media goes, once there is a way.
    pub fn path(&self) -> Option<Path> {
        None
    }

    /// Appends the protected form of an RTP packet (header, then payload) to `out`; false when there are no keys yet.
    pub fn protect_rtp(&mut self, header: &[u8], payload: &[u8], out: &mut Vec<u8>) -> bool {
        let _ = (header, payload, out);
        false
    }

    /// Appends the protected form of an RTCP compound packet to `out`.
    pub fn protect_rtcp(&mut self, compound: &[u8], out: &mut Vec<u8>) -> bool {
        let _ = (compound, out);
        false
    }

    /// Sends a message; false when the channel is not open or has too much waiting.
    pub fn send(&mut self, channel: u16, message: &Message, now: Instant) -> bool {
        let _ = (channel, message, now);
        false
    }

    /// Says goodbye: DTLS close_notify. What [`poll`](Self::poll) gives after it is still to be sent.
    pub fn close(&mut self, now: Instant) {
        let _ = now;
    }
}
