//! What the hub knows of a live stream, in the words of REST.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use sluice_media::session::Protocol;
use sluice_media::{Stream, StreamKey, TrackConfig};
use sluice_store::{Broadcast, BroadcastUpdate, Status};

use crate::reply::{Failed, json};
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
        bitrate: Some((stats.bytes.per_second(second) * 8.0).round() as i64),
        speed: Some((stats.media_ms.per_second(second) / 10.0).round() / 100.0),
        width: Some(width),
        height: Some(height),
        drop_packet_count_in_ingestion: Some(clamp(stats.frames_dropped.load(Relaxed))),
        hls_viewer_count: Some(clamp(stats.viewers(Protocol::Hls))),
        rtmp_viewer_count: Some(clamp(stats.viewers(Protocol::Rtmp))),
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
        .find_map(|c| match &**c {
            TrackConfig::Video(v) => Some((clamp(v.width.into()), clamp(v.height.into()))),
            TrackConfig::Audio(_) => None,
        })
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
    pub(crate) fn show(&self, app: &str, mut broadcast: Broadcast) -> Shown {
        let now = self.now();
        let key = StreamKey::new(app, broadcast.stream_id.as_str());
        match self.hub.get(&key) {
            Some(stream) => {
                broadcast.apply(live_update(&stream, now));
                broadcast.status = Status::Broadcasting;
            }
            None => broadcast = broadcast.as_seen_at(now),
        }
        Shown { anyone_watching: broadcast.anyone_watching(), broadcast }
    }
}

/// One entry of the dashboard's list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LiveStream {
    app: String,
    stream_id: String,
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
    hls_viewer_count: u64,
    rtmp_viewer_count: u64,
    #[serde(rename = "webRTCViewerCount")]
    webrtc_viewer_count: u64,
    remote_ip: Option<String>,
    user_agent: Option<String>,
    /// Groups that slow viewers left out.
    packets_skipped: u64,
    /// The publisher's connection is broken; it may come back.
    interrupted: bool,
}

/// `GET /rest/v2/live-streams`: every stream that is live on this node, by app and id.
pub(crate) async fn list(State(state): State<Arc<ApiState>>) -> Result<Response, Failed> {
    let mut streams = state.hub.streams();
    streams.retain(|s| !s.is_ended());
    streams.sort_by(|a, b| a.key().cmp(b.key()));
    let mut ids: HashMap<Arc<str>, Vec<String>> = HashMap::new();
    for stream in &streams {
        let StreamKey { app, id } = stream.key().clone();
        ids.entry(app).or_default().push(id.to_string());
    }
    let mut records = HashMap::new();
    for (app, ids) in ids {
        for b in state.store.broadcasts(&app, &ids).await? {
            records.insert(StreamKey::new(app.clone(), b.stream_id.as_str()), b);
        }
    }
    let all: Vec<LiveStream> = streams.iter().map(|s| live_stream(s, records.remove(s.key()))).collect();
    Ok(json(StatusCode::OK, &all))
}

fn live_stream(stream: &Stream, record: Option<Broadcast>) -> LiveStream {
    let record = record.unwrap_or_default();
    let configs = stream.configs();
    let stats = stream.stats();
    let second = stream.second();
    let (width, height) = picture(stream);
    let frame_rate = stats.frame_rate.per_second(second);
    LiveStream {
        app: stream.key().app.to_string(),
        stream_id: stream.key().id.to_string(),
        name: record.name,
        status: Status::Broadcasting,
        publish_type: record.publish_type,
        start_time: millis(stream.started()),
        bitrate: (stats.bytes.per_second(second) * 8.0).round() as i64,
        video_codec: configs.iter().find_map(|c| match &**c {
            TrackConfig::Video(v) => Some(v.codec.name()),
            TrackConfig::Audio(_) => None,
        }),
        audio_codec: configs.iter().find_map(|c| match &**c {
            TrackConfig::Audio(a) => Some(a.codec.name()),
            TrackConfig::Video(_) => None,
        }),
        width,
        height,
        frame_rate: (frame_rate * 100.0).round() / 100.0,
        hls_viewer_count: stats.viewers(Protocol::Hls),
        rtmp_viewer_count: stats.viewers(Protocol::Rtmp),
        webrtc_viewer_count: 0,
        remote_ip: record.remote_ip,
        user_agent: Some(record.user_agent).filter(|u| u != "N/A"),
        packets_skipped: stats.groups_skipped.load(Relaxed),
        interrupted: stream.is_interrupted(),
    }
}
