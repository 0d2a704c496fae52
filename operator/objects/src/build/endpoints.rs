//! Where a cluster is reached, and what its exposure still waits for.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::core::DynamicObject;
use serde_json::Value;
use sluice_crds::cluster::{Endpoint, Endpoints, ParentRef};
use sluice_crds::names::{self, port};
use sluice_crds::pool::Role;

use crate::{Cluster, Site};

/// What the API server has of a cluster's exposure, status included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// Whether it has edge pools: viewers' hosts then lead to edges, which take no publishers.
    pub has_edges: bool,
    /// Services of its pools by which they are reached from outside; others are passed over.
    pub services: &'a [Service],
    /// Its pods: the addresses of their machines, for node ports and ports of the machine.
    pub pods: &'a [Pod],
    /// Its Ingress.
    pub ingress: Option<&'a Ingress>,
    /// Its routes.
    pub routes: &'a [DynamicObject],
    /// Its certificate.
    pub certificate: Option<&'a DynamicObject>,
}

/// The schema's limits.
const MOST: usize = 64;
const URL_BYTES: usize = 512;

#[derive(Clone, Copy)]
enum Scope {
    Cluster,
    External,
}

#[derive(Default)]
struct Found(Endpoints);

impl Found {
    fn publish(&mut self, protocol: &str, url: String, scope: Scope) {
        add(&mut self.0.publish, protocol, url, scope);
    }

    fn watch(&mut self, protocol: &str, url: String, scope: Scope) {
        add(&mut self.0.watch, protocol, url, scope);
    }

    fn rtmp(&mut self, role: Role, protocol: &str, host: &str, port: i32) {
        let url =
            format!("{}://{}:{port}/{{app}}/{{stream}}", protocol.to_ascii_lowercase(), bracketed(host));
        match role {
            Role::Origin => self.publish(protocol, url, Scope::External),
            Role::Edge => self.watch(protocol, url, Scope::External),
        }
    }

    fn http(&mut self, scheme: &str, viewers: &[&str], publishers: &[&str]) {
        for host in viewers {
            self.watch("HLS", hls(scheme, host), Scope::External);
            self.watch("WHEP", format!("{scheme}://{host}/{{app}}/whep/{{stream}}"), Scope::External);
        }
        for host in publishers {
            self.publish("HTTP", format!("{scheme}://{host}/"), Scope::External);
            self.publish("WHIP", format!("{scheme}://{host}/{{app}}/whip/{{stream}}"), Scope::External);
        }
    }
}

fn add(list: &mut Vec<Endpoint>, protocol: &str, url: String, scope: Scope) {
    let scope = match scope {
        Scope::Cluster => "Cluster",
        Scope::External => "External",
    };
    let endpoint = Endpoint { protocol: protocol.to_owned(), url, scope: scope.to_owned() };
    if list.len() < MOST && endpoint.url.len() <= URL_BYTES && !list.contains(&endpoint) {
        list.push(endpoint);
    }
}

