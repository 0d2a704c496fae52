//! What a node is configured with: the file that it starts with, and what is pushed while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use sluice_control::LiveSettings;
use sluice_crds::generate::short_hash;
use sluice_crds::names::{self, port};
use sluice_crds::pool::{DrainPolicy, Gpu};

use super::generation;
use crate::{Pool, paths};

/// The termination grace of a pod is its drain deadline and this.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// A stop may be put off at most this long, so that it and the end of the node fit into [`GRACE`].
pub(crate) const STOP_DELAY: Duration = Duration::from_secs(15);

/// The one setting of the operator's that a spec may set as well.
const LOG_FORMAT: &str = "log_format";

pub(crate) fn is_ours(key: &str) -> bool {
    names::OPERATOR_SETTINGS.contains(&key)
}

/// The extended resource that a pool's GPU is.
pub(crate) fn gpu_resource(gpu: &Gpu) -> &str {
    gpu.resource_name.as_deref().unwrap_or("nvidia.com/gpu")
}

/// After how long a drain of a pod ends whatever is left: what the pool says, as far as the pod's termination grace (`grace`, that of
/// the pod as it was made) allows. The grace of a pod cannot be changed, and the kubelet kills what is left when it is over; a node
/// must not count on time that it does not have.
pub fn drain_deadline_of(pool: &Pool, grace: Option<Duration>) -> Duration {
    let most = grace.map_or(Duration::MAX, |grace| grace.saturating_sub(GRACE));
    pool.drain_deadline().min(most)
}

/// Every setting that the nodes of a generation get.
fn settings(pool: &Pool, generation: i64, grace: Option<Duration>) -> BTreeMap<String, String> {
    let written = generation::of(generation).written;
    let mut all = pool.spec().config.clone();
    for (key, value) in ours(pool, generation, grace) {
        // What the operator says stands above the spec but for the format of the log, which is a matter of taste.
        if written.contains(&key) && (key != LOG_FORMAT || !all.contains_key(key)) {
            all.insert(key.to_owned(), value);
        }
    }
    all
}

/// What the operator itself says: every setting of the newest generation, each with the value that it has in the `generation`.
pub(crate) fn ours(pool: &Pool, generation: i64, grace: Option<Duration>) -> BTreeMap<&'static str, String> {
    let cluster = pool.cluster();
    let (wait, for_whom) = match pool.drain_policy() {
        DrainPolicy::Wait => (drain_deadline_of(pool, grace), "all"),
        DrainPolicy::WaitForPublishers => (drain_deadline_of(pool, grace), "publishers"),
        DrainPolicy::Immediate => (Duration::ZERO, "publishers"),
    };
    let mut all: BTreeMap<&'static str, String> = BTreeMap::from([
        (LOG_FORMAT, "json".into()),
        ("role", pool.role().as_str().into()),
        ("data_dir", paths::DATA.into()),
        ("node_group", pool.group().into()),
        ("cluster_mode", "mongodb".into()),
        ("store_file", paths::DATABASE_URI.into()),
        ("store_prefix", cluster.name_prefix().into()),
        ("cluster_key_file", paths::CLUSTER_KEY.into()),
        ("admin_token_file", paths::ADMIN_TOKEN.into()),
        ("operator_ca", paths::OPERATOR_CA.into()),
        ("drain_deadline", format!("{}s", wait.as_secs())),
        ("drain_waits_for", for_whom.into()),
        ("shutdown_timeout", generation::of(generation).shutdown.into()),
    ]);
    if let Some(streams) = pool.spec().capacity.streams {
        all.insert("max_streams", streams.to_string());
    }
    if let Some(viewers) = pool.spec().capacity.viewers {
        all.insert("max_viewers", viewers.to_string());
    }
    if cluster.certificate().is_some() {
        all.insert("tls_cert", paths::TLS_CERTIFICATE.into());
        all.insert("tls_key", paths::TLS_KEY.into());
        all.insert("rtmps_addr", format!("0.0.0.0:{}", port::RTMPS));
    }
    all
}

/// The configuration file of a pool's nodes, as the `generation` of the template writes it. Every value is written as text, which
/// nodes take for settings of any type.
pub fn config_toml(pool: &Pool, generation: i64) -> String {
    let table: toml::Table = settings(pool, generation, None)
        .into_iter()
        .map(|(key, value)| (key, toml::Value::String(value)))
        .collect();
    format!("# Kept by sluice-operator from the pool {}/{}.\n{table}", pool.namespace(), pool.name())
}

/// The files of all generations, by their keys in the ConfigMap.
pub(crate) fn files(pool: &Pool) -> BTreeMap<String, String> {
    let files = generation::all().iter().zip(1..);
    files.map(|(generation, number)| (generation.file.to_owned(), config_toml(pool, number))).collect()
}

/// The settings that nodes of a generation take only at their start; they are part of the revision.
pub(crate) fn at_start(pool: &Pool, generation: i64) -> BTreeMap<String, String> {
    let generation = generation::of(generation);
    let mut config = pool.spec().config.clone();
    config.retain(|key, _| !generation.is_live(key));
    config
}

/// The settings that the nodes of a `generation` take while they run; all of them, so that what leaves the spec is taken back.
/// `grace` is the termination grace of the pod that they are for ([`drain_deadline_of`]), `candidates` where WebRTC clients reach it
/// ([`candidates`](super::candidates::candidates)).
pub fn live_settings(
    pool: &Pool,
    generation: i64,
    grace: Option<Duration>,
    candidates: &str,
) -> LiveSettings {
    let mut configured = settings(pool, generation, grace);
    configured.insert("rtc_candidates".into(), candidates.to_owned());
    let settings: Map<String, Value> = generation::of(generation)
        .live
        .iter()
        .filter_map(|(key, default)| {
            let value = configured.get(*key).cloned().or_else(|| default.map(str::to_owned))?;
            Some(((*key).to_owned(), Value::String(value)))
        })
        .collect();
    let hash = short_hash(Value::Object(settings.clone()).to_string().as_bytes());
    LiveSettings { hash, settings }
}
