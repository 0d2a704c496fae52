//! Tests of the whole: samples, rules over random specs, wrong specs, who reaches what.

mod autoscaling;
mod facts;
mod generations;
mod golden;
mod outside;
mod random;
mod reach;
mod restricted;
mod revisions;
mod selectors;
mod wrong;

use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_crds::{EdgePool, MediaCluster, OriginPool};

use crate::{Cluster, Invalid, Pinned, Pool, Served, Site};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn pinned() -> Pinned {
    Pinned { version: "0.1.0".into(), name_prefix: "pinned-".into() }
}

fn site() -> Site {
    Site {
        operator_namespace: "sluice-system".into(),
        operator_ca_pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        cluster_domain: "cluster.local".into(),
    }
}

/// Every kind is served, the newer ones in an older version.
fn served() -> Served {
    let alpha = || Some("v1alpha2".to_owned());
    Served {
        http_route: Some("v1".into()),
        tcp_route: alpha(),
        udp_route: alpha(),
        tls_route: alpha(),
        service_monitor: true,
        prometheus_rule: true,
        certificate: true,
    }
}

/// A resource as the API server gives it, from its spec.
fn resource<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    let value = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": name, "namespace": "media", "uid": format!("uid-of-{name}") },
        "spec": spec,
    });
    serde_json::from_value(value).expect("a spec that the schema takes")
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn cluster_resource(more: Value) -> MediaCluster {
    let mut spec = json!({ "database": { "external": { "secret": { "name": "demo-database" } } } });
    merge(&mut spec, more);
    resource("MediaCluster", "demo", spec)
}

fn cluster_with(more: Value) -> Result<Cluster, Vec<Invalid>> {
    Cluster::new(&cluster_resource(more), &pinned())
}

fn cluster() -> Cluster {
    cluster_with(json!({})).expect("right")
}

fn pool_spec(more: Value) -> Value {
    let mut spec = json!({ "clusterRef": { "name": "demo" } });
    merge(&mut spec, more);
    spec
}

fn origins_of(cluster: &Cluster, more: Value) -> Result<Pool, Vec<Invalid>> {
    Pool::new(&resource::<OriginPool>("OriginPool", "demo-origin", pool_spec(more)), cluster)
}

fn origins_with(more: Value) -> Result<Pool, Vec<Invalid>> {
    origins_of(&cluster(), more)
}

fn origins(more: Value) -> Pool {
    origins_with(more).expect("right")
}

fn edges(more: Value) -> Pool {
    Pool::new(&resource::<EdgePool>("EdgePool", "demo-edge", pool_spec(more)), &cluster()).expect("right")
}
