//! Services by which a pool is reached from outside the Kubernetes cluster.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use sluice_crds::common::{Exposure, ExposureMode};
use sluice_crds::names::{self, port};
use sluice_crds::pool::PoolExposure;

use super::meta::{self, Labels};
use super::service::{tcp, udp};
use crate::Pool;

/// `<pool>-rtmp`, `<pool>-srt`, and `<pod>-webrtc` for each of `pods`. Names of other pools' pods are passed over.
pub(crate) fn exposures(pool: &Pool, pods: &[String]) -> Vec<Service> {
    let PoolExposure { rtmp, srt, webrtc } = &pool.spec().exposure;
    let mut all = Vec::new();
    let accepting = meta::pool_selector(pool, &[(names::ACCEPTING, "true")]);
    let mut ports = vec![at(tcp("rtmp", port::RTMP), rtmp)];
    if pool.cluster().certificate().is_some() {
        ports.push(tcp("rtmps", port::RTMPS));
    }
    all.extend(shared(pool, "rtmp", rtmp, accepting, ports));
    // UDP: draining pods keep their callers, see the media Service.
    let every = meta::pool_selector(pool, &[]);
    all.extend(shared(pool, "srt", srt, every, vec![at(udp("srt", port::SRT), srt)]));
    let mut slots: Vec<(u32, &String)> =
        pods.iter().filter_map(|pod| Some((names::slot(pool.name(), pod)?, pod))).collect();
    slots.sort_unstable();
    slots.dedup();
    all.extend(slots.into_iter().filter_map(|(slot, pod)| webrtc_of(pool, webrtc, slot, pod)));
    all
}

fn at(mut port: ServicePort, exposure: &Exposure) -> ServicePort {
    port.node_port = exposure.node_port.map(i32::from);
    port
}

fn shared(
    pool: &Pool,
    protocol: &str,
    exposure: &Exposure,
    selector: Labels,
    ports: Vec<ServicePort>,
) -> Option<Service> {
    service(
        pool,
        format!("{}-{protocol}", pool.name()),
        exposure,
        exposure.addresses.first(),
        selector,
        ports,
    )
}

/// WebRTC's packets must reach the one pod that has the session, so each pod has a Service; the packets stay on the pod's machine.
fn webrtc_of(pool: &Pool, exposure: &Exposure, slot: u32, pod: &str) -> Option<Service> {
    let selector = meta::pool_selector(pool, &[(names::POD, pod)]);
    let ports = vec![udp("rtc-udp", port::RTC), tcp("rtc-tcp", port::RTC)];
    // An address is one pod's: the first is for slot 0, and so on.
    let address = exposure.addresses.get(slot as usize);
    let mut service = service(pool, format!("{pod}-webrtc"), exposure, address, selector, ports)?;
    if let Some(labels) = &mut service.metadata.labels {
        labels.insert(names::POD.into(), pod.to_owned());
    }
    if let Some(spec) = &mut service.spec {
        spec.external_traffic_policy = Some("Local".into());
    }
    Some(service)
}

fn service(
    pool: &Pool,
    name: String,
    exposure: &Exposure,
    address: Option<&String>,
    selector: Labels,
    ports: Vec<ServicePort>,
) -> Option<Service> {
    let kind = match exposure.mode {
        // Ports of the machine are a matter of the pod.
        ExposureMode::None | ExposureMode::HostPort => return None,
        ExposureMode::LoadBalancer => "LoadBalancer",
        ExposureMode::NodePort => "NodePort",
    };
    let mut metadata = meta::of_pool(pool, name);
    metadata.annotations = (!exposure.annotations.is_empty()).then(|| exposure.annotations.clone());
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    Some(Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.into()),
            selector: Some(selector),
            ports: Some(ports),
            load_balancer_class: exposure.load_balancer_class.clone(),
            load_balancer_source_ranges: some(&exposure.source_ranges),
            // Never an externalIP: every machine of the cluster would take packets for that address, whoever it belongs to.
            load_balancer_ip: address.cloned(),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}
