//! How a pool follows its load: the targets of its HorizontalPodAutoscaler, and the floors under it.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Has a HorizontalPodAutoscaler write the pool's `replicas`. Of several targets the one that asks for most pods counts. Pods are added
/// at once and removed slowly; the operator chooses which, and empties them first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.min <= self.max").message("autoscaling.min may not be more than autoscaling.max").field_path(".min"),
    validation = Rule::new("has(self.streamsPerPod) || has(self.viewersPerPod) || has(self.cpuPercent) || (has(self.metrics) && self.metrics.size() > 0)")
        .message("autoscaling needs a target: streamsPerPod, viewersPerPod, cpuPercent or metrics")
)]
pub struct Autoscaling {
    /// Pods there are at least, whatever is written to `replicas`.
    #[schemars(range(min = 1, max = 1000))]
    pub min: i32,
    /// Pods there are at most, whatever is written to `replicas`. Pods that drain, and the surge of a rollout, come on top.
    #[schemars(range(min = 1, max = 1000))]
    pub max: i32,
    /// Live streams a pod is to have on average (the operator's metric `streams`). For origins only: every edge that is added
    /// carries the same streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub streams_per_pod: Option<u32>,
    /// Viewers a pod is to have on average (the operator's metric `viewers`). For edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub viewers_per_pod: Option<u32>,
    /// CPU that pods are to use on average, percent of what they request. Needs `resources.requests.cpu` and a metrics server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_percent: Option<i32>,
    /// Any other metrics, as in a HorizontalPodAutoscaler (autoscaling/v2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::metrics")]
    pub metrics: Vec<serde_json::Value>,
    /// How fast, as in a HorizontalPodAutoscaler (autoscaling/v2); what is left out is as `docs/autoscaling.md` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_object")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// Sessions (streams on origins, viewers on edges) that there is room for at any time, so that a crowd finds pods that run: pods are
    /// added until `capacity` leaves so much. Needs `capacity.streams` for origins, `capacity.viewers` for edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_spare_slots: Option<u32>,
    /// Times at which there are more pods at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub schedules: Vec<Schedule>,
    /// Whether pods may be removed because there are too many.
    #[serde(default)]
    pub scale_in: ScaleIn,
}

/// A time with more pods: from each `start` until the next `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// When it begins: five fields of cron (minute, hour, day of month, month, day of week), such as `0 18 * * 5`.
    #[schemars(length(min = 9, max = 128))]
    pub start: String,
    /// When it ends: the same.
    #[schemars(length(min = 9, max = 128))]
    pub end: String,
    /// In which time zone, by its IANA name (`Europe/Berlin`); UTC when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: Option<String>,
    /// Pods there are at least meanwhile; never more than `autoscaling.max`.
    #[schemars(range(min = 1, max = 1000))]
    pub min: i32,
}

/// Whether pods may be removed because there are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaleIn {
    /// They may.
    #[default]
    Enabled,
    /// They are kept, until it is enabled again.
    Paused,
}
