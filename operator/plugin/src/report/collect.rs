//! What a report is about: which kinds of objects, of which names, and which Secrets they use.

use std::collections::BTreeSet;

use kube::api::ApiResource;
use serde_json::{Value, json};
use sluice_crds::names;

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural }
}

/// Objects that belong to clusters, by their label `sluice.dev/cluster`.
pub(super) const OWNED: &[Kind] = &[
    kind("", "v1", "Pod", "pods"),
    kind("", "v1", "Service", "services"),
    kind("", "v1", "ConfigMap", "configmaps"),
    kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    kind("", "v1", "ServiceAccount", "serviceaccounts"),
    kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    kind("networking.k8s.io", "v1", "Ingress", "ingresses"),
    kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    kind("gateway.networking.k8s.io", "v1", "TCPRoute", "tcproutes"),
    kind("gateway.networking.k8s.io", "v1", "TLSRoute", "tlsroutes"),
    kind("gateway.networking.k8s.io", "v1", "UDPRoute", "udproutes"),
    kind("cert-manager.io", "v1", "Certificate", "certificates"),
    kind("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    kind("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
];

/// Objects of the operator, by their label `app.kubernetes.io/name`.
pub(super) const OPERATORS: &[Kind] = &[
    kind("apps", "v1", "Deployment", "deployments"),
    kind("apps", "v1", "ReplicaSet", "replicasets"),
    kind("", "v1", "Pod", "pods"),
    kind("", "v1", "Service", "services"),
    kind("", "v1", "ConfigMap", "configmaps"),
    kind("", "v1", "ServiceAccount", "serviceaccounts"),
    kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
];

/// The kinds of Sluice.
pub(super) const OURS: &[Kind] = &[
    kind(sluice_crds::GROUP, sluice_crds::VERSION, "MediaCluster", "mediaclusters"),
    kind(sluice_crds::GROUP, sluice_crds::VERSION, "OriginPool", "originpools"),
    kind(sluice_crds::GROUP, sluice_crds::VERSION, "EdgePool", "edgepools"),
];

/// Events.
pub(super) const EVENTS: Kind = kind("", "v1", "Event", "events");

/// Machines.
pub(super) const MACHINES: Kind = kind("", "v1", "Node", "nodes");

/// Definitions.
pub(super) const DEFINITIONS: Kind =
    kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");

/// Leases.
pub(super) const LEASES: Kind = kind("coordination.k8s.io", "v1", "Lease", "leases");

impl Kind {
    /// For requests.
    pub(super) fn resource(self) -> ApiResource {
        ApiResource {
            group: self.group.into(),
            version: self.version.into(),
            api_version: if self.group.is_empty() {
                self.version.into()
            } else {
                format!("{}/{}", self.group, self.version)
            },
            kind: self.kind.into(),
            plural: self.plural.into(),
        }
    }

    /// `pods`, `ingresses.networking.k8s.io`: as kubectl and roles name it.
    pub(super) fn name(self) -> String {
        if self.group.is_empty() { self.plural.into() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// The names of all Secrets that objects refer to, wherever the reference stands.
pub(super) fn secrets_used(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let referred = match (name.as_str(), field) {
                    ("secretName", Value::String(secret)) => Some(secret.as_str()),
                    (
                        "secretKeyRef" | "secretRef" | "secret" | "clusterKey" | "adminToken",
                        Value::Object(reference),
                    ) => reference.get("name").and_then(Value::as_str),
                    _ => None,
                };
                found.extend(referred.filter(|secret| !secret.is_empty()).map(Into::into));
                if matches!(name.as_str(), "imagePullSecrets" | "pullSecrets") {
                    let items = field.as_array().into_iter().flatten();
                    found.extend(
                        items.filter_map(|item| item.get("name").and_then(Value::as_str)).map(Into::into),
                    );
                }
                secrets_used(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secrets_used(item, found)),
        _ => {}
    }
}

/// The Secrets that are made for a cluster.
pub(super) fn secrets_made(cluster: &str) -> [String; 2] {
    [names::cluster_key_secret(cluster), names::admin_token_secret(cluster)]
}

/// What is told of a Secret: its keys and how long their values are.
pub(super) fn about_secret(name: &str, kind: &str, immutable: bool, data: &[(&str, &[u8])]) -> Value {
    let keys: Vec<Value> =
        data.iter().map(|(entry, value)| json!({ "entry": entry, "bytes": value.len() })).collect();
    json!({ "name": name, "type": kind, "immutable": immutable, "holds": keys })
}

/// Whether an event is about one of these: the clusters and pools, what belongs to them, and pods of the pools that are gone.
pub(super) fn concerns(
    event: &Value,
    objects: &BTreeSet<(String, String)>,
    pools: &BTreeSet<String>,
) -> bool {
    let about = event.get("involvedObject").or_else(|| event.get("regarding"));
    let field =
        |field: &str| about.and_then(|about| about.get(field)).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (field("kind"), field("name"));
    objects.contains(&(kind.to_owned(), name.to_owned()))
        || (kind == "Pod" && pools.iter().any(|pool| names::slot(pool, name).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_secrets_are_found() {
        let pod = json!({
            "spec": {
                "imagePullSecrets": [{ "name": "registry" }],
                "containers": [{
                    "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "by-env", "key": "k" } } }],
                    "envFrom": [{ "secretRef": { "name": "by-env-from" } }],
                }],
                "volumes": [
                    { "name": "a", "secret": { "secretName": "by-volume" } },
                    { "name": "b", "projected": { "sources": [{ "secret": { "name": "by-projection" } }] } },
                ],
            }
        });
        let cluster = json!({
            "spec": {
                "database": { "external": { "secret": { "name": "demo-database" } } },
                "security": { "clusterKey": { "name": "mine" }, "tls": { "secretName": "cert" } },
                "image": { "pullSecrets": [{ "name": "pull" }] },
            }
        });
        let mut found = BTreeSet::new();
        secrets_used(&pod, &mut found);
        secrets_used(&cluster, &mut found);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(
            found,
            [
                "by-env",
                "by-env-from",
                "by-projection",
                "by-volume",
                "cert",
                "demo-database",
                "mine",
                "pull",
                "registry"
            ]
        );
    }

    #[test]
    fn a_secret_is_told_without_its_values() {
        let about = about_secret("s", "Opaque", true, &[("uri", b"mongodb://u:p@h")]);
        assert_eq!(
            about,
            json!({ "name": "s", "type": "Opaque", "immutable": true, "holds": [{ "entry": "uri", "bytes": 15 }] })
        );
    }

    #[test]
    fn events_of_others_are_left_out() {
        let objects = BTreeSet::from([("Service".into(), "demo-edge".into())]);
        let pools = BTreeSet::from(["demo-edge".into()]);
        let event = |kind: &str, name: &str| json!({ "involvedObject": { "kind": kind, "name": name } });
        assert!(concerns(&event("Service", "demo-edge"), &objects, &pools));
        assert!(concerns(&event("Pod", "demo-edge-17"), &objects, &pools));
        assert!(!concerns(&event("Pod", "demo-edge-17-x"), &objects, &pools));
        assert!(!concerns(&event("Pod", "wiki-0"), &objects, &pools));
        assert!(!concerns(&event("Deployment", "demo-edge"), &objects, &pools));
        assert!(!concerns(&json!({}), &objects, &pools));
    }

    #[test]
    fn kinds_are_named_as_roles_name_them() {
        assert_eq!(EVENTS.name(), "events");
        assert_eq!(OURS[0].name(), "mediaclusters.sluice.dev");
        assert_eq!(OURS[0].resource().api_version, "sluice.dev/v1alpha1");
        assert_eq!(MACHINES.resource().api_version, "v1");
    }
}
