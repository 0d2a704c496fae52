//! What the hub knows of a live stream, in the words of REST.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use sluice_media::session::Protocol;
use sluice_media::{Stream, StreamKey};
use sluice_store::{Broadcast, BroadcastUpdate, Status};
use tokio::task::JoinSet;

use crate::calls::{LiveAt, show_endpoints};
use crate::cluster::{ClusterView, ForwardError, Forwarded, StreamPlace, ViewerCounts};
use crate::forward::{LISTS_WAIT, ask};
use crate::reply::{self, Failed};
use crate::state::{ApiState, millis};

/// The measured values of a live stream, as they are shown and, every few seconds, stored.
pub fn live_update(stream: &Stream, now: i64) -> BroadcastUpdate {
    let stats = stream.stats();
    let second = stream.second();
    let (width, height) = picture(stream);
    BroadcastUpdate {
        update_time: Some(now),
        duration: Some(now.saturating_sub(millis(stream.started())).max(0)),
        received_bytes: Some(clamp(stats.bytes_in.load(Relaxed))),
        bitrate: Some(clamp(stream.bitrate())),
        speed: Some((stats.media_ms.per_second(second) / 10.0).round() / 100.0),
        width: Some(width),
        height: Some(height),
        drop_packet_count_in_ingestion: Some(clamp(stats.frames_dropped.load(Relaxed))),
        hls_viewer_count: Some(clamp(stats.viewers(Protocol::Hls))),
        rtmp_viewer_count: Some(clamp(stats.viewers(Protocol::Rtmp))),
        webrtc_viewer_count: Some(clamp(stats.viewers(Protocol::WebRtc))),
        ..Default::default()
    }
}

fn clamp<T: TryFrom<u64> + Bounded>(n: u64) -> T {
    T::try_from(n).unwrap_or(T::MOST)
}

trait Bounded {
    const MOST: Self;
}

impl Bounded for i32 {
    const MOST: i32 = i32::MAX;
}

impl Bounded for i64 {
    const MOST: i64 = i64::MAX;
}

fn picture(stream: &Stream) -> (i32, i32) {
    stream
        .configs()
        .iter()
        .find_map(|c| c.video())
        .map(|v| (clamp(v.width.into()), clamp(v.height.into())))
        .unwrap_or_default()
}

/// A broadcast as REST shows it: with the live values of this moment, and what is computed.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    broadcast: Broadcast,
    #[serde(rename = "anyoneWatching")]
    anyone_watching: bool,
}

impl ApiState {
    /// A stream that is published to this node.
    pub(crate) fn own_stream(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.hub.get(key).filter(|s| !s.is_relayed())
    }

    /// All streams that are published to this node.
    pub(crate) fn own_streams(&self) -> Vec<Arc<Stream>> {
        let mut streams = self.hub.streams();
        streams.retain(|s| !s.is_ended() && !s.is_relayed());
        streams
    }

    fn place(&self, key: &StreamKey) -> Option<StreamPlace> {
        self.cluster.as_ref()?.stream(&key.app, &key.id)
    }

    pub(crate) fn is_elsewhere(&self, place: &StreamPlace) -> bool {
        place.owner.as_ref().is_some_and(|owner| *owner != self.settings.node_id)
    }

    /// The viewers of a stream on all nodes: what the others say, and what this one counts itself.
    pub(crate) fn viewers_of(&self, key: &StreamKey, place: Option<&StreamPlace>) -> ViewerCounts {
        let mut all = self.hub.get(key).map(|s| viewers_here(&s)).unwrap_or_default();
        if let Some(place) = place {
            let me = self.settings.node_id.as_str();
            let owners = place.owner.iter().map(|owner| (owner, place.viewers));
            let carriers = place.carriers.iter().map(|c| (&c.node, c.viewers));
            for (_, n) in owners.chain(carriers).filter(|(node, _)| *node != me) {
                all = all.plus(n);
            }
        }
        all
    }

    /// Every live stream of the cluster, with its viewers on all nodes.
    pub(crate) fn live_everywhere(&self) -> BTreeMap<StreamKey, ViewerCounts> {
        let mut all: BTreeMap<_, _> =
            self.own_streams().iter().map(|s| (s.key().clone(), viewers_here(s))).collect();
        for place in self.cluster.iter().flat_map(|c| c.streams()) {
            let key = StreamKey::new(place.app.as_str(), place.id.as_str());
            if self.is_elsewhere(&place) || all.contains_key(&key) {
                let viewers = self.viewers_of(&key, Some(&place));
                all.insert(key, viewers);
            }
        }
        all
    }

