//! What there is: clusters, pools, pods and the operator's Lease, read once.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use sluice_crds::names::{self, standard};
use sluice_crds::{EdgePool, MediaCluster, OriginPool};

use crate::args::Target;
use crate::failure::{Asked, Failure};
use crate::session::Session;

/// The Lease by which operators agree who works.
pub(crate) const OPERATOR_LEASE: &str = "sluice-operator";

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) clusters: Vec<MediaCluster>,
    pub(crate) origins: Vec<OriginPool>,
    pub(crate) edges: Vec<EdgePool>,
    /// `None`: they may not be read.
    pub(crate) pods: Option<Vec<Pod>>,
    /// What could not be read, and why.
    pub(crate) notes: Vec<String>,
}

/// Selects the pods of all pools.
pub(crate) fn pods_selector() -> String {
    format!("{}={}", standard::NAME, standard::NODE)
}

impl Snapshot {
    /// Reads clusters, pools and pods of the session's namespace. Without the right to read pods it is told in the notes.
    pub(crate) async fn read(session: &Session) -> Result<Snapshot, Failure> {
        let namespace = session.namespace.as_deref();
        let (clusters, origins, edges) =
            (session.api(namespace), session.api(namespace), session.api(namespace));
        let pods: Api<Pod> = session.api(namespace);
        let selector = pods_selector();
        let (clusters, origins, edges, pods) = tokio::join!(
            session.list::<MediaCluster>(&clusters, "mediaclusters.sluice.dev", namespace, ""),
            session.list::<OriginPool>(&origins, "originpools.sluice.dev", namespace, ""),
            session.list::<EdgePool>(&edges, "edgepools.sluice.dev", namespace, ""),
            session.list::<Pod>(&pods, "pods", namespace, &selector),
        );
        let mut snapshot =
            Snapshot { clusters: clusters?, origins: origins?, edges: edges?, pods: None, notes: Vec::new() };
        match pods {
            Ok(pods) => snapshot.pods = Some(pods),
            Err(failure) if failure.is_partial() => snapshot.notes.push(failure.in_short()),
            Err(failure) => return Err(failure),
        }
        Ok(snapshot)
    }

    /// Leaves the one cluster, its pools and pods.
    pub(crate) fn only(mut self, cluster: &str, session: &Session) -> Result<Snapshot, Failure> {
        let mut there: Vec<String> = self.clusters.iter().map(ResourceExt::name_any).collect();
        if !there.iter().any(|name| name == cluster) {
            there.sort();
            return Err(no_cluster(Some(cluster), session.namespace.as_deref(), &there));
        }
        self.clusters.retain(|one| one.name_any() == cluster);
        self.origins.retain(|one| one.spec.pool.cluster_ref.name == cluster);
        self.edges.retain(|one| one.spec.pool.cluster_ref.name == cluster);
        if let Some(pods) = &mut self.pods {
            pods.retain(|pod| label(pod, names::CLUSTER) == Some(cluster));
        }
        Ok(self)
    }
}

/// The sentence for a cluster that is not there, or for none at all.
pub(crate) fn no_cluster(cluster: Option<&str>, namespace: Option<&str>, there: &[String]) -> Failure {
    let place =
        namespace.map_or_else(|| "any namespace".into(), |namespace| format!("namespace {namespace}"));
    let elsewhere = if namespace.is_some() { ": choose another with -n, or all with -A" } else { "" };
    let known: Vec<&str> = there.iter().take(10).map(String::as_str).collect();
    Failure::NotFound(match cluster {
        Some(cluster) if !known.is_empty() => {
            format!("there is no MediaCluster {cluster} in {place}; there is {}", known.join(", "))
        }
        Some(cluster) => format!("there is no MediaCluster {cluster} in {place}{elsewhere}"),
        None => format!("there is no MediaCluster in {place}{elsewhere}"),
    })
}

