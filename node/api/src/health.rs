//! What probes and load balancers ask.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::json as value;

use crate::reply::json;
use crate::state::ApiState;

/// A store that takes longer than this to answer does not answer.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What `/readyz` and `/acceptz` say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// It serves what it has.
    ready: bool,
    /// It lets new sessions in.
    accepting: bool,
    /// Why not, if it is not one of them.
    reason: Option<String>,
    draining: bool,
    store: StoreReport,
    /// None when the node stands alone.
    cluster: Option<ClusterReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreReport {
    answers: bool,
    /// For how long it has not, where that is known.
    away_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ClusterReport {
    mode: &'static str,
    alive: usize,
    dead: usize,
}

async fn report(state: &ApiState) -> Report {
    let ready = state.node.ready();
    let accepts = state.node.accepts();
    let (store, cluster, store_needed) = match &state.cluster {
        Some(cluster) => {
            let (health, nodes) = (cluster.health(), cluster.nodes());
            let alive = nodes.iter().filter(|n| n.alive).count();
            let away_ms = health.store_away.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
            (
                StoreReport { answers: away_ms.is_none(), away_ms },
                Some(ClusterReport { mode: health.mode, alive, dead: nodes.len() - alive }),
                // Whether publishers are let in meanwhile is a setting: `accepts` has looked.
                Ok(()),
            )
        }
        None => {
            let answer = match tokio::time::timeout(STORE_ANSWERS_WITHIN, state.store.ping()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(e.to_string()),
                Err(_) => Err("the store does not answer".into()),
            };
            (StoreReport { answers: answer.is_ok(), away_ms: None }, None, answer)
        }
    };
    let is_ready = ready.is_ok();
    let accepting = ready.and(accepts).and(store_needed);
    Report {
        ready: is_ready,
        accepting: accepting.is_ok(),
        reason: accepting.err(),
        draining: state.node.drains().is_some(),
        store,
        cluster,
    }
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// `GET /healthz`: the process runs.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the node serves what it has. It does so while it drains, and without its store.
pub(crate) async fn ready(State(state): State<Arc<ApiState>>) -> Response {
    let report = report(&state).await;
    json(status(report.ready), &report)
}

/// `GET /acceptz`: the node lets new sessions in. This is for load balancers.
pub(crate) async fn accepting(State(state): State<Arc<ApiState>>) -> Response {
    let report = report(&state).await;
    json(status(report.accepting), &report)
}

/// `GET /rest/v2/liveness`, AMS's shape.
pub(crate) async fn liveness(State(state): State<Arc<ApiState>>) -> Response {
    json(StatusCode::OK, &value!({ "host": state.host, "status": "ok" }))
}
