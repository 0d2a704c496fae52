//! Root REST about apps, and versions.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json as value};
use sluice_media::StopReason;
use sluice_store::{AppSettings, StoreError, valid_app_name};
use tokio::task::JoinSet;

use crate::cluster::{ForwardError, Forwarded};
use crate::forward::{LISTS_WAIT, ask};
use crate::reply::{Failed, Outcome, json};
use crate::state::ApiState;

/// How often a change of settings is tried again when others change them at the same moment.
const TRIES: u32 = 5;

/// The version of this program, in AMS's shape.
pub(crate) fn version_of(state: &ApiState) -> serde_json::Value {
    value!({
        "versionName": env!("CARGO_PKG_VERSION"),
        "versionType": "Community Edition",
        "buildNumber": state.settings.build,
    })
}

pub(crate) async fn version(State(state): State<Arc<ApiState>>) -> Response {
    json(StatusCode::OK, &version_of(&state))
}

pub(crate) async fn list(State(state): State<Arc<ApiState>>) -> Result<Response, Failed> {
    let names: Vec<String> = state.store.apps().await?.into_iter().map(|a| a.name).collect();
    Ok(json(StatusCode::OK, &value!({ "applications": names })))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    name: String,
    live_stream_count: u64,
    vod_count: u64,
    /// Bytes of recordings.
    storage: u64,
}

pub(crate) async fn infos(State(state): State<Arc<ApiState>>) -> Result<Response, Failed> {
    let mut live: HashMap<Arc<str>, u64> = HashMap::new();
    for key in state.live_everywhere().into_keys() {
        *live.entry(key.app).or_default() += 1;
    }
    let infos: Vec<Info> = state
        .store
        .apps()
        .await?
        .into_iter()
        .map(|a| Info {
            live_stream_count: live.get(a.name.as_str()).copied().unwrap_or(0),
            name: a.name,
            // This version records nothing.
            vod_count: 0,
            storage: 0,
        })
        .collect();
    Ok(json(StatusCode::OK, &infos))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
) -> Result<Outcome, Failed> {
    if !valid_app_name(&name) {
        return Ok(Outcome::no("the name of an app consists of letters, digits, '_' and '-'"));
    }
    Ok(if state.store.create_app(&name, state.settings.app_defaults.clone()).await? {
        state.node.apps_changed().await;
        Outcome::yes("")
    } else {
        Outcome::no(format!("there is an app named {name} already"))
    })
}

/// `DELETE /rest/v2/applications/{app}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteQuery {
    #[serde(rename = "deleteDB")]
    delete_db: bool,
}

/// Deletes an app; its live streams end, on every node.
pub(crate) async fn delete(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
    Query(query): Query<DeleteQuery>,
    forwarded: Option<Extension<Forwarded>>,
) -> Result<Outcome, Failed> {
    if forwarded.is_none() {
        let apps = state.store.apps().await?;
        if matches!(apps.as_slice(), [only] if only.name == name) {
            return Ok(Outcome::no(format!("{name} is the only app: make another one before you delete it")));
        }
        if !state.store.delete_app(&name, query.delete_db).await? {
            return Ok(Outcome::no(format!("there is no app named {name}")));
        }
    }
    state.app_is_gone(&name).await;
    if forwarded.is_none() {
        state.tell_that_app_is_gone(&name).await;
    }
    Ok(Outcome::yes(""))
}

impl ApiState {
    /// Ends the streams of an app that was deleted, on this node.
    pub(crate) async fn app_is_gone(&self, name: &str) {
        self.node.apps_changed().await;
        for stream in self.hub.streams() {
            if *stream.key().app == *name {
                self.hub.stop(stream.key(), StopReason::Deleted);
            }
        }
    }

