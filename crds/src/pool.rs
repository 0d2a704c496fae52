//! `OriginPool` and `EdgePool`: pods of one role of a cluster. Both kinds share [`PoolSpec`] and [`PoolStatus`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::autoscaling::Autoscaling;
use crate::common::{DeletionPolicy, Exposure, LocalRef, StringMap};
use crate::quantity::{Quantities, Quantity};
use crate::schema;

/// What a pool's pods are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// They take publishers.
    Origin,
    /// They serve viewers with streams of origins.
    Edge,
}

impl Role {
    /// As labels and the node's configuration spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Origin => "origin",
            Role::Edge => "edge",
        }
    }
}

/// What the two kinds of pools have in common.
pub trait PoolKind: kube::Resource<DynamicType = ()> {
    /// What the pods are for.
    const ROLE: Role;
    /// The kind, as YAML spells it.
    const KIND: &'static str;
    /// The spec that both kinds share.
    fn pool(&self) -> &PoolSpec;
    /// Volumes for recordings; origins only.
    fn storage(&self) -> Option<&Storage>;
    /// What is.
    fn status(&self) -> Option<&PoolStatus>;
}

impl PoolKind for OriginPool {
    const ROLE: Role = Role::Origin;
    const KIND: &'static str = "OriginPool";
    fn pool(&self) -> &PoolSpec {
        &self.spec.pool
    }
    fn storage(&self) -> Option<&Storage> {
        self.spec.storage.as_ref()
    }
    fn status(&self) -> Option<&PoolStatus> {
        self.status.as_ref()
    }
}

impl PoolKind for EdgePool {
    const ROLE: Role = Role::Edge;
    const KIND: &'static str = "EdgePool";
    fn pool(&self) -> &PoolSpec {
        &self.spec.pool
    }
    fn storage(&self) -> Option<&Storage> {
        None
    }
    fn status(&self) -> Option<&PoolStatus> {
        self.status.as_ref()
    }
}

/// Pods that take publishers.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "OriginPool",
    namespaced,
    status = "PoolStatus",
    shortname = "opool",
    category = "sluice",
    derive = "PartialEq",
    derive = "Default",
    doc = "Pods of a MediaCluster that take publishers (RTMP, WebRTC, later SRT) and keep their streams.",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "One word: how it is"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas", description = "Pods wanted"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Pods that are ready and take new sessions"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.draining", description = "Pods being emptied"),
    printcolumn(name = "Streams", type_ = "integer", json_path = ".status.streams", description = "Live streams on its pods"),
    printcolumn(name = "Viewers", type_ = "integer", json_path = ".status.viewers", description = "Viewers on its pods"),
    printcolumn(name = "Waiting For", type_ = "string", json_path = ".status.waitingFor", description = "What drains wait for, and until when"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name", priority = "1"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = "1"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", priority = "1"),
    printcolumn(name = "Metrics", type_ = "string", json_path = ".status.metrics", priority = "1", description = "What the number of pods follows"),
    printcolumn(name = "GPU", type_ = "string", json_path = ".spec.gpu.mode", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name may have at most 40 characters"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be lower-case letters, digits and '-', and begin with a letter: Services are named after it"),
    validation = Rule::new("!self.metadata.name.matches('-(headless|media|rtmp|srt|webrtc|watch|publish)$')")
        .message("metadata.name may not end with -headless, -media, -rtmp, -srt, -webrtc, -watch or -publish: Services are named so")
)]
#[serde(rename_all = "camelCase")]
pub struct OriginPoolSpec {
    /// What both kinds of pools have.
    #[serde(flatten)]
    pub pool: PoolSpec,
    /// A volume for each pod, where recordings are kept until they are uploaded or deleted. Without it they are in the pod, and gone
    /// with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// Pods that serve viewers.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "EdgePool",
    namespaced,
    status = "PoolStatus",
    shortname = "epool",
    category = "sluice",
    derive = "PartialEq",
    derive = "Default",
    doc = "Pods of a MediaCluster that serve viewers with streams of its origins.",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "One word: how it is"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas", description = "Pods wanted"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Pods that are ready and take new sessions"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.draining", description = "Pods being emptied"),
    printcolumn(name = "Streams", type_ = "integer", json_path = ".status.streams", description = "Live streams on its pods"),
    printcolumn(name = "Viewers", type_ = "integer", json_path = ".status.viewers", description = "Viewers on its pods"),
    printcolumn(name = "Waiting For", type_ = "string", json_path = ".status.waitingFor", description = "What drains wait for, and until when"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name", priority = "1"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = "1"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", priority = "1"),
    printcolumn(name = "Metrics", type_ = "string", json_path = ".status.metrics", priority = "1", description = "What the number of pods follows"),
    printcolumn(name = "GPU", type_ = "string", json_path = ".spec.gpu.mode", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name may have at most 40 characters"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be lower-case letters, digits and '-', and begin with a letter: Services are named after it"),
    validation = Rule::new("!self.metadata.name.matches('-(headless|media|rtmp|srt|webrtc|watch|publish)$')")
        .message("metadata.name may not end with -headless, -media, -rtmp, -srt, -webrtc, -watch or -publish: Services are named so"),
    validation = Rule::new("!has(self.spec.autoscaling) || !has(self.spec.autoscaling.streamsPerPod)")
        .message("autoscaling.streamsPerPod is for origins: every edge that is added carries the same streams. Use autoscaling.viewersPerPod")
        .field_path(".spec.autoscaling.streamsPerPod")
)]
#[serde(rename_all = "camelCase")]
pub struct EdgePoolSpec {
    /// What both kinds of pools have.
    #[serde(flatten)]
    pub pool: PoolSpec,
}

