//! Where WebRTC clients reach one pod: the candidates that its node gives them.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use sluice_crds::common::ExposureMode;
use sluice_crds::names::port;

use super::endpoints::balancer;
use crate::Pool;

/// The schema of the node's setting takes so many.
const MOST: usize = 16;

/// The candidates of a pod, as the node's setting `rtc_candidates` has them: `address:port`, with `/udp` or `/tcp` where they are not at
/// the same port. Empty while nothing is known: the node then tells the pod's own address, which leads there from inside the cluster,
/// and from a TURN server in it.
///
/// `service` is the pod's own (`<pod>-webrtc`), `machine` the one that it runs on. Of a load balancer only addresses count: names are not
/// resolved by all clients.
pub fn candidates(pool: &Pool, pod: &Pod, service: Option<&Service>, machine: Option<&Node>) -> String {
    let exposure = &pool.spec().exposure.webrtc;
    let status = pod.status.as_ref();
    let mut all = Vec::new();
    match exposure.mode {
        ExposureMode::None => return String::new(),
        ExposureMode::HostPort => {
            let port = Pool::host_port(exposure, port::RTC).unwrap_or(port::RTC);
            all.extend(addresses(pod, machine).into_iter().map(|address| at(&address, port.into(), "")));
        }
        ExposureMode::NodePort => {
            let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_ref());
            for (one, number) in ports.into_iter().flatten().filter_map(|one| Some((one, one.node_port?))) {
                let protocol = if one.protocol.as_deref() == Some("TCP") { "/tcp" } else { "/udp" };
                let of_machine = addresses(pod, machine);
                all.extend(of_machine.into_iter().map(|address| at(&address, number, protocol)));
            }
        }
        ExposureMode::LoadBalancer => {
            let is_address = |address: &String| address.parse::<std::net::IpAddr>().is_ok();
            let balanced = service.into_iter().flat_map(balancer).filter(is_address);
            all.extend(balanced.map(|address| at(&address, port::RTC.into(), "")));
        }
    }
    if all.is_empty() {
        return String::new();
    }
    all.truncate(MOST - 1);
    // From inside the cluster nothing else may lead there.
    all.extend(status.and_then(|status| status.pod_ip.as_deref()).map(|ip| at(ip, port::RTC.into(), "")));
    all.join(",")
}

fn at(address: &str, port: i32, protocol: &str) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}{protocol}")
    } else {
        format!("{address}:{port}{protocol}")
    }
}

/// The machine's addresses, those for the outside first.
fn addresses(pod: &Pod, machine: Option<&Node>) -> Vec<String> {
    let told = machine.and_then(|machine| machine.status.as_ref()?.addresses.as_ref());
    let mut all: Vec<String> = told
        .into_iter()
        .flatten()
        .filter(|one| one.type_ == "ExternalIP")
        .map(|one| one.address.clone())
        .collect();
    let inside = pod.status.as_ref().and_then(|status| status.host_ip.clone());
    all.extend(inside.filter(|inside| !all.contains(inside)));
    all
}
