//! Members by multicast: every node says each second where it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::datagram::{self, Datagram, MAX_BYTES};
use super::heard::{Heard, News};
use super::{Membership, Peer};
use crate::member::{Member, NodeId};

/// As many datagrams are looked at in a second; what is above waits, and the kernel drops what it cannot keep.
const PER_SECOND: u32 = 5000;

/// Broken sockets are opened anew after this long.
const REOPEN: Duration = Duration::from_secs(2);

/// How a node is heard.
#[derive(Clone, Debug)]
pub struct MulticastSettings {
    /// Multicast address and UDP port.
    pub group: SocketAddr,
    /// The address of the interface to use; without one the system's routes decide.
    pub interface: Option<IpAddr>,
    /// How many routers a datagram may pass, plus one.
    pub ttl: u32,
    /// How often this node is announced.
    pub every: Duration,
    /// A node that is silent for so long is listed no more.
    pub gone_after: Duration,
}

impl Default for MulticastSettings {
    fn default() -> Self {
        MulticastSettings {
            group: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 77, 77, 77)), 5001),
            interface: None,
            ttl: 1,
            every: Duration::from_secs(1),
            gone_after: Duration::from_secs(20),
        }
    }
}

/// Multicast cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MulticastError {
    /// The sockets cannot be opened.
    #[error(
        "cannot use multicast group {group}{}: {source}. Name the interface of the cluster's network \
         (multicast_interface), and check that it is up and that no other program has the port",
        interface.map(|ip| format!(" on interface {ip}")).unwrap_or_default()
    )]
    Socket {
        /// The group.
        group: SocketAddr,
        /// The interface.
        interface: Option<IpAddr>,
        /// What the system said.
        source: io::Error,
    },
    /// The names are too long for a datagram.
    #[error("the node id and host name have more than {} bytes together: shorten one of them", MAX_BYTES - 37)]
    TooLong,
}

/// The members that say by multicast that they are there. Stops when dropped.
pub struct Multicast {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    heard: Mutex<Heard>,
    changed: watch::Sender<u64>,
    settings: MulticastSettings,
    key: [u8; 32],
    /// Of a namesake.
    warned: AtomicBool,
}

impl Multicast {
    /// Joins the group and announces `me`, whose id and boot must not change. `key` is
    /// [`multicast_key`](crate::identity::multicast_key).
    ///
    /// # Errors
    /// Sockets that cannot be opened, names that are too long.
    pub fn start(
        settings: MulticastSettings,
        key: [u8; 32],
        me: watch::Receiver<Member>,
    ) -> Result<Multicast, MulticastError> {
        let socket =
            |source| MulticastError::Socket { group: settings.group, interface: settings.interface, source };
        let member = me.borrow().clone();
        // Counts on over restarts, so that nobody can repeat what an earlier run said.
        let counter = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        announcement(&member, counter).encode(&key).ok_or(MulticastError::TooLong)?;
        let receiver = listen(&settings).map_err(socket)?;
        let sender = speak(&settings).map_err(socket)?;
        let shared = Arc::new(Shared {
            heard: Mutex::new(Heard::new(member.id, member.boot, settings.gone_after)),
            changed: watch::Sender::new(0),
            settings,
            key,
            warned: AtomicBool::new(false),
        });
        let tasks = vec![
            tokio::spawn(hear(shared.clone(), receiver)).abort_handle(),
            tokio::spawn(announce(shared.clone(), sender, me, counter)).abort_handle(),
        ];
        Ok(Multicast { shared, tasks })
    }
}

