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
use crate::stats::now;

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
    /// When the newest datagram came.
    arrived: Arrival,
}

/// When a datagram came to this machine, whenever it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// Nanoseconds since 1970, as [`now`].
    pub(crate) wall: u64,
}

impl Arrival {
    /// `told` is what the kernel says, as time since 1970.
    fn of(told: Option<Duration>) -> Self {
        let (at, wall) = (Instant::now(), now());
        let age = wall.saturating_sub(told.map_or(wall, |told| told.as_nanos() as u64));
        Arrival { at: at.checked_sub(Duration::from_nanos(age)).unwrap_or(at), wall: wall - age }
    }
}

/// What came.
#[derive(Debug)]
pub(crate) enum Got<'a> {
    /// An RTP packet as it came: its header is in clear.
    Sealed(&'a [u8], Arrival),
    /// An RTP packet, decrypted.
    Rtp(&'a [u8], Arrival),
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
        peer.dial(&[path], seed, now);
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
            arrived: Arrival::of(None),
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
            let [RecvMeta { len, stride, timestamp, .. }] = meta;
            let now = Instant::now();
            self.arrived = Arrival::of(timestamp);
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
            got(Got::Sealed(datagram, self.arrived));
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
                Output::Rtp(packet) => got(Got::Rtp(&packet, self.arrived)),
                Output::Closed(why) => return Err(Error::Rtc(why)),
                Output::Rtcp(compound) => got(Got::Rtcp(&compound)),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::rtc::Head;

    /// Takes one request, up to the end of its body, and answers it.
    async fn answer_one(http: &TcpListener, with: impl FnOnce(&str) -> String) {
        let (mut socket, _) = http.accept().await.unwrap();
        let mut request = Vec::new();
        let complete = |request: &[u8]| {
            let text = String::from_utf8_lossy(request).into_owned();
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length =
                head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
            (body.len() >= length.unwrap_or(0)).then_some(text)
        };
        loop {
            if let Some(text) = complete(&request) {
                socket.write_all(with(&text).as_bytes()).await.unwrap();
                return;
            }
            assert!(socket.read_buf(&mut request).await.unwrap() > 0);
        }
    }

    /// A server that sends thirty packets to whoever connects.
    async fn serve(http: TcpListener) {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let local = udp.local_addr().unwrap();
        let certificate = Arc::new(Certificate::generate().unwrap());
        let ice = IceCredentials { ufrag: "server".into(), pwd: "the server's password".into() };
        let mut peer = None;
        answer_one(&http, |request| {
            let offer = Answer::parse(&request.replace("actpass", "active")).unwrap();
            let config = Config {
                ice: ice.clone(),
                certificate: certificate.clone(),
                remote: Some(offer.remote),
                data: None,
                opens: None,
                mtu: MTU,
            };
            peer = Some(Peer::new(config, Instant::now()));
            let fingerprint = certificate.fingerprint();
            let sdp = Offer { ice: &ice, fingerprint, wants: &Wants::Play }.sdp();
            let sdp = sdp.replace("actpass", "passive");
            let sdp = format!("{sdp}a=candidate:1 1 udp 1 {} {} typ host\r\n", local.ip(), local.port());
            let (head, length) = ("HTTP/1.1 201 Created\r\nLocation: /session/1", sdp.len());
            format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{sdp}")
        })
        .await;
        let mut peer = peer.unwrap();
        let mut buffer = [0; 2000];
        'session: loop {
            let (len, remote) = udp.recv_from(&mut buffer).await.unwrap();
            let (now, path) = (Instant::now(), Path { local, remote, tcp: false });
            peer.receive(path, BytesMut::from(&buffer[..len]), now);
            while let Some(output) = peer.poll(now) {
                match output {
                    Output::Send { datagram, .. } => drop(udp.send_to(&datagram, remote).await.unwrap()),
                    // Before, it may not have the keys yet.
                    Output::Rtcp(_) => {
                        let mut head = Head { pt: 96, ssrc: 7, seq: 1 };
                        for n in 0..30_u32 {
                            let mut out = Vec::new();
                            assert!(peer.protect_rtp(&head.next(true, n, &[]), b"picture", &mut out));
                            udp.send_to(&out, remote).await.unwrap();
                        }
                    }
                    Output::Closed(_) => break 'session,
                    _ => {}
                }
            }
        }
        let gone = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        answer_one(&http, |request| {
            assert!(request.starts_with("DELETE /session/1 "), "{request}");
            gone.to_owned()
        })
        .await;
    }

    #[tokio::test]
    async fn a_session_connects_receives_and_says_goodbye() {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/LiveApp/whep/cam1", http.local_addr().unwrap());
        let server = tokio::spawn(serve(http));
        let address = Server::parse(&url, false).unwrap();
        let mut session = Session::open(&address, &Wants::Play, true, 1).await.unwrap();
        session.send_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1]).unwrap();
        let (mut sealed, mut open) = (0, 0);
        while open < 30 {
            session
                .turn(Some(Instant::now() + PATIENCE), &mut |got| match got {
                    Got::Sealed(..) => sealed += 1,
                    Got::Rtp(packet, _) => {
                        assert!(packet.ends_with(b"picture"));
                        open += 1;
                    }
                    Got::Rtcp(_) => {}
                })
                .await
                .unwrap();
        }
        assert_eq!(sealed, 30);
        session.close().await.unwrap();
        server.await.unwrap();
    }
}
