//! The cluster as the API shows it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use sluice_api::cluster::{
    CarrierPlace, ClusterHealth, ClusterView, Counter, ForwardError, NodePorts, NodeView, RemoveError,
    StreamPlace, ViewerCounts,
};
use sluice_cluster::directory::{Directory, MemberView, StreamView};
use sluice_cluster::member::{NodeId, Viewers};
use sluice_cluster::membership::Membership;
use sluice_cluster::port::Client;
use sluice_cluster::relay::{RelayServer, Relays};
use sluice_media::StreamKey;

use super::health::Health;

/// Shown of a node that was never heard of.
const NEVER: Duration = Duration::from_secs(365 * 86_400);
/// How long another node may take to answer a REST call.
const FORWARD_WITHIN: Duration = Duration::from_secs(5);

/// What the API asks of the cluster.
pub(super) struct View {
    pub(super) mode: &'static str,
    pub(super) directory: Arc<Directory>,
    pub(super) membership: Arc<dyn Membership>,
    pub(super) client: Client,
    pub(super) relays: Arc<Relays>,
    pub(super) served: Arc<RelayServer>,
    pub(super) health: Health,
}

#[async_trait]
impl ClusterView for View {
    fn nodes(&self) -> Vec<NodeView> {
        let mut nodes: Vec<NodeView> = self.directory.members().iter().filter_map(View::node).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    fn streams(&self) -> Vec<StreamPlace> {
        let mut streams: Vec<StreamPlace> = self.directory.streams().into_iter().map(place).collect();
        streams.sort_by(|a, b| (&a.app, &a.id).cmp(&(&b.app, &b.id)));
        streams
    }

    fn stream(&self, app: &str, id: &str) -> Option<StreamPlace> {
        self.directory.stream(&StreamKey::new(app, id)).map(place)
    }

    async fn forward(&self, node: &str, request: Request<Bytes>) -> Result<Response<Bytes>, ForwardError> {
        let addr = self
            .directory
            .address(&NodeId::new(node))
            .ok_or_else(|| ForwardError::Unknown(node.to_owned()))?;
        let unreachable = |why: String| ForwardError::Unreachable { node: node.to_owned(), why };
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        parts.uri = format!("/v1/api{path}").parse::<Uri>().map_err(|e| unreachable(e.to_string()))?;
        let answer = self.client.request(&addr, Request::from_parts(parts, body), FORWARD_WITHIN).await;
        answer.map_err(|e| unreachable(e.to_string()))
    }

    async fn remove_node(&self, node: &str) -> Result<bool, RemoveError> {
        let id = NodeId::new(node);
        if self.directory.members().iter().any(|m| m.id == id && (m.alive || m.reachable)) {
            return Err(RemoveError::Alive(node.to_owned()));
        }
        let listed = self.membership.remove(&id).await;
        Ok(self.directory.forget(&id) || listed)
    }

    fn health(&self) -> ClusterHealth {
        ClusterHealth { mode: self.mode, store_away: self.health.away_for() }
    }

    fn counters(&self) -> Vec<Counter> {
        let (fetched, served) = (self.relays.counts(), self.served.counts());
        let counter = |name, help, value| Counter { name, help, value };
        vec![
            counter(
                "relay_fetch_connections_total",
                "Connections opened to fetch streams.",
                fetched.connections,
            ),
            counter("relay_fetched_bytes_total", "Bytes of streams fetched from other nodes.", fetched.bytes),
            counter(
                "relay_serve_connections_total",
                "Connections of nodes that fetch streams.",
                served.accepted,
            ),
            counter("relay_served_bytes_total", "Bytes of streams handed to other nodes.", served.bytes),
        ]
    }
}

impl View {
    /// Nothing of a node whose counter alone was ever heard.
    fn node(seen: &MemberView) -> Option<NodeView> {
        let m = seen.member.as_ref()?;
        let load = &m.load;
        Some(NodeView {
            id: seen.id.to_string(),
            host: m.host.clone(),
            role: m.role.as_str().to_owned(),
            group: m.group.clone(),
            version: m.version.clone(),
            alive: seen.alive,
            reachable: seen.reachable,
            draining: m.draining,
            heard: seen.heard_ago.unwrap_or(NEVER),
            cpu_percent: load.cpu_percent,
            memory_percent: load.memory_percent,
            memory_total: load.memory_total,
            streams: load.streams,
            relayed: load.relayed,
            viewers: load.viewers,
            bytes_in: load.bytes_in,
            bytes_out: load.bytes_out,
            encoder_sessions: load.encoder_sessions,
            store_ms: load.store_ms,
            capacity_streams: m.capacity.streams,
            capacity_connections: m.capacity.connections,
            ports: NodePorts {
                cluster: m.ports.cluster,
                http: m.ports.http,
                https: m.ports.https,
                rtmp: m.ports.rtmp,
            },
        })
    }
}

fn place(view: StreamView) -> StreamPlace {
    let owned = view.owner.as_ref().map(|(_, owned)| owned);
    let carried = view.carriers.iter().map(|(_, c)| c.epoch).max();
    StreamPlace {
        app: view.key.app.to_string(),
        id: view.key.id.to_string(),
        epoch: owned.map(|o| o.epoch).or(carried).unwrap_or(0),
        owner: view.owner.as_ref().map(|(id, _)| id.to_string()),
        interrupted: owned.is_some_and(|o| o.interrupted),
        bitrate: owned.map_or(0, |o| o.bitrate),
        viewers: owned.map(|o| counts(o.viewers)).unwrap_or_default(),
        carriers: view
            .carriers
            .into_iter()
            .map(|(node, carried)| CarrierPlace {
                node: node.to_string(),
                path: carried.path.iter().map(ToString::to_string).collect(),
                viewers: counts(carried.viewers),
            })
            .collect(),
    }
}

fn counts(viewers: Viewers) -> ViewerCounts {
    ViewerCounts { hls: viewers.hls, rtmp: viewers.rtmp, webrtc: viewers.webrtc }
}
