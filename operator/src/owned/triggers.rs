//! Whose turn a change makes it. Pure but for the queues that it fills.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use sluice_crds::cluster::MediaClusterStatus;
use sluice_crds::names;
use sluice_crds::pool::{PoolKind, Role};
use sluice_crds::{GROUP, MediaCluster};

use super::{CacheEvent, ClusterRef, PoolRef, Stores};
use crate::queue::Queue;

/// The queues of the two controllers; cheap to clone.
#[derive(Clone, Default)]
pub struct Triggers {
    /// Of the clusters.
    pub clusters: Queue<ClusterRef>,
    /// Of the pools.
    pub pools: Queue<PoolRef>,
}

impl Triggers {
    /// Empty ones.
    pub fn new() -> Triggers {
        Triggers::default()
    }

    /// It is every object's turn.
    pub fn all(&self, stores: &Stores) {
        for cluster in stores.clusters.all() {
            self.cluster(cluster.meta(), None);
        }
        for pool in stores.origins.all() {
            self.pool(Role::Origin, pool.meta());
        }
        for pool in stores.edges.all() {
            self.pool(Role::Edge, pool.meta());
        }
    }

    /// A cluster changed: its own turn when that was not only its status, and its pools' when they may care.
    pub(super) fn cluster_changed(&self, stores: &Stores, event: CacheEvent<'_, MediaCluster>) {
        let (cluster, before) = match event {
            CacheEvent::Applied(cluster, before) => (cluster, before),
            CacheEvent::Deleted(cluster) => (cluster, None),
        };
        let asked = before.is_none_or(|before| asked_otherwise(before.meta(), cluster.meta()));
        if asked {
            self.cluster(cluster.meta(), None);
        }
        let told = before.is_none_or(|before| {
            without_counts(before.status.as_ref()) != without_counts(cluster.status.as_ref())
        });
        if asked || told {
            let (namespace, name) = names_of(cluster.meta());
            for pool in stores.origins.filter(namespace, |pool| pool.pool().cluster_ref.name == name) {
                self.pool(Role::Origin, pool.meta());
            }
            for pool in stores.edges.filter(namespace, |pool| pool.pool().cluster_ref.name == name) {
                self.pool(Role::Edge, pool.meta());
            }
        }
    }

    /// A pool changed: its own turn when that was not only its status, and its cluster's in any case.
    pub(super) fn pool_changed<K: PoolKind>(&self, event: CacheEvent<'_, K>) {
        let (pool, before) = match event {
            CacheEvent::Applied(pool, before) => (pool, before),
            CacheEvent::Deleted(pool) => (pool, None),
        };
        if before.is_none_or(|before| asked_otherwise(before.meta(), pool.meta())) {
            self.pool(K::ROLE, pool.meta());
        }
        self.cluster(pool.meta(), Some(&pool.pool().cluster_ref.name));
    }

    /// An owned object changed: its owner's turn.
    pub(super) fn owned_changed<K: Resource>(&self, event: CacheEvent<'_, K>) {
        let meta = match &event {
            CacheEvent::Applied(object, _) | CacheEvent::Deleted(object) => object.meta(),
        };
        for owner in owners(meta) {
            match owner {
                Owner::Cluster(cluster) => self.clusters.trigger(cluster),
                Owner::Pool(pool) => self.pools.trigger(pool),
            }
        }
    }

    /// A machine changed: it is the turn of those whose pods are there.
    pub(super) fn machine_changed(&self, stores: &Stores, name: &str) {
        for pod in stores.pods.all() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(name) {
                self.owned_changed(CacheEvent::Applied(&*pod, None));
            }
        }
    }

    fn cluster(&self, meta: &ObjectMeta, name: Option<&str>) {
        let (namespace, own) = names_of(meta);
        self.clusters.trigger(ClusterRef::new(namespace, name.unwrap_or(own)));
    }

    fn pool(&self, role: Role, meta: &ObjectMeta) {
        let (namespace, name) = names_of(meta);
        self.pools.trigger(PoolRef::new(role, namespace, name));
    }
}

fn names_of(meta: &ObjectMeta) -> (&str, &str) {
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Whether a person (or a tool) wants something else: spec, labels, annotations, deletion. A new status is none of it. An
/// object that was made anew under the same name has another uid.
fn asked_otherwise(before: &ObjectMeta, now: &ObjectMeta) -> bool {
    before.generation != now.generation
        || before.uid != now.uid
        || before.labels != now.labels
        || before.annotations != now.annotations
        || before.deletion_timestamp != now.deletion_timestamp
}

/// What pools look at in their cluster's status.
fn without_counts(status: Option<&MediaClusterStatus>) -> Option<MediaClusterStatus> {
    let mut status = status?.clone();
    status.streams = 0;
    status.viewers = 0;
    status.nodes = None;
    status.pools.clear();
    status.endpoints = Default::default();
    status.apps.clear();
    Some(status)
}

/// Who keeps an object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Cluster(ClusterRef),
    Pool(PoolRef),
}