/// A label of a pod.
pub(crate) fn label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// An annotation of a pod.
pub(crate) fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether a pod is one that the operator made for a pool.
pub(crate) fn is_ours(pod: &Pod) -> bool {
    label(pod, standard::NAME) == Some(standard::NODE)
        && label(pod, standard::MANAGED_BY) == Some(standard::OPERATOR)
        && label(pod, names::POOL).is_some()
}

/// Whether a pod's condition `Ready` is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The selector of the pods that are meant.
pub(crate) fn selector(target: &Target) -> String {
    let mut selector = pods_selector();
    if let Some(cluster) = &target.cluster {
        selector.push_str(&format!(",{}={cluster}", names::CLUSTER));
    }
    if let Some(pool) = &target.pool {
        selector.push_str(&format!(",{}={pool}", names::POOL));
    }
    selector
}

/// The pods that are meant; an error that names what is missing when there are none.
pub(crate) async fn pods(session: &Session, target: &Target) -> Result<Vec<Pod>, Failure> {
    if let Some(name) = &target.pod {
        let namespace = &session.own_namespace;
        let api: Api<Pod> = session.api(Some(namespace));
        let pod = session.ask(Asked::one("get", "pods", namespace, name), api.get(name)).await?;
        if !is_ours(&pod) {
            return Err(not_ours(namespace, name));
        }
        return Ok(vec![pod]);
    }
    let namespace = session.namespace.as_deref();
    let api: Api<Pod> = session.api(namespace);
    let mut found = session.list(&api, "pods", namespace, &selector(target)).await?;
    found.retain(is_ours);
    if found.is_empty() {
        return Err(nothing(session, target).await);
    }
    found.sort_by_key(|pod| (pod.namespace(), pod.name_any()));
    Ok(found)
}

/// Why there are no pods: the cluster or pool may not be there, or have none.
async fn nothing(session: &Session, target: &Target) -> Failure {
    let namespace = session.namespace.as_deref();
    let place =
        namespace.map_or_else(|| "any namespace".into(), |namespace| format!("namespace {namespace}"));
    if let Some(pool) = &target.pool {
        return Failure::NotFound(format!("there are no pods of a pool {pool} in {place}"));
    }
    let clusters: Api<MediaCluster> = session.api(namespace);
    match session.list(&clusters, "mediaclusters.sluice.dev", namespace, "").await {
        Err(failure) => failure,
        Ok(clusters) => {
            let names: Vec<String> = clusters.iter().map(ResourceExt::name_any).collect();
            match &target.cluster {
                Some(cluster) if names.contains(cluster) => Failure::NotFound(format!(
                    "MediaCluster {cluster} has no pods: see kubectl sluice status {cluster}"
                )),
                None if !names.is_empty() => {
                    Failure::NotFound(format!("the MediaClusters in {place} have no pods"))
                }
                cluster => no_cluster(cluster.as_deref(), namespace, &names),
            }
        }
    }
}

/// The sentence for a pod of somebody else.
pub(crate) fn not_ours(namespace: &str, pod: &str) -> Failure {
    Failure::Refused(format!(
        "pod {pod} in namespace {namespace} is not one of Sluice's: it belongs to no pool"
    ))
}

