//! Every label, annotation, Secret key, port and object name that more than one part relies on, in one place.

/// Label: the `MediaCluster` that an object belongs to.
pub const CLUSTER: &str = "sluice.dev/cluster";
/// Label: the pool that an object belongs to.
pub const POOL: &str = "sluice.dev/pool";
/// Label of pods: `origin` or `edge`.
pub const ROLE: &str = "sluice.dev/role";
/// Label of pods: the hash of what they were made from.
pub const REVISION: &str = "sluice.dev/revision";
/// Label of pods: `true` while they take new sessions. The Service for new sessions selects it.
pub const ACCEPTING: &str = "sluice.dev/accepting";
/// Label of pods: `true` while they accept or hold sessions. The disruption budget selects it.
pub const BUSY: &str = "sluice.dev/busy";
/// Label of pods: `active` or `draining`. The pool's `status.selector` selects `active`.
pub const STATE: &str = "sluice.dev/state";
/// Label of pods and of per-pod Services: the pod's own name.
pub const POD: &str = "sluice.dev/pod";

/// Label of Services: `true` on the one of a pool through which Prometheus finds its pods.
pub const METRICS: &str = "sluice.dev/metrics";

/// Annotation of pods, by a person: drain this pod. The value is the deadline (`30m`), or empty for the pool's.
pub const DRAIN: &str = "sluice.dev/drain";
/// Annotation of pods, by the operator: since when it drains (RFC 3339).
pub const DRAINING_SINCE: &str = "sluice.dev/draining-since";
/// Annotation of pods, by the operator: when a drain ends whatever is left (RFC 3339).
pub const DRAIN_DEADLINE: &str = "sluice.dev/drain-deadline";
/// Annotation of pods, by the operator: why it drains (`ScaleIn`, `Rollout`, `Machine`, `Stopped`, `Requested`).
pub const DRAIN_REASON: &str = "sluice.dev/drain-reason";
/// Annotation of pools: a new value replaces every pod, one after the other.
pub const RESTARTED_AT: &str = "sluice.dev/restarted-at";
/// Annotation of pods: the generation of the template that the pod was made by.
pub const TEMPLATE: &str = "sluice.dev/template";
/// Annotation of pods, while they are busy: cluster-autoscaler leaves their machines alone when it is `false`.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Annotation of pods, while they are busy: Karpenter leaves their machines alone when it is `true`.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Annotation of owned objects: hash of what was applied.
pub const HASH: &str = "sluice.dev/hash";

/// The standard labels (`app.kubernetes.io`).
pub mod standard {
    /// What software an object is for.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// Which cluster of it.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// Which part of it.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// Which version of it.
    pub const VERSION: &str = "app.kubernetes.io/version";
    /// Who keeps it.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The value of [`NAME`] on pods.
    pub const NODE: &str = "sluice-node";
    /// The value of [`MANAGED_BY`].
    pub const OPERATOR: &str = "sluice-operator";
}

/// Field manager of what the MediaCluster controller applies.
pub const MANAGER_CLUSTER: &str = "sluice-mediacluster";
/// Field manager of what the pool controllers apply.
pub const MANAGER_POOL: &str = "sluice-pool";
/// Field manager of status.
pub const MANAGER_STATUS: &str = "sluice-status";

/// Settings that `spec.config` of a pool may not have: the operator sets them from other fields, or they make no sense in a pod. In the
/// order of the alphabet.
pub const OPERATOR_SETTINGS: [&str; 41] = [
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
    "config",
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
    "rtc_candidates",
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
];

/// The container of a pod that runs `sluice-node`.
pub const CONTAINER: &str = "node";

