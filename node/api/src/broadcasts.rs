//! `/{app}/rest/v2/broadcasts`, as AMS has it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};
use sluice_media::{StopReason, StreamKey};
use sluice_store::{
    App, Broadcast, BroadcastUpdate, LIST_LIMIT, ListQuery, Order, SortBy, StoreError, valid_stream_id,
};
use tokio::task::JoinSet;

use crate::auth;
use crate::calls;
use crate::cluster::{ForwardError, Forwarded, ViewerCounts};
use crate::elsewhere;
use crate::forward::{ask, says_yes};
use crate::reply::{Failed, Number, Outcome, json};
use crate::state::ApiState;

/// AMS's number for a pull source that was not started.
const FETCHER_NOT_STARTED: i32 = -4;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CreateQuery {
    auto_start: bool,
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    Extension(app): Extension<App>,
    Query(query): Query<CreateQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failed> {
    let body = if body.trim_ascii().is_empty() {
        BroadcastUpdate::default()
    } else {
        BroadcastUpdate::from_json(&body)
            .map_err(|e| Failed::bad(format!("the broadcast cannot be read: {e}")))?
    };
    let wished_id = body.stream_id.clone().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let now = state.now();
    let id = match wished_id {
        Some(id) if valid_stream_id(&id) => id,
        Some(_) => {
            return Err(Failed::bad("Stream id is not valid: use letters, digits, '-', '_' and '.'"));
        }
        None => new_id(now),
    };
    let mut b = Broadcast::default();
    b.apply(body.without_server_fields());
    check(&app, &b)?;
    let starts = query.auto_start && b.kind != "liveStream";
    if starts {
        if let Err(why) = calls::can_start(&state, &b) {
            let outcome = Outcome { error_id: FETCHER_NOT_STARTED, ..Outcome::no(why) };
            return Ok(outcome.into_response());
        }
        b.source_started = Some(true);
    }
    let host = state
        .settings
        .advertise_host
        .as_deref()
        .or_else(|| auth::host(&uri, &headers).map(auth::host_name))
        .unwrap_or(&state.host);
    b.rtmp_url = Some(rtmp_url(host, state.settings.rtmp_port, &app.name, &id));
    b.origin_address = Some(state.host.clone());
    if b.listener_hook_url.as_deref().is_none_or(str::is_empty) && !app.settings.listener_hook_url.is_empty()
    {
        b.listener_hook_url = Some(app.settings.listener_hook_url.clone());
    }
    b.stream_id = id;
    b.date = now;
    match state.store.create_broadcast(&app.name, b.clone()).await {
        Ok(()) if starts => {
            state.node.calls().look_again();
            Ok(Outcome { data_id: b.stream_id, ..Outcome::yes("") }.into_response())
        }
        Ok(()) => Ok(json(StatusCode::OK, &state.show(&app.name, b))),
        Err(StoreError::Exists(_)) => {
            Err(Failed::bad("Stream id is already being used: choose another one, or leave it empty"))
        }
        Err(e) => Err(e.into()),
    }
}

/// As AMS: 16 letters and digits, and the time in nanoseconds.
fn new_id(now_ms: i64) -> String {
    let mut random = rand::rng();
    let letters: String = (0..16).map(|_| char::from(random.sample(Alphanumeric))).collect();
    format!("{letters}{}", now_ms.saturating_mul(1_000_000).saturating_add(random.random_range(0..1_000_000)))
}

pub(crate) fn rtmp_url(host: &str, port: u16, app: &str, id: &str) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == 1935 {
        format!("rtmp://{host}/{app}/{id}")
    } else {
        format!("rtmp://{host}:{port}/{app}/{id}")
    }
}

