//! Services inside the Kubernetes cluster.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_crds::names::{self, port};
use sluice_crds::pool::Role;

use super::meta::{self, Labels};
use crate::{Cluster, Pool};

/// A port of a Service that leads to the same port of pods.
pub(crate) fn tcp(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number.into(),
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(number.into())),
        // WebSockets need no protocol of their own with it.
        app_protocol: match name {
            "http" => Some("http".into()),
            "https" => Some("https".into()),
            _ => None,
        },
        node_port: None,
    }
}

pub(crate) fn udp(name: &str, number: u16) -> ServicePort {
    ServicePort { protocol: Some("UDP".into()), app_protocol: None, ..tcp(name, number) }
}

/// What new sessions are sent to: HTTP always, RTMP at origins, their TLS forms where there is a certificate.
fn session_ports(has_rtmp: bool, has_certificate: bool) -> Vec<ServicePort> {
    let mut ports = vec![tcp("http", port::HTTP)];
    if has_certificate {
        ports.push(tcp("https", port::HTTPS));
    }
    if has_rtmp {
        ports.push(tcp("rtmp", port::RTMP));
        if has_certificate {
            ports.push(tcp("rtmps", port::RTMPS));
        }
    }
    ports
}

fn inside(selector: Labels, ports: Vec<ServicePort>) -> Option<ServiceSpec> {
    Some(ServiceSpec {
        type_: Some("ClusterIP".into()),
        selector: Some(selector),
        ports: Some(ports),
        ..ServiceSpec::default()
    })
}

const ACCEPTING: (&str, &str) = (names::ACCEPTING, "true");

pub(crate) fn new_sessions(pool: &Pool) -> Service {
    let ports = session_ports(pool.role() == Role::Origin, pool.cluster().certificate().is_some());
    Service {
        metadata: meta::of_pool(pool, pool.name().to_owned()),
        spec: inside(meta::pool_selector(pool, &[ACCEPTING]), ports),
        status: None,
    }
}

/// Every pod by name, ready or not: for tools, and for Prometheus, which finds it by a label of its own.
pub(crate) fn headless(pool: &Pool) -> Service {
    let mut metadata = meta::of_pool(pool, names::headless_service(pool.name()));
    if let Some(labels) = &mut metadata.labels {
        labels.insert(names::METRICS.into(), "true".into());
    }
    let mut ports = session_ports(pool.role() == Role::Origin, pool.cluster().certificate().is_some());
    ports.push(tcp("cluster", port::CLUSTER));
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(meta::pool_selector(pool, &[])),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// UDP goes to draining pods as well: kube-proxy forgets the way of packets to a pod that leaves the selector.
pub(crate) fn media(pool: &Pool) -> Service {
    Service {
        metadata: meta::of_pool(pool, names::media_service(pool.name())),
        spec: inside(meta::pool_selector(pool, &[]), vec![udp("srt", port::SRT), udp("rtc", port::RTC)]),
        status: None,
    }
}

pub(crate) fn watch(cluster: &Cluster, has_edges: bool) -> Service {
    let role = if has_edges { Role::Edge } else { Role::Origin };
    Service {
        metadata: meta::of_cluster(cluster, names::watch_service(cluster.name())),
        spec: inside(
            meta::role_selector(cluster, role, &[ACCEPTING]),
            session_ports(false, cluster.certificate().is_some()),
        ),
        status: None,
    }
}

pub(crate) fn publish(cluster: &Cluster) -> Service {
    Service {
        metadata: meta::of_cluster(cluster, names::publish_service(cluster.name())),
        spec: inside(
            meta::role_selector(cluster, Role::Origin, &[ACCEPTING]),
            session_ports(true, cluster.certificate().is_some()),
        ),
        status: None,
    }
}

/// The name of the Service that SRT from a Gateway goes to.
pub(crate) fn publish_media_name(cluster: &Cluster) -> String {
    format!("{}-media", names::publish_service(cluster.name()))
}

pub(crate) fn publish_media(cluster: &Cluster) -> Option<Service> {
    let wanted = cluster.exposure().gateway.as_ref().is_some_and(|gateway| !gateway.srt.is_empty());
    wanted.then(|| Service {
        metadata: meta::of_cluster(cluster, publish_media_name(cluster)),
        spec: inside(meta::role_selector(cluster, Role::Origin, &[]), vec![udp("srt", port::SRT)]),
        status: None,
    })
}