    /// A stream's viewers on all nodes, none when it is not live anywhere.
    pub(crate) fn viewers_if_live(&self, key: &StreamKey) -> Option<ViewerCounts> {
        let place = self.place(key);
        let live = self.own_stream(key).is_some() || place.as_ref().is_some_and(|p| self.is_elsewhere(p));
        live.then(|| self.viewers_of(key, place.as_ref()))
    }

    /// A stream's record as REST shows it; none when there is no such record, or it cannot be read now.
    pub async fn shown(&self, app: &str, id: &str) -> Option<serde_json::Value> {
        let broadcast = self.store.broadcast(app, id).await.ok().flatten()?;
        serde_json::to_value(self.show(app, broadcast)).ok()
    }

    pub(crate) fn show(&self, app: &str, mut broadcast: Broadcast) -> Shown {
        let now = self.now();
        let key = StreamKey::new(app, broadcast.stream_id.as_str());
        let place = self.place(&key);
        let live = match (self.own_stream(&key), &place) {
            (Some(stream), _) => {
                broadcast.apply(live_update(&stream, now));
                LiveAt::Here
            }
            (None, Some(place)) if self.is_elsewhere(place) => {
                broadcast.bitrate = clamp(place.bitrate);
                broadcast.update_time = now;
                if broadcast.start_time > 0 {
                    broadcast.duration = now.saturating_sub(broadcast.start_time).max(0);
                }
                LiveAt::Elsewhere
            }
            _ => LiveAt::Nowhere,
        };
        show_endpoints(self, &key, &mut broadcast, live);
        if live != LiveAt::Nowhere {
            let viewers = self.viewers_of(&key, place.as_ref());
            broadcast.status = Status::Broadcasting;
            broadcast.hls_viewer_count = clamp(viewers.hls);
            broadcast.rtmp_viewer_count = clamp(viewers.rtmp);
            broadcast.webrtc_viewer_count = clamp(viewers.webrtc);
        } else {
            broadcast = broadcast.as_seen_at(now);
        }
        Shown { anyone_watching: broadcast.anyone_watching(), broadcast }
    }
}

pub(crate) fn viewers_here(stream: &Stream) -> ViewerCounts {
    let stats = stream.stats();
    ViewerCounts {
        hls: stats.viewers(Protocol::Hls),
        rtmp: stats.viewers(Protocol::Rtmp),
        webrtc: stats.viewers(Protocol::WebRtc),
    }
}

/// One entry of the dashboard's list.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct LiveStream {
    app: String,
    stream_id: String,
    /// The node that it is published to.
    node: String,
    name: Option<String>,
    status: Status,
    publish_type: Option<String>,
    /// When it went live, ms since the epoch.
    start_time: i64,
    /// Bits per second.
    bitrate: i64,
    video_codec: Option<&'static str>,
    audio_codec: Option<&'static str>,
    width: i32,
    height: i32,
    frame_rate: f64,
    /// On all nodes.
    hls_viewer_count: u64,
    /// On all nodes.
    rtmp_viewer_count: u64,
    /// On all nodes.
    #[serde(rename = "webRTCViewerCount")]
    webrtc_viewer_count: u64,
    remote_ip: Option<String>,
    user_agent: Option<String>,
    /// Groups that slow viewers left out.
    packets_skipped: u64,
    /// The publisher's connection is broken; it may come back.
    interrupted: bool,
}

/// `GET /rest/v2/live-streams`: every stream that is live on some node, by app and id. Another node asks for those of
/// this one alone.
pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    forwarded: Option<Extension<Forwarded>>,
) -> Result<Response, Failed> {
    let streams = state.own_streams();
    let mut records = records(&state, streams.iter().map(|s| s.key().clone())).await?;
    let own = streams.iter().map(|s| live_stream(&state, s, records.remove(s.key())));
    let mut all = BTreeMap::new();
    for stream in own {
        let key = StreamKey::new(stream.app.as_str(), stream.stream_id.as_str());
        all.insert(key, json!(stream));
    }
    if let (None, Some(cluster)) = (forwarded, &state.cluster) {
        let places = cluster.streams().into_iter().filter(|p| state.is_elsewhere(p));
        let mut elsewhere: BTreeMap<StreamKey, StreamPlace> =
            places.map(|p| (StreamKey::new(p.app.as_str(), p.id.as_str()), p)).collect();
        elsewhere.retain(|key, _| !all.contains_key(key));
        let owners: BTreeSet<String> = elsewhere.values().filter_map(|p| p.owner.clone()).collect();
        for stream in ask_owners(cluster, owners).await {
            let text = |name: &str| stream.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let key = StreamKey::new(text("app"), text("streamId"));
            if elsewhere.get(&key).is_some_and(|p| p.owner.as_deref() == Some(&text("node"))) {
                elsewhere.remove(&key);
                all.insert(key, stream);
            }
        }
        // Nodes that did not answer: what the cluster knows anyway, and what the store does.
        let mut records = self::records(&state, elsewhere.keys().cloned()).await?;
        for (key, place) in elsewhere {
            let stream = placed_stream(&state, &key, place, records.remove(&key));
            all.insert(key, json!(stream));
        }
    }
    Ok(reply::json(StatusCode::OK, &all.values().collect::<Vec<_>>()))
}