/// What AMS refuses when a broadcast is created, and what could not work later.
fn check(app: &App, b: &Broadcast) -> Result<(), Failed> {
    if b.sub_folder.as_deref().is_some_and(|f| f.contains("..")) {
        return Err(Failed::bad("Subfolder is not valid: it must not contain '..'"));
    }
    match b.kind.as_str() {
        "liveStream" | "VoD" | "playlist" => {}
        "ipCamera" => {
            if !b.ip_addr.as_deref().is_some_and(is_camera_address) {
                return Err(Failed::bad("IP address of the camera is not valid"));
            }
        }
        "streamSource" => {
            if !b.stream_url.as_deref().is_some_and(is_stream_url) {
                return Err(Failed::bad(
                    "Stream url is not valid: it begins with http, https, rtmp, rtmps, rtsp, srt, udp, whep or wheps",
                ));
            }
        }
        other => {
            return Err(Failed::bad(format!(
                "type {other:?} is none of liveStream, ipCamera, streamSource, VoD, playlist"
            )));
        }
    }
    app.settings
        .hls(b.hls_parameters.as_ref())
        .map(drop)
        .map_err(|e| Failed::bad(format!("hlsParameters: {e}")))
}

fn is_stream_url(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, rest)| {
        ["http", "https", "rtmp", "rtmps", "rtsp", "srt", "udp", "whep", "wheps"]
            .contains(&scheme.to_ascii_lowercase().as_str())
            && !rest.is_empty()
            && !rest.contains(char::is_whitespace)
    })
}

/// A host with or without port, scheme and path.
fn is_camera_address(address: &str) -> bool {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = auth::host_name(host.split('/').next().unwrap_or_default());
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
}

