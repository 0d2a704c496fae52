//! The streams that this node owns: who may publish them, and what is remembered of each while it is live.

mod admit;
pub mod claim;
pub mod door;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sluice_cluster::member::Part;
use sluice_cluster::ownership::{Identity, PublisherState, Verdict, second_publisher};
use sluice_media::session::Refusal;
use sluice_media::stream::StopReason;
use sluice_media::{Hub, Stream, StreamKey};
use sluice_store::{BeginLive, BroadcastUpdate, HlsSettings, Numbers, Store, StoreError};
use tokio::sync::watch;

use crate::apps::Apps;
use crate::config::LiveConfig;
use crate::drain::{Drains, Order, Stopping};
use claim::Claims;

/// Sequence numbers are reserved this far ahead of those in use, so that a crash never repeats one.
pub const RESERVE: u64 = 300;
/// And places on the timeline.
pub const RESERVE_TIME: Duration = Duration::from_secs(1800);

/// A stream that this node owns, with what was decided when it was published.
#[derive(Clone, Debug)]
pub struct Live {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The epoch in which this node owns it.
    pub epoch: u64,
    /// How it is packaged for HLS.
    pub hls: HlsSettings,
    /// The numbers below these are reserved.
    pub reserved: Numbers,
    /// Whether the store knows that this node owns it.
    pub claimed: bool,
    /// Whether the store knows that it is live here; if not, it is told as soon as it can be asked.
    pub stored: bool,
    /// What the store is told of it.
    pub known: BroadcastUpdate,
    /// Who publishes it.
    pub publisher: Identity,
}

impl Live {
    /// The main track that it belongs to, and what is said of it there.
    pub fn part(&self) -> Option<Part> {
        let text = |text: &Option<String>| {
            let mut text = text.clone().unwrap_or_default();
            text.truncate(text.floor_char_boundary(Part::LONGEST));
            text
        };
        let known = &self.known;
        let of = text(&known.main_track_stream_id);
        (!of.is_empty()).then(|| Part {
            of,
            name: text(&known.name),
            meta_data: text(&known.meta_data),
            role: text(&known.role),
        })
    }

    /// Whether its publisher gives way to a new one; looks at it for a moment when it may be the same.
    pub async fn gives_way(&self, new: &Identity) -> bool {
        let mut waited = Duration::ZERO;
        loop {
            let state = PublisherState {
                identity: self.publisher.clone(),
                connected: !self.stream.is_interrupted(),
                silent_for: self.stream.silent_for(),
                moving: self.stream.is_moving(),
            };
            match second_publisher(&state, new, waited) {
                Verdict::Yield => return true,
                Verdict::Refuse => return false,
                Verdict::LookAgain(wait) => {
                    tokio::time::sleep(wait).await;
                    waited += wait;
                }
            }
        }
    }
}

/// How this node is called.
#[derive(Clone, Debug)]
pub struct Me {
    /// Its id.
    pub id: String,
    /// The address that AMS's clients are told.
    pub host: String,
    /// The port of RTMP there.
    pub rtmp_port: u16,
}

impl Me {
    fn rtmp_url(&self, key: &StreamKey) -> String {
        let port = if self.rtmp_port == 1935 { String::new() } else { format!(":{}", self.rtmp_port) };
        format!("rtmp://{}{port}/{}/{}", self.host, key.app, key.id)
    }
}

/// The streams of this node.
#[derive(Debug)]
pub struct Streams {
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    apps: Arc<Apps>,
    claims: Arc<dyn Claims>,
    node: Me,
    config: Arc<LiveConfig>,
    live: Mutex<HashMap<StreamKey, Live>>,
    starting: Mutex<HashSet<StreamKey>>,
    stopping: AtomicBool,
    drains: watch::Sender<Drains>,
    /// Held while a viewer is counted in.
    seats: Mutex<()>,
    pub(crate) again: tokio::sync::Notify,
    /// Given up to other nodes, and not followed there yet; at most all streams of this node.
    lost: Mutex<Vec<(StreamKey, Live)>>,
    pub(crate) lost_some: tokio::sync::Notify,
    /// What an earlier run of this node left live has been written off.
    recovered: AtomicBool,
    refused: [AtomicU64; Refusal::REASONS.len()],
}

