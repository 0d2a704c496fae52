//! What has to be done when nodes come and go: streams that moved are followed, those of lost nodes are written off.

use std::sync::Arc;
use std::time::Duration;

use sluice_cluster::directory::{Directory, Event, Fenced, MemberView};
use sluice_cluster::member::NodeId;
use sluice_cluster::port::Client;
use sluice_cluster::relay::Relays;
use sluice_media::stream::StopReason;
use sluice_media::{Stream, StreamKey};
use tokio::task::JoinSet;

use super::health::Health;
use super::requests::{KnowRequest, post};
use crate::streams::{Live, Streams, unix_ms};

/// How often the directory is told the time.
const TICK: Duration = Duration::from_millis(250);
/// How long a publisher that was told to leave may take to be gone.
const LEAVE: Duration = Duration::from_millis(250);
/// How long after a stream was let go its new owner has to be heard of; else it is written off here.
const TAKEN_UP: Duration = Duration::from_secs(5);

/// How often a lost node's streams are written off again while the store is away.
const AGAIN: Duration = Duration::from_secs(2);

/// How long nodes may take to be heard of again after this one was cut off.
const HEARD_AGAIN: Duration = Duration::from_secs(6);

/// Everything that it takes.
#[derive(Clone)]
pub(super) struct Settler {
    pub(super) me: NodeId,
    pub(super) streams: Arc<Streams>,
    pub(super) directory: Arc<Directory>,
    pub(super) relays: Arc<Relays>,
    pub(super) client: Client,
    pub(super) health: Health,
    /// Whether lost nodes' streams are in a store that all share.
    pub(super) shared: bool,
}

impl Settler {
    /// Runs until it is cancelled.
    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changed = self.directory.changed();
        let mut lost = self.health.lost();
        let mut work = JoinSet::new();
        let mut twin = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    self.directory.expire();
                    let found = self.directory.twin();
                    if let Some(node) = found.as_ref().filter(|_| twin != found) {
                        tracing::error!(%node, "another node drew the same number for its run as this one: restart one of them");
                    }
                    twin = found;
                }
                seen = changed.changed() => if seen.is_err() { return },
                () = self.health.changed() => {}
                () = self.streams.lost_some.notified() => {}
                Some(_) = work.join_next() => continue,
            }
            if std::mem::replace(&mut lost, self.health.lost()) != self.health.lost() {
                self.streams.tell_store_again();
            }
            for (key, live) in self.streams.take_lost() {
                work.spawn(self.clone().given_up(key, live));
            }
            for event in self.directory.events() {
                match event {
                    Event::Lost { id, .. } => {
                        work.spawn(self.clone().write_off(id));
                    }
                    Event::Displaced { key, epoch, by: Fenced { owner, .. } } => {
                        self.streams.lose(&key, epoch, owner.as_ref().map_or("another", NodeId::as_str));
                    }
                    Event::Behind { key, owner, highest } => {
                        work.spawn(self.clone().teach(key, owner, highest));
                    }
                }
            }
        }
    }

    /// Another node does not know that a stream of its own has a higher epoch.
    async fn teach(self, key: StreamKey, owner: NodeId, highest: u64) {
        let Some(addr) = self.directory.address(&owner) else { return };
        let body = KnowRequest { app: key.app.to_string(), id: key.id.to_string(), epoch: highest };
        if let Err(error) = self.client.ask(&addr, post("/v1/know", &body), LEAVE * 4).await {
            tracing::debug!(stream = %key, node = %owner, %error, "it cannot be told of a higher epoch");
        }
    }

    /// A stream is another node's now: those who watch it here follow it there. In the store it is ended in the epoch in
    /// which this node had it: where a later one has begun, nothing happens by that, and where the node that took it
    /// has died meanwhile, it does not stay live for ever.
    async fn given_up(self, key: StreamKey, live: Live) {
        self.follow(&key, &live).await;
        tokio::time::sleep(TAKEN_UP).await;
        while let Err(error) = self.streams.finish(&key, &live).await {
            tracing::debug!(stream = %key, %error, "a stream that was given up cannot be written off yet");
            if !error.is_away() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Waits until the publisher of a stream has left it.
    pub(super) async fn left(&self, stream: &Stream) {
        let mut changes = self.streams.hub().watch();
        let gone = async {
            while !stream.is_interrupted() && !stream.is_ended() && changes.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(LEAVE, gone).await;
    }

    /// Those who watch the stream here go on with what the other node has, as soon as it is known who that is.
    async fn follow(&self, key: &StreamKey, live: &Live) {
        let stream = &live.stream;
        self.left(stream).await;
        if stream.readers() == 0 {
            // Nobody sees what is left of it.
            self.streams.hub().stop(key, StopReason::Moved { to: "another node".into() });
            return;
        }
        let mut changed = self.directory.changed();
        let known =
            async { while self.directory.sources(key).is_empty() && changed.changed().await.is_ok() {} };
        let known = tokio::time::timeout(TAKEN_UP, known).await.is_ok();
        let followed = stream.is_ended() || (known && self.relays.take_up(key));
        if !followed {
            tracing::warn!(stream = %key, "nobody is heard of who has the stream now: it ends for those who watch it here");
        }
    }

    /// The streams of a node that is lost are nobody's: the store is told, so that none stays live without an owner.
    async fn write_off(self, lost: NodeId) {
        tracing::warn!(node = %lost, "the node is lost: its streams are free");
        if !self.shared {
            return;
        }
        // All nodes know of it; they look one after the other whether it is still to be done.
        tokio::time::sleep(Duration::from_millis(300) * self.rank()).await;
        loop {
            // When this node itself was cut off, the others may be well: they are given time to be heard again.
            if !self.health.is_here() {
                while !self.health.is_here() {
                    tokio::time::sleep(AGAIN).await;
                }
                tokio::time::sleep(HEARD_AGAIN).await;
            }
            // When it is back, its streams are its own business.
            let back = |m: MemberView| m.reachable || m.heard_ago.is_some_and(|ago| ago < HEARD_AGAIN);
            if self.directory.member(&lost).is_none_or(back) {
                return;
            }
            match self.streams.store().recover(lost.as_str(), unix_ms()).await {
                Ok(r) => {
                    let (finished, deleted) = (r.finished, r.deleted);
                    return tracing::info!(node = %lost, finished, deleted, "its streams are written off");
                }
                // Until then, whoever reads the records sees by their age that they are not live.
                Err(error) => tracing::debug!(node = %lost, %error, "its streams cannot be written off yet"),
            }
            tokio::time::sleep(AGAIN + Duration::from_millis(rand::random_range(0..1000))).await;
        }
    }

    /// How many reachable members come before this one.
    fn rank(&self) -> u32 {
        let before = self.directory.members().iter().filter(|m| m.reachable && m.id < self.me).count();
        u32::try_from(before).unwrap_or(u32::MAX).min(8)
    }
}
