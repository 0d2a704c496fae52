//! One live stream: its tracks, its state, and what everybody may ask of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, watch};

use crate::aside::Aside;
use crate::frame::{Arrived, GroupHead};
use crate::reader::{Reader, Start};
use crate::ring::{Retention, Ring};
use crate::segmentation::{Origin, Segmentation, Wish};
use crate::stats::StreamStats;
use crate::{Stamp, StreamKey, Timestamp, TrackConfig, TrackId};

/// How a stream is cut and what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// Lengths of segments and parts.
    pub wish: Wish,
    /// How far back readers can begin, per track.
    pub retain: Duration,
    /// The most payload bytes that are kept per track.
    pub retain_bytes: u64,
}

impl Default for StreamSettings {
    fn default() -> Self {
        StreamSettings {
            wish: Wish { segment: Duration::from_secs(2), part: Duration::from_millis(200) },
            retain: Duration::from_secs(34),
            retain_bytes: 64 << 20,
        }
    }
}

/// A value of the publisher's metadata (RTMP's onMetaData).
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// True or false.
    Flag(bool),
}

/// Why a publisher is told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody asked for it over REST or the dashboard.
    Requested,
    /// The stream's record was deleted.
    Deleted,
    /// The node is stopping.
    Stopping,
    /// It had fallen silent, and the stream is published by somebody else now. The stream goes on.
    TakenOver,
    /// The stream is published to another node now. It goes on here for those who watch, fetched from there.
    Moved {
        /// The other node.
        to: String,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let StopReason::Moved { to } = self {
            return write!(f, "the stream is published to the node {to} now");
        }
        f.write_str(match self {
            StopReason::Requested => "the stream was stopped by an administrator",
            StopReason::Deleted => "the stream was deleted by an administrator",
            StopReason::Stopping => "the server is stopping",
            StopReason::TakenOver => {
                "nothing had come for a while, and another publisher has taken the stream over"
            }
            StopReason::Moved { .. } => "the stream is published to another node now",
        })
    }
}

/// One track of a stream.
#[derive(Debug)]
pub struct Track {
    /// Its number.
    pub id: TrackId,
    /// Its groups.
    pub ring: Ring<GroupHead, Arrived>,
    config: RwLock<Arc<TrackConfig>>,
}

impl Track {
    /// The newest configuration; the one in force for a frame stands in the head of its group.
    pub fn config(&self) -> Arc<TrackConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_config(&self, config: Arc<TrackConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

/// Who writes the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Live,
    Interrupted,
    Ended,
}

/// A live stream. One [`Publisher`](crate::Publisher) writes it; any number of [`Reader`]s read it.
#[derive(Debug)]
pub struct Stream {
    key: StreamKey,
    origin: Origin,
    settings: StreamSettings,
    started: (Instant, SystemTime),
    tracks: RwLock<Vec<Arc<Track>>>,
    tracks_version: AtomicU64,
    changed: Arc<Notify>,
    segmentation: watch::Sender<Option<Segmentation>>,
    metadata: RwLock<Arc<Vec<(String, MetaValue)>>>,
    stats: Arc<StreamStats>,
    // Milliseconds after the start.
    heard: AtomicU64,
    phase: Mutex<(Phase, u64)>,
    stop: watch::Sender<Option<StopReason>>,
    ended: watch::Sender<bool>,
    // Whether all that there is to read is here; false while an older part is still being fetched.
    whole: watch::Sender<bool>,
    // Its publisher was asked to come back elsewhere.
    moving: AtomicBool,
    relayed: AtomicBool,
    // The publisher's connection is broken, at the node that owns the stream.
    away: AtomicBool,
    readers: AtomicIsize,
    aside: Aside,
    pub(crate) writer: Mutex<Option<crate::publisher::Writer>>,
}

impl Stream {
    pub(crate) fn new(key: StreamKey, origin: Origin, settings: StreamSettings) -> Self {
        Stream {
            key,
            origin,
            settings,
            started: (Instant::now(), SystemTime::now()),
            tracks: RwLock::default(),
            tracks_version: AtomicU64::new(0),
            changed: Arc::new(Notify::new()),
            segmentation: watch::Sender::new(None),
            metadata: RwLock::default(),
            stats: Arc::default(),
            heard: AtomicU64::new(0),
            phase: Mutex::new((Phase::Interrupted, 0)),
            stop: watch::Sender::new(None),
            ended: watch::Sender::new(false),
            whole: watch::Sender::new(true),
            moving: AtomicBool::new(false),
            relayed: AtomicBool::new(false),
            away: AtomicBool::new(false),
            aside: Aside::default(),
            readers: AtomicIsize::new(0),
            writer: Mutex::new(None),
        }
    }