/// The stored records; none while the store is away: what is live is shown all the same.
async fn records(
    state: &ApiState,
    keys: impl Iterator<Item = StreamKey>,
) -> Result<HashMap<StreamKey, Broadcast>, Failed> {
    if state.store_is_away() {
        return Ok(HashMap::new());
    }
    let mut ids: HashMap<Arc<str>, Vec<String>> = HashMap::new();
    for StreamKey { app, id } in keys {
        ids.entry(app).or_default().push(id.to_string());
    }
    let mut records = HashMap::new();
    for (app, ids) in ids {
        let found = match state.store.broadcasts(&app, &ids).await {
            Err(e) if e.is_away() => return Ok(HashMap::new()),
            answer => answer?,
        };
        for b in found {
            records.insert(StreamKey::new(app.clone(), b.stream_id.as_str()), b);
        }
    }
    Ok(records)
}

/// The live streams of these nodes, all asked at once.
async fn ask_owners(cluster: &Arc<dyn ClusterView>, owners: BTreeSet<String>) -> Vec<Value> {
    let mut asked = JoinSet::new();
    for node in owners {
        let cluster = cluster.clone();
        asked.spawn(async move {
            let answer = cluster.forward(&node, ask(Method::GET, "/rest/v2/live-streams")?);
            let answer = tokio::time::timeout(LISTS_WAIT, answer).await.unwrap_or_else(|_| {
                Err(ForwardError::Unreachable { node: node.clone(), why: "it takes too long".into() })
            })?;
            let streams: Vec<Value> = serde_json::from_slice(answer.body())
                .map_err(|e| ForwardError::Unreachable { node, why: e.to_string() })?;
            Ok::<_, ForwardError>(streams)
        });
    }
    let mut all = Vec::new();
    for answer in asked.join_all().await {
        match answer {
            Ok(streams) => all.extend(streams),
            Err(error) => tracing::debug!(%error, "a node did not tell of its live streams"),
        }
    }
    all
}

fn placed_stream(
    state: &ApiState,
    key: &StreamKey,
    place: StreamPlace,
    record: Option<Broadcast>,
) -> LiveStream {
    let record = record.unwrap_or_default();
    let viewers = state.viewers_of(key, Some(&place));
    LiveStream {
        app: place.app,
        stream_id: place.id,
        node: place.owner.unwrap_or_default(),
        name: record.name,
        status: Status::Broadcasting,
        publish_type: record.publish_type,
        start_time: record.start_time,
        bitrate: clamp(place.bitrate),
        width: record.width,
        height: record.height,
        hls_viewer_count: viewers.hls,
        rtmp_viewer_count: viewers.rtmp,
        webrtc_viewer_count: viewers.webrtc,
        remote_ip: record.remote_ip,
        user_agent: Some(record.user_agent).filter(|u| u != "N/A"),
        interrupted: place.interrupted,
        ..Default::default()
    }
}

fn live_stream(state: &ApiState, stream: &Stream, record: Option<Broadcast>) -> LiveStream {
    let record = record.unwrap_or_default();
    let viewers = state.viewers_of(stream.key(), state.place(stream.key()).as_ref());
    let configs = stream.configs();
    let stats = stream.stats();
    let second = stream.second();
    let (width, height) = picture(stream);
    let frame_rate = stats.frame_rate.per_second(second);
    LiveStream {
        app: stream.key().app.to_string(),
        stream_id: stream.key().id.to_string(),
        node: state.settings.node_id.clone(),
        name: record.name,
        status: Status::Broadcasting,
        publish_type: record.publish_type,
        start_time: millis(stream.started()),
        bitrate: clamp(stream.bitrate()),
        video_codec: configs.iter().find_map(|c| c.video()).map(|v| v.codec.name()),
        audio_codec: configs.iter().find_map(|c| c.audio()).map(|a| a.codec.name()),
        width,
        height,
        frame_rate: (frame_rate * 100.0).round() / 100.0,
        hls_viewer_count: viewers.hls,
        rtmp_viewer_count: viewers.rtmp,
        webrtc_viewer_count: viewers.webrtc,
        remote_ip: record.remote_ip,
        user_agent: Some(record.user_agent).filter(|u| u != "N/A"),
        packets_skipped: stats.groups_skipped.load(Relaxed),
        interrupted: stream.is_interrupted(),
    }
}
