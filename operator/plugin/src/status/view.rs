//! Clusters with their pools and pods, as they are shown: made of what was read, without a connection.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::ResourceExt;
use serde::Serialize;
use sluice_crds::cluster::Endpoint;
use sluice_crds::condition::{is_true, kind};
use sluice_crds::pool::PodStatus;
use sluice_crds::{MediaCluster, PoolKind, PoolStatus, names};

use crate::snapshot::{self, Operator, Snapshot, annotation, label};
use crate::streams::Stream;

/// All that `status` tells; its JSON form is for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    pub(crate) operator: Operator,
    pub(crate) clusters: Vec<ClusterView>,
    /// Pools whose cluster is not there.
    pub(crate) stray_pools: Vec<PoolView>,
    /// What could not be read.
    pub(crate) notes: Vec<String>,
}

/// A cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterView {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) phase: String,
    pub(crate) version: Option<String>,
    pub(crate) nodes: Option<String>,
    pub(crate) streams: i64,
    pub(crate) viewers: i64,
    pub(crate) message: Option<String>,
    pub(crate) age_seconds: Option<i64>,
    /// What is not as it should be, one sentence for each condition.
    pub(crate) problems: Vec<String>,
    pub(crate) publish: Vec<Endpoint>,
    pub(crate) watch: Vec<Endpoint>,
    pub(crate) pools: Vec<PoolView>,
}

/// A pool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolView {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) phase: String,
    pub(crate) desired: i32,
    pub(crate) ready: i32,
    pub(crate) draining: i32,
    pub(crate) streams: i64,
    pub(crate) viewers: i64,
    pub(crate) version: Option<String>,
    pub(crate) revision: Option<String>,
    /// What drains wait for, in short.
    pub(crate) waiting_for: Option<String>,
    /// With autoscaling: what the number of pods follows.
    pub(crate) metrics: Option<String>,
    pub(crate) message: Option<String>,
    /// What of its scaling somebody should look at, one sentence for each condition.
    pub(crate) problems: Vec<String>,
    pub(crate) age_seconds: Option<i64>,
    pub(crate) pods: Vec<PodView>,
}

/// A pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodView {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) ready: bool,
    pub(crate) machine: Option<String>,
    pub(crate) revision: Option<String>,
    /// `None`: the operator has not told.
    pub(crate) streams: Option<i64>,
    pub(crate) viewers: Option<i64>,
    /// When a drain ends whatever is left.
    pub(crate) deadline: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) age_seconds: Option<i64>,
    pub(crate) restarts: i32,
    /// With `--streams`: what the node carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) carried: Option<Vec<Stream>>,
}

/// Puts together what was read.
pub(crate) fn view(snapshot: &Snapshot, operator: Operator, now: Timestamp) -> View {
    let mut pods: BTreeMap<(String, String), Vec<&Pod>> = BTreeMap::new();
    for pod in snapshot.pods.iter().flatten().filter(|pod| snapshot::is_ours(pod)) {
        let pool = label(pod, names::POOL).unwrap_or_default().to_owned();
        pods.entry((pod.namespace().unwrap_or_default(), pool)).or_default().push(pod);
    }
    let known = snapshot.pods.is_some();
    let mut pools: Vec<PoolView> =
        snapshot.origins.iter().map(|pool| pool_view(pool, &pods, known, &operator, now)).collect();
    pools.extend(snapshot.edges.iter().map(|pool| pool_view(pool, &pods, known, &operator, now)));
    // Origins first, as a stream flows.
    pools.sort_by(|a, b| (&a.namespace, b.kind, &a.name).cmp(&(&b.namespace, a.kind, &b.name)));
    let mut clusters: Vec<ClusterView> =
        snapshot.clusters.iter().map(|cluster| cluster_view(cluster, now)).collect();
    clusters.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut stray_pools = Vec::new();
    for pool in pools {
        let home =
            clusters.iter_mut().find(|one| one.namespace == pool.namespace && one.name == pool.cluster);
        match home {
            Some(cluster) => cluster.pools.push(pool),
            None => stray_pools.push(pool),
        }
    }
    View { operator, clusters, stray_pools, notes: snapshot.notes.clone() }
}

fn age(meta: &ObjectMeta, now: Timestamp) -> Option<i64> {
    meta.creation_timestamp.as_ref().map(|made| now.duration_since(made.0).as_secs().max(0))
}