/// What both kinds of pools have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolSpec {
    /// The MediaCluster of the same namespace that the pool belongs to. Cannot be changed: make a new pool instead.
    #[x_kube(validation = Rule::new("self == oldSelf").message("clusterRef cannot be changed: make a new pool instead"))]
    pub cluster_ref: LocalRef,
    /// How many pods take new sessions. With `autoscaling` this is what the autoscaler wants, and every value may be written: the operator
    /// keeps to `autoscaling.min` and `autoscaling.max`.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Follows the load, instead of a fixed number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// The version of this pool's nodes, when it is to differ from its cluster's: to try a new one on a small pool first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9_][-a-zA-Z0-9_.]*$"))]
    pub version: Option<String>,
    /// How much one pod takes.
    #[serde(default)]
    pub capacity: Capacity,
    /// CPU, memory and other resources of a pod's node container.
    #[serde(default)]
    pub resources: Resources,
    /// The GPU of a pod.
    #[serde(default)]
    pub gpu: Gpu,
    /// Where pods may run.
    #[serde(default)]
    pub placement: Placement,
    /// Settings of the nodes by their keys (see the configuration reference), values as text: `hls_segment_time: "4s"`. A change
    /// replaces the pods one after the other, unless it can be applied live.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::settings")]
    #[x_kube(validation = schema::not_the_operators(), validation = schema::no_passwords())]
    pub config: StringMap,
    /// How a pod is emptied before it goes.
    #[serde(default)]
    pub drain: Drain,
    /// How pods are replaced when something of the above changes.
    #[serde(default)]
    pub rollout: Rollout,
    /// How its protocols are reached from outside. HTTP is a matter of the MediaCluster's `exposure`.
    #[serde(default)]
    pub exposure: PoolExposure,
    /// Additions to the pods.
    #[serde(default)]
    pub pod_template: PodTemplate,
    /// The group of nodes that fetch a stream from each other before they go further (a site, a zone); the pool's name, when it is
    /// missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[-_.a-zA-Z0-9]+$"))]
    pub group: Option<String>,
}

