//! Members by their records in the store that all nodes share. A node counts up in its own record; the others see it change,
//! each by its own clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sluice_store::{NodeRecord, Store, StoreError};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::records::{Records, Seen, record};
use super::{Membership, Peer};
use crate::member::{Member, NodeId};

/// The store has this long to answer a call.
const CALL: Duration = Duration::from_secs(5);

/// After a failure the next attempt waits at least, and at most, this long; then a random part of it.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// As many forgotten records are deleted in a round.
const DELETED: usize = 16;

/// When a node writes and reads records.
#[derive(Clone, Debug)]
pub struct StoreTiming {
    /// At most this long passes between two heartbeats ...
    pub heartbeat: Duration,
    /// ... and no longer than this, for they renew the node's lease as well.
    pub renew: Duration,
    /// A node whose record does not change for so long is listed no more.
    pub dead: Duration,
    /// The record of a node that does not change for so long is deleted.
    pub forget: Duration,
}

impl Default for StoreTiming {
    fn default() -> Self {
        StoreTiming {
            heartbeat: Duration::from_secs(5),
            renew: Duration::from_secs(2),
            dead: Duration::from_secs(20),
            forget: Duration::from_secs(3600),
        }
    }
}

/// How the store does, as the heartbeats see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// The store cannot be asked since then.
    pub away_since: Option<Instant>,
    /// Why.
    pub why: Option<String>,
    /// How often the record of this node was gone, as when the store came back empty: what else it keeps of this node should
    /// be written again.
    pub lost: u64,
}

/// The members that have a record in the store. Stops when dropped; the record stays (see [`leave`](FromStore::leave)).
pub struct FromStore {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// As much of a store as is needed here.
#[async_trait]
trait Nodes: Send + Sync {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;
    async fn put(&self, node: NodeRecord) -> Result<(), StoreError>;
    async fn delete(&self, id: &NodeId) -> Result<bool, StoreError>;
}

#[async_trait]
impl Nodes for Arc<dyn Store> {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        in_time("read the nodes", self.as_ref().nodes()).await
    }

    async fn put(&self, node: NodeRecord) -> Result<(), StoreError> {
        in_time("write the record of this node", self.put_node(node)).await
    }

    async fn delete(&self, id: &NodeId) -> Result<bool, StoreError> {
        in_time("delete the record of a node", self.delete_node(id.as_str())).await
    }
}

struct Shared {
    store: Box<dyn Nodes>,
    me: watch::Receiver<Member>,
    timing: StoreTiming,
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
    health: watch::Sender<Health>,
}

struct Known {
    records: Records,
    /// The last time that the store could be read. Time stands still while it cannot.
    read_at: Instant,
}

impl FromStore {
    /// Begins to write the record of `me`, whose id and boot must not change, and to read those of the others.
    pub fn start(store: Arc<dyn Store>, me: watch::Receiver<Member>, timing: StoreTiming) -> FromStore {
        Self::start_on(Box::new(store), me, timing)
    }

    fn start_on(store: Box<dyn Nodes>, me: watch::Receiver<Member>, timing: StoreTiming) -> FromStore {
        let records = Records::new(&me.borrow(), timing.dead, timing.forget);
        let shared = Arc::new(Shared {
            store,
            me,
            timing,
            known: Mutex::new(Known { records, read_at: Instant::now() }),
            changed: watch::Sender::new(0),
            health: watch::Sender::new(Health::default()),
        });
        let task = tokio::spawn(beat(shared.clone())).abort_handle();
        FromStore { shared, task }
    }

    /// How the store does.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Stops, and deletes the record of this node, so that nobody waits for it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.task.abort();
        let me = self.shared.me.borrow().id.clone();
        self.shared.store.delete(&me).await?;
        Ok(())
    }
}

impl Drop for FromStore {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Membership for FromStore {
    fn peers(&self) -> Vec<Peer> {
        let known = self.shared.known();
        known.records.peers(known.read_at)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    async fn remove(&self, id: &NodeId) -> bool {
        if self.shared.me.borrow().id == *id {
            return false;
        }
        self.shared.known().records.remove(id);
        self.shared.bump();
        match self.shared.store.delete(id).await {
            Ok(deleted) => deleted,
            Err(error) => {
                tracing::warn!(node = %id, %error, "the record of a node could not be deleted");
                false
            }
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Reads all records.
    async fn look(&self) -> Result<Seen, StoreError> {
        let records = self.store.nodes().await?;
        let now = Instant::now();
        let seen = {
            let mut known = self.known();
            if self.health.borrow().away_since.is_some() {
                let away = now.duration_since(known.read_at);
                known.records.pause(away);
            }
            known.read_at = now;
            known.records.look(records, now)
        };
        self.bump();
        Ok(seen)
    }

    fn came_back(&self) {
        self.health.send_if_modified(|health| {
            let Some(since) = health.away_since.take() else { return false };
            health.why = None;
            tracing::info!(away = ?since.elapsed(), "the store answers again");
            true
        });
    }

    fn failed(&self, error: &StoreError) {
        self.health.send_if_modified(|health| {
            health.why = Some(error.to_string());
            if health.away_since.is_none() {
                health.away_since = Some(Instant::now());
                tracing::warn!(%error, "the store does not answer; the nodes that were there are taken to be there still");
            }
            true
        });
    }
}

/// Heartbeats, for ever.
async fn beat(shared: Arc<Shared>) {
    let every = shared.timing.heartbeat.min(shared.timing.renew);
    let mut wait = BACKOFF.0;
    let mut written = false;
    let mut warned = false;
    for counter in 1.. {
        let begun = Instant::now();
        let looked = shared.look().await;
        let me = shared.me.borrow().clone();
        let put = shared.store.put(record(&me, counter, now_ms())).await;
        match looked.and_then(|seen| put.map(|()| seen)) {
            Ok(seen) => {
                if written && !seen.own && seen.namesake.is_none() {
                    tracing::warn!("the record of this node was gone from the store, and is written again");
                    shared.health.send_modify(|health| health.lost += 1);
                }
                if let Some(boot) = seen.namesake.filter(|_| written && !warned) {
                    warned = true;
                    tracing::error!(
                        node = %me.id, boot = boot.0,
                        "another process uses the node id of this one: give each node an id of its own"
                    );
                }
                written = true;
                wait = BACKOFF.0;
                shared.came_back();
                for id in seen.forgotten.iter().take(DELETED) {
                    tracing::info!(node = %id, "a node is gone for long, and forgotten");
                    let _ = shared.store.delete(id).await;
                }
                tokio::time::sleep_until(begun + every).await;
            }
            Err(error) => {
                shared.failed(&error);
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
        }
    }
}

async fn in_time<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Timeout { what, seconds: CALL.as_secs() }),
    }
}

/// To be shown only.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
