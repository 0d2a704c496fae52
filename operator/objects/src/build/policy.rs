//! Who reaches the ports of a cluster's pods.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_crds::names::{self, port, standard};

use super::meta::{self, labels, selector};
use crate::{Cluster, Site};

/// The label that Kubernetes sets on every namespace: its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// Ports that are for everybody.
const OPEN: [(u16, &str); 7] = [
    (port::HTTP, "TCP"),
    (port::HTTPS, "TCP"),
    (port::RTMP, "TCP"),
    (port::RTMPS, "TCP"),
    (port::SRT, "UDP"),
    (port::RTC, "UDP"),
    (port::RTC, "TCP"),
];

/// One policy over all pods of the cluster: what is for publishers and viewers is open, the cluster port is for the cluster's own pods
/// and the operator. What pods connect to is not limited.
pub(crate) fn policies(cluster: &Cluster, site: &Site) -> Vec<NetworkPolicy> {
    if !cluster.network_policy() {
        return Vec::new();
    }
    let number = |(number, protocol): (u16, &str)| NetworkPolicyPort {
        port: Some(IntOrString::Int(number.into())),
        protocol: Some(protocol.into()),
        end_port: None,
    };
    // Without a namespace selector pods of this namespace are meant.
    let members =
        NetworkPolicyPeer { pod_selector: Some(selector(nodes(cluster))), ..NetworkPolicyPeer::default() };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(selector(labels(&[(NAMESPACE, &site.operator_namespace)]))),
        pod_selector: Some(selector(labels(&[(standard::NAME, standard::OPERATOR)]))),
        ip_block: None,
    };
    vec![NetworkPolicy {
        metadata: meta::of_cluster(cluster, format!("{}-nodes", cluster.name())),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(nodes(cluster))),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { from: None, ports: Some(OPEN.map(number).to_vec()) },
                NetworkPolicyIngressRule {
                    from: Some(vec![members, operator]),
                    ports: Some(vec![number((port::CLUSTER, "TCP"))]),
                },
            ]),
            egress: None,
        }),
    }]
}

fn nodes(cluster: &Cluster) -> meta::Labels {
    labels(&[(standard::NAME, standard::NODE), (names::CLUSTER, cluster.name())])
}
