//! How far the exposure of a pool is.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use sluice_crds::common::ExposureMode;
use sluice_crds::pool::{PoolExposure, PoolSpec};
use sluice_objects::{Pool, Seen};

/// What is in place (`Ok`) or waited for (`Err`), in a sentence; `None` when nothing is asked for.
pub fn exposed(spec: &PoolSpec, pool: &Pool, services: &[Arc<Service>]) -> Option<Result<String, String>> {
    let PoolExposure { rtmp, srt, webrtc } = &spec.exposure;
    let mut modes: Vec<&'static str> = Vec::new();
    let mut unserved: Vec<&'static str> = Vec::new();
    for (protocol, exposure) in [("RTMP", rtmp), ("SRT", srt), ("WebRTC", webrtc)] {
        if exposure.mode == ExposureMode::None {
            continue;
        }
        modes.push(protocol);
        if protocol != "RTMP" {
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