fn hls(scheme: &str, host: &str) -> String {
    format!("{scheme}://{host}/{{app}}/streams/{{stream}}.m3u8")
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Where to publish to and to watch at; from outside first. Listeners of Gateways are not looked into: where the spec names no port,
/// RTMP is taken to be at 1935, RTMPS and HTTPS at 443, HTTP at 80.
pub fn endpoints(cluster: &Cluster, site: &Site, seen: &Seen<'_>) -> Endpoints {
    let mut found = Found::default();
    if let Some(ingress) = &cluster.exposure().ingress {
        let publish = ingress.publish_host.as_deref().or_else(|| (!seen.has_edges).then_some(&*ingress.host));
        found.http(if ingress.tls { "https" } else { "http" }, &[&ingress.host], publish.as_slice());
    }
    gateway(cluster, &mut found);
    for service in seen.services {
        balanced(service, seen.pods, &mut found);
    }
    for pod in seen.pods {
        on_machine(pod, &mut found);
    }
    let inside = |service: String| format!("{service}.{}.svc.{}", cluster.namespace(), site.cluster_domain);
    let publish = inside(names::publish_service(cluster.name()));
    let watch = inside(names::watch_service(cluster.name()));
    found.publish("RTMP", format!("rtmp://{publish}:{}/{{app}}/{{stream}}", port::RTMP), Scope::Cluster);
    if cluster.certificate().is_some() {
        found.publish(
            "RTMPS",
            format!("rtmps://{publish}:{}/{{app}}/{{stream}}", port::RTMPS),
            Scope::Cluster,
        );
    }
    found.publish("HTTP", format!("http://{publish}:{}/", port::HTTP), Scope::Cluster);
    found.watch("HLS", hls("http", &format!("{watch}:{}", port::HTTP)), Scope::Cluster);
    found.0
}

fn gateway(cluster: &Cluster, found: &mut Found) {
    let Some(gateway) = &cluster.exposure().gateway else { return };
    let viewers: Vec<&str> = gateway.hostnames.iter().map(String::as_str).collect();
    let publishers: Vec<&str> = gateway.publish_hostnames.iter().map(String::as_str).collect();
    if !gateway.http.is_empty() {
        let secure = |parent: &ParentRef| {
            matches!(parent.port, Some(443 | 8443))
                || parent.section_name.as_deref().is_some_and(|name| name.contains("https"))
        };
        let scheme = if gateway.http.iter().any(secure) { "https" } else { "http" };
        found.http(scheme, &viewers, &publishers);
    }
    for (protocol, parents, usual) in [("RTMP", &gateway.rtmp, port::RTMP), ("RTMPS", &gateway.rtmps, 443)] {
        for parent in parents {
            for host in &publishers {
                found.rtmp(Role::Origin, protocol, host, parent.port.unwrap_or(usual).into());
            }
        }
    }
}

fn role(labels: Option<&BTreeMap<String, String>>) -> Option<Role> {
    match labels?.get(names::ROLE)?.as_str() {
        "origin" => Some(Role::Origin),
        "edge" => Some(Role::Edge),
        _ => None,
    }
}

/// RTMP by a load balancer or a node port.
fn balanced(service: &Service, pods: &[Pod], found: &mut Found) {
    let Some(role) = role(service.metadata.labels.as_ref()) else { return };
    let Some(spec) = &service.spec else { return };
    let addresses: Vec<String> = balancer(service).collect();
    let machines = || {
        let hosts = pods.iter().filter_map(|pod| pod.status.as_ref()?.host_ip.clone());
        hosts.collect::<BTreeSet<_>>()
    };
    for one in spec.ports.iter().flatten() {
        let protocol = match one.name.as_deref() {
            Some("rtmp") => "RTMP",
            Some("rtmps") => "RTMPS",
            _ => continue,
        };
        match spec.type_.as_deref() {
            Some("LoadBalancer") => {
                for address in &addresses {
                    found.rtmp(role, protocol, address, one.port);
                }
            }
            Some("NodePort") => {
                let Some(port) = one.node_port else { continue };
                for machine in machines() {
                    found.rtmp(role, protocol, &machine, port);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn balancer(service: &Service) -> impl Iterator<Item = String> {
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|one| one.hostname.clone().or_else(|| one.ip.clone()))
}

/// RTMP by a port of the machine.
fn on_machine(pod: &Pod, found: &mut Found) {
    let Some(role) = role(pod.metadata.labels.as_ref()) else { return };
    let Some(host) = pod.status.as_ref().and_then(|status| status.host_ip.as_ref()) else { return };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let node = containers.filter(|container| container.name == names::CONTAINER);
    for one in node.flat_map(|container| container.ports.iter().flatten()) {
        let protocol = match one.name.as_deref() {
            Some("rtmp") => "RTMP",
            Some("rtmps") => "RTMPS",
            _ => continue,
        };
        if let Some(port) = one.host_port {
            found.rtmp(role, protocol, host, port);
        }
    }
}

/// What the exposure waits for, in sentences that name the object; nothing when all is in place. `missing` are the kinds that are not
/// served here ([`ClusterObjects`](crate::ClusterObjects)).
pub fn waiting(missing: &[String], seen: &Seen<'_>) -> Vec<String> {
    let mut all: Vec<String> = missing
        .iter()
        .map(|kind| {
            format!("{kind} is not served by this Kubernetes: install it, or take it out of the spec")
        })
        .collect();
    for service in seen.services {
        let balanced =
            service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
        if balanced && balancer(service).next().is_none() {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            all.push(format!("the Service {name} waits for the address of its load balancer"));
        }
    }
    if let Some(ingress) = seen.ingress {
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        if status.and_then(|balancer| balancer.ingress.as_ref()).is_none_or(Vec::is_empty) {
            let name = ingress.metadata.name.as_deref().unwrap_or_default();
            all.push(format!("the Ingress {name} has no address yet: is there a controller for its class?"));
        }
    }
    all.extend(seen.routes.iter().filter_map(route));
    if let Some(certificate) = seen.certificate
        && let Some(why) = not(certificate.data["status"]["conditions"].as_array(), "Ready")
    {
        let name = certificate.metadata.name.as_deref().unwrap_or_default();
        all.push(format!("the Certificate {name} is not issued yet{why}"));
    }
    all
}

/// Why a condition is not True, as the end of a sentence; none when it is.
fn not(conditions: Option<&Vec<Value>>, kind: &str) -> Option<String> {
    let condition = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    match condition {
        Some(condition) if condition["status"] == "True" => None,
        Some(condition) => {
            let message: String =
                condition["message"].as_str().unwrap_or_default().chars().take(200).collect();
            Some(if message.is_empty() { String::new() } else { format!(": {message}") })
        }
        None => Some(String::new()),
    }
}

fn route(route: &DynamicObject) -> Option<String> {
    let kind = route.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
    let name = route.metadata.name.as_deref().unwrap_or_default();
    let parents = route.data["status"]["parents"].as_array().filter(|parents| !parents.is_empty());
    let Some(parents) = parents else {
        return Some(format!("no Gateway has taken the {kind} {name} yet"));
    };
    parents.iter().find_map(|parent| {
        let gateway = parent["parentRef"]["name"].as_str().unwrap_or_default();
        let conditions = parent["conditions"].as_array();
        let why = not(conditions, "Accepted").or_else(|| not(conditions, "ResolvedRefs"))?;
        Some(format!("the Gateway {gateway} does not take the {kind} {name}{why}"))
    })
}
