//! What is shown, of objects as Kubernetes gives them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sluice_crds::{EdgePool, MediaCluster, OriginPool};

use super::view::own_state;
use super::{tree, view as views};
use crate::snapshot::{Operator, Snapshot};
use crate::streams::Stream;
use views::view;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn cluster() -> MediaCluster {
    serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "MediaCluster",
        "metadata": { "name": "demo", "namespace": "media", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "database": { "external": { "secret": { "name": "demo-database" } } } },
        "status": {
            "observedGeneration": 1,
            "phase": "Progressing",
            "version": "0.1.0",
            "nodes": "2/3",
            "streams": 2,
            "viewers": 30,
            "conditions": [
                condition("Ready", "False", "Waiting", "EdgePool demo-edge: demo-edge-1 cannot be scheduled"),
                condition("ExposureReady", "False", "NoClass", "Ingress demo has no address"),
                condition("DatabaseReady", "True", "Reached", "the nodes reach the database"),
            ],
            "endpoints": {
                "publish": [{ "protocol": "RTMP", "url": "rtmp://demo-publish.media:1935/{app}/{stream}", "scope": "Cluster" }],
                "watch": [{ "protocol": "HLS", "url": "https://tv.example/{app}/streams/{stream}.m3u8", "scope": "External" }],
            },
        },
    }))
    .unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn origin() -> OriginPool {
    serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "OriginPool",
        "metadata": { "name": "demo-origin", "namespace": "media", "generation": 1 },
        "spec": { "clusterRef": { "name": "demo" }, "replicas": 1 },
        "status": {
            "observedGeneration": 1, "phase": "Ready", "readyReplicas": 1, "streams": 2, "viewers": 0, "revision": "aa11",
            "pods": [{ "name": "demo-origin-0", "state": "Ready", "streams": 2, "viewers": 0 }],
        },
    }))
    .unwrap()
}

fn edge(cluster: &str) -> EdgePool {
    serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "EdgePool",
        "metadata": { "name": "demo-edge", "namespace": "media", "generation": 1 },
        "spec": { "clusterRef": { "name": cluster }, "replicas": 2 },
        "status": {
            "observedGeneration": 1, "phase": "Progressing", "readyReplicas": 1, "draining": 1, "streams": 2, "viewers": 30,
            "revision": "bb22", "message": "demo-edge-1 cannot be scheduled",
            "pods": [
                { "name": "demo-edge-0", "state": "Draining", "streams": 2, "viewers": 30, "deadline": "2026-01-01T01:30:00Z",
                  "message": "waits for 30 viewers" },
                { "name": "demo-edge-gone", "state": "Failed" },
            ],
        },
    }))
    .unwrap()
}

fn pod(pool: &str, name: &str, labels: Value, annotations: Value, status: Value) -> Pod {
    let mut all = json!({
        "app.kubernetes.io/name": "sluice-node",
        "app.kubernetes.io/managed-by": "sluice-operator",
        "sluice.dev/cluster": "demo",
        "sluice.dev/pool": pool,
        "sluice.dev/state": "active",
        "sluice.dev/revision": "bb22",
    });
    for (name, value) in labels.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "media", "labels": all, "annotations": annotations },
        "spec": { "nodeName": if status["phase"] == "Pending" { Value::Null } else { json!("machine-1") }, "containers": [] },
        "status": status,
    }))
    .unwrap()
}

fn running(ready: &str) -> Value {
    json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] })
}