    /// The others learn from the store that an app is gone; this way its streams end at once.
    pub(crate) async fn tell_that_app_is_gone(&self, name: &str) {
        let Some(cluster) = &self.cluster else { return };
        let mut told = JoinSet::new();
        for node in cluster.nodes() {
            if node.reachable && node.id != self.settings.node_id {
                let (cluster, path) = (cluster.clone(), format!("/rest/v2/applications/{name}"));
                told.spawn(async move {
                    let answer = cluster.forward(&node.id, ask(Method::DELETE, &path)?);
                    let _ = tokio::time::timeout(LISTS_WAIT, answer).await;
                    Ok::<_, ForwardError>(())
                });
            }
        }
        told.join_all().await;
    }
}

fn etag(version: u64) -> [(header::HeaderName, String); 1] {
    [(header::ETAG, format!("\"{version}\""))]
}

/// Whether `If-Match`, where a request has it, names this version.
fn matches(headers: &HeaderMap, version: u64) -> bool {
    let mut tags = headers.get_all(header::IF_MATCH).iter().peekable();
    tags.peek().is_none()
        || tags.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim).any(|tag| {
            let number = tag.trim_start_matches("W/").trim_matches('"').parse::<u64>();
            tag == "*" || number == Ok(version)
        })
}

pub(crate) async fn settings(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    match state.store.app(&name).await? {
        Some(app) => Ok((etag(app.version), json(StatusCode::OK, &app.settings)).into_response()),
        None => Err(Failed::not_found(format!("there is no app named {name}"))),
    }
}

/// Whether a body sets every setting, so that nothing of what others have changed would be left.
fn sets_all(body: &[u8], settings: &AppSettings) -> bool {
    let body: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    let (Some(body), Ok(Value::Object(all))) = (body, serde_json::to_value(settings)) else { return false };
    all.keys().all(|key| body.contains_key(key))
}

/// Changes the settings that the body has; the others stay. `If-Match` with the `ETag` that was read makes sure that
/// nobody has changed them since.
pub(crate) async fn change_settings(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failed> {
    for _ in 0..TRIES {
        let Some(mut app) = state.store.app(&name).await? else {
            return Ok(Outcome::no(format!("there is no app named {name}")).into_response());
        };
        if !matches(&headers, app.version) {
            let why =
                "somebody else has changed these settings since you read them (If-Match): read them again";
            return Ok(json(StatusCode::PRECONDITION_FAILED, &Outcome::no(why)));
        }
        let sets_all = sets_all(&body, &app.settings);
        if let Err(why) = app.settings.merge_json(&body) {
            return Ok(Outcome::no(why.to_string()).into_response());
        }
        match state.store.set_app_settings(&name, app.settings, app.version).await {
            Ok(version) => {
                state.node.apps_changed().await;
                return Ok((etag(version), Outcome::yes("")).into_response());
            }
            // A body that sets all would undo the other change without a word.
            Err(StoreError::Conflict { .. }) if sets_all => {
                let why = "somebody else changed these settings at the same moment: read them again";
                return Ok(Outcome::no(why).into_response());
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Outcome::no("others keep changing these settings: try again").into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preconditions() {
        let with = |tags: &[&str]| {
            let mut headers = HeaderMap::new();
            for tag in tags {
                headers.append(header::IF_MATCH, tag.parse().unwrap());
            }
            matches(&headers, 7)
        };
        assert!(
            with(&[]) && with(&["\"7\""]) && with(&["*"]) && with(&["W/\"7\""]) && with(&["\"6\", \"7\""])
        );
        assert!(with(&["\"6\"", "7"]));
        assert!(!with(&["\"6\""]) && !with(&["nonsense"]) && !with(&[""]));
    }

    #[test]
    fn a_body_with_every_setting() {
        let settings = AppSettings::default();
        let mut all = serde_json::to_value(&settings).unwrap();
        assert!(sets_all(all.to_string().as_bytes(), &settings));
        all.as_object_mut().unwrap().remove("hlsTime");
        assert!(!sets_all(all.to_string().as_bytes(), &settings));
        assert!(!sets_all(b"[]", &settings) && !sets_all(b"{", &settings));
    }
}
