//! The connections that are open: how many, of whom, and what went through them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::Notify;

use super::activity::Activity;

/// How many connections there may be.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) all: usize,
    pub(super) per_client: usize,
    /// Not counted per client.
    pub(super) trusted: Vec<IpNet>,
}

/// What went through a server since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that are open now.
    pub open: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were turned away because of a limit.
    pub refused: u64,
    /// Bytes read from sockets (with TLS: its records).
    pub bytes_in: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
}

/// All open connections of a server.
#[derive(Debug)]
pub(super) struct Registry {
    bounds: Bounds,
    table: Mutex<Table>,
    accepted: AtomicU64,
    refused: AtomicU64,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Arc<Activity>>,
    /// How many of them were upgraded.
    upgraded: usize,
    clients: HashMap<IpAddr, usize>,
    /// Of connections that are closed.
    bytes_in: u64,
    bytes_out: u64,
}

impl Table {
    fn is_empty(&self) -> bool {
        self.open.len() == self.upgraded
    }
}

/// A place in the registry; dropping it gives it back.
pub(super) struct Place {
    registry: Arc<Registry>,
    id: u64,
    client: Option<IpAddr>,
}

impl Registry {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            table: Mutex::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            emptied: Notify::new(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `ip`; `None` when there are as many as there may be.
    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr, activity: &Arc<Activity>) -> Option<Place> {
        let client = (!self.bounds.trusted.iter().any(|net| net.contains(&ip))).then(|| client(ip));
        let mut table = self.table();
        let of_client = client.map_or(0, |client| table.clients.get(&client).copied().unwrap_or(0));
        if table.open.len() >= self.bounds.all || of_client >= self.bounds.per_client {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Some(client) = client {
            table.clients.insert(client, of_client + 1);
        }
        let id = table.next;
        table.next += 1;
        table.open.insert(id, activity.clone());
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Place { registry: self.clone(), id, client })
    }

    pub(super) fn traffic(&self) -> Traffic {
        let table = self.table();
        let (mut bytes_in, mut bytes_out) = (table.bytes_in, table.bytes_out);
        for activity in table.open.values() {
            let (read, written) = activity.bytes();
            bytes_in += read;
            bytes_out += written;
        }
        Traffic {
            open: table.open.len() as u64,
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            bytes_in,
            bytes_out,
        }
    }

    /// Asks all connections to finish.
    pub(super) fn close_all(&self) {
        for activity in self.table().open.values() {
            activity.close();
        }
    }

    /// Asks those of HTTP/2 to finish.
    pub(super) fn close_http2(&self) {
        self.table().open.values().filter(|activity| activity.speaks_http2()).for_each(|a| a.close());
    }

    /// Waits until no connection is open, those that were upgraded not counted: whoever speaks on them ends them.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.table().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// A connection was upgraded.
    pub(super) fn upgraded(&self, activity: &Activity) {
        let mut table = self.table();
        if activity.upgrade() {
            table.upgraded += 1;
        }
        if table.is_empty() {
            self.emptied.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.registry.table();
        if let Some(activity) = table.open.remove(&self.id) {
            let (read, written) = activity.bytes();
            table.bytes_in += read;
            table.bytes_out += written;
            table.upgraded -= usize::from(activity.is_upgraded());
        }
        if let Some(client) = self.client
            && let Some(count) = table.clients.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                table.clients.remove(&client);
            }
        }
        if table.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}

/// Whom an address belongs to: one host has a whole /64 of IPv6.
fn client(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn registry(all: usize, per_client: usize) -> Arc<Registry> {
        let trusted = vec!["10.0.0.0/8".parse().unwrap()];
        Arc::new(Registry::new(Bounds { all, per_client, trusted }))
    }

    fn enter(registry: &Arc<Registry>, ip: &str) -> Option<Place> {
        registry.enter(ip.parse().unwrap(), &Arc::new(Activity::new(Instant::now())))
    }

    #[test]
    fn one_client_has_a_share_and_gives_it_back() {
        let registry = registry(10, 2);
        let first = enter(&registry, "2001:db8::1").unwrap();
        let _second = enter(&registry, "2001:db8::2").unwrap();
        assert!(enter(&registry, "2001:db8::3").is_none());
        assert!(enter(&registry, "2001:db8:0:1::3").is_some());
        drop(first);
        assert!(enter(&registry, "2001:db8::3").is_some());
    }

    #[test]
    fn trusted_proxies_are_bounded_by_the_whole_only() {
        let registry = registry(3, 1);
        let places: Vec<_> = (0..4).map(|_| enter(&registry, "10.0.0.1")).collect();
        assert_eq!(places.iter().flatten().count(), 3);
        let traffic = registry.traffic();
        assert_eq!((traffic.open, traffic.accepted, traffic.refused), (3, 3, 1));
    }

    #[test]
    fn bytes_of_closed_connections_stay_counted() {
        let registry = registry(3, 3);
        let activity = Arc::new(Activity::new(Instant::now()));
        let place = registry.enter("127.0.0.1".parse().unwrap(), &activity).unwrap();
        activity.on_written(100, Instant::now());
        assert_eq!(registry.traffic().bytes_out, 100);
        drop(place);
        assert_eq!((registry.traffic().bytes_out, registry.traffic().open), (100, 0));
    }
}
