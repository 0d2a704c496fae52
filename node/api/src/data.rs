//! Messages to the players of a stream, and its renditions.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use sluice_media::StreamKey;
use sluice_media::aside::{LARGEST_MESSAGE, Message, Sender};
use sluice_store::App;

use crate::reply::{Failed, Outcome, json};
use crate::state::ApiState;

/// Sends the body, as it is, to all players of a stream over their data channels, in the publisher's name.
pub(crate) async fn send(
    State(state): State<Arc<ApiState>>,
    Extension(app): Extension<App>,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Outcome {
    if !app.settings.data_channel_enabled {
        return Outcome::no("Data channels are switched off for this app (dataChannelEnabled)");
    }
    let Some(stream) = state.own_stream(&StreamKey::new(app.name.as_str(), id.as_str())) else {
        return Outcome::no(format!("Broadcast with streamId: {id} is not live"));
    };
    let text = std::str::from_utf8(&body).is_ok();
    let sent = stream.aside().send(Message { from: Sender::Publisher, session: 0, text, payload: body });
    match sent {
        true => Outcome::yes("the message is sent"),
        false => Outcome::no(format!("The message is larger than {LARGEST_MESSAGE} bytes")),
    }
}

/// A rendition, in AMS's spelling.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rendition {
    video_height: u32,
    video_width: u32,
    /// Bits per second; 0 where it is not measured apart.
    video_bitrate: u64,
    audio_bitrate: u64,
    video_codec: &'static str,
}

/// The renditions of a live stream, the first one the best. An empty list when it is not live.
pub(crate) async fn renditions(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let Some(stream) = state.own_stream(&StreamKey::new(app.as_str(), id.as_str())) else {
        return Ok(json(StatusCode::OK, &Vec::<Rendition>::new()));
    };
    let configs = stream.configs();
    let videos: Vec<_> = configs.iter().filter_map(|config| config.video()).collect();
    let all: Vec<Rendition> = videos
        .iter()
        .map(|video| Rendition {
            video_height: video.height,
            video_width: video.width,
            video_bitrate: if videos.len() == 1 { stream.bitrate() } else { 0 },
            audio_bitrate: 0,
            video_codec: video.codec.name(),
        })
        .collect();
    Ok(json(StatusCode::OK, &all))
}
