//! Who may publish and who may play: the app, its settings, the store and the hub, asked in that order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sluice_media::segmentation::Wish;
use sluice_media::session::{Egress, Ingress, Play, Protocol, Refusal, Request};
use sluice_media::stats::ViewerGuard;
use sluice_media::{Hub, Origin, PublishError, Publisher, Stream, StreamKey, StreamSettings};
use sluice_store::{BeginLive, BroadcastUpdate, Claim, HlsSettings, Numbers, Store, StoreError, valid_stream_id};

use crate::apps::Apps;

/// Sequence numbers are reserved this far ahead of those in use, so that a crash never repeats one.
pub const RESERVE: u64 = 300;

/// A publisher that has sent no media for this long gives way to a new one.
const SILENT: Duration = Duration::from_secs(2);
/// How long it may take to leave.
const TAKE_OVER: Duration = Duration::from_millis(500);

/// A stream that this node has, with what was decided when it was published.
#[derive(Clone, Debug)]
pub struct Live {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The epoch in which this node owns it.
    pub epoch: u64,
    /// How it is packaged for HLS.
    pub hls: HlsSettings,
    /// The media sequence numbers below this are reserved.
    pub reserved: u64,
}

/// Bounds of this node.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Streams at once.
    pub streams: usize,
    /// How long frames are kept for those who join.
    pub window: Duration,
    /// Memory for the frames of one stream, bytes.
    pub memory: u64,
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
    node: Me,
    bounds: Bounds,
    live: Mutex<HashMap<StreamKey, Live>>,
    starting: Mutex<HashSet<StreamKey>>,
    stopping: AtomicBool,
    refused: [AtomicU64; Refusal::REASONS.len()],
}

impl Streams {
    /// Nothing is live yet.
    pub fn new(hub: Arc<Hub>, store: Arc<dyn Store>, apps: Arc<Apps>, node: Me, bounds: Bounds) -> Arc<Self> {
        Arc::new(Streams {
            hub,
            store,
            apps,
            node,
            bounds,
            live: Mutex::default(),
            starting: Mutex::default(),
            stopping: AtomicBool::new(false),
            refused: Default::default(),
        })
    }

    /// From now on nobody new is let in.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether new publishers and viewers are let in.
    pub fn accepts(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
    }

    /// How a live stream is packaged for HLS.
    pub fn hls(&self, key: &StreamKey) -> Option<HlsSettings> {
        self.live().get(key).map(|l| l.hls)
    }

    /// What this node has.
    pub fn live(&self) -> std::sync::MutexGuard<'_, HashMap<StreamKey, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Reserves sequence numbers ahead of those in use; gives the media sequence number that is not reserved yet.
    pub(crate) async fn reserve(
        &self,
        key: &StreamKey,
        epoch: u64,
        media: u64,
        discontinuity: u64,
    ) -> Result<u64, StoreError> {
        let numbers = Numbers {
            media_sequence: media + RESERVE,
            discontinuity_sequence: discontinuity + RESERVE,
            ..Numbers::default()
        };
        self.store.reserve_sequence(&key.app, &key.id, epoch, unix_ms(), numbers).await?;
        Ok(numbers.media_sequence)
    }