impl Drop for Multicast {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[async_trait]
impl Membership for Multicast {
    fn peers(&self) -> Vec<Peer> {
        self.shared.heard().peers(Instant::now())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    async fn remove(&self, id: &NodeId) -> bool {
        let removed = self.shared.heard().remove(id);
        self.shared.bump();
        removed
    }
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }
}

fn announcement(me: &Member, counter: u64) -> Datagram {
    Datagram { id: me.id.clone(), boot: me.boot, counter, host: me.host.clone(), port: me.ports.cluster }
}

async fn announce(shared: Arc<Shared>, sender: UdpSocket, me: watch::Receiver<Member>, counter: u64) {
    let settings = &shared.settings;
    let mut sender = Some(sender);
    let mut every = tokio::time::interval(settings.every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listed = 0;
    let mut mute = false;
    for counter in counter.. {
        every.tick().await;
        let now_listed = shared.heard().expire(Instant::now());
        if now_listed < listed {
            shared.bump();
        }
        listed = now_listed;
        let Some(bytes) = announcement(&me.borrow(), counter).encode(&shared.key) else { continue };
        let socket = match sender.take() {
            Some(socket) => Ok(socket),
            None => speak(settings),
        };
        let sent = match socket {
            Ok(socket) => socket.send_to(&bytes, settings.group).await.map(|_| socket),
            Err(error) => Err(error),
        };
        match sent {
            Ok(socket) => {
                sender = Some(socket);
                if std::mem::replace(&mut mute, false) {
                    tracing::info!(group = %settings.group, "this node is announced by multicast again");
                }
            }
            // The interface is down, or gone: with a new socket it works once it is back.
            Err(error) => {
                if !std::mem::replace(&mut mute, true) {
                    tracing::warn!(
                        group = %settings.group, %error,
                        "cannot announce this node by multicast: is the network up, and is multicast_interface the right one?"
                    );
                }
                tokio::time::sleep(REOPEN).await;
            }
        }
    }
}

async fn hear(shared: Arc<Shared>, receiver: UdpSocket) {
    let mut receiver = receiver;
    // One more than a datagram may have, so that a longer one is seen to be longer.
    let mut buffer = [0; MAX_BYTES + 1];
    let mut window = Instant::now();
    let mut seen = 0;
    loop {
        // An interface that goes away takes the membership of the group with it, silently: join again when nothing comes,
        // not even what this node sends itself.
        match tokio::time::timeout(shared.settings.every * 5, receiver.recv(&mut buffer)).await {
            Ok(Ok(length)) => take(&shared, &buffer[..length]),
            Ok(Err(_)) | Err(_) => match listen(&shared.settings) {
                Ok(socket) => receiver = socket,
                Err(error) => {
                    tracing::debug!(group = %shared.settings.group, %error, "cannot join the multicast group");
                    tokio::time::sleep(REOPEN).await;
                }
            },
        }
        seen += 1;
        if seen >= PER_SECOND {
            let second = window + Duration::from_secs(1);
            tokio::time::sleep_until(second).await;
            (window, seen) = (Instant::now(), 0);
        }
    }
}

fn take(shared: &Shared, bytes: &[u8]) {
    match datagram::parse(bytes, &shared.key) {
        Ok(said) => {
            let news = shared.heard().hear(said, Instant::now());
            match news {
                News::There => shared.bump(),
                News::None => {}
                News::Namesake if shared.warned.swap(true, Ordering::Relaxed) => {}
                News::Namesake => {
                    tracing::error!("another node uses the id of this one: give each node an id of its own");
                }
            }
        }
        Err(error) => tracing::trace!(%error, "multicast datagram ignored"),
    }
}

/// A socket that hears the group. Several nodes of one machine may have one each.
fn listen(settings: &MulticastSettings) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(settings.group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    match (settings.group, settings.interface) {
        (SocketAddr::V4(group), interface) => {
            let interface = match interface {
                Some(IpAddr::V4(address)) => address,
                Some(IpAddr::V6(_)) => return Err(kinds_differ()),
                None => Ipv4Addr::UNSPECIFIED,
            };
            socket.bind(&SockAddr::from(settings.group))?;
            socket.join_multicast_v4(group.ip(), &interface)?;
        }
        (SocketAddr::V6(group), interface) => {
            let index = index_of(interface)?;
            socket.set_only_v6(true)?;
            let mut at = group;
            at.set_scope_id(index);
            socket.bind(&SockAddr::from(at))?;
            socket.join_multicast_v6(group.ip(), index)?;
        }
    }
    UdpSocket::from_std(socket.into())
}

/// A socket that speaks to the group.
fn speak(settings: &MulticastSettings) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(settings.group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    match settings.interface {
        Some(IpAddr::V4(address)) if settings.group.is_ipv4() => {
            socket.set_multicast_if_v4(&address)?;
        }
        Some(address @ IpAddr::V6(_)) if settings.group.is_ipv6() => {
            socket.set_multicast_if_v6(index_of(Some(address))?)?;
        }
        Some(_) => return Err(kinds_differ()),
        None => {}
    }
    if settings.group.is_ipv4() {
        socket.set_multicast_ttl_v4(settings.ttl)?;
        socket.set_multicast_loop_v4(true)?;
    } else {
        socket.set_multicast_hops_v6(settings.ttl)?;
        socket.set_multicast_loop_v6(true)?;
    }
    UdpSocket::from_std(socket.into())
}

fn kinds_differ() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "group and interface must both be IPv4 or both be IPv6")
}

/// The index of the interface with this IPv6 address; 0 lets the system choose.
fn index_of(interface: Option<IpAddr>) -> io::Result<u32> {
    match interface {
        None => Ok(0),
        Some(IpAddr::V4(_)) => Err(kinds_differ()),
        Some(IpAddr::V6(address)) => {
            let table = std::fs::read_to_string("/proc/net/if_inet6")?;
            let missing = || io::Error::new(io::ErrorKind::NotFound, "no interface has this address");
            find_index(&table, address).ok_or_else(missing)
        }
    }
}

/// Lines of `address index prefix scope flags name`, all but the name in hexadecimal.
fn find_index(table: &str, address: Ipv6Addr) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let of = u128::from_str_radix(fields.next()?, 16).ok()?;
        let index = u32::from_str_radix(fields.next()?, 16).ok()?;
        (of == address.to_bits()).then_some(index)
    })
}

#[cfg(test)]
mod tests;