/// Its controller; without one (a volume claim that is to stay), those that its labels name.
fn owners(meta: &ObjectMeta) -> Vec<Owner> {
    let (namespace, _) = names_of(meta);
    let controllers = meta.owner_references.iter().flatten().filter(|owner| {
        owner.controller == Some(true)
            && owner.api_version.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'))
    });
    let owners: Vec<Owner> = controllers
        .filter_map(|owner| match owner.kind.as_str() {
            "MediaCluster" => Some(Owner::Cluster(ClusterRef::new(namespace, &owner.name))),
            "OriginPool" => Some(Owner::Pool(PoolRef::new(Role::Origin, namespace, &owner.name))),
            "EdgePool" => Some(Owner::Pool(PoolRef::new(Role::Edge, namespace, &owner.name))),
            _ => None,
        })
        .collect();
    if !owners.is_empty() {
        return owners;
    }
    let label = |name| meta.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let pool = |role, name| Owner::Pool(PoolRef::new(role, namespace, name));
    match (label(names::POOL), label(names::ROLE).or_else(|| label(names::standard::COMPONENT))) {
        (Some(name), Some("origin")) => vec![pool(Role::Origin, name)],
        (Some(name), Some("edge")) => vec![pool(Role::Edge, name)],
        (Some(name), _) => vec![pool(Role::Origin, name), pool(Role::Edge, name)],
        (None, _) => {
            let cluster = label(names::CLUSTER).map(|name| Owner::Cluster(ClusterRef::new(namespace, name)));
            cluster.into_iter().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use sluice_crds::common::LocalRef;
    use sluice_crds::{EdgePool, EdgePoolSpec, PoolSpec};

    use super::*;
    use crate::owned::Cache;

    fn meta(name: &str, generation: i64) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("media".into()),
            name: Some(name.into()),
            generation: Some(generation),
            ..Default::default()
        }
    }

    fn cluster(generation: i64, status: MediaClusterStatus) -> MediaCluster {
        MediaCluster { metadata: meta("demo", generation), spec: Default::default(), status: Some(status) }
    }

    fn edge(name: &str, of: &str) -> EdgePool {
        let pool = PoolSpec { cluster_ref: LocalRef { name: of.into() }, ..Default::default() };
        EdgePool { metadata: meta(name, 1), spec: EdgePoolSpec { pool }, status: None }
    }

    fn counts(triggers: &Triggers) -> (usize, usize) {
        (triggers.clusters.len(), triggers.pools.len())
    }

    #[test]
    fn a_cluster_takes_its_own_pools_along_but_not_for_counts() {
        let stores =
            Stores { edges: Cache::of([edge("e1", "demo"), edge("e2", "other")]), ..Default::default() };
        let old = cluster(1, MediaClusterStatus { viewers: 1, ..Default::default() });
        for (new, expected) in [
            (cluster(1, MediaClusterStatus { viewers: 2, ..Default::default() }), (0, 0)),
            (cluster(1, MediaClusterStatus { version: Some("2".into()), ..Default::default() }), (0, 1)),
            (cluster(2, MediaClusterStatus { viewers: 1, ..Default::default() }), (1, 1)),
        ] {
            let triggers = Triggers::new();
            triggers.cluster_changed(&stores, CacheEvent::Applied(&new, Some(&old)));
            assert_eq!(counts(&triggers), expected, "{new:?}");
        }
        let triggers = Triggers::new();
        triggers.cluster_changed(&stores, CacheEvent::Deleted(&old));
        assert_eq!(counts(&triggers), (1, 1));
    }

    #[test]
    fn a_pools_status_is_its_clusters_matter() {
        let (old, mut new) = (edge("e1", "demo"), edge("e1", "demo"));
        new.status = Some(Default::default());
        let triggers = Triggers::new();
        triggers.pool_changed(CacheEvent::Applied(&new, Some(&old)));
        assert_eq!(counts(&triggers), (1, 0));
        new.metadata.annotations = Some([(names::RESTARTED_AT.to_owned(), "now".to_owned())].into());
        triggers.pool_changed(CacheEvent::Applied(&new, Some(&old)));
        assert_eq!(counts(&triggers), (1, 1));
    }

    #[test]
    fn owners_by_reference_then_by_label() {
        let reference = |kind: &str, api: &str| OwnerReference {
            api_version: api.into(),
            kind: kind.into(),
            name: "demo".into(),
            uid: "u".into(),
            controller: Some(true),
            ..Default::default()
        };
        let labels = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let owner_of = |references: Vec<OwnerReference>, pairs: &[(&str, &str)]| {
            let base = meta("x", 1);
            owners(&ObjectMeta { owner_references: Some(references), labels: labels(pairs), ..base })
        };
        let pool = |role, name| Owner::Pool(PoolRef::new(role, "media", name));
        let cluster = |name| Owner::Cluster(ClusterRef::new("media", name));
        assert_eq!(
            owner_of(vec![reference("EdgePool", "sluice.dev/v1alpha1")], &[]),
            [pool(Role::Edge, "demo")]
        );
        assert_eq!(
            owner_of(vec![reference("MediaCluster", "sluice.dev/v1")], &[(names::POOL, "p")]),
            [cluster("demo")]
        );
        // Another group's kind of the same name.
        assert_eq!(owner_of(vec![reference("EdgePool", "sluice.devil/v1")], &[]), []);
        assert_eq!(
            owner_of(vec![], &[(names::POOL, "p"), (names::standard::COMPONENT, "origin")]),
            [pool(Role::Origin, "p")]
        );
        assert_eq!(owner_of(vec![], &[(names::POOL, "p")]), [pool(Role::Origin, "p"), pool(Role::Edge, "p")]);
        assert_eq!(owner_of(vec![], &[(names::CLUSTER, "c")]), [cluster("c")]);
        assert_eq!(owner_of(vec![], &[]), []);
    }
}