/// Metrics of pools and pods that the operator serves (`custom.metrics.k8s.io`).
pub mod metric {
    /// Live streams: on origins those published there or waiting for their publisher, on edges those carried.
    pub const STREAMS: &str = "streams";
    /// Viewers, by any protocol.
    pub const VIEWERS: &str = "viewers";
    /// Bits sent each second, by all ports.
    pub const EGRESS: &str = "egress_bits_per_second";
    /// Encoders in use: 1 is all that one pod has. Only of nodes that transcode.
    pub const ENCODER_LOAD: &str = "encoder_load";
    /// How much of `spec.capacity` is in use: 1 is all that one pod takes.
    pub const CAPACITY_USED: &str = "capacity_used";
}

/// Ports of a node.
pub mod port {
    /// HTTP: playback, REST, dashboard, metrics, WebSocket.
    pub const HTTP: u16 = 5080;
    /// HTTPS, when there is a certificate.
    pub const HTTPS: u16 = 5443;
    /// RTMP.
    pub const RTMP: u16 = 1935;
    /// RTMP over TLS, when there is a certificate.
    pub const RTMPS: u16 = 1936;
    /// Node to node and operator to node; mutual TLS.
    pub const CLUSTER: u16 = 5000;
    /// SRT (UDP).
    pub const SRT: u16 = 4200;
    /// WebRTC media (UDP and TCP).
    pub const RTC: u16 = 5004;
}

/// The Secret with the generated cluster key, key `key`.
pub fn cluster_key_secret(cluster: &str) -> String {
    format!("{cluster}-cluster-key")
}

/// The Secret with the generated admin token, key `token`.
pub fn admin_token_secret(cluster: &str) -> String {
    format!("{cluster}-admin-token")
}

/// The ServiceAccount that pods of a cluster run as; it has no rights.
pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-node")
}

/// The ConfigMap of a cluster: `operator-ca.crt`, what its nodes accept the operator by.
pub fn trust_config_map(cluster: &str) -> String {
    format!("{cluster}-trust")
}

/// The Service of a cluster where viewers go: all edges (all origins where there are no edges).
pub fn watch_service(cluster: &str) -> String {
    format!("{cluster}-watch")
}

/// The Service of a cluster where publishers go: all origins.
pub fn publish_service(cluster: &str) -> String {
    format!("{cluster}-publish")
}

/// The headless Service of a pool: every pod of it, ready or not.
pub fn headless_service(pool: &str) -> String {
    format!("{pool}-headless")
}

/// The media Service of a pool: UDP, all of its pods, draining ones too.
pub fn media_service(pool: &str) -> String {
    format!("{pool}-media")
}

/// The ConfigMap of a pool, key `node.toml`.
pub fn config_map(pool: &str) -> String {
    format!("{pool}-config")
}

/// The pod in a slot of a pool.
pub fn pod(pool: &str, slot: u32) -> String {
    format!("{pool}-{slot}")
}

/// The volume claim of a pod, where its pool has storage.
pub fn claim(pod: &str) -> String {
    format!("{pod}-data")
}

/// The slot of a pod, when it is one of that pool.
pub fn slot(pool: &str, pod: &str) -> Option<u32> {
    let digits = pod.strip_prefix(pool)?.strip_prefix('-')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    if canonical && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// MongoDB database names have 63 bytes; apps need the rest.
pub const NAME_PREFIX_BYTES: usize = 24;

/// What stands before the names of a cluster's databases when its spec says nothing: `<namespace>-<name>-`.
///
/// Where that could be the prefix of another cluster too (a name with a dash: `a-b` and `c`, `a` and `b-c`), or is too long, a
/// hash of both names makes it its own.
pub fn name_prefix(namespace: &str, name: &str) -> String {
    let plain = format!("{namespace}-{name}-");
    if plain.len() <= NAME_PREFIX_BYTES && !namespace.contains('-') && !name.contains('-') {
        return plain;
    }
    let hash = crate::generate::short_hash(format!("{namespace}/{name}").as_bytes());
    let keep = NAME_PREFIX_BYTES - hash.len() - 2;
    let head: String = format!("{namespace}-{name}").chars().take(keep).collect();
    format!("{}-{hash}-", head.trim_end_matches('-'))
}
