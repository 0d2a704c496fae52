//! Types that the kinds share.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it. Each field that refers to a Secret says which key is meant when this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// Labels or annotations.
pub type StringMap = BTreeMap<String, String>;

/// What becomes of stored things when what they belong to goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Keep,
    /// They are deleted with it.
    Delete,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// When the machine does not have it.
    #[default]
    IfNotPresent,
    /// At each start.
    Always,
    /// Never: it is on the machine, or the pod does not start.
    Never,
}

impl PullPolicy {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Always => "Always",
            PullPolicy::Never => "Never",
        }
    }
}

/// How a protocol is reached from outside the Kubernetes cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExposureMode {
    /// Only inside.
    #[default]
    None,
    /// By a Service of type LoadBalancer.
    LoadBalancer,
    /// By a port on every machine.
    NodePort,
    /// By the port of the machine that the pod runs on. Needs a namespace that admits it (Pod Security level `privileged`), and at
    /// most one pod of the pool runs on a machine.
    HostPort,
}

/// Exposure of one protocol of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.loadBalancerClass) || self.mode == 'LoadBalancer'")
        .message("loadBalancerClass needs mode LoadBalancer").field_path(".loadBalancerClass"),
    validation = Rule::new("!has(self.sourceRanges) || self.mode == 'LoadBalancer'")
        .message("sourceRanges needs mode LoadBalancer").field_path(".sourceRanges"),
    validation = Rule::new("!has(self.addresses) || self.mode == 'LoadBalancer'")
        .message("addresses needs mode LoadBalancer").field_path(".addresses"),
    validation = Rule::new("!has(self.annotations) || self.mode in ['LoadBalancer', 'NodePort']")
        .message("annotations needs mode LoadBalancer or NodePort").field_path(".annotations"),
    validation = Rule::new("!has(self.nodePort) || self.mode in ['LoadBalancer', 'NodePort']")
        .message("nodePort needs mode NodePort or LoadBalancer").field_path(".nodePort"),
    validation = Rule::new("!has(self.hostPort) || self.mode == 'HostPort'")
        .message("hostPort needs mode HostPort").field_path(".hostPort"),
    validation = Rule::new("!has(self.sourceRanges) || self.sourceRanges.all(r, isCIDR(r))")
        .message("sourceRanges must be networks such as 192.0.2.0/24 or 2001:db8::/32").field_path(".sourceRanges"),
    validation = Rule::new("!has(self.addresses) || self.addresses.all(a, isIP(a))")
        .message("addresses must be IP addresses").field_path(".addresses")
)]
pub struct Exposure {
    /// How it is reached from outside.
    #[serde(default)]
    pub mode: ExposureMode,
    /// LoadBalancer: the implementation that is asked for; cannot be changed on a Service, so a change makes the Service anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// LoadBalancer: only clients of these networks (CIDR) are let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 3, max = 64), regex(pattern = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"))
    )]
    pub source_ranges: Vec<String>,
    /// LoadBalancer: the addresses that are asked for, as the Service's `loadBalancerIP`; whether it is heeded is up to the
    /// implementation, and many want an annotation instead. RTMP and SRT take the first; for WebRTC, where each pod has a Service, the
    /// first is for slot 0, the second for slot 1, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 2, max = 45), regex(pattern = r"^[0-9a-fA-F.:]+$")))]
    pub addresses: Vec<String>,
    /// Annotations of the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: StringMap,
    /// NodePort and LoadBalancer: the port on every machine; Kubernetes chooses when it is missing. Not for WebRTC, where each pod has
    /// a port of its own. It must be in the range of the Kubernetes cluster, 30000 to 32767 unless that was set up otherwise; the API
    /// server refuses the Service otherwise, and the pool says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<u16>,
    /// HostPort: the port on the machine; the protocol's own when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<u16>,
}
