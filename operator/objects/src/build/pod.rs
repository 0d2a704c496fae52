//! The pod of a slot.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, LocalObjectReference,
    ObjectFieldSelector, Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_crds::names::{self, port};
use sluice_crds::pool::{PoolExposure, Resources, Role};
use sluice_crds::quantity::Quantities;

use super::{config, gpu, meta, placement, revision, volumes};
use crate::{Pool, USER, paths};

/// How long a node has to end that a probe has given up, in seconds. The pod's own grace is for drains: a node that hangs would keep
/// its sessions waiting for hours.
const RESTART_GRACE: i64 = 30;

/// The pod of a slot, built as the `generation` of the template does; [`TEMPLATE`](crate::TEMPLATE) is the newest.
///
/// It begins with `sluice.dev/busy` and without `sluice.dev/accepting`: it is protected from eviction before it may be sent anybody,
/// and nobody is sent to it before its node says that it accepts.
pub fn pod(pool: &Pool, slot: u32, generation: i64) -> Pod {
    let name = names::pod(pool.name(), slot);
    let mut metadata = meta::of_pool(pool, name.clone());
    let mut labels = pool.template().labels.clone();
    labels.extend(meta::pool_labels(pool));
    labels.extend(meta::labels(&[
        (names::POD, &name),
        (names::REVISION, &revision::revision(pool, generation)),
        (names::ACCEPTING, "false"),
        (names::BUSY, "true"),
        (names::STATE, "active"),
    ]));
    metadata.labels = Some(labels);
    let mut annotations = pool.template().annotations.clone();
    annotations.insert(names::TEMPLATE.into(), generation.to_string());
    for (key, value) in protection(pool, true) {
        annotations.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    }
    metadata.annotations = Some(annotations);
    Pod { metadata, spec: Some(spec(pool, &name, generation)), status: None }
}

/// The annotations by which autoscalers of machines leave a busy pod's machine alone; a pod that is not busy has none of them. What the
/// spec gives its pods stays as it is there. They are no part of a pod's revision.
pub fn protection(pool: &Pool, busy: bool) -> Vec<(&'static str, Option<&'static str>)> {
    let theirs = &pool.template().annotations;
    [(names::SAFE_TO_EVICT, "false"), (names::DO_NOT_DISRUPT, "true")]
        .into_iter()
        .filter(|(key, _)| !theirs.contains_key(*key))
        .map(|(key, value)| (key, busy.then_some(value)))
        .collect()
}

fn spec(pool: &Pool, name: &str, generation: i64) -> PodSpec {
    let cluster = pool.cluster();
    let placement = &pool.spec().placement;
    let grace = pool.drain_deadline() + config::GRACE;
    let mut containers = vec![node(pool)];
    containers.extend(pool.template().sidecars.iter().cloned().map(restricted));
    let init: Vec<Container> = pool.template().init_containers.iter().cloned().map(restricted).collect();
    let pull: Vec<_> = cluster
        .image()
        .pull_secrets
        .iter()
        .map(|secret| LocalObjectReference { name: secret.name.clone() })
        .collect();
    PodSpec {
        containers,
        init_containers: (!init.is_empty()).then_some(init),
        volumes: Some(volumes::volumes(pool, name, generation)),
        image_pull_secrets: (!pull.is_empty()).then_some(pull),
        service_account_name: Some(names::service_account(cluster.name())),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Always".into()),
        termination_grace_period_seconds: Some(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // A volume with many recordings would take long to walk through at each start.
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        affinity: Some(placement::affinity(pool)),
        tolerations: placement::tolerations(pool, generation),
        topology_spread_constraints: placement::spread(pool),
        node_selector: (!placement.node_selector.is_empty()).then(|| placement.node_selector.clone()),
        priority_class_name: placement.priority_class_name.clone(),
        runtime_class_name: pool.spec().gpu.runtime_class_name.clone(),
        resource_claims: gpu::claims(&pool.spec().gpu),
        ..PodSpec::default()
    }
}

fn node(pool: &Pool) -> Container {
    let cluster = pool.cluster();
    let mut container = Container {
        name: names::CONTAINER.into(),
        image: Some(format!("{}:{}", cluster.image().repository, pool.version())),
        image_pull_policy: Some(cluster.image().pull_policy.as_str().into()),
        args: Some(vec!["run".into()]),
        env: Some(environment()),
        ports: Some(ports(pool)),
        resources: resources(&pool.spec().resources),
        volume_mounts: Some(volumes::mounts(pool)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(no_capabilities()),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        startup_probe: Some(Probe {
            termination_grace_period_seconds: Some(RESTART_GRACE),
            ..http("/healthz", 2, 3, 90)
        }),
        readiness_probe: Some(http("/readyz", 5, 3, 3)),
        // A node at its limits answers 503 to whoever asks over HTTP, probes included; killing it for that would cut everybody.
        liveness_probe: Some(Probe {
            tcp_socket: Some(TCPSocketAction { port: IntOrString::String("http".into()), host: None }),
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(6),
            termination_grace_period_seconds: Some(RESTART_GRACE),
            ..Probe::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    };
    gpu::equip(&mut container, &pool.spec().gpu);
    if container.resources.as_ref().is_some_and(|resources| *resources == ResourceRequirements::default()) {
        container.resources = None;
    }
    let env = container.env.get_or_insert_default();
    for theirs in &pool.template().env {
        env.retain(|one| one.name != theirs.name);
        env.push(theirs.clone());
    }
    container
}

fn environment() -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.into() }),
            ..EnvVarSource::default()
        }),
    };
    vec![
        EnvVar { name: "SLUICE_CONFIG".into(), value: Some(paths::CONFIG.into()), value_from: None },
        field("POD_NAME", "metadata.name"),
        field("POD_IP", "status.podIP"),
        field("NODE_NAME", "spec.nodeName"),
    ]
}

