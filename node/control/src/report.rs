//! How a node is.

use serde::{Deserialize, Serialize};

use crate::drain::Draining;

/// A report names at most as many problems.
pub const MAX_PROBLEMS: usize = 8;

/// A problem has at most as many characters.
pub const PROBLEM_CHARS: usize = 300;

/// A node, as it tells the operator of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Its id: the pod's name.
    pub node: String,
    /// This run of its process: random, never zero. Another one means that the process was restarted.
    pub boot: u32,
    /// The release that it runs.
    pub version: String,
    /// What it does.
    pub role: Role,
    /// The group of nodes that it belongs to; none when it is alone in that respect.
    pub group: Option<String>,
    /// Seconds since its process started.
    pub uptime_s: u64,
    /// Changes when counts, `ready`, `accepting`, `draining` (but for time passing), hashes or problems change; not for
    /// load. Never the same in two runs of the process.
    pub revision: u64,
    /// It serves what it has.
    pub ready: bool,
    /// It wants new sessions: not draining, not stopping. A node at its limits still says so, and names that in
    /// `problems`.
    pub accepting: bool,
    /// It is being taken out of service.
    pub draining: Option<Draining>,
    /// Publishers that are connected to it.
    pub publishers: u32,
    /// Live streams that it has: its own and those that it fetches from other nodes.
    pub streams: u32,
    /// Those of them that it owns: published to it, or waiting for their publisher to return.
    pub owned: u32,
    /// Viewers by any protocol.
    pub viewers: u32,
    /// How much it takes.
    pub capacity: Capacity,
    /// What it is busy with.
    pub load: Load,
    /// Whether the store that the cluster shares answers it.
    pub store: StoreState,
    /// Members of its cluster that it knows to be alive, itself included.
    pub members: u32,
    /// The [`Apps`](crate::Apps) that were applied through this run of the node and have not been changed by others
    /// since.
    pub apps_hash: Option<String>,
    /// The [`LiveSettings`](crate::LiveSettings) that this run of the node took, all of them.
    pub settings_hash: Option<String>,
    /// What is wrong, in sentences for people: at most [`MAX_PROBLEMS`], each at most [`PROBLEM_CHARS`] long.
    pub problems: Vec<String>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes publishers and serves viewers.
    #[default]
    Both,
    /// Takes publishers.
    Origin,
    /// Serves viewers, refuses publishers.
    Edge,
}

/// How much a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capacity {
    /// Streams that may be published to it at once (`max_streams`); none on an edge.
    pub streams: Option<u32>,
    /// Viewers that it lets in (`max_viewers`); none when it does not count them.
    pub viewers: Option<u32>,
}

/// What a node is busy with, averaged over some seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// CPU of the machine in use, percent of all its cores, whoever uses them. What the pod itself uses is in
    /// `metrics.k8s.io`.
    pub cpu_percent: f32,
    /// Memory of the process, bytes.
    pub memory_bytes: u64,
    /// What the process may use at most, bytes: the limit of its control group, else the memory of the machine; 0 when
    /// that cannot be told.
    pub memory_limit_bytes: u64,
    /// Bits per second received by all ports.
    pub ingress_bits_s: u64,
    /// Bits per second sent by all ports.
    pub egress_bits_s: u64,
}

/// Whether the store that the cluster shares answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum StoreState {
    /// No store is shared: members keep what is stored among themselves.
    #[default]
    None,
    /// It answers.
    Reachable,
    /// It does not; what is live goes on.
    Away {
        /// For how long, seconds.
        since_s: u64,
    },
}