fn one() -> i32 {
    1
}

/// How much one pod takes. Over it, new sessions are refused with a clear answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Streams published to one pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub streams: Option<u32>,
    /// Viewers on one pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub viewers: Option<u32>,
}

/// Resources of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)")
        .message("resources.requests may not be more than resources.limits").field_path(".requests")
)]
pub struct Resources {
    /// What is reserved; a limit without a request is its own request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub requests: Quantities,
    /// What is not exceeded. A limit of CPU throttles: prefer requests alone for live media.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Quantities,
}

/// How a pod is given a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GpuMode {
    /// None: software encoders.
    #[default]
    None,
    /// An extended resource of a device plugin, such as `nvidia.com/gpu`, a MIG slice or a shared (time-sliced) one.
    ExtendedResource,
    /// A ResourceClaim (dynamic resource allocation).
    ResourceClaim,
}

/// The GPU of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.resourceName) || self.mode == 'ExtendedResource'")
        .message("gpu.resourceName needs mode ExtendedResource").field_path(".resourceName"),
    validation = Rule::new("!has(self.count) || self.mode == 'ExtendedResource'")
        .message("gpu.count needs mode ExtendedResource").field_path(".count"),
    validation = Rule::new("!has(self.products) || self.mode == 'ExtendedResource'")
        .message("gpu.products needs mode ExtendedResource").field_path(".products"),
    validation = Rule::new("!has(self.maxEncodeSessions) || self.mode != 'None'")
        .message("gpu.maxEncodeSessions needs a GPU: set mode").field_path(".maxEncodeSessions"),
    validation = Rule::new("has(self.resourceClaimTemplateName) == (self.mode == 'ResourceClaim')")
        .message("gpu.resourceClaimTemplateName is needed with mode ResourceClaim, and only there")
)]
pub struct Gpu {
    /// How it is given.
    #[serde(default)]
    pub mode: GpuMode,
    /// ExtendedResource: its name; `nvidia.com/gpu` when it is missing. MIG and time-sliced names (`nvidia.com/mig-1g.10gb`,
    /// `nvidia.com/gpu.shared`) are as good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub resource_name: Option<String>,
    /// ExtendedResource: how many of it; 1 when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub count: Option<u32>,
    /// ExtendedResource: only on machines with one of these products (label `nvidia.com/gpu.product`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub products: Vec<String>,
    /// How many encoder sessions a pod may have open at once on its GPU (one for each rendition); consumer cards have few. Without
    /// effect so far: the nodes of this version do not transcode. It is kept for those that do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    pub max_encode_sessions: Option<u32>,
    /// ResourceClaim: the ResourceClaimTemplate of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub resource_claim_template_name: Option<String>,
    /// The runtime class of the pods, such as `nvidia`, where the container runtime needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
}

/// Where pods may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Labels that a machine must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: StringMap,
    /// Affinity, as in a pod. Without pod anti-affinity here, pods of a pool prefer different machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Tolerations, as in a pod. The one for the GPU's resource name is added by itself, and those by which pods
    /// stay on a machine that does not answer (`node.kubernetes.io/not-ready` and `node.kubernetes.io/unreachable`), unless one is here for
    /// that key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Spread, as in a pod; without a label selector the pool's pods are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<TopologySpreadConstraint>,
    /// The priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// A volume for each pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.storageClassName cannot be changed: make a new pool instead").field_path(".storageClassName"),
    validation = Rule::new("quantity(string(self.size)).isGreaterThan(quantity('0'))")
        .message("storage.size must be more than 0").field_path(".size"),
    validation = Rule::new("quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0")
        .message("storage.size cannot be made smaller: volumes do not shrink").field_path(".size")
)]
pub struct Storage {
    /// Its size, such as `100Gi`.
    pub size: Quantity,
    /// Its class; the default class when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the volume when its pod goes for good (scale-in, or the pool is deleted).
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What a drain waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrainPolicy {
    /// For the last publisher and the last viewer, or the deadline.
    #[default]
    Wait,
    /// For the last publisher, or the deadline; viewers are moved.
    WaitForPublishers,
    /// For nobody. A drain by the annotation `sluice.dev/drain` waits for publishers all the same, at most as long as it says.
    Immediate,
}

/// How a pod is emptied before it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.deadline) >= duration('10s') && duration(self.deadline) <= duration('48h')")
    .message("drain.deadline must be from 10s to 48h").field_path(".deadline"))]
