//! `MediaCluster`: what all pools of a cluster share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{DeletionPolicy, LocalRef, PullPolicy, SecretKey, StringMap};
use crate::schema;

/// A media cluster: the database, apps, trust and routes that its pools share.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "MediaCluster",
    namespaced,
    status = "MediaClusterStatus",
    shortname = "mcl",
    category = "sluice",
    derive = "PartialEq",
    derive = "Default",
    doc = "A live media cluster: the database, apps, trust and routes that its OriginPools and EdgePools share.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "One word: how it is"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "Version of the nodes"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.nodes", description = "Nodes ready, of those wanted"),
    printcolumn(name = "Streams", type_ = "integer", json_path = ".status.streams", description = "Live streams"),
    printcolumn(name = "Viewers", type_ = "integer", json_path = ".status.viewers", description = "Viewers on all nodes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Database", type_ = "string", json_path = ".status.conditions[?(@.type=='DatabaseReady')].status", priority = "1"),
    printcolumn(name = "Exposure", type_ = "string", json_path = ".status.conditions[?(@.type=='ExposureReady')].status", priority = "1"),
    printcolumn(name = "Watch", type_ = "string", json_path = ".status.endpoints.watch[0].url", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name may have at most 40 characters"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be lower-case letters, digits and '-', and begin with a letter: Services are named after it"),
    validation = Rule::new("!has(self.spec.exposure.ingress) || !self.spec.exposure.ingress.tls || has(self.spec.security.tls)")
        .message("exposure.ingress.tls needs security.tls: where the certificate comes from").field_path(".spec.exposure.ingress.tls"),
    validation = Rule::new("!has(self.spec.exposure.gateway) || !has(self.spec.exposure.gateway.rtmps) || self.spec.exposure.gateway.rtmps.size() == 0 || (has(self.spec.security.tls) && has(self.spec.exposure.gateway.publishHostnames) && self.spec.exposure.gateway.publishHostnames.size() > 0)")
        .message("exposure.gateway.rtmps needs security.tls and exposure.gateway.publishHostnames: TLS listeners choose by host name").field_path(".spec.exposure.gateway.rtmps")
)]
#[serde(rename_all = "camelCase")]
pub struct MediaClusterSpec {
    /// The image of the nodes.
    #[serde(default)]
    pub image: Image,
    /// The version of the nodes: the tag of the image. Without one it is the operator's own when the cluster is made, and stays
    /// that (`status.version`) when the operator is upgraded: media pods are replaced only when this is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z0-9_][-a-zA-Z0-9_.]*$"))]
    pub version: Option<String>,
    /// Where the cluster keeps its records.
    pub database: Database,
    /// Apps that always exist, with settings. Others can be made over REST.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub apps: Vec<App>,
    /// Who trusts whom.
    #[serde(default)]
    pub security: Security,
    /// How HTTP, WebSocket and RTMP reach the cluster from outside. Load balancers and node ports are a pool's matter.
    #[serde(default)]
    pub exposure: ClusterExposure,
    /// Objects for Prometheus, where its operator is installed.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Leave everything as it is: the operator only reports.
    #[serde(default)]
    pub paused: bool,
    /// Drain and remove all pods; Services, Secrets and volumes stay. `false` brings them back.
    #[serde(default)]
    pub stopped: bool,
}

/// The image of the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Registry and name, without a tag.
    #[serde(default = "repository")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9]([-a-z0-9._:/]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("!self.contains(':') || self.lastIndexOf(':') < self.lastIndexOf('/')")
        .message("image.repository is without a tag: put the tag into spec.version"))]
    pub repository: String,
    /// When it is pulled.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Secrets of type `kubernetes.io/dockerconfigjson` for a private registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pull_secrets: Vec<LocalRef>,
}

fn repository() -> String {
    "ghcr.io/sluice-media/sluice-node".into()
}

impl Default for Image {
    fn default() -> Image {
        Image { repository: repository(), pull_policy: PullPolicy::default(), pull_secrets: Vec::new() }
    }
}

/// How the database comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseMode {
    /// A MongoDB server or service that is there already.
    #[default]
    External,
    /// A replica set that the operator runs. Not in this version.
    Managed,
}

