//! Revisions: the same for ever for the same spec, another one when pods are to be replaced, and only then.

use serde_json::{Value, json};
use sluice_crds::{OriginPool, names};

use super::{cluster, cluster_with, edges, origins, origins_of, pool_spec, resource};
use crate::{Pinned, Pool, TEMPLATE, pod, protection, revision};

fn of(more: Value) -> String {
    revision(&origins(more), TEMPLATE)
}

fn of_cluster(more: Value) -> String {
    revision(&origins_of(&cluster_with(more).expect("right"), json!({})).expect("right"), TEMPLATE)
}

#[test]
fn stays_what_it_was_in_each_generation() {
    // Another value here replaces every pod of every user. A generation that is added gets a line of its own.
    let more = json!({ "gpu": { "mode": "ExtendedResource" }, "config": { "hls_segment_time": "4s" }, "storage": { "size": "1Gi" } });
    let of = |spec: &Value, generation| revision(&origins(spec.clone()), generation);
    let all = [["4cbc985638", "f694b98f56"], ["c9c3bb724d", "e0674670c7"], ["5b31cf2eb7", "2aa46c668d"]];
    assert_eq!(i64::try_from(all.len()), Ok(TEMPLATE));
    for (generation, was) in (1..).zip(all) {
        assert_eq!([of(&json!({}), generation), of(&more, generation)], was, "{generation}");
    }
}

#[test]
fn what_is_said_though_it_is_the_default_changes_nothing() {
    let plain = of(json!({}));
    for same in [
        json!({ "replicas": 7 }),
        json!({ "version": "0.1.0" }),
        json!({ "group": "demo-origin" }),
        json!({ "gpu": { "mode": "None" } }),
        json!({ "config": {}, "resources": { "limits": {} }, "podTemplate": { "env": [] } }),
        json!({ "placement": { "nodeSelector": {}, "tolerations": [], "spread": [] } }),
        json!({ "rollout": { "maxSurge": 3, "paused": true } }),
    ] {
        assert_eq!(of(same.clone()), plain, "{same}");
    }
    let gpu = |more: Value| {
        let mut gpu = json!({ "mode": "ExtendedResource" });
        super::merge(&mut gpu, more);
        of(json!({ "gpu": gpu }))
    };
    assert_eq!(
        gpu(json!({})),
        gpu(json!({ "resourceName": "nvidia.com/gpu", "count": 1, "maxEncodeSessions": 8 }))
    );
    assert_eq!(of_cluster(json!({ "version": "0.1.0" })), plain, "pinned or said, it is the same version");
    assert_eq!(of_cluster(json!({ "database": { "external": { "secret": { "key": "uri" } } } })), plain);
}

#[test]
fn what_running_pods_take_changes_nothing() {
    let plain = of(json!({}));
    for same in [
        json!({ "capacity": { "streams": 5, "viewers": 6 } }),
        json!({ "config": { "log": "debug", "stop_delay": "3s" } }),
        json!({ "drain": { "deadline": "2h", "policy": "Immediate" } }),
        json!({ "exposure": { "rtmp": { "mode": "LoadBalancer" }, "webrtc": { "mode": "NodePort" } } }),
    ] {
        assert_eq!(of(same.clone()), plain, "{same}");
    }
    for same in [
        json!({ "apps": [{ "name": "live" }] }),
        json!({ "monitoring": { "interval": "10s" } }),
        json!({ "exposure": { "ingress": { "host": "a.example.com" } } }),
        json!({ "security": { "networkPolicy": "Disabled" } }),
        json!({ "stopped": true, "paused": true }),
    ] {
        assert_eq!(of_cluster(same.clone()), plain, "{same}");
    }
    let storage =
        |size: &str, policy: &str| of(json!({ "storage": { "size": size, "deletionPolicy": policy } }));
    assert_eq!(storage("1Gi", "Keep"), storage("2Gi", "Delete"), "a volume grows under its pod");
}