pub struct Drain {
    /// After how long it goes whatever is left: `30m`, `4h`. The pod's termination grace is this and half a minute, for pods that
    /// others delete.
    #[serde(default = "deadline")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[1-9][0-9]*(s|m|h)$"))]
    pub deadline: String,
    /// What it waits for: Wait for publishers and viewers, WaitForPublishers for publishers (viewers are moved), Immediate for nobody. A
    /// drain by the annotation `sluice.dev/drain` waits for publishers under Immediate too, at most as long as it says.
    #[serde(default)]
    pub policy: DrainPolicy,
}

fn deadline() -> String {
    "1h".into()
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { deadline: deadline(), policy: DrainPolicy::default() }
    }
}

/// How pods are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.maxSurge + self.maxUnavailable > 0")
    .message("rollout.maxSurge and rollout.maxUnavailable may not both be 0: no pod could ever be replaced"),
    validation = Rule::new("duration(self.progressDeadline) >= duration('1m') && duration(self.progressDeadline) <= duration('24h')")
        .message("rollout.progressDeadline must be from 1m to 24h").field_path(".progressDeadline"))]
pub struct Rollout {
    /// How many pods there may be beyond `replicas` while pods are replaced. Pods that a rollout drains count, so with 1 pods are replaced
    /// one at a time, the next when the one before is gone; pods of a scale-in, or drained by hand, do not count.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub max_surge: i32,
    /// How many pods may be missing below `replicas` while pods are replaced.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub max_unavailable: i32,
    /// Replace no further pods for now.
    #[serde(default)]
    pub paused: bool,
    /// How long a new pod may take until it accepts. After that, or when new pods crash, the rollout halts: the pods that work stay, until
    /// the spec changes or the new pods are well. From `1m` to `24h`.
    #[serde(default = "progress_deadline")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[1-9][0-9]*(s|m|h)$"))]
    pub progress_deadline: String,
}

fn progress_deadline() -> String {
    "10m".into()
}

impl Default for Rollout {
    fn default() -> Rollout {
        Rollout { max_surge: 1, max_unavailable: 0, paused: false, progress_deadline: progress_deadline() }
    }
}

/// How a pool's protocols are reached from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.rtmp.nodePort) || !has(self.srt.nodePort) || self.rtmp.nodePort != self.srt.nodePort")
        .message("exposure.rtmp.nodePort and exposure.srt.nodePort must differ"),
    validation = Rule::new("!has(self.webrtc.nodePort)")
        .message("exposure.webrtc.nodePort cannot be set: each pod has a node port of its own, which Kubernetes chooses").field_path(".webrtc"),
    validation = Rule::new("self.srt.mode != 'HostPort' || self.webrtc.mode != 'HostPort' || (has(self.srt.hostPort) ? self.srt.hostPort : 4200) != (has(self.webrtc.hostPort) ? self.webrtc.hostPort : 5004)")
        .message("exposure.srt.hostPort and exposure.webrtc.hostPort must differ: both are UDP")
)]
pub struct PoolExposure {
    /// RTMP (TCP 1935), and RTMPS (TCP 1936) where the cluster has a certificate. With HostPort, RTMPS is at the machine's port 1936
    /// when `hostPort` is left out or 1935, and else not exposed.
    #[serde(default)]
    pub rtmp: Exposure,
    /// SRT (UDP 4200). The nodes of this version do not serve it yet.
    #[serde(default)]
    pub srt: Exposure,
    /// WebRTC media (UDP and TCP 5004): a port or address for each pod, which its node tells clients. Without any they are told the pod's
    /// own address: enough inside the cluster, or with a TURN server in it (`rtc_ice_servers` in `config`).
    #[serde(default)]
    pub webrtc: Exposure,
}

