//! What signalling asks of the node: apps, records, and which live streams belong to which main track, on all nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use serde_json::Value;
use sluice_api::ApiState;
use sluice_cluster::directory::Directory as Nodes;
use sluice_cluster::member::Part;
use sluice_media::session::Protocol;
use sluice_media::{StopReason, Stream, StreamKey};
use sluice_rtc::signal::{AppSettings, Directory, Distribution, Rendition, Subtrack};
use sluice_store::BroadcastUpdate;
use tokio::sync::watch;

use crate::apps::Apps;
use crate::streams::Streams;

/// The longest text that a publisher may say of its stream, in bytes.
const LONGEST: usize = 64 * 1024;

/// What anybody may know of a stream, by AMS's names: the record has passwords, addresses of sources and keys of push targets, too.
const PUBLIC: [&str; 26] = [
    "streamId",
    "status",
    "type",
    "publishType",
    "name",
    "description",
    "category",
    "metaData",
    "role",
    "mainTrackStreamId",
    "virtual",
    "zombi",
    "publicStream",
    "is360",
    "width",
    "height",
    "bitrate",
    "speed",
    "duration",
    "date",
    "startTime",
    "updateTime",
    "plannedStartDate",
    "plannedEndDate",
    "webRTCViewerCount",
    "hlsViewerCount",
];

/// The live streams of each main track, by app and main track, in the order of their ids.
type Rooms = BTreeMap<(Arc<str>, String), Vec<Subtrack>>;

/// Over the streams of this node and, in a cluster, those of the others.
pub(crate) struct Known {
    streams: Arc<Streams>,
    apps: Arc<Apps>,
    nodes: Option<Arc<Nodes>>,
    api: OnceLock<Weak<ApiState>>,
    changes: watch::Sender<u64>,
    /// As they were at the last change: looking at all streams for each question would be too much in large rooms.
    rooms: RwLock<Arc<Rooms>>,
}

impl Known {
    /// Must be called inside a tokio runtime. `nodes` knows the streams of the others.
    pub(crate) fn new(streams: Arc<Streams>, apps: Arc<Apps>, nodes: Option<Arc<Nodes>>) -> Arc<Self> {
        let known = Arc::new(Known {
            streams,
            apps,
            nodes,
            api: OnceLock::new(),
            changes: watch::Sender::new(0),
            rooms: RwLock::default(),
        });
        tokio::spawn(follow(Arc::downgrade(&known)));
        known
    }

    /// Who shows records as REST does.
    pub(crate) fn shows(&self, api: &Arc<ApiState>) {
        let _ = self.api.set(Arc::downgrade(api));
    }

    /// All parts of main tracks that are live anywhere.
    fn parts(&self) -> Rooms {
        let elsewhere = self.nodes.iter().flat_map(|nodes| nodes.streams());
        let elsewhere = elsewhere.filter_map(|view| Some((view.key, view.owner?.1.part.clone()?)));
        let mut all: BTreeMap<StreamKey, Arc<Part>> = elsewhere.collect();
        for (key, live) in self.streams.list(false) {
            match live.part() {
                Some(part) => all.insert(key, Arc::new(part)),
                None => all.remove(&key),
            };
        }
        let mut rooms = Rooms::new();
        for (StreamKey { app, id }, part) in all {
            let subtrack = Subtrack {
                id: id.to_string(),
                name: part.name.clone(),
                meta_data: part.meta_data.clone(),
                role: part.role.clone(),
            };
            rooms.entry((app, part.of.clone())).or_default().push(subtrack);
        }
        rooms
    }

    fn rooms(&self) -> Arc<Rooms> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stream(&self, app: &str, id: &str) -> Option<Arc<Stream>> {
        self.streams.hub().get(&StreamKey::new(app, id))
    }
}

/// Looks at the parts whenever something has changed, and says so when they have.
async fn follow(known: Weak<Known>) {
    let Some((mut here, mut elsewhere)) = known
        .upgrade()
        .map(|known| (known.streams.hub().watch(), known.nodes.as_ref().map(|nodes| nodes.changed())))
    else {
        return;
    };
    loop {
        let changed = async {
            match &mut elsewhere {
                Some(elsewhere) => tokio::select! {
                    changed = here.changed() => changed.is_ok(),
                    changed = elsewhere.changed() => changed.is_ok(),
                },
                None => here.changed().await.is_ok(),
            }
        };
        if !changed.await {
            return;
        }
        // A publisher is in the hub a moment before it is known with what it says.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let Some(known) = known.upgrade() else { return };
        let now = known.parts();
        if now != *known.rooms() {
            *known.rooms.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
            known.changes.send_modify(|n| *n += 1);
        }
    }
}