impl Streams {
    /// Nothing is live yet.
    pub fn new(
        hub: Arc<Hub>,
        store: Arc<dyn Store>,
        apps: Arc<Apps>,
        claims: Arc<dyn Claims>,
        node: Me,
        config: Arc<LiveConfig>,
    ) -> Arc<Self> {
        Arc::new(Streams {
            hub,
            store,
            apps,
            claims,
            node,
            config,
            live: Mutex::default(),
            starting: Mutex::default(),
            stopping: AtomicBool::new(false),
            drains: watch::Sender::new(Drains::default()),
            seats: Mutex::default(),
            again: tokio::sync::Notify::new(),
            lost: Mutex::default(),
            lost_some: tokio::sync::Notify::new(),
            recovered: AtomicBool::new(true),
            refused: Default::default(),
        })
    }

    /// From now on nobody new is let in, until the node ends.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Takes an order to let nobody new in.
    pub fn drain(&self, order: Order) {
        tracing::info!(by = ?order.by, reason = %order.reason, deadline = ?order.deadline, "draining: no new sessions");
        self.drains.send_modify(|drains| drains.order(order, Instant::now()));
    }

    /// Lets everybody in again.
    ///
    /// # Errors
    /// The node is stopping.
    pub fn undrain(&self) -> Result<(), Stopping> {
        let mut taken = Ok(false);
        self.drains.send_if_modified(|drains| {
            taken = drains.take_back();
            taken == Ok(true)
        });
        if taken? {
            tracing::info!("draining was taken back: new sessions are let in again");
        }
        Ok(())
    }

    /// Whether and how the node drains; changes when that does.
    pub fn drains(&self) -> watch::Receiver<Drains> {
        self.drains.subscribe()
    }

