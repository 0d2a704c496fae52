//! One stream as RTP payloads, made once for all its viewers.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use sluice_media::aside::Need;
use sluice_media::{AudioCodec, Start, Stream, StreamKey, TrackId, VideoCodec};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::lane::Lane;
use super::packetize::largest_payload;
use super::writer::Writer;
use crate::agreed::Codec;

/// How far behind the feed may fall before it goes on with the newest group.
const LAG: Duration = Duration::from_secs(5);
/// How long tracks are waited for: any; then, once there is one, the other kind, and sound that has to be bridged to Opus.
const FIRST_TRACK: Duration = Duration::from_secs(5);
const OTHER_TRACK: Duration = Duration::from_millis(1500);
/// Viewers of a feed ask for keyframes this often at most, all together.
const WISH_INTERVAL: Duration = Duration::from_millis(500);
/// The largest datagram where nothing else is said.
const MTU: usize = 1200;

/// Tells one feed from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedId(pub u64);

/// Is told when a feed has new packets: once for all that came together.
pub trait Wake: Send + Sync {
    /// That feed has something new.
    fn wake(&self, feed: FeedId);
}

/// A track that a feed can send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedTrack {
    /// Its number in the stream.
    pub id: TrackId,
    /// Its codec.
    pub codec: Codec,
    /// H.264: profile, constraints and level, such as `42e01f`.
    pub profile: Option<String>,
    /// Picture size; 0 for audio.
    pub width: u32,
    /// Picture size; 0 for audio.
    pub height: u32,
    /// Bits a second, as measured.
    pub bitrate: u64,
}

/// What the task that writes a feed shares with its viewers.
pub(crate) struct Shared {
    id: FeedId,
    key: StreamKey,
    lanes: RwLock<Vec<Arc<Lane>>>,
    version: AtomicU64,
    watchers: Mutex<Vec<Weak<dyn Wake>>>,
    arrived: Notify,
    ended: AtomicBool,
    /// Wall clock minus media time, in microseconds since 1970; 0 until known.
    pub(super) wall: AtomicI64,
    /// B-frames that were left out.
    pub(super) dropped: AtomicU64,
    wished: Mutex<Option<Instant>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "feed {} of {}", self.id.0, self.key)
    }
}

impl Shared {
    pub(super) fn new(key: StreamKey) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Shared {
            id: FeedId(NEXT.fetch_add(1, Ordering::Relaxed)),
            key,
            lanes: RwLock::default(),
            version: AtomicU64::new(1),
            watchers: Mutex::default(),
            arrived: Notify::new(),
            ended: AtomicBool::new(false),
            wall: AtomicI64::new(0),
            dropped: AtomicU64::new(0),
            wished: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &StreamKey {
        &self.key
    }

    pub(super) fn add(&self, lane: Arc<Lane>) {
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).push(lane);
        self.changed();
        self.arrived.notify_waiters();
    }

    /// A lane is over, though the stream goes on.
    pub(super) fn remove(&self, lane: &Arc<Lane>) {
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).retain(|l| !Arc::ptr_eq(l, lane));
        lane.ring.end();
        self.changed();
    }

    /// Lanes came or went, or something about them changed.
    pub(super) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn end(&self) {
        for lane in self.lanes() {
            lane.ring.end();
        }
        self.ended.store(true, Ordering::Release);
        self.arrived.notify_waiters();
        self.wake();
    }

    pub(super) fn wake(&self) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|w| w.upgrade().inspect(|w| w.wake(self.id)).is_some());
    }

    fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One stream as RTP packets, for as long as somebody holds it. All viewers of a stream on this node share one.