    /// The hub with all streams.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Publishers refused so far, by reason.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        Refusal::REASONS.iter().zip(&self.refused).map(|(r, n)| (*r, n.load(Ordering::Relaxed))).collect()
    }

    async fn admit(&self, request: Request) -> Result<Publisher, Refusal> {
        let Request { key, peer, user_agent, .. } = request;
        if !self.accepts() {
            return Err(Refusal::Stopping);
        }
        let app = self.apps.get(&key.app).ok_or_else(|| Refusal::UnknownApp(key.app.to_string()))?;
        if !valid_stream_id(&key.id) {
            return Err(Refusal::InvalidId(key.id.to_string()));
        }
        let allowed = &app.settings.allowed_publisher_cidr;
        if !allowed.trim().is_empty() && !sluice_api::is_listed(allowed, peer.ip()) {
            return Err(Refusal::NotAllowed(peer.ip()));
        }
        let _starting = self.start(&key)?;
        match self.hub.resume(&key) {
            Ok(publisher) => return Ok(publisher),
            Err(PublishError::InUse) => return self.take_over(&key).await.ok_or(Refusal::InUse(key)),
            Err(_) => {}
        }
        // A stream that has just ended is written off before its id starts anew.
        let ended = self.live().get(&key).cloned();
        if let Some(ended) = ended {
            self.finish(&key, &ended).await.map_err(away)?;
        }
        self.within_limits(&key, app.settings.ingesting_stream_limit)?;
        let created = self.store.broadcast(&key.app, &key.id).await.map_err(away)?;
        if created.is_none() && app.settings.accept_only_streams_in_data_store {
            return Err(Refusal::NotCreated(key));
        }
        let own = created.as_ref().and_then(|b| b.hls_parameters.as_ref());
        let hls = app.settings.hls(own).or_else(|error| {
            tracing::warn!(stream = %key, %error, "the stream's HLS settings cannot be used; its app's are");
            app.settings.hls(None)
        });
        let hls = hls.map_err(|e| Refusal::Unavailable(format!("the app's settings cannot be used: {e}")))?;

        let now = unix_ms();
        let known = Claim::default();
        let claim =
            self.store.claim_stream(&key.app, &key.id, &self.node.id, now, known).await.map_err(away)?;
        let (media, discontinuity) = (claim.media_sequence, claim.discontinuity_sequence);
        let reserved = self.reserve(&key, claim.epoch, media, discontinuity).await.map_err(away)?;
        let known = BroadcastUpdate {
            publish_type: Some("RTMP".into()),
            origin_address: Some(self.node.host.clone()),
            rtmp_url: Some(self.node.rtmp_url(&key)),
            remote_ip: Some(peer.ip().to_canonical().to_string()),
            user_agent: (!user_agent.is_empty()).then_some(user_agent),
            ..BroadcastUpdate::default()
        };
        let begin = BeginLive {
            stream_id: key.id.to_string(),
            node: self.node.id.clone(),
            epoch: claim.epoch,
            now,
            known,
        };
        self.store.begin_live(&key.app, begin).await.map_err(away)?;
        let origin = Origin {
            epoch: claim.epoch,
            media_sequence: media,
            discontinuity_sequence: discontinuity,
            ..Origin::default()
        };
        // The list has to come out of what is kept, for whoever asks first.
        let list = hls.segment * hls.list_size.saturating_add(1);
        let settings = StreamSettings {
            wish: Wish { segment: hls.segment, part: hls.part },
            retain: self.bounds.window.max(list),
            retain_bytes: self.bounds.memory,
        };
        let publisher =
            self.hub.publish(key.clone(), origin, settings).map_err(|_| Refusal::InUse(key.clone()))?;
        let live = Live { stream: publisher.stream().clone(), epoch: claim.epoch, hls, reserved };
        self.live().insert(key, live);
        Ok(publisher)
    }

    /// A publisher that has fallen silent is most likely the same one, whose connection broke without a word.
    async fn take_over(&self, key: &StreamKey) -> Option<Publisher> {
        let stream = self.hub.get(key).filter(|s| s.silent_for() >= SILENT)?;
        tracing::info!(stream = %key, "taking the stream over from a publisher that has fallen silent");
        let mut changes = self.hub.watch();
        stream.displace();
        let left = async {
            loop {
                match self.hub.resume(key) {
                    Ok(publisher) => return Some(publisher),
                    Err(PublishError::InUse) => changes.changed().await.ok()?,
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(TAKE_OVER, left).await.ok().flatten()
    }

    /// Those who are just being let in count, too: many may start at the same moment.
    fn within_limits(&self, key: &StreamKey, of_app: i64) -> Result<(), Refusal> {
        let starting: Vec<StreamKey> = {
            let starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            starting.iter().filter(|k| *k != key).cloned().collect()
        };
        let live = self.list(false);
        let others: HashSet<&StreamKey> = starting.iter().chain(live.iter().map(|(k, _)| k)).collect();
        if others.len() >= self.bounds.streams {
            return Err(Refusal::Limit(format!(
                "this node takes {} streams (max_streams)",
                self.bounds.streams
            )));
        }
        let in_app = others.iter().filter(|k| k.app == key.app).count();
        if of_app >= 0 && in_app as i64 >= of_app {
            let limit = format!("{} takes {of_app} streams (ingestingStreamLimit)", key.app);
            return Err(Refusal::Limit(limit));
        }
        Ok(())
    }

    /// Two publishers that want the same id at the same moment: the second waits outside.
    fn start(&self, key: &StreamKey) -> Result<Starting<'_>, Refusal> {
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if !starting.insert(key.clone()) {
            return Err(Refusal::InUse(key.clone()));
        }
        Ok(Starting(self, key.clone()))
    }

    /// Writes off a stream that has ended; forgets it when the store has it.
    pub(crate) async fn finish(&self, key: &StreamKey, live: &Live) -> Result<(), StoreError> {
        let now = unix_ms();
        let last = sluice_api::live_update(&live.stream, now);
        let ended = self.store.end_live(&key.app, &key.id, live.epoch, now, last).await?;
        let mut all = self.live();
        if all.get(key).is_some_and(|l| l.epoch == live.epoch) {
            all.remove(key);
        }
        tracing::info!(stream = %key, ?ended, "stream ended");
        Ok(())
    }
}

struct Starting<'a>(&'a Streams, StreamKey);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// [`Ingress`] and [`Egress`] over the streams of a node.
#[derive(Clone, Debug)]
pub struct Door(pub Arc<Streams>);