/// Where the cluster keeps its records: MongoDB 4.4 or newer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode != 'Managed'")
        .message("database.mode Managed is not in this version: run MongoDB yourself and use External").field_path(".mode"),
    validation = Rule::new("self.mode != 'External' || has(self.external)")
        .message("database.external is needed with mode External: name the Secret that has the URI")
)]
pub struct Database {
    /// How it comes about.
    #[serde(default)]
    pub mode: DatabaseMode,
    /// External: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
}

/// A MongoDB server that is there already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.namePrefix) == has(oldSelf.namePrefix) && (!has(self.namePrefix) || self.namePrefix == oldSelf.namePrefix)")
        .message("database.external.namePrefix cannot be changed: the cluster would lose its records").field_path(".namePrefix")
)]
pub struct ExternalDatabase {
    /// The Secret with the connection URI (`mongodb://` or `mongodb+srv://`, with user and password). Key `uri` when none is named.
    pub secret: SecretKey,
    /// What stands before the names of the cluster's databases, so that clusters can share a server. Without one it is
    /// `<namespace>-<name>-` (with a hash where two clusters could have the same, or it would be longer than 24 characters).
    /// Cannot be changed: the cluster would lose its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 24), regex(pattern = r"^[-_a-zA-Z0-9]+$"))]
    pub name_prefix: Option<String>,
}

/// An app: a name in URLs, with settings of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Its name, the first part of URLs.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[-_a-zA-Z0-9]+$"))]
    #[x_kube(validation = Rule::new("self != 'rest'").message("apps[].name may not be 'rest': the REST API is there"))]
    pub name: String,
    /// Settings by Ant Media Server's names (`hlsTime`, `acceptOnlyStreamsInDataStore`); what is not named keeps its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::free_object")]
    pub settings: BTreeMap<String, serde_json::Value>,
    /// What becomes of the app, its streams' records and recordings, when it is taken off this list.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Who trusts whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// The Secret with the key that the nodes of the cluster share (key `key`, at least 16 printable characters). Made when
    /// none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_key: Option<SecretKey>,
    /// The Secret with the token for management requests (key `token`, at least 16 printable characters). Made when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<SecretKey>,
    /// The certificate for HTTPS and RTMPS, on nodes and routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Whether NetworkPolicies close the internal ports to everyone but the cluster.
    #[serde(default)]
    pub network_policy: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Switch {
    /// On.
    #[default]
    Enabled,
    /// Off.
    Disabled,
}

/// A certificate: one that is there, or one that cert-manager makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretName) != has(self.issuer)")
        .message("security.tls needs exactly one of secretName and issuer"),
    validation = Rule::new("!has(self.issuer) || (has(self.dnsNames) && self.dnsNames.size() > 0)")
        .message("security.tls.dnsNames is needed with issuer: the names that the certificate is for").field_path(".issuer"),
    validation = Rule::new("!has(self.dnsNames) || self.dnsNames.size() == 0 || has(self.issuer)")
        .message("security.tls.dnsNames needs issuer: a certificate of your own has its names").field_path(".dnsNames")
)]
pub struct Tls {
    /// A Secret of type `kubernetes.io/tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// The issuer of cert-manager that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Issuer>,
    /// With `issuer`: the names that the certificate is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub dns_names: Vec<String>,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Issuer or ClusterIssuer.
    #[serde(default)]
    pub kind: IssuerKind,
}

/// Kinds of issuers of cert-manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IssuerKind {
    /// One of this namespace.
    #[default]
    Issuer,
    /// One for all namespaces.
    ClusterIssuer,
}

/// How HTTP, WebSocket and RTMP reach the cluster from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterExposure {
    /// An Ingress for HTTP and WebSocket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressExposure>,
    /// Routes of the Gateway API, on Gateways that are there. May stand beside `ingress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayExposure>,
}

/// An Ingress (`networking.k8s.io/v1`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.publishHost) || self.publishHost != self.host")
        .message("exposure.ingress.publishHost must differ from host: leave it out to have one host for both").field_path(".publishHost")
)]
pub struct IngressExposure {
    /// The class of the controller; the default class when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// The host name for viewers; leads to the edges (to the origins, where there are no edges). WHIP of the apps in `apps`
    /// (`/{app}/whip/…`) goes to the origins.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub host: String,
    /// The host name for publishers (WebRTC signalling) and management; leads to the origins. Without it there is no way for publishers by
    /// the Ingress while there are edges: `host` leads to those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub publish_host: Option<String>,
    /// Serve HTTPS with the certificate of `security.tls`.
    #[serde(default)]
    pub tls: bool,
    /// Annotations of the Ingress, for its controller. WebSockets and long requests need time limits of an hour or more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: StringMap,
}