fn ports(pool: &Pool) -> Vec<ContainerPort> {
    let PoolExposure { rtmp, srt, webrtc } = &pool.spec().exposure;
    let mut all = Vec::new();
    let mut add = |name: &str, number: u16, protocol: &str, host_port: Option<u16>| {
        all.push(ContainerPort {
            name: Some(name.into()),
            container_port: number.into(),
            protocol: Some(protocol.into()),
            host_port: host_port.map(i32::from),
            host_ip: None,
        });
    };
    let has_certificate = pool.cluster().certificate().is_some();
    add("http", port::HTTP, "TCP", None);
    if has_certificate {
        add("https", port::HTTPS, "TCP", None);
    }
    let on_host = Pool::host_port(rtmp, port::RTMP);
    if pool.role() == Role::Origin || on_host.is_some() {
        add("rtmp", port::RTMP, "TCP", on_host);
    }
    let secure_on_host = pool.rtmps_host_port();
    if has_certificate && (pool.role() == Role::Origin || secure_on_host.is_some()) {
        add("rtmps", port::RTMPS, "TCP", secure_on_host);
    }
    add("cluster", port::CLUSTER, "TCP", None);
    if let Some(on_host) = Pool::host_port(srt, port::SRT) {
        add("srt", port::SRT, "UDP", Some(on_host));
    }
    if let Some(on_host) = Pool::host_port(webrtc, port::RTC) {
        add("rtc-udp", port::RTC, "UDP", Some(on_host));
        add("rtc-tcp", port::RTC, "TCP", Some(on_host));
    }
    all
}

fn resources(resources: &Resources) -> Option<ResourceRequirements> {
    let Resources { requests, limits } = resources;
    let amounts = |amounts: &Quantities| {
        let all = amounts.iter().map(|(name, amount)| (name.clone(), amount.into())).collect();
        (!amounts.is_empty()).then_some(all)
    };
    Some(ResourceRequirements { requests: amounts(requests), limits: amounts(limits), claims: None })
}

fn http(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("http".into()),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }
}

fn no_capabilities() -> Capabilities {
    Capabilities { add: None, drop: Some(vec!["ALL".into()]) }
}

/// A container of the spec runs under the restricted level too, unless it says otherwise.
fn restricted(mut container: Container) -> Container {
    let context = container.security_context.get_or_insert_default();
    if context.privileged != Some(true) {
        context.allow_privilege_escalation.get_or_insert(false);
        context.capabilities.get_or_insert_with(no_capabilities);
    }
    container
}
