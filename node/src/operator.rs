//! The operator's door into this node: how it is, drain and undrain, the cluster's apps, its live settings. Over the
//! cluster port, where only the operator's certificate leads here (`sluice_cluster::port`).
//!
//! - [`report`]: what is told, and what counts as a change of it.
//! - [`apps`]: the apps that were declared last, and whether they still are so.
//! - [`mod@routes`]: the paths and their bodies.
//! - [`trust`]: the operator's CA, followed while its file changes.

mod apps;
mod problems;
mod report;
mod routes;
mod trust;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use sluice_api::{ApiState, NodeStatus};
use sluice_cluster::directory::Directory;
use sluice_cluster::member::BootId;
use sluice_control::{Capacity, Load, Report, Role, StoreState};

use crate::apps::Apps;
use crate::cluster::Health;
use crate::config::{self, LiveConfig};
use crate::streams::Streams;

use self::apps::Declaring;
use self::problems::Problems;
use self::report::{Facts, Revisions};

pub(crate) use routes::router;
pub(crate) use trust::Trust;

/// What the operator's answers are made from.
pub(crate) struct Operated {
    /// This run of the process.
    pub(crate) boot: BootId,
    /// When it began.
    pub(crate) started: Instant,
    /// As it is configured now.
    pub(crate) config: Arc<LiveConfig>,
    /// What it owns, and who is there.
    pub(crate) streams: Arc<Streams>,
    /// The apps as it knows them.
    pub(crate) apps: Arc<Apps>,
    /// Whether it is ready.
    pub(crate) status: Arc<dyn NodeStatus>,
    /// Measures the machine, and changes apps.
    pub(crate) api: Weak<ApiState>,
    /// The other members.
    pub(crate) directory: Arc<Directory>,
    /// Whether the shared store answers.
    pub(crate) health: Health,
    /// Whether there is one.
    pub(crate) shares_store: bool,
}

/// The node as the operator sees it.
pub(crate) struct Door {
    node: Operated,
    revisions: Mutex<Revisions>,
    declaring: Declaring,
    settings: Mutex<Option<String>>,
}

fn small(n: impl TryInto<u32>) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}

impl Door {
    /// Nothing was declared yet.
    pub(crate) fn new(node: Operated) -> Arc<Self> {
        let revisions = Mutex::new(Revisions::new(node.boot));
        Arc::new(Door { node, revisions, declaring: Declaring::default(), settings: Mutex::default() })
    }

    /// How the node is now, all but its load.
    fn facts(&self) -> Facts {
        let node = &self.node;
        let config = node.config.get();
        let hub = node.streams.hub().streams();
        let (mut owned, mut publishers) = (0, 0);
        for live in node.streams.live().values().filter(|live| !live.stream.is_ended()) {
            owned += 1;
            publishers += u32::from(!live.stream.is_interrupted());
        }
        let drains = node.streams.drains().borrow().clone();
        let ready = node.status.ready().is_ok();
        let members = node.directory.members();
        let facts = Facts {
            ready,
            accepting: ready && !drains.is_on() && !node.streams.is_stopping(),
            publishers,
            streams: small(hub.iter().filter(|s| !s.is_ended()).count()),
            owned,
            viewers: small(node.streams.viewers()),
            capacity: Capacity {
                streams: (config.role != config::Role::Edge).then_some(config.max_streams),
                viewers: config.max_viewers,
            },
            store_away: node.health.away_for().is_some(),
            members: small(members.iter().filter(|m| m.alive).count()),
            apps_hash: self.declaring.holds(&node.apps),
            settings_hash: self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            problems: Vec::new(),
            drains,
        };
        let unreachable = members.iter().filter(|m| m.alive && !m.reachable).map(|m| m.id.to_string());
        let problems = Problems {
            store_away: facts.store_away,
            at_streams: facts.capacity.streams.filter(|most| owned >= *most),
            at_viewers: facts.capacity.viewers.filter(|most| facts.viewers >= *most),
            unreachable: unreachable.collect(),
            twin: node.directory.twin().is_some(),
        };
        Facts { problems: problems.sentences(), ..facts }
    }

    /// The report, and its revision.
    fn report(&self) -> Report {
        let node = &self.node;
        let (now, facts) = (Instant::now(), self.facts());
        let revision = self.revisions.lock().unwrap_or_else(PoisonError::into_inner).of(&facts);
        let config = node.config.get();
        let load = node.api.upgrade().map(|api| api.load()).unwrap_or_default();
        Report {
            node: config.id(),
            boot: node.boot.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: match config.role {
                config::Role::Both => Role::Both,
                config::Role::Origin => Role::Origin,
                config::Role::Edge => Role::Edge,
            },
            group: Some(config.node_group.clone()),
            uptime_s: now.saturating_duration_since(node.started).as_secs(),
            revision,
            ready: facts.ready,
            accepting: facts.accepting,
            draining: facts.drains.told(now, facts.owned, facts.viewers),
            publishers: facts.publishers,
            streams: facts.streams,
            owned: facts.owned,
            viewers: facts.viewers,
            capacity: facts.capacity,
            load: Load {
                cpu_percent: load.cpu_percent as f32,
                memory_bytes: load.resident,
                memory_limit_bytes: load.memory_limit,
                ingress_bits_s: load.bytes_in.saturating_mul(8),
                egress_bits_s: load.bytes_out.saturating_mul(8),
                // Nodes of this version do not transcode.
                encoder_percent: None,
            },
            store: match (node.shares_store, node.health.away_for()) {
                (false, _) => StoreState::None,
                (true, None) => StoreState::Reachable,
                (true, Some(away)) => StoreState::Away { since_s: away.as_secs() },
            },
            members: facts.members,
            apps_hash: facts.apps_hash,
            settings_hash: facts.settings_hash,
            problems: facts.problems,
        }
    }
}