    /// Whether new publishers and viewers are let in.
    ///
    /// # Errors
    /// Why not.
    pub fn open(&self) -> Result<(), Refusal> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Refusal::Stopping);
        }
        let drains = self.drains.borrow();
        match drains.refuses(Instant::now()) {
            true if drains.is_stopping() => Err(Refusal::Stopping),
            true => Err(Refusal::Draining),
            false => Ok(()),
        }
    }

    /// Who is here: streams that this node owns, and viewers by any protocol.
    pub fn sessions(&self) -> (usize, u64) {
        let owned = self.live().values().filter(|live| !live.stream.is_ended()).count();
        (owned, self.viewers())
    }

    /// Viewers of all streams that this node has.
    pub fn viewers(&self) -> u64 {
        self.hub.streams().iter().map(|stream| stream.stats().all_viewers()).sum()
    }

    /// Whether a publisher was asked to come back elsewhere, has left, and is not there yet.
    pub fn is_giving_away(&self) -> bool {
        let is = |stream: &Stream| stream.is_moving() && stream.is_interrupted() && !stream.is_ended();
        self.live().values().any(|live| is(&live.stream))
    }

    /// Whether the node is ending.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// How a stream of this node is packaged for HLS.
    pub fn hls(&self, key: &StreamKey) -> Option<HlsSettings> {
        self.live().get(key).map(|l| l.hls)
    }

    /// What this node owns.
    pub fn live(&self) -> MutexGuard<'_, HashMap<StreamKey, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them.
    pub fn get(&self, key: &StreamKey) -> Option<Live> {
        self.live().get(key).cloned()
    }

    /// Those of them that have ended and are not written off yet, or those that have not ended.
    pub fn list(&self, ended: bool) -> Vec<(StreamKey, Live)> {
        let live = self.live();
        live.iter()
            .filter(|(_, l)| l.stream.is_ended() == ended)
            .map(|(k, l)| (k.clone(), l.clone()))
            .collect()
    }

    /// Where all of it is stored.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Reserves numbers ahead of those in use; gives those that are not reserved yet.
    pub(crate) async fn reserve(
        &self,
        key: &StreamKey,
        epoch: u64,
        in_use: Numbers,
    ) -> Result<Numbers, StoreError> {
        let ahead = Numbers {
            media_sequence: in_use.media_sequence + RESERVE,
            discontinuity_sequence: in_use.discontinuity_sequence + RESERVE,
            timeline: in_use.timeline.saturating_add(micros(RESERVE_TIME)),
        };
        self.store.reserve_sequence(&key.app, &key.id, epoch, unix_ms(), ahead).await?;
        Ok(ahead)
    }

    /// Tells the store that a stream is live here, and reserves its numbers.
    pub(crate) async fn register(&self, key: &StreamKey, live: &Live) -> Result<Numbers, StoreError> {
        let begin = BeginLive {
            stream_id: key.id.to_string(),
            node: self.node.id.clone(),
            epoch: live.epoch,
            now: unix_ms(),
            known: live.known.clone(),
        };
        self.store.begin_live(&key.app, begin).await?;
        self.reserve(key, live.epoch, numbers(&live.stream).unwrap_or(live.reserved)).await
    }

    /// Changes what is remembered of a stream, if it is still owned in that epoch.
    pub(crate) fn change(&self, key: &StreamKey, epoch: u64, change: impl FnOnce(&mut Live)) {
        if let Some(live) = self.live().get_mut(key).filter(|l| l.epoch == epoch) {
            change(live);
        }
    }

    /// Stops all streams of an app that does not exist any more.
    pub fn stop_app(&self, app: &str) {
        for stream in self.hub.streams() {
            if *stream.key().app == *app {
                self.hub.stop(stream.key(), StopReason::Deleted);
            }
        }
    }

    /// The store may have lost what it was told: it is told again.
    pub fn tell_store_again(&self) {
        self.live().values_mut().for_each(|l| (l.claimed, l.stored) = (false, false));
        // Wakes who tells it.
        self.again.notify_one();
    }

    /// The hub with all streams, those of other nodes that are watched here included.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// How this node is called.
    pub fn me(&self) -> &Me {
        &self.node
    }

    /// Publishers refused so far, by reason.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        Refusal::REASONS.iter().zip(&self.refused).map(|(r, n)| (*r, n.load(Ordering::Relaxed))).collect()
    }

    /// Writes off a stream that has ended; forgets it when the store has it.
    pub(crate) async fn finish(&self, key: &StreamKey, live: &Live) -> Result<(), StoreError> {
        let now = unix_ms();
        let last = sluice_api::live_update(&live.stream, now);
        // The others need not wait for the store.
        self.claims.ended(key, live.epoch);
        let ended = self.store.end_live(&key.app, &key.id, live.epoch, now, last).await?;
        self.forget(key, live.epoch);
        tracing::info!(stream = %key, ?ended, "stream ended");
        Ok(())
    }

    /// The store says that a higher epoch has the stream, or that it has lost what it knew; in that case it is told
    /// again.
    pub(crate) fn fenced(&self, key: &StreamKey, epoch: u64, current: u64, to: &str) {
        if current > epoch {
            self.claims.fenced(key, current);
            self.lose(key, epoch, to);
        } else {
            self.change(key, epoch, |l| (l.claimed, l.stored) = (false, false));
        }
    }

    /// The stream is not this node's any more: its publisher is told, those who watch it stay.
    pub fn lose(&self, key: &StreamKey, epoch: u64, to: &str) {
        let Some(live) = self.forget(key, epoch) else { return };
        tracing::warn!(stream = %key, to, "the stream is published to another node now: its publisher here is told to stop");
        live.stream.displace_to(to);
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push((key.clone(), live));
        self.lost_some.notify_one();
    }

    /// Those that were [lost](Self::lose) since the last call: to be followed to where they are now, and ended in the
    /// store in case that nobody has them.
    pub(crate) fn take_lost(&self) -> Vec<(StreamKey, Live)> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The store could not be asked what an earlier run left live.
    pub fn recover_later(&self) {
        self.recovered.store(false, Ordering::Release);
    }

    /// Writes off what an earlier run of this node left live, if that is still to be done.
    pub(crate) async fn recover(&self) -> Result<(), StoreError> {
        if !self.recovered.load(Ordering::Acquire) {
            self.store.recover(&self.node.id, unix_ms()).await?;
            self.recovered.store(true, Ordering::Release);
            // It may have met those of this run.
            self.tell_store_again();
        }
        Ok(())
    }

    /// Takes a stream off the list of those that this node owns.
    pub(crate) fn forget(&self, key: &StreamKey, epoch: u64) -> Option<Live> {
        let gone = {
            let mut all = self.live();
            if all.get(key).is_none_or(|l| l.epoch != epoch) {
                return None;
            }
            all.remove(key)
        };
        self.claims.ended(key, epoch);
        gone
    }
}

/// The newest frame of a stream lasts no longer than this.
const LAST_FRAME: Duration = Duration::from_millis(100);

/// The numbers in use of a stream, and the end of what there is on its timeline; `None` before its first frame.
pub fn numbers(stream: &Stream) -> Option<Numbers> {
    let stamp = stream.newest_stamp()?;
    Some(Numbers {
        media_sequence: stamp.media_sequence,
        discontinuity_sequence: stamp.discontinuity_sequence,
        timeline: (stream.newest_time().unwrap_or(stamp.start) + LAST_FRAME).0,
    })
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

fn away(error: StoreError) -> Refusal {
    Refusal::Unavailable(format!("the store does not answer, so nothing new can be published: {error}"))
}