#[test]
fn what_reaches_a_pod_changes_it() {
    let changes = [
        json!({ "version": "0.2.0" }),
        json!({ "group": "other" }),
        json!({ "config": { "hls_segment_time": "4s" } }),
        json!({ "config": { "hls_segment_time": "5s" } }),
        json!({ "resources": { "limits": { "memory": "1Gi" } } }),
        json!({ "resources": { "requests": { "memory": "1Gi" } } }),
        json!({ "gpu": { "mode": "ExtendedResource" } }),
        json!({ "gpu": { "mode": "ExtendedResource", "count": 2 } }),
        json!({ "gpu": { "mode": "ExtendedResource", "products": ["L4"] } }),
        json!({ "gpu": { "mode": "ResourceClaim", "resourceClaimTemplateName": "a" } }),
        json!({ "gpu": { "runtimeClassName": "nvidia" } }),
        json!({ "placement": { "nodeSelector": { "a": "b" } } }),
        json!({ "placement": { "affinity": { "podAntiAffinity": {} } } }),
        json!({ "placement": { "tolerations": [{ "key": "a", "operator": "Exists" }] } }),
        json!({ "placement": { "priorityClassName": "high" } }),
        json!({ "placement": { "spread": [{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" }] } }),
        json!({ "exposure": { "rtmp": { "mode": "HostPort" } } }),
        json!({ "exposure": { "rtmp": { "mode": "HostPort", "hostPort": 9000 } } }),
        json!({ "exposure": { "srt": { "mode": "HostPort" } } }),
        json!({ "exposure": { "webrtc": { "mode": "HostPort" } } }),
        json!({ "podTemplate": { "labels": { "a": "b" } } }),
        json!({ "podTemplate": { "annotations": { "a": "b" } } }),
        json!({ "podTemplate": { "env": [{ "name": "A", "value": "b" }] } }),
        json!({ "podTemplate": { "volumes": [{ "name": "a", "emptyDir": {} }] } }),
        json!({ "podTemplate": { "sidecars": [{ "name": "a", "image": "b" }] } }),
        json!({ "podTemplate": { "initContainers": [{ "name": "a", "image": "b" }] } }),
        json!({ "storage": { "size": "1Gi" } }),
    ];
    let mut seen = vec![of(json!({}))];
    for change in changes {
        let revision = of(change.clone());
        assert!(!seen.contains(&revision), "{change}");
        // It must be worth a roll: the pod is another one, or what its node starts with.
        let (plain, changed) = (origins(json!({})), origins(change.clone()));
        let made = |pool: &Pool| {
            let mut pod = crate::pod(pool, 0, TEMPLATE);
            pod.metadata.labels.get_or_insert_default().remove(names::REVISION);
            (pod, crate::config_toml(pool, TEMPLATE))
        };
        assert_ne!(made(&plain), made(&changed), "{change}");
        seen.push(revision);
    }
    let changes = [
        json!({ "version": "0.2.0" }),
        json!({ "image": { "repository": "example.com/node" } }),
        json!({ "image": { "pullPolicy": "Always" } }),
        json!({ "image": { "pullSecrets": [{ "name": "a" }] } }),
        json!({ "database": { "external": { "secret": { "name": "other" } } } }),
        json!({ "database": { "external": { "namePrefix": "other-" } } }),
        json!({ "security": { "clusterKey": { "name": "a" } } }),
        json!({ "security": { "adminToken": { "name": "a" } } }),
        json!({ "security": { "tls": { "secretName": "a" } } }),
    ];
    let mut seen = vec![of(json!({}))];
    for change in changes {
        let revision = of_cluster(change.clone());
        assert!(!seen.contains(&revision), "{change}");
        seen.push(revision);
    }
}

#[test]
fn a_person_can_ask_for_a_restart_and_a_generation_is_another_revision() {
    let mut pool: OriginPool = resource("OriginPool", "demo-origin", pool_spec(json!({})));
    let plain = Pool::new(&pool, &cluster()).expect("right");
    let annotations = [(names::RESTARTED_AT.to_owned(), "2026-11-21".to_owned())];
    pool.metadata.annotations = Some(annotations.into());
    let restarted = Pool::new(&pool, &cluster()).expect("right");
    assert_ne!(revision(&plain, TEMPLATE), revision(&restarted, TEMPLATE));
    assert_ne!(revision(&plain, TEMPLATE), revision(&plain, TEMPLATE + 1));
}

#[test]
fn another_operator_with_the_same_pins_changes_nothing() {
    let resource = super::cluster_resource(json!({}));
    let pinned = Pinned { version: "0.1.0".into(), name_prefix: "pinned-".into() };
    let cluster = crate::Cluster::new(&resource, &pinned).expect("right");
    assert_eq!(revision(&origins_of(&cluster, json!({})).expect("right"), TEMPLATE), of(json!({})));
}

#[test]
fn the_order_of_fields_means_nothing() {
    let volume = |text: &str| -> Value { serde_json::from_str(text).expect("JSON") };
    let one = volume(r#"{"name":"a","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}}"#);
    let other = volume(r#"{"emptyDir":{"sizeLimit":"1Mi","medium":"Memory"},"name":"a"}"#);
    assert_eq!(
        of(json!({ "podTemplate": { "volumes": [one] } })),
        of(json!({ "podTemplate": { "volumes": [other] } }))
    );
}

#[test]
fn marks_that_protect_a_pod_leave_those_of_the_spec_alone() {
    let marks = |pool: &Pool, busy| protection(pool, busy);
    let plain = edges(json!({}));
    let (evict, disrupt) = (names::SAFE_TO_EVICT, names::DO_NOT_DISRUPT);
    assert_eq!(marks(&plain, true), [(evict, Some("false")), (disrupt, Some("true"))]);
    assert_eq!(marks(&plain, false), [(evict, None), (disrupt, None)]);
    // What the spec says of them stays, busy or not.
    let theirs = edges(json!({ "podTemplate": { "annotations": { (evict): "true" } } }));
    assert_eq!(marks(&theirs, true), [(disrupt, Some("true"))]);
    assert_eq!(marks(&theirs, false), [(disrupt, None)]);
    let annotations = pod(&theirs, 0, TEMPLATE).metadata.annotations.unwrap_or_default();
    assert_eq!(annotations.get(evict).map(String::as_str), Some("true"));
}
