//! What the operator may ask, as HTTP. Who comes here has shown the operator's certificate.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use sluice_control::{Apps, Drain, DrainOrder, LiveSettings, RefusedSetting, Report, SettingsResult, paths};
use tokio::sync::Semaphore;

use super::Door;
use crate::drain::Order;

/// How often a waiting poll looks.
const LOOK: Duration = Duration::from_millis(250);
/// Polls that may wait at once: an operator has one, and another one while it is replaced.
const POLLS: usize = 16;
/// A node lets sessions in no longer than this after it was ordered to drain.
const LONGEST_ACCEPT: u64 = 600;

struct Served {
    door: Arc<Door>,
    polls: Semaphore,
}

/// A sentence and a status.
struct No(StatusCode, String);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "message": self.1 }))).into_response()
    }
}

impl From<JsonRejection> for No {
    fn from(why: JsonRejection) -> Self {
        No(why.status(), format!("the request is none that this release knows: {}", why.body_text()))
    }
}

/// Everything that the operator may ask.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let served = Arc::new(Served { door, polls: Semaphore::new(POLLS) });
    Router::new()
        .route(paths::REPORT, get(report))
        .route(paths::DRAIN, post(drain).delete(undrain))
        .route(paths::APPS, put(apps))
        .route(paths::SETTINGS, put(settings))
        .with_state(served)
}

#[derive(Deserialize)]
struct Poll {
    known: Option<u64>,
    wait_ms: Option<u64>,
}

async fn report(State(served): State<Arc<Served>>, Query(poll): Query<Poll>) -> Result<Json<Report>, No> {
    let wait = Duration::from_millis(poll.wait_ms.unwrap_or(0).min(paths::LONGEST_WAIT_MS));
    let end = Instant::now() + wait;
    let first = served.door.report();
    if wait.is_zero() || poll.known != Some(first.revision) {
        return Ok(Json(first));
    }
    let Ok(_poll) = served.polls.try_acquire() else {
        return Err(No(StatusCode::SERVICE_UNAVAILABLE, format!("{POLLS} others are waiting already")));
    };
    loop {
        let left = end.saturating_duration_since(Instant::now());
        tokio::time::sleep(LOOK.min(left)).await;
        let report = served.door.report();
        if poll.known != Some(report.revision) || Instant::now() >= end {
            return Ok(Json(report));
        }
    }
}

async fn drain(
    State(served): State<Arc<Served>>,
    body: Result<Json<Drain>, JsonRejection>,
) -> Result<StatusCode, No> {
    let Json(drain) = body?;
    served.door.node.streams.drain(Order {
        by: DrainOrder::Operator,
        reason: drain.reason,
        deadline: drain.deadline_s.map(Duration::from_secs),
        accept_for: Duration::from_secs(drain.accept_for_s.min(LONGEST_ACCEPT)),
    });
    Ok(StatusCode::NO_CONTENT)
}

async fn undrain(State(served): State<Arc<Served>>) -> Result<StatusCode, No> {
    let undrained = served.door.node.streams.undrain();
    undrained.map(|()| StatusCode::NO_CONTENT).map_err(|why| No(StatusCode::CONFLICT, why.to_string()))
}

async fn apps(
    State(served): State<Arc<Served>>,
    body: Result<Json<Apps>, JsonRejection>,
) -> Result<Response, No> {
    let Json(apps) = body?;
    let stopping = || No(StatusCode::SERVICE_UNAVAILABLE, "this node is stopping".into());
    let api = served.door.node.api.upgrade().ok_or_else(stopping)?;
    // In a task of its own: an operator that goes away half-way does not leave it half done.
    let door = served.door.clone();
    let done = tokio::spawn(async move { door.declaring.apply(apps, &api).await }).await;
    match done {
        Ok(Ok(result)) => Ok(Json(result).into_response()),
        Ok(Err(too_many)) => Err(No(StatusCode::PAYLOAD_TOO_LARGE, too_many.to_string())),
        Err(_) => Err(No(StatusCode::INTERNAL_SERVER_ERROR, "the apps could not be set; see its log".into())),
    }
}

async fn settings(
    State(served): State<Arc<Served>>,
    body: Result<Json<LiveSettings>, JsonRejection>,
) -> Result<Json<SettingsResult>, No> {
    let Json(LiveSettings { hash, settings }) = body?;
    let door = &served.door;
    // Held over both, so that the hash is that of the settings.
    let mut kept = door.settings.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Json(match door.node.config.apply(&settings) {
        Ok(changed) => {
            if !changed.is_empty() {
                tracing::info!(settings = ?changed, "the operator changed settings");
            }
            *kept = Some(hash);
            let changed = changed.into_iter().map(str::to_owned).collect();
            SettingsResult { changed, refused: Vec::new() }
        }
        Err(refused) => {
            let refused =
                refused.into_iter().map(|r| RefusedSetting { key: r.key, reason: r.reason }).collect();
            SettingsResult { changed: Vec::new(), refused }
        }
    }))
}
