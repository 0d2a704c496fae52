//! A pool as it is built from: its spec, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use sluice_crds::PoolKind;
use sluice_crds::common::{Exposure, ExposureMode, StringMap};
use sluice_crds::names::{self, port};
use sluice_crds::pool::{
    Drain, DrainPolicy, Gpu, GpuMode, Placement, PoolExposure, PoolSpec, Resources, Role, Rollout, Storage,
};

use crate::autoscaling::Scaling;
use crate::build::{config, meta};
use crate::check;
use crate::check::raw::Template;
use crate::cluster::{Cluster, identity};
use crate::invalid::{Invalid, Problems};

/// Endings of names that Services of other pools and of clusters have: a pool named so could take the Service of another.
const TAKEN_ENDINGS: [&str; 7] = ["-headless", "-media", "-rtmp", "-srt", "-webrtc", "-watch", "-publish"];

/// A pool as it is built from: everything in it was checked.
#[derive(Clone, Debug)]
pub struct Pool {
    name: String,
    role: Role,
    owner: OwnerReference,
    cluster: Cluster,
    spec: PoolSpec,
    version: String,
    group: String,
    deadline: Duration,
    progress_deadline: Duration,
    template: Template,
    storage: Option<Storage>,
    scaling: Option<Scaling>,
    restarted_at: Option<String>,
}

