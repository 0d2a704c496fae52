//! A session: an offer over HTTP, a socket, and the connection on top of it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use sluice_rtc::agreed::IceCredentials;
use sluice_rtc::peer::{Certificate, Config, Output, Path, Peer};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};

use super::{Answer, Offer, Wants};
use crate::error::Error;
use crate::http::{self, Server};

/// Time until media can flow.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest datagram that we send, and what the kernel may put together of those that come.
const MTU: usize = 1200;
const BUFFER: usize = 64 << 10;

/// One certificate for all sessions: making them is not what is measured.
static CERTIFICATE: LazyLock<Result<Arc<Certificate>, String>> =
    LazyLock::new(|| Certificate::generate().map(Arc::new));

/// A session with a server.
pub(crate) struct Session {
    server: Server,
    /// What stands for it at the server, to be deleted.
    resource: Option<String>,
    pub(crate) answer: Answer,
    socket: UdpSocket,
    state: UdpSocketState,
    peer: Peer,
    path: Path,
    buffer: Vec<u8>,
    out: Vec<u8>,
    /// Whether what comes is decrypted.
    decrypts: bool,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Got<'a> {
    /// An RTP packet as it came: its header is in clear.
    Sealed(&'a [u8]),
    /// An RTP packet, decrypted.
    Rtp(&'a [u8]),
    /// An RTCP compound packet, decrypted.
    Rtcp(&'a [u8]),
}

impl Session {
    /// Makes an offer and connects. `seed` tells sessions apart.
    pub(crate) async fn open(
        server: &Server,
        wants: &Wants,
        decrypts: bool,
        seed: u64,
    ) -> Result<Self, Error> {
        let connect = Session::connect(server, wants, decrypts, seed);
        timeout(PATIENCE, connect).await.map_err(|_| Error::Timeout("connect the session", PATIENCE))?
    }

    async fn connect(server: &Server, wants: &Wants, decrypts: bool, seed: u64) -> Result<Self, Error> {
        let certificate = CERTIFICATE.clone().map_err(Error::Rtc)?;
        let ice = IceCredentials {
            ufrag: format!("{:08x}", seed ^ 0x5bd1_e995),
            pwd: format!("{:032x}", u128::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        };
        let offer = Offer { ice: &ice, fingerprint: certificate.fingerprint(), wants };
        let posted = http::post(server, "application/sdp", offer.sdp()).await?;
        let answer = Answer::parse(&posted.body)?;
        let remote = answer.address(server.address())?;
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        let state = UdpSocketState::new((&socket).into())?;
        let path = Path { local: socket.local_addr()?, remote, tcp: false };
        let now = Instant::now();
        let config = Config {
            ice,
            certificate,
            remote: Some(answer.remote.clone()),
            data: None,
            opens: None,
            mtu: MTU,
        };
        let mut peer = Peer::new(config, now);
        peer.dial(path, seed, now);
        let mut session = Session {
            server: server.clone(),
            resource: posted.location,
            answer,
            socket,
            state,
            peer,
            path,
            buffer: vec![0; BUFFER],
            out: Vec::new(),
            decrypts,
        };
        session.flush(now, &mut |_| {})?;
        while !session.is_connected() {
            session.turn(None, &mut |_| {}).await?;
        }
        Ok(session)
    }

    fn is_connected(&mut self) -> bool {
        let mut probe = Vec::new();
        self.peer.protect_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 0], &mut probe)
    }

    /// Waits for datagrams, up to a time, and hands on what came.
    pub(crate) async fn turn(
        &mut self,
        until: Option<Instant>,
        got: &mut impl FnMut(Got<'_>),
    ) -> Result<(), Error> {
        let next = [until, self.peer.timeout()].into_iter().flatten().min();
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        tokio::select! {
            ready = self.socket.readable() => {
                ready?;
                self.receive(got)?;
            }
            () = sleep_until(next.into()) => {}
        }
        let now = Instant::now();
        if self.peer.timeout().is_some_and(|at| at <= now) {
            self.peer.handle_timeout(now);
        }
        self.flush(now, got)
    }

    /// Takes all datagrams that are there; the kernel hands on many of a size at once.
    fn receive(&mut self, got: &mut impl FnMut(Got<'_>)) -> Result<(), Error> {
        loop {
            let mut meta = [RecvMeta::default()];
            let Session { socket, state, buffer, .. } = self;
            let read = socket.try_io(Interest::READABLE, || {
                state.recv((&*socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta)
            });
            match read {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A port that is not open (yet) is told of; the session's end is found out otherwise.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(e) => return Err(e.into()),
            }
            let [RecvMeta { len, stride, .. }] = meta;
            let now = Instant::now();
            let buffer = std::mem::take(&mut self.buffer);
            for datagram in buffer[..len.min(buffer.len())].chunks(stride.max(1)) {
                self.datagram(datagram, now, got);
            }
            self.buffer = buffer;
            self.flush(now, got)?;
        }
    }

    fn datagram(&mut self, datagram: &[u8], now: Instant, got: &mut impl FnMut(Got<'_>)) {
        let rtp = matches!(datagram, [128..=191, 0..=191 | 224.., ..]);
        if rtp {
            got(Got::Sealed(datagram));
            if !self.decrypts {
                return;
            }
        }
        self.peer.receive(self.path, BytesMut::from(datagram), now);
    }

    /// Sends what the connection wants to send, and hands on what it has decrypted.
    fn flush(&mut self, now: Instant, got: &mut impl FnMut(Got<'_>)) -> Result<(), Error> {
        while let Some(output) = self.peer.poll(now) {
            match output {
                Output::Send { datagram, .. } => self.transmit(&datagram)?,
                Output::Rtp(packet) => got(Got::Rtp(&packet)),
                Output::Rtcp(packet) => got(Got::Rtcp(&packet)),
                Output::Closed(why) => return Err(Error::Rtc(why)),
                Output::Connected | Output::Selected(_) | Output::Open { .. } | Output::Message { .. } => {}
            }
        }
        Ok(())
    }

    /// What does not fit into the socket's buffer is lost, as on a network.
    fn transmit(&self, datagram: &[u8]) -> Result<(), Error> {
        let transmit = Transmit {
            destination: self.path.remote,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: None,
        };
        let sent =
            self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit));
        match sent {
            Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                Err(e.into())
            }
            _ => Ok(()),
        }
    }

    /// Sends an RTP packet: how many bytes.
    pub(crate) fn send_rtp(&mut self, header: &[u8], payload: &[u8]) -> Result<usize, Error> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        self.peer.protect_rtp(header, payload, &mut out);
        self.send(out)
    }

    /// Sends an RTCP compound packet.
    pub(crate) fn send_rtcp(&mut self, compound: &[u8]) -> Result<usize, Error> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        self.peer.protect_rtcp(compound, &mut out);
        self.send(out)
    }

    fn send(&mut self, out: Vec<u8>) -> Result<usize, Error> {
        let sent = if out.is_empty() { Ok(()) } else { self.transmit(&out) };
        self.out = out;
        sent.map(|()| self.out.len())
    }

    /// Says goodbye, over the connection and over HTTP.
    pub(crate) async fn close(mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.peer.close(now);
        self.flush(now, &mut |_| {})?;
        match &self.resource {
            Some(resource) => http::delete(&self.server, resource).await,
            None => Ok(()),
        }
    }
}
