//! WebRTC: what comes to the UDP port.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sluice_rtc::agreed::{DtlsRole, IceCredentials, RemoteTransport};
use sluice_rtc::peer::{Certificate, Config, Output, Path, Peer, ufrag_of};

use crate::Random;
use crate::split::pieces;

/// The beginnings of STUN messages, DTLS records, RTP and RTCP packets.
pub(crate) const WORDS: &[&[u8]] = &[
    &[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42],
    &[0, 6, 0, 13],
    b"server:client",
    &[0, 8, 0, 20],
    &[0x80, 0x28, 0, 4],
    &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 16],
    &[1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4],
    &[20, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1],
    &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40],
    &[23, 0xfe, 0xfd, 0, 1],
    &[0x80, 96],
    &[0x80, 200],
];

static CERTIFICATE: LazyLock<Arc<Certificate>> =
    LazyLock::new(|| Arc::new(Certificate::generate().expect("a certificate")));

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5004);
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40000);
const AT_SERVER: Path = Path { local: SERVER, remote: CLIENT, tcp: false };
const AT_CLIENT: Path = Path { local: CLIENT, remote: SERVER, tcp: false };

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.into(), pwd: "a password that is long enough".into() }
}

fn peer(ours: &str, theirs: &str, role: DtlsRole, now: Instant) -> Peer {
    let certificate = CERTIFICATE.clone();
    let fingerprint = certificate.fingerprint();
    let remote = Some(RemoteTransport { ice: credentials(theirs), fingerprint, role });
    let config =
        Config { ice: credentials(ours), certificate, remote, data: Some(1 << 16), opens: None, mtu: 1200 };
    Peer::new(config, now)
}

/// Lets both talk until neither has anything to send; whether the server is connected since.
fn talk(server: &mut Peer, client: &mut Peer, now: Instant) -> bool {
    let mut connected = false;
    loop {
        let mut quiet = true;
        while let Some(output) = client.poll(now) {
            if let Output::Send { datagram, .. } = output {
                server.receive(AT_SERVER, datagram, now);
                quiet = false;
            }
        }
        while let Some(output) = server.poll(now) {
            match output {
                Output::Send { datagram, .. } => {
                    client.receive(AT_CLIENT, datagram, now);
                    quiet = false;
                }
                output => connected |= matches!(output, Output::Connected),
            }
        }
        if quiet {
            return connected;
        }
    }
}

/// A STUN message of somebody who does not know the password: it is not answered, and its path is none.
pub(crate) fn stun(data: &[u8]) {
    let now = Instant::now();
    let name = ufrag_of(data);
    assert!(name.is_none_or(|name| data.windows(name.len() + 1).any(|w| w.starts_with(name.as_bytes()))));
    let mut server = peer("server", "client", DtlsRole::Server, now);
    server.receive(AT_SERVER, BytesMut::from(data), now);
    assert!(server.poll(now).is_none(), "it is answered");
    assert!(server.path().is_none());
}

/// Datagrams of somebody who sends from the client's address: before the handshake they may spoil it, after it they change
/// nothing.
pub(crate) fn datagrams(data: &[u8]) {
    let now = Instant::now();
    let mut server = peer("server", "client", DtlsRole::Server, now);
    let mut client = peer("client", "server", DtlsRole::Client, now);
    client.dial(&[AT_CLIENT], 1, now);
    let connects = Random::of(data).below(2) == 1;
    if connects {
        assert!(talk(&mut server, &mut client, now), "it does not connect");
    } else if let Some(Output::Send { datagram, .. }) = client.poll(now) {
        server.receive(AT_SERVER, datagram, now);
    }
    let mut later = now;
    for piece in pieces(data) {
        later += Duration::from_millis(1);
        server.receive(AT_SERVER, BytesMut::from(piece), later);
        while server.poll(later).is_some() {}
    }
    if connects {
        let header = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
        let mut packet = Vec::new();
        assert!(client.protect_rtp(&header, b"media", &mut packet));
        server.receive(AT_SERVER, BytesMut::from(&packet[..]), later);
        assert!(matches!(server.poll(later), Some(Output::Rtp(_))), "the session is disturbed");
    } else {
        server.handle_timeout(later + Duration::from_secs(1));
    }
}
