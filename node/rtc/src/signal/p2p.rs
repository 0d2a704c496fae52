//! Peer to peer: two clients meet under an id, and what one says of its descriptions and candidates is passed to the other.
//! No media comes here. Both have to be connected to the same node: a balancer has to send those of one id to one node.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;
use sluice_media::StreamKey;

use super::outlet::Outlet;
use super::reply::{self, Refusing};

/// One who waits, or talks.
pub(super) struct Peer {
    /// The number of its connection.
    pub(super) connection: u64,
    pub(super) outlet: Outlet,
    /// It takes several peers, each under an id of its own.
    pub(super) multi: bool,
    /// It sends nothing, so the other one makes the offer.
    pub(super) only_plays: bool,
}

/// Where peers meet.
#[derive(Default)]
pub(super) struct Meetings(Mutex<HashMap<StreamKey, Vec<Peer>>>);

impl Meetings {
    fn lock(&self) -> MutexGuard<'_, HashMap<StreamKey, Vec<Peer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; `fresh` makes an id for a meeting of its own. True when it is in now, false when it was sent to another id.
    pub(super) fn join(
        &self,
        key: &StreamKey,
        peer: Peer,
        fresh: impl FnOnce() -> String,
    ) -> Result<bool, Refusing> {
        let mut meetings = self.lock();
        let others = meetings.entry(key.clone()).or_default();
        // Joining again is beginning anew.
        others.retain(|other| other.connection != peer.connection);
        if let [host] = &others[..]
            && host.multi
        {
            let id = fresh();
            for one in [host, &peer] {
                one.outlet.say(json!({"command": "connectWithNewId", "streamId": id}).to_string());
            }
            return Ok(false);
        }
        if others.len() >= 2 {
            return Err(Refusing::new(
                "streamIdInUse",
                format!("two peers are talking under {} already: choose another id", key.id),
            ));
        }
        peer.outlet.say(reply::notification("joined", json!({"streamId": &*key.id})));
        others.push(peer);
        if let [first, second] = &others[..] {
            let offers = if first.only_plays && !second.only_plays { second } else { first };
            offers.outlet.say(reply::start(&key.id, ""));
        }
        Ok(true)
    }

    /// Whether this connection is in.
    pub(super) fn has(&self, key: &StreamKey, connection: u64) -> bool {
        self.lock().get(key).is_some_and(|peers| peers.iter().any(|peer| peer.connection == connection))
    }

    /// Says something to the other one; false when there is none, or who says it is not in.
    pub(super) fn relay(&self, key: &StreamKey, connection: u64, text: &str) -> bool {
        let meetings = self.lock();
        let Some(peers) = meetings.get(key) else { return false };
        if !peers.iter().any(|peer| peer.connection == connection) {
            return false;
        }
        let other = peers.iter().find(|peer| peer.connection != connection);
        other.is_some_and(|other| other.outlet.say(text.to_owned()))
    }

    /// One less; the other is told to close its peer connection. False when it was not in.
    pub(super) fn leave(&self, key: &StreamKey, connection: u64) -> bool {
        let mut meetings = self.lock();
        let Some(peers) = meetings.get_mut(key) else { return false };
        let before = peers.len();
        peers.retain(|peer| peer.connection != connection);
        let was_in = peers.len() < before;
        if was_in {
            peers.iter().for_each(|other| {
                other.outlet.say(reply::stop(&key.id));
            });
        }
        if peers.is_empty() {
            meetings.remove(key);
        }
        was_in
    }
}
