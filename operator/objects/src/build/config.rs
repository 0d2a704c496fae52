//! What a node is configured with: the file that it starts with, and what is pushed while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use sluice_control::{LIVE_SETTINGS, LiveSettings};
use sluice_crds::generate::short_hash;
use sluice_crds::names::port;
use sluice_crds::pool::{DrainPolicy, Gpu};

use super::volumes;
use crate::Pool;

/// The key of the ConfigMap, and the name of the file.
pub(crate) const FILE: &str = "node.toml";

/// The termination grace of a pod is its drain deadline and this.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// A stop may be put off at most this long, so that it and the end of the node fit into [`GRACE`].
pub(crate) const STOP_DELAY: Duration = Duration::from_secs(15);

/// How long the end of a node itself may take.
const SHUTDOWN: &str = "10s";

/// What live settings are pushed with when the spec says nothing: the node's own defaults. They are pushed so that taking a setting
/// out of the spec takes it back on nodes that were started with it.
const LIVE_DEFAULTS: [(&str, &str); 4] =
    [("log", "info"), ("max_streams", "2000"), ("max_viewers", ""), ("stop_delay", "")];

/// Settings that specs may not set, because the operator does or because they make no sense in a pod.
const OURS: [&str; 40] = [
    "admin_token",
    "admin_token_file",
    "advertise_host",
    "advertise_interface",
    "cluster_addr",
    "cluster_ca",
    "cluster_cert",
    "cluster_cert_key",
    "cluster_key",
    "cluster_key_file",
    "cluster_mode",
    "data_dir",
    "drain_deadline",
    "drain_waits_for",
    "http_addr",
    "https_addr",
    "max_streams",
    "max_viewers",
    "multicast_group",
    "multicast_interface",
    "node_group",
    "node_id",
    "operator_ca",
    "pod_ip",
    "role",
    "rtc_addr",
    "rtmp_addr",
    "rtmps_addr",
    "shutdown_timeout",
    "srt_addr",
    "static_members",
    "store",
    "store_file",
    "store_password",
    "store_password_file",
    "store_prefix",
    "store_user",
    "tls_cert",
    "tls_key",
    "config",
];

pub(crate) fn is_ours(key: &str) -> bool {
    OURS.contains(&key)
}

/// The extended resource that a pool's GPU is.
pub(crate) fn gpu_resource(gpu: &Gpu) -> &str {
    gpu.resource_name.as_deref().unwrap_or("nvidia.com/gpu")
}

fn settings(pool: &Pool) -> BTreeMap<String, String> {
    let cluster = pool.cluster();
    let mut all: BTreeMap<String, String> = BTreeMap::from([("log_format".into(), "json".into())]);
    all.extend(pool.spec().config.clone());
    let mut set = |key: &str, value: String| {
        all.insert(key.to_owned(), value);
    };
    set("role", pool.role().as_str().into());
    set("data_dir", volumes::DATA_PATH.into());
    set("node_group", pool.group().into());
    set("cluster_mode", "mongodb".into());
    set("store_file", volumes::path(volumes::DATABASE_URI));
    set("store_prefix", cluster.name_prefix().into());
    set("cluster_key_file", volumes::path(volumes::CLUSTER_KEY));
    set("admin_token_file", volumes::path(volumes::ADMIN_TOKEN));
    set("operator_ca", volumes::path(&format!("{}/{}", volumes::TRUST, volumes::OPERATOR_CA)));
    let wait = match pool.drain_policy() {
        DrainPolicy::Wait | DrainPolicy::WaitForPublishers => pool.drain_deadline().as_secs(),
        DrainPolicy::Immediate => 0,
    };
    set("drain_deadline", format!("{wait}s"));
    let for_whom = match pool.drain_policy() {
        DrainPolicy::Wait => "all",
        DrainPolicy::WaitForPublishers | DrainPolicy::Immediate => "publishers",
    };
    set("drain_waits_for", for_whom.into());
    set("shutdown_timeout", SHUTDOWN.into());
    if let Some(streams) = pool.spec().capacity.streams {
        set("max_streams", streams.to_string());
    }
    if let Some(viewers) = pool.spec().capacity.viewers {
        set("max_viewers", viewers.to_string());
    }
    if cluster.certificate().is_some() {
        set("tls_cert", volumes::path(&format!("{}/tls.crt", volumes::TLS)));
        set("tls_key", volumes::path(&format!("{}/tls.key", volumes::TLS)));
        set("rtmps_addr", format!("0.0.0.0:{}", port::RTMPS));
    }
    all
}

/// The configuration file of a pool's nodes. Every value is written as text, which nodes take for settings of any type.
pub fn config_toml(pool: &Pool) -> String {
    let table: toml::Table =
        settings(pool).into_iter().map(|(key, value)| (key, toml::Value::String(value))).collect();
    format!("# Kept by sluice-operator from the pool {}/{}.\n{table}", pool.namespace(), pool.name())
}

/// The settings that nodes take only at their start; they are part of the revision.
pub(crate) fn at_start(pool: &Pool) -> BTreeMap<String, String> {
    let mut config = pool.spec().config.clone();
    config.retain(|key, _| !LIVE_SETTINGS.contains(&key.as_str()));
    config
}

/// The settings that nodes take while they run; all of them, so that what leaves the spec is taken back.
pub fn live_settings(pool: &Pool) -> LiveSettings {
    let configured = settings(pool);
    let settings: Map<String, Value> = LIVE_SETTINGS
        .iter()
        .filter_map(|key| {
            let default =
                || LIVE_DEFAULTS.iter().find(|(name, _)| name == key).map(|(_, value)| (*value).to_owned());
            let value = configured.get(*key).cloned().or_else(default)?;
            Some(((*key).to_owned(), Value::String(value)))
        })
        .collect();
    let hash = short_hash(Value::Object(settings.clone()).to_string().as_bytes());
    LiveSettings { hash, settings }
}