fn cluster_view(cluster: &MediaCluster, now: Timestamp) -> ClusterView {
    let status = cluster.status.clone().unwrap_or_default();
    let problems = problems(&status.conditions);
    let message = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind::READY && condition.status != "True")
        .map(|condition| condition.message.clone())
        .filter(|message| !message.is_empty());
    ClusterView {
        namespace: cluster.namespace().unwrap_or_default(),
        name: cluster.name_any(),
        phase: phase(status.phase.as_deref(), &cluster.metadata),
        version: status.version.or_else(|| cluster.spec.version.clone()),
        nodes: status.nodes,
        streams: status.streams,
        viewers: status.viewers,
        message: message.or_else(|| unseen(status.observed_generation, &cluster.metadata)),
        age_seconds: age(&cluster.metadata, now),
        problems,
        publish: status.endpoints.publish,
        watch: status.endpoints.watch,
        pools: Vec::new(),
    }
}

/// The phase, or what there is to say before there is one.
fn phase(phase: Option<&str>, meta: &ObjectMeta) -> String {
    match phase {
        _ if meta.deletion_timestamp.is_some() => "Terminating".into(),
        Some(phase) => phase.into(),
        None => "Unknown".into(),
    }
}

/// The sentence for a spec that the operator has not answered.
fn unseen(observed: Option<i64>, meta: &ObjectMeta) -> Option<String> {
    match (observed, meta.generation) {
        (None, _) => Some("the operator has not looked at it".into()),
        (Some(seen), Some(now)) if seen < now => {
            Some("the operator has not looked at its last change".into())
        }
        _ => None,
    }
}

/// Conditions that are not as they should be, but for `Ready`, whose message stands beside the cluster.
fn problems(conditions: &[Condition]) -> Vec<String> {
    conditions
        .iter()
        .filter(|condition| match condition.type_.as_str() {
            kind::DATABASE_READY | kind::EXPOSURE_READY | kind::APPS_READY => condition.status != "True",
            kind::DEGRADED => condition.status == "True",
            _ => false,
        })
        .map(|condition| format!("{} {}: {}", condition.type_, condition.status, condition.message))
        .collect()
}

/// What limits a pool's scaling and does not go by itself. Floors and the least number of pods are as somebody wants them.
fn limits(conditions: &[Condition]) -> Vec<String> {
    conditions
        .iter()
        .filter(|condition| match condition.type_.as_str() {
            kind::SCALING_LIMITED => {
                condition.status == "True"
                    && ["AtMaximum", "ReplicasZero", "ScaleInPaused"].contains(&condition.reason.as_str())
            }
            kind::METRICS_AVAILABLE => condition.status == "False",
            _ => false,
        })
        .map(|condition| format!("{} {}: {}", condition.type_, condition.reason, condition.message))
        .collect()
}

fn pool_view<P: PoolKind + ResourceExt>(
    pool: &P,
    pods: &BTreeMap<(String, String), Vec<&Pod>>,
    pods_known: bool,
    operator: &Operator,
    now: Timestamp,
) -> PoolView {
    let status = pool.status().cloned().unwrap_or_default();
    let namespace = pool.namespace().unwrap_or_default();
    let name = pool.name_any();
    let seen = pods.get(&(namespace.clone(), name.clone())).map(Vec::as_slice).unwrap_or_default();
    let mut views: Vec<PodView> = if pods_known {
        seen.iter().map(|pod| pod_view(pod, &status, operator, now)).collect()
    } else {
        status.pods.iter().map(told).collect()
    };
    views.sort_by(|a, b| (names::slot(&name, &a.name), &a.name).cmp(&(names::slot(&name, &b.name), &b.name)));
    let message = status.message.clone().filter(|message| !message.is_empty());
    let degraded = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind::DEGRADED && is_true(&status.conditions, kind::DEGRADED))
        .map(|condition| condition.message.clone());
    PoolView {
        kind: P::KIND,
        cluster: pool.pool().cluster_ref.name.clone(),
        phase: phase(status.phase.as_deref(), pool.meta()),
        // The operator keeps to the limits and floors of autoscaling, whatever is written.
        desired: if pool.pool().autoscaling.is_some() && status.observed_generation.is_some() {
            status.desired_replicas
        } else {
            pool.pool().replicas
        },
        ready: status.ready_replicas,
        draining: status.draining,
        streams: status.streams,
        viewers: status.viewers,
        version: status.version.clone().or_else(|| pool.pool().version.clone()),
        revision: status.revision.clone(),
        waiting_for: status.waiting_for.clone(),
        metrics: status.metrics.clone(),
        problems: limits(&status.conditions),
        message: message.or(degraded).or_else(|| unseen(status.observed_generation, pool.meta())),
        age_seconds: age(pool.meta(), now),
        pods: views,
        namespace,
        name,
    }
}

