//! How far the exposure of a pool is.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use sluice_crds::common::ExposureMode;
use sluice_crds::pool::{PoolExposure, PoolSpec};
use sluice_objects::{Pool, Seen};

/// By what a pool is reached, as far as that is not in its status: addresses of load balancers, machines of pods. When it changes, the
/// cluster's endpoints may.
pub fn reached(services: &[Arc<Service>], pods: &[Arc<Pod>]) -> String {
    let mut all: Vec<String> = services
        .iter()
        .map(|service| {
            let ports = service.spec.as_ref().map(|spec| &spec.ports);
            let balancer = service.status.as_ref().map(|status| &status.load_balancer);
            format!("{:?} {ports:?} {balancer:?}", service.metadata.name)
        })
        .collect();
    all.extend(pods.iter().filter_map(|pod| pod.status.as_ref()?.host_ip.clone()));
    all.sort_unstable();
    all.dedup();
    sluice_crds::generate::short_hash(all.join("\n").as_bytes())
}

fn has_host_port(pod: &Pod) -> bool {
    let running = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    let mut ports = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.ports.iter().flatten());
    running && ports.any(|port| port.host_port.is_some())
}

/// What is in place (`Ok`) or waited for (`Err`), in a sentence; `None` when nothing is asked for.
pub fn exposed(
    spec: &PoolSpec,
    pool: &Pool,
    services: &[Arc<Service>],
    pods: &[Arc<Pod>],
) -> Option<Result<String, String>> {
    let PoolExposure { rtmp, srt, webrtc } = &spec.exposure;
    let mut modes: Vec<&'static str> = Vec::new();
    let mut unserved: Vec<&'static str> = Vec::new();
    for (protocol, exposure) in [("RTMP", rtmp), ("SRT", srt), ("WebRTC", webrtc)] {
        if exposure.mode == ExposureMode::None {
            continue;
        }
        modes.push(protocol);
        if protocol == "SRT" {
            unserved.push(protocol);
        }
    }
    if modes.is_empty() {
        return None;
    }
    let services: Vec<Service> = services.iter().map(|service| (**service).clone()).collect();
    let mut waits = sluice_objects::waiting(&[], &Seen { services: &services, ..Seen::default() });
    waits.extend(
        unserved.iter().map(|protocol| {
            format!("{protocol} is exposed, but the nodes of this version do not serve it yet")
        }),
    );
    if pool.uses_host_ports() && !pods.iter().any(|pod| has_host_port(pod)) {
        waits.push("no pod of the pool has a port of its machine yet".into());
    }
    let privileged = if pool.uses_host_ports() {
        ". Pods use ports of their machines, which only a namespace with the Pod Security level privileged admits"
    } else {
        ""
    };
    Some(if waits.is_empty() {
        Ok(format!("{} can be reached from outside{privileged}", modes.join(", ")))
    } else {
        Err(format!("{}{privileged}", waits.join("; ")))
    })
}
