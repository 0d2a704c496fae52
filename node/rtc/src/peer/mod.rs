//! One connection without a socket: ICE-lite, DTLS, SRTP and data channels.
//!
//! Input first ([`Peer::receive`], [`Peer::handle_timeout`]), then [`Peer::poll`] until it has no more.
//!
//! Inside, from the wire up: [`stun`] and [`ice`] say which paths are the other side's; [`dtls`] makes the keys and proves who it is;
//! [`srtp`] carries media, [`data`] the data channels.

mod certificate;
mod data;
mod dtls;
mod ice;
mod srtp;
mod stun;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::agreed::{IceCredentials, RemoteTransport};
pub use certificate::Certificate;
use data::Data;
use dtls::Dtls;
use ice::Ice;
use srtp::Srtp;
pub use stun::ufrag_of;

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
    /// It is over: DTLS was closed, the other side fell silent (consent, RFC 7675: 30 s, or 10 s where it is us who call), or the handshake failed. The text says why.
    Closed(String),
}

/// Until when the handshake has to be done.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Datagrams of a handshake that are kept until their path is valid and the other side is known.
const MAX_EARLY: usize = 4;
/// The longest datagram that is kept, in bytes.
const MAX_EARLY_LEN: usize = 2048;

/// One connection.
pub struct Peer {
    certificate: Arc<Certificate>,
    remote: Option<RemoteTransport>,
    /// Whether there are data channels, and the longest message that the other side takes.
    data_wanted: Option<usize>,
    opens: Option<String>,
    mtu: usize,
    ice: Ice,
    dtls: Option<Box<Dtls>>,
    srtp: Option<Box<Srtp>>,
    data: Option<Box<Data>>,
    early: Vec<(Path, BytesMut)>,
    /// Until when it has to be connected; `None` since it is.
    deadline: Option<Instant>,
    out: VecDeque<Output>,
    closed: bool,
    /// Whether it is over because the other side said so.
    goodbye: bool,
}

/// What a datagram is, by its first byte (RFC 7983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

impl Kind {
    fn of(datagram: &[u8]) -> Option<Self> {
        match datagram {
            [0..=3, ..] => Some(Kind::Stun),
            [20..=63, ..] => Some(Kind::Dtls),
            // RTCP on the same port as RTP (RFC 5761, 4).
            [128..=191, 192..=223, ..] => Some(Kind::Rtcp),
            [128..=191, ..] => Some(Kind::Rtp),
            _ => None,
        }
    }
}

impl Peer {
    /// Waits for the other side.
    pub fn new(config: Config, now: Instant) -> Self {
        let Config { ice, certificate, remote, data, opens, mtu } = config;
        let theirs = remote.as_ref().map(|remote| remote.ice.clone());
        Peer {
            ice: Ice::new(ice, theirs, certificate.clone()),
            certificate,
            remote,
            data_wanted: data,
            opens,
            mtu,
            dtls: None,
            srtp: None,
            data: None,
            early: Vec::new(),
            deadline: Some(now + HANDSHAKE),
            out: VecDeque::new(),
            closed: false,
            goodbye: false,
        }
    }

    /// The other side's answer has come, or its credentials changed (ICE restart; our new ones in `ours`).
    ///
    /// A restart keeps the DTLS association, so its role and certificate have to stay as they are.
    pub fn set_remote(&mut self, remote: RemoteTransport, ours: Option<IceCredentials>, now: Instant) {
        if self.closed {
            return;
        }
        match &self.remote {
            None if self.deadline.is_some() => self.deadline = Some(now + HANDSHAKE),
            Some(before) if before.fingerprint != remote.fingerprint && self.dtls.is_some() => {
                return self
                    .fail("the other side has another certificate now: begin a new session".into(), now);
            }
            _ => {}
        }
        self.ice.set_remote(remote.ice.clone(), ours);
        self.remote = Some(remote);
        self.proceed(now);
    }

    /// Whether there are data channels is known now, where it was not when the peer was made; and the largest message that the other
    /// side takes. Has no effect once there are.
    pub fn set_data(&mut self, data: Option<usize>) {
        self.data_wanted = data;
    }

    /// Calls the other side over these paths, the preferred first, as the controlling agent of a full implementation would, instead of
    /// waiting for it: the first that answers is used. For the role of a client; `seed` makes transaction ids.
    pub fn dial(&mut self, paths: &[Path], seed: u64, now: Instant) {
        self.ice.dial(paths, seed, now);
        self.check(now);
    }

