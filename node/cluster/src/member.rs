//! What a node says about itself and about its streams. These records travel between nodes as JSON.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
pub use sluice_identity::NodeId;
use sluice_media::StreamKey;
use sluice_store::Numbers;

/// Tells one run of a node's process from the next: random, never zero, 24 bits (see
/// [`ownership`](crate::ownership), where it makes epochs unique).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u32);

impl BootId {
    /// A new one.
    pub fn random() -> Self {
        BootId(rand::random_range(1..1 << 24))
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes publishers and serves viewers.
    #[default]
    Both,
    /// Takes publishers; may serve viewers.
    Origin,
    /// Serves viewers, refuses publishers.
    Edge,
}

impl Role {
    /// Whether publishers are let in.
    pub fn takes_publishers(self) -> bool {
        self != Role::Edge
    }

    /// The word in JSON and in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Both => "both",
            Role::Origin => "origin",
            Role::Edge => "edge",
        }
    }
}

/// The TCP ports of a node; 0 where it does not listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// Node to node.
    pub cluster: u16,
    /// HTTP.
    pub http: u16,
    /// HTTPS.
    pub https: u16,
    /// RTMP.
    pub rtmp: u16,
}

/// How much a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capacity {
    /// Streams that may be published to it at once.
    pub streams: u64,
    /// Connections of viewers that it takes at once.
    pub connections: u64,
}

/// What a node is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// CPU time of all cores in use, in percent of all.
    pub cpu_percent: f64,
    /// Memory of the machine (or of its cgroup) in use, in percent.
    pub memory_percent: f64,
    /// Memory of the machine (or what its cgroup may use), bytes; 0 when it is not known.
    pub memory_total: u64,
    /// Resident memory of the process, bytes.
    pub memory_bytes: u64,
    /// Streams published to it.
    pub streams: u64,
    /// Streams that it fetches from other nodes.
    pub relayed: u64,
    /// Viewers by any protocol.
    pub viewers: u64,
    /// Bytes per second received, all ports.
    pub bytes_in: u64,
    /// Bytes per second sent, all ports.
    pub bytes_out: u64,
    /// Encoder sessions in use.
    pub encoder_sessions: u64,
    /// The mean time of the store's calls, milliseconds; negative when it does not answer.
    pub store_ms: f64,
}

/// A node, as it describes itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// This run of it.
    pub boot: BootId,
    /// What it does.
    #[serde(default)]
    pub role: Role,
    /// The group that it belongs to: nodes of one group fetch from each other before they go further.
    #[serde(default)]
    pub group: String,
    /// The release that it runs.
    #[serde(default)]
    pub version: String,
    /// The host name or address under which other nodes and clients reach it.
    pub host: String,
    /// Its ports there.
    pub ports: Ports,
    /// How much it takes.
    #[serde(default)]
    pub capacity: Capacity,
    /// What it is busy with.
    #[serde(default)]
    pub load: Load,
    /// It takes no new sessions.
    #[serde(default)]
    pub draining: bool,
}

impl Member {
    /// `host:port` of the cluster port, an IPv6 host in brackets.
    pub fn cluster_addr(&self) -> String {
        host_port(&self.host, self.ports.cluster)
    }
}

/// `host:port`, an IPv6 host in brackets.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A stream that a node owns: its publisher is connected there, or was a moment ago.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owned {
    /// The app.
    pub app: Arc<str>,
    /// The stream id.
    pub id: Arc<str>,
    /// The epoch in which it owns it.
    pub epoch: u64,
    /// Its publisher's connection is broken; it may come back.
    #[serde(default)]
    pub interrupted: bool,
    /// Bits per second from the publisher.
    #[serde(default)]
    pub bitrate: u64,
    /// Viewers on this node, by protocol.
    #[serde(default)]
    pub viewers: Viewers,
    /// The numbers in use, a second old at most: whoever takes the stream over while nobody can be asked goes on
    /// some way behind them.
    #[serde(default)]
    pub numbers: Numbers,
    /// The main track that it belongs to, if it does: a participant of a room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Arc<Part>>,
}

/// What a publisher says of a stream that is part of a main track (AMS's multitrack). Texts are cut at [`Part::LONGEST`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// The main track.
    pub of: String,
    /// Its name, for people.
    pub name: String,
    /// What the publisher says of it.
    pub meta_data: String,
    /// The publisher's role.
    pub role: String,
}

impl Part {
    /// The most bytes of each text: each node holds all of them.
    pub const LONGEST: usize = 4096;
}

/// A stream that a node fetches from another and can hand on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// The app.
    pub app: Arc<str>,
    /// The stream id.
    pub id: Arc<str>,
    /// The epoch of what it has.
    pub epoch: u64,
    /// The nodes that the frames come through: the owner first, the node that it fetches from last.
    pub path: Vec<NodeId>,
    /// Viewers on this node, by protocol.
    #[serde(default)]
    pub viewers: Viewers,
}

/// Viewers by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Viewers {
    /// HLS sessions.
    pub hls: u64,
    /// RTMP players.
    pub rtmp: u64,
    /// WebRTC players.
    pub webrtc: u64,
}

impl Viewers {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Viewers) -> Viewers {
        Viewers {
            hls: self.hls.saturating_add(other.hls),
            rtmp: self.rtmp.saturating_add(other.rtmp),
            webrtc: self.webrtc.saturating_add(other.webrtc),
        }
    }
}

impl Owned {
    /// The stream's name.
    pub fn key(&self) -> StreamKey {
        StreamKey::new(self.app.clone(), self.id.clone())
    }
}

impl Carried {
    /// The stream's name.
    pub fn key(&self) -> StreamKey {
        StreamKey::new(self.app.clone(), self.id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(host_port("n1.example", 5000), "n1.example:5000");
        assert_eq!(host_port("::1", 5000), "[::1]:5000");
        assert_eq!(host_port("[::1]", 5000), "[::1]:5000");
    }

    #[test]
    fn a_boot_id_is_24_bits_and_not_zero() {
        assert!((0..1000).all(|_| (1..1 << 24).contains(&BootId::random().0)));
    }
}
