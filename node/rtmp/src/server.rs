//! The RTMP server: sockets, limits, and a graceful end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_media::session::{Egress, Ingress};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::connection::Connection;
use crate::egress::feed::Feeds;
use crate::{Error, limits};

/// Tells whether an app exists.
pub type KnowsApp = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What an operator may want to change.
#[derive(Clone)]
pub struct Settings {
    /// Time for the TLS and RTMP handshakes.
    pub handshake_timeout: Duration,
    /// A publisher that sends nothing for so long is cut, and so is a player that takes nothing.
    pub idle_timeout: Duration,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_ip: usize,
    /// Asked at `connect`, so that an unknown app is refused as clients expect it; without it, publish and play
    /// find out.
    pub knows_app: Option<KnowsApp>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            max_connections: 20_000,
            max_connections_per_ip: 5_000,
            knows_app: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("handshake_timeout", &self.handshake_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_connections", &self.max_connections)
            .field("max_connections_per_ip", &self.max_connections_per_ip)
            .finish_non_exhaustive()
    }
}

/// What the server counts, since its start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections now.
    pub connections: AtomicU64,
    /// Connections that were let in.
    pub accepted: AtomicU64,
    /// Connections that were turned away because of a limit.
    pub refused: AtomicU64,
    /// Bytes received; those of TLS itself not counted.
    pub bytes_in: AtomicU64,
    /// Bytes sent to players, counted every few seconds.
    pub bytes_out: AtomicU64,
}

/// How much time those who are connected have at the end.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// Clients that know of it are asked to reconnect. A publisher that does goes on here for this long, until it has
    /// come back elsewhere; with 0 it ends as the others do.
    pub moving: Duration,
    /// Until all are gone.
    pub within: Duration,
}

/// Until when clients go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Publishers that were asked to reconnect; nothing when nobody waits for them.
    pub(crate) moved: Option<tokio::time::Instant>,
    /// The others, and players, when no keyframe comes.
    pub(crate) keyframe: tokio::time::Instant,
}

impl Ending {
    fn new(now: tokio::time::Instant, farewell: Farewell) -> Self {
        // They also need time to hear the last words.
        let most = farewell.within.saturating_sub(limits::LINGER_TIME);
        let moving = farewell.moving.min(most);
        Ending {
            moved: (!moving.is_zero()).then(|| now + moving),
            keyframe: now + limits::KEYFRAME_TIME.min(most),
        }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) ingress: Arc<dyn Ingress>,
    pub(crate) egress: Arc<dyn Egress>,
    pub(crate) feeds: Feeds,
    pub(crate) stats: Arc<Stats>,
    /// How all end, once they do.
    pub(crate) ending: watch::Sender<Option<Ending>>,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// Held by every connection: when all are gone, the receivers are.
    live: watch::Sender<()>,
    started: Instant,
}

impl Shared {
    /// A clock for pings.
    pub(crate) fn millis(&self) -> u32 {
        self.started.elapsed().as_millis() as u32
    }
}

/// The RTMP server. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("settings", &self.shared.settings)
            .field("stats", &self.shared.stats)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server that asks `ingress` and `egress` who may publish and play. It listens once
    /// [`serve`](Self::serve) or [`serve_tls`](Self::serve_tls) is called, with as many sockets as one likes.
    pub fn new(settings: Settings, ingress: Arc<dyn Ingress>, egress: Arc<dyn Egress>) -> Self {
        Server {
            shared: Arc::new(Shared {
                settings,
                ingress,
                egress,
                feeds: Feeds::default(),
                stats: Arc::default(),
                ending: watch::Sender::new(None),
                addresses: Mutex::default(),
                live: watch::Sender::new(()),
                started: Instant::now(),
            }),
        }
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        self.shared.stats.clone()
    }

    /// Accepts RTMP connections until [`drain`](Self::drain).
    pub async fn serve(&self, listener: TcpListener) {
        self.accept(listener, None).await;
    }

    /// Accepts RTMPS connections until [`drain`](Self::drain).
    pub async fn serve_tls(&self, listener: TcpListener, acceptor: TlsAcceptor) {
        self.accept(listener, Some(acceptor)).await;
    }

    /// Takes no more connections, and ends every publisher and player at a keyframe, as far as one comes in time. Those
    /// that can are asked to reconnect first: a publisher that comes back elsewhere loses nothing. Waits until all are
    /// gone, and returns how many connections were left when the time was over; those go on until they are dropped with
    /// the runtime.
    pub async fn drain(&self, farewell: Farewell) -> u64 {
        self.shared.ending.send_replace(Some(Ending::new(tokio::time::Instant::now(), farewell)));
        self.shared.feeds.wake();
        let _ = timeout(farewell.within, self.shared.live.closed()).await;
        self.shared.stats.connections.load(Relaxed)
    }

    async fn accept(&self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let mut ending = self.shared.ending.subscribe();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = ending.wait_for(Option::is_some) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer, tls.clone()),
                Err(error) => {
                    // Out of descriptors, or a client that was gone already: neither is helped by haste.
                    warn!("cannot accept an RTMP connection: {error}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(place) = Place::take(&self.shared, peer.ip()) else {
            self.shared.stats.refused.fetch_add(1, Relaxed);
            debug!(%peer, "RTMP connection refused: limit reached");
            return;
        };
        if let Err(error) = prepare(&stream, self.shared.settings.idle_timeout) {
            debug!(%peer, "cannot set up an RTMP connection: {error}");
            return;
        }
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let result = match tls {
                None => Connection::new(stream, peer, shared).run().await,
                Some(acceptor) => Box::pin(secure(stream, peer, shared, acceptor)).await,
            };
            if let Err(error) = result {
                debug!(%peer, "RTMP connection ended: {error}");
            }
            drop(place);
        });
    }
}

async fn secure(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
) -> Result<(), Error> {
    let stream = timeout(shared.settings.handshake_timeout, acceptor.accept(stream))
        .await
        .map_err(|_| Error::Timeout("the TLS handshake"))??;
    Connection::new(stream, peer, shared).run().await
}

/// No delay, and a peer that vanished is noticed.
fn prepare(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(dead_after))
}

/// A place among the connections that are allowed, given back when dropped.
struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
    _live: watch::Receiver<()>,
}

impl Place {
    fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<Place> {
        let mut addresses = shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.stats.connections.load(Relaxed) >= shared.settings.max_connections as u64 {
            return None;
        }
        let count = addresses.entry(address).or_default();
        if *count >= shared.settings.max_connections_per_ip {
            return None;
        }
        *count += 1;
        shared.stats.connections.fetch_add(1, Relaxed);
        shared.stats.accepted.fetch_add(1, Relaxed);
        Some(Place { shared: shared.clone(), address, _live: shared.live.subscribe() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = addresses.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        self.shared.stats.connections.fetch_sub(1, Relaxed);
    }
}

/// Listens on an address; one that stands for all of IPv4 (`0.0.0.0`) or all of IPv6 (`::`) takes both, where the
/// system has IPv6. Call it inside a tokio runtime.
///
/// # Errors
/// When the address cannot be had; the kind tells why ([`AddrInUse`](io::ErrorKind::AddrInUse),
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied)).
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip().is_unspecified() {
        match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())) {
            Err(error) if address.is_ipv4() && error.kind() != io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    bind(address)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