#[async_trait]
impl Directory for Known {
    fn app(&self, app: &str) -> Option<AppSettings> {
        let app = self.apps.get(app)?;
        let distribution =
            match (app.settings.data_channel_enabled, &*app.settings.data_channel_player_distribution) {
                (false, _) | (_, "none") => Distribution::None,
                (_, "publisher") => Distribution::Publisher,
                _ => Distribution::All,
            };
        Some(AppSettings { distribution })
    }

    async fn broadcast(&self, app: &str, id: &str) -> Option<Value> {
        let api = self.api.get()?.upgrade()?;
        let mut record = api.shown(app, id).await?;
        record.as_object_mut()?.retain(|key, _| PUBLIC.contains(&key.as_str()));
        Some(record)
    }

    async fn subtracks(&self, app: &str, main: &str) -> Option<Vec<Subtrack>> {
        let found = self.rooms().get(&(app.into(), main.to_owned())).cloned().unwrap_or_default();
        // A main track without parts is known when its record says that it has no media of its own.
        if !found.is_empty() {
            return Some(found);
        }
        let record = self.streams.store().broadcast(app, main).await.ok().flatten();
        record.filter(|record| record.is_virtual).map(|_| found)
    }

    fn changes(&self, _app: &str) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn renditions(&self, app: &str, id: &str) -> Option<Vec<Rendition>> {
        if let Some(stream) = self.stream(app, id) {
            return Some(renditions(&stream));
        }
        let broadcast = self.broadcast(app, id).await?;
        if broadcast["status"] != "broadcasting" {
            return None;
        }
        let number = |key: &str| broadcast[key].as_u64().unwrap_or(0);
        let side = |key: &str| u32::try_from(number(key)).unwrap_or(0);
        Some(vec![Rendition {
            width: side("width"),
            height: side("height"),
            video_bitrate: number("bitrate"),
            ..Rendition::default()
        }])
    }

    async fn viewers(&self, app: &str, id: &str) -> Option<u64> {
        let key = StreamKey::new(app, id);
        match &self.nodes {
            Some(nodes) => nodes.stream(&key).map(|_| nodes.viewers(&key).webrtc),
            None => self.stream(app, id).map(|stream| stream.stats().viewers(Protocol::WebRtc)),
        }
    }

    /// Viewers do not say who they are yet.
    async fn subscribers(&self, _app: &str, _id: &str, _offset: usize, _size: usize) -> Vec<Value> {
        Vec::new()
    }

    fn end_if_left(&self, app: &str, id: &str) {
        let key = StreamKey::new(app, id);
        if self.streams.get(&key).is_some_and(|live| live.stream.is_interrupted()) {
            self.streams.hub().stop(&key, StopReason::Requested);
        }
    }

    async fn set_meta_data(&self, app: &str, id: &str, meta_data: &str) -> Result<(), String> {
        if meta_data.len() > LONGEST {
            return Err(format!("metaData has {} bytes, and may have {LONGEST}", meta_data.len()));
        }
        let key = StreamKey::new(app, id);
        let live = self.streams.get(&key).ok_or_else(|| format!("{key} is not published to this node"))?;
        let meta_data = Some(meta_data.to_owned());
        self.streams.change(&key, live.epoch, |live| live.known.meta_data = meta_data.clone());
        let update = BroadcastUpdate { meta_data, ..BroadcastUpdate::default() };
        match self.streams.store().update_broadcast(app, id, update).await {
            Ok(_) => Ok(()),
            // It is told again with the rest.
            Err(error) if error.is_away() => Ok(()),
            Err(error) => Err(format!("metaData cannot be stored: {error}")),
        }
    }
}

/// The video tracks of a stream; of one rendition the bitrate is that of the stream.
fn renditions(stream: &Stream) -> Vec<Rendition> {
    let (configs, bitrate) = (stream.configs(), stream.bitrate());
    let videos: Vec<_> = configs.iter().filter_map(|config| config.video()).collect();
    // By their share of the pixels, where they were not measured apart.
    let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height);
    let all: u64 = videos.iter().map(|v| pixels(v.width, v.height)).sum::<u64>().max(1);
    videos
        .iter()
        .map(|video| Rendition {
            width: video.width,
            height: video.height,
            video_bitrate: bitrate.saturating_mul(pixels(video.width, video.height)) / all,
            audio_bitrate: 0,
            codec: video.codec.name().to_owned(),
        })
        .collect()
}
