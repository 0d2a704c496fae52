//! The types of settings that can't be wrong once made.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Where a server listens. Empty when it is switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    addrs: Vec<SocketAddr>,
}

/// One socket to open for a [`Listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address to bind.
    pub addr: SocketAddr,
    /// For an IPv6 socket: take IPv6 only. False makes it dual stack.
    pub v6_only: bool,
    /// The socket is there for convenience: a host without IPv6 goes on without it.
    pub optional: bool,
}

impl Listen {
    /// Listens on these addresses.
    #[must_use]
    pub fn new(addrs: Vec<SocketAddr>) -> Self {
        Self { addrs }
    }

    /// True when the server is switched off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.addrs.is_empty()
    }

    /// The addresses as they were configured.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The sockets to open: `0.0.0.0:P` brings `[::]:P` with it where the host has IPv6, `[::]:P` alone is
    /// dual stack, every other address stands for itself.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let has = |addr: SocketAddr| self.addrs.contains(&addr);
        let mut endpoints = Vec::with_capacity(self.addrs.len() + 1);
        for &addr in &self.addrs {
            let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port()));
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()));
            let v6_only = addr != any6 || has(any4);
            endpoints.push(Endpoint { addr, v6_only, optional: false });
            // A free port chosen by the system (0) would be another one for the second socket.
            if addr == any4 && addr.port() != 0 && !has(any6) {
                endpoints.push(Endpoint { addr: any6, v6_only: true, optional: true });
            }
        }
        endpoints
    }

    /// True when both would want the same socket.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.endpoints().iter().any(|a| {
            other.endpoints().iter().any(|b| {
                let (a, b) = (a.addr, b.addr);
                a.port() == b.port()
                    && a.port() != 0
                    && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
            })
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addrs.is_empty() {
            return f.write_str("off");
        }
        for (i, addr) in self.addrs.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{addr}")?;
        }
        Ok(())
    }
}

/// A value that is neither logged nor printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a value secret.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where state is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// The embedded database, a file in the data directory.
    Sqlite,
    /// A MongoDB replica set, by its connection URI.
    MongoDb(Secret),
}

/// How nodes find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMode {
    /// One node alone.
    Standalone,
    /// Through records in MongoDB.
    MongoDb,
    /// By UDP multicast.
    Multicast,
    /// From a list of members.
    Static,
}

/// What the node does in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes publishers and serves viewers.
    Both,
    /// Takes publishers.
    Origin,
    /// Serves viewers with streams that it fetches from origins.
    Edge,
}

/// What becomes of new publishers while the shared store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutStore {
    /// They are let in, and settled when it is back.
    Admit,
    /// They are turned away with that reason.
    Refuse,
}

/// For whom a node that stops waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Publishers and viewers.
    All,
    /// Publishers; viewers go on elsewhere.
    Publishers,
}

impl WaitsFor {
    /// How many of those who are here that is: streams that are published here, and viewers.
    #[must_use]
    pub fn of(self, streams: usize, viewers: u64) -> usize {
        match self {
            Self::All => streams.saturating_add(usize::try_from(viewers).unwrap_or(usize::MAX)),
            Self::Publishers => streams,
        }
    }
}

/// How a node shows the others that it belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterIdentity {
    /// By certificates that every node derives from the key that all share.
    Key(Secret),
    /// By certificates of an authority of the administrator's, PEM files.
    Files {
        /// This node's certificate; its common name is the node's id.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// The authority.
        ca: PathBuf,
    },
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// An address at which WebRTC clients reach this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address; port 0 stands for that of the listener.
    pub addr: SocketAddr,
    /// Whether it leads there over UDP.
    pub udp: bool,
    /// Whether it leads there over TCP.
    pub tcp: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(addrs: &[&str]) -> Listen {
        Listen::new(addrs.iter().map(|a| a.parse().unwrap()).collect())
    }

    fn plan(addrs: &[&str]) -> Vec<(String, bool, bool)> {
        let endpoints = listen(addrs).endpoints();
        endpoints.iter().map(|e| (e.addr.to_string(), e.v6_only, e.optional)).collect()
    }

    #[test]
    fn any_ipv4_brings_ipv6_with_it() {
        assert_eq!(
            plan(&["0.0.0.0:5080"]),
            [("0.0.0.0:5080".into(), true, false), ("[::]:5080".into(), true, true)]
        );
    }

    #[test]
    fn any_ipv6_alone_is_dual_stack() {
        assert_eq!(plan(&["[::]:5080"]), [("[::]:5080".into(), false, false)]);
        assert_eq!(
            plan(&["0.0.0.0:5080", "[::]:5080"]),
            [("0.0.0.0:5080".into(), true, false), ("[::]:5080".into(), true, false)]
        );
    }

    #[test]
    fn a_given_address_and_a_free_port_stand_for_themselves() {
        assert_eq!(plan(&["127.0.0.1:1"]), [("127.0.0.1:1".into(), true, false)]);
        assert_eq!(plan(&["0.0.0.0:0"]), [("0.0.0.0:0".into(), true, false)]);
    }

    #[test]
    fn overlap_is_seen_through_wildcards() {
        assert!(listen(&["0.0.0.0:5080"]).overlaps(&listen(&["127.0.0.1:5080"])));
        assert!(!listen(&["10.0.0.1:5080"]).overlaps(&listen(&["127.0.0.1:5080"])));
        assert!(!listen(&["0.0.0.0:0"]).overlaps(&listen(&["0.0.0.0:0"])));
        assert!(!Listen::default().overlaps(&listen(&["127.0.0.1:5080"])));
    }

    #[test]
    fn a_stop_waits_for_whom_it_is_told() {
        assert_eq!((WaitsFor::All.of(1, 2), WaitsFor::Publishers.of(1, 2)), (3, 1));
        assert_eq!((WaitsFor::All.of(0, u64::MAX), WaitsFor::Publishers.of(0, 5)), (usize::MAX, 0));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", StoreKind::MongoDb(Secret::new("mongodb://u:p@h".into()))).contains("p@h"));
    }
}