impl Pool {
    /// Checks a pool's spec.
    ///
    /// # Errors
    /// Everything that is wrong with it, by field.
    pub fn new<K: PoolKind>(resource: &K, cluster: &Cluster) -> Result<Pool, Vec<Invalid>> {
        let mut problems = Problems::default();
        let (name, namespace) = identity(&mut problems, resource);
        let spec = resource.pool();
        if let Some(ending) = TAKEN_ENDINGS.iter().find(|ending| name.ends_with(**ending)) {
            let problem = format!(
                "may not end with {ending}: Services of pools and clusters are named so. Make the pool under another name"
            );
            problems.say("metadata.name", problem);
        }
        problems.unless(
            spec.cluster_ref.name == cluster.name() && namespace == cluster.namespace(),
            "spec.clusterRef.name",
            "names another MediaCluster than the one that is at hand",
        );
        problems.unless((0..=1000).contains(&spec.replicas), "spec.replicas", "is from 0 to 1000");
        let version = spec.version.clone().unwrap_or_else(|| cluster.version().into());
        problems.unless(check::tag(&version), "spec.version", "is no tag of an image");
        let group = spec.group.clone().unwrap_or_else(|| name.clone());
        problems.unless(
            (1..=64).contains(&group.len())
                && group.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')),
            "spec.group",
            "has 1 to 64 letters, digits, '-', '_' and '.'",
        );
        let capacity = &spec.capacity;
        for (field, value) in [("streams", capacity.streams), ("viewers", capacity.viewers)] {
            problems.unless(
                value.is_none_or(|value| (1..=1_000_000).contains(&value)),
                &format!("spec.capacity.{field}"),
                "is from 1 to 1000000",
            );
        }
        gpu(&mut problems, &spec.gpu);
        resources(&mut problems, &spec.resources, &spec.gpu);
        placement(&mut problems, &spec.placement);
        config(&mut problems, &spec.config);
        let deadline = drain(&mut problems, &spec.drain);
        let progress_deadline = rollout(&mut problems, &spec.rollout);
        exposures(&mut problems, &spec.exposure, cluster.certificate().is_some());
        let scaling = Scaling::read(&mut problems, spec, K::ROLE);
        let template = Template::read(&spec.pod_template, &mut problems);
        if let Some(Storage { size, storage_class_name, deletion_policy: _ }) = resource.storage() {
            problems.unless(
                check::quantity(&size.0).is_some_and(|size| size > 0.0),
                "spec.storage.size",
                "is a size such as 100Gi",
            );
            if let Some(class) = storage_class_name {
                problems.unless(
                    check::subdomain(class),
                    "spec.storage.storageClassName",
                    "is no name of a StorageClass",
                );
            }
        }
        problems.none()?;
        Ok(Pool {
            owner: meta::owner(resource, K::KIND),
            name,
            role: K::ROLE,
            cluster: cluster.clone(),
            spec: spec.clone(),
            version,
            group,
            deadline,
            progress_deadline,
            template,
            storage: resource.storage().cloned(),
            scaling,
            restarted_at: resource
                .meta()
                .annotations
                .as_ref()
                .and_then(|all| all.get(names::RESTARTED_AT).cloned()),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.cluster.namespace()
    }

    /// What its pods are for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How many pods are to take new sessions.
    pub fn replicas(&self) -> u32 {
        u32::try_from(self.spec.replicas).unwrap_or_default()
    }

    /// How it follows its load; `None` when the number of its pods is fixed.
    pub fn scaling(&self) -> Option<&Scaling> {
        self.scaling.as_ref()
    }

    /// The version of its nodes.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// After how long a drain ends whatever is left.
    pub fn drain_deadline(&self) -> Duration {
        self.deadline
    }

    /// What a drain waits for.
    pub fn drain_policy(&self) -> DrainPolicy {
        self.spec.drain.policy
    }

    /// How pods are replaced.
    pub fn rollout(&self) -> &Rollout {
        &self.spec.rollout
    }

    /// How long a new pod may take until it accepts, before its rollout halts.
    pub fn progress_deadline(&self) -> Duration {
        self.progress_deadline
    }

    /// A volume for each pod.
    pub fn storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    /// Whether its pods use ports of the machine, which only the Pod Security level `privileged` admits.
    pub fn uses_host_ports(&self) -> bool {
        let PoolExposure { rtmp, srt, webrtc } = &self.spec.exposure;
        [rtmp, srt, webrtc].iter().any(|exposure| exposure.mode == ExposureMode::HostPort)
    }

    /// The value of `status.selector`: its pods that are not draining. No other pool's selector is the same.
    pub fn selector(&self) -> String {
        let labels =
            meta::pool_selector(self, &[(names::ROLE, self.role.as_str()), (names::STATE, "active")]);
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn owner(&self) -> &OwnerReference {
        &self.owner
    }

    pub(crate) fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn restarted_at(&self) -> Option<&str> {
        self.restarted_at.as_deref()
    }

    /// The port of the machine for RTMPS: its own, where there is a certificate and RTMP has its own as well. The spec has no other for
    /// it.
    pub(crate) fn rtmps_host_port(&self) -> Option<u16> {
        let rtmp = Pool::host_port(&self.spec.exposure.rtmp, port::RTMP);
        (rtmp == Some(port::RTMP) && self.cluster.certificate().is_some()).then_some(port::RTMPS)
    }

    /// The port of the machine for a protocol, when it has one.
    pub(crate) fn host_port(exposure: &Exposure, own: u16) -> Option<u16> {
        (exposure.mode == ExposureMode::HostPort).then(|| exposure.host_port.unwrap_or(own))
    }
}

fn gpu(problems: &mut Problems, gpu: &Gpu) {
    let Gpu {
        mode,
        resource_name,
        count,
        products,
        max_encode_sessions,
        resource_claim_template_name,
        runtime_class_name,
    } = gpu;
    let mut only = |field: &str, given: bool, with: GpuMode, problem: &str| {
        problems.unless(!given || *mode == with, &format!("spec.gpu.{field}"), problem);
    };
    let extended = GpuMode::ExtendedResource;
    only("resourceName", resource_name.is_some(), extended, "needs mode ExtendedResource");
    only("count", count.is_some(), extended, "needs mode ExtendedResource");
    only("products", !products.is_empty(), extended, "needs mode ExtendedResource");
    problems.unless(
        max_encode_sessions.is_none() || *mode != GpuMode::None,
        "spec.gpu.maxEncodeSessions",
        "needs a GPU: set mode",
    );
    problems.unless(
        resource_claim_template_name.is_some() == (*mode == GpuMode::ResourceClaim),
        "spec.gpu.resourceClaimTemplateName",
        "is needed with mode ResourceClaim, and only there",
    );
    if let Some(name) = resource_name {
        problems.unless(
            name.contains('/') && check::qualified(name),
            "spec.gpu.resourceName",
            "is a resource of a device plugin, such as nvidia.com/gpu",
        );
    }
    problems.unless(count.is_none_or(|count| (1..=16).contains(&count)), "spec.gpu.count", "is from 1 to 16");
    for (index, product) in products.iter().enumerate() {
        problems.unless(
            !product.is_empty() && check::label_value(product),
            &format!("spec.gpu.products[{index}]"),
            "is no value of a label (see the label nvidia.com/gpu.product of your machines)",
        );
    }
    for (field, name) in [
        ("resourceClaimTemplateName", resource_claim_template_name),
        ("runtimeClassName", runtime_class_name),
    ] {
        if let Some(name) = name {
            problems.unless(check::subdomain(name), &format!("spec.gpu.{field}"), "is no name of an object");
        }
    }
}

fn resources(problems: &mut Problems, resources: &Resources, gpu: &Gpu) {
    let Resources { requests, limits } = resources;
    for (list, amounts) in [("requests", requests), ("limits", limits)] {
        for (name, amount) in amounts {
            let field = format!("spec.resources.{list}[{name}]");
            problems.unless(check::qualified(name), &field, "is no name of a resource");
            problems.unless(
                check::quantity(&amount.0).is_some_and(|amount| amount >= 0.0),
                &field,
                "is no amount: write 500m, 2 or 4Gi",
            );
            problems.unless(
                gpu.mode != GpuMode::ExtendedResource || *name != config::gpu_resource(gpu),
                &field,
                "is set by spec.gpu as well: keep it there",
            );
        }
    }
    for (name, request) in requests {
        let limit = limits.get(name).and_then(|limit| check::quantity(&limit.0));
        let request = check::quantity(&request.0);
        problems.unless(
            !matches!((request, limit), (Some(request), Some(limit)) if request > limit),
            &format!("spec.resources.requests[{name}]"),
            "is more than the limit: lower it, or raise the limit",
        );
    }
}

fn placement(problems: &mut Problems, placement: &Placement) {
    let Placement { node_selector, affinity: _, tolerations, spread, priority_class_name } = placement;
    check::labels(problems, "spec.placement.nodeSelector", node_selector);
    for (index, toleration) in tolerations.iter().enumerate() {
        let field = format!("spec.placement.tolerations[{index}]");
        let exists = toleration.operator.as_deref() == Some("Exists");
        problems.unless(
            toleration.key.as_deref().is_some_and(|key| !key.is_empty()) || exists,
            &format!("{field}.key"),
            "is needed, unless operator is Exists (then every taint is meant)",
        );
        problems.unless(
            !exists || toleration.value.as_deref().unwrap_or_default().is_empty(),
            &format!("{field}.value"),
            "has no meaning with operator Exists: leave it out",
        );
        problems.unless(
            toleration
                .effect
                .as_deref()
                .is_none_or(|effect| ["", "NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect)),
            &format!("{field}.effect"),
            "is NoSchedule, PreferNoSchedule or NoExecute",
        );
    }
    for (index, constraint) in spread.iter().enumerate() {
        let field = format!("spec.placement.spread[{index}]");
        problems.unless(constraint.max_skew > 0, &format!("{field}.maxSkew"), "is at least 1");
        problems.unless(
            check::qualified(&constraint.topology_key),
            &format!("{field}.topologyKey"),
            "is no key of a label",
        );
        problems.unless(
            ["DoNotSchedule", "ScheduleAnyway"].contains(&&*constraint.when_unsatisfiable),
            &format!("{field}.whenUnsatisfiable"),
            "is DoNotSchedule or ScheduleAnyway",
        );
    }
    if let Some(class) = priority_class_name {
        let field = "spec.placement.priorityClassName";
        problems.unless(check::subdomain(class), field, "is no name of a PriorityClass");
    }
}

fn config(problems: &mut Problems, given: &StringMap) {
    for (key, value) in given {
        let field = format!("spec.config[{key}]");
        let shaped = !key.is_empty()
            && key.len() <= 64
            && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        problems.unless(shaped, &field, "is no key of a setting: see the configuration reference");
        problems.unless(
            !config::is_ours(key),
            &field,
            "is set by the operator itself: identity, role, addresses, store, keys, tokens and certificates come from other fields, \
             max_streams and max_viewers from capacity, node_group from group, drain_deadline, drain_waits_for and shutdown_timeout from drain",
        );
        problems.unless(
            key != "rtc_turn_password",
            &field,
            "would be read by whoever reads the pool: mount a Secret with podTemplate.volumes and podTemplate.volumeMounts, and set \
             rtc_turn_password_file to its path",
        );
        problems.unless(value.len() <= 4096, &field, "has at most 4096 characters");
        problems.unless(!value.contains('\0'), &field, "may not contain a zero character");
    }
    let late = given.get("stop_delay").and_then(|text| check::seconds(text));
    problems.unless(
        late.is_none_or(|late| late <= config::STOP_DELAY.as_secs_f64()),
        "spec.config[stop_delay]",
        "is at most 15s: a pod is killed half a minute after its drain deadline",
    );
}

fn drain(problems: &mut Problems, drain: &Drain) -> Duration {
    let Drain { deadline, policy: _ } = drain;
    let read = check::duration(deadline);
    problems.unless(
        read.is_some_and(|read| (10..=48 * 3600).contains(&read.as_secs())),
        "spec.drain.deadline",
        "is from 10s to 48h, such as 30m or 4h",
    );
    read.unwrap_or_default()
}

fn rollout(problems: &mut Problems, rollout: &Rollout) -> Duration {
    let Rollout { max_surge, max_unavailable, paused: _, progress_deadline } = rollout;
    let (max_surge, max_unavailable) = (*max_surge, *max_unavailable);
    let deadline = check::duration(progress_deadline);
    problems.unless(
        deadline.is_some_and(|deadline| (60..=24 * 3600).contains(&deadline.as_secs())),
        "spec.rollout.progressDeadline",
        "is from 1m to 24h, such as 10m",
    );
    problems.unless((0..=100).contains(&max_surge), "spec.rollout.maxSurge", "is from 0 to 100");
    problems.unless((0..=100).contains(&max_unavailable), "spec.rollout.maxUnavailable", "is from 0 to 100");
    problems.unless(
        max_surge > 0 || max_unavailable > 0,
        "spec.rollout",
        "maxSurge and maxUnavailable may not both be 0: no pod could ever be replaced",
    );
    deadline.unwrap_or_default()
}

fn exposures(problems: &mut Problems, exposure: &PoolExposure, has_certificate: bool) {
    let PoolExposure { rtmp, srt, webrtc } = exposure;
    for (name, one) in [("rtmp", rtmp), ("srt", srt), ("webrtc", webrtc)] {
        exposed(problems, &format!("spec.exposure.{name}"), one);
    }
    problems.unless(
        rtmp.node_port.is_none() || rtmp.node_port != srt.node_port,
        "spec.exposure.srt.nodePort",
        "must differ from that of rtmp",
    );
    problems.unless(
        webrtc.node_port.is_none(),
        "spec.exposure.webrtc.nodePort",
        "cannot be set: each pod has a node port of its own, which Kubernetes chooses",
    );
    // RTMP is TCP, SRT is UDP, WebRTC is both.
    let ports: BTreeMap<&str, Option<u16>> = BTreeMap::from([
        ("rtmp", Pool::host_port(rtmp, port::RTMP)),
        ("srt", Pool::host_port(srt, port::SRT)),
        ("webrtc", Pool::host_port(webrtc, port::RTC)),
    ]);
    for (a, b) in [("srt", "webrtc"), ("rtmp", "webrtc")] {
        let same = ports[a].is_some() && ports[a] == ports[b];
        problems.unless(
            !same,
            &format!("spec.exposure.{b}.hostPort"),
            &format!("must differ from that of {a}: WebRTC uses UDP and TCP"),
        );
    }
    problems.unless(
        !(has_certificate && ports["rtmp"] == Some(port::RTMP) && ports["webrtc"] == Some(port::RTMPS)),
        "spec.exposure.webrtc.hostPort",
        "must differ from 1936, which RTMPS has",
    );
}

fn exposed(problems: &mut Problems, field: &str, exposure: &Exposure) {
    let Exposure { mode, load_balancer_class, source_ranges, addresses, annotations, node_port, host_port } =
        exposure;
    use ExposureMode::{HostPort, LoadBalancer, NodePort};
    let mut only = |name: &str, given: bool, with: &[ExposureMode], problem: &str| {
        problems.unless(!given || with.contains(mode), &format!("{field}.{name}"), problem);
    };
    only("loadBalancerClass", load_balancer_class.is_some(), &[LoadBalancer], "needs mode LoadBalancer");
    only("sourceRanges", !source_ranges.is_empty(), &[LoadBalancer], "needs mode LoadBalancer");
    only("addresses", !addresses.is_empty(), &[LoadBalancer], "needs mode LoadBalancer");
    let services = &[LoadBalancer, NodePort];
    only("annotations", !annotations.is_empty(), services, "needs mode LoadBalancer or NodePort");
    only("nodePort", node_port.is_some(), services, "needs mode NodePort or LoadBalancer");
    only("hostPort", host_port.is_some(), &[HostPort], "needs mode HostPort");
    if let Some(class) = load_balancer_class {
        let field = format!("{field}.loadBalancerClass");
        problems.unless(
            check::qualified(class),
            &field,
            "is no class of a load balancer: write `domain/name`",
        );
    }
    for (index, range) in source_ranges.iter().enumerate() {
        let field = format!("{field}.sourceRanges[{index}]");
        problems.unless(range.parse::<IpNet>().is_ok(), &field, "is no network such as 203.0.113.0/24");
    }
    for (index, address) in addresses.iter().enumerate() {
        let good = address.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified());
        problems.unless(good, &format!("{field}.addresses[{index}]"), "is no address that clients can reach");
    }
    check::keys(problems, &format!("{field}.annotations"), annotations);
    for (name, value) in [("nodePort", node_port), ("hostPort", host_port)] {
        problems.unless(*value != Some(0), &format!("{field}.{name}"), "is from 1 to 65535");
    }
}