    /// Its name.
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// The epoch and the numbers that it began with.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// How it is cut and what is kept of it.
    pub fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    /// When it started.
    pub fn started(&self) -> SystemTime {
        self.started.1
    }

    /// Seconds since it started; the clock of its [`Meter`](crate::stats::Meter)s.
    pub fn second(&self) -> u64 {
        self.started.0.elapsed().as_secs()
    }

    /// Bits per second from the publisher, over the last whole seconds.
    pub fn bitrate(&self) -> u64 {
        (self.stats.bytes.per_second(self.second()) * 8.0).round() as u64
    }

    /// How long ago its last frame came, or its publisher, when that sent none yet.
    pub fn silent_for(&self) -> Duration {
        self.started.0.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// Something came from the publisher; gives the age of the stream.
    pub(crate) fn heard(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.started.0);
        self.heard.store(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        age
    }

    /// Tells a publisher that has fallen silent to leave the stream to another; [`Hub::resume`](crate::Hub::resume)
    /// takes it up once it has.
    pub fn displace(&self) {
        self.ask_to_leave(StopReason::TakenOver);
    }

    /// Tells the publisher that another node has the stream now. What is here stays for those who watch;
    /// [`Hub::mirror`](crate::Hub::mirror) takes it up.
    pub fn displace_to(&self, node: &str) {
        self.ask_to_leave(StopReason::Moved { to: node.to_owned() });
    }

    fn ask_to_leave(&self, why: StopReason) {
        self.stop.send_if_modified(|stop| {
            let free = stop.is_none();
            if free {
                *stop = Some(why);
            }
            free
        });
    }

    /// Its publisher was asked to come back elsewhere: it gives way to whoever publishes the stream there.
    pub fn set_moving(&self) {
        self.moving.store(true, Ordering::Release);
    }

    /// Whether its publisher was [asked to come back elsewhere](Self::set_moving).
    pub fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Acquire)
    }

