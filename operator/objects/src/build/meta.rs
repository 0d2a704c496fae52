//! Names, labels, selectors and owners.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::{DynamicObject, TypeMeta};
use serde_json::{Value, json};
use sluice_crds::names::{self, standard};
use sluice_crds::pool::Role;
use sluice_crds::{GROUP, VERSION};

use crate::{Cluster, Pool};

pub(crate) type Labels = BTreeMap<String, String>;

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The owner of what is made of `resource`. It is never waited for: an object of a pool must not keep the pool from going.
pub(crate) fn owner<K: Resource>(resource: &K, kind: &str) -> OwnerReference {
    let meta = resource.meta();
    OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

pub(crate) fn cluster_labels(cluster: &Cluster) -> Labels {
    labels(&[
        (standard::NAME, standard::NODE),
        (standard::INSTANCE, cluster.name()),
        (standard::MANAGED_BY, standard::OPERATOR),
        (names::CLUSTER, cluster.name()),
    ])
}

pub(crate) fn pool_labels(pool: &Pool) -> Labels {
    let mut all = cluster_labels(pool.cluster());
    all.extend(labels(&[
        (standard::COMPONENT, pool.role().as_str()),
        (names::POOL, pool.name()),
        (names::ROLE, pool.role().as_str()),
    ]));
    all
}

pub(crate) fn of_cluster(cluster: &Cluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace().to_owned()),
        labels: Some(cluster_labels(cluster)),
        owner_references: Some(vec![cluster.owner().clone()]),
        ..ObjectMeta::default()
    }
}

pub(crate) fn of_pool(pool: &Pool, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(pool.namespace().to_owned()),
        labels: Some(pool_labels(pool)),
        owner_references: Some(vec![pool.owner().clone()]),
        ..ObjectMeta::default()
    }
}

/// Selects pods of a pool.
pub(crate) fn pool_selector(pool: &Pool, more: &[(&str, &str)]) -> Labels {
    let mut all = labels(&[(names::CLUSTER, pool.cluster().name()), (names::POOL, pool.name())]);
    all.extend(labels(more));
    all
}

/// Selects pods of one role of a cluster.
pub(crate) fn role_selector(cluster: &Cluster, role: Role, more: &[(&str, &str)]) -> Labels {
    let mut all = labels(&[(names::CLUSTER, cluster.name()), (names::ROLE, role.as_str())]);
    all.extend(labels(more));
    all
}

pub(crate) fn selector(labels: Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

/// An object of a kind that is not Kubernetes' own.
pub(crate) fn dynamic(api_version: &str, kind: &str, metadata: ObjectMeta, spec: Value) -> DynamicObject {
    DynamicObject {
        types: Some(TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() }),
        metadata,
        data: json!({ "spec": spec }),
    }
}
