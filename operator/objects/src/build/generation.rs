//! What each generation of the template tells nodes. A generation that was released is never changed: nodes of the version that it was
//! made for refuse keys that they do not know, and pods whose revision came out otherwise would be replaced.

use k8s_openapi::api::core::v1::Pod;
use sluice_crds::names;

use crate::TEMPLATE;

/// What the nodes of a generation are told.
pub(crate) struct Generation {
    /// The key of the configuration file in the pool's ConfigMap. Each generation has its own, so that pods of an older one go on to
    /// start with what they know while newer ones are made.
    pub(crate) file: &'static str,
    /// The settings that the operator writes into that file, in the order of the alphabet. A setting that a later version of nodes
    /// brings is written from a later generation on.
    pub(crate) written: &'static [&'static str],
    /// The settings that its nodes take while they run, in the order of the alphabet, each with what is pushed when the spec says
    /// nothing: the node's own default, so that taking a setting out of the spec takes it back on nodes that were started with it.
    /// `None` where the operator always has a value.
    pub(crate) live: &'static [(&'static str, Option<&'static str>)],
    /// How long the end of a node itself may take. With the longest stop delay it fits into the half-minute of a pod's grace.
    pub(crate) shutdown: &'static str,
    /// Whether its pods stay where they are when their machine does not answer. Without, Kubernetes deletes them after five minutes,
    /// though they may run and have sessions.
    pub(crate) outlasts_silence: bool,
}

/// What the first generation writes, and every later one so far.
const WRITTEN: &[&str] = &[
    "admin_token_file",
    "cluster_key_file",
    "cluster_mode",
    "data_dir",
    "drain_deadline",
    "drain_waits_for",
    "log_format",
    "max_streams",
    "max_viewers",
    "node_group",
    "operator_ca",
    "role",
    "rtmps_addr",
    "shutdown_timeout",
    "store_file",
    "store_prefix",
    "tls_cert",
    "tls_key",
];

/// What the nodes of the first generations take while they run.
const LIVE: &[(&str, Option<&str>)] = &[
    ("drain_deadline", None),
    ("drain_waits_for", None),
    ("log", Some("info")),
    ("max_streams", Some("2000")),
    ("max_viewers", Some("")),
    ("shutdown_timeout", None),
    ("stop_delay", Some("")),
];

/// From the third on nodes serve WebRTC, and tell clients where their pod is reached.
const LIVE_3: &[(&str, Option<&str>)] = &[
    ("drain_deadline", None),
    ("drain_waits_for", None),
    ("log", Some("info")),
    ("max_streams", Some("2000")),
    ("max_viewers", Some("")),
    ("rtc_candidates", Some("")),
    ("shutdown_timeout", None),
    ("stop_delay", Some("")),
];

/// All of them, the first one first. Raising [`TEMPLATE`] needs another entry.
const ALL: [Generation; TEMPLATE as usize] = [
    Generation { file: "node.toml", written: WRITTEN, live: LIVE, shutdown: "10s", outlasts_silence: false },
    // A publisher that is asked to come back gets four fifths of the end: the 10 s that it is given at most.
    Generation { file: "node-2.toml", written: WRITTEN, live: LIVE, shutdown: "15s", outlasts_silence: true },
    Generation {
        file: "node-3.toml",
        written: WRITTEN,
        live: LIVE_3,
        shutdown: "15s",
        outlasts_silence: true,
    },
];

impl Generation {
    /// Whether its nodes take a setting while they run.
    pub(crate) fn is_live(&self, key: &str) -> bool {
        self.live.iter().any(|(live, _)| *live == key)
    }
}

/// A generation by its number; the nearest one for numbers that this operator does not know.
///
/// 0, which stands for the spec alone, is the first for ever: what a spec is compared by must not change with the operator.
pub(crate) fn of(number: i64) -> &'static Generation {
    &ALL[number.clamp(1, TEMPLATE) as usize - 1]
}

/// All of them.
pub(crate) fn all() -> &'static [Generation] {
    &ALL
}

/// The generation of the template that a pod was made by; the first where the pod does not say.
pub fn generation(pod: &Pod) -> i64 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(names::TEMPLATE)?.parse().ok()).unwrap_or(1)
}