    /// A datagram came.
    pub fn receive(&mut self, path: Path, datagram: BytesMut, now: Instant) {
        if self.closed {
            return;
        }
        match Kind::of(&datagram) {
            Some(Kind::Stun) => self.receive_stun(path, &datagram, now),
            Some(kind) if self.ice.is_valid(path) => self.receive_secured(path, kind, datagram, now),
            Some(Kind::Dtls) => self.keep(path, datagram),
            _ => {}
        }
    }

    fn receive_stun(&mut self, path: Path, datagram: &[u8], now: Instant) {
        let heard = self.ice.receive(path, datagram, now);
        if let Some(answer) = heard.answer {
            self.out.push_back(Output::Send { path, datagram: BytesMut::from(&answer[..]) });
        }
        if heard.selected {
            self.out.push_back(Output::Selected(path));
        }
        if heard.validated {
            self.proceed(now);
        }
    }

    fn receive_secured(&mut self, path: Path, kind: Kind, mut datagram: BytesMut, now: Instant) {
        match kind {
            Kind::Dtls if self.dtls.is_none() => self.keep(path, datagram),
            Kind::Dtls => self.receive_dtls(datagram, now),
            Kind::Rtp => {
                if self.srtp.as_mut().is_some_and(|srtp| srtp.unprotect_rtp(&mut datagram)) {
                    self.out.push_back(Output::Rtp(datagram));
                }
            }
            Kind::Rtcp => {
                if self.srtp.as_mut().is_some_and(|srtp| srtp.unprotect_rtcp(&mut datagram)) {
                    self.out.push_back(Output::Rtcp(datagram));
                }
            }
            Kind::Stun => {}
        }
    }

    /// Keeps the first datagrams of a handshake: they may be faster than the check of their path, and than the answer.
    fn keep(&mut self, path: Path, datagram: BytesMut) {
        if self.dtls.is_none() && self.early.len() < MAX_EARLY && datagram.len() <= MAX_EARLY_LEN {
            self.early.push((path, datagram));
        }
    }

    /// Begins the handshake as soon as there is a path and the other side is known.
    fn proceed(&mut self, now: Instant) {
        let (None, Some(remote), Some(_)) = (&self.dtls, &self.remote, self.ice.selected()) else { return };
        match Dtls::new(self.certificate.clone(), remote.fingerprint, remote.role, now) {
            Ok(dtls) => self.dtls = Some(Box::new(dtls)),
            Err(why) => return self.fail(why, now),
        }
        self.flush(now);
        for (path, datagram) in std::mem::take(&mut self.early) {
            if self.ice.is_valid(path) {
                self.receive_dtls(datagram, now);
            }
        }
    }

    fn receive_dtls(&mut self, datagram: BytesMut, now: Instant) {
        let Some(dtls) = &mut self.dtls else { return };
        let mut events = Vec::new();
        let result = dtls.receive(datagram, now, &mut events);
        for event in events {
            match event {
                dtls::Event::Connected => self.connected(now),
                dtls::Event::Data(packet) => self.receive_data(packet.freeze(), now),
                dtls::Event::Closed => {
                    self.goodbye = true;
                    return self.fail("the other side closed the session".into(), now);
                }
            }
        }
        match result {
            Ok(()) => self.flush(now),
            Err(why) => self.fail(why, now),
        }
    }

    fn connected(&mut self, now: Instant) {
        // Our last flight goes before any media, which the other side could not decrypt yet.
        self.flush(now);
        let Some(dtls) = &self.dtls else { return };
        self.deadline = None;
        let role = dtls.role();
        self.srtp = dtls.keys().and_then(|(profile, material)| {
            Srtp::new(profile, material.as_ref(), role, self.certificate.crypto()).map(Box::new)
        });
        self.out.push_back(Output::Connected);
        // An SCTP server has nothing to do, nor to keep, until it is called.
        if role == crate::agreed::DtlsRole::Client && self.data_wanted.is_some() {
            self.begin_data(now);
        }
    }

    fn begin_data(&mut self, now: Instant) {
        let (Some(takes), Some(dtls), None) = (self.data_wanted, &self.dtls, &self.data) else { return };
        self.data = Some(Box::new(Data::new(dtls.role(), takes, self.opens.take(), self.mtu, now)));
    }

    fn receive_data(&mut self, packet: Bytes, now: Instant) {
        self.begin_data(now);
        if let Some(data) = &mut self.data {
            data.receive(packet, now);
        }
    }

