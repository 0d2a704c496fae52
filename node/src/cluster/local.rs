//! What this node tells the others of itself: the directory has it, and is told here what changes.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use sluice_api::ApiState;
use sluice_cluster::directory::Directory;
use sluice_cluster::member::{Capacity, Load, Member, Owned, Viewers};
use sluice_media::session::Protocol;
use sluice_media::{Stream, StreamKey};
use tokio::sync::watch;

use super::fetch::Carries;
use super::health::Health;
use crate::config::{Config, LiveConfig};
use crate::streams::{Live, Streams, numbers};

/// How often load and viewers are told.
const EVERY: Duration = Duration::from_secs(1);

/// This node as the others see it.
pub(super) struct Myself {
    /// What never changes; load, capacity and draining are filled in.
    pub(super) member: Member,
    pub(super) config: Arc<LiveConfig>,
    pub(super) streams: Arc<Streams>,
    pub(super) directory: Arc<Directory>,
    pub(super) carries: Arc<Carries>,
    pub(super) health: Health,
    /// Measures the machine; there once the API is.
    pub(super) api: OnceLock<Weak<ApiState>>,
    /// For the membership, which tells it in its own way.
    pub(super) told: watch::Sender<Member>,
}

impl Myself {
    /// Tells what changes, every second and when it matters. Runs until it is cancelled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut draining = self.streams.drains();
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                changed = draining.changed() => if changed.is_err() { return },
            }
            self.tell();
        }
    }

    /// Tells how it is now.
    pub(super) fn tell(&self) {
        let draining = self.streams.drains().borrow().is_on() || self.streams.is_stopping();
        let capacity = capacity(&self.config.get());
        let member = Member { load: self.load(), capacity, draining, ..self.member.clone() };
        self.directory.describe_me(member.clone());
        self.told.send_replace(member);
        {
            // Whoever gives a stream up takes it off this list first.
            let live = self.streams.live();
            for (key, live) in live.iter().filter(|(_, l)| !l.stream.is_ended()) {
                // Where a higher epoch is known, the directory says so in its events.
                let _ = self.directory.own(owned(key, live));
            }
        }
        let hub = self.streams.hub();
        self.carries.tell(&self.directory, |key| hub.get(key).map(|s| viewers(&s)).unwrap_or_default());
    }

    fn load(&self) -> Load {
        let machine = self.api.get().and_then(Weak::upgrade).map(|a| a.load()).unwrap_or_default();
        let streams = self.streams.hub().streams();
        let store_ms = self.streams.store().timings().snapshot().mean_millis();
        Load {
            cpu_percent: machine.cpu_percent,
            memory_percent: machine.memory_percent,
            memory_total: machine.memory_total,
            memory_bytes: machine.resident,
            streams: self.streams.list(false).len() as u64,
            relayed: streams.iter().filter(|s| s.is_relayed()).count() as u64,
            viewers: streams.iter().map(|s| s.stats().all_viewers()).sum(),
            bytes_in: machine.bytes_in,
            bytes_out: machine.bytes_out,
            encoder_sessions: 0,
            store_ms: if self.health.is_here() { (store_ms * 100.0).round() / 100.0 } else { -1.0 },
        }
    }
}

fn owned(key: &StreamKey, live: &Live) -> Owned {
    let stream = &live.stream;
    Owned {
        app: key.app.clone(),
        id: key.id.clone(),
        epoch: live.epoch,
        interrupted: stream.is_interrupted(),
        bitrate: stream.bitrate(),
        viewers: viewers(stream),
        numbers: numbers(stream).unwrap_or(live.reserved),
        part: live.part().map(Arc::new),
    }
}

fn viewers(stream: &Stream) -> Viewers {
    let stats = stream.stats();
    Viewers {
        hls: stats.viewers(Protocol::Hls),
        rtmp: stats.viewers(Protocol::Rtmp),
        webrtc: stats.viewers(Protocol::WebRtc),
    }
}

/// The capacity that the configuration gives.
pub(super) fn capacity(config: &Config) -> Capacity {
    let connections = u64::from(config.http_max_connections) + u64::from(config.rtmp_max_connections);
    Capacity {
        streams: u64::from(config.max_streams),
        connections: config.max_viewers.map_or(connections, |viewers| connections.min(viewers.into())),
    }
}