fn pods() -> Vec<Pod> {
    vec![
        pod("demo-edge", "demo-edge-10", json!({}), json!({}), running("False")),
        pod(
            "demo-edge",
            "demo-edge-0",
            json!({ "sluice.dev/state": "draining", "sluice.dev/revision": "aa00" }),
            json!({ "sluice.dev/drain-deadline": "2026-01-01T01:30:00Z", "sluice.dev/drain-reason": "Rollout" }),
            running("True"),
        ),
        pod(
            "demo-edge",
            "demo-edge-1",
            json!({}),
            json!({}),
            json!({ "phase": "Pending", "conditions": [
                { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu." },
            ] }),
        ),
        pod("demo-origin", "demo-origin-0", json!({}), json!({}), running("True")),
    ]
}

fn snapshot() -> Snapshot {
    Snapshot {
        clusters: vec![cluster()],
        origins: vec![origin()],
        edges: vec![edge("demo")],
        pods: Some(pods()),
        notes: Vec::new(),
    }
}

fn up() -> Operator {
    Operator::Running { holder: "op".into() }
}

#[test]
fn the_tree_names_what_is_waited_for() {
    let mut view = view(&snapshot(), up(), now());
    view.clusters[0].pools[0].pods[0].carried = Some(vec![Stream {
        app: "live".into(),
        stream: "cam".into(),
        state: "live".into(),
        protocol: "rtmp".into(),
        origin: Some("demo-origin-0".into()),
        viewers: 4,
        bitrate: 2_000_000,
        ..Stream::default()
    }]);
    let expected = "\
NAME                        STATE         READY   DRAINING   STREAMS   VIEWERS   VERSION   REVISION   MACHINE     ENDS IN   MESSAGE
media/demo                  Progressing   2/3     1          2         30        0.1.0                                      EdgePool demo-edge: demo-edge-1 cannot be scheduled
├─ OriginPool/demo-origin   Ready         1/1                2         0                   aa11
│  └─ demo-origin-0         Ready         yes                2         0                   bb22       machine-1
│     └─ live/cam           live                                       4                                                    rtmp, 2.0 Mbit/s
└─ EdgePool/demo-edge       Progressing   1/2     1          2         30                  bb22                             demo-edge-1 cannot be scheduled
   ├─ demo-edge-0           Draining      yes                2         30                  aa00       machine-1   30m       waits for 30 viewers
   ├─ demo-edge-1           Pending       no                 ?         ?                   bb22                             0/1 nodes are available: 1 Insufficient cpu.
   └─ demo-edge-10          Starting      no                 ?         ?                   bb22       machine-1
media/demo: ExposureReady False: Ingress demo has no address
Publish (RTMP, inside): rtmp://demo-publish.media:1935/{app}/{stream}
Watch (HLS, outside): https://tv.example/{app}/streams/{stream}.m3u8";
    let text = tree::text(&view, false, now()).join("\n");
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn wide_has_ages_and_restarts() {
    let mut snapshot = snapshot();
    let status = snapshot.pods.as_mut().unwrap()[3].status.as_mut().unwrap();
    status.container_statuses = serde_json::from_value(json!([
        { "name": "node", "restartCount": 3, "image": "", "imageID": "", "ready": true },
    ]))
    .unwrap();
    let text = tree::text(&view(&snapshot, up(), now()), true, now());
    assert!(text[0].contains("AGE") && text[0].contains("RESTARTS"), "{}", text[0]);
    assert!(text[1].contains("60m"), "{}", text[1]);
    assert!(text[3].contains("demo-origin-0") && text[3].contains('3'), "{}", text[3]);
}

#[test]
fn a_pool_that_follows_its_load_says_what_limits_it() {
    let mut snapshot = snapshot();
    let pool = &mut snapshot.edges[0];
    // What is written is not what is wanted: the operator keeps to the limits.
    pool.spec.pool.replicas = 900;
    pool.spec.pool.autoscaling = Some(Default::default());
    let status = pool.status.as_mut().unwrap();
    status.desired_replicas = 4;
    status.metrics = Some("viewers 212/100".into());
    for (kind, yes, reason, message) in [
        ("ScalingLimited", "True", "AtMaximum", "900 pods are asked for, autoscaling.max is 4"),
        ("MetricsAvailable", "False", "MetricsApiOff", "viewersPerPod needs the metrics API"),
    ] {
        status.conditions.push(serde_json::from_value(condition(kind, yes, reason, message)).unwrap());
    }
    let text = tree::text(&view(&snapshot, up(), now()), true, now()).join("\n");
    for words in [
        "1/4 ",
        "METRICS",
        "viewers 212/100",
        "EdgePool media/demo-edge: ScalingLimited AtMaximum: 900 pods are asked for, autoscaling.max is 4",
        "EdgePool media/demo-edge: MetricsAvailable MetricsApiOff: viewersPerPod needs the metrics API",
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    // A floor is as somebody wants it.
    let conditions = &mut snapshot.edges[0].status.as_mut().unwrap().conditions;
    conditions[0].reason = "Schedule".into();
    conditions[1].status = "True".into();
    let text = tree::text(&view(&snapshot, up(), now()), true, now()).join("\n");
    assert!(!text.contains("EdgePool media/demo-edge:"), "{text}");
}

#[test]
fn without_the_operator_pods_speak_for_themselves() {
    let mut snapshot = snapshot();
    snapshot.origins[0].status.as_mut().unwrap().pods[0].state = "Unreachable".into();
    let shown = view(&snapshot, up(), now());
    assert_eq!(shown.clusters[0].pools[0].pods[0].state, "Unreachable");
    let down = view(&snapshot, Operator::Down { seconds: Some(600) }, now());
    assert_eq!(down.clusters[0].pools[0].pods[0].state, "Ready");
    // What it told before is old.
    assert_eq!(down.clusters[0].pools[1].pods[0].message.as_deref(), Some("drains: Rollout"));
    let text = tree::text(&down, false, now()).join("\n");
    assert!(text.contains("The operator is not running (its Lease is 10m old)"), "{text}");
}

#[test]
fn without_the_right_to_read_pods_the_pools_speak_for_them() {
    let mut snapshot = snapshot();
    snapshot.pods = None;
    snapshot.notes = vec!["no right to list pods in namespace media: User \"eve\"".into()];
    let shown = view(&snapshot, up(), now());
    let names: Vec<&str> = shown.clusters[0].pools[1].pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["demo-edge-gone", "demo-edge-0"]);
    let text = tree::text(&shown, false, now()).join("\n");
    assert!(text.contains("waits for 30 viewers"), "{text}");
    assert!(
        text.ends_with("Not all could be read: no right to list pods in namespace media: User \"eve\"."),
        "{text}"
    );
}

#[test]
fn a_pool_without_its_cluster_is_shown() {
    let mut snapshot = snapshot();
    snapshot.edges = vec![edge("gone")];
    let shown = view(&snapshot, up(), now());
    assert_eq!(shown.clusters[0].pools.len(), 1);
    assert_eq!(shown.stray_pools[0].name, "demo-edge");
    let text = tree::text(&shown, false, now()).join("\n");
    assert!(text.contains("(no MediaCluster)\n└─ EdgePool/demo-edge"), "{text}");
}

#[test]
fn what_the_operator_has_not_seen_is_said() {
    let mut snapshot = snapshot();
    snapshot.clusters[0].status = None;
    snapshot.origins[0].metadata.generation = Some(2);
    let shown = view(&snapshot, up(), now());
    assert_eq!(shown.clusters[0].phase, "Unknown");
    assert_eq!(shown.clusters[0].message.as_deref(), Some("the operator has not looked at it"));
    assert_eq!(
        shown.clusters[0].pools[0].message.as_deref(),
        Some("the operator has not looked at its last change")
    );
    snapshot.clusters.clear();
    assert_eq!(view(&snapshot, up(), now()).stray_pools.len(), 2);
}

#[test]
fn a_pod_says_why_it_does_not_run() {
    let waiting = |reason: &str, exit: Option<i32>| {
        let mut container = json!({
            "name": "node", "restartCount": 1, "image": "", "imageID": "", "ready": false,
            "state": { "waiting": { "reason": reason, "message": "back-off" } },
        });
        if let Some(exit) = exit {
            container["lastState"] = json!({ "terminated": { "exitCode": exit } });
        }
        pod("p", "p-0", json!({}), json!({}), json!({ "phase": "Running", "containerStatuses": [container] }))
    };
    let (state, why) = own_state(&waiting("CrashLoopBackOff", Some(65)));
    assert_eq!(
        (state, why.as_deref()),
        ("Failed", Some("container node: CrashLoopBackOff: back-off (exit code 65 before)"))
    );
    let (state, why) = own_state(&waiting("ErrImagePull", None));
    assert_eq!((state, why.as_deref()), ("Pending", Some("container node: ErrImagePull: back-off")));
    assert_eq!(own_state(&waiting("ContainerCreating", None)).0, "Starting");
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." });
    let (state, why) = own_state(&pod("p", "p-0", json!({}), json!({}), evicted));
    assert_eq!((state, why.as_deref()), ("Failed", Some("The node was low on memory.")));
    let mut ending = pod("p", "p-0", json!({}), json!({}), running("True"));
    ending.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(own_state(&ending).0, "Terminating");
}

#[test]
fn a_drain_that_has_not_begun_is_said() {
    let mut snapshot = snapshot();
    snapshot.pods.as_mut().unwrap()[3].metadata.annotations =
        Some([("sluice.dev/drain".to_owned(), String::new())].into());
    let shown = view(&snapshot, up(), now());
    let message = shown.clusters[0].pools[0].pods[0].message.as_deref();
    assert_eq!(message, Some("a drain is asked for; the operator has not begun it"));
}

#[test]
fn pods_of_others_are_not_shown() {
    let mut snapshot = snapshot();
    snapshot.pods.as_mut().unwrap()[3]
        .metadata
        .labels
        .as_mut()
        .unwrap()
        .remove("app.kubernetes.io/managed-by");
    assert!(view(&snapshot, up(), now()).clusters[0].pools[0].pods.is_empty());
}

#[test]
fn json_is_for_programs() {
    let json = serde_json::to_value(view(&snapshot(), up(), now())).unwrap();
    assert_eq!(json["operator"]["state"], "running");
    assert_eq!(json["clusters"][0]["name"], "demo");
    assert_eq!(json["clusters"][0]["pools"][1]["pods"][0]["deadline"], "2026-01-01T01:30:00Z");
    assert_eq!(json["clusters"][0]["pools"][1]["pods"][1]["streams"], Value::Null);
    assert_eq!(json["strayPools"], json!([]));
}

#[test]
fn what_comes_from_outside_cannot_steer_the_terminal() {
    let mut snapshot = snapshot();
    snapshot.edges[0].status.as_mut().unwrap().message = Some("evil\u{1b}]0;title\u{7}".into());
    let text = tree::text(&view(&snapshot, up(), now()), true, now()).join("");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
}
