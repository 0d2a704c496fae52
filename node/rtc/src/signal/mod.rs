//! Ant Media Server's signalling over a WebSocket, `/{app}/websocket`: what its clients say to publish, to play, to meet in
//! rooms and to talk to each other.
//!
//! - [`message`]: commands of clients, typed and bounded. `reply`: what they are told.
//! - [`Connection`]: one client, without a socket. `session`, `play`: its sessions, each a task of its own.
//! - [`Directory`]: what the node knows of streams and rooms. [`Media`]: what opens sessions.
//! - [`data`]: data channels of any session. `p2p`: clients that need only be introduced to each other.
//! - `kept`: publishers whose WebSocket is lost for a moment. `websocket`: the socket.
//!
//! There is no standard: the clients of AMS are the judge.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

mod connection;
pub mod data;
mod directory;
mod kept;
mod media;
pub mod message;
mod outlet;
mod p2p;
mod play;
mod reply;
mod session;
#[cfg(test)]
mod tests;
mod websocket;

pub use connection::{Client, Connection, TooFast};
pub use directory::{AppSettings, Directory, Distribution, Rendition, Subtrack};
pub use media::{Again, Link, Media, Running};
pub use outlet::Inbox;
pub use websocket::router;

use crate::crowd::{Crowd, Member};
use crate::{Exempt, IceServer};
use outlet::Outlet;
use reply::Refusing;

/// How long the node may take to say what it knows.
const ASKED: Duration = Duration::from_secs(5);
/// The time to tell a client what waits for it, and that its connection ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is looked whether all have left.
const LOOK: Duration = Duration::from_millis(10);

/// How many WebSockets there may be, and how long they may be silent.
pub struct Limits {
    /// All at once.
    pub connections: usize,
    /// Of one client: an address, of IPv6 a /64.
    pub per_address: usize,
    /// Who is not counted by address.
    pub exempt: Exempt,
    /// Without a word, a pong included, for so long, a connection ends. Clients ping every 3 s, and are pinged.
    pub idle: Duration,
    /// How long the client may take nothing.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 20_000,
            per_address: 500,
            exempt: Exempt::default(),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(10),
        }
    }
}

/// There are as many connections as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node has as many signalling connections as it may have, or your address has: try another node, or later"
)]
pub struct Full;

/// Signalling of this node. Clones are the same.
#[derive(Clone)]
pub struct Signalling(Arc<Shared>);

/// What all connections share.
pub(crate) struct Shared {
    media: Arc<dyn Media>,
    directory: Arc<dyn Directory>,
    ice_servers: Vec<IceServer>,
    limits: Limits,
    crowd: Arc<Crowd>,
    kept: kept::Kept,
    meetings: p2p::Meetings,
    table: Mutex<Table>,
    ids: AtomicU64,
    seed: u64,
    /// Clients are sent elsewhere.
    stopping: AtomicBool,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Outlet>,
}

/// A place among the connections; dropping it gives it back.
pub(crate) struct Place {
    shared: Arc<Shared>,
    id: u64,
    _member: Member,
}

impl Signalling {
    /// `ice_servers` is what clients are told; `seed` makes the ids of those who want one differ from node to node.
    pub fn new(
        media: Arc<dyn Media>,
        directory: Arc<dyn Directory>,
        ice_servers: Vec<IceServer>,
        limits: Limits,
        seed: u64,
    ) -> Self {
        let crowd = Crowd::new(limits.connections, limits.per_address, limits.exempt.clone());
        Signalling(Arc::new(Shared {
            media,
            directory,
            ice_servers,
            limits,
            crowd,
            kept: kept::Kept::default(),
            meetings: p2p::Meetings::default(),
            table: Mutex::default(),
            ids: AtomicU64::new(0),
            seed,
            stopping: AtomicBool::new(false),
        }))
    }

    /// Lets a client in. Must be used inside a tokio runtime.
    ///
    /// # Errors
    /// [`Full`].
    pub fn connect(&self, client: Client) -> Result<(Connection, Inbox), Full> {
        let shared = &self.0;
        let member = shared.crowd.admit(client.peer.ip()).ok_or(Full)?;
        let (outlet, inbox) = outlet::outlet();
        let id = {
            let mut table = shared.table();
            table.next += 1;
            let id = table.next;
            table.open.insert(id, outlet.clone());
            id
        };
        let place = Place { shared: shared.clone(), id, _member: member };
        Ok((Connection::new(shared.clone(), client, outlet, place), inbox))
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.0.table().open.len()
    }

    /// Tells all clients that this node is going to stop, one after the other within `spread`: each leaves by itself and comes
    /// back elsewhere. Streams of publishers that do may be taken over at once. How many were told.
    pub async fn server_will_stop(&self, spread: Duration) -> usize {
        self.0.stopping.store(true, Ordering::Release);
        let outlets: Vec<Outlet> = self.0.table().open.values().cloned().collect();
        let number = u32::try_from(outlets.len()).unwrap_or(u32::MAX).max(1);
        let began = tokio::time::Instant::now();
        let mut told = 0;
        for (n, outlet) in (0..).zip(&outlets) {
            tokio::time::sleep_until(began + spread / number * n).await;
            told += usize::from(outlet.say(reply::notification("server_will_stop", json!({}))));
        }
        told
    }

    /// Ends all connections, and waits until they have taken their leave, a second at most; their sessions go on for 3 s.
    pub async fn close(&self) {
        self.0.table().open.values().for_each(Outlet::hang_up);
        let end = tokio::time::Instant::now() + FAREWELL;
        while self.connections() > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id that nobody has. It need not be a secret.
    fn fresh_id(&self) -> String {
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        // An odd multiplier permutes the numbers, so none comes twice.
        let id = self.seed.wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{id:016x}")
    }
}

impl Place {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.table().open.remove(&self.id);
    }
}

/// Asks the node something, and not for ever.
async fn ask<T>(question: impl Future<Output = T>) -> Result<T, Refusing> {
    tokio::time::timeout(ASKED, question).await.map_err(|_| {
        Refusing::new("data_store_not_available", "the node could not find out in time: try again")
    })
}
