//! Objects for Prometheus' operator: where metrics are, and alerts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use sluice_crds::cluster::Switch;
use sluice_crds::names;

use super::{meta, routes::Served};
use crate::Cluster;

const API: &str = "monitoring.coreos.com/v1";

/// The spec's labels by which Prometheus selects, and ours over them.
fn metadata(cluster: &Cluster) -> ObjectMeta {
    let mut metadata = meta::of_cluster(cluster, cluster.name().to_owned());
    let mut labels = cluster.monitoring().labels.clone();
    labels.extend(metadata.labels.take().unwrap_or_default());
    metadata.labels = Some(labels);
    metadata
}

pub(crate) fn service_monitor(cluster: &Cluster, served: &Served) -> Option<DynamicObject> {
    if !served.service_monitor || cluster.monitoring().service_monitor == Switch::Disabled {
        return None;
    }
    let token = cluster.admin_token();
    let spec = json!({
        "selector": { "matchLabels": { names::CLUSTER: cluster.name(), names::METRICS: "true" } },
        "podTargetLabels": [names::CLUSTER, names::POOL, names::ROLE],
        "endpoints": [{
            "port": "http",
            "path": "/metrics",
            "interval": cluster.monitoring().interval,
            "authorization": { "type": "Bearer", "credentials": { "name": token.name, "key": token.key } },
        }],
    });
    Some(meta::dynamic(API, "ServiceMonitor", metadata(cluster), spec))
}

pub(crate) fn prometheus_rule(cluster: &Cluster, served: &Served) -> Option<DynamicObject> {
    if !served.prometheus_rule || cluster.monitoring().prometheus_rule == Switch::Disabled {
        return None;
    }
    let group = format!("sluice-{}-{}", cluster.namespace(), cluster.name());
    let rules: Vec<Value> = alerts(cluster).into_iter().map(Alert::rule).collect();
    let spec = json!({ "groups": [{ "name": group, "rules": rules }] });
    Some(meta::dynamic(API, "PrometheusRule", metadata(cluster), spec))
}

struct Alert {
    name: &'static str,
    expr: String,
    lasts: &'static str,
    severity: &'static str,
    summary: &'static str,
    description: &'static str,
}

impl Alert {
    fn rule(self) -> Value {
        json!({
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasts,
            "labels": { "severity": self.severity },
            "annotations": { "summary": self.summary, "description": self.description },
        })
    }
}

/// The alerts. Processor and memory are measured against what the container may use, or else has reserved, which kube-state-metrics
/// knows; where it is not installed these two stay silent.
fn alerts(cluster: &Cluster) -> Vec<Alert> {
    let of = format!("namespace=\"{}\",sluice_dev_cluster=\"{}\"", cluster.namespace(), cluster.name());
    let node = |resource: &str| {
        let may = |what: &str| {
            format!(
                "max by (namespace, pod) (kube_pod_container_resource_{what}{{namespace=\"{}\",container=\"{}\",resource=\"{resource}\"}})",
                cluster.namespace(),
                names::CONTAINER,
            )
        };
        format!("({} or {})", may("limits"), may("requests"))
    };
    vec![
        Alert {
            name: "SluiceNodeDown",
            expr: format!("up{{{of}}} == 0"),
            lasts: "1m",
            severity: "critical",
            summary: "{{ $labels.pod }} does not answer",
            description: "Its metrics cannot be read. `kubectl describe pod` says why; publishers and viewers go to other nodes.",
        },
        Alert {
            name: "SluiceNodeCpuHigh",
            expr: format!(
                "sum by (namespace, pod) (rate(sluice_process_cpu_seconds_total{{{of}}}[5m])) / {} > 0.8",
                node("cpu")
            ),
            lasts: "5m",
            severity: "warning",
            summary: "{{ $labels.pod }} uses more than 80 % of its processors",
            description: "Add pods to its pool, or give its pods more.",
        },
        Alert {
            name: "SluiceNodeMemoryHigh",
            expr: format!(
                "max by (namespace, pod) (sluice_process_resident_memory_bytes{{{of}}}) / {} > 0.85",
                node("memory")
            ),
            lasts: "5m",
            severity: "warning",
            summary: "{{ $labels.pod }} uses more than 85 % of its memory",
            description: "It is killed at its limit, and its streams with it: add pods to its pool, or give its pods more.",
        },
        Alert {
            name: "SluiceStoreSlow",
            expr: format!(
                "histogram_quantile(0.99, sum by (namespace, pod, le) (rate(sluice_store_call_seconds_bucket{{{of}}}[5m]))) > 0.1"
            ),
            lasts: "5m",
            severity: "warning",
            summary: "{{ $labels.pod }} waits more than 100 ms for its database",
            description: "One call in a hundred takes longer. Streams go on; what is new waits.",
        },
        Alert {
            name: "SluiceStoreAway",
            expr: format!("sluice_store_away_seconds{{{of}}} > 30"),
            lasts: "1m",
            severity: "critical",
            summary: "{{ $labels.pod }} cannot reach its database",
            description: "Streams and viewers go on; publishers on new nodes and changes by REST wait for it.",
        },
        Alert {
            name: "SluiceMembersUnreachable",
            expr: format!("sluice_cluster_members{{{of},state=\"unreachable\"}} > 0"),
            lasts: "2m",
            severity: "warning",
            summary: "{{ $labels.pod }} hears of nodes that it cannot reach",
            description: "The network between pods lets the cluster port (5000) through only in part, or is cut.",
        },
        Alert {
            name: "SluiceDrainLong",
            expr: format!("sluice_accepting{{{of}}} == 0"),
            lasts: "6h",
            severity: "warning",
            summary: "{{ $labels.pod }} has taken no new sessions for six hours",
            description: "It drains, or was drained by hand and forgotten: `kubectl describe` of its pool says what it waits for.",
        },
        Alert {
            name: "SluicePublishersRefused",
            expr: format!(
                "sum by (namespace, pod, reason) (rate(sluice_publishers_refused_total{{{of}}}[10m])) > 0.1"
            ),
            lasts: "10m",
            severity: "warning",
            summary: "{{ $labels.pod }} refuses publishers: {{ $labels.reason }}",
            description: "More than six in a minute, for ten minutes.",
        },
        Alert {
            name: "SluiceStreamsInterrupted",
            expr: format!("sluice_streams_interrupted{{{of}}} > 0"),
            lasts: "10m",
            severity: "warning",
            summary: "Publishers to {{ $labels.pod }} lose their connection again and again",
            description: "For ten minutes there was always a stream that waited for its publisher: look at the networks between.",
        },
    ]
}
