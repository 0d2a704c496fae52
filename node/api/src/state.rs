//! What the answers are made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ipnet::IpNet;
use sluice_media::Hub;
use sluice_store::{App, AppSettings, Store};

use crate::auth::AdminToken;
use crate::calls::Calls;
use crate::cluster::{ClusterView, Counter};
use crate::drain::{DrainState, DrainWish};
use crate::sampler::Sampler;

/// What the configuration says that matters here.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// The name of this node.
    pub node_id: String,
    /// The host under which clients reach this node; else the one that they used.
    pub advertise_host: Option<String>,
    /// The port of RTMP, for the publish URLs.
    pub rtmp_port: u16,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the node keeps its data, to tell how full that disk is.
    pub data_dir: PathBuf,
    /// The settings of an app that is made over REST.
    pub app_defaults: AppSettings,
    /// Tells this build from others of the same version.
    pub build: String,
}

/// Bytes on the wire of all ports since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Received.
    pub bytes_in: u64,
    /// Sent.
    pub bytes_out: u64,
}

/// What only the composition of the node knows.
#[async_trait]
pub trait NodeStatus: Send + Sync + 'static {
    /// Whether the node serves what it has.
    ///
    /// # Errors
    /// What it waits for: a listener that is not up, or that it is stopping.
    fn ready(&self) -> Result<(), String>;

    /// Whether the node, which is ready, lets new sessions in.
    ///
    /// # Errors
    /// Why not, such as that it is draining.
    fn accepts(&self) -> Result<(), String>;

    /// How far it is with letting no new sessions in, if it was asked to.
    fn drains(&self) -> Option<DrainState>;

    /// Lets no new sessions in. Asking again shortens what was asked before; the other nodes of a cluster learn it.
    fn drain(&self, wish: DrainWish);

    /// Lets them in again. Asking twice is fine.
    ///
    /// # Errors
    /// The node is stopping: that cannot be taken back.
    fn undrain(&self) -> Result<(), String>;

    /// Bytes on the wire since the start.
    fn traffic(&self) -> Traffic;

    /// Open connections by port, such as `("rtmp", 3)`. The names are few and fixed.
    fn connections(&self) -> Vec<(&'static str, u64)>;

    /// What else the node counts, in a fixed order.
    fn counters(&self) -> Vec<Counter>;

    /// Publishers refused since the start, by reason. The names are few and fixed.
    fn refusals(&self) -> Vec<(&'static str, u64)>;

    /// An app as the node remembers it, for when the store cannot be asked.
    fn app(&self, name: &str) -> Option<App>;

    /// Those who pull sources and push to endpoints.
    fn calls(&self) -> &dyn Calls;

    /// An app was made, or its settings changed: what the node remembers of it has to be read again.
    async fn apps_changed(&self);
}

/// Everything that answers are made from. Make it with [`ApiState::new`].
pub struct ApiState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) node: Arc<dyn NodeStatus>,
    /// None when the node stands alone.
    pub(crate) cluster: Option<Arc<dyn ClusterView>>,
    pub(crate) settings: ApiSettings,
    pub(crate) admin_token: AdminToken,
    pub(crate) sampler: Sampler,
    /// Names under which a request may call this machine, in lower case.
    pub(crate) own_names: Vec<String>,
    pub(crate) host: String,
    pub(crate) started: (Instant, SystemTime),
    /// Held while the endpoints of a broadcast are read and written back.
    pub(crate) endpoints: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ApiState {
    /// Puts it together, and starts to measure rates once a second for as long as it lives. Must be called
    /// inside a tokio runtime. `cluster` is `None` for a node that stands alone.
    pub fn new(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        node: Arc<dyn NodeStatus>,
        cluster: Option<Arc<dyn ClusterView>>,
        settings: ApiSettings,
        admin_token: AdminToken,
    ) -> Arc<Self> {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let machine = machine.trim().to_owned();
        let own_names = [settings.advertise_host.clone(), Some(machine.clone())]
            .into_iter()
            .flatten()
            .filter(|name| !name.is_empty())
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let host = settings.advertise_host.clone().unwrap_or(machine);
        let state = Arc::new(ApiState {
            store,
            hub,
            node,
            cluster,
            settings,
            admin_token,
            sampler: Sampler::default(),
            own_names,
            host,
            started: (Instant::now(), SystemTime::now()),
            endpoints: tokio::sync::Mutex::default(),
        });
        let weak = Arc::downgrade(&state);
        tokio::spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                second.tick().await;
                let Some(state) = weak.upgrade() else { return };
                state.sampler.sample(Instant::now(), state.node.traffic(), &state.hub.streams());
            }
        });
        state
    }

    /// Whether it is known that the store does not answer, so that asking it would only take time.
    pub(crate) fn store_is_away(&self) -> bool {
        self.cluster.as_ref().is_some_and(|c| c.health().store_away.is_some())
    }

    pub(crate) fn now(&self) -> i64 {
        millis(SystemTime::now())
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn millis(t: SystemTime) -> i64 {
    t.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