#[derive(Debug)]
pub struct Feed {
    stream: Arc<Stream>,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
    // A publisher's AAC is bridged to Opus for as long as somebody watches.
    _need: Need,
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Feed {
    pub(super) fn over(stream: Arc<Stream>, shared: Arc<Shared>, task: Option<AbortHandle>) -> Arc<Self> {
        let need = Need::new(stream.clone(), AudioCodec::Opus);
        Arc::new(Feed { stream, shared, task, _need: need })
    }

    /// Which it is.
    pub fn id(&self) -> FeedId {
        self.shared.id
    }

    /// The stream that it reads.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// B-frames that were left out so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Wakes `by` from now on, as long as that lives. The same one twice is woken once.
    pub fn watch(&self, by: &Arc<dyn Wake>) {
        let by = Arc::downgrade(by);
        let mut watchers = self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if !watchers.iter().any(|w| w.ptr_eq(&by)) {
            watchers.push(by);
        }
    }

    /// The video tracks (renditions) that can be sent now, best first, and the audio track, with their codecs: waits for the
    /// stream to have its tracks, at most some seconds. The audio is Opus, be it bridged; none if it does not come in time.
    pub async fn tracks(&self) -> Vec<FeedTrack> {
        let start = tokio::time::Instant::now();
        loop {
            let arrived = self.shared.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let tracks = self.ready();
            let has = |video| tracks.iter().any(|t| matches!(t.codec, Codec::Video(_)) == video);
            let configs = self.stream.configs();
            let waits = |video| !has(video) && configs.iter().any(|c| c.is_video() == video);
            let limit = match (tracks.is_empty(), waits(true) || waits(false)) {
                (true, _) => FIRST_TRACK,
                (false, true) => OTHER_TRACK,
                (false, false) => return tracks,
            };
            let over = self.shared.ended.load(Ordering::Acquire);
            if over || tokio::time::timeout_at(start + limit, arrived).await.is_err() {
                return self.ready();
            }
        }
    }

    /// What [`tracks`](Self::tracks) gives, without waiting.
    fn ready(&self) -> Vec<FeedTrack> {
        let best = self.video(None).into_iter().chain(self.audio());
        best.map(|lane| lane.track()).collect()
    }

    /// The renditions, best first; of that codec only, if one is given.
    pub(super) fn video(&self, codec: Option<VideoCodec>) -> Vec<Arc<Lane>> {
        let mut lanes = self.shared.lanes();
        lanes.retain(|l| match l.codec {
            Codec::Video(c) => codec.is_none_or(|wanted| wanted == c),
            Codec::Audio(_) => false,
        });
        lanes.sort_by_cached_key(|l| {
            let t = l.track();
            std::cmp::Reverse((u64::from(t.width) * u64::from(t.height), t.bitrate))
        });
        lanes
    }

    /// The Opus track; where there are several, be they bridged or the publisher's own, the one with the newest sound.
    pub(super) fn audio(&self) -> Option<Arc<Lane>> {
        let opus = |l: &Arc<Lane>| l.codec == Codec::Audio(AudioCodec::Opus);
        self.shared.lanes().into_iter().rev().filter(opus).max_by_key(|l| l.newest())
    }

    /// Changes when [`video`](Self::video) or [`audio`](Self::audio) may answer otherwise.
    pub(super) fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Wall clock minus media time, in microseconds since 1970.
    pub(super) fn wall(&self) -> i64 {
        self.shared.wall.load(Ordering::Relaxed)
    }

    /// Whether one of its viewers may ask for a keyframe now.
    pub(super) fn may_wish(&self, now: Instant) -> bool {
        let mut wished = self.shared.wished.lock().unwrap_or_else(PoisonError::into_inner);
        let free = wished.is_none_or(|at| now.saturating_duration_since(at) >= WISH_INTERVAL);
        if free {
            *wished = Some(now);
        }
        free
    }
}

/// The feeds that have viewers.
pub struct Feeds {
    feeds: Mutex<HashMap<StreamKey, Weak<Feed>>>,
    max_payload: usize,
    /// Feeds are written here, in turn. Never empty.
    runtimes: Vec<Handle>,
}

impl Default for Feeds {
    /// On the runtime that this is called in.
    fn default() -> Self {
        Self::new(MTU, Vec::new())
    }
}

impl Feeds {
    /// `mtu` is the largest UDP payload that is sent, in bytes. Feeds are written by tasks on these runtimes: where their viewers
    /// are served, so that no other thread has to wake for each frame. Without any it is the one that this is called in.
    pub fn new(mtu: usize, mut runtimes: Vec<Handle>) -> Self {
        if runtimes.is_empty() {
            runtimes.push(Handle::current());
        }
        Feeds { feeds: Mutex::default(), max_payload: largest_payload(mtu), runtimes }
    }

    /// The feed of a stream; the first viewer starts it.
    pub fn join(&self, stream: &Arc<Stream>) -> Arc<Feed> {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(stream.key()).and_then(Weak::upgrade)
            && Arc::ptr_eq(&feed.stream, stream)
        {
            return feed;
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let shared = Shared::new(stream.key().clone());
        let reader = stream.subscribe(Start::Newest, LAG);
        let writer = Writer::new(shared.clone(), self.max_payload);
        let runtime = &self.runtimes[shared.id.0 as usize % self.runtimes.len()];
        let task = runtime.spawn(writer.run(reader)).abort_handle();
        let feed = Feed::over(stream.clone(), shared, Some(task));
        feeds.insert(stream.key().clone(), Arc::downgrade(&feed));
        feed
    }
}