    /// Whether it comes from another node.
    pub fn is_relayed(&self) -> bool {
        self.relayed.load(Ordering::Acquire)
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn set_relayed(&self, relayed: bool) {
        self.relayed.store(relayed, Ordering::Release);
    }

    /// How many [`Reader`]s it has.
    pub fn readers(&self) -> usize {
        usize::try_from(self.readers.load(Ordering::Acquire)).unwrap_or(0)
    }

    pub(crate) fn count_reader(&self, by: isize) {
        self.readers.fetch_add(by, Ordering::AcqRel);
    }

    /// Waits until everything that its source keeps is here, `limit` at most. At once for a stream of this node.
    pub async fn wait_backfilled(&self, limit: Duration) {
        let mut whole = self.whole.subscribe();
        let _ = tokio::time::timeout(limit, whole.wait_for(|w| *w)).await;
    }

    /// Whether everything that its source keeps is here. Always so for a stream of this node.
    pub fn is_backfilled(&self) -> bool {
        *self.whole.borrow()
    }

    pub(crate) fn set_whole(&self, whole: bool) {
        self.whole.send_replace(whole);
    }

    /// The order that the next frame of any track gets.
    pub(crate) fn next_order(&self) -> u64 {
        let newest = self.tracks().into_iter().filter_map(|t| {
            let group = t.ring.newest(|_| true)?;
            group.len().checked_sub(1).and_then(|i| group.get(i)).map(|a| a.order + 1)
        });
        newest.max().unwrap_or(0)
    }

    /// The decoding time of the newest frame of any track.
    pub fn newest_time(&self) -> Option<Timestamp> {
        let newest = self.tracks().into_iter().filter_map(|t| {
            let group = t.ring.newest(|_| true)?;
            group.len().checked_sub(1).and_then(|i| group.get(i)).map(|a| a.frame.dts)
        });
        newest.max()
    }

    /// Whether a frame came on any track.
    pub fn has_frames(&self) -> bool {
        self.newest_stamp().is_some()
    }

    /// Its tracks, in the order in which they appeared.
    pub fn tracks(&self) -> Vec<Arc<Track>> {
        self.tracks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest configurations of its tracks.
    pub fn configs(&self) -> Vec<Arc<TrackConfig>> {
        self.tracks().iter().map(|t| t.config()).collect()
    }

    /// How it is cut, known after its first second or GOP, whichever is longer.
    pub fn segmentation(&self) -> Option<Segmentation> {
        *self.segmentation.borrow()
    }

    /// The stamp of the newest group of any track.
    pub fn newest_stamp(&self) -> Option<Arc<Stamp>> {
        let newest =
            self.tracks().iter().filter_map(|t| t.ring.newest(|_| true)).max_by_key(|g| g.head.stamp.place());
        newest.map(|g| g.head.stamp.clone())
    }

    /// To wait until [`segmentation`](Self::segmentation) is known.
    pub fn watch_segmentation(&self) -> watch::Receiver<Option<Segmentation>> {
        self.segmentation.subscribe()
    }

    /// What the publisher says about it.
    pub fn metadata(&self) -> Arc<Vec<(String, MetaValue)>> {
        self.metadata.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What goes to and fro beside the media.
    pub fn aside(&self) -> &Aside {
        &self.aside
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<StreamStats> {
        &self.stats
    }

    /// A reader of all tracks. `max_lag` is how far it may fall behind before it skips to the newest group.
    pub fn subscribe(self: &Arc<Self>, start: Start, max_lag: Duration) -> Reader {
        Reader::new(self.clone(), start, max_lag)
    }

    /// Whether its publisher's connection is broken at the moment.
    pub fn is_interrupted(&self) -> bool {
        self.phase().0 == Phase::Interrupted || self.away.load(Ordering::Relaxed)
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        self.phase().0 == Phase::Ended
    }

    /// Waits until it is over.
    pub async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives in self, so this cannot fail before it is true.
        let _ = ended.wait_for(|e| *e).await;
    }

    /// Payload bytes that are kept for readers.
    pub fn bytes(&self) -> u64 {
        self.tracks().iter().map(|t| t.ring.bytes()).sum()
    }

    fn phase(&self) -> MutexGuard<'_, (Phase, u64)> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self) -> &Notify {
        &self.changed
    }

    pub(crate) fn tracks_version(&self) -> u64 {
        self.tracks_version.load(Ordering::Acquire)
    }

    pub(crate) fn add_track(&self, config: Arc<TrackConfig>) -> Option<Arc<Track>> {
        let mut tracks = self.tracks.write().unwrap_or_else(PoisonError::into_inner);
        let retention = Retention { time: self.settings.retain, bytes: self.settings.retain_bytes };
        let track = Arc::new(Track {
            id: TrackId::try_from(tracks.len()).ok().filter(|id| *id < 16)?,
            ring: Ring::new(retention, self.changed.clone()),
            config: RwLock::new(config),
        });
        tracks.push(track.clone());
        self.tracks_version.fetch_add(1, Ordering::Release);
        Some(track)
    }

    pub(crate) fn set_metadata(&self, metadata: Vec<(String, MetaValue)>) {
        *self.metadata.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(metadata);
    }

    pub(crate) fn set_segmentation(&self, known: Segmentation) {
        self.segmentation.send_if_modified(|s| s.replace(known).is_none());
    }

    /// Takes the place of the one writer; the number tells it from earlier ones.
    pub(crate) fn attach(&self) -> Option<u64> {
        let mut phase = self.phase();
        if phase.0 != Phase::Interrupted {
            return None;
        }
        *phase = (Phase::Live, phase.1 + 1);
        // Whoever was told to leave has left.
        self.stop.send_replace(None);
        self.moving.store(false, Ordering::Release);
        self.heard(Instant::now());
        Some(phase.1)
    }

    /// The writer is gone without a word.
    pub(crate) fn interrupt(&self, generation: u64) -> bool {
        let mut phase = self.phase();
        let mine = *phase == (Phase::Live, generation);
        if mine {
            phase.0 = Phase::Interrupted;
        }
        mine
    }

    pub(crate) fn end_if_interrupted(&self, generation: u64) -> bool {
        let mut phase = self.phase();
        if *phase != (Phase::Interrupted, generation) {
            return false;
        }
        phase.0 = Phase::Ended;
        drop(phase);
        self.close();
        true
    }

    pub(crate) fn end(&self, generation: u64) -> bool {
        let mut phase = self.phase();
        if phase.0 == Phase::Ended || phase.1 != generation {
            return false;
        }
        phase.0 = Phase::Ended;
        drop(phase);
        self.close();
        true
    }

    fn close(&self) {
        for track in self.tracks() {
            track.ring.end();
        }
        self.ended.send_replace(true);
        self.changed.notify_waiters();
    }

    /// Tells the publisher to stop; true when there is none, so that the stream has ended by this.
    pub(crate) fn request_stop(&self, reason: StopReason) -> bool {
        self.stop.send_replace(Some(reason));
        let mut phase = self.phase();
        if phase.0 != Phase::Interrupted {
            return false;
        }
        phase.0 = Phase::Ended;
        drop(phase);
        self.close();
        true
    }

    pub(crate) fn watch_stop(&self) -> watch::Receiver<Option<StopReason>> {
        self.stop.subscribe()
    }
}
