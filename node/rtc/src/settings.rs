use std::net::SocketAddr;

use crate::Exempt;

/// A STUN or TURN server that clients are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:host:port`, `turn:host:port?transport=udp` or `turns:…` (RFC 7064, RFC 7065).
    pub url: String,
    /// The user of a TURN server.
    pub username: Option<String>,
    /// The password of a TURN server.
    pub credential: Option<String>,
}

/// How WebRTC is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where UDP is received, and TCP (RFC 4571 framing) too when [`tcp`](Self::tcp) is set. Each is opened once per shard.
    pub listen: Vec<SocketAddr>,
    /// Whether ICE-TCP is served on the same ports.
    pub tcp: bool,
    /// The host candidates that clients are given for UDP. None for UDP nor TCP: the addresses of this machine with the port of
    /// `listen`.
    pub candidates: Vec<SocketAddr>,
    /// The host candidates that clients are given for TCP.
    pub tcp_candidates: Vec<SocketAddr>,
    /// Loops that carry media, each on a thread of its own; 0 means one a core.
    pub shards: usize,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// The most sessions of one client that are not connected yet. A client is an address, of IPv6 a /64.
    pub max_connecting: usize,
    /// Whose sessions are not counted so.
    pub exempt: Exempt,
    /// STUN and TURN servers for clients.
    pub ice_servers: Vec<IceServer>,
    /// The largest UDP payload that is sent, in bytes.
    pub mtu: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: vec![SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 0], 5004))],
            tcp: true,
            candidates: Vec::new(),
            tcp_candidates: Vec::new(),
            shards: 0,
            max_sessions: 10_000,
            max_connecting: 64,
            exempt: Exempt::default(),
            ice_servers: Vec::new(),
            mtu: 1200,
        }
    }
}
