//! Routes of the Gateway API, in the versions that the cluster serves.

use kube::core::DynamicObject;
use serde_json::{Value, json};
use sluice_crds::cluster::{GatewayExposure, ParentRef};
use sluice_crds::names::{self, port};

use super::{ingress, meta, service};
use crate::Cluster;

/// The group of the Gateway API.
const GROUP: &str = "gateway.networking.k8s.io";

/// Kinds beyond Kubernetes' own that are served here, found by discovery. Versions are those of the Gateway API (`v1`, `v1alpha2`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The version of HTTPRoute.
    pub http_route: Option<String>,
    /// The version of TCPRoute.
    pub tcp_route: Option<String>,
    /// The version of UDPRoute.
    pub udp_route: Option<String>,
    /// The version of TLSRoute.
    pub tls_route: Option<String>,
    /// ServiceMonitor (`monitoring.coreos.com/v1`).
    pub service_monitor: bool,
    /// PrometheusRule (`monitoring.coreos.com/v1`).
    pub prometheus_rule: bool,
    /// Certificate (`cert-manager.io/v1`).
    pub certificate: bool,
}

pub(crate) fn routes(cluster: &Cluster, served: &Served, missing: &mut Vec<String>) -> Vec<DynamicObject> {
    let Some(gateway) = &cluster.exposure().gateway else { return Vec::new() };
    let GatewayExposure { http, hostnames, publish_hostnames, rtmp, rtmps, srt } = gateway;
    let watch = names::watch_service(cluster.name());
    let publish = names::publish_service(cluster.name());
    let mut all = Vec::new();
    let mut add = |kind: &str, version: &Option<String>, name: String, parents: &[ParentRef], rest: Value| {
        let Some(version) = version else {
            let kind = format!("{kind} ({GROUP})");
            if !missing.contains(&kind) {
                missing.push(kind);
            }
            return;
        };
        let mut spec = json!({ "parentRefs": parents.iter().map(parent).collect::<Vec<_>>() });
        if let (Some(spec), Value::Object(rest)) = (spec.as_object_mut(), rest) {
            spec.extend(rest);
        }
        let metadata = meta::of_cluster(cluster, name);
        all.push(meta::dynamic(&format!("{GROUP}/{version}"), kind, metadata, spec));
    };
    if !http.is_empty() {
        let everything = || vec![json!({ "path": prefix("/") })];
        let mut watching = publishing(cluster, &publish);
        watching.push(http_rule(everything(), &watch));
        add("HTTPRoute", &served.http_route, watch.clone(), http, http_rules(hostnames, watching));
        if !publish_hostnames.is_empty() {
            let rules = http_rules(publish_hostnames, vec![http_rule(everything(), &publish)]);
            add("HTTPRoute", &served.http_route, publish.clone(), http, rules);
        }
    }
    let route = |suffix: &str| format!("{}-{suffix}", cluster.name());
    if !rtmp.is_empty() {
        add("TCPRoute", &served.tcp_route, route("rtmp"), rtmp, rules(&publish, port::RTMP));
    }
    if !rtmps.is_empty() {
        let mut rest = rules(&publish, port::RTMPS);
        rest["hostnames"] = json!(publish_hostnames);
        add("TLSRoute", &served.tls_route, route("rtmps"), rtmps, rest);
    }
    if !srt.is_empty() {
        let backend = service::publish_media_name(cluster);
        add("UDPRoute", &served.udp_route, route("srt"), srt, rules(&backend, port::SRT));
    }
    all
}

fn parent(reference: &ParentRef) -> Value {
    let ParentRef { name, namespace, section_name, port } = reference;
    let mut parent = json!({ "group": GROUP, "kind": "Gateway", "name": name });
    if let Some(namespace) = namespace {
        parent["namespace"] = json!(namespace);
    }
    if let Some(section) = section_name {
        parent["sectionName"] = json!(section);
    }
    if let Some(port) = port {
        parent["port"] = json!(port);
    }
    parent
}

fn backend(service: &str, port: u16) -> Value {
    json!([{ "group": "", "kind": "Service", "name": service, "port": port, "weight": 1 }])
}

fn rules(service: &str, port: u16) -> Value {
    json!({ "rules": [{ "backendRefs": backend(service, port) }] })
}

fn prefix(path: &str) -> Value {
    json!({ "type": "PathPrefix", "value": path })
}

/// Publishers at the host of viewers: WebSockets that say so (`?target=origin`, as Ant Media's pages do), and WHIP of the spec's apps.
fn publishing(cluster: &Cluster, service: &str) -> Vec<Value> {
    let target = json!([{ "type": "Exact", "name": "target", "value": "origin" }]);
    let mut rules = vec![http_rule(vec![json!({ "path": prefix("/"), "queryParams": target })], service)];
    let whip: Vec<Value> =
        ingress::whip_paths(cluster).iter().map(|path| json!({ "path": prefix(path) })).collect();
    if !whip.is_empty() {
        rules.push(http_rule(whip, service));
    }
    rules
}

/// Without time limits: WebSockets and held playlist requests stay open.
fn http_rule(matches: Vec<Value>, service: &str) -> Value {
    json!({
        "matches": matches,
        "backendRefs": backend(service, port::HTTP),
        "timeouts": { "request": "0s", "backendRequest": "0s" },
    })
}

fn http_rules(hostnames: &[String], rules: Vec<Value>) -> Value {
    let mut spec = json!({ "rules": rules });
    if !hostnames.is_empty() {
        spec["hostnames"] = json!(hostnames);
    }
    spec
}