#[async_trait]
impl Ingress for Door {
    async fn publish(&self, request: Request) -> Result<Publisher, Refusal> {
        let streams = self.0.clone();
        let key = request.key.clone();
        let peer = request.peer;
        // In a task of its own: a client that goes away half-way leaves no record that is live for ever.
        let admitted = tokio::spawn(async move { streams.admit(request).await }).await;
        let result = admitted.unwrap_or_else(|e| Err(Refusal::Unavailable(format!("internal error: {e}"))));
        match &result {
            Ok(_) => tracing::info!(stream = %key, %peer, "publishing"),
            Err(reason) => {
                tracing::warn!(stream = %key, %peer, %reason, "publisher refused");
                let index = Refusal::REASONS.iter().position(|r| *r == reason.reason());
                if let Some(counter) = index.and_then(|i| self.0.refused.get(i)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        result
    }
}

#[async_trait]
impl Egress for Door {
    async fn play(&self, request: Request) -> Result<Play, Refusal> {
        let streams = &self.0;
        if !streams.accepts() {
            return Err(Refusal::Stopping);
        }
        let key = &request.key;
        let app = streams.apps.get(&key.app).ok_or_else(|| Refusal::UnknownApp(key.app.to_string()))?;
        match request.protocol {
            Protocol::Rtmp if !app.settings.rtmp_playback_enabled => {
                return Err(Refusal::Disabled("playback over RTMP (rtmpPlaybackEnabled)"));
            }
            Protocol::Hls if !app.settings.hls_muxing_enabled => {
                return Err(Refusal::Disabled("HLS (hlsMuxingEnabled)"));
            }
            Protocol::Rtmp | Protocol::Hls => {}
        }
        let stream = streams.hub.get(key).ok_or_else(|| Refusal::NotLive(key.clone()))?;
        let viewer = ViewerGuard::new(stream.stats().clone(), request.protocol);
        Ok(Play { stream, viewer })
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn away(error: StoreError) -> Refusal {
    Refusal::Unavailable(format!("the store does not answer, so nothing new can be published: {error}"))
}
