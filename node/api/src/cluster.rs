//! What REST, metrics and the dashboard ask of the cluster. The node composes it; this crate knows neither how members
//! find each other nor how frames go between them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde::Serialize;

/// The longest body of an answer that [`ClusterView::forward`] gives, in bytes. A longer one is an error.
pub const LONGEST_FORWARDED: usize = 8 << 20;

/// Put into the extensions of a request that came over the cluster port: mutual TLS has vouched for it, so that it
/// passes without token or address filter, and it is answered here, never sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded;

/// The cluster, as this node sees it at this moment. All but the two asynchronous calls answer from memory.
#[async_trait]
pub trait ClusterView: Send + Sync + 'static {
    /// All members that are known, this node included, dead ones too until they are removed; by id.
    fn nodes(&self) -> Vec<NodeView>;

    /// Every stream that some node owns or carries, those of this node included; by app and id.
    fn streams(&self) -> Vec<StreamPlace>;

    /// One of them.
    fn stream(&self, app: &str, id: &str) -> Option<StreamPlace>;

    /// Asks another node's API over the cluster port; there the request has [`Forwarded`] in its extensions. The
    /// URI is a path with its query; the body of the answer is at most [`LONGEST_FORWARDED`] bytes. It answers or
    /// fails within a few seconds, whatever the other node does.
    async fn forward(&self, node: &str, request: Request<Bytes>) -> Result<Response<Bytes>, ForwardError>;

    /// Forgets a node that is dead; `false` when there is none of that id.
    async fn remove_node(&self, node: &str) -> Result<bool, RemoveError>;

    /// How the cluster holds together.
    fn health(&self) -> ClusterHealth;

    /// What is counted since the start, for `/metrics`; the names are few and fixed.
    fn counters(&self) -> Vec<Counter>;
}

/// A request that another node did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// No member has this id.
    #[error("there is no node {0} in this cluster")]
    Unknown(String),
    /// It could not be asked, or gave no answer in time.
    #[error("node {node} cannot be reached over the cluster port: {why}")]
    Unreachable {
        /// The node.
        node: String,
        /// What went wrong.
        why: String,
    },
}

/// A node that was not removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// It is there.
    #[error("node {0} is alive: only a dead node can be removed; stop it first")]
    Alive(String),
    /// The store did not do it.
    #[error("the record of node {node} could not be removed: {why}")]
    Store {
        /// The node.
        node: String,
        /// What the store said.
        why: String,
    },
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub id: String,
    /// The host name or address under which it is reached.
    pub host: String,
    /// `both`, `origin` or `edge`.
    pub role: String,
    /// The group that it belongs to.
    pub group: String,
    /// The release that it runs.
    pub version: String,
    /// Whether its heartbeat is heard.
    pub alive: bool,
    /// Whether this node's link to it is up; `true` for this node itself.
    pub reachable: bool,
    /// It takes no new sessions.
    pub draining: bool,
    /// How long ago its last sign of life came.
    #[serde(skip)]
    pub heard: Duration,
    /// CPU of its machine in use, percent.
    pub cpu_percent: f64,
    /// Memory of its machine in use, percent.
    pub memory_percent: f64,
    /// That memory in all, bytes; 0 when it is not known.
    pub memory_total: u64,
    /// Streams published to it.
    pub streams: u64,
    /// Streams that it fetches from other nodes.
    pub relayed: u64,
    /// Viewers by any protocol.
    pub viewers: u64,
    /// Bytes per second received.
    pub bytes_in: u64,
    /// Bytes per second sent.
    pub bytes_out: u64,
    /// Encoder sessions in use.
    pub encoder_sessions: u64,
    /// The mean time of its store's calls, milliseconds; negative while the store does not answer it.
    pub store_ms: f64,
    /// Streams that may be published to it at once; 0 when it does not tell.
    pub capacity_streams: u64,
    /// Connections of viewers that it takes; 0 when it does not tell.
    pub capacity_connections: u64,
    /// Its ports.
    pub ports: NodePorts,
}

/// The TCP ports of a node; 0 where it does not listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodePorts {
    /// Node to node.
    pub cluster: u16,
    /// HTTP.
    pub http: u16,
    /// HTTPS.
    pub https: u16,
    /// RTMP.
    pub rtmp: u16,
}

/// Viewers by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ViewerCounts {
    /// HLS sessions.
    pub hls: u64,
    /// RTMP players.
    pub rtmp: u64,
    /// WebRTC players.
    pub webrtc: u64,
}

impl ViewerCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: ViewerCounts) -> ViewerCounts {
        ViewerCounts {
            hls: self.hls.saturating_add(other.hls),
            rtmp: self.rtmp.saturating_add(other.rtmp),
            webrtc: self.webrtc.saturating_add(other.webrtc),
        }
    }
}

/// Where a live stream is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamPlace {
    /// The app.
    pub app: String,
    /// The stream id.
    #[serde(rename = "streamId")]
    pub id: String,
    /// The epoch in which it is owned.
    pub epoch: u64,
    /// The node that owns it; none while its owner is lost and others still carry it.
    pub owner: Option<String>,
    /// Its publisher's connection is broken; it may come back.
    pub interrupted: bool,
    /// Bits per second from the publisher.
    pub bitrate: u64,
    /// Viewers at the owner.
    pub viewers: ViewerCounts,
    /// The nodes that fetch it from others.
    pub carriers: Vec<CarrierPlace>,
}

impl StreamPlace {
    /// The viewers on all nodes.
    pub fn all_viewers(&self) -> ViewerCounts {
        self.carriers.iter().fold(self.viewers, |all, carrier| all.plus(carrier.viewers))
    }
}

/// A node that fetches a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CarrierPlace {
    /// The node.
    pub node: String,
    /// The nodes that the frames come through: the owner first, the node that it fetches from last.
    pub path: Vec<String>,
    /// Viewers there.
    pub viewers: ViewerCounts,
}

/// How the cluster holds together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    /// `mongodb`, `multicast` or `static`.
    pub mode: &'static str,
    /// For how long the store has not answered; none while it does.
    pub store_away: Option<Duration>,
}

/// A number that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Such as `relay_frames_in_total`; `sluice_` is put before it.
    pub name: &'static str,
    /// What it counts, one sentence.
    pub help: &'static str,
    /// How many.
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_of_all_nodes_add_up() {
        let carrier =
            |hls, rtmp| CarrierPlace { viewers: ViewerCounts { hls, rtmp, webrtc: 1 }, ..Default::default() };
        let place = StreamPlace {
            viewers: ViewerCounts { hls: 1, rtmp: 2, webrtc: 3 },
            carriers: vec![carrier(10, 0), carrier(0, 20)],
            ..Default::default()
        };
        assert_eq!(place.all_viewers(), ViewerCounts { hls: 11, rtmp: 22, webrtc: 5 });
    }
}