/// How the operator is, by its Lease.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub(crate) enum Operator {
    /// It renews its Lease.
    Running {
        /// The pod that holds the Lease.
        holder: String,
    },
    /// Nobody does.
    Down {
        /// For how many seconds, when it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<i64>,
    },
    /// The Lease may not be read, or is not there.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Operator {
    /// Reads the Lease.
    pub(crate) async fn read(session: &Session, now: Timestamp) -> Result<Operator, Failure> {
        let namespace = &session.operator_namespace;
        let leases: Api<Lease> = session.api(Some(namespace));
        let asked = Asked::one("get", "leases.coordination.k8s.io", namespace, OPERATOR_LEASE);
        match session.ask(asked, leases.get(OPERATOR_LEASE)).await {
            Ok(lease) => Ok(Operator::of(&lease, now)),
            Err(Failure::NotFound(_)) => Ok(Operator::Unknown {
                reason: format!(
                    "there is no Lease {OPERATOR_LEASE} in namespace {namespace}: it has never run there, or runs elsewhere (see \
                     --operator-namespace)"
                ),
            }),
            Err(failure) if failure.is_partial() => Ok(Operator::Unknown { reason: failure.in_short() }),
            Err(failure) => Err(failure),
        }
    }

    /// What a Lease says. This machine's clock is compared with the cluster's, so a minute is allowed for their difference.
    pub(crate) fn of(lease: &Lease, now: Timestamp) -> Operator {
        let Some(spec) = &lease.spec else { return Operator::Down { seconds: None } };
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let Some(renewed) = &spec.renew_time else { return Operator::Down { seconds: None } };
        let age = now.duration_since(renewed.0).as_secs();
        let lasts = i64::from(spec.lease_duration_seconds.unwrap_or(15));
        if age > lasts.saturating_mul(3).max(60) {
            Operator::Down { seconds: Some(age) }
        } else if holder.is_empty() {
            Operator::Down { seconds: None }
        } else {
            Operator::Running { holder }
        }
    }

    /// A sentence, when something is to be said.
    pub(crate) fn note(&self) -> Option<String> {
        match self {
            Operator::Running { .. } => None,
            Operator::Down { seconds } => Some(format!(
                "The operator is not running{}: streams go on, but nothing is repaired, and counts and messages of clusters and pools \
                 are old.",
                seconds
                    .map(|seconds| format!(" (its Lease is {} old)", crate::duration::short(seconds)))
                    .unwrap_or_default()
            )),
            Operator::Unknown { reason } => {
                Some(format!("Whether the operator runs is not known: {reason}."))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn lease(holder: &str, renewed: &str) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(renewed.parse().unwrap())),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_lease_tells_whether_the_operator_runs() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let running = Operator::of(&lease("op-1", "2026-01-01T00:09:55Z"), now);
        assert_eq!(running, Operator::Running { holder: "op-1".into() });
        assert_eq!(running.note(), None);
        // A clock that is a little ahead or behind is no outage.
        assert_eq!(Operator::of(&lease("op-1", "2026-01-01T00:10:30Z"), now), running);
        assert_eq!(Operator::of(&lease("op-1", "2026-01-01T00:09:01Z"), now), running);
        let down = Operator::of(&lease("op-1", "2026-01-01T00:05:00Z"), now);
        assert_eq!(down, Operator::Down { seconds: Some(300) });
        assert!(down.note().unwrap().contains("5m old"));
        // Given up when it ended cleanly.
        assert_eq!(Operator::of(&lease("", "2026-01-01T00:09:55Z"), now), Operator::Down { seconds: None });
        assert_eq!(Operator::of(&Lease::default(), now), Operator::Down { seconds: None });
    }

    #[test]
    fn a_cluster_that_is_not_there_is_named_with_those_that_are() {
        let text = no_cluster(Some("dmeo"), Some("media"), &["demo".into()]).to_string();
        assert_eq!(text, "there is no MediaCluster dmeo in namespace media; there is demo");
        let text = no_cluster(None, Some("default"), &[]).to_string();
        assert_eq!(
            text,
            "there is no MediaCluster in namespace default: choose another with -n, or all with -A"
        );
        assert_eq!(no_cluster(None, None, &[]).to_string(), "there is no MediaCluster in any namespace");
    }

    #[test]
    fn a_target_becomes_a_selector() {
        let target = Target { cluster: Some("demo".into()), ..Target::default() };
        assert_eq!(selector(&target), "app.kubernetes.io/name=sluice-node,sluice.dev/cluster=demo");
        let target = Target { pool: Some("edge".into()), ..Target::default() };
        assert_eq!(selector(&target), "app.kubernetes.io/name=sluice-node,sluice.dev/pool=edge");
    }
}
