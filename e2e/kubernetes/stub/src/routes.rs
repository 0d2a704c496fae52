//! What the operator asks, as routes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use sluice_control::{Apps, AppsResult, Drain, LiveSettings, Report, SettingsResult, paths};

use crate::node::Node;

#[derive(Debug, Deserialize)]
struct Poll {
    known: Option<u64>,
    #[serde(default)]
    wait_ms: u64,
}

/// The routes of one node.
pub(crate) fn of(node: Arc<Node>) -> Router {
    Router::new()
        .route(paths::REPORT, get(report))
        .route(paths::DRAIN, post(drain).delete(undrain))
        .route(paths::APPS, put(apps))
        .route(paths::SETTINGS, put(settings))
        .with_state(node)
}

async fn report(State(node): State<Arc<Node>>, Query(poll): Query<Poll>) -> Json<Report> {
    let wait = Duration::from_millis(poll.wait_ms.min(paths::LONGEST_WAIT_MS));
    Json(node.report_after(poll.known, wait).await)
}

async fn drain(State(node): State<Arc<Node>>, Json(order): Json<Drain>) -> StatusCode {
    node.drain(order);
    StatusCode::NO_CONTENT
}

async fn undrain(State(node): State<Arc<Node>>) -> StatusCode {
    node.undrain();
    StatusCode::NO_CONTENT
}

async fn apps(State(node): State<Arc<Node>>, Json(apps): Json<Apps>) -> Json<AppsResult> {
    Json(node.apply_apps(apps))
}

async fn settings(State(node): State<Arc<Node>>, Json(settings): Json<LiveSettings>) -> Json<SettingsResult> {
    Json(node.apply_settings(settings))
}
