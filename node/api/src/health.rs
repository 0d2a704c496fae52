//! What probes and load balancers ask.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json as value;

use crate::reply::json;
use crate::state::ApiState;

/// A store that takes longer than this to answer is not ready.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// `GET /healthz`: the process runs.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the node takes new sessions.
pub(crate) async fn ready(State(state): State<Arc<ApiState>>) -> Response {
    match why_not_ready(&state).await {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn why_not_ready(state: &ApiState) -> Option<String> {
    if let Err(why) = state.node.ready() {
        return Some(why);
    }
    match tokio::time::timeout(STORE_ANSWERS_WITHIN, state.store.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(e)) => Some(e.to_string()),
        Err(_) => Some("the store does not answer".into()),
    }
}

/// `GET /rest/v2/liveness`, AMS's shape.
pub(crate) async fn liveness(State(state): State<Arc<ApiState>>) -> Response {
    json(StatusCode::OK, &value!({ "host": state.host, "status": "ok" }))
}