/// A pod that only the operator has told of.
fn told(pod: &PodStatus) -> PodView {
    PodView {
        name: pod.name.clone(),
        state: pod.state.clone(),
        ready: pod.state == "Ready",
        machine: pod.node.clone(),
        revision: pod.revision.clone(),
        streams: Some(pod.streams),
        viewers: Some(pod.viewers),
        deadline: pod.deadline.clone(),
        message: pod.message.clone(),
        age_seconds: None,
        restarts: 0,
        carried: None,
    }
}

fn pod_view(pod: &Pod, pool: &PoolStatus, operator: &Operator, now: Timestamp) -> PodView {
    let name = pod.name_any();
    let told = pool.pods.iter().find(|one| one.name == name);
    let (mut state, own_message) = own_state(pod);
    let mut message = own_message;
    if let Some(told) = told {
        // What only the operator knows; the rest the pod tells itself, and sooner.
        let fresh = !matches!(operator, Operator::Down { .. });
        if fresh && told.state == "Unreachable" && state == "Ready" {
            state = "Unreachable";
        }
        let knows_more = message.is_none() || (fresh && state == "Draining" && told.message.is_some());
        if knows_more && told.state == state {
            message = told.message.clone();
        }
    }
    let requested = annotation(pod, names::DRAIN).is_some() && state != "Draining" && state != "Terminating";
    if requested {
        message.get_or_insert_with(|| "a drain is asked for; the operator has not begun it".into());
    }
    PodView {
        ready: snapshot::is_ready(pod),
        state: state.into(),
        machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        revision: label(pod, names::REVISION).map(Into::into),
        streams: told.map(|told| told.streams),
        viewers: told.map(|told| told.viewers),
        deadline: annotation(pod, names::DRAIN_DEADLINE)
            .map(Into::into)
            .or_else(|| told.and_then(|told| told.deadline.clone())),
        message: message.filter(|message| !message.is_empty()),
        age_seconds: age(&pod.metadata, now),
        restarts: containers(pod).map(|container| container.restart_count).sum(),
        carried: None,
        name,
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

/// What a pod tells of itself: its state, and why it is not ready.
pub(crate) fn own_state(pod: &Pod) -> (&'static str, Option<String>) {
    let draining = label(pod, names::STATE) == Some("draining");
    let reason = annotation(pod, names::DRAIN_REASON).map(|reason| format!("drains: {reason}"));
    if pod.metadata.deletion_timestamp.is_some() {
        return ("Terminating", reason);
    }
    let status = pod.status.clone().unwrap_or_default();
    match status.phase.as_deref() {
        Some("Failed") => return ("Failed", status.message.or(status.reason)),
        Some("Succeeded") => return ("Failed", Some("its containers have ended".into())),
        _ => {}
    }
    if let Some(stopped) = containers(pod).find_map(stopped) {
        return (stopped.0, Some(stopped.1));
    }
    if status.phase.as_deref() == Some("Pending") {
        let unscheduled = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
            .and_then(|condition| condition.message.clone());
        return ("Pending", unscheduled);
    }
    if draining {
        return ("Draining", reason);
    }
    if snapshot::is_ready(pod) { ("Ready", None) } else { ("Starting", None) }
}

/// Why a container does not run, when that does not pass by itself.
fn stopped(container: &ContainerStatus) -> Option<(&'static str, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let mut why = format!("container {}: {reason}", container.name);
    if let Some(message) = &waiting.message {
        why.push_str(": ");
        why.push_str(message);
    }
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(ended) = ended {
        why.push_str(&format!(" (exit code {} before)", ended.exit_code));
    }
    Some((if reason == "CrashLoopBackOff" { "Failed" } else { "Pending" }, why))
}
