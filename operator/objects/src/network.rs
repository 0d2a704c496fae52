//! Evaluates NetworkPolicies as Kubernetes defines them, to prove who reaches what.
//!
//! Ingress only, since nothing here limits what pods connect to. A port by name is not resolved and admits nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Labels of a pod or a namespace.
pub type Labels = BTreeMap<String, String>;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// The labels of its namespace.
    pub namespace_labels: Labels,
    /// Its labels.
    pub labels: Labels,
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A pod of this Kubernetes cluster.
    Pod(Pod),
    /// Anybody else.
    Outside(IpAddr),
}

/// Whether `from` may connect to `port` of the pod `to`. `protocol` is `TCP`, `UDP` or `SCTP`.
///
/// A pod that no policy selects takes everybody; one that some select takes whom any of them lets in.
pub fn admits(policies: &[NetworkPolicy], from: &Peer, to: &Pod, port: u16, protocol: &str) -> bool {
    let mut isolated = false;
    for policy in
        policies.iter().filter(|policy| policy.metadata.namespace.as_deref() == Some(&*to.namespace))
    {
        let Some(NetworkPolicySpec { pod_selector, policy_types, ingress, egress: _ }) = &policy.spec else {
            continue;
        };
        let selected = pod_selector.as_ref().is_none_or(|selector| selects(selector, &to.labels));
        // Without types, ingress is always meant.
        let of_ingress = policy_types
            .as_ref()
            .is_none_or(|types| types.is_empty() || types.iter().any(|one| one == "Ingress"));
        if !selected || !of_ingress {
            continue;
        }
        isolated = true;
        let lets_in = |rule: &NetworkPolicyIngressRule| {
            let NetworkPolicyIngressRule { from: peers, ports } = rule;
            let to_port = any(ports.as_deref(), |one| is_port(one, port, protocol));
            to_port && any(peers.as_deref(), |peer| is_peer(peer, from, &to.namespace))
        };
        if ingress.iter().flatten().any(lets_in) {
            return true;
        }
    }
    !isolated
}

/// An empty or missing list means everything.
fn any<T>(list: Option<&[T]>, fits: impl Fn(&T) -> bool) -> bool {
    list.is_none_or(|list| list.is_empty() || list.iter().any(fits))
}

fn is_port(rule: &NetworkPolicyPort, number: u16, spoken: &str) -> bool {
    let NetworkPolicyPort { port, protocol, end_port } = rule;
    if protocol.as_deref().unwrap_or("TCP") != spoken {
        return false;
    }
    match (port, end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=*last).contains(&i32::from(number)),
        (Some(IntOrString::Int(only)), None) => *only == i32::from(number),
        (Some(IntOrString::String(_)), _) => false,
    }
}

fn is_peer(rule: &NetworkPolicyPeer, from: &Peer, own_namespace: &str) -> bool {
    let NetworkPolicyPeer { ip_block, namespace_selector, pod_selector } = rule;
    match (from, ip_block) {
        // Blocks are for addresses outside; those of pods are not promised to be seen.
        (Peer::Outside(ip), Some(block)) => in_block(block, *ip),
        (Peer::Pod(_), Some(_)) | (Peer::Outside(_), None) => false,
        (Peer::Pod(pod), None) => {
            let namespace = match namespace_selector {
                Some(selector) => selects(selector, &pod.namespace_labels),
                None => pod.namespace == own_namespace,
            };
            namespace && pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
        }
    }
}

fn in_block(IPBlock { cidr, except }: &IPBlock, ip: IpAddr) -> bool {
    let holds = |network: &String| network.parse::<IpNet>().is_ok_and(|network| network.contains(&ip));
    holds(cidr) && !except.iter().flatten().any(holds)
}

/// Whether a selector selects these labels. An empty one selects everything.
pub fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let LabelSelector { match_labels, match_expressions } = selector;
    let equal = match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && match_expressions.iter().flatten().all(|one| meets(one, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    let value = labels.get(key);
    let listed = value.is_some_and(|value| values.iter().flatten().any(|one| one == value));
    match operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}