    /// Puts out what the layers have to send and to say.
    fn flush(&mut self, now: Instant) {
        let Some(dtls) = &mut self.dtls else { return };
        if let Some(data) = &mut self.data {
            for packet in data.transmit(now) {
                dtls.send(&packet, now);
            }
            while let Some(event) = data.event() {
                self.out.push_back(match event {
                    data::Event::Open { channel, label } => Output::Open { channel, label },
                    data::Event::Message { channel, message } => Output::Message { channel, message },
                });
            }
        }
        let Some(path) = self.ice.selected() else { return };
        while let Some(datagram) = dtls.poll() {
            self.out.push_back(Output::Send { path, datagram });
        }
    }

    fn check(&mut self, now: Instant) {
        while let Some((path, request)) = self.ice.check(now) {
            self.out.push_back(Output::Send { path, datagram: BytesMut::from(&request[..]) });
        }
    }

    fn fail(&mut self, why: String, now: Instant) {
        self.end(now);
        self.out.push_back(Output::Closed(why));
    }

    fn end(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.flush(now);
        self.closed = true;
        (self.dtls, self.srtp, self.data) = (None, None, None);
        self.early = Vec::new();
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let dtls = self.dtls.as_ref().and_then(|dtls| dtls.timeout());
        let data = self.data.as_ref().and_then(|data| data.timeout());
        [self.deadline, self.ice.expires(), self.ice.timeout(), dtls, data].into_iter().flatten().min()
    }

    /// Its time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if self.ice.expires().is_some_and(|at| at <= now) {
            let silent = self.ice.consent().as_secs();
            return self
                .fail(format!("no connectivity check came for {silent} s: the other side is gone"), now);
        }
        if self.deadline.is_some_and(|at| at <= now) {
            let within = HANDSHAKE.as_secs();
            let why = match (self.ice.selected(), &self.remote) {
                (None, _) if self.ice.calls() => format!(
                    "no candidate of the other side answered within {within} s: can this node reach them over UDP?"
                ),
                (None, _) => format!(
                    "no connectivity check came within {within} s: can the client reach the candidates over UDP or TCP?"
                ),
                (Some(_), None) => format!("no answer came within {within} s"),
                (Some(_), Some(_)) => format!("the DTLS handshake was not done within {within} s"),
            };
            return self.fail(why, now);
        }
        self.check(now);
        if let Some(data) = &mut self.data
            && data.timeout().is_some_and(|at| at <= now)
        {
            data.handle_timeout(now);
        }
        match self.dtls.as_mut().map_or(Ok(()), |dtls| dtls.handle_timeout(now)) {
            Ok(()) => self.flush(now),
            Err(why) => self.fail(why, now),
        }
    }

    /// What is next.
    pub fn poll(&mut self, _now: Instant) -> Option<Output> {
        let next = self.out.pop_front();
        if next.is_none() && self.out.capacity() > 8 {
            self.out = VecDeque::new();
        }
        next
    }

    /// Where media goes, once there is a way.
    pub fn path(&self) -> Option<Path> {
        self.ice.selected()
    }

    /// Appends the protected form of an RTP packet (header, then payload) to `out`; false when there are no keys yet.
    ///
    /// `header` is all of the header: CSRCs and extension, too. A sequence number of an SSRC may only be used again for the very same
    /// packet, byte by byte; anything else would give the key away.
    pub fn protect_rtp(&mut self, header: &[u8], payload: &[u8], out: &mut Vec<u8>) -> bool {
        self.srtp.as_mut().is_some_and(|srtp| srtp.protect_rtp(header, payload, out))
    }

    /// Appends the protected form of an RTCP compound packet to `out`.
    pub fn protect_rtcp(&mut self, compound: &[u8], out: &mut Vec<u8>) -> bool {
        self.srtp.as_mut().is_some_and(|srtp| srtp.protect_rtcp(compound, out))
    }

    /// Sends a message; false when the channel is not open or has too much waiting.
    pub fn send(&mut self, channel: u16, message: &Message, now: Instant) -> bool {
        let sent = self.data.as_mut().is_some_and(|data| data.send(channel, message, now));
        if sent {
            self.flush(now);
        }
        sent
    }

    /// Whether it is over because the other side said goodbye (DTLS close_notify), and was not lost.
    pub fn said_goodbye(&self) -> bool {
        self.goodbye
    }

    /// Says goodbye: DTLS close_notify. What [`poll`](Self::poll) gives after it is still to be sent.
    pub fn close(&mut self, now: Instant) {
        if !self.closed {
            self.end(now);
        }
    }
}