/// Additions to the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels. Those of Sluice cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('sluice.dev/') && !k.startsWith('app.kubernetes.io/'))")
        .message("podTemplate.labels may not begin with sluice.dev/ or app.kubernetes.io/: the operator sets those"))]
    pub labels: StringMap,
    /// Annotations. Those of Sluice cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('sluice.dev/'))")
        .message("podTemplate.annotations may not begin with sluice.dev/: the operator sets those"))]
    pub annotations: StringMap,
    /// Environment variables of the node container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(e, !e.name.startsWith('SLUICE_') && !(e.name in ['POD_NAME', 'POD_IP', 'NODE_NAME']))")
        .message("podTemplate.env may not set SLUICE_ variables, POD_NAME, POD_IP or NODE_NAME: use config"))]
    pub env: Vec<EnvVar>,
    /// Volumes, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::free_list")]
    pub volumes: Vec<serde_json::Value>,
    /// Where they are mounted in the node container, as in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::free_list")]
    pub volume_mounts: Vec<serde_json::Value>,
    /// Containers that run to their end before the node starts, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::free_list")]
    pub init_containers: Vec<serde_json::Value>,
    /// Containers that run beside the node, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::free_list")]
    pub sidecars: Vec<serde_json::Value>,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// The generation of the spec that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word: Pending, Progressing, Ready, Degraded, Paused or Stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What it is waiting for, in a sentence; empty when for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// Ready, Progressing, Degraded, Draining, Paused, ExposureReady; with `autoscaling` ScalingLimited and MetricsAvailable, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Pods that are not draining, at most as many as `spec.replicas` asks for: what autoscalers count.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are wanted: `spec.replicas` within the limits and floors of `autoscaling`; 0 when the cluster is stopped.
    #[serde(default)]
    pub desired_replicas: i32,
    /// Selects the pods that are not draining; for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Pods that are ready and take new sessions.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Pods of the newest revision that are not draining.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Pods being emptied.
    #[serde(default)]
    pub draining: i32,
    /// Live streams on its pods, draining ones too: for origins those published there, for edges those carried there.
    #[serde(default)]
    pub streams: i64,
    /// Publishers connected to its pods.
    #[serde(default)]
    pub publishers: i64,
    /// What drains wait for and until when, in short; empty when none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub waiting_for: Option<String>,
    /// With `autoscaling`: what the number of pods follows, with the last values: `viewers 212/100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub metrics: Option<String>,
    /// Viewers on its pods, draining ones too.
    #[serde(default)]
    pub viewers: i64,
    /// The newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision: Option<String>,
    /// The version of the nodes that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub version: Option<String>,
    /// The generation of the operator's pod template that its pods are made by; raised only when the spec changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_generation: Option<i64>,
    /// The generation of the spec that `templateGeneration` was decided for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub template_spec: Option<String>,
    /// Its pods, at most 100 of them: first those that are not as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pods: Vec<PodStatus>,
}

/// A pod in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// `Pending`, `Starting`, `Ready`, `Draining`, `Unreachable`, `Failed` or `Terminating`.
    #[schemars(length(max = 32))]
    pub state: String,
    /// The machine that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision: Option<String>,
    /// Live streams on it.
    #[serde(default)]
    pub streams: i64,
    /// Viewers on it.
    #[serde(default)]
    pub viewers: i64,
    /// Draining: when it ends whatever is left (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub deadline: Option<String>,
    /// Why it is not ready, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