pub(crate) async fn get(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let found = match state.store.broadcast(&app, &id).await? {
        // Its owner was asked and did not answer; the record is there.
        None => {
            let elsewhere = state.owner_elsewhere(&StreamKey::new(app.as_str(), id.as_str()));
            elsewhere.map(|_| elsewhere::without_record(&id))
        }
        found => found,
    };
    Ok(match found {
        Some(b) => json(StatusCode::OK, &state.show(&app, b)),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    Extension(app): Extension<App>,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Result<Outcome, Failed> {
    let update = BroadcastUpdate::from_json(&body)
        .map_err(|e| Failed::bad(format!("the changes cannot be read: {e}")))?
        .without_server_fields();
    let Some(mut b) = state.store.broadcast(&app.name, &id).await? else {
        return Ok(Outcome::no(format!("Broadcast with streamId: {id} does not exist")));
    };
    b.apply(update.clone());
    if let Err(Failed(_, why)) = check(&app, &b) {
        return Ok(Outcome::no(why));
    }
    Ok(match state.store.update_broadcast(&app.name, &id, update).await? {
        Some(_) => {
            state.node.calls().look_again();
            Outcome::yes("")
        }
        None => Outcome::no(format!("Broadcast with streamId: {id} does not exist")),
    })
}

pub(crate) async fn delete(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
) -> Result<Outcome, Failed> {
    let gone = remove(&state, &app, std::slice::from_ref(&id)).await?;
    Ok(if gone.is_empty() {
        Outcome::no(format!("Broadcast with streamId: {id} does not exist"))
    } else {
        Outcome::yes("broadcast is deleted")
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ids {
    ids: Option<String>,
}

fn split_ids(ids: &str) -> impl Iterator<Item = String> + '_ {
    ids.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned)
}

pub(crate) async fn delete_many(
    State(state): State<Arc<ApiState>>,
    Extension(app): Extension<App>,
    Query(query): Query<Ids>,
) -> Result<Outcome, Failed> {
    let ids: Vec<String> = split_ids(&query.ids.unwrap_or_default()).collect();
    if ids.is_empty() {
        return Ok(Outcome::no("no ids are given: say ?ids=a,b,c"));
    }
    let gone = remove_anywhere(&state, &app.name, &ids).await?;
    let missing: Vec<&str> = ids.iter().filter(|id| !gone.contains(id)).map(String::as_str).collect();
    Ok(if missing.is_empty() {
        Outcome::yes("broadcasts are deleted")
    } else {
        let or_away =
            if state.cluster.is_some() { " or are live on a node that cannot be reached" } else { "" };
        Outcome::no(format!("Broadcasts with these streamIds do not exist{or_away}: {}", missing.join(", ")))
    })
}

/// Streams that are live on other nodes are deleted there, so that their publishers end.
async fn remove_anywhere(state: &ApiState, app: &str, ids: &[String]) -> Result<Vec<String>, StoreError> {
    let (mut here, mut elsewhere) = (Vec::new(), JoinSet::new());
    for id in ids {
        match state.owner_elsewhere(&StreamKey::new(app, id.as_str())) {
            None => here.push(id.clone()),
            Some((cluster, owner)) => {
                let (path, id) = (format!("/{app}/rest/v2/broadcasts/{id}"), id.clone());
                elsewhere.spawn(async move {
                    let answer = cluster.forward(&owner, ask(Method::DELETE, &path)?).await?;
                    Ok::<_, ForwardError>(says_yes(&answer).then_some(id))
                });
            }
        }
    }
    let mut gone = remove(state, app, &here).await?;
    for answer in elsewhere.join_all().await {
        match answer {
            Ok(id) => gone.extend(id),
            Err(error) => tracing::warn!(%error, "a stream that is live on another node was not deleted"),
        }
    }
    Ok(gone)
}

/// The record goes first, so that nothing that the ending stream writes brings it back.
async fn remove(state: &ApiState, app: &str, ids: &[String]) -> Result<Vec<String>, StoreError> {
    let gone = state.store.delete_broadcasts(app, ids).await?;
    for id in &gone {
        state.hub.stop(&StreamKey::new(app, id.as_str()), StopReason::Deleted);
    }
    state.node.calls().look_again();
    Ok(gone)
}

pub(crate) async fn stop(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
) -> Result<Outcome, Failed> {
    let key = StreamKey::new(app.as_str(), id.as_str());
    // First, so that a source that is told to end is not called again.
    let was_source = calls::stop(&state, &app, &id).await;
    let was_live = state.own_stream(&key).is_some() && state.hub.stop(&key, StopReason::Requested);
    // What is live is stopped without the store, too.
    if was_live || was_source? {
        return Ok(Outcome::yes("broadcast is stopped"));
    }
    Ok(match state.store.broadcast(&app, &id).await? {
        Some(_) => Outcome::no(format!("Broadcast with streamId: {id} is not live")),
        None => Outcome::no(format!("Broadcast with streamId: {id} does not exist")),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListParams {
    type_by: Option<String>,
    sort_by: Option<String>,
    order_by: Option<String>,
    search: Option<String>,
    /// Ours: these alone, separated by commas.
    ids: Option<String>,
}

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    Path((app, offset, size)): Path<(String, String, String)>,
    Query(params): Query<ListParams>,
    forwarded: Option<Extension<Forwarded>>,
) -> Result<Response, Failed> {
    let number = |text: &str| {
        text.parse::<i64>()
            .map(|n| usize::try_from(n).unwrap_or(0))
            .map_err(|_| Failed::not_found(format!("{text:?} is not a number")))
    };
    let query = ListQuery {
        offset: number(&offset)?,
        size: number(&size)?,
        kind: params.type_by.filter(|t| !t.is_empty()),
        sort_by: match params.sort_by.as_deref() {
            Some("name") => Some(SortBy::Name),
            Some("date") => Some(SortBy::Date),
            Some("status") => Some(SortBy::Status),
            _ => None,
        },
        order: match params.order_by.as_deref() {
            Some(o) if o.eq_ignore_ascii_case("desc") => Order::Descending,
            _ => Order::Ascending,
        },
        search: params.search.filter(|s| !s.is_empty()),
    };
    let forwarded = forwarded.is_some();
    let found = match params.ids {
        Some(ids) => {
            let ids: Vec<String> = split_ids(&ids).take(LIST_LIMIT).collect();
            state.store.broadcasts(&app, &ids).await?
        }
        None if forwarded => state.store.list_broadcasts(&app, query).await?,
        None => elsewhere::page(&state, &app, query).await?,
    };
    if forwarded {
        let shown: Vec<_> = found.into_iter().map(|b| state.show(&app, b)).collect();
        return Ok(json(StatusCode::OK, &shown));
    }
    let mut told = elsewhere::as_owners_say(&state, &app, &found).await;
    let shown: Vec<_> = found
        .into_iter()
        .map(|b| match told.remove(&b.stream_id) {
            Some(told) => told,
            None => serde_json::json!(state.show(&app, b)),
        })
        .collect();
    Ok(json(StatusCode::OK, &shown))
}

pub(crate) async fn count(
    State(state): State<Arc<ApiState>>,
    Extension(app): Extension<App>,
) -> Result<Number, Failed> {
    let missing = elsewhere::missing(&state, &app.name, None).await?.len() as u64;
    Ok(Number { number: state.store.count_broadcasts(&app.name, None).await? + missing })
}

pub(crate) async fn count_search(
    State(state): State<Arc<ApiState>>,
    Path((app, search)): Path<(String, String)>,
) -> Result<Number, Failed> {
    let missing = elsewhere::missing(&state, &app, Some(&search)).await?.len() as u64;
    Ok(Number { number: state.store.count_broadcasts(&app, Some(&search)).await? + missing })
}

pub(crate) async fn count_live(
    State(state): State<Arc<ApiState>>,
    Extension(app): Extension<App>,
) -> Result<Number, Failed> {
    // The nodes of a cluster tell each other at once; the store hears of it later, and perhaps only of this node.
    let number = match state.cluster {
        Some(_) => state.live_everywhere().keys().filter(|key| *key.app == *app.name).count() as u64,
        None => state.store.count_live(&app.name, state.now()).await?,
    };
    Ok(Number { number })
}

/// Viewers by protocol, -1 where that is not known.
#[derive(Debug, Serialize)]
struct Statistics {
    #[serde(rename = "totalRTMPWatchersCount")]
    rtmp: i64,
    #[serde(rename = "totalHLSWatchersCount")]
    hls: i64,
    #[serde(rename = "totalWebRTCWatchersCount")]
    webrtc: i64,
    #[serde(rename = "totalDASHWatchersCount")]
    dash: i64,
    #[serde(rename = "activeLiveStreamCount", skip_serializing_if = "Option::is_none")]
    active: Option<u64>,
}

fn viewers(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Statistics {
    fn of(live: ViewerCounts) -> Self {
        Statistics {
            rtmp: viewers(live.rtmp),
            hls: viewers(live.hls),
            webrtc: viewers(live.webrtc),
            dash: 0,
            active: None,
        }
    }
}

/// Each node knows the viewers on all: the owner need not be asked.
pub(crate) async fn statistics(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let statistics = match state.viewers_if_live(&StreamKey::new(app.as_str(), id.as_str())) {
        Some(live) => Statistics::of(live),
        None => {
            let n = if state.store.broadcast(&app, &id).await?.is_some() { 0 } else { -1 };
            Statistics { rtmp: n, hls: n, webrtc: n, dash: n, active: None }
        }
    };
    Ok(json(StatusCode::OK, &statistics))
}

pub(crate) async fn total_statistics(
    State(state): State<Arc<ApiState>>,
    Extension(app): Extension<App>,
) -> Response {
    let mut active = 0;
    let mut all = ViewerCounts::default();
    for (_, live) in state.live_everywhere().iter().filter(|(key, _)| *key.app == *app.name) {
        active += 1;
        all = all.plus(*live);
    }
    json(StatusCode::OK, &Statistics { active: Some(active), ..Statistics::of(all) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_valid_and_differ() {
        let (a, b) = (new_id(1_800_000_000_000), new_id(1_800_000_000_000));
        assert!(valid_stream_id(&a) && a.len() > 30);
        assert_ne!(a, b);
    }

    #[test]
    fn publish_urls() {
        assert_eq!(rtmp_url("h", 1935, "a", "s"), "rtmp://h/a/s");
        assert_eq!(rtmp_url("::1", 1936, "a", "s"), "rtmp://[::1]:1936/a/s");
    }

    #[test]
    fn source_addresses() {
        assert!(is_stream_url("rtsp://h/x") && is_stream_url("HTTPS://h") && is_stream_url("wheps://h/x"));
        assert!(!is_stream_url("h/x") && !is_stream_url("file:///etc/passwd") && !is_stream_url("rtmp://"));
        assert!(is_camera_address("192.0.2.1:8080") && is_camera_address("http://cam.local/onvif"));
        assert!(!is_camera_address("") && !is_camera_address("a b"));
    }
}