/// Routes of the Gateway API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayExposure {
    /// HTTP and WebSocket: the listeners that take the HTTPRoutes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub http: Vec<ParentRef>,
    /// The host names for viewers; every name that the listeners have, when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub hostnames: Vec<String>,
    /// The host names for publishers and management; these lead to the origins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub publish_hostnames: Vec<String>,
    /// RTMP: the TCP listeners that take the TCPRoute to the origins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub rtmp: Vec<ParentRef>,
    /// RTMP over TLS: the TLS listeners (mode Passthrough) that take the TLSRoute to the origins; needs `security.tls` and
    /// `publishHostnames`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub rtmps: Vec<ParentRef>,
    /// SRT: the UDP listeners that take the UDPRoute to the origins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub srt: Vec<ParentRef>,
}

/// A listener of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// The name of the Gateway.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace, when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The name of the listener; all that fit, when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
    /// The port of the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

/// Objects for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// A ServiceMonitor for the nodes, where that kind exists.
    #[serde(default)]
    pub service_monitor: Switch,
    /// A PrometheusRule with alerts, where that kind exists.
    #[serde(default)]
    pub prometheus_rule: Switch,
    /// How often metrics are read, such as `30s`.
    #[serde(default = "interval")]
    #[schemars(length(min = 2, max = 8), regex(pattern = r"^[1-9][0-9]*(s|m)$"))]
    pub interval: String,
    /// Labels of both objects, by which Prometheus selects them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: StringMap,
}

fn interval() -> String {
    "30s".into()
}

impl Default for Monitoring {
    fn default() -> Monitoring {
        Monitoring {
            service_monitor: Switch::default(),
            prometheus_rule: Switch::default(),
            interval: interval(),
            labels: BTreeMap::new(),
        }
    }
}

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaClusterStatus {
    /// The generation of the spec that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word: Pending, Progressing, Ready, Degraded, Paused or Stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// Ready, Progressing, Degraded, Paused, DatabaseReady, ExposureReady, AppsReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The version of the nodes, pinned when the spec names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub version: Option<String>,
    /// The name prefix of the databases, pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub name_prefix: Option<String>,
    /// SHA-256 of the generated cluster key, by which its loss is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_key_hash: Option<String>,
    /// Nodes ready, of those wanted: `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub nodes: Option<String>,
    /// Live streams, each counted once.
    #[serde(default)]
    pub streams: i64,
    /// Viewers on all nodes.
    #[serde(default)]
    pub viewers: i64,
    /// The pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into(), "role".into()]))]
    pub pools: Vec<PoolSummary>,
    /// Where to publish to and to watch at.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// The apps of the spec, and those taken off it that were to be deleted and are not yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub apps: Vec<AppStatus>,
}

/// A pool in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolSummary {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// `origin` or `edge`.
    #[schemars(length(max = 16))]
    pub role: String,
    /// Pods wanted.
    pub desired: i32,
    /// Pods ready.
    pub ready: i32,
    /// Pods being emptied.
    pub draining: i32,
    /// Live streams on its pods.
    pub streams: i64,
    /// Viewers on its pods.
    pub viewers: i64,
}

/// Where to publish to and to watch at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// For publishers; `{app}` and `{stream}` are yours to fill in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub publish: Vec<Endpoint>,
    /// For viewers; `{app}` and `{stream}` are yours to fill in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub watch: Vec<Endpoint>,
}

/// One address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// `RTMP`, `RTMPS`, `HLS`, `HTTP`.
    #[schemars(length(max = 16))]
    pub protocol: String,
    /// The URL.
    #[schemars(length(max = 512))]
    pub url: String,
    /// From where it can be reached: `Cluster` (inside) or `External`.
    #[schemars(length(max = 16))]
    pub scope: String,
}

/// An app of the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// Its name.
    #[schemars(length(max = 64))]
    pub name: String,
    /// What the spec said last about its removal.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// `Applied`, `Pending`, `Failed` or `Deleting`.
    #[schemars(length(max = 16))]
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
