//! Who reaches a cluster's pods, by evaluating the NetworkPolicies.

use serde_json::json;

use super::{cluster, cluster_with, edges, origins, served, site};
use crate::network::{Peer, Pod, admits};
use crate::{TEMPLATE, cluster_objects, pod};

fn in_namespace(namespace: &str, labels: &[(&str, &str)]) -> Pod {
    let text = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Pod {
        namespace: namespace.into(),
        namespace_labels: text(&[("kubernetes.io/metadata.name", namespace)]),
        labels: text(labels),
    }
}

fn node(pool: &crate::Pool) -> Pod {
    Pod { labels: pod(pool, 0, TEMPLATE).metadata.labels.expect("labels"), ..in_namespace("media", &[]) }
}

#[test]
fn the_cluster_port_is_for_the_cluster_and_the_operator() {
    let policies = cluster_objects(&cluster(), &site(), &served(), true).policies;
    let origin = node(&origins(json!({})));
    let edge = node(&edges(json!({})));
    let outside = Peer::Outside([203, 0, 113, 7].into());
    let operator = in_namespace("sluice-system", &[("app.kubernetes.io/name", "sluice-operator")]);
    // Somebody who calls his pod like the operator, in a namespace of his own.
    let impostor = in_namespace("media", &[("app.kubernetes.io/name", "sluice-operator")]);
    let beside = in_namespace("sluice-system", &[("app.kubernetes.io/name", "grafana")]);
    let other_cluster =
        in_namespace("media", &[("app.kubernetes.io/name", "sluice-node"), ("sluice.dev/cluster", "other")]);
    let same_name_elsewhere =
        in_namespace("stage", &[("app.kubernetes.io/name", "sluice-node"), ("sluice.dev/cluster", "demo")]);
    let anybody = in_namespace("media", &[("app", "web")]);
    let peer = |pod: &Pod| Peer::Pod(pod.clone());
    for target in [&origin, &edge] {
        for (who, from, may) in [
            ("outside", outside.clone(), false),
            ("a pod beside", peer(&anybody), false),
            ("another cluster of the namespace", peer(&other_cluster), false),
            ("a cluster of that name elsewhere", peer(&same_name_elsewhere), false),
            ("a pod that calls itself the operator", peer(&impostor), false),
            ("another pod of the operator's namespace", peer(&beside), false),
            ("the operator", peer(&operator), true),
            ("an origin", peer(&origin), true),
            ("an edge", peer(&edge), true),
        ] {
            assert_eq!(admits(&policies, &from, target, 5000, "TCP"), may, "{who}");
            for (port, protocol) in
                [(5080, "TCP"), (5443, "TCP"), (1935, "TCP"), (1936, "TCP"), (4200, "UDP"), (5004, "UDP")]
            {
                assert!(admits(&policies, &from, target, port, protocol), "{who}: {port}");
            }
            for (port, protocol) in [(5000, "UDP"), (22, "TCP"), (9000, "TCP"), (1935, "UDP")] {
                assert!(!admits(&policies, &from, target, port, protocol), "{who}: {port}/{protocol}");
            }
        }
    }
    // Pods of others in the namespace are not touched by it.
    for target in [&anybody, &other_cluster] {
        assert!(admits(&policies, &outside, target, 5000, "TCP"));
    }
}

#[test]
fn there_is_none_when_the_spec_says_so() {
    let cluster = cluster_with(json!({ "security": { "networkPolicy": "Disabled" } })).expect("right");
    assert!(cluster_objects(&cluster, &site(), &served(), true).policies.is_empty());
}

mod evaluator {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use serde_json::{Value, json};

    use super::{Peer, admits, in_namespace};

    fn policy(spec: Value) -> NetworkPolicy {
        serde_json::from_value(json!({ "metadata": { "name": "x", "namespace": "media" }, "spec": spec }))
            .expect("a policy")
    }

    #[test]
    fn follows_kubernetes() {
        let web = in_namespace("media", &[("app", "web")]);
        let friend = Peer::Pod(in_namespace("media", &[("app", "friend")]));
        let elsewhere = Peer::Pod(in_namespace("stage", &[("app", "friend")]));
        let near = Peer::Outside([10, 1, 2, 3].into());
        let far = Peer::Outside([192, 0, 2, 1].into());
        let reach = |policies: &[NetworkPolicy], port| {
            [&friend, &elsewhere, &near, &far].map(|from| admits(policies, from, &web, port, "TCP"))
        };
        // None selects it: everybody.
        assert_eq!(reach(&[], 80), [true; 4]);
        assert_eq!(
            reach(&[policy(json!({ "podSelector": { "matchLabels": { "app": "db" } } }))], 80),
            [true; 4]
        );
        // Selected, without a rule: nobody.
        assert_eq!(reach(&[policy(json!({ "podSelector": {} }))], 80), [false; 4]);
        // An egress policy does not isolate for ingress.
        assert_eq!(reach(&[policy(json!({ "podSelector": {}, "policyTypes": ["Egress"] }))], 80), [true; 4]);
        // An empty rule lets everybody in, to every port.
        assert_eq!(reach(&[policy(json!({ "podSelector": {}, "ingress": [{}] }))], 80), [true; 4]);
        // A pod selector alone means this namespace; with an empty namespace selector, all.
        let from = |peer: Value| policy(json!({ "podSelector": {}, "ingress": [{ "from": [peer] }] }));
        let pods = json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["friend"] }] });
        assert_eq!(reach(&[from(json!({ "podSelector": pods }))], 80), [true, false, false, false]);
        let everywhere = json!({ "namespaceSelector": {}, "podSelector": pods });
        assert_eq!(reach(&[from(everywhere)], 80), [true, true, false, false]);
        // Blocks, with exceptions, are for the outside.
        let block = json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"] } });
        assert_eq!(reach(&[from(block)], 80), [false, false, true, false]);
        let not_near = json!({ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"] } });
        assert_eq!(reach(&[from(not_near)], 80), [false, false, false, true]);
        // Policies add up.
        let two =
            [from(json!({ "podSelector": pods })), from(json!({ "ipBlock": { "cidr": "192.0.2.0/24" } }))];
        assert_eq!(reach(&two, 80), [true, false, false, true]);
        // Ports: a range, and a name that is not resolved.
        let ports = |port: Value| policy(json!({ "podSelector": {}, "ingress": [{ "ports": [port] }] }));
        assert!(reach(&[ports(json!({ "port": 80, "endPort": 90 }))], 85)[0]);
        assert!(!reach(&[ports(json!({ "port": 80, "endPort": 90 }))], 91)[0]);
        assert!(!reach(&[ports(json!({ "port": "http" }))], 80)[0]);
        assert!(!reach(&[ports(json!({ "port": 80, "protocol": "UDP" }))], 80)[0]);
        // The other operators.
        for (operator, app, may) in [
            ("NotIn", "web", true),
            ("NotIn", "friend", false),
            ("Exists", "web", true),
            ("DoesNotExist", "web", false),
            ("Nonsense", "web", false),
        ] {
            let expression = json!({ "key": "app", "operator": operator, "values": [app] });
            let selector = json!({ "podSelector": { "matchExpressions": [expression] } });
            assert_eq!(reach(&[from(selector)], 80)[0], may, "{operator}");
        }
    }
}
