//! `/rest/v2/cluster`: the members and where the streams are. Shapes of AMS, with what is ours beside them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::cluster::NodeView;
use crate::reply::{Failed, Number, Outcome, json};
use crate::state::{ApiState, millis};

pub(crate) const ALONE: &str = "this node stands alone: it is not part of a cluster";

/// AMS's `ClusterNode`, and ours after it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterNode {
    ip: String,
    /// ms since the epoch.
    last_update_time: i64,
    /// Used and all, in MB: `2048/7976`.
    memory: String,
    /// Percent, without the sign.
    cpu: String,
    #[serde(rename = "dbQueryAveargeTimeMs")]
    db_query_ms: i64,
    status: &'static str,
    /// Whether it is the node that answers.
    this: bool,
    #[serde(flatten)]
    node: NodeView,
}

impl ClusterNode {
    fn new(node: NodeView, now: i64, me: &str) -> Self {
        ClusterNode {
            ip: node.host.clone(),
            last_update_time: now.saturating_sub(i64::try_from(node.heard.as_millis()).unwrap_or(i64::MAX)),
            memory: memory(node.memory_percent, node.memory_total),
            cpu: format!("{:.0}", percent(node.cpu_percent)),
            db_query_ms: node.store_ms.max(0.0).round() as i64,
            status: if node.alive { "alive" } else { "dead" },
            this: node.id == me,
            node,
        }
    }
}

fn percent(value: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, 100.0) } else { 0.0 }
}

/// Where the size is not known, a share of 100 tells the same share.
fn memory(used_percent: f64, total: u64) -> String {
    let total = if total == 0 { 100.0 } else { (total >> 20) as f64 };
    format!("{:.0}/{total:.0}", total * percent(used_percent) / 100.0)
}

fn all(state: &ApiState) -> Vec<ClusterNode> {
    let now = millis(std::time::SystemTime::now());
    let nodes = state.cluster.as_ref().map(|c| c.nodes()).unwrap_or_default();
    nodes.into_iter().map(|node| ClusterNode::new(node, now, &state.settings.node_id)).collect()
}

/// `GET /rest/v2/cluster-mode-status`: `success` says whether this node is part of a cluster.
pub(crate) async fn mode(State(state): State<Arc<ApiState>>) -> Outcome {
    match &state.cluster {
        Some(cluster) => Outcome { data_id: cluster.health().mode.into(), ..Outcome::yes("") },
        None => Outcome::no(ALONE),
    }
}

/// `GET /rest/v2/cluster/node-count`.
pub(crate) async fn count(State(state): State<Arc<ApiState>>) -> Number {
    Number { number: state.cluster.as_ref().map_or(0, |c| c.nodes().len() as u64) }
}

/// `GET /rest/v2/cluster/nodes/{offset}/{size}`.
pub(crate) async fn page(
    State(state): State<Arc<ApiState>>,
    Path((offset, size)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let number = |text: &str| {
        text.parse::<i64>()
            .map(|n| usize::try_from(n).unwrap_or(0))
            .map_err(|_| Failed::not_found(format!("{text:?} is not a number")))
    };
    let (offset, size) = (number(&offset)?, number(&size)?);
    let nodes: Vec<_> = all(&state).into_iter().skip(offset).take(size).collect();
    Ok(json(StatusCode::OK, &nodes))
}

/// `GET /{app}/rest/v2/cluster/nodes`: all of them.
pub(crate) async fn list(State(state): State<Arc<ApiState>>) -> Response {
    json(StatusCode::OK, &all(&state))
}

/// `GET /rest/v2/cluster/streams`: ours, who has which stream.
pub(crate) async fn streams(State(state): State<Arc<ApiState>>) -> Response {
    let streams = state.cluster.as_ref().map(|c| c.streams()).unwrap_or_default();
    json(StatusCode::OK, &streams)
}

/// `DELETE /rest/v2/cluster/node/{id}`: forgets a node that is dead.
pub(crate) async fn remove(State(state): State<Arc<ApiState>>, Path(id): Path<String>) -> Outcome {
    let Some(cluster) = &state.cluster else { return Outcome::no(ALONE) };
    match cluster.remove_node(&id).await {
        Ok(true) => Outcome::yes(""),
        Ok(false) => Outcome::no(format!("there is no node {id} in this cluster")),
        Err(why) => Outcome::no(why.to_string()),
    }
}

/// `GET /rest/cluster/deleteNode/{id}`, an old way to do the same. A page of another site cannot send a DELETE, but it
/// can have a picture at any address.
pub(crate) async fn remove_by_get(
    state: State<Arc<ApiState>>,
    id: Path<String>,
    headers: HeaderMap,
) -> Response {
    let site = headers.get("sec-fetch-site").map(|v| v.as_bytes());
    match site {
        None | Some(b"none" | b"same-origin") => remove(state, id).await.into_response(),
        Some(_) => Failed(StatusCode::FORBIDDEN, "the request comes from a page of another site".into())
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_as_ams_writes_it() {
        assert_eq!(memory(25.0, 8 << 30), "2048/8192");
        assert_eq!(memory(25.4, 0), "25/100");
        assert_eq!(memory(f64::NAN, 1 << 20), "0/1");
        assert_eq!(memory(250.0, 1 << 30), "1024/1024");
    }
}
