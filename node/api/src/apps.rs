//! Root REST about apps, and versions.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::json as value;
use sluice_store::{StoreError, valid_app_name};

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
    for stream in state.hub.streams().iter().filter(|s| !s.is_ended()) {
        *live.entry(stream.key().app.clone()).or_default() += 1;
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

pub(crate) async fn settings(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    match state.store.app(&name).await? {
        Some(app) => Ok(json(StatusCode::OK, &app.settings)),
        None => Err(Failed::not_found(format!("there is no app named {name}"))),
    }
}

/// Changes the settings that the body has; the others stay.
pub(crate) async fn change_settings(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Outcome, Failed> {
    for _ in 0..TRIES {
        let Some(mut app) = state.store.app(&name).await? else {
            return Ok(Outcome::no(format!("there is no app named {name}")));
        };
        if let Err(why) = app.settings.merge_json(&body) {
            return Ok(Outcome::no(why.to_string()));
        }
        match state.store.set_app_settings(&name, app.settings, app.version).await {
            Ok(_) => {
                state.node.apps_changed().await;
                return Ok(Outcome::yes(""));
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Outcome::no("others keep changing these settings: try again"))
}
